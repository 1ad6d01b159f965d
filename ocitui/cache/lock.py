"""The lock between ocitui programs: flock(2) on a file of our own, which says who holds it."""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .disk import Folder
from .errors import LockedError

LOCK_NAME = "lock"
# A fixed length, so that a full disk never keeps the holder from being written.
_RECORD_SIZE = 512


def whoami() -> str:
    """This program as another operator should see it."""
    program = Path(sys.argv[0] or "python")
    # `python -m ocitui` runs a file that every package has.
    name = program.parent.name if program.name == "__main__.py" else program.name
    return f"{name} (process {os.getpid()}, {_user()}@{socket.gethostname()})"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@contextmanager
def hold_lock(own: Folder, doing: str) -> Iterator[None]:
    """Hold the lock of a cache's own folder. Raises LockedError, with the holder, when another program has it."""
    fd = os.open(LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=own.fd)
    try:
        _acquire(fd)
        _write_holder(fd, f"{whoami()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}: {doing}")
        yield
        _write_holder(fd, "")
    finally:
        os.close(fd)


def _acquire(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read_holder(fd)
        raise LockedError(f"the cache is locked by {holder}", holder=holder) from None


def _read_holder(fd: int) -> str:
    return os.pread(fd, _RECORD_SIZE, 0).decode(errors="replace").strip() or "another program"


def _write_holder(fd: int, holder: str) -> None:
    """Best effort: the lock is held all the same when there is no room to say so."""
    try:
        os.pwrite(fd, holder.encode()[: _RECORD_SIZE - 1].ljust(_RECORD_SIZE - 1) + b"\n", 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
