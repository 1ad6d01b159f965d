"""From an entry's findings to the word and the sign that its row shows."""

from __future__ import annotations

from collections.abc import Iterable

from ocitui.cache.entries import OK, EntryState, FileKind, file_state, problem_state, unusable_state
from ocitui.doctor.findings import Finding, Severity

# Short enough for the column on a screen 80 cells wide; a code that is not here is its own word.
_WORDS = {
    "name-missing": "no name",
    "name-not-canonical": "odd name",
    "entry-duplicate": "duplicate",
    "read-error": "read error",
    "manifest-unparsable": "manifest",
    "manifest-is-index": "is an index",
    "manifest-digest": "wrong hash",
    "config-unparsable": "config",
    "config-digest": "wrong hash",
    "config-no-history": "no history",
    "layers-disagree": "layers",
    "platform-disagrees": "platform",
    "packed-empty": "empty",
    "packed-magic": "wrong magic",
    "packed-truncated": "truncated",
    "packed-incomplete": "incomplete",
    "packed-damaged": "damaged",
    "packed-changed": "changed",
    "hardlinked": "hard link",
    "wrong-mode": "unreadable",
    "case-collision": "case",
}
_IN_ORDER = tuple(FileKind)


def problems_of(findings: Iterable[Finding]) -> list[Finding]:
    """Those that make an entry a bad one, the worst first: not what is only worth knowing, or acknowledged."""
    found = [one for one in findings if one.severity is not Severity.INFO and not one.acknowledged]
    return sorted(found, key=lambda one: -one.severity.rank)


def state_of(findings: Iterable[Finding]) -> EntryState:
    """The state of an entry with these findings, by the worst of them."""
    problems = problems_of(findings)
    if not problems:
        return OK
    worst = problems[0]
    if worst.code in ("file-missing", "file-not-regular"):
        return file_state(_kinds(problems, "file-missing"), _kinds(problems, "file-not-regular"))
    if worst.code == "format-unknown":
        return unusable_state("bad format" if worst.format else "no format")
    if worst.code == "digest-invalid":
        return unusable_state("bad digest")
    return problem_state(_WORDS.get(worst.code, worst.code))


def _kinds(findings: Iterable[Finding], code: str) -> tuple[FileKind, ...]:
    kinds = {one.kind for one in findings if one.code == code}
    return tuple(kind for kind in _IN_ORDER if kind in kinds)
