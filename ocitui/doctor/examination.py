"""One examination, in a thread: survey, quick checks, then what is asked for beyond them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from ocitui.cache.index import Key
from ocitui.importing.threads import Stop

from .descriptor_checks import DescriptorChecks
from .entry_checks import PackedFile, check_digest
from .files import CacheFiles
from .findings import Depth, Finding
from .history import NO_HISTORY, History
from .host_checks import check_host
from .index_reading import same_index
from .own_checks import check_own
from .pacing import Meter, Progress, in_parallel
from .packed_checks import check_header
from .report import Coverage, Reach, Report, in_order
from .survey import Survey

# How often a cache is looked at again that changed meanwhile.
_ATTEMPTS = 3
_BATCH = 256


@dataclass(frozen=True, slots=True)
class ExamineOptions:
    """``keys`` are the only entries to look at; ``jobs`` how many packed files are read at once; ``max_rate`` the bytes
    a second in all; ``older_than`` the seconds within which a file found sound is passed over. ``history`` is what the
    index is compared with, found out where it is None; ``ledger_writes`` whether hashes are recorded."""

    depth: Depth = Depth.QUICK
    keys: frozenset[Key] | None = None
    jobs: int = 2
    max_rate: float | None = None
    older_than: float | None = None
    history: History | None = None
    ledger_writes: bool = True


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
        self._history = options.history or NO_HISTORY
        self._findings: list[Finding] = []
        self._lock = threading.Lock()
        self._reaches: dict[Key, Reach] = {}
        self._began = time.time()

    def run(self) -> Report:
        began = time.monotonic()
        survey, packed = self._quick()
        if self._options.depth is not Depth.QUICK:
            packed = self._headers(packed)
        coverage = Coverage.of(self._reached(survey), self._meter.bytes_read, ())
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
        )

    def _quick(self) -> tuple[Survey, list[PackedFile]]:
        """The quick checks, again where the index changed while they looked at files."""
        for _ in range(_ATTEMPTS):
            survey = Survey.of(self._files)
            findings, packed = self._check(survey)
            if same_index(self._files, survey.reading):
                break
        self._add(findings)
        return survey, packed

    def _check(self, survey: Survey) -> tuple[list[Finding], list[PackedFile]]:
        keys = self._options.keys
        findings, packed = self._about_cache(survey) if keys is None else self._about(survey, keys), list[PackedFile]()
        groups = survey.groups(keys)
        self._meter.enter("quick", sum(map(len, groups.values())))
        done = 0
        for digest, carriers in groups.items():
            check = check_digest(self._files, survey.facts, digest, carriers)
            findings += check.findings
            packed += check.packed
            done += len(carriers)
            if done >= _BATCH:
                self._stop.check()
                self._meter.add(done)
                done = 0
        self._meter.add(done)
        return findings, packed

    def _about_cache(self, survey: Survey) -> list[Finding]:
        findings = survey.index_findings(DescriptorChecks(), self._history)
        findings += survey.listing_findings(self._history)
        findings += check_own(self._files.directory)
        findings += check_host(self._files.directory)
        return findings

    def _about(self, survey: Survey, keys: Collection[Key]) -> list[Finding]:
        """What bears on these entries: they and the index as a whole."""
        findings = survey.index_findings(DescriptorChecks(), self._history)
        return [one for one in findings if one.position is None or (one.digest, one.format or None) in keys]

    def _headers(self, packed: list[PackedFile]) -> list[PackedFile]:
        """Look into each; gives those that are whole as far as that shows."""
        sound: list[PackedFile] = []
        self._meter.enter("header", len(packed))

        def check(file: PackedFile) -> None:
            findings = check_header(self._files, file.name, file.format, file.at)
            self._reach(file, Reach(Depth.HEADER))
            self._add(findings)
            self._meter.add(1)
            if not findings:
                sound.append(file)

        in_parallel(packed, check, self._options.jobs, self._stop)
        return sound

    def _reach(self, file: PackedFile, reach: Reach) -> None:
        self._reaches[file.digest, file.format] = reach

    def _reached(self, survey: Survey) -> Iterable[Reach]:
        quick = Reach()
        for carriers in survey.groups(self._options.keys).values():
            for _, descriptor in carriers:
                yield self._reaches.get(descriptor.key, quick)

    def _add(self, findings: list[Finding]) -> None:
        if findings:
            with self._lock:
                self._findings += findings
            self._on_findings(findings)
