"""Findings in words: the worst first, those of one kind together, with what they share said once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ocitui.doctor.finding_texts import Kind, entry_text, kind_of, seen_text, tally, together
from ocitui.doctor.findings import Finding

from .prose import counted, paragraph

__all__ = ["SHORT_ID", "entry_text", "finding_lines", "seen_text", "tally"]

SHORT_ID = 8
"""How many digits of a fingerprint are shown; as many are enough to name it."""
_MOST_OF_A_KIND = 10
_ITEM = "  {:<10}"


def finding_lines(findings: Sequence[Finding], *, whole: bool) -> Iterator[str]:
    """The lines for findings that are in order; unless they are wanted ``whole``, long lists are cut."""
    for kind, group in groupby(together(findings), key=kind_of):
        same = list(group)
        yield from _title(same)
        shown = same if whole else same[:_MOST_OF_A_KIND]
        for finding in shown:
            yield from _one(finding)
        if len(shown) < len(same):
            yield _ITEM.format("") + f"and {len(same) - len(shown)} more; --all shows them"
        yield from _shared(kind)
        yield ""


def _title(same: Sequence[Finding]) -> Iterator[str]:
    many = f"  ({counted(len(same), 'finding')})" if len(same) > 1 else ""
    yield f"{same[0].severity.upper()}  {same[0].code}{many}"


def _one(finding: Finding) -> Iterator[str]:
    about, seen = entry_text(finding), seen_text(finding)
    marked = " (acknowledged)" if finding.acknowledged else ""
    first = _ITEM.format(finding.fingerprint[:SHORT_ID])
    yield from paragraph(f"{about}{marked}", first)
    yield from paragraph(seen, " " * len(first))


def _shared(kind: Kind) -> Iterator[str]:
    _, _, daemon, mend, loses = kind
    for title, text in (("daemon", daemon), ("mend", mend), ("may lose", loses)):
        if text:
            yield from paragraph(text, _ITEM.format(title))
