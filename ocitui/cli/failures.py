"""What goes wrong in a command, said in one line, and the status it exits with."""

from __future__ import annotations

from collections.abc import Callable

from ocitui.cache.errors import (
    AmbiguousDigestError,
    CacheError,
    InvalidNameError,
    LockedError,
    NoSuchEntryError,
    NoSuchTransactionError,
    ReadOnlyError,
)

from .output import fail
from .settings import ExitCode, Settings


class UsageProblemError(CacheError):
    """The command cannot be carried out as it was typed."""

    code = "usage"


class NoSuchDocumentError(CacheError):
    code = "no-such-document"
    default_hint = "ocitui list shows which files an entry has"


class NoSuchImportError(CacheError):
    code = "no-such-import"
    default_hint = "ocitui imports lists them"


class CancelledError(CacheError):
    code = "cancelled"
    default_hint = "nothing was changed"


class InterruptedBySignalError(Exception):
    """A signal ended the command; what was begun has ended whole. ``message`` and ``hint`` say what is left of it."""

    def __init__(self, number: int, name: str, message: str = "", hint: str = "") -> None:
        super().__init__(name)
        self.number = number
        self.name = name
        self.message = message or f"interrupted by {name}"
        self.hint = hint or "a transaction that was begun has ended whole; see ocitui log"


_STATUSES: tuple[tuple[type[CacheError], ExitCode], ...] = (
    (LockedError, ExitCode.LOCKED),
    (NoSuchEntryError, ExitCode.PROBLEMS),
    (NoSuchTransactionError, ExitCode.PROBLEMS),
    (NoSuchDocumentError, ExitCode.PROBLEMS),
    (NoSuchImportError, ExitCode.PROBLEMS),
    (AmbiguousDigestError, ExitCode.USAGE),
    (InvalidNameError, ExitCode.USAGE),
    (UsageProblemError, ExitCode.USAGE),
    (CancelledError, ExitCode.CANCELLED),
    (CacheError, ExitCode.UNCHECKED),
)


def status_of(error: CacheError) -> ExitCode:
    """The status a command exits with where this stopped it."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def reported(settings: Settings, command: Callable[[], int]) -> int:
    """Run a command; an error is printed, and gives its status."""
    try:
        return command()
    except CacheError as error:
        fail(settings, error.code, error.message, error.hint)
        return status_of(error)
    except InterruptedBySignalError as error:
        fail(settings, "interrupted", error.message, error.hint)
        return 128 + error.number


def refuse_read_only(settings: Settings, doing: str) -> None:
    """Raises ReadOnlyError where --read-only was given, before anything is looked at or asked."""
    if settings.read_only:
        raise ReadOnlyError(f"cannot {doing}: --read-only was given", hint="leave --read-only out to write")


class NotAskedError(UsageProblemError):
    """There is nobody to ask."""

    code = "not-confirmed"
    default_hint = "look at what it says, then give --yes"
