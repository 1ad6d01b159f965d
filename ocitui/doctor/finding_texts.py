"""Findings in a few words, for the screen and the command line alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ocitui.cache import FileKind
from ocitui.text import short_digest, timestamp

from .findings import Depth, Finding

_FILES = {FileKind.MANIFEST: "its manifest", FileKind.CONFIG: "its config", FileKind.PACKED: "its packed file"}
Kind = tuple[str, str, str, str, str]


def entry_text(finding: Finding) -> str:
    """The entry of a finding, or its file where it is of none."""
    about = " ".join(part for part in (short_digest(finding.digest), finding.format) if part)
    if finding.name:
        return f"{finding.name} ({about})" if about else finding.name
    if about and (finding.position is not None or is_of_entry(finding)):
        place = f"entry {finding.position + 1}, " if finding.position is not None else ""
        return f"{place}{about}"
    return finding.file or (f"entry {finding.position + 1}" if finding.position is not None else "the cache")


def file_text(finding: Finding) -> str:
    """The file of a finding, in a few words; empty where the entry's text says it already."""
    if not finding.file or finding.file == entry_text(finding):
        return ""
    return _FILES[finding.kind] if finding.kind and is_of_entry(finding) else finding.file


def seen_text(finding: Finding) -> str:
    """What was seen, with the file it was seen at, and when, if that was before."""
    file = file_text(finding)
    # What is said of a file mostly names it already.
    named = not file or (finding.kind is not None and str(finding.kind) in finding.seen)
    seen = finding.seen if named else f"{file}: {finding.seen}"
    return seen if finding.found is None else f"{seen}; {found_text(finding.found)}"


def found_text(when: int) -> str:
    """When it was found what is remembered, and was not looked at again."""
    return f"found by the deep check of {timestamp(when)}"


def tally(findings: Iterable[Finding]) -> str:
    """As ``1 critical, 2 high``; the findings are in order."""
    severities = [finding.severity for finding in findings]
    return ", ".join(f"{severities.count(severity)} {severity}" for severity in dict.fromkeys(severities))


def clean_text(depth: Depth) -> str:
    """That nothing is wrong, and how deep that rests."""
    return f"the cache is clean, by a check to the depth {depth}"


def kind_of(finding: Finding) -> Kind:
    """What findings share that are shown together."""
    return finding.severity, finding.code, finding.daemon, finding.mend, finding.loses


def together(findings: Sequence[Finding]) -> list[Finding]:
    """In the same order, but with all of one kind where the first of them stands."""
    first: dict[Kind, int] = {}
    for at, finding in enumerate(findings):
        first.setdefault(kind_of(finding), at)
    return sorted(findings, key=lambda finding: first[kind_of(finding)])


def is_of_entry(finding: Finding) -> bool:
    """Whether its file is one of an entry's own."""
    return bool(finding.digest) and finding.file.startswith(f"{finding.digest}.")
