"""One blob on its way into the store: a file `DIGEST.partial` that grows, locked by who writes to it.

Its bytes are hashed as they come. Writing and hashing run in a thread while the next bytes are received.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ocitui.cache import CacheError
from ocitui.cache.disk import Disk, Folder, storage_errors

from .errors import UnsoundSourceError

SUFFIX = ".partial"
_CHUNK = 1 << 20
Report = Callable[[int], None]


class BusyError(CacheError):
    """Another program has the file; raised and caught in here."""

    code = "blob-busy"


class PartialBlob:
    """The file of one blob. ``done`` counts the bytes that are there; ``resumed`` of them were there at the start.

    ``report`` is called with ``done`` each time that it grew by about a megabyte, and at the end.
    """

    def __init__(self, path: Path, digest: str, size: int, fd: int, report: Report, disk: Disk) -> None:
        self.digest = digest
        self.size = size
        self.done = 0
        self.resumed = 0
        self._path = path
        self._fd = fd
        self._report = report
        self._disk = disk
        self._hash = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._held = 0
        self._writing: asyncio.Future[None] | asyncio.Future[Path] | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        digest: str,
        size: int,
        report: Report = lambda done: None,
        disk: Disk | None = None,
    ) -> PartialBlob:
        """Open and lock the blob's file, and hash what is there. Raises BusyError, StorageError, ConflictError."""
        path, disk = directory / f"{digest}{SUFFIX}", disk or Disk()
        with storage_errors("write a blob"):
            with Folder.open(directory) as folder:
                fd = disk.open_own(folder, path.name)
            try:
                _lock(fd, path)
                blob = cls(path, digest, size, fd, report, disk)
                blob._take_what_is_there()
            except BaseException:
                os.close(fd)
                raise
        return blob

    def _take_what_is_there(self) -> None:
        there = os.fstat(self._fd).st_size
        if there > self.size:
            self._disk.truncate(self._fd, self._path.name, 0)
        while chunk := os.read(self._fd, _CHUNK):
            self._hash.update(chunk)
            self.done += len(chunk)
        self.resumed = self.done

    async def append(self, chunk: bytes) -> None:
        """Add bytes. Raises UnsoundSourceError for more than the blob has, StorageError."""
        self._check_size(len(chunk))
        self.done += len(chunk)
        self._gathered.append(chunk)
        self._held += len(chunk)
        if self._held >= _CHUNK:
            await self._write_gathered()

    def append_here(self, chunk: bytes) -> None:
        """The same, at once and in this thread."""
        self._check_size(len(chunk))
        self.done += len(chunk)
        self._write(chunk)

    def _check_size(self, more: int) -> None:
        if self.done + more > self.size:
            raise UnsoundSourceError(f"{self.digest} is sent with more than the {self.size} bytes of its descriptor")

    async def flush(self) -> None:
        """Have all bytes in the file. Raises StorageError."""
        await self._write_gathered()
        await self._written()

    async def _write_gathered(self) -> None:
        """Begin to write what was gathered, once what was before is written."""
        await self._written()
        if self._gathered:
            self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, *self._taken()))
            self._report(self.done)

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
            self._writing = None

    def _taken(self) -> list[bytes]:
        chunks, self._gathered, self._held = self._gathered, [], 0
        return chunks

    def _write(self, *chunks: bytes) -> None:
        chunk = b"".join(chunks)
        self._hash.update(chunk)
        with storage_errors("write a blob"):
            self._disk.write(self._fd, self._path.name, chunk)

    async def restart(self) -> None:
        """Begin again: nothing of what is there counts. Raises StorageError."""
        await self._written()
        self._taken()
        self.restart_here()

    def restart_here(self) -> None:
        """The same, in this thread."""
        with storage_errors("write a blob"):
            self._disk.truncate(self._fd, self._path.name, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.done = self.resumed = 0

    @property
    def is_right(self) -> bool:
        """Whether the bytes are all there and have the digest; to be asked once all is in the file."""
        return self.done == self.size and f"sha256:{self._hash.hexdigest()}" == self.digest

    async def finish(self) -> Path:
        """Give the file its name, on the disk. Raises UnsoundSourceError for wrong bytes, which are removed."""
        finishing = asyncio.ensure_future(asyncio.to_thread(self.finish_here))
        self._writing = finishing
        return await asyncio.shield(finishing)

    def finish_here(self) -> Path:
        """The same, in this thread."""
        with storage_errors("keep a blob"), Folder.open(self._path.parent) as folder:
            if not self.is_right:
                self._disk.unlink(folder, self._path.name)
                actual = f"sha256:{self._hash.hexdigest()}"
                raise UnsoundSourceError(f"{self.digest} is sent as {self.done} bytes of the digest {actual}")
            self._disk.sync(self._fd, self._path.name)
            self._disk.replace(folder, self._path.name, folder, self.digest)
            self._disk.sync_folder(folder)
        return self._path.with_name(self.digest)

    async def close(self) -> None:
        """Keep what came so far, and let go of the file."""
        try:
            await self._settle()
        finally:
            self.close_here()

    async def _settle(self) -> None:
        """Wait for the thread, and write the rest: a blob that is given up is resumed from its last byte."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
            failed = self._writing.cancelled() or self._writing.exception() is not None
            self._writing = None
            if failed:
                return
        if self._gathered:
            self._write(*self._taken())

    def close_here(self) -> None:
        """The same, in this thread."""
        os.close(self._fd)


def _lock(fd: int, path: Path) -> None:
    """Raises BusyError where another has the file, or removed or renamed it between opening and locking."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same = os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except (BlockingIOError, FileNotFoundError):
        same = False
    if not same:
        raise BusyError(f"{path.name} is being downloaded by another program")
