"""Private folders inside the cache's file system, one for each import, so that storing what was made is a rename.

They lie in `.ocitui/import`, each locked by the program that uses it; one whose lock is free was left by a program
that died, and is removed at the next start.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ocitui.cache.disk import Disk, Folder, storage_errors
from ocitui.cache.files import OWN_NAME, check_directory

from .errors import SourceError
from .room import check_room

Progress = Callable[[int, int], None]
"""Called with the bytes copied and the bytes there are; from a thread of its own."""

_FOLDER = "import"
_CHUNK = 1 << 20


class StoppedError(Exception):
    """Nobody waits for the copy any more."""


@contextmanager
def staging_folder(directory: Path) -> Iterator[Path]:
    """An empty folder of this program's own, which is removed at the end with what is still in it.

    Raises CacheDirectoryError, ReadOnlyError, StorageError.
    """
    check_directory(directory)
    with own_folder(directory, _FOLDER) as parent:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        with storage_errors("make a folder to import into"):
            lock = _new_folder(parent, name)
        try:
            yield parent.path / name
        finally:
            shutil.rmtree(parent.path / name, ignore_errors=True)
            os.close(lock)


@contextmanager
def staged_copy(directory: Path, source: Path, progress: Progress | None, stop: threading.Event) -> Iterator[Path]:
    """The path of a copy of ``source``, which is removed at the end unless it was moved into the cache.

    Raises CacheDirectoryError, ReadOnlyError, StorageError, NoRoomError, SourceError, StoppedError.
    """
    with staging_folder(directory) as folder, storage_errors("stage the packed file"):
        check_room(directory, _size(source))
        copy = folder / "packed"
        with open(copy, "xb", buffering=0) as file:
            _copy(source, file.fileno(), progress, stop)
        yield copy


def remove_abandoned(directory: Path) -> int:
    """Remove what imports left that were killed; gives how many there were. Raises ReadOnlyError, StorageError."""
    if not (directory / OWN_NAME / _FOLDER).is_dir():
        return 0
    with (
        storage_errors("remove what a killed import left"),
        own_folder(directory, _FOLDER) as parent,
        locked(parent),
    ):
        return _remove_abandoned(parent)


@contextmanager
def own_folder(directory: Path, name: str) -> Iterator[Folder]:
    """A folder inside `.ocitui`, made where it is not there, with the rights of the cache directory.

    Raises CacheDirectoryError, ReadOnlyError, StorageError; what is done in it has errors of its own.
    """
    with ExitStack() as stack:
        with storage_errors(f"make the folder {OWN_NAME}/{name}"):
            folder = _open_own_folder(directory, name, stack)
        yield folder


def _open_own_folder(directory: Path, name: str, stack: ExitStack) -> Folder:
    disk = Disk()
    root = stack.enter_context(Folder.open(directory))
    mode = stat.S_IMODE(os.fstat(root.fd).st_mode) & 0o777
    _make_folder(disk, root, OWN_NAME, mode)
    own = stack.enter_context(root.open_folder(OWN_NAME))
    _make_folder(disk, own, name, mode)
    return stack.enter_context(own.open_folder(name))


def _make_folder(disk: Disk, parent: Folder, name: str, mode: int) -> None:
    # Another program may make it at the same moment.
    with suppress(FileExistsError):
        disk.make_folder(parent, name, mode)


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """So that nothing is seen between its making and its locking."""
    fcntl.flock(folder.fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(folder.fd, fcntl.LOCK_UN)


def _new_folder(parent: Folder, name: str) -> int:
    """Make a folder, once those that nobody holds are removed; gives the descriptor that holds its lock."""
    with locked(parent):
        _remove_abandoned(parent)
        os.mkdir(name, 0o700, dir_fd=parent.fd)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd


def _remove_abandoned(parent: Folder) -> int:
    return sum(_remove_unheld(parent, name) for name in parent.names())


def _remove_unheld(parent: Folder, name: str) -> bool:
    """Whether there was something that nobody holds; only folders are ever held."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.fd)
    except FileNotFoundError:
        return False  # whoever held it removed it meanwhile
    except NotADirectoryError:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent.fd)
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(name, ignore_errors=True, dir_fd=parent.fd)
        return True
    finally:
        os.close(fd)


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise SourceError(f"cannot read {source}: {error.strerror}") from error


def _copy(source: Path, fd: int, progress: Progress | None, stop: threading.Event) -> None:
    """Copy all of ``source``. Raises SourceError where it changes meanwhile."""
    with open(source, "rb") as original:
        before = os.fstat(original.fileno())
        done = 0
        while chunk := original.read(_CHUNK):
            if stop.is_set():
                raise StoppedError
            _write(fd, chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, before.st_size)
        after = os.fstat(original.fileno())
    if done != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise SourceError(f"{source} changed while it was read", hint="try again once nothing writes to it")


def _write(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]
