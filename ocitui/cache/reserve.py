"""Room kept aside, so that delete and undo work on a full disk.

Three files: one as large as the index needs, one for a transaction's record, both taken over in place and so safe from
whoever else fills the disk; and a small one that is given up for the blocks of growing directories.
"""

from __future__ import annotations

import os

from .disk import Disk, Folder

_INDEX, _RECORD, _ROOM = "reserve-index", "reserve-record", "reserve-room"
_SLACK = 1 << 16
_SMALLEST_RECORD, _LARGEST_RECORD = 1 << 18, 1 << 24


class Reserve:
    """The reserve in a cache's own folder; it is what `Disk` borrows from."""

    def __init__(self, disk: Disk, own: Folder) -> None:
        self._disk = disk
        self._own = own

    def lend_file(self, size: int) -> tuple[Folder, str] | None:
        """The smallest file kept aside that can hold ``size`` bytes; the caller moves it away and writes in place."""
        kept = [(found.st_size, name) for name in (_INDEX, _RECORD) if (found := self._own.lstat(name))]
        fitting = sorted(pair for pair in kept if pair[0] >= size)
        return (self._own, fitting[0][1]) if fitting else None

    def lend_room(self) -> bool:
        """Free the small file's blocks; False when they were given up before."""
        found = self._own.lstat(_ROOM)
        if found is None or not found.st_size:
            return False
        self._disk.unlink(self._own, _ROOM)
        return True

    def take_displaced(self, folder: Folder, name: str) -> None:
        """Keep a file that is no longer wanted as the room for the next index."""
        self._disk.replace(folder, name, self._own, _INDEX)

    def refill(self, index_size: int) -> None:
        """Make the files as large as they should be, as far as there is room."""
        record = min(max(2 * index_size, _SMALLEST_RECORD), _LARGEST_RECORD)
        for name, size in ((_INDEX, index_size + _SLACK), (_RECORD, record), (_ROOM, _SLACK)):
            found = self._own.lstat(name)
            if found is None or found.st_size < size or found.st_blocks * 512 < size:
                self._allocate(name, size)

    def _allocate(self, name: str, size: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._disk.step("allocate", name)
            with open(os.open(name, flags, 0o600, dir_fd=self._own.fd), "wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            # A reserve that cannot be had is no reason to fail what was asked for; the next transaction tries again.
            return
