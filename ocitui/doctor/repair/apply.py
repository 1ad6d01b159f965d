"""A plan of repair carried out: fetched first what has to be, then one transaction, then the check once more."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import ExitStack, aclosing
from pathlib import Path

import msgspec

from ocitui.cache import (
    Disk,
    FileKind,
    ImageIndex,
    Ledger,
    PackerCache,
    ReadOnlyError,
    Transaction,
    TransactionKind,
    open_bounded,
    record_stored,
    storage_errors,
)
from ocitui.host import read_back, users_of
from ocitui.importing import (
    BlobStore,
    ImportProgress,
    PackOptions,
    SourceError,
    SourceOptions,
    check_room,
    clear_blobs,
    fetch_and_pack,
    open_source,
    staging_folder,
)
from ocitui.threads import Stop, in_thread, on_loop

from ..check.examine import ExamineOptions, examine
from ..check.judge import Judge
from ..findings import StepKind
from ..report import Report
from .copies import Copy, OtherFormats, Restorer, WantedFile, good_packed
from .plan import RepairPlan
from .steps import Fetch, FetchKind, ProgressCall, RepairProgress

_KINDS = {StepKind.ADOPT: TransactionKind.ADOPT, StepKind.REDO: TransactionKind.REDO}
FetchProgress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes done and all its bytes; on the event loop."""

_CHUNK = 1 << 20


class Fetcher(msgspec.Struct, frozen=True):
    """Brings files for the cache in ``directory`` into ``folder``."""

    directory: Path
    folder: Path
    disk: Disk
    access: SourceOptions
    report: FetchProgress

    async def bring(self, number: int, fetch: Fetch) -> tuple[Path, str]:
        """The path of the whole file, and the sha256 of what was read through. Raises SourceError, NoRoomError,
        StorageError, LayerError, PackerError."""
        output = self.folder / f"{number}.{fetch.format}"
        if fetch.kind is FetchKind.IMPORT:
            await self._pack(fetch, output)
            return output, await in_thread(lambda stop: require_good(self.directory, fetch, output, stop))
        told = on_loop(self.report)
        with storage_errors(f"copy {fetch.origin}"):
            check_room(self.directory, fetch.size)
            await in_thread(lambda stop: self._copy(fetch, output, told, stop))
        # Read through when the plan was made: it is the same by its sha256.
        return output, fetch.sha256

    def _copy(self, fetch: Fetch, output: Path, told: FetchProgress, stop: Stop) -> None:
        """Raises SourceError where these are not the bytes of the plan, StorageError, OSError."""
        hashed, done = hashlib.sha256(), 0
        with self.disk.writing(output) as write:

            def take(chunk: bytes) -> None:
                nonlocal done
                stop.check()
                hashed.update(chunk)
                write(chunk)
                done += len(chunk)
                told(fetch.name, done, fetch.size)

            self._read(fetch, take)
        if hashed.hexdigest() != fetch.sha256:
            raise SourceError(f"{fetch.origin} has changed since it was looked at", hint="make the plan again")

    def _read(self, fetch: Fetch, take: Callable[[bytes], object]) -> None:
        if fetch.kind is FetchKind.DEVICE:
            uses = users_of(self.directory).get(fetch.name, ())
            use = next((use for use in uses if use.deleted and str(use.device) == fetch.origin), None)
            if use is None:
                raise SourceError(f"{fetch.origin} has let go of {fetch.name}", hint="make the plan again")
            read_back(use, take, fetch.size)
            return
        left = fetch.size
        with open_bounded(fetch.origin) as original:
            while left and (chunk := original.read(min(_CHUNK, left))):
                take(chunk)
                left -= len(chunk)
        if left:
            raise SourceError(f"{fetch.origin} ends {left} bytes too early")

    async def _pack(self, fetch: Fetch, output: Path) -> None:
        def downloaded(_: str, done: int, total: int) -> None:
            self.report(fetch.name, done, total)

        def packed(said: ImportProgress) -> None:
            self.report(fetch.name, said.done, said.total)

        blobs = BlobStore(self.directory, self.disk)
        async with aclosing(await open_source(fetch.origin, self.access)) as source:
            image = await source.resolve()
            if image.digest != fetch.digest:
                raise SourceError(f"{fetch.origin} holds {image.digest} by now")
            await fetch_and_pack(source, image, blobs, output, fetch.format, PackOptions(), downloaded, packed)
            await asyncio.to_thread(clear_blobs, blobs, image)


def require_good(directory: Path, fetch: Fetch, output: Path, stop: Stop) -> str:
    """The sha256 of what was packed. Raises SourceError where it is damaged, or lacks what another format holds."""
    others = OtherFormats(directory, fetch.digest, fetch.format, Ledger.open(directory))
    wanted = WantedFile(fetch.name, fetch.digest, FileKind.PACKED, fetch.format, others=others)
    told = Restorer()
    good = good_packed(output, wanted, Copy(fetch.origin, 0), told, stop)
    if good is None:
        raise SourceError(f"what was packed of {fetch.origin} is not stored: {', '.join(told.notes)}")
    return good.sha256


class Repaired(msgspec.Struct, frozen=True):
    """What a plan came to; ``report`` is the second check."""

    transactions: tuple[Transaction, ...]
    report: Report


async def apply_plan(
    cache: PackerCache, plan: RepairPlan, tell: ProgressCall = lambda now: None, judge: Judge | None = None
) -> Repaired:
    """Make the chosen steps of a plan as one transaction, then check again as deep as before. A ``judge`` that looked
    already looks only at what changed since. Raises PlanChangedError where the cache is no longer what the plan was
    made for, and what fetching and `PackerCache.change` raise; the cache is then as it was."""
    if cache.read_only:
        raise ReadOnlyError("cannot repair the cache: it was opened read-only")
    transactions = await _make(cache, plan, tell)
    tell(RepairProgress("checking again"))
    return Repaired(transactions, await examine(cache.directory, ExamineOptions(depth=plan.depth), judge=judge))


async def _make(cache: PackerCache, plan: RepairPlan, tell: ProgressCall) -> tuple[Transaction, ...]:
    def fetching(name: str, done: int, total: int) -> None:
        tell(RepairProgress(f"fetching {name}", done, total))

    brought: dict[str, tuple[Path, str]] = {}
    with ExitStack() as stack:
        if plan.fetches:
            folder = stack.enter_context(staging_folder(cache.directory, cache.disk))
            fetcher = Fetcher(cache.directory, folder, cache.disk, plan.access, fetching)
            for number, fetch in enumerate(plan.fetches):
                fetching(fetch.name, 0, fetch.size)
                brought[fetch.name] = await fetcher.bring(number, fetch)
        try:
            change = plan.composed({name: path for name, (path, _) in brought.items()})
            if not change:
                if plan.made:
                    await cache.prepare()
                return ()
            tell(RepairProgress("mending"))
            digests, names = _about(plan)
            done = await cache.change(change, _kind(plan), names=names, digests=digests, given_up=plan.given_up)
            for name, (_, sha256) in brought.items():
                # What came in may have other bytes than the ledger knew.
                await asyncio.to_thread(record_stored, cache.directory, cache.directory / name, sha256, cache.disk)
            return (done,)
        finally:
            # A call that was cancelled leaves its transaction to end: its files are not to go before.
            await cache.close()


def _kind(plan: RepairPlan) -> TransactionKind:
    kinds = {step.kind for step in plan.made}
    return _KINDS.get(kinds.pop(), TransactionKind.REPAIR) if len(kinds) == 1 else TransactionKind.REPAIR


def _about(plan: RepairPlan) -> tuple[list[str], list[str]]:
    """The digests that the steps are about, and the names that they have in the index."""
    digests = dict.fromkeys(f.digest for step in plan.made for f in step.findings if f.digest)
    index = plan.index if plan.index is not None and digests else ImageIndex.empty()
    named = zip(index.digests, index.names, strict=True)
    return list(digests), list(dict.fromkeys(name for digest, name in named if name and digest in digests))
