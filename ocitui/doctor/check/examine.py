"""`examine`: what is wrong with a cache, to the depth that is asked for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ocitui.cache import CacheError, CacheFiles, Key, Ledger
from ocitui.contents import be_idle
from ocitui.threads import Stop, in_thread, on_loop

from ..findings import Depth, Finding, in_order
from ..report import Coverage, Reach, Report
from .deep import DeepChecks
from .entry_checks import PackedFile
from .index_checks import NO_HISTORY, check_index, read_index
from .judge import Judge
from .pacing import Brake, Meter, Progress, in_parallel

# How often a cache is looked at again that changed meanwhile.
_ATTEMPTS = 3
_SECONDS_BETWEEN_WRITES = 5.0


class ExamineOptions(msgspec.Struct, frozen=True):
    """``keys``: the only entries to look at; ``jobs``: packed files read at once; ``max_rate``: bytes a second in all;
    ``older_than``: seconds within which a file found sound is passed over; ``ledger_writes``: the ledger is told."""

    depth: Depth = Depth.HEADER
    keys: frozenset[Key] | None = None
    jobs: int = 2
    max_rate: float | None = None
    older_than: float | None = None
    ledger_writes: bool = True


_HEADERS = ExamineOptions()


async def examine(
    directory: Path,
    options: ExamineOptions = _HEADERS,
    progress: Callable[[Progress], object] | None = None,
    on_findings: Callable[[list[Finding]], object] = lambda findings: None,
    *,
    open_files: Callable[[Path], CacheFiles] = CacheFiles,
    judge: Judge | None = None,
) -> Report:
    """Examine the cache in a directory; nothing of it is changed.

    ``progress`` is called on the event loop; ``on_findings`` with findings as they are made, in one of the threads
    that look, and what it raises ends the check. A ``judge`` that looked already looks only at what changed since, and
    knows afterwards what was found; other threads may have it look meanwhile. Cancelled, it ends once its threads
    have. Raises CacheDirectoryError where the directory is not there or cannot be listed, and for nothing else that
    the disk holds.
    """
    tell_progress = on_loop(progress)

    def work(stop: Stop) -> Report:
        headers = options.depth is not Depth.QUICK
        with open_files(directory) as files:
            whose = judge or Judge(directory, open_files=open_files, headers=headers)
            return Examination(files, whose, options, stop, Meter(tell_progress), on_findings).run()

    return await in_thread(work)


class Examination(msgspec.Struct):
    """One examination, in a thread: the judge looks, then all bytes are read where that is asked for; `run` gives the
    report. Raises CacheDirectoryError, and AbandonedError when it is told to stop."""

    files: CacheFiles
    judge: Judge
    options: ExamineOptions
    stop: Stop
    meter: Meter
    on_findings: Callable[[list[Finding]], object]
    unchecked: list[tuple[str, str]] = []
    notes: list[str] = []
    reaches: dict[tuple[str, str], Reach] = {}
    of_bytes: list[Finding] = []
    beside: list[Finding] = []
    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    began: float = msgspec.field(default_factory=time.time)
    written: float = msgspec.field(default_factory=time.monotonic)

    def run(self) -> Report:
        began, judge, keys = time.monotonic(), self.judge, self.options.keys
        self._look()
        self.unchecked += judge.unchecked
        packed, forgotten = list[PackedFile](), frozenset[str]()
        if self.options.depth is Depth.DEEP:
            packed = [file for file in judge.packed_files(keys) if judge.can_tell_more(file.digest, file.format)]
            forgotten = self._deep(packed)
        # Only now, as the judge may have been told meanwhile of files that were replaced.
        again = {file.name for file in packed}
        findings = [one for one in judge.entry_findings(keys) if one.found is None or one.file not in again]
        findings += [*self.of_bytes, *self.beside]
        return Report(
            judge.directory,
            self.options.depth,
            in_order(judge.accepted.mark(findings)),
            Coverage.of(Counter(self._reached()), self.meter.bytes_read, self.unchecked),
            judge.reading.verdict,
            judge.entries,
            judge.listing.packed_bytes,
            self.began,
            time.monotonic() - began,
            tuple(dict.fromkeys((*self.notes, *judge.notes))),
            forgotten,
            judge if keys is None else None,
        )

    def _look(self) -> None:
        """Have the judge look, again where the index changed while it looked at files."""
        judge, keys = self.judge, self.options.keys
        for _ in range(_ATTEMPTS):
            judge.take(read_index(self.files, judge.reading.index), told=self._listed)
            if keys is None:
                # First, as it explains why files are missing of entries that were deleted and came back.
                judge.look_at_cache()
            self.meter.enter("entries", len(judge.pending))
            for digests in judge.look(keys):
                self.stop.check()
                self.meter.add(len(digests))
                self._tell([one for digest in digests for one in judge.findings_of_digest(digest)])
            if judge.reading.is_current(judge.directory):
                break
        self.beside = [*judge.about_cache]
        if keys is not None:
            # Where the daemon would not load the index, every entry is lost, however sound its files are.
            reading, listing = judge.reading, judge.listing
            lost = reading.index is None
            self.beside = check_index(reading, listing.complete, listing.files, NO_HISTORY) if lost else []
        self._tell(self.beside)
        self._tell(judge.index_findings(keys))

    def _listed(self, done: int, total: int) -> None:
        self.stop.check()
        if not done:
            self.meter.enter("files", total)
        self.meter.reach(done)

    def _tell(self, findings: list[Finding]) -> None:
        if findings:
            self.on_findings([*self.judge.accepted.mark(findings)])

    def _deep(self, packed: list[PackedFile]) -> frozenset[str]:
        """Read all bytes of each, the formats of one digest together; gives the fingerprints of what cannot be
        remembered, so that a check that does not look so deep would not tell it."""
        options = self.options
        ledger = Ledger.open(self.files.directory)
        if ledger.problem:
            self.notes.append(ledger.problem)
        written, brake = _damage_of(ledger), Brake(options.max_rate, self.stop)
        checks = DeepChecks(self.files, ledger, self.stop, self.meter, brake, self.unchecked, options.older_than)
        self.meter.enter("deep", len(packed), sum(file.size for file in packed))
        groups: dict[str, list[PackedFile]] = {}
        for file in sorted(packed, key=lambda file: file.position or 0):
            groups.setdefault(file.digest, []).append(file)

        def check(group: list[PackedFile]) -> None:
            be_idle()
            for reading in checks.run(group):
                with self.lock:
                    self.reaches[reading.file.digest, reading.file.format] = reading.reach
                    self.of_bytes += reading.findings
                    self._tell(reading.findings)
            self.meter.add(len(group))
            self._write(ledger)

        try:
            in_parallel(groups.values(), check, options.jobs, self.stop)
        finally:
            self._write(ledger, last=True)
            self.judge.remember_more(ledger)
        kept = written if ledger.unwritten else _damage_of(ledger)
        return frozenset(one.fingerprint for one in self.of_bytes if (one.file, one.code) not in kept)

    def _write(self, ledger: Ledger, *, last: bool = False) -> None:
        """Write the ledger from time to time, so that a check that is ended can go on where it was."""
        with self.lock:
            due = last or time.monotonic() - self.written > _SECONDS_BETWEEN_WRITES
            if not self.options.ledger_writes or not due:
                return
            self.written = time.monotonic()
        try:
            ledger.flush()
        except CacheError as error:
            self.notes.append(f"the hashes were not recorded: {error}")

    def _reached(self) -> Iterable[Reach]:
        """How deep each entry was looked into."""
        usual = {depth: Reach(depth) for depth in Depth}
        for digest, format_, depth in self.judge.depths(self.options.keys):
            yield self.reaches.get((digest, format_ or "")) or usual[depth]


def _damage_of(ledger: Ledger) -> set[tuple[str, str]]:
    """The files that are known to be damaged, each with the code of what was found."""
    return {(name, one.code) for name, some in ledger.damaged.items() for one in some}
