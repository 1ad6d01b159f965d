"""Every system call that changes a cache, in one place, relative to open directories.

A directory is held open and names are resolved inside it, so nothing outside is reached through a link, and a
directory that was removed and made again is not mistaken for the one that was opened. A test puts a `Disk` of its own
in here to fail or stop at any step.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

from .errors import ReadOnlyError, StorageError

R = TypeVar("R")
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_HINTS = {
    errno.EROFS: "see dmesg for why the file system is read-only; mount -o remount,rw lets it be written again",
    errno.EACCES: "run ocitui as a user who may write to the cache",
    errno.EPERM: "run ocitui as a user who may write to the cache",
}
_COPY_CHUNK = 1 << 24


class Folder:
    """An open directory; ``path`` is for messages."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Folder:
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def open_folder(self, name: str) -> Folder:
        """A directory in this one, never through a link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return Folder(os.open(name, flags, dir_fd=self.fd), self.path / name)

    def lstat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        return os.listdir(self.fd)

    def read(self, name: str) -> bytes:
        """A regular file's bytes, never through a link."""
        # By an opener, since `open` leaves a descriptor that it was given open where it refuses it: a directory's.
        with open(name, "rb", opener=self._open_to_read) as file:
            return file.read()

    def _open_to_read(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.fd)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lender(Protocol):
    """Gives room back to a full disk: see `reserve`."""

    def lend_file(self, size: int) -> tuple[Folder, str] | None: ...

    def lend_room(self) -> bool: ...


class Disk:
    """The steps. Each raises OSError as the system does; `step` sees every one of them before it is made."""

    def __init__(self) -> None:
        self.lender: Lender | None = None

    def step(self, operation: str, name: str) -> None:
        """Called before each change with what is about to happen; a test may raise here."""

    def _do(self, operation: str, name: str, call: Callable[[], R]) -> R:
        """Make one change; on a full disk once more, with room that was kept for it."""
        try:
            self.step(operation, name)
            return call()
        except OSError as error:
            if error.errno not in _NO_ROOM or self.lender is None or not self.lender.lend_room():
                raise
        self.step(operation, name)
        return call()

    def make_folder(self, parent: Folder, name: str, mode: int) -> None:
        """A directory, unless it is there."""
        if parent.lstat(name) is None:
            self._do("mkdir", name, lambda: os.mkdir(name, mode, dir_fd=parent.fd))
            self.sync_folder(parent)

    def write_unsynced(self, folder: Folder, name: str, data: bytes) -> None:
        """A new file with these bytes; `sync_file` makes several of them durable at less cost than one by one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.step("create", name)
        with open(os.open(name, flags, 0o644, dir_fd=folder.fd), "wb", buffering=0) as file:
            self.step("write", name)
            _write_all(file.fileno(), data)

    def write_new(self, folder: Folder, name: str, data: bytes, like: os.stat_result | None = None) -> None:
        """A new file with these bytes, on disk when this returns; with the mode and owner of ``like``."""
        try:
            self._write_file(folder, name, data, like)
        except OSError as error:
            lent = self.lender.lend_file(len(data)) if self.lender and error.errno in _NO_ROOM else None
            self.unlink(folder, name)
            if lent is None:
                raise
            self.rename(*lent, folder, name)
            self._write_file(folder, name, data, like, create=False)

    def _write_file(
        self, folder: Folder, name: str, data: bytes, like: os.stat_result | None, *, create: bool = True
    ) -> None:
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        self.step("create", name)
        with open(os.open(name, flags, 0o644, dir_fd=folder.fd), "wb", buffering=0) as file:
            self.step("write", name)
            _write_all(file.fileno(), data)
            os.ftruncate(file.fileno(), len(data))
            if not create:
                os.fchmod(file.fileno(), 0o644)
            if like is not None:
                _make_alike(file.fileno(), like)
            self.step("fsync", name)
            os.fsync(file.fileno())

    def copy_in(self, source: Path, folder: Folder, name: str) -> None:
        """A copy of a regular file of another file system, on disk when this returns."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(source, "rb") as original:
            self.step("create", name)
            with open(os.open(name, flags, 0o644, dir_fd=folder.fd), "wb") as copy:
                self.step("write", name)
                while chunk := original.read(_COPY_CHUNK):
                    copy.write(chunk)
                copy.flush()
                _make_alike(copy.fileno(), os.fstat(original.fileno()))
                self.step("fsync", name)
                os.fsync(copy.fileno())

    def sync_file(self, folder: Folder, name: str) -> None:
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd), "rb") as file:
            self.step("fsync", name)
            os.fsync(file.fileno())

    def sync_path(self, path: Path) -> None:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
            self.step("fsync", path.name)
            os.fsync(file.fileno())

    def sync_folder(self, folder: Folder) -> None:
        self.step("fsync", str(folder.path.name))
        os.fsync(folder.fd)

    def rename(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        """Move within the file system; FileExistsError where something has the new name."""
        self._do("rename", new_name, lambda: _rename_noreplace(source.fd, name, target.fd, new_name))

    def move_in(self, source: Path, target: Folder, new_name: str) -> None:
        """Move a file from anywhere on the file system; OSError with EXDEV from another one."""
        self._do("rename", new_name, lambda: _rename_noreplace(_AT_FDCWD, str(source), target.fd, new_name))

    def move_out(self, source: Folder, name: str, target: Path) -> None:
        """Move a file to anywhere on the file system; FileExistsError where something is there."""
        self._do("rename", str(target), lambda: _rename_noreplace(source.fd, name, _AT_FDCWD, str(target)))

    def replace(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        """Move over whatever has the new name: for files of our own, and where `exchange` is not to be had."""
        self._do("rename", new_name, lambda: os.rename(name, new_name, src_dir_fd=source.fd, dst_dir_fd=target.fd))

    def exchange(self, source: Folder, name: str, target: Folder, other: str) -> bool:
        """Let two files change places at once; False where the file system cannot."""
        try:
            self._do("exchange", other, lambda: _renameat2(source.fd, name, target.fd, other, _RENAME_EXCHANGE))
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                return False
            raise
        return True

    def change_mode(self, folder: Folder, name: str, mode: int) -> None:
        """Set the permission bits of a file or directory, never through a link."""
        with Folder(
            os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd), folder.path / name
        ) as it:
            self.step("chmod", name)
            os.chmod(f"/proc/self/fd/{it.fd}", mode)

    def unlink(self, folder: Folder, name: str) -> None:
        """Remove a file of our own, if it is there."""
        self.step("unlink", name)
        try:
            os.unlink(name, dir_fd=folder.fd)
        except FileNotFoundError:
            return

    def remove(self, folder: Folder, name: str) -> None:
        """Remove a file, or a directory with all in it, for good: only what is in the trash, and on request."""
        import shutil

        found = folder.lstat(name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            self.step("rmtree", name)
            shutil.rmtree(name, dir_fd=folder.fd)
        else:
            self.unlink(folder, name)

    def unlink_outside(self, path: Path) -> None:
        """Remove what was copied in from another file system."""
        self.step("unlink", str(path))
        path.unlink(missing_ok=True)


_AT_FDCWD = -100


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _renameat2(source_fd: int, name: str, target_fd: int, new_name: str, flags: int) -> None:
    """renameat2(2). Raises OSError; ENOSYS where the C library does not have it."""
    call = getattr(_libc(), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), new_name)
    if call(source_fd, os.fsencode(name), target_fd, os.fsencode(new_name), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name, None, new_name)


def _rename_noreplace(source_fd: int, name: str, target_fd: int, new_name: str) -> None:
    try:
        _renameat2(source_fd, name, target_fd, new_name, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        _rename_if_free(source_fd, name, target_fd, new_name)


def _rename_if_free(source_fd: int, name: str, target_fd: int, new_name: str) -> None:
    """Look, then rename: as near as a file system without RENAME_NOREPLACE allows, between programs that lock."""
    from_fd, to_fd = (None if fd == _AT_FDCWD else fd for fd in (source_fd, target_fd))
    try:
        os.stat(new_name, dir_fd=to_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, new_name, src_dir_fd=from_fd, dst_dir_fd=to_fd)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _make_alike(fd: int, like: os.stat_result) -> None:
    """Give a new file the mode and, where permitted, the owner of another."""
    os.fchmod(fd, stat.S_IMODE(like.st_mode) & 0o777)
    mine = os.fstat(fd)
    if (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
        try:
            os.fchown(fd, like.st_uid, like.st_gid)
        except PermissionError:
            return


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an OSError into a StorageError or ReadOnlyError that says what could not be done."""
    try:
        yield
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        message = f"cannot {doing}: {error.strerror or error}{where}"
        hint = _HINTS.get(error.errno or 0)
        raise (StorageError(message) if hint is None else ReadOnlyError(message, hint=hint)) from error
