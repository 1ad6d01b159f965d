"""A cache's folders, open and locked, for one writer."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .disk import Disk, Folder, storage_errors
from .errors import ConflictError
from .files import OWN_NAME, check_directory
from .index_file import IndexFile
from .journal import Journal
from .lock import hold_lock

_INDEX, _RECORD = "reserve-index", "reserve-record"
_SMALL = tuple(f"reserve-{number}" for number in range(32))
_SMALL_SIZE = 1 << 13
_SLACK = 1 << 16
_LARGEST_RECORD = 1 << 24
# Left to the daemon, whose next store else truncates its own index and cannot write it.
_LEFT_FREE = 1 << 20


class Reserve:
    """The reserve in a cache's own folder; it is what `Disk` borrows from."""

    def __init__(self, disk: Disk, own: Folder) -> None:
        self._disk = disk
        self._own = own

    def lend_file(self, size: int) -> tuple[Folder, str] | None:
        """The smallest file kept aside that can hold ``size`` bytes; the caller moves it away and writes in place."""
        kept = [(self._room(name), name) for name in (*_SMALL, _INDEX, _RECORD)]
        fitting = min((pair for pair in kept if pair[0] >= size), default=None)
        return (self._own, fitting[1]) if fitting else None

    def lend_room(self) -> bool:
        """Free a small file's blocks; False when all were given up before."""
        for name in _SMALL:
            if self._own.lstat(name) is not None:
                self._disk.unlink(self._own, name)
                return True
        return False

    def take_displaced(self, folder: Folder, name: str) -> None:
        """Keep a file that is no longer wanted as the room for the next index, unless there is as much already."""
        found = folder.lstat(name)
        if found is not None and self._room(_INDEX) >= found.st_size:
            self._disk.unlink(folder, name)
        else:
            self._disk.replace(folder, name, self._own, _INDEX)

    def refill(self, index_size: int) -> None:
        """Make the files as large as they should be, as far as there is room."""
        record = min(2 * index_size + _SLACK, _LARGEST_RECORD)
        wanted = [(name, _SMALL_SIZE) for name in _SMALL] + [(_INDEX, index_size + _SLACK), (_RECORD, record)]
        for name, size in wanted:
            missing = size - self._room(name)
            # As the index grows the reserve follows from time to time, not at each store.
            if missing > min(_SLACK, size) // 2 and self._free() - missing > _LEFT_FREE + index_size:
                self._allocate(name, size)

    def _room(self, name: str) -> int:
        """How many bytes can be written to a file without a new block."""
        found = self._own.lstat(name)
        return 0 if found is None else min(found.st_size, found.st_blocks * 512)

    def _free(self) -> int:
        found = os.fstatvfs(self._own.fd)
        return found.f_bavail * found.f_frsize

    def _allocate(self, name: str, size: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._disk.step("allocate", name)
            with open(os.open(name, flags, 0o600, dir_fd=self._own.fd), "wb", buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            # A reserve that cannot be had is no reason to fail what was asked for; the next transaction tries again.
            return


_JOURNAL, _TRASH, _STAGING = "journal", "trash", "staging"


@dataclass(slots=True)
class Workspace:
    """``root`` is the cache directory; the others are ours, in `.ocitui` inside it.

    ``index_changed`` is whether an index was written here; ``published`` is the last one, with the signature by which
    its file is known again, None where somebody else is in it. ``compared_only`` is whether the file system could not
    exchange two files, so that the index was compared and replaced.
    """

    directory: Path
    root: Folder
    own: Folder
    trash: Folder
    staging: Folder
    journal: Journal
    disk: Disk
    reserve: Reserve
    published: IndexFile | None = None
    index_changed: bool = False
    compared_only: bool = False

    def sync(self) -> None:
        """Make every file's arrival in the trash or in the cache durable."""
        for folder in (self.trash, self.root):
            self.disk.sync_folder(folder)


@contextmanager
def open_workspace(directory: Path, disk: Disk, doing: str) -> Iterator[Workspace]:
    """Open and lock a cache for writing. Raises LockedError, CacheDirectoryError, ReadOnlyError, StorageError."""
    check_directory(directory)
    with ExitStack() as stack:
        with storage_errors(doing):
            root = stack.enter_context(Folder.open(directory))
            own = stack.enter_context(_own_folder(root, disk))
            stack.enter_context(hold_lock(own, doing))
            disk.lender = reserve = Reserve(disk, own)
            stack.callback(setattr, disk, "lender", None)
            journal, trash, staging = (
                stack.enter_context(_subfolder(own, name, disk)) for name in (_JOURNAL, _TRASH, _STAGING)
            )
        yield Workspace(directory, root, own, trash, staging, Journal(disk, journal), disk, reserve)


@contextmanager
def open_journal(directory: Path) -> Iterator[Journal | None]:
    """The journal for reading only, without the lock; None where there is none yet."""
    with ExitStack() as stack:
        try:
            root = stack.enter_context(Folder.open(directory))
            own = stack.enter_context(root.open_folder(OWN_NAME))
            folder = stack.enter_context(own.open_folder(_JOURNAL))
        except FileNotFoundError:
            yield None
            return
        yield Journal(Disk(), folder)


def _own_folder(root: Folder, disk: Disk) -> Folder:
    """Open `.ocitui`, made with the rights of the cache directory itself."""
    return _subfolder(root, OWN_NAME, disk)


def _subfolder(parent: Folder, name: str, disk: Disk) -> Folder:
    disk.make_folder(parent, name, stat.S_IMODE(os.fstat(parent.fd).st_mode) & 0o777)
    try:
        return parent.open_folder(name)
    except NotADirectoryError:
        raise ConflictError(
            f"{parent.path / name} is not a directory of its own",
            hint="it belongs to ocitui; move what stands there aside",
        ) from None


@contextmanager
def own_folder(directory: Path) -> Iterator[Folder]:
    """The folder, made where it is not there, with the rights of the cache directory. Raises OSError."""
    with Folder.open(directory) as root:
        # Another program may make it in the same moment.
        with suppress(FileExistsError):
            Disk().make_folder(root, OWN_NAME, stat.S_IMODE(os.fstat(root.fd).st_mode) & 0o777)
        with root.open_folder(OWN_NAME) as own:
            yield own


@contextmanager
def taking_turns(own: Folder, name: str) -> Iterator[None]:
    """Be the only one, of all programs, that holds the lock of that name: for the moment that a write takes."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o644, dir_fd=own.fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
