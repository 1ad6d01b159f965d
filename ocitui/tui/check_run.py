"""A check that runs while its screen comes and goes: how far it is, what it found. No widget in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ocitui.cache import CacheDirectoryError
from ocitui.doctor.acknowledged import load_acknowledged
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.check.pacing import Progress
from ocitui.doctor.findings import Depth, Finding
from ocitui.doctor.report import Report
from ocitui.text import human_age, human_size

from .shorten import counted

_GAP = "  "


class CheckRun:
    """One check at a time. ``changed`` is called on the event loop when something is to be drawn."""

    def __init__(self, directory: Path, changed: Callable[[], object]) -> None:
        self._directory = directory
        self._changed = changed
        self._found: list[Finding] = []
        self.depth = Depth.QUICK
        self.running = False
        self.progress: Progress | None = None
        self.report: Report | None = None
        """The newest whole check."""
        self.seen_changes = -1
        """How often the cache had changed when that began."""
        self.error = ""
        self.said = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is known: of the check that runs, else of the last one."""
        if self.running:
            return in_order(self._found)
        return self.report.findings if self.report is not None else ()

    async def run(self, depth: Depth, changes: int, *, ledger_writes: bool) -> None:
        """Check to this depth; cancelled, it ends once its threads have."""
        self.depth, self.running, self.progress, self._found = depth, True, None, []
        self.error = self.said = ""
        self._changed()
        options = ExamineOptions(depth, ledger_writes=ledger_writes)
        try:
            report = await examine(self._directory, options, self._advance, self._add)
            self.take(report, changes)
        except CacheDirectoryError as error:
            self.error = f"not checked: {error.message}"
        except asyncio.CancelledError:
            self.error = f"the {depth} check was cancelled; what it found before is not kept"
            raise
        finally:
            self.running = False
            self._changed()

    def take(self, report: Report, changes: int) -> None:
        """Another whole check, such as the one after a repair."""
        self.report, self.seen_changes = report, changes
        self._changed()

    def mark_acknowledged(self) -> None:
        """Read anew what is acknowledged; not on the event loop. Raises StorageError."""
        accepted = frozenset(load_acknowledged(self._directory))
        if self.report is not None:
            plain = [replace(one, acknowledged=False) for one in self.report.findings]
            self.report = replace(self.report, findings=tuple(mark(plain, accepted)))

    def _advance(self, progress: Progress) -> None:
        self.progress = progress
        self._changed()

    def _add(self, findings: list[Finding]) -> None:
        self._found += findings
        self._changed()


def progress_text(now: Progress | None) -> str:
    """As ``deep  1.2G of 3.4G  450M/s  5s left``."""
    if now is None:
        return "reading index and directory"
    parts = [now.phase]
    if now.bytes_total:
        parts.append(f"{human_size(now.bytes)} of {human_size(now.bytes_total)}")
        parts.append(f"{human_size(round(now.rate))}/s" if now.rate else "")
    elif now.entries_total:
        parts.append(f"{now.entries} of {counted(now.entries_total, 'entry', 'entries')}")
    if now.seconds_left is not None and now.seconds >= 1:
        parts.append(f"{human_age(now.seconds_left)} left")
    return _GAP.join(part for part in parts if part)
