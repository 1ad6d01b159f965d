"""How well index.json is, and how well this program is in step with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .verdict import Verdict


class Condition(StrEnum):
    """SOUND: read, and in step. STALE: it has not read for a second, and still changes. CORRUPT: the same bytes stay.
    MISSING: index.json is gone though it held entries. GONE: so is the directory. UNREADABLE: it may not be read."""

    SOUND = "sound"
    STALE = "stale"
    CORRUPT = "corrupt"
    MISSING = "missing"
    GONE = "gone"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Health:
    """``message`` says what is seen, ``verdict`` what the daemon would do, ``polling`` why events are not relied on."""

    condition: Condition
    message: str = ""
    verdict: Verdict | None = None
    polling: str = ""

    @property
    def sound(self) -> bool:
        return self.condition is Condition.SOUND
