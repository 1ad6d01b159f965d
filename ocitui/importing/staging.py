"""A private copy of a source inside the cache, so that storing it is a rename and the source stays as it is.

Copies lie in `.ocitui/import`, each locked by the program that makes it; one whose lock is free was left by a program
that died, and is removed by the next import.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from ocitui.cache.disk import Disk, Folder, storage_errors
from ocitui.cache.files import OWN_NAME, check_directory

from .errors import NoRoomError, SourceError

Progress = Callable[[int, int], None]
"""Called with the bytes copied and the bytes there are; from a thread of its own."""

_FOLDER = "import"
_CHUNK = 1 << 20
# What an import leaves free, so that the daemon's and our own next writes find room.
_MARGIN = 16 << 20


class StoppedError(Exception):
    """Nobody waits for the copy any more."""


@contextmanager
def staged_copy(directory: Path, source: Path, progress: Progress | None, stop: threading.Event) -> Iterator[Path]:
    """The path of a copy of ``source``, which is removed at the end unless it was moved into the cache.

    Raises CacheDirectoryError, ReadOnlyError, StorageError, NoRoomError, SourceError, StoppedError.
    """
    check_directory(directory)
    with storage_errors("stage the packed file"), _import_folder(directory) as folder:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        with _new_file(folder, name) as copy:
            try:
                _check_room(folder, _size(source))
                _copy(source, copy.fileno(), progress, stop)
                yield folder.path / name
            finally:
                Disk().unlink(folder, name)


@contextmanager
def _import_folder(directory: Path) -> Iterator[Folder]:
    disk = Disk()
    with Folder.open(directory) as root:
        mode = stat.S_IMODE(os.fstat(root.fd).st_mode) & 0o777
        disk.make_folder(root, OWN_NAME, mode)
        with root.open_folder(OWN_NAME) as own:
            disk.make_folder(own, _FOLDER, mode)
            with own.open_folder(_FOLDER) as folder:
                yield folder


def _new_file(folder: Folder, name: str) -> FileIO:
    """A new file, open and locked, once those that nobody holds are removed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fcntl.flock(folder.fd, fcntl.LOCK_EX)  # so that no file is seen between its making and its locking
    try:
        _remove_abandoned(folder)
        copy = FileIO(os.open(name, flags, 0o644, dir_fd=folder.fd), "w")
        fcntl.flock(copy.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        return copy
    finally:
        fcntl.flock(folder.fd, fcntl.LOCK_UN)


def _remove_abandoned(folder: Folder) -> None:
    for name in folder.names():
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            Disk().unlink(folder, name)
        finally:
            os.close(fd)


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise SourceError(f"cannot read {source}: {error.strerror}") from error


def _check_room(folder: Folder, size: int) -> None:
    found = os.fstatvfs(folder.fd)
    free = found.f_bavail * found.f_frsize
    if free < size + _MARGIN:
        raise NoRoomError(f"{size} bytes are to come in, {_MARGIN} are to stay free, and there are only {free}")


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
