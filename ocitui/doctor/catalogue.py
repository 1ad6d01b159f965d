"""Every fault by its code: how bad it is, what the daemon does about it, what mends it and what that could lose.

The daemon's answers were measured on its real code. ``daemon`` and ``mend`` are what holds for most cases of a fault;
the others have rows of their own at the end.
"""

from __future__ import annotations

import msgspec

from .findings import Answer, Fault, Severity, StepKind

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
_ACCEPT_OR_IMPORT = "import the image again, or accept the file as it is by acknowledging this"
_BEHIND_THE_END = (
    "a hit, and the kernel mounts it: what stands behind the file system's end, such as a dm-verity tree or a "
    "signature, is not read"
)

_PACKED = (
    Fault("packed-empty", _HIGH, _HIT, GUEST_FAILS, _RESTORE, _TRASH_AND_IMPORT),
    Fault("packed-magic", _HIGH, _HIT, GUEST_FAILS, _RESTORE, _TRASH_AND_IMPORT),
    Fault("packed-truncated", _HIGH, _HIT, GUEST_FAILS, _RESTORE, _TRASH_AND_IMPORT),
    Fault("packed-incomplete", _HIGH, _HIT, GUEST_FAILS, _RESTORE, "import the image again"),
    Fault("packed-damaged", _HIGH, _HIT, GUEST_FAILS, _RESTORE, _TRASH_AND_IMPORT),
    Fault("packed-changed", _HIGH, _HIT, _WRITES_ONLY_AT_STORE, _RESTORE, _ACCEPT_OR_IMPORT),
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
NEEDED_ORPHAN = _like(CATALOGUE["zone-needs-missing"], step=_ADOPT, mend=_ADOPT_NEEDED)
NEARLY_FULL = _like(
    CATALOGUE["disk-full"],
    severity=_MEDIUM,
    daemon="it stores as long as there is room; without, its store truncates index.json and cannot write it",
)
