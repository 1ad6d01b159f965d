"""The rows of the problems screen: a heading for each kind of finding, and below it what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ocitui.doctor.finding_texts import entry_text, kind_of, tally, together
from ocitui.doctor.findings import Finding, Severity
from ocitui.doctor.report import Report
from ocitui.text import timestamp

from .entry_states import state_of
from .finding_lines import finding_lines, kind_lines, tone
from .shorten import counted
from .widgets.lines_view import Line
from .widgets.pick_list import PickRow

_INDENT = "  "


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A row, and the findings it stands for: those of a kind for a heading, one for any other."""

    row: PickRow
    findings: tuple[Finding, ...]
    heading: bool

    @property
    def lines(self) -> list[Line]:
        """All there is to say of it."""
        return kind_lines(self.findings) if self.heading else finding_lines(self.findings[0])


def shown(findings: Sequence[Finding], *, everything: bool) -> list[Finding]:
    """Those that are problems, or all."""
    if everything:
        return list(findings)
    return [one for one in findings if one.severity is not Severity.INFO and not one.acknowledged]


def problem_rows(findings: Sequence[Finding]) -> list[ProblemRow]:
    """The rows for findings that are in order."""
    seen: Counter[str] = Counter()
    return [row for kind, group in groupby(together(findings), kind_of) for row in _rows(tuple(group), seen)]


def _rows(same: tuple[Finding, ...], seen: Counter[str]) -> Iterator[ProblemRow]:
    first = same[0]
    many = counted(len(same), "finding", "findings")
    heading = PickRow("\0".join(kind_of(first)), f"{first.severity.upper()}  {first.code}", many, tone(first))
    yield ProblemRow(heading, same, heading=True)
    for one in same:
        # The same may be found of two entries that are equal.
        fingerprint = one.fingerprint
        seen[fingerprint] += 1
        right = "acknowledged" if one.acknowledged else _word(one)
        key = f"{fingerprint} {seen[fingerprint]}"
        yield ProblemRow(PickRow(key, f"{_INDENT}{entry_text(one)}", right, tone(one)), (one,), heading=False)


def _word(finding: Finding) -> str:
    """A few words for what was seen, where the code does not say it."""
    return state_of([finding]).word if finding.code in ("file-missing", "file-not-regular") else ""


def coverage_text(report: Report, findings: Sequence[Finding], hidden: int, *, stale: bool) -> str:
    """What was looked at, how deep and when, what came of it, and what is not shown."""
    problems = [one for one in findings if one.severity is not Severity.INFO and not one.acknowledged]
    parts = [f"{report.coverage}", tally(problems) or "nothing wrong"]
    parts += [f"{hidden} not shown"] if hidden else []
    when = f"at {timestamp(report.started)[11:]}"
    return f"{'; '.join(parts)}; {when}" + ("; the cache has changed since" if stale else "")
