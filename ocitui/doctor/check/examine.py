"""`examine`: what is wrong with a cache, to the depth that is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import CacheError, CacheFiles, Key, Ledger
from ocitui.contents import be_idle
from ocitui.threads import Stop, in_thread, on_loop

from ..findings import Depth, Finding, in_order
from ..report import Coverage, Reach, Report
from .deep import DeepChecks
from .entry_checks import PackedFile
from .index_checks import NO_HISTORY, History, check_index, read_index
from .judge import Judge
from .pacing import Brake, Meter, Progress, in_parallel

# How often a cache is looked at again that changed meanwhile.
_ATTEMPTS = 3
_SECONDS_BETWEEN_WRITES = 5.0


@dataclass(frozen=True, slots=True)
class ExamineOptions:
    """``keys`` are the only entries to look at; ``jobs`` how many packed files are read at once; ``max_rate`` the bytes
    a second in all; ``older_than`` the seconds within which a file found sound is passed over. ``history`` is what the
    index is compared with, found out where it is None; ``ledger_writes`` whether the ledger is told."""

    depth: Depth = Depth.HEADER
    keys: frozenset[Key] | None = None
    jobs: int = 2
    max_rate: float | None = None
    older_than: float | None = None
    history: History | None = None
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
            return Examination(files, whose, options, stop, tell_progress, on_findings).run()

    return await in_thread(work)


class Examination:
    """One examination, in a thread: the judge looks, then all bytes are read where that is asked for; `run` gives the
    report. Raises CacheDirectoryError, and AbandonedError when it is told to stop."""

    def __init__(
        self,
        files: CacheFiles,
        judge: Judge,
        options: ExamineOptions,
        stop: Stop,
        progress: Callable[[Progress], object],
        on_findings: Callable[[list[Finding]], object],
    ) -> None:
        self._files, self._judge, self._options, self._stop = files, judge, options, stop
        self._meter = Meter(progress)
        self._on_findings = on_findings
        self._unchecked: list[tuple[str, str]] = []
        self._notes: list[str] = []
        self._lock = threading.Lock()
        self._reaches: dict[tuple[str, str], Reach] = {}
        self._of_bytes: list[Finding] = []
        self._beside: list[Finding] = []
        self._began = time.time()
        self._written = time.monotonic()

    def run(self) -> Report:
        began, judge, keys = time.monotonic(), self._judge, self._options.keys
        self._look()
        self._unchecked += judge.unchecked
        packed, forgotten = list[PackedFile](), frozenset[str]()
        if self._options.depth is Depth.DEEP:
            packed = [file for file in judge.packed_files(keys) if judge.can_tell_more(file.digest, file.format)]
            forgotten = self._deep(packed)
        # Only now, as the judge may have been told meanwhile of files that were replaced.
        again = {file.name for file in packed}
        findings = [one for one in judge.entry_findings(keys) if one.found is None or one.file not in again]
        findings += [*self._of_bytes, *self._beside]
        return Report(
            judge.directory,
            self._options.depth,
            in_order(judge.accepted.mark(findings)),
            Coverage.of(self._reached(), self._meter.bytes_read, self._unchecked),
            judge.reading.verdict,
            judge.entries,
            judge.listing.packed_bytes,
            self._began,
            time.monotonic() - began,
            tuple(dict.fromkeys((*self._notes, *judge.notes))),
            forgotten,
            judge if keys is None else None,
        )

    def _look(self) -> None:
        """Have the judge look, again where the index changed while it looked at files."""
        judge, keys = self._judge, self._options.keys
        for _ in range(_ATTEMPTS):
            judge.take(read_index(self._files, judge.reading.index), told=self._listed)
            if keys is None:
                # First, as it explains why files are missing of entries that were deleted and came back.
                judge.look_at_cache(self._options.history)
            self._meter.enter("entries", len(judge.pending))
            for digests in judge.look(keys):
                self._stop.check()
                self._meter.add(len(digests))
                self._tell([one for digest in digests for one in judge.findings_of_digest(digest)])
            if judge.reading.is_current(judge.directory):
                break
        self._beside = [*judge.about_cache]
        if keys is not None:
            # Where the daemon would not load the index, every entry is lost, however sound its files are.
            listing, sound = judge.listing, judge.reading.sound
            self._beside = [] if sound else check_index(judge.reading, listing.complete, listing.files, NO_HISTORY)
        self._tell(self._beside)
        self._tell(judge.index_findings(keys))

    def _listed(self, done: int, total: int) -> None:
        self._stop.check()
        if not done:
            self._meter.enter("files", total)
        self._meter.reach(done)

    def _tell(self, findings: list[Finding]) -> None:
        if findings:
            self._on_findings([*self._judge.accepted.mark(findings)])

    def _deep(self, packed: list[PackedFile]) -> frozenset[str]:
        """Read all bytes of each, the formats of one digest together; gives the fingerprints of what cannot be
        remembered, so that a check that does not look so deep would not tell it."""
        options = self._options
        ledger = Ledger.open(self._files.directory)
        if ledger.problem:
            self._notes.append(ledger.problem)
        written, brake = _damage_of(ledger), Brake(options.max_rate, self._stop)

        def note(reason: str, file: str) -> None:
            self._unchecked.append((file, reason))

        checks = DeepChecks(self._files, ledger, self._stop, self._meter, brake, note, options.older_than)
        self._meter.enter("deep", len(packed), sum(file.size for file in packed))
        groups: dict[str, list[PackedFile]] = {}
        for file in sorted(packed, key=lambda file: file.position or 0):
            groups.setdefault(file.digest, []).append(file)

        def check(group: list[PackedFile]) -> None:
            be_idle()
            for reading in checks.run(group):
                with self._lock:
                    self._reaches[reading.file.digest, reading.file.format] = reading.reach
                    self._of_bytes += reading.findings
                    self._tell(reading.findings)
            self._meter.add(len(group))
            self._write(ledger)

        try:
            in_parallel(groups.values(), check, options.jobs, self._stop)
        finally:
            self._write(ledger, last=True)
            self._judge.remember_more(ledger)
        kept = written if ledger.unwritten else _damage_of(ledger)
        return frozenset(one.fingerprint for one in self._of_bytes if (one.file, one.code) not in kept)

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

    def _reached(self) -> Iterable[Reach]:
        """How deep each entry was looked into."""
        usual = {depth: Reach(depth) for depth in Depth}
        for digest, format_, depth in self._judge.depths(self._options.keys):
            yield self._reaches.get((digest, format_ or "")) or usual[depth]


def _damage_of(ledger: Ledger) -> set[tuple[str, str]]:
    """The files that are known to be damaged, each with the code of what was found."""
    return {(name, one.code) for name, some in ledger.damaged.items() for one in some}
