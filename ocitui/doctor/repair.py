"""A plan of repair carried out: fetched first what has to be, then one transaction, then the check once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import Mend, PackerCache, ReadOnlyError, Transaction
from ocitui.cache.disk import Disk, storage_errors
from ocitui.cache.transactions import recover
from ocitui.cache.workspace import open_workspace
from ocitui.importing.staging import staging_folder

from .examine import ExamineOptions, examine
from .findings import Finding, Severity
from .ledger import record_stored
from .mends.fetching import Fetcher
from .plan import RepairPlan
from .report import Report


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
    report: Report
    remaining: tuple[Finding, ...]


async def apply_plan(
    cache: PackerCache,
    plan: RepairPlan,
    progress: ProgressCall | None = None,
    check: ExamineOptions | None = None,
) -> Repaired:
    """Make the chosen steps of a plan, then check again, as deep as before unless ``check`` says otherwise.

    They are one transaction; an edit of ours that is made once more is another.

    Raises PlanChangedError where the cache is no longer what the plan was made for, and what fetching and
    `PackerCache.mend` raise; the cache is then as it was.
    """
    tell = progress or _ignore
    if cache.read_only:
        raise ReadOnlyError("cannot repair the cache: it was opened read-only")
    transactions = await _make(cache, plan, tell)
    tell(RepairProgress("checking again"))
    report = await examine(cache.directory, check or ExamineOptions(depth=plan.depth))
    return Repaired(transactions, report, tuple(report.shown(Severity.LOW)))


async def _make(cache: PackerCache, plan: RepairPlan, tell: ProgressCall) -> tuple[Transaction, ...]:
    transactions: list[Transaction] = []
    async with _fetched(cache, plan, tell) as staged:
        mend = plan.mend(staged)
        if mend != Mend():
            tell(RepairProgress("mending"))
            transactions.append(await cache.mend(mend))
            await asyncio.to_thread(_note_packed, cache.directory, plan)
        for transaction_id in plan.redone:
            tell(RepairProgress(f"doing transaction {transaction_id} again"))
            transactions.append(await cache.redo(transaction_id))
        if plan.made and not transactions:
            await asyncio.to_thread(_clean_up, cache.directory)
    return tuple(transactions)


@asynccontextmanager
async def _fetched(cache: PackerCache, plan: RepairPlan, tell: ProgressCall) -> AsyncIterator[dict[str, Path]]:
    """The files that have to be fetched, whole and looked at, until they are placed."""
    with ExitStack() as stack:
        staged: dict[str, Path] = {}
        if plan.fetches:
            folder = stack.enter_context(staging_folder(cache.directory))
            fetcher = Fetcher(cache.directory, folder, plan.access, _telling(tell))
            for number, fetch in enumerate(plan.fetches):
                tell(RepairProgress(f"fetching {fetch.name}", 0, fetch.size))
                staged[fetch.name] = await fetcher.bring(number, fetch)
        try:
            yield staged
        finally:
            # A call that was cancelled leaves its transaction to end: its files are not to go before.
            await cache.close()


def _note_packed(directory: Path, plan: RepairPlan) -> None:
    """What was packed anew has other bytes than the ledger knew."""
    for fetch in plan.fetches:
        record_stored(directory, directory / fetch.name)


def _telling(tell: ProgressCall) -> Callable[[str, int, int], None]:
    return lambda name, done, total: tell(RepairProgress(f"fetching {name}", done, total))


def _clean_up(directory: Path) -> None:
    """What every writer does first. Raises LockedError, ReadOnlyError, StorageError."""
    doing = "clean up"
    with storage_errors(doing), open_workspace(directory, Disk(), doing) as space:
        recover(space, index_needed=False)


def _ignore(progress: RepairProgress) -> None:
    """Progress that nobody wants."""
