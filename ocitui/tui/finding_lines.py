"""Findings as lines and rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocitui.doctor.check.pacing import Progress
from ocitui.doctor.finding_texts import entry_text, seen_text
from ocitui.doctor.findings import Finding, Severity
from ocitui.doctor.report import Coverage
from ocitui.text import human_age, human_size

from .shorten import counted, short_digests
from .widgets.lines_view import Kind, Line, heading

_NONE_KNOWN = "no problem is known; p checks deeper"
_GAP = "  "


def entry_problem_lines(findings: Sequence[Finding] | None) -> list[Line]:
    """What is wrong with one entry, the worst first; None where nobody looked yet."""
    if findings is None:
        return [Line("not looked into yet", kind="muted")]
    if not findings:
        return [Line(_NONE_KNOWN, kind="good")]
    lines: list[Line] = []
    for finding in sorted(findings, key=lambda one: -one.severity.rank):
        lines += [Line()] if lines else []
        lines += [heading(title(finding)), Line(seen_text(finding), "seen", tone(finding)), *shared_lines(finding)]
    return lines


def title(finding: Finding) -> str:
    """The severity and the code, and whether it is acknowledged."""
    return f"{finding.severity.upper()}  {finding.code}{'  (acknowledged)' if finding.acknowledged else ''}"


def tone(finding: Finding) -> Kind:
    """How it is coloured."""
    if finding.acknowledged or finding.severity is Severity.INFO:
        return "muted"
    return "bad" if finding.severity.rank >= Severity.MEDIUM.rank else "plain"


def shared_lines(finding: Finding) -> Iterator[Line]:
    """What all findings of its kind have in common: what the daemon does, what mends it, what that could lose."""
    yield Line(finding.daemon, "daemon")
    if finding.mend:
        yield Line(finding.mend, "mend")
    if finding.loses:
        yield Line(finding.loses, "may lose", "bad")


def finding_lines(finding: Finding) -> list[Line]:
    """All there is to say of one."""
    lines = [
        heading(title(finding)),
        Line(entry_text(finding), "about"),
        Line(seen_text(finding), "seen", tone(finding)),
    ]
    lines += shared_lines(finding)
    if finding.digest:
        lines.append(Line(finding.digest, "digest"))
    if finding.file:
        lines.append(Line(finding.file, "file"))
    return [*lines, Line(finding.fingerprint, "id", "muted")]


def kind_lines(findings: Sequence[Finding], most: int = 200) -> list[Line]:
    """What is common to findings of one kind, and a line for each."""
    first = findings[0]
    many = counted(len(findings), "finding", "findings")
    lines = [heading(f"{first.severity.upper()}  {first.code}: {many}"), *shared_lines(first), Line()]
    lines += [Line(short_digests(f"{entry_text(one)}: {seen_text(one)}"), kind=tone(one)) for one in findings[:most]]
    if len(findings) > most:
        lines.append(Line(f"and {len(findings) - most} more", kind="muted"))
    return lines


def no_finding_lines(coverage: Coverage, trouble: str, *, looking: bool) -> list[Line]:
    """Where there is no finding to speak of: what was looked at, and what was not; ``trouble`` is what the screen says
    of the index or the directory all the same."""
    if looking:
        return [Line("looking", kind="muted")]
    lines = [Line(trouble, "found", "bad") if trouble else Line("nothing wrong was found", "found", "good")]
    lines.append(Line(str(coverage), "looked at"))
    if coverage.deep < coverage.entries:
        lines.append(Line("a deep check looks further: 3 reads every byte", "not checked"))
    return [*lines, *(Line(text, "not checked") for text in coverage.unchecked)]


def progress_text(now: Progress | None) -> str:
    """How far a check is, as ``deep  1.2G of 3.4G  450M/s  5s left``."""
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
