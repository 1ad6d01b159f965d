"""What a check prints: findings and what they come to, for people at its end, for programs while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ocitui.doctor.assessment import advice
from ocitui.doctor.finding_texts import clean_text
from ocitui.doctor.findings import Finding, Severity
from ocitui.doctor.prometheus import prometheus
from ocitui.doctor.report import Report
from ocitui.text import human_size

from .asking import place
from .doctor_options import AskedCheck
from .finding_json import finding_json, summary_json
from .findings_text import finding_lines, tally
from .json_lines import JsonLines
from .options import Settings
from .output import say
from .progress_line import human_span
from .prose import counted, paragraph

_HOST_CODES = ("cache-read-only", "disk-full")


@dataclass(frozen=True, slots=True)
class Kept:
    """What a check kept of the index: a note on each copy that was made."""

    notes: tuple[str, ...] = ()


class CheckOutput(Protocol):
    """Where a check's findings go."""

    def found(self, findings: Sequence[Finding]) -> None:
        """Findings, as they are made."""

    def done(self, report: Report, kept: Kept, *, failed: bool) -> None:
        """The check is over; ``failed`` is whether it found what it was to fail on."""

    def stopped(self, findings: Sequence[Finding]) -> None:
        """The check was interrupted after these."""


class JsonOutput:
    """An object a line for each finding, the summary as the last."""

    def __init__(self, settings: Settings, asked: AskedCheck, accepts: Callable[[Finding], bool]) -> None:
        self._lines = JsonLines(settings)
        self._minimum = Severity(asked.severity or Severity.INFO)
        self._accepts = accepts

    def found(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.severity.rank >= self._minimum.rank:
                accepted = finding.acknowledged or self._accepts(finding)
                self._lines.write("finding", **finding_json(finding, acknowledged=accepted))

    def done(self, report: Report, kept: Kept, *, failed: bool) -> None:
        summary = summary_json(report)
        summary["notes"] += kept.notes
        self._lines.write("summary", clean=not failed, **summary)

    def stopped(self, findings: Sequence[Finding]) -> None:
        """What was found is on its lines already."""


class MetricsOutput:
    """Nothing but the metrics."""

    def found(self, findings: Sequence[Finding]) -> None:
        """They are counted in the end."""

    def done(self, report: Report, kept: Kept, *, failed: bool) -> None:
        for line in prometheus(report).splitlines():
            say(line)

    def stopped(self, findings: Sequence[Finding]) -> None:
        """Half a check has no metrics."""


class TextOutput:
    """Findings by severity, worst first, then how far it looked and what the daemon would do."""

    def __init__(self, settings: Settings, asked: AskedCheck) -> None:
        self._settings, self._asked, self._whole = settings, asked, asked.show_all
        lowest = Severity.INFO if asked.show_all else Severity.LOW
        self._minimum = Severity(asked.severity or lowest)

    def found(self, findings: Sequence[Finding]) -> None:
        """They are shown in order, at the end."""

    def done(self, report: Report, kept: Kept, *, failed: bool) -> None:
        shown = report.shown(self._minimum, acknowledged=self._whole)
        self._show(shown)
        summary = (*_verdict(report), *_coverage(report), *_host(report), *_notes((*report.notes, *kept.notes)))
        for line in summary:
            say(line)
        say(_outcome(report, shown, self._asked))
        if failed:
            say(f"{_repair(report)} shows what would mend it; --acknowledge ID accepts a finding")

    def stopped(self, findings: Sequence[Finding]) -> None:
        shown = [finding for finding in findings if finding.severity.rank >= self._minimum.rank]
        if shown:
            self._show(sorted(shown, key=lambda finding: -finding.severity.rank))
            say("that is what was found so far")

    def _show(self, findings: Sequence[Finding]) -> None:
        for line in place(self._settings):
            say(line)
        say()
        for line in finding_lines(findings, whole=self._whole):
            say(line)


def _verdict(report: Report) -> list[str]:
    verdict = report.verdict
    lines = paragraph(f"{verdict.outcome}: {verdict.consequence}", "index.json  ")
    if verdict.message:
        lines += paragraph(f"it breaks here: {verdict.place}", " " * 12)
    if not verdict.sound and (said := advice(report.directory, report.judge)):
        lines += paragraph(said, " " * 12)
    return lines


def _coverage(report: Report) -> list[str]:
    read = report.coverage.bytes_read
    cost = [f"{human_size(read)} read"] if read else []
    cost += [f"in {human_span(report.seconds)}"] if report.seconds >= 1 else []
    text = str(report.coverage) + (f"; {' '.join(cost)}" if cost else "")
    lines = paragraph(text, "looked at   ")
    return lines + _notes(report.coverage.unchecked, "not checked ")


def _host(report: Report) -> list[str]:
    """What bears on all that could be done about the findings."""
    found = [finding for finding in report.findings if finding.code in _HOST_CODES]
    return [line for one in found for line in paragraph(f"{one.code}: {one.seen}; {one.daemon}", "host        ")]


def _notes(notes: Sequence[str], first: str = "note        ") -> list[str]:
    return [line for note in notes for line in paragraph(note, first)]


def _repair(report: Report) -> str:
    """The command that finds the same: it has to look as deep where that could not be remembered."""
    forgotten = any(finding.fingerprint in report.deep_only for finding in report.shown())
    return f"ocitui repair --depth {report.depth}" if forgotten else "ocitui repair"


def _outcome(report: Report, shown: Sequence[Finding], asked: AskedCheck) -> str:
    """What was found, and how much of it is not shown."""
    problems = report.shown(Severity.LOW)
    seen = set(shown)
    hidden = [finding for finding in report.findings if finding not in seen]
    accepted = sum(finding.acknowledged for finding in hidden)
    parts = [part for part in (tally(f for f in hidden if not f.acknowledged),) if part]
    parts += [counted(accepted, "acknowledged", "acknowledged")] if accepted else []
    found = f"found       {tally(problems) or f'nothing wrong: {clean_text(report.depth)}'}"
    return found + (f"; not shown: {', '.join(parts)} ({_more(asked)})" if parts else "")


def _more(asked: AskedCheck) -> str:
    """How the rest is shown."""
    words = [] if asked.show_all else ["--all"]
    return " ".join([*words, "without --severity"] if asked.severity else words)
