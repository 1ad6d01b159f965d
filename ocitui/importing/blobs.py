"""Blobs that were downloaded or unpacked, kept until their image is in the cache, so that a pull can go on.

A folder of `DIGEST` for whole blobs and `DIGEST.partial` for those on their way, digests being `sha256:` and 64
hexadecimal digits. Two programs may use it at once: who writes a partial blob has it locked.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import CacheError
from ocitui.cache.disk import Disk, Folder, storage_errors
from ocitui.cache.files import OWN_NAME
from ocitui.cache.ledger import hash_file
from ocitui.cache.own_folder import make_own_folder

from .errors import UnsoundSourceError
from .sources.references import is_digest

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


Download = Callable[[PartialBlob], Awaitable[None]]
"""Appends to the blob what is missing; it is called only where something is."""
Progress = Callable[[str, int, int], None]
Sleep = Callable[[float], Awaitable[None]]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# How often a blob is looked at that another program downloads.
_LOOK = 0.5


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A file of the store; ``size`` is what there is of it."""

    digest: str
    size: int
    partial: bool
    path: Path


@dataclass(eq=False, frozen=True, slots=True)
class _Waiter:
    """One who wants a blob, and could download it."""

    download: Download
    progress: Progress


class _Shared:
    """A download and those who wait for it, one of whom (the first) carries it out."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Path] | None = None
        self.carrier: _Waiter | None = None
        self.waiters: list[_Waiter] = []

    def report(self, digest: str, done: int, total: int) -> None:
        for waiter in self.waiters:
            waiter.progress(digest, done, total)


class BlobStore:
    """A folder of blobs; it is made when the first blob comes."""

    def __init__(self, directory: Path, *, sleep: Sleep = asyncio.sleep, disk: Disk | None = None) -> None:
        self.directory = directory
        self.disk = disk or Disk()
        self._sleep = sleep
        self._running: dict[str, _Shared] = {}
        self._wanted: Counter[str] = Counter()
        self.unpacking = asyncio.Lock()
        """Held by who unpacks an archive into the store, so that two of them unpack it once."""

    async def pause(self) -> None:
        """Wait a little for another program that has a blob."""
        await self._sleep(_LOOK)

    def stored(self) -> list[StoredBlob]:
        """What the store holds, by digest. Raises StorageError."""
        blobs = []
        with storage_errors("look at the blobs"):
            for name in sorted(os.listdir(self.directory)) if self.directory.is_dir() else []:
                digest, path = name.removesuffix(SUFFIX), self.directory / name
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue
                if is_digest(digest) and stat.S_ISREG(found.st_mode):
                    blobs.append(StoredBlob(digest, found.st_size, name != digest, path))
        return blobs

    def size(self) -> int:
        """The bytes of all blobs. Raises StorageError."""
        return sum(blob.size for blob in self.stored())

    def clear(self, digests: Iterable[str] | None = None) -> int:
        """Remove these blobs, or all; those that are `wanted`, held or being written stay. Gives the bytes.

        Raises StorageError.
        """
        given = None if digests is None else set(digests)
        freed = 0
        with storage_errors("remove blobs"):
            for blob in self.stored():
                goes = (given is None or blob.digest in given) and not self._wanted[blob.digest]
                if goes and self._remove_unlocked(blob.path):
                    freed += blob.size
        return freed

    @contextmanager
    def wanted(self, digests: Iterable[str]) -> Iterator[None]:
        """Keep these from being cleared through this store, those too that are yet to come."""
        mine = Counter(set(digests))
        self._wanted += mine
        try:
            yield
        finally:
            self._wanted -= mine

    @contextmanager
    def held(self, paths: Iterable[Path]) -> Iterator[bool]:
        """Keep those of these files that are blobs of the store from being cleared, by whatever program.

        Gives false where one of them is gone already. Raises StorageError.
        """
        with ExitStack() as stack:
            with storage_errors("hold blobs"):
                mine = {path for path in paths if path.parent == self.directory}
                held = [_hold(path, stack) for path in sorted(mine)]
            yield all(held)

    def make_directory(self) -> None:
        """Raises StorageError, ConflictError."""
        parent = self.directory.parent
        with storage_errors("make the folder for blobs"):
            if parent.name == OWN_NAME:
                with make_own_folder(parent.parent, self.disk, self.directory.name):
                    return
            with Folder.open(parent) as folder:
                self.disk.make_folder(folder, self.directory.name)

    def find_whole(self, digest: str, size: int) -> Path | None:
        """The whole blob, read once more to see that it is sound; one that is not is removed. Raises StorageError."""
        path = self.directory / _checked(digest)
        with storage_errors("read a blob"):
            try:
                fd = os.open(path, _OPEN)
            except FileNotFoundError:
                return None
            with open(fd, "rb", buffering=0) as file:
                if os.fstat(fd).st_size == size and f"sha256:{hash_file(file, _ignore)}" == digest:
                    return path
            self._unlink(path.name)
        return None

    def _unlink(self, name: str) -> None:
        with Folder.open(self.directory) as folder:
            self.disk.unlink(folder, name)

    def _remove_unlocked(self, path: Path) -> bool:
        try:
            fd = os.open(path, _OPEN)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._unlink(path.name)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(fd)

    async def fetch(self, digest: str, size: int, download: Download, progress: Progress | None = None) -> Path:
        """The path of the whole blob; what is missing comes by ``download``. All who want a blob share one download,
        which ends when the last of them is cancelled; what came is kept.

        Raises StorageError, UnsoundSourceError where the bytes have another digest, and what ``download`` raises.
        """
        _checked(digest)
        waiter = _Waiter(download, progress or _ignore)
        shared = self._running.setdefault(digest, _Shared())
        shared.waiters.append(waiter)
        if shared.task is None:
            self._carry(shared, waiter, digest, size)
        try:
            return await _result(shared)
        finally:
            shared.waiters.remove(waiter)
            await self._leave(shared, waiter, digest, size)

    def _carry(self, shared: _Shared, waiter: _Waiter, digest: str, size: int) -> None:
        """Have this waiter download, once who did so before has let go of the blob."""
        before, shared.carrier = shared.task, waiter
        shared.task = asyncio.create_task(self._bring(digest, size, waiter.download, shared.report, before))

    async def _leave(self, shared: _Shared, waiter: _Waiter, digest: str, size: int) -> None:
        """End a download that nobody waits for any more; others go on with what they brought along.

        For whoever leaves may close the connections that it ran over.
        """
        task = shared.task
        assert task is not None
        if not shared.waiters and self._running.get(digest) is shared:
            del self._running[digest]
        if task.done():
            _look_at(task)
        elif not shared.waiters or shared.carrier is waiter:
            if shared.waiters:
                self._carry(shared, shared.waiters[0], digest, size)
            task.cancel()
            await asyncio.wait([task])
            _look_at(task)

    async def _bring(
        self, digest: str, size: int, download: Download, progress: Progress, before: asyncio.Task[Path] | None
    ) -> Path:
        if before is not None:
            await asyncio.wait([before])
        whole = await asyncio.to_thread(self.find_whole, digest, size)
        if whole is None:
            self.make_directory()
            whole = await self._download(digest, size, download, progress)
        progress(digest, size, size)
        return whole

    async def _download(self, digest: str, size: int, download: Download, progress: Progress) -> Path:
        while True:
            try:
                partial = await self._open(digest, size, progress)
                break
            except BusyError:
                await self.pause()
                if whole := await asyncio.to_thread(self.find_whole, digest, size):
                    return whole
        try:
            return await _fill(partial, download)
        finally:
            await partial.close()

    async def _open(self, digest: str, size: int, progress: Progress) -> PartialBlob:
        def report(done: int) -> None:
            progress(digest, done, size)

        opening = asyncio.ensure_future(
            asyncio.to_thread(PartialBlob.open, self.directory, digest, size, report, self.disk)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            if not opening.cancelled() and opening.exception() is None:
                opening.result().close_here()
            raise


async def _result(shared: _Shared) -> Path:
    """What the download gives, whoever carries it out in the end."""
    while True:
        task, me = shared.task, asyncio.current_task()
        assert task is not None
        assert me is not None
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if me.cancelling() or shared.task is task:
                raise


async def _fill(partial: PartialBlob, download: Download) -> Path:
    """Download and finish; what was left by an earlier pull and turns out to be wrong is downloaded once more."""
    if partial.done < partial.size:
        await download(partial)
        await partial.flush()
    if partial.resumed and not partial.is_right and partial.done == partial.size:
        await partial.restart()
        await download(partial)
        await partial.flush()
    return await partial.finish()


def _checked(digest: str) -> str:
    if not is_digest(digest):
        raise UnsoundSourceError(f"{digest[:80]!r} is no sha256 digest")
    return digest


def _hold(path: Path, stack: ExitStack) -> bool:
    """Whether the file is there and now locked, so that `clear` leaves it."""
    try:
        fd = os.open(path, _OPEN)
        stack.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_SH)
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _look_at(task: asyncio.Task[Path]) -> None:
    """So that an error that nobody waits for is not reported as never looked at."""
    if not task.cancelled():
        task.exception()


def _ignore(*_: object) -> None:
    """Progress that nobody wants."""
