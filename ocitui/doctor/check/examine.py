"""`examine`: what is wrong with a cache, to the depth that is asked for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from ocitui.cache import CacheError, FileKind
from ocitui.cache.index import Key
from ocitui.cache.ledger import LASTING_CODES, Ledger
from ocitui.threads import Stop, in_thread

from ..acknowledged import load_acknowledged
from ..findings import Depth, Finding
from ..report import Coverage, Reach, Report, Unchecked, in_order, mark
from .cache_checks import check_host, check_own
from .deep import DeepChecks
from .descriptor_checks import DescriptorChecks
from .directory import CacheFiles
from .document_checks import Carriers
from .entry_checks import PackedFile, check_digest, check_usual, files_of
from .file_checks import check_header
from .found_before import FoundBefore
from .history import known_history
from .index_checks import History, same_index
from .pacing import Brake, Meter, Progress, in_parallel
from .survey import Survey
from .tools import ToolOptions, be_idle
from .usual_entries import UsualDocuments, unusual

# How often a cache is looked at again that changed meanwhile.
_ATTEMPTS = 3
_TOOLS = ToolOptions()
_BATCH = 256
_SECONDS_BETWEEN_WRITES = 5.0


@dataclass(frozen=True, slots=True)
class ExamineOptions:
    """``keys`` are the only entries to look at; ``jobs`` how many packed files are read at once; ``max_rate`` the bytes
    a second in all; ``older_than`` the seconds within which a file found sound is passed over. ``history`` is what the
    index is compared with, found out where it is None; ``ledger_writes`` whether the ledger is told; ``tools`` bounds
    outside programs."""

    depth: Depth = Depth.QUICK
    keys: frozenset[Key] | None = None
    jobs: int = 2
    max_rate: float | None = None
    older_than: float | None = None
    history: History | None = None
    ledger_writes: bool = True
    tools: ToolOptions = _TOOLS


class Examination:
    """`run` gives the report. Raises CacheDirectoryError, and AbandonedError when it is told to stop."""

    def __init__(
        self,
        files: CacheFiles,
        options: ExamineOptions,
        stop: Stop,
        progress: Callable[[Progress], object],
        on_findings: Callable[[list[Finding]], object],
    ) -> None:
        self._files, self._options, self._stop = files, options, stop
        self._meter = Meter(progress)
        self._on_findings = on_findings
        self._findings: list[Finding] = []
        self._unchecked = Unchecked()
        self._notes: list[str] = []
        self._groups: dict[str, Carriers] = {}
        self._of_headers: set[str] = set()
        self._lock = threading.Lock()
        self._acknowledged = self._accepted()
        self._reaches: dict[Key, Reach] = {}
        self._began = time.time()
        self._written = time.monotonic()

    def run(self) -> Report:
        began = time.monotonic()
        survey, packed = self._quick()
        if self._options.depth is not Depth.QUICK:
            packed = self._headers(packed)
        deep = self._options.depth is Depth.DEEP
        self._add(self._found_before({file.name for file in packed} if deep else frozenset()))
        if deep:
            self._deep(packed)
        coverage = Coverage.of(self._reached(), self._meter.bytes_read, self._unchecked.lines())
        return Report(
            self._files.directory,
            self._options.depth,
            in_order(self._findings),
            coverage,
            survey.reading.verdict,
            len(survey.descriptors),
            survey.packed_bytes,
            self._began,
            time.monotonic() - began,
            tuple(dict.fromkeys(self._notes)),
            self._not_remembered() if deep else frozenset(),
        )

    def _quick(self) -> tuple[Survey, list[PackedFile]]:
        """The quick checks, again where the index changed while they looked at files."""
        for _ in range(_ATTEMPTS):
            # Of a few entries the documents are read one by one.
            documents = UsualDocuments(self._listed)
            survey = Survey.of(self._files, documents if self._options.keys is None else None)
            findings, packed = self._check(survey, documents)
            if same_index(self._files, survey.reading):
                break
        self._add(findings)
        return survey, packed

    def _check(self, survey: Survey, documents: UsualDocuments) -> tuple[list[Finding], list[PackedFile]]:
        keys = self._options.keys
        history = self._options.history or known_history(self._files.directory, survey.reading.index)
        findings = survey.index_findings(DescriptorChecks(), history)
        self._groups = survey.groups(keys)
        of_files, packed, usual_files = self._check_files(survey, documents)
        if keys is None:
            findings += self._about_cache(survey, history, usual_files)
        else:
            findings = [one for one in findings if one.position is None or (one.digest, one.format or None) in keys]
        return findings + of_files, packed

    def _check_files(self, survey: Survey, documents: UsualDocuments) -> tuple[list[Finding], list[PackedFile], int]:
        """What is wrong with files of entries, what can be looked into, and how many files are as they should be."""
        findings, packed, usual_files, groups = list[Finding](), list[PackedFile](), 0, self._groups
        self._meter.enter("quick", sum(map(len, groups.values())))
        deeper = self._options.depth is not Depth.QUICK
        for digests in _batches(list(groups), _BATCH):
            self._stop.check()
            odd = set(unusual(documents, survey.facts, groups, digests))
            for digest in digests:
                if digest in odd:
                    check = check_digest(self._files, survey.facts, digest, groups[digest])
                    findings += check.findings
                    packed += check.packed
                    continue
                usual_files += files_of(groups[digest])
                if deeper:
                    packed += check_usual(survey.facts, digest, groups[digest])
            self._meter.add(sum(len(groups[digest]) for digest in digests))
        return findings, packed, usual_files

    def _listed(self, done: int, total: int) -> None:
        self._stop.check()
        if not done:
            self._meter.enter("files", total)
        self._meter.reach(done)

    def _about_cache(self, survey: Survey, history: History, usual_files: int) -> list[Finding]:
        """What bears on no single entry. Where every name is that of a sound entry's file, there is little to see."""
        only_usual = survey.named and survey.holds_only(usual_files)
        findings = list(survey.index_oddities() if only_usual else survey.listing_findings(history))
        findings += check_own(self._files.directory)
        findings += check_host(self._files.directory)
        return findings

    def _accepted(self) -> frozenset[str]:
        try:
            return frozenset(load_acknowledged(self._files.directory))
        except CacheError as error:
            self._notes.append(error.message)
            return frozenset()

    def _found_before(self, read_again: Collection[str]) -> list[Finding]:
        """What deep checks found before in files that this one does not read."""
        found, before = list[Finding](), FoundBefore(self._files.directory)
        try:
            before.refresh()
            found += before.findings(self._files, self._groups)
        except OSError as error:
            self._notes.append(f"the ledger cannot be read: {error.strerror}")
        return [finding for finding in found if finding.file not in read_again]

    def _not_remembered(self) -> frozenset[str]:
        """What this check found, and one that does not look so deep would not tell."""
        deeper = [finding for finding in self._findings if finding.code in LASTING_CODES]
        if not deeper:
            return frozenset()
        told = {finding.fingerprint for finding in self._found_before(())}
        return (
            frozenset(one.fingerprint for one in deeper if one.kind is FileKind.PACKED and one.fingerprint not in told)
            - self._of_headers
        )

    def _headers(self, packed: list[PackedFile]) -> list[PackedFile]:
        """Look into each; gives those that are whole as far as that shows."""
        sound: list[PackedFile] = []
        self._meter.enter("header", len(packed))

        def check(file: PackedFile) -> None:
            findings = check_header(self._files, file.name, file.format, file.at)
            self._reach(file, Reach(Depth.HEADER))
            self._add(findings)
            with self._lock:
                self._of_headers.update(finding.fingerprint for finding in findings)
            self._meter.add(1)
            if not findings:
                sound.append(file)

        in_parallel(packed, check, self._options.jobs, self._stop)
        return sound

    def _deep(self, packed: list[PackedFile]) -> None:
        """Read all bytes of each, the formats of one digest together."""
        options = self._options
        ledger = Ledger.open(self._files.directory)
        if ledger.problem:
            self._notes.append(ledger.problem)
        brake = Brake(options.max_rate, self._stop)
        checks = DeepChecks(
            self._files, ledger, self._stop, self._meter, brake, self._unchecked, options.tools, options.older_than
        )
        self._meter.enter("deep", len(packed), sum(file.size for file in packed))
        groups: dict[str, list[PackedFile]] = {}
        for file in sorted(packed, key=lambda file: file.position or 0):
            groups.setdefault(file.digest, []).append(file)

        def check(group: list[PackedFile]) -> None:
            be_idle()
            for reading in checks.run(group):
                self._reach(reading.file, reading.reach)
                self._add(reading.findings)
            self._meter.add(len(group))
            self._write(ledger)

        try:
            in_parallel(groups.values(), check, options.jobs, self._stop)
        finally:
            self._write(ledger, last=True)

    def _write(self, ledger: Ledger, *, last: bool = False) -> None:
        """Write the ledger from time to time, so that a check that is ended can go on where it was."""
        with self._lock:
            due = last or time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES
            if not self._options.ledger_writes or not due:
                return
            self._written = time.monotonic()
        try:
            ledger.flush()
        except CacheError as error:
            self._notes.append(f"the hashes were not recorded: {error}")

    def _reach(self, file: PackedFile, reach: Reach) -> None:
        self._reaches[file.digest, file.format] = reach

    def _reached(self) -> Iterable[Reach]:
        """How deep each entry was looked into."""
        quick = Reach()
        if not self._reaches:
            return repeat(quick, sum(map(len, self._groups.values())))
        pairs = (pair for carriers in self._groups.values() for pair in carriers)
        return (self._reaches.get(descriptor.key, quick) for _, descriptor in pairs)

    def _add(self, findings: list[Finding]) -> None:
        if findings:
            findings = mark(findings, self._acknowledged)
            with self._lock:
                self._findings += findings
            self._on_findings(findings)


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[at : at + size] for at in range(0, len(items), size))


__all__ = ["ExamineOptions", "examine", "examining"]

_QUICK = ExamineOptions()


async def examine(
    directory: Path,
    options: ExamineOptions = _QUICK,
    progress: Callable[[Progress], object] | None = None,
    on_findings: Callable[[list[Finding]], object] | None = None,
    *,
    open_files: Callable[[Path], CacheFiles] = CacheFiles,
) -> Report:
    """Examine the cache in a directory; nothing of it is changed.

    ``progress`` and ``on_findings`` are called on the event loop, the latter with findings as they are made. Cancelled,
    it ends once its threads have. Raises CacheDirectoryError where the directory is not there or cannot be listed, and
    for nothing else that the disk holds.
    """
    loop = asyncio.get_running_loop()

    def tell(call: Callable[[Progress], object] | Callable[[list[Finding]], object] | None) -> Callable[..., object]:
        return (lambda what: None) if call is None else (lambda what: loop.call_soon_threadsafe(call, what))

    def work(stop: Stop) -> Report:
        with open_files(directory) as files:
            return Examination(files, options, stop, tell(progress), tell(on_findings)).run()

    return await in_thread(work)


async def examining(
    directory: Path, options: ExamineOptions = _QUICK
) -> AsyncGenerator[Progress | list[Finding] | Report]:
    """The same as a stream: progress and findings as they come, at last the report. Raises as `examine` does."""
    coming: asyncio.Queue[Progress | list[Finding] | None] = asyncio.Queue()
    running = asyncio.ensure_future(examine(directory, options, coming.put_nowait, coming.put_nowait))
    running.add_done_callback(lambda _: coming.put_nowait(None))
    try:
        while (news := await coming.get()) is not None:
            yield news
        yield running.result()
    finally:
        if not running.done():
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
