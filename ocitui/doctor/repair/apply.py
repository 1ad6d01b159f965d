"""A plan of repair carried out: fetched first what has to be, then one transaction, then the check once more."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import FileKind, ImageIndex, PackerCache, ReadOnlyError, Transaction, TransactionKind
from ocitui.cache.disk import Disk, storage_errors
from ocitui.cache.files import open_bounded
from ocitui.cache.ledger import Ledger, record_stored
from ocitui.host.loop_devices import read_back, users_of
from ocitui.importing.blobs import BlobStore
from ocitui.importing.errors import SourceError
from ocitui.importing.image_import import clear_blobs, fetch_and_pack
from ocitui.importing.packing.packing import PackOptions
from ocitui.importing.progress import ImportProgress
from ocitui.importing.sources.opening import SourceOptions, open_source
from ocitui.importing.staging import check_room, staging_folder
from ocitui.threads import Stop, in_thread, on_loop

from ..check.examine import ExamineOptions, examine
from ..check.judge import Judge
from ..findings import Finding, Severity
from ..report import Report
from .copies import Copy, Hearer, OtherFormats, WantedFile, good_packed
from .plan import RepairPlan
from .steps import Fetch, FetchKind, ProgressCall, RepairProgress, StepKind

_KINDS = {StepKind.ADOPT: TransactionKind.ADOPT, StepKind.REDO: TransactionKind.REDO}
FetchProgress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes done and all its bytes; on the event loop."""

Brought = dict[str, tuple[Path, str]]
"""What was fetched by the name of the file, each with its sha256."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Brings files for the cache in ``directory`` into ``folder``."""

    directory: Path
    folder: Path
    disk: Disk
    access: SourceOptions
    report: FetchProgress

    async def bring(self, number: int, fetch: Fetch) -> tuple[Path, str]:
        """The path of the whole file, and the sha256 of what was read through.

        Raises SourceError, NoRoomError, StorageError, LayerError, PackerError.
        """
        output = self.folder / f"{number}.{fetch.format}"
        if fetch.kind is FetchKind.IMPORT:
            await self._pack(fetch, output)
            return output, await in_thread(lambda stop: require_good(self.directory, fetch, output, stop))
        # Read through when the plan was made: it is the same by its sha256.
        await self._copy(fetch, output)
        return output, fetch.sha256

    async def _copy(self, fetch: Fetch, output: Path) -> None:
        told = on_loop(self.report)

        def work(stop: Stop) -> None:
            if fetch.kind is FetchKind.DEVICE:
                return read_device(self.directory, fetch, output, self.disk, stop)
            return copy_checked(fetch, output, self.disk, lambda done: told(fetch.name, done, fetch.size), stop)

        with storage_errors(f"copy {fetch.origin}"):
            check_room(self.directory, fetch.size)
            await in_thread(work)

    async def _pack(self, fetch: Fetch, output: Path) -> None:
        def downloaded(_: str, done: int, total: int) -> None:
            self.report(fetch.name, done, total)

        def packed(said: ImportProgress) -> None:
            self.report(fetch.name, said.done, said.total)

        directory, blobs = self.directory, BlobStore(self.directory, disk=self.disk)
        source = await open_source(fetch.origin, self.access)
        try:
            image = await source.resolve()
            if image.digest != fetch.digest:
                raise SourceError(f"{fetch.origin} holds {image.digest} by now")
            check_room(directory, 2 * image.size)
            options = PackOptions()
            await fetch_and_pack(source, image, blobs, output, fetch.format, options, downloaded, packed)
            await asyncio.to_thread(clear_blobs, blobs, image)
        finally:
            await source.close()


def require_good(directory: Path, fetch: Fetch, output: Path, stop: Stop) -> str:
    """The sha256 of what was packed. Raises SourceError where it is not whole, cannot be read through, or lacks what
    another format of the image holds."""
    others = OtherFormats(directory, fetch.digest, fetch.format, Ledger.open(directory))
    wanted = WantedFile(fetch.name, fetch.digest, FileKind.PACKED, fetch.format, others=others)
    refused: list[str] = []
    good = good_packed(output, wanted, Copy(fetch.origin, 0), Hearer(refused.append), stop)
    if good is None:
        raise SourceError(f"what was packed of {fetch.origin} is not stored: {', '.join(refused)}")
    return good.sha256


def read_device(directory: Path, fetch: Fetch, output: Path, disk: Disk, stop: Stop) -> None:
    """Read a deleted file back from the loop device that holds it. Raises SourceError, StorageError, OSError."""
    uses = users_of(directory).get(fetch.name, ())
    use = next((use for use in uses if use.deleted and str(use.device) == fetch.origin), None)
    if use is None:
        raise SourceError(f"{fetch.origin} has let go of {fetch.name}", hint="make the plan again")
    with _checked(fetch, output, disk, stop) as write:
        read_back(use, write, fetch.size)


def copy_checked(fetch: Fetch, output: Path, disk: Disk, done: Callable[[int], None], stop: Stop) -> None:
    """Copy as many bytes as the file has, and see that they are the right ones. Raises SourceError, OSError."""
    left = fetch.size
    with open_bounded(fetch.origin) as original, _checked(fetch, output, disk, stop) as write:
        while left and (chunk := original.read(min(_CHUNK, left))):
            write(chunk)
            left -= len(chunk)
            done(fetch.size - left)
        if left:
            raise SourceError(f"{fetch.origin} ends {left} bytes too early")


@contextmanager
def _checked(fetch: Fetch, output: Path, disk: Disk, stop: Stop) -> Iterator[Callable[[bytes], object]]:
    """What is called with all bytes that are written. Raises SourceError where they are not those of the plan."""
    hashed = hashlib.sha256()
    with disk.writing(output) as write:

        def take(chunk: bytes) -> None:
            stop.check()
            hashed.update(chunk)
            write(chunk)

        yield take
    if hashed.hexdigest() != fetch.sha256:
        raise SourceError(f"{fetch.origin} has changed since it was looked at", hint="make the plan again")


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
    judge: Judge | None = None,
) -> Repaired:
    """Make the chosen steps of a plan, then check again, as deep as before unless ``check`` says otherwise.

    A ``judge`` that looked already looks only at what changed since. They are one transaction.

    Raises PlanChangedError where the cache is no longer what the plan was made for, and what fetching and
    `PackerCache.change` raise; the cache is then as it was.
    """
    tell = progress or (lambda _: None)
    if cache.read_only:
        raise ReadOnlyError("cannot repair the cache: it was opened read-only")
    transactions = await _make(cache, plan, tell)
    tell(RepairProgress("checking again"))
    report = await examine(cache.directory, check or ExamineOptions(depth=plan.depth), judge=judge)
    return Repaired(transactions, report, tuple(report.shown(Severity.LOW)))


async def _make(cache: PackerCache, plan: RepairPlan, tell: ProgressCall) -> tuple[Transaction, ...]:
    def fetching(name: str, done: int, total: int) -> None:
        tell(RepairProgress(f"fetching {name}", done, total))

    brought: Brought = {}
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
