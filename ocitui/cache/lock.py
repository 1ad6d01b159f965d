"""The locks between ocitui programs: flock(2) on files of our own, which say who holds them."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from .actor import whoami
from .disk import NO_ROOM, Disk, Folder, shared_mode
from .errors import LockedError

LOCK_NAME = "lock"
# A fixed length, so that a full disk never keeps the holder from being written.
_RECORD_SIZE = 512
_TURN_SECONDS, _PAUSE = 10.0, 0.01


@contextmanager
def hold_lock(own: Folder, disk: Disk, doing: str) -> Iterator[None]:
    """Hold the lock of a cache's own folder. Raises LockedError, with the holder, when another program has it."""
    fd = disk.open_own(own, LOCK_NAME, shared_mode(0o644, own.stat()))
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(fd)
            raise LockedError(f"the cache is locked by {holder}", holder=holder) from None
        _write_holder(fd, f"{whoami()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}: {doing}")
        yield
        _write_holder(fd, "")
    finally:
        os.close(fd)


@contextmanager
def taking_turns(own: Folder, disk: Disk, name: str) -> Iterator[None]:
    """Be the only one, of all programs, that holds the lock of that name: for the moment that a write takes.

    Raises LockedError where another holds it for longer than any write takes.
    """
    fd = disk.open_own(own, name, shared_mode(0o644, own.stat()))
    try:
        wait_for_turn(fd, str(own.path / name))
        yield
    finally:
        os.close(fd)


def wait_for_turn(fd: int, name: str) -> None:
    """Lock an open file or directory that is only ever held for a moment. Raises LockedError."""
    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"another program holds {name} for too long", hint="see with fuser what it is"
                ) from None
        time.sleep(_PAUSE)


def _read_holder(fd: int) -> str:
    return os.pread(fd, _RECORD_SIZE, 0).decode(errors="replace").strip() or "another program"


def _write_holder(fd: int, holder: str) -> None:
    """Best effort: the lock is held all the same when there is no room to say so."""
    try:
        os.pwrite(fd, holder.encode(errors="replace")[: _RECORD_SIZE - 1].ljust(_RECORD_SIZE - 1) + b"\n", 0)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
