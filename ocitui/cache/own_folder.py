"""`.ocitui`, ocitui's own folder inside a cache, and the folders in it: opened without following a link, and only where
they are root's or the user's own. And the locks between such programs: flock(2) on files that say who holds them."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .actor import whoami
from .disk import NO_ROOM, Disk, Folder, ForeignFileError, is_trusted
from .errors import ConflictError, LockedError
from .files import OWN_NAME, closing

if TYPE_CHECKING:
    from .journal import Journal

ASIDE_NAME = "aside"
"""Where a writer puts what may not be acted on."""
LINES_NAME = "lines"
"""What is inside packed files, as `contents` keeps it; nothing is lost with it."""
LOCK_NAME, _DRAFT = "lock", "lock.temporary"
# A fixed length, so that a full disk never keeps the holder from being written.
_RECORD_SIZE = 512
# What opening gives for a pipe, a directory, a link and a socket.
_NO_FILE = (errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENXIO)
_TURN_SECONDS, _PAUSE = 10.0, 0.01
_TAKEN_HINT = "it belongs to ocitui; move what stands there aside"


@contextmanager
def open_own_folder(directory: Path, *names: str, making: Disk | None = None) -> Iterator[Folder]:
    """`.ocitui`, or the folder of these names in it; what is absent is made where that says by which disk, with the
    rights of the cache directory. Raises OSError: FileNotFoundError where there is none, ForeignFileError where it is
    another user's; ConflictError where something else has its name."""
    with ExitStack() as stack:
        folder = stack.enter_context(Folder.open(directory))
        for name in (OWN_NAME, *names):
            folder = stack.enter_context(enter(folder, name, making))
        yield folder


@contextmanager
def open_journal(directory: Path) -> Iterator[Journal]:
    """The journal, to read without the lock; empty for none, or another user's. Raises OSError, ConflictError."""
    # The records' types are many, and whoever only reads a file of ours needs none.
    from .journal import JOURNAL_NAME, Journal

    with ExitStack() as stack:
        try:
            folder = stack.enter_context(open_own_folder(directory, JOURNAL_NAME))
        except (FileNotFoundError, ForeignFileError):
            yield Journal(Disk(), Folder(-1, directory), [])
        else:
            yield Journal(Disk(), folder)


def enter(parent: Folder, name: str, making: Disk | None = None) -> Folder:
    """Open a folder of ours, in which files of other users are not read; made durably where it is absent and ``making``
    says by which disk. Raises OSError, ConflictError."""
    if making is not None and making.make_folder(parent, name):
        making.sync_folder(parent)
    try:
        folder = parent.open_folder(name)
    except NotADirectoryError:
        raise ConflictError(f"{parent.path / name} is not a directory of its own", hint=_TAKEN_HINT) from None
    if not is_trusted(found := folder.stat()):
        folder.close()
        raise ForeignFileError(found, folder.path)
    folder.guarded = True
    return folder


@contextmanager
def hold_lock(own: Folder, disk: Disk, doing: str) -> Iterator[None]:
    """Hold the lock of a cache's own folder. Raises LockedError, with the holder, ConflictError for no file of ours."""
    with ExitStack() as stack:
        fd = _lock(own, disk, stack)
        if os.fstat(fd).st_nlink > 1:
            # A snapshot made of hard links has it too, and is not to be written.
            fd = _lock_anew(own, disk, stack)
        _write_holder(fd, f"{whoami()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}: {doing}")
        yield
        _write_holder(fd, "")


def _lock(own: Folder, disk: Disk, stack: ExitStack) -> int:
    """The lock's file, open and locked as long as the stack stands. Raises LockedError, ConflictError."""
    while True:
        try:
            fd = disk.open_own(own, LOCK_NAME, own.file_mode)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            raise ConflictError(f"{own.path / LOCK_NAME} is not a file of its own", hint=_TAKEN_HINT) from error
        stack.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, _RECORD_SIZE, 0).decode(errors="replace").strip() or "another program"
            raise LockedError(f"the cache is locked by {holder}", holder=holder) from None
        there = own.lstat(LOCK_NAME)
        if there is not None and os.path.samestat(there, os.fstat(fd)):
            return fd


def _lock_anew(own: Folder, disk: Disk, stack: ExitStack) -> int:
    """Another file in the place of the lock, which stays held: who waits at the old one sees that it is no more."""
    disk.unlink(own, _DRAFT)
    fd = disk.create(own, _DRAFT, own.file_mode)
    stack.callback(os.close, fd)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    disk.replace(own, _DRAFT, own, LOCK_NAME)
    return fd


@contextmanager
def taking_turns(own: Folder, disk: Disk, name: str) -> Iterator[None]:
    """Hold the lock of that name, alone of all programs, for the moment that a write takes. Raises LockedError."""
    with closing(disk.open_own(own, name, own.file_mode)) as fd:
        wait_for_turn(fd, str(own.path / name))
        yield


def wait_for_turn(fd: int, name: str) -> None:
    """Lock an open file or directory that is only ever held for a moment. Raises LockedError."""
    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                told = f"another program holds {name} for too long"
                raise LockedError(told, hint="see with fuser what it is") from None
        time.sleep(_PAUSE)


def _write_holder(fd: int, holder: str) -> None:
    """Best effort: the lock is held all the same when there is no room to say so."""
    try:
        os.pwrite(fd, holder.encode(errors="replace")[: _RECORD_SIZE - 1].ljust(_RECORD_SIZE - 1) + b"\n", 0)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
