"""A plan of repair carried out: fetched first what has to be, then one transaction, then the check once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ocitui.cache import PackerCache, Transaction

from .findings import Finding
from .plan import Examined, RepairPlan


@dataclass(frozen=True, slots=True)
class RepairProgress:
    """``doing`` in words; bytes done and in all where they are known (else 0)."""

    doing: str
    done: int = 0
    total: int = 0


ProgressCall = Callable[[RepairProgress], None]


@dataclass(frozen=True, slots=True)
class Repaired:
    """``report`` is the second check, ``remaining`` its findings that are not only worth knowing."""

    transactions: tuple[Transaction, ...]
    report: Examined
    remaining: tuple[Finding, ...]


async def apply_plan(cache: PackerCache, plan: RepairPlan, progress: ProgressCall | None = None) -> Repaired:
    """Make the chosen steps of a plan, then check again.

    Raises PlanChangedError where the cache is no longer what the plan was made for, and what fetching and
    `PackerCache.mend` raise; the cache is then as it was.
    """
    raise NotImplementedError
