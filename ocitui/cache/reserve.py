"""Room kept aside, so that delete and undo work on a full disk.

A file as large as the index needs, one for the record of a large transaction, and small ones, each for the record of a
small transaction or to be given up for the block by which a directory grows. A file is taken over and written in
place, and so is safe from whoever else fills the disk.
"""

from __future__ import annotations

import os

from .disk import Disk, Folder

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
