"""What lies in ocitui's own folder: records that cannot be read, and what interrupted writers left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from ocitui.cache import Transaction, TransactionState
from ocitui.cache.files import OWN_NAME
from ocitui.cache.journal import PUBLISHED, PUBLISHING
from ocitui.cache.lock import LOCK_NAME

from .catalogue import CATALOGUE
from .findings import Finding

_LOCKS = Path("/proc/locks")
_OLD_SECONDS = 600.0
_STAGING, _JOURNAL = "staging", "journal"
_DRAFT, _TEMPORARY = ".draft", ".temporary"
_UNFINISHED = (TransactionState.PENDING, PUBLISHING, PUBLISHED)


def check_own(directory: Path) -> Iterator[Finding]:
    """Nothing where there is no such folder."""
    own = directory / OWN_NAME
    busy = locked(own)
    for path, text in (
        *_leftovers(own / _STAGING, ""),
        *_leftovers(own / _JOURNAL, _DRAFT),
        *_leftovers(own, _TEMPORARY),
    ):
        if not busy and text:
            yield CATALOGUE["leftover-temporary"].finding(text, file=str(path.relative_to(directory)))
    for path in _records(own / _JOURNAL):
        yield from _check_record(path, busy=busy)


def locked(own: Path) -> bool:
    """Whether a writer of ours is at work, as /proc/locks tells: taking the lock to see could make a writer fail."""
    try:
        found = os.lstat(own / LOCK_NAME)
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return False
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return any(" FLOCK " in line and place in line.split() for line in lines)


def _leftovers(folder: Path, ending: str) -> Iterator[tuple[Path, str]]:
    oldest = time.time() - _OLD_SECONDS
    with suppress(OSError):
        for name in sorted(os.listdir(folder)):
            with suppress(OSError):
                if name.endswith(ending) and os.lstat(folder / name).st_mtime < oldest:
                    yield folder / name, "a temporary file that an interrupted writer left"


def _records(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    except OSError:
        return []


def _check_record(path: Path, *, busy: bool) -> Iterator[Finding]:
    parts, file = path.name.split("."), f"{OWN_NAME}/{_JOURNAL}/{path.name}"
    try:
        msgspec.json.decode(path.read_bytes(), type=Transaction)
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        seen = f"the record of transaction {parts[0]} cannot be read: {reason}"
        yield CATALOGUE["journal-damaged"].finding(seen, file=file)
        return
    if not busy and len(parts) == 3 and parts[1].startswith(_UNFINISHED):
        yield CATALOGUE["transaction-pending"].finding(f"transaction {parts[0]} was interrupted", file=file)
