"""Findings: one thing that is wrong, or worth knowing, with what the daemon makes of it and what would mend it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import TypedDict, Unpack

import msgspec

from ocitui.cache import FileKind
from ocitui.text import short_digest, timestamp


class _Ranked(StrEnum):
    @property
    def rank(self) -> int:
        """For comparing: strings would sort by their letters."""
        return _RANKS[self]


class Severity(_Ranked):
    """From what is only worth knowing to what loses every entry at the daemon's next start."""

    INFO = "info"
    LOW = "low"
    WARNING = "warning"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Depth(_Ranked):
    """How far an examination looks. QUICK: at names, sizes and documents; HEADER: at superblocks too; DEEP: at all
    bytes."""

    QUICK = "quick"
    HEADER = "header"
    DEEP = "deep"


_RANKS: dict[_Ranked, int] = {one: rank for kind in (Severity, Depth) for rank, one in enumerate(kind)}


class Answer(StrEnum):
    """What the daemon does where it meets the fault. WIPE: it overwrites the index with an empty one at its start.
    NO_START: it refuses to start. ERROR never heals by itself, a MISS is pulled again by a launch or a pull."""

    HIT = "hit"
    MISS = "miss"
    ERROR = "error"
    WIPE = "wipe"
    NO_START = "no-start"
    HANGS = "hangs"
    IGNORED = "ignored"


class Way(StrEnum):
    """What an operator can ask of a repair, where advice names it; `ocitui.words` puts an option or a key there."""

    FROM = "<from>"
    REGISTRY = "<registry>"
    DROP = "<drop>"
    TRASH_ORPHANS = "<trash-orphans>"
    ADOPT_KNOWN = "<adopt-known>"
    ADOPT = "<adopt>"
    NAME = "<name>"
    CHANGE_MODES = "<change-modes>"
    EVEN_IF_FUTILE = "<even-if-futile>"
    EVEN_IF_GONE = "<even-if-gone>"
    CHOOSE = "<choose>"
    CHOOSE_FUTILE = "<choose-futile>"


class StepKind(StrEnum):
    """REPLACE_INDEX: index.json whole; ADD_ENTRIES: entries that it lost come back; EDIT_DESCRIPTOR: its annotations;
    DROP_ENTRY: a descriptor goes, with the files that only it needs; RESTORE_FILE: a good copy comes in; MOVE_ASIDE: a
    bad file goes to the trash; ADOPT: a descriptor for files without one; REDO: an edit of ours is made once more;
    CLEAN_UP: what an interrupted writer left."""

    REPLACE_INDEX = "replace-index"
    ADD_ENTRIES = "add-entries"
    EDIT_DESCRIPTOR = "edit-descriptor"
    DROP_ENTRY = "drop-entry"
    RESTORE_FILE = "restore-file"
    MOVE_ASIDE = "move-aside"
    ADOPT = "adopt"
    TRASH_ORPHAN = "trash-orphan"
    CHANGE_MODE = "change-mode"
    REDO = "redo"
    CLEAN_UP = "clean-up"


class Where(TypedDict, total=False):
    """What a finding says of its entry and file, as `Finding` has it."""

    digest: str
    format: str
    name: str
    position: int | None
    path: str
    kind: FileKind | None


class Fault(msgspec.Struct, frozen=True, cache_hash=True):
    """A kind of fault, a row of the catalogue or as it was met. ``code`` is stable; ``daemon`` is what the daemon does
    about it, ``step`` what a repair does (None: it cannot mend it), ``mend`` what mends it, a repair or the operator,
    ``loses`` what that could lose (each empty: nothing)."""

    code: str
    severity: Severity
    answer: Answer
    daemon: str
    step: StepKind | None = None
    mend: str = ""
    loses: str = ""

    def finding(self, seen: str, **where: Unpack[Where]) -> Finding:
        """The fault as it was met."""
        return Finding(self, seen, **where)


class Finding(msgspec.Struct, frozen=True, gc=False):
    """A fault that was met, with what was ``seen`` of it: small, as there may be 300,000 of them.

    ``digest``, ``format``, ``name`` (krata's spelling) and ``position`` (in the index, from 0) tell the entry, and
    ``file`` the name in the directory, as far as the finding has one; ``kind`` is what that file is to its entry.
    ``path`` is that name where digest and kind do not tell it. ``found`` is when a deep check found it, in seconds
    since the epoch, where it is remembered and was not looked at again.
    """

    fault: Fault
    seen: str
    digest: str = ""
    format: str = ""
    name: str = ""
    position: int | None = None
    path: str = ""
    kind: FileKind | None = None
    acknowledged: bool = False
    found: int | None = None

    @property
    def code(self) -> str:
        return self.fault.code

    @property
    def severity(self) -> Severity:
        return self.fault.severity

    @property
    def answer(self) -> Answer:
        return self.fault.answer

    @property
    def daemon(self) -> str:
        return self.fault.daemon

    @property
    def file(self) -> str:
        if self.path or self.kind is None:
            return self.path
        return f"{self.digest}.{self.format if self.kind is FileKind.PACKED else f'{self.kind}.json'}"

    @property
    def fingerprint(self) -> str:
        """The same as long as the finding does not change, wherever its entry stands in the index: 16 hex digits."""
        parts = (self.code, self.digest, self.format, self.name, self.file, self.seen)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]

    @property
    def is_problem(self) -> bool:
        """Whether it makes an entry a bad one: not what is only worth knowing, or was acknowledged."""
        return self.fault.severity is not Severity.INFO and not self.acknowledged


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, a full disk before all else of its severity, then by place in the index, by file and code."""
    return tuple(sorted(findings, key=_rank))


def _rank(finding: Finding) -> tuple[int, bool, bool, int, str, str]:
    fault, position = finding.fault, finding.position
    return (
        -_RANKS[fault.severity],
        fault.code != "disk-full",
        position is None,
        position or 0,
        finding.file if position is None else finding.kind or "",
        fault.code,
    )


class EntryState(msgspec.Struct, frozen=True):
    """What an entry's row says: ``word`` is short enough for a column, and ``-`` where nobody looked yet; ``severity``
    is that of the worst problem, None where there is none. ``depth`` is how deep that rests, None where it was not
    looked into; ``checked`` when all bytes of the packed file were last read and found sound, in seconds since the
    epoch, and ``first_seen`` whether there was no earlier hash to compare them with."""

    word: str
    severity: Severity | None = None
    depth: Depth | None = None
    checked: int | None = None
    first_seen: bool = False

    @property
    def bad(self) -> bool:
        return self.severity is not None

    @property
    def ok(self) -> bool:
        return self.word == "ok"

    @property
    def unknown(self) -> bool:
        """Whether it was not looked into, or not far enough to say that it is well."""
        return not self.bad and not self.ok


NOT_LOOKED = EntryState("-")
# Short enough for the column on a screen 80 cells wide; a code that is not here is its own word.
_WORDS = {
    "digest-invalid": "bad digest",
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
STATE_WORDS = ("ok", "bad", *dict.fromkeys(word for said in (*_WORDS.values(), "files") for word in said.split()))
"""What a filter by state may ask for: one word of what a row says."""


def state_of(
    findings: Sequence[Finding], depth: Depth | None, checked: int | None = None, first_seen: bool = False
) -> EntryState:
    """The state of an entry with these findings, by the worst of them; only a look at the header says that it is ok."""
    problems = [one for one in findings if one.is_problem]
    if problems:
        problems.sort(key=lambda one: -one.severity.rank)
        return _state(_word(problems), problems[0].severity, depth, checked)
    if depth in (None, Depth.QUICK):
        return NOT_LOOKED if depth is None else _state("-", None, depth)
    return _state("ok", None, depth, checked, first_seen)


# One shared object for each, as there may be 100,000 entries.
_state = lru_cache(maxsize=4096)(EntryState)


def _word(problems: list[Finding]) -> str:
    worst = problems[0]
    if worst.code == "format-unknown":
        return "bad format" if worst.format else "no format"
    if worst.code not in ("file-missing", "file-not-regular"):
        return _WORDS.get(worst.code, worst.code)
    met = {(one.code, one.kind) for one in problems}
    missing = [kind for kind in FileKind if ("file-missing", kind) in met]
    irregular = [kind for kind in FileKind if ("file-not-regular", kind) in met]
    if len(missing) == len(FileKind):
        return "no files"
    return ", ".join([f"no {kind}" for kind in missing] + [f"{kind} no file" for kind in irregular])


_FILES = {FileKind.MANIFEST: "its manifest", FileKind.CONFIG: "its config", FileKind.PACKED: "its packed file"}


def entry_text(finding: Finding) -> str:
    """The entry of a finding, or its file where it is of none."""
    about = " ".join(part for part in (short_digest(finding.digest), finding.format) if part)
    if finding.name:
        return f"{finding.name} ({about})" if about else finding.name
    if about and (finding.position is not None or is_of_entry(finding) or not finding.file):
        place = f"entry {finding.position + 1}, " if finding.position is not None else ""
        return f"{place}{about}"
    return finding.file or (f"entry {finding.position + 1}" if finding.position is not None else "the cache")


def seen_text(finding: Finding) -> str:
    """What was seen, with the file it was seen at, and when, if that was before."""
    kind, file, seen = finding.kind, finding.file, finding.seen
    # What is said of a file mostly names it already.
    if file and file != entry_text(finding) and (kind is None or kind not in seen):
        seen = f"{_FILES[kind] if kind and is_of_entry(finding) else file}: {seen}"
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


def by_fault(findings: Iterable[Finding]) -> list[list[Finding]]:
    """In the same order, but with all of one fault together where the first of them stands."""
    same: dict[Fault, list[Finding]] = {}
    for finding in findings:
        same.setdefault(finding.fault, []).append(finding)
    return list(same.values())


def is_of_entry(finding: Finding) -> bool:
    """Whether its file is one of an entry's own."""
    return bool(finding.digest) and finding.file.startswith(f"{finding.digest}.")
