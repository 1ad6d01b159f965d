"""Findings: what is wrong, or worth knowing, what the daemon makes of it and what would mend it; and every fault."""

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
    """How far an examination looks. QUICK: names, sizes and documents; HEADER: superblocks too; DEEP: all bytes;
    LAYERS: what they hold against what the image's layers make."""

    QUICK = "quick"
    HEADER = "header"
    DEEP = "deep"
    LAYERS = "layers"


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
    """A fault that was met, with what was ``seen`` of it: small, as there may be 300,000 of them. ``digest``,
    ``format``, ``name`` (krata's spelling) and ``position`` (in the index, from 0) tell the entry, and ``file`` the
    name in the directory, as far as the finding has one; ``kind`` is what that file is to its entry. ``path`` is that
    name where digest and kind do not tell it. ``found`` is when a deep check found it, in seconds since the epoch,
    where it is remembered and was not looked at again."""

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
    "packed-differs": "differs",
    "packed-changed": "changed",
    "packed-unlike-layers": "unlike",
    "packed-xattrs": "xattrs",
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


_FILE_TEXTS = {FileKind.MANIFEST: "its manifest", FileKind.CONFIG: "its config", FileKind.PACKED: "its packed file"}


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
        seen = f"{_FILE_TEXTS[kind] if kind and is_of_entry(finding) else file}: {seen}"
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


# Every fault, with answers measured on the daemon's real code; special cases have rows of their own at the end.
WIPES = "it logs an error at its start and overwrites index.json with an empty index: every entry is lost"
REFUSES = "it refuses to start, and leaves the file alone"
MISSES = (
    "a miss: a launch or a pull by name pulls it again, but a stored zone is made anew by digest alone, which fails "
    "and is not tried again"
)
FAILS = "an error at every lookup, which never heals by itself; once the file is moved aside it is a miss"
GUEST_FAILS = "a hit: it never looks into the file, and the guest that is given it fails later"
TAKES_IT = "a hit: it does not look at this"
NOTHING = "nothing: it never sees this"
_GOOD_COPY = "restore the {} from a copy with the right hash, else move it to the trash, unless a hit cannot come back"
_IMPORT_AGAIN = "restore it from the trash or a loop device that still holds it, else import the image again"
_TRASH_AND_IMPORT = f"{_IMPORT_AGAIN}; it goes to the trash where that can come back"
_BACKUP_LACKS = "names that no backup holds"
_NAMES_LOST = "names that neither the bytes nor a backup hold"

_INFO, _LOW, _WARNING = Severity.INFO, Severity.LOW, Severity.WARNING
_MEDIUM, _HIGH, _CRITICAL = Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL
_HIT, _MISS, _ERROR = Answer.HIT, Answer.MISS, Answer.ERROR
_WIPE, _NO_START, _IGNORED = Answer.WIPE, Answer.NO_START, Answer.IGNORED
_REPLACE, _REFILL, _REDO = StepKind.REPLACE_INDEX, StepKind.ADD_ENTRIES, StepKind.REDO
_EDIT, _DROP, _RESTORE = StepKind.EDIT_DESCRIPTOR, StepKind.DROP_ENTRY, StepKind.RESTORE_FILE
_ADOPT, _TRASH, _MODE, _CLEAN = StepKind.ADOPT, StepKind.TRASH_ORPHAN, StepKind.CHANGE_MODE, StepKind.CLEAN_UP

_SALVAGE = "keep the bytes aside, salvage every whole descriptor, join them with the newest backup and the files"
_REJOIN = "join the newest backup with what the files themselves tell"
_REORDER = "join the backup, the files and today's index, in the backup's order, then by the time of the manifests"
_MEND_FIELD = "mend the field; where the manifests are gone, " + _REJOIN
_MANIFESTS_LOST = "names, where the manifests are gone and no backup holds them"
_EMPTIED_AT_START = "it writes an empty index at its start: every lookup is a miss"
_ASIDE = "move it aside, then "
_ONE_WIPES = "one such descriptor is enough: " + WIPES
_NOT_IN_MEMORY = "lookups of these entries are misses, but where it still has them in memory"
_MEMORY_WON = "the index that it keeps in memory won over the edit"
_IN_MEMORY = "it has these entries in memory, and writes them at its next store; a restart before that loses them"
_MAKE_IT_STORE = "make it store, or have a repair adopt the files under their name"

_INDEX = (
    Fault("index-missing", _CRITICAL, _MISS, _EMPTIED_AT_START, _REPLACE, _REJOIN, _BACKUP_LACKS),
    Fault("index-unparsable", _CRITICAL, _WIPE, WIPES, _REPLACE, _SALVAGE, _NAMES_LOST),
    Fault("index-not-utf8", _HIGH, _NO_START, REFUSES, _REPLACE, _SALVAGE, _NAMES_LOST),
    Fault("index-schema", _CRITICAL, _WIPE, WIPES, _REPLACE, _MEND_FIELD, _MANIFESTS_LOST),
    Fault("descriptor-invalid", _CRITICAL, _WIPE, _ONE_WIPES, _REPLACE, "move that descriptor, verbatim, to the trash"),
    Fault("index-not-a-file", _HIGH, _NO_START, REFUSES, _REPLACE, "move it aside, and copy the index in as a file"),
    Fault("index-emptied", _CRITICAL, _MISS, "every lookup is a miss", _REFILL, _REJOIN, _BACKUP_LACKS),
    Fault("index-overwritten", _MEDIUM, _IGNORED, _MEMORY_WON, _REDO, "make the edit again"),
    Fault("index-shrunk", _CRITICAL, _MISS, _NOT_IN_MEMORY, _REFILL, _REORDER),
    Fault("index-late-update", _MEDIUM, _IGNORED, _IN_MEMORY, _ADOPT, _MAKE_IT_STORE),
)
_BY_DIGEST_ONLY = "recall by digest hits, resolve misses: it looks for its own spelling"
_LAST_WINS = "resolve takes the last entry of a name, even where that one's files are gone"
_TAG_ROLLED_BACK = "the tag is rolled back if the last entry of the name goes"
_KEEP_LAST = "keep the last, move the others to the trash"

_DESCRIPTOR = (
    Fault("digest-invalid", _HIGH, _MISS, MISSES, _DROP, "move the descriptor to the trash"),
    Fault("format-unknown", _MEDIUM, _MISS, MISSES, _EDIT, "write the format, where exactly one packed file fits"),
    Fault("name-missing", _LOW, _MISS, "recall by digest hits, resolve by name misses", _EDIT, "give it a name"),
    Fault("name-not-canonical", _LOW, _MISS, _BY_DIGEST_ONLY, _EDIT, "write the name as krata spells it"),
    Fault("entry-duplicate", _LOW, _HIT, "recall takes the first of them", _DROP, _KEEP_LAST),
    Fault("name-duplicate", _INFO, _HIT, _LAST_WINS, loses=_TAG_ROLLED_BACK),
    Fault("size-mismatch", _INFO, _IGNORED, TAKES_IT),
    Fault("latest-never-resolves", _INFO, _MISS, "it never resolves the tag latest from the cache: it pulls"),
)
_AS_LONG_AS = "an error at every lookup, as long as the disk cannot read it"

_FILES = (
    Fault("file-missing", _HIGH, _MISS, MISSES, _RESTORE, _IMPORT_AGAIN + ", or drop the entry"),
    Fault("file-not-regular", _HIGH, _MISS, MISSES, _RESTORE, "move it aside, and never follow it"),
    Fault("read-error", _HIGH, _ERROR, _AS_LONG_AS, _RESTORE, "move it aside, and " + _IMPORT_AGAIN, "the file"),
)
_NEEDS_HISTORY = "an error at every lookup: OCI allows a config without history, it does not"

_DOCUMENTS = (
    Fault("manifest-unparsable", _HIGH, _ERROR, FAILS, _RESTORE, _GOOD_COPY.format("manifest")),
    Fault("config-unparsable", _HIGH, _ERROR, FAILS, _RESTORE, _GOOD_COPY.format("config")),
    Fault("config-no-history", _HIGH, _ERROR, _NEEDS_HISTORY),
    Fault("manifest-digest", _HIGH, _HIT, TAKES_IT, _RESTORE, _GOOD_COPY.format("manifest")),
    Fault("config-digest", _HIGH, _HIT, TAKES_IT, _RESTORE, _GOOD_COPY.format("config")),
    Fault("manifest-is-index", _HIGH, _ERROR, FAILS, _RESTORE, "move it to the trash"),
    Fault("layers-disagree", _WARNING, _HIT, TAKES_IT),
    Fault("platform-disagrees", _WARNING, _HIT, TAKES_IT),
)
_WRITES_ONLY_AT_STORE = "a hit: it never looks into the file, which it writes only when it stores"
_OTHER_BYTES = "a hit; a guest reads one thing in this format, and another in the other"
_ACCEPT_OR_IMPORT = "import the image again, or accept the file as it is by acknowledging this"
_BEHIND_THE_END = (
    "a hit, and the kernel mounts it: what stands behind the file system's end, such as a dm-verity tree or a "
    "signature, is not read"
)

_GUEST_DIFFERS = "a hit: it never compares them, and the guest gets what is packed"
_PACK_AGAIN = "import the image again, which packs its layers anew"

_PACKED = (
    Fault("packed-empty", _HIGH, _HIT, GUEST_FAILS, _RESTORE, _TRASH_AND_IMPORT),
    Fault("packed-magic", _HIGH, _HIT, GUEST_FAILS, _RESTORE, _TRASH_AND_IMPORT),
    Fault("packed-truncated", _HIGH, _HIT, GUEST_FAILS, _RESTORE, _TRASH_AND_IMPORT),
    Fault("packed-incomplete", _HIGH, _HIT, GUEST_FAILS, _RESTORE, "import the image again"),
    Fault("packed-differs", _HIGH, _HIT, _OTHER_BYTES, _RESTORE, "import both formats again"),
    Fault("packed-damaged", _HIGH, _HIT, GUEST_FAILS, _RESTORE, _TRASH_AND_IMPORT),
    Fault("packed-changed", _HIGH, _HIT, _WRITES_ONLY_AT_STORE, _RESTORE, _ACCEPT_OR_IMPORT),
    Fault("packed-unlike-layers", _MEDIUM, _HIT, _GUEST_DIFFERS, _RESTORE, _PACK_AGAIN),
    Fault("packed-xattrs", _INFO, _HIT, _GUEST_DIFFERS, _RESTORE, _PACK_AGAIN),
    Fault("packed-tail", _INFO, _HIT, _BEHIND_THE_END),
)
_IN_THE_TRASH = "the files of that transaction lie in the trash, named after it"

_LISTING = (
    Fault("orphan-entry", _LOW, _IGNORED, NOTHING, _ADOPT, "adopt it, or move its files to the trash; never by itself"),
    Fault("orphan-file", _LOW, _IGNORED, NOTHING, _TRASH, "move it to the trash; never by itself"),
    Fault("leftover-temporary", _LOW, _IGNORED, NOTHING, _CLEAN, "remove it"),
    Fault("unknown-file", _INFO, _IGNORED, NOTHING),
    Fault("hardlinked", _LOW, _IGNORED, "it does not look; who writes through the other name changes this file too"),
    Fault("wrong-mode", _LOW, _IGNORED, "as root it reads the file anyway", _MODE, "change the mode, if asked to"),
    Fault("case-collision", _LOW, _IGNORED, "it tells them apart; a file system that does not would hold only one"),
    Fault("journal-damaged", _LOW, _IGNORED, NOTHING, mend=_IN_THE_TRASH),
    Fault("transaction-pending", _LOW, _IGNORED, NOTHING, _CLEAN, "the next that writes finishes it or rolls it back"),
)
_LOSES_ALL = "its next store truncates index.json and cannot write it again: every entry is lost"
_ZONE_FAILS = "the zone fails at its start, and is not tried again"
_BRING_IN = "bring that very image in again, by its digest"
_OTHER_TAR = "bring in an image that holds it, and have the zone use that, or import this one again if it was cut"
_ADOPT_NEEDED = "give its files an entry again, as for files that no entry names"
_DESTROYS = "it makes an empty database at its start, and destroys every guest that runs as one it does not know"
_DESTROYS_ONE = "it destroys the guest within seconds of its start, as one it does not know"
_ROW_BACK = "put back a krata.db that has it, while kratad does not run, or let it go"
_BACK_IN = "put a good krata.db back, while kratad does not run"
_MAKE_ROOM = "make room: empty the trash, prune entries, or remove what else fills the disk"

_HOST = (
    Fault("cache-read-only", _INFO, _IGNORED, "it cannot store, and answers from what is there"),
    Fault("disk-full", _HIGH, _IGNORED, _LOSES_ALL, mend=_MAKE_ROOM),
    Fault("daemon-running", _INFO, _IGNORED, "it keeps its index in memory, and writes it whole at its next store"),
    Fault("zone-needs-missing", _CRITICAL, _MISS, _ZONE_FAILS, mend=_BRING_IN),
    Fault("zone-file-missing", _CRITICAL, _HIT, _ZONE_FAILS, mend=_OTHER_TAR),
    Fault("database-lost", _CRITICAL, _IGNORED, _DESTROYS, mend="put krata.db back before kratad is started"),
    Fault("database-damaged", _HIGH, _IGNORED, "it does not start on it, or acts on what is wrong", mend=_BACK_IN),
    Fault("domain-without-row", _CRITICAL, _IGNORED, _DESTROYS_ONE, mend=_ROW_BACK),
)

CATALOGUE: dict[str, Fault] = {
    fault.code: fault for fault in (*_INDEX, *_DESCRIPTOR, *_FILES, *_DOCUMENTS, *_PACKED, *_LISTING, *_HOST)
}
"""Every code there is."""


def mended_by(*steps: StepKind) -> frozenset[str]:
    """The codes of what a repair mends by such steps."""
    return frozenset(code for code, fault in CATALOGUE.items() if fault.step in steps)


DOCUMENT_FAULTS = frozenset(fault.code for fault in _DOCUMENTS if fault.severity is _HIGH)
"""The codes of what makes a document a bad one."""
FILE_FAULTS = DOCUMENT_FAULTS | {fault.code for fault in (*_FILES, *_PACKED) if fault.severity is _HIGH}
"""The codes of what makes a file of an entry a bad one, so that there is something to mend."""
LAYER_FAULTS = frozenset({"packed-unlike-layers", "packed-xattrs"})
"""The codes of what only the layers tell, and only packing them anew mends."""

# Faults as they are met where more is known of them.
_like = msgspec.structs.replace
NEW_CACHE = _like(CATALOGUE["index-missing"], severity=_INFO)
INDEX_UNREADABLE = Fault("read-error", _CRITICAL, _NO_START, REFUSES, _REPLACE, _ASIDE + _REJOIN, _BACKUP_LACKS)
INDEX_LINK = _like(CATALOGUE["index-not-a-file"], answer=_HIT, daemon="it follows the link")
INDEX_DEAD_LINK = _like(INDEX_LINK, daemon="it follows the link, and writes an empty index where it leads")
INDEX_PIPE = _like(INDEX_LINK, answer=Answer.HANGS, daemon="it waits for the other end for ever, and never comes up")
DIGEST_OUTSIDE = _like(
    CATALOGUE["digest-invalid"], answer=_HIT, daemon="it looks outside the cache, and a file there is a hit"
)
LINK_OUTSIDE = _like(CATALOGUE["file-not-regular"], answer=_HIT, daemon="it follows the link out of the cache")
PACKED_UNREADABLE = _like(CATALOGUE["read-error"], answer=_HIT, daemon=GUEST_FAILS)
CAPABILITIES_LOST = _like(CATALOGUE["packed-xattrs"], severity=_LOW)
NEEDED_ORPHAN = _like(CATALOGUE["zone-needs-missing"], step=_ADOPT, mend=_ADOPT_NEEDED)
NEARLY_FULL = _like(
    CATALOGUE["disk-full"],
    severity=_MEDIUM,
    daemon="it stores as long as there is room; without, its store truncates index.json and cannot write it",
)
