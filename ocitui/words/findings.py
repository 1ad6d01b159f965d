"""Findings in lines: what is wrong with an entry, one finding, all of a kind, and none; and how far a check is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ocitui.doctor import Finding, Severity, clean_text, entry_text, seen_text, tally
from ocitui.text import counted, human_size, human_span

from .lines import Kind, Line, first_lines, heading

if TYPE_CHECKING:
    from ocitui.doctor import Coverage, Progress, RepairProgress, Report

SHORT_ID = 8
"""How many digits of a fingerprint are shown; as many are enough to name it."""
_MOST_OF_A_KIND = 200
_GAP = "  "


def entry_problem_lines(findings: Sequence[Finding] | None) -> list[Line]:
    """What is wrong with one entry, the worst first; None where nobody looked yet."""
    if findings is None:
        return [Line("not looked into yet", kind="muted")]
    if not findings:
        return [Line("no problem is known; p checks deeper", kind="good")]
    lines: list[Line] = []
    for finding in sorted(findings, key=lambda one: -one.severity.rank):
        lines += [*([Line()] if lines else []), heading(findings_title([finding])), *_seen_lines(finding)]
    return lines


def findings_title(same: Sequence[Finding]) -> str:
    """The severity and the code of findings of a kind, how many there are, and whether a single one is acknowledged."""
    first = same[0]
    many = f"  ({counted(len(same), 'finding')})" if len(same) > 1 else ""
    accepted = "  (acknowledged)" if len(same) == 1 and first.acknowledged else ""
    return f"{first.severity.upper()}  {first.code}{many}{accepted}"


def finding_tone(finding: Finding) -> Kind:
    """How it is coloured."""
    if finding.acknowledged or finding.severity is Severity.INFO:
        return "muted"
    if finding.severity.rank >= Severity.HIGH.rank:
        return "bad"
    return "warn" if finding.severity.rank >= Severity.WARNING.rank else "plain"


def text_of(finding: Finding) -> str:
    """What it is about, and what was seen there."""
    return f"{entry_text(finding)}: {seen_text(finding)}"


def shared_lines(finding: Finding) -> Iterator[Line]:
    """What all findings of its kind have in common: what the daemon does, what mends it, what that could lose."""
    fault = finding.fault
    yield Line(fault.daemon, "daemon")
    if fault.mend:
        yield Line(fault.mend, "mend" if fault.step else "by hand")
    if fault.loses:
        yield Line(fault.loses, "may lose", "bad")


def _seen_lines(finding: Finding) -> list[Line]:
    return [Line(seen_text(finding), "seen", finding_tone(finding)), *shared_lines(finding)]


def finding_lines(finding: Finding) -> list[Line]:
    """All there is to say of one."""
    lines = [heading(findings_title([finding])), Line(entry_text(finding), "about"), *_seen_lines(finding)]
    lines += [Line(finding.digest, "digest")] if finding.digest else []
    lines += [Line(finding.file, "file")] if finding.file else []
    return [*lines, Line(finding.fingerprint, "id", "muted")]


def kind_lines(findings: Sequence[Finding]) -> list[Line]:
    """What is common to findings of one kind, and a line for each of the first."""
    single = (Line(text_of(one), kind=finding_tone(one)) for one in findings)
    lines = [heading(findings_title(findings)), *shared_lines(findings[0]), Line()]
    return [*lines, *first_lines(single, len(findings), _MOST_OF_A_KIND)]


def single_lines(findings: Sequence[Finding], most: int = _MOST_OF_A_KIND) -> Iterator[Line]:
    """A line for each of the first, which may be of several kinds."""
    single = (Line(f"{one.code}: {text_of(one)}", one.fingerprint[:SHORT_ID], finding_tone(one)) for one in findings)
    return first_lines(single, len(findings), most)


def no_finding_lines(coverage: Coverage, trouble: str, unread: int, *, looking: bool) -> list[Line]:
    """Where there is no finding to speak of: what was looked at, and what was not; ``trouble`` is what the screen says
    of the index or the directory all the same, ``unread`` how many packed files no deep check has read."""
    if looking:
        return [Line("looking", kind="muted")]
    lines = [Line(trouble, "found", "bad") if trouble else Line("nothing wrong was found", "found", "good")]
    lines.append(Line(str(coverage), "looked at"))
    if unread:
        lines.append(Line("a deep check looks further: 3 reads every byte", "not checked"))
    return [*lines, *(Line(text, "not checked") for text in coverage.unchecked)]


def remaining_lines(report: Report, most: int) -> list[Line]:
    """What a check found after a repair."""
    lines = [Line(str(report.coverage), "looked at")]
    remaining = report.shown()
    if not remaining:
        return [*lines, Line(clean_text(report.depth), "found", "good")]
    return [*lines, Line(tally(remaining), "remains", "bad"), *single_lines(remaining, most)]


def check_progress(now: Progress | None) -> str:
    """How far a check is, as ``deep  12 of 40  1.2G of 3.4G  450M/s  5s left``."""
    if now is None:
        return "reading index and directory"
    entries = f"{now.entries} of {now.entries_total}" if now.entries_total else ""
    done = f"{human_size(now.bytes)} of {human_size(now.bytes_total)}" if now.bytes_total else ""
    rate = (f"{human_size(round(now.rate))}/s" if now.bytes_total else f"{now.rate:.0f}/s") if now.rate else ""
    left = "" if now.seconds_left is None else f"{human_span(now.seconds_left)} left"
    return _GAP.join(part for part in (now.phase, entries, done, rate, left) if part)


def repair_progress(now: RepairProgress) -> str:
    """As ``fetching cf8cb0583e76….squashfs  12M of 40M``; the digest is whole."""
    done = f"{human_size(now.done)} of {human_size(now.total)}" if now.total else human_size(now.done)
    return now.doing + (f"{_GAP}{done}" if now.done or now.total else "")
