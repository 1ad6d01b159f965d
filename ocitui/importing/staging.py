"""What imports make inside the cache's file system, so that storing it is a rename, and what is kept for them there.

Private folders, one for each import, lie in `.ocitui/import`, each locked by the program that uses it; one whose lock
is free was left by a program that died, and is removed at the next start.

Blobs that were downloaded or unpacked are kept until their image is in the cache, so that a pull can go on: in
`.ocitui/blobs`, as `DIGEST` whole, and as `DIGEST.partial`, locked by who writes it, on their way.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ocitui.cache import (
    INDEX_NAME,
    OWN_NAME,
    CacheError,
    Disk,
    Folder,
    StorageError,
    check_directory,
    hash_file,
    open_bounded,
    open_own_folder,
    storage_errors,
    usual_digest,
    wait_for_turn,
)
from ocitui.text import human_size
from ocitui.threads import Stop, in_thread, settled

from .errors import NoRoomError, UnsoundSourceError
from .sources.references import checked_digest

T = TypeVar("T")
_LEAST_FREE = 16 << 20
# The daemon writes its index anew at each store, and ocitui beside the old one.
_INDEXES = 3
_LONGEST_LOOK, _SHORTEST_LOOK = 0.5, 0.01
# No disk is filled faster than this, in bytes a second.
_FASTEST = 2 << 30


def minimum_free(directory: Path) -> int:
    """The bytes that an import leaves free: room for the daemon's and our own next writes."""
    try:
        return _LEAST_FREE + _INDEXES * os.stat(directory / INDEX_NAME).st_size
    except OSError:
        return _LEAST_FREE


def free_bytes(directory: Path) -> int:
    """What may still be written there. Raises StorageError."""
    with storage_errors("see how much room there is"):
        return shutil.disk_usage(directory).free


def check_room(directory: Path, size: int) -> None:
    """Raises NoRoomError where ``size`` bytes more would leave less than the minimum free, StorageError."""
    free, least = free_bytes(directory), minimum_free(directory)
    if free < size + least:
        raise NoRoomError(
            f"{human_size(size)} are to come in, {human_size(least)} are to stay free, and there are only "
            f"{human_size(free)}"
        )


async def while_there_is_room(directory: Path, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` gives; it is cancelled once less than the minimum is free. Raises NoRoomError, StorageError."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            # The more often, the less there is.
            spare = await asyncio.to_thread(lambda: free_bytes(directory) - minimum_free(directory))
            if spare < 0 and not task.done():
                raise NoRoomError(
                    f"less than {human_size(minimum_free(directory))} were left free, so the import was stopped before "
                    "the disk was full"
                )
            await asyncio.wait([task], timeout=min(max(spare / _FASTEST, _SHORTEST_LOOK), _LONGEST_LOOK))
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


_IMPORTS = "import"


@contextmanager
def staging_folder(directory: Path, disk: Disk | None = None) -> Iterator[Path]:
    """An empty folder of this program's own, which is removed at the end with what is still in it. Raises
    CacheDirectoryError, ReadOnlyError, StorageError, LockedError, ConflictError."""
    check_directory(directory)
    disk = disk or Disk()
    with import_folder(directory, disk, _IMPORTS) as parent:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        with storage_errors("make a folder to import into"), locked(parent):
            for left in parent.names():
                _remove_unheld(parent, disk, left)
            disk.make_folder(parent, name, 0o700)
            folder = parent.open_folder(name)
            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder.path
        finally:
            with suppress(OSError):
                disk.remove(parent, name)
            folder.close()


def remove_abandoned(directory: Path) -> int:
    """Remove what killed imports left; gives how many. Raises as `staging_folder`."""
    if not (directory / OWN_NAME / _IMPORTS).is_dir():
        return 0
    disk = Disk()
    with (
        storage_errors("remove what a killed import left"),
        import_folder(directory, disk, _IMPORTS) as parent,
        locked(parent),
    ):
        return sum(_remove_unheld(parent, disk, name) for name in parent.names())


@contextmanager
def import_folder(directory: Path, disk: Disk, name: str) -> Iterator[Folder]:
    """A folder inside `.ocitui`, made where it is not there, with the rights of the cache directory. Raises
    ReadOnlyError, StorageError, ConflictError; what is done in it has errors of its own."""
    with ExitStack() as stack:
        with storage_errors(f"make the folder {OWN_NAME}/{name}"):
            folder = stack.enter_context(open_own_folder(directory, name, making=disk))
        yield folder


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """So that nothing is seen between its making and its locking. Raises LockedError."""
    wait_for_turn(folder.fd, str(folder.path))
    try:
        yield
    finally:
        fcntl.flock(folder.fd, fcntl.LOCK_UN)


def _remove_unheld(parent: Folder, disk: Disk, name: str) -> bool:
    """Whether there was something that nobody holds; only folders are ever held."""
    try:
        with parent.open_folder(name) as folder:
            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):
                disk.remove(parent, name)
    except (FileNotFoundError, BlockingIOError):
        return False  # whoever held it removed it meanwhile, or holds it still
    except NotADirectoryError:
        disk.unlink(parent, name)
    return True


BlobProgress = Callable[[str, int, int], None]
"""Called with a blob's digest, its bytes that are there, and all its bytes; on the event loop."""


def unheard(digest: str, done: int, total: int) -> None:
    """The progress that nobody asked for."""


_BLOBS, _SUFFIX = "blobs", ".partial"
_CHUNK, _SYNCED_BYTES = 1 << 20, 8 << 20
# How often a blob is looked at that another program downloads.
_LOOK = 0.5


class BusyError(CacheError):
    """Another program has the file; raised and caught in here and where layers are unpacked."""

    code = "blob-busy"


class PartialBlob:
    """One blob on its way into the store: a file `DIGEST.partial` that grows, locked by who writes to it. ``done``
    counts its bytes, ``resumed`` those that were there at the start; ``report`` is called with ``done`` about once a
    megabyte. A download uses `append` and `flush`, which hash and write in a thread meanwhile; the rest works at once,
    and only while no `append` is under way."""

    def __init__(
        self, directory: Path, digest: str, size: int, disk: Disk, report: Callable[[int], None] = lambda done: None
    ) -> None:
        self.digest = digest
        self.size = size
        self.done = 0
        self.resumed = 0
        self._path = directory / f"{digest}{_SUFFIX}"
        self._fd = -1
        self._report = report
        self._disk = disk
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._gathered = bytearray()
        self._writing: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Open and lock the file; then `resume` or `restart`. Raises StorageError, ConflictError, and BusyError where
        another has the file, or removed or renamed it between opening and locking."""
        with storage_errors("write a blob"):
            with Folder.open(self._path.parent) as folder:
                self._fd = self._disk.open_own(folder, self._path.name)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                same = os.path.samestat(os.fstat(self._fd), self._path.lstat())
            except (BlockingIOError, FileNotFoundError):
                same = False
        if not same:
            raise BusyError(f"{self._path.name} is being downloaded by another program")

    def resume(self, stop: Stop) -> None:
        """Hash what is there, to go on from its end. Raises StorageError; AbandonedError once ``stop`` is set."""
        if os.fstat(self._fd).st_size > self.size:
            self.restart()
        with storage_errors("read a blob"):
            while chunk := os.read(self._fd, _CHUNK):
                stop.check()
                self._hash.update(chunk)
                self.done += len(chunk)
        self.resumed = self.done

    async def append(self, chunk: bytes) -> None:
        """Add bytes. Raises UnsoundSourceError for more than the blob has, StorageError."""
        self._count(chunk)
        self._gathered += chunk
        if len(self._gathered) >= _CHUNK:
            await self._write_gathered()

    async def flush(self) -> None:
        """Have all bytes in the file. Raises StorageError."""
        await self._write_gathered()
        await self._written()

    async def _write_gathered(self) -> None:
        """Begin to write what was gathered, once what was before is written."""
        await self._written()
        if self._gathered:
            chunk, self._gathered = memoryview(self._gathered), bytearray()
            self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, chunk))
            self._report(self.done)

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
            self._writing = None

    def write(self, chunk: bytes) -> None:
        """Add bytes. Raises as `append` does."""
        self._count(chunk)
        self._write(chunk)

    def _count(self, chunk: bytes) -> None:
        if self.done + len(chunk) > self.size:
            raise UnsoundSourceError(f"{self.digest} is sent with more than the {self.size} bytes of its descriptor")
        self.done += len(chunk)

    def _write(self, chunk: bytes | memoryview) -> None:
        self._hash.update(chunk)
        self._unsynced += len(chunk)
        with storage_errors("write a blob"):
            self._disk.write(self._fd, self._path.name, chunk)
            if self._unsynced >= _SYNCED_BYTES:
                # The disk has its work while the rest comes, not all of it at the end.
                self._unsynced = 0
                self._disk.sync(self._fd, self._path.name)

    def restart(self) -> None:
        """Begin again: nothing of what is there counts. Raises StorageError."""
        with storage_errors("write a blob"):
            self._disk.truncate(self._fd, self._path.name, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.done = self.resumed = 0

    @property
    def is_right(self) -> bool:
        """Whether the bytes are all there and have the digest."""
        return self.done == self.size and f"sha256:{self._hash.hexdigest()}" == self.digest

    def finish(self) -> Path:
        """Give the file its name, on the disk. Raises UnsoundSourceError for wrong bytes, which are removed."""
        with storage_errors("keep a blob"), Folder.open(self._path.parent) as folder:
            if not self.is_right:
                self._disk.unlink(folder, self._path.name)
                actual = f"sha256:{self._hash.hexdigest()}"
                raise UnsoundSourceError(f"{self.digest} is sent as {self.done} bytes of the digest {actual}")
            self._disk.sync(self._fd, self._path.name)
            self._disk.replace(folder, self._path.name, folder, self.digest)
            self._disk.sync_folder(folder)
        return self._path.with_name(self.digest)

    def close(self) -> None:
        """Keep what is in the file, and let go of it."""
        if self._fd >= 0:
            os.close(self._fd)


class StoredBlob(msgspec.Struct, frozen=True):
    """A file of the store; ``size`` is what there is of it."""

    digest: str
    size: int
    partial: bool
    path: Path


class Turn(msgspec.Struct):
    """What those who want the same thing have in common; ``result`` is what the one before left for who waits."""

    lock: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    wanted: int = 0
    result: object = None


Download = Callable[[PartialBlob], Awaitable[None]]
"""Appends to the blob what is missing; it is called only where something is."""


class BlobStore:
    """A folder of blobs in ``cache``, the directory; it is made when the first blob comes."""

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self.directory = directory / OWN_NAME / _BLOBS
        self.disk = disk or Disk()
        self.cache = directory
        self._turns: dict[Hashable, Turn] = {}
        self._watchers: list[tuple[str, BlobProgress]] = []
        self._wanted: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, key: Hashable, waits: Callable[[], None] = lambda: None) -> AsyncIterator[Turn]:
        """One at a time, in the order they came, of those who download one blob, unpack archives into the store, or
        import one image; ``waits`` is called where another has its turn."""
        turn = self._turns.setdefault(key, Turn())
        turn.wanted += 1
        try:
            if turn.lock.locked():
                waits()
            async with turn.lock:
                yield turn
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[key]

    async def when_free(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives, tried again for as long as another program has a blob."""
        while True:
            try:
                return await work()
            except BusyError:
                await asyncio.sleep(_LOOK)

    def stored(self) -> list[StoredBlob]:
        """What the store holds, by digest. Raises StorageError."""
        blobs = []
        with storage_errors("look at the blobs"):
            for name in sorted(os.listdir(self.directory)) if self.directory.is_dir() else []:
                digest, path = name.removesuffix(_SUFFIX), self.directory / name
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue
                if usual_digest(digest) and stat.S_ISREG(found.st_mode):
                    blobs.append(StoredBlob(digest, found.st_size, name != digest, path))
        return blobs

    def size(self) -> int:
        """The bytes of all blobs. Raises StorageError."""
        return sum(blob.size for blob in self.stored())

    def kept_of(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """The bytes of these blobs that need not be fetched, and the blobs that are whole. Raises StorageError."""
        there = {blob.digest: blob.size for blob in self.stored()}
        kept = [(min(there.get(digest, 0), size), size) for digest, size in sizes.items()]
        return sum(here for here, _ in kept), sum(here == size for here, size in kept)

    def clear(self, digests: Iterable[str] | None = None) -> int:
        """Remove these blobs, or all, none `wanted`, held or being written; gives the bytes. Raises StorageError."""
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
        """Keep what of these the store holds from being cleared; false where one is gone. Raises StorageError."""
        with ExitStack() as stack:
            with storage_errors("hold blobs"):
                mine = {path for path in paths if path.parent == self.directory}
                held = [_hold(path, stack) for path in sorted(mine)]
            yield all(held)

    def make_directory(self) -> None:
        """Raises StorageError, ConflictError."""
        with storage_errors("make the folder for blobs"), open_own_folder(self.cache, _BLOBS, making=self.disk):
            pass

    def find_whole(self, digest: str, size: int, stop: Stop) -> Path | None:
        """The whole blob, read again to see that it is sound, else removed. Raises UnsoundSourceError where the size is
        not that of the digest's bytes, StorageError, AbandonedError."""
        path = self.directory / checked_digest(digest)
        with storage_errors("read a blob"), suppress(FileNotFoundError):
            with open_bounded(path, follow=False) as file:
                if f"sha256:{hash_file(file, lambda _: stop.check())}" == digest:
                    if (there := os.fstat(file.fileno()).st_size) != size:
                        raise UnsoundSourceError(f"{digest} is told of with {size} bytes, and has {there}")
                    return path
            self._unlink(path.name)
        return None

    def lend(self, digest: str, path: Path) -> bool:
        """Give a whole blob a second name; false where another program cleared it meanwhile. Raises StorageError."""
        with storage_errors("take a blob"), suppress(FileNotFoundError), Folder.open(path.parent) as parent:
            with Folder.open(self.directory) as folder:
                self.disk.link(folder, digest, parent, path.name)
            return True
        return False

    @contextmanager
    def giving(self, digest: str, path: Path) -> Iterator[None]:
        """Have what was lent by its second name alone, as a file of several names is copied, not moved into a cache;
        where it is still under that name at the end, the blob is there again. Raises StorageError."""
        with storage_errors("give a blob away"), suppress(FileNotFoundError):
            self._unlink(digest)
        try:
            yield
        finally:
            with suppress(OSError), Folder.open(path.parent) as parent, Folder.open(self.directory) as folder:
                self.disk.link(parent, path.name, folder, digest)

    def _unlink(self, name: str) -> None:
        with Folder.open(self.directory) as folder:
            self.disk.unlink(folder, name)

    def _remove_unlocked(self, path: Path) -> bool:
        with suppress(FileNotFoundError, BlockingIOError), open_bounded(path, follow=False) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._unlink(path.name)
            return True
        return False

    async def fetch(self, digest: str, size: int, download: Download, progress: BlobProgress = unheard) -> Path:
        """The path of the whole blob; what is missing comes by ``download``. Who wants a blob that another downloads
        has a share in it; where that one is cancelled or fails, the next goes on with what came, by its own. Raises
        StorageError, UnsoundSourceError where the bytes have another digest, and what ``download`` raises."""
        watcher = (checked_digest(digest), progress)
        self._watchers.append(watcher)
        try:
            async with self.turn(digest) as turn:
                if turn.result is None:
                    turn.result = await self.when_free(lambda: self._bring(digest, size, download))
            watcher[1](digest, size, size)
            return self.directory / digest
        finally:
            self._watchers.remove(watcher)

    async def _bring(self, digest: str, size: int, download: Download) -> Path:
        """What came is kept where it does not come to its end, to the last byte. Raises BusyError, and as `fetch`."""
        if whole := await in_thread(lambda stop: self.find_whole(digest, size, stop)):
            return whole
        self.make_directory()

        def report(done: int) -> None:
            for watched, progress in self._watchers:
                if watched == digest:
                    progress(digest, done, size)

        with closing(PartialBlob(self.directory, digest, size, self.disk, report)) as blob:
            try:
                blob.open()
                await in_thread(blob.resume)
                if blob.done < blob.size:
                    await download(blob)
                    await blob.flush()
                if blob.resumed and not blob.is_right and blob.done == blob.size:
                    # What was left by an earlier pull turns out to be wrong.
                    blob.restart()
                    await download(blob)
                    await blob.flush()
                return await in_thread(lambda _: blob.finish())
            finally:
                with suppress(StorageError):
                    await settled(blob.flush())


def _hold(path: Path, stack: ExitStack) -> bool:
    """Whether the file is there and now locked, so that `clear` leaves it."""
    with suppress(FileNotFoundError):
        file = stack.enter_context(open_bounded(path, follow=False))
        fcntl.flock(file, fcntl.LOCK_SH)
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False
