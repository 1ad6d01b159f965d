"""What can go wrong with a cache: what its index is to the daemon and to this program, and the errors, as a small tree.

Each error carries a message an operator can act on, a ``hint`` that says what to do next, and a ``code`` that
scripts can rely on::

    CacheError
    ├── CacheDirectoryError      the directory is absent, not a directory, or not readable
    ├── CorruptIndexError        index.json is one the daemon would reset or refuse
    ├── InvalidNameError         not an image name (a ValueError too)
    ├── DocumentError            a manifest, config or descriptor the daemon's types refuse
    ├── NoSuchEntryError         no descriptor of that digest and format (a KeyError too)
    ├── AmbiguousDigestError     a word that names more than one entry
    ├── NoSuchTransactionError   no transaction of that id (a LookupError too)
    ├── InvalidPackedImageError  what is to be stored is not an image that can be stored
    ├── ConflictError            something stands where a file or descriptor is to go
    │   └── FileTakenError       a file of that name
    ├── PlanChangedError         the cache is no longer what the plan was made for
    ├── LockedError              another ocitui works on the cache
    ├── ReadOnlyError            this cache object may not write
    └── StorageError             the file system refused (no space, read-only, input/output error)
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class IndexOutcome(StrEnum):
    """CREATED: no file, an empty index is written. LOADED: read as it is. RESET: overwritten with an empty index,
    every entry lost. ERROR: the daemon refuses to start, the file is left alone."""

    CREATED = "created"
    LOADED = "loaded"
    RESET = "reset"
    ERROR = "error"


class Verdict(NamedTuple):
    """The outcome, how many entries the daemon would then have, and its error with line and byte column (0: none)."""

    outcome: IndexOutcome
    entries: int = 0
    message: str = ""
    line: int = 0
    column: int = 0

    @property
    def sound(self) -> bool:
        return self.outcome in (IndexOutcome.CREATED, IndexOutcome.LOADED)

    @property
    def consequence(self) -> str:
        """What a start of the daemon would mean, in words."""
        return {
            IndexOutcome.CREATED: "the daemon would start with an empty cache and write an empty index",
            IndexOutcome.LOADED: f"the daemon would load {self.entries} {'entry' if self.entries == 1 else 'entries'}",
            IndexOutcome.RESET: "the daemon would overwrite it with an empty index: every entry lost",
            IndexOutcome.ERROR: "the daemon would refuse to start",
        }[self.outcome]

    @property
    def place(self) -> str:
        """The error and its place, as the daemon logs them; empty where there is none."""
        return _placed(self.message, self.line, self.column)


class Condition(StrEnum):
    """SOUND: read, and in step. STALE: it has not read for a second, and still changes. CORRUPT: the same bytes stay.
    MISSING: index.json is gone though it held entries. GONE: so is the directory. UNREADABLE: it may not be read."""

    SOUND = "sound"
    STALE = "stale"
    CORRUPT = "corrupt"
    MISSING = "missing"
    GONE = "gone"
    UNREADABLE = "unreadable"


class Health(NamedTuple):
    """``message`` says what is seen, ``verdict`` what the daemon would do, ``polling`` why events are not relied on."""

    condition: Condition
    message: str = ""
    verdict: Verdict | None = None
    polling: str = ""

    @property
    def sound(self) -> bool:
        return self.condition is Condition.SOUND


def _placed(message: str, line: int, column: int) -> str:
    return f"{message} at line {line} column {column}" if line else message


class CacheError(Exception):
    """The root of every error the cache raises on purpose."""

    code = "cache-error"
    default_hint = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        return self.message

    @property
    def one_line(self) -> str:
        """What, and what to do, in one line."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class CacheDirectoryError(CacheError):
    code = "cache-directory"
    default_hint = "name the directory that holds index.json, or set OCITUI_CACHE"


class CorruptIndexError(CacheError):
    """``verdict`` says what the daemon would make of the same bytes; None when the index is gone."""

    code = "corrupt-index"
    # True whichever copy is good; which one is, and what follows, the doctor's assessment says.
    default_hint = "nothing was changed; ocitui repair shows how to mend it: before the daemon is started or restarted"

    def __init__(self, message: str, *, verdict: Verdict | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict


class InvalidNameError(CacheError, ValueError):
    code = "invalid-name"
    default_hint = "write it as [HOST[:PORT]/]NAME[:TAG][@DIGEST], with a port of at most 65535"


class DocumentError(CacheError):
    """``line`` and ``column`` (in bytes, from 1) are the place of the error as the daemon counts it; 0 when unknown."""

    code = "document"
    default_hint = "the daemon fails on this document at every lookup; it heals only when the file is moved aside"

    def __init__(self, message: str, *, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line, self.column = line, column

    @property
    def placed(self) -> str:
        """The message with the place, as the daemon logs them."""
        return _placed(self.message, self.line, self.column)


class NoSuchEntryError(CacheError, KeyError):
    code = "no-such-entry"
    default_hint = "ocitui list shows every digest and format"


class AmbiguousDigestError(CacheError):
    code = "ambiguous-digest"
    default_hint = "give more of its digits"


class NoSuchTransactionError(CacheError, LookupError):
    code = "no-such-transaction"
    default_hint = "ocitui log shows every transaction"


class InvalidPackedImageError(CacheError):
    code = "invalid-packed-image"
    default_hint = "a packed image needs a regular file, and one digest in its descriptor and its file names"


class ConflictError(CacheError):
    code = "conflict"
    default_hint = "look at what stands there; move it or delete it first, then try again"


class FileTakenError(ConflictError):
    """A file of that name is there already."""


class PlanChangedError(CacheError):
    code = "plan-changed"
    default_hint = "look at the new plan and confirm it again"


class LockedError(CacheError):
    """``holder`` says who has the lock: program, process, user, host, and since when, as far as it is known."""

    code = "locked"
    default_hint = "wait for it with --wait SECONDS, or end that program"

    def __init__(self, message: str, *, holder: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.holder = holder


class ReadOnlyError(CacheError):
    code = "read-only"
    default_hint = "start ocitui without --read-only"


class StorageError(CacheError):
    code = "storage"
    default_hint = "nothing was lost; see that the file system is writable and has room, then try again"
