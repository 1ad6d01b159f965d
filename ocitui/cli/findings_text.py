"""Findings in words: the worst first, those of one kind together, with what they share said once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ocitui.cache import FileKind
from ocitui.doctor.findings import Finding

from .prose import counted, paragraph, short_digest

SHORT_ID = 8
"""How many digits of a fingerprint are shown; as many are enough to name it."""
_MOST_OF_A_KIND = 10
_ITEM = "  {:<10}"
_FILES = {FileKind.MANIFEST: "its manifest", FileKind.CONFIG: "its config", FileKind.PACKED: "its packed file"}
Kind = tuple[str, str, str, str, str]


def finding_lines(findings: Sequence[Finding], *, whole: bool) -> Iterator[str]:
    """The lines for findings that are in order; unless they are wanted ``whole``, long lists are cut."""
    for kind, group in groupby(_together(findings), key=_kind):
        same = list(group)
        yield from _title(same)
        shown = same if whole else same[:_MOST_OF_A_KIND]
        for finding in shown:
            yield from _one(finding)
        if len(shown) < len(same):
            yield _ITEM.format("") + f"and {len(same) - len(shown)} more; --all shows them"
        yield from _shared(kind)
        yield ""


def entry_text(finding: Finding) -> str:
    """The entry of a finding, or its file where it is of none."""
    about = " ".join(part for part in (short_digest(finding.digest), finding.format) if part)
    if finding.name:
        return f"{finding.name} ({about})" if about else finding.name
    if about and (finding.position is not None or _is_of_entry(finding)):
        place = f"entry {finding.position + 1}, " if finding.position is not None else ""
        return f"{place}{about}"
    return finding.file or (f"entry {finding.position + 1}" if finding.position is not None else "the cache")


def file_text(finding: Finding) -> str:
    """The file of a finding, in a few words; empty where the entry's text says it already."""
    if not finding.file or finding.file == entry_text(finding):
        return ""
    return _FILES[finding.kind] if finding.kind and _is_of_entry(finding) else finding.file


def seen_text(finding: Finding) -> str:
    """What was seen, with the file it was seen at."""
    file = file_text(finding)
    # What is said of a file mostly names it already.
    named = not file or (finding.kind is not None and str(finding.kind) in finding.seen)
    return finding.seen if named else f"{file}: {finding.seen}"


def tally(findings: Iterable[Finding]) -> str:
    """As ``1 critical, 2 high``; the findings are in order."""
    severities = [finding.severity for finding in findings]
    return ", ".join(f"{severities.count(severity)} {severity}" for severity in dict.fromkeys(severities))


def _together(findings: Sequence[Finding]) -> list[Finding]:
    """In the same order, but with all of one kind where the first of them stands."""
    first: dict[Kind, int] = {}
    for at, finding in enumerate(findings):
        first.setdefault(_kind(finding), at)
    return sorted(findings, key=lambda finding: first[_kind(finding)])


def _kind(finding: Finding) -> Kind:
    """What findings share that are shown together."""
    return finding.severity, finding.code, finding.daemon, finding.mend, finding.loses


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


def _is_of_entry(finding: Finding) -> bool:
    return bool(finding.digest) and finding.file.startswith(f"{finding.digest}.")
