"""What is known of the index as it was: what the checks compare today's with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocitui.cache import Descriptor, Transaction


@dataclass(frozen=True, slots=True)
class History:
    """``backup`` holds the descriptors of the newest backup that is not today's index, and ``since`` the transactions
    done here after it; ``overwritten`` are those whose edit another writer's rewrite undid."""

    backup: Sequence[Descriptor] = ()
    since: Sequence[Transaction] = ()
    overwritten: Sequence[Transaction] = ()


NO_HISTORY = History()
