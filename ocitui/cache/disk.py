"""Every system call that changes a cache, in one place, relative to open directories.

A directory is held open and names are resolved inside it, so nothing outside is reached through a link, and a
directory that was removed and made again is not mistaken for the one that was opened. A test puts a `Disk` of its own
in here to fail or stop at any step, or to forget what was not synced.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

from ocitui.stand_in import as_told

from .errors import ConflictError, FileTakenError, ReadOnlyError, StorageError
from .files import MOST_INDEX_BYTES, READ_FLAGS, closing, open_bounded, read_to_end

if TYPE_CHECKING:
    from ctypes import CDLL

R = TypeVar("R")
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_HINTS = {
    errno.EROFS: "see dmesg for why the file system is read-only; mount -o remount,rw lets it be written again",
    errno.EACCES: "run ocitui as a user who may write to the cache",
    errno.EPERM: "run ocitui as a user who may write to the cache",
}
_FOREIGN_HINT = "look who made it and why; then give it to root or to yourself with chown, or move it out of the cache"
_COPY_CHUNK = 1 << 24
_MOST_FILES = 1_000_000
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GROUP_WRITES = 0o020


class Folder(AbstractContextManager["Folder"]):
    """An open directory; ``path`` is for messages. In one that is ``guarded`` files of other users are not read."""

    guarded = False

    def __init__(self, fd: int, path: Path) -> None:
        self.fd, self.path = fd, path

    @classmethod
    def open(cls, path: Path) -> Folder:
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def open_folder(self, name: str) -> Folder:
        """A directory in this one, never through a link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return Folder(os.open(name, flags, dir_fd=self.fd), self.path / name)

    def stat(self) -> os.stat_result:
        return os.fstat(self.fd)

    @property
    def file_mode(self) -> int:
        """The mode of a new file of ours in it, which the group may write where it may write to the directory."""
        return 0o644 | (self.stat().st_mode & _GROUP_WRITES)

    def lstat(self, name: str) -> os.stat_result | None:
        try:
            return as_told(os.stat(name, dir_fd=self.fd, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        return os.listdir(self.fd)

    def size(self, name: str, deepest: int = 50, counted: Iterator[int] | None = None) -> int:
        """The bytes of a file, or of all in a directory, a million at most; of what is unreadable or too deep, none."""
        total, counted = 0, iter(range(_MOST_FILES)) if counted is None else counted
        with suppress(OSError):
            found = self.lstat(name)
            if found is None or not stat.S_ISDIR(found.st_mode):
                return found.st_size if found else 0
            with self.open_folder(name) as inner:
                for inside, _ in zip(inner.names() if deepest else (), counted, strict=False):
                    total += inner.size(inside, deepest - 1, counted)
        return total

    def free(self) -> int:
        """The bytes that may still be written to its file system."""
        found = os.fstatvfs(self.fd)
        return found.f_bavail * found.f_frsize

    def open_file(self, name: str, limit: int = MOST_INDEX_BYTES) -> FileIO:
        """A regular file to read, never through a link, nor another user's where this is guarded. Raises OSError."""
        file = open_bounded(name, limit, dir_fd=self.fd, follow=False)
        if self.guarded and not is_trusted(found := os.fstat(file.fileno())):
            file.close()
            raise ForeignFileError(found, name)
        return file

    def read(self, name: str, limit: int = MOST_INDEX_BYTES) -> bytes:
        """All of such a file. Raises OSError."""
        with self.open_file(name, limit) as file:
            return read_to_end(file, limit)

    def sha256(self, name: str) -> str:
        """That of a regular file, in hexadecimal digits; empty for anything else. Raises OSError."""
        found = self.lstat(name)
        return hashlib.sha256(self.read(name)).hexdigest() if found and stat.S_ISREG(found.st_mode) else ""

    def close(self) -> None:
        os.close(self.fd)

    def __exit__(self, *_: object) -> None:
        self.close()


OUTSIDE = Folder(-100, Path("/"))
"""Where names are paths of the host: the AT_FDCWD of openat(2)."""


class ForeignFileError(PermissionError):
    """What lies in `.ocitui` belongs to neither root nor the user of this program, and is not acted on."""

    def __init__(self, found: os.stat_result, path: Path | str) -> None:
        import pwd

        owner = f"with the id {found.st_uid}"
        with suppress(KeyError):
            owner = pwd.getpwuid(found.st_uid).pw_name
        super().__init__(errno.EACCES, f"it belongs to the user {owner}", str(path))


def is_trusted(found: os.stat_result) -> bool:
    """Whether a file belongs to root or to the user of this program: only then it is acted on."""
    return found.st_uid in (0, os.geteuid())


class Lender(Protocol):
    """Gives room back to a full disk: see `workspace.Reserve`."""

    def lend_file(self, size: int) -> tuple[Folder, str] | None: ...

    def lend_room(self) -> bool: ...


class Disk:
    """The steps. Each raises OSError as the system does; `step` sees every one of them before it is made."""

    def __init__(self) -> None:
        self.lender: Lender | None = None

    def step(self, operation: str, name: str) -> None:
        """Called before each change with what is about to happen; a test may raise here."""

    def sync(self, fd: int, name: str) -> None:
        """Make an open file's bytes, or an open directory's names, durable; no other call does."""
        self.step("fsync", name)
        os.fsync(fd)

    def _do(self, operation: str, name: str, call: Callable[[], R]) -> R:
        """Make one change; on a full disk again, each time with more of the room that was kept for it."""
        while True:
            try:
                self.step(operation, name)
                return call()
            except OSError as error:
                if error.errno not in NO_ROOM or self.lender is None or not self.lender.lend_room():
                    raise

    def make_folder(self, parent: Folder, name: str, mode: int | None = None) -> bool:
        """Make a directory, unless it is there, with this mode, else the parent's rights; gives whether it did."""
        if parent.lstat(name) is not None:
            return False
        rights = stat.S_IMODE(parent.stat().st_mode) & 0o777 if mode is None else mode
        try:
            self._do("mkdir", name, lambda: os.mkdir(name, rights, dir_fd=parent.fd))
        except FileExistsError:
            # Another program made it in the same moment.
            return False
        with suppress(FileNotFoundError), parent.open_folder(name) as made:
            there = stat.S_IMODE(made.stat().st_mode)
            if there & 0o777 != rights:
                self.step("chmod", name)
                os.fchmod(made.fd, (there & ~0o777) | rights)
        return True

    def create(self, folder: Folder, name: str, mode: int = 0o644) -> int:
        """A new file, open to read and write."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN
        self.step("create", name)
        return os.open(name, flags, mode, dir_fd=folder.fd)

    def open_own(self, folder: Folder, name: str, mode: int = 0o644, flags: int = 0) -> int:
        """A file of ours, open to read and write, made where it is not there; regular, no link, no other user's."""
        try:
            fd = os.open(name, os.O_RDWR | _OPEN | flags, dir_fd=folder.fd)
        except FileNotFoundError:
            self.step("create", name)
            fd = os.open(name, os.O_RDWR | os.O_CREAT | _OPEN | flags, mode, dir_fd=folder.fd)
            with suppress(PermissionError):
                os.fchmod(fd, mode)
        try:
            found = os.fstat(fd)
            if not is_trusted(found):
                raise ForeignFileError(found, folder.path / name)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file", str(folder.path / name))
        except OSError:
            os.close(fd)
            raise
        return fd

    def write(self, fd: int, name: str, *data: bytes | memoryview) -> None:
        """Bytes to an open file, all of them."""
        self.step("write", name)
        for part in data:
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view) :]

    @contextmanager
    def writing(self, path: Path) -> Iterator[Callable[[bytes], None]]:
        """A new file in a folder of ours, written piece by piece by calls of what this gives."""
        with Folder.open(path.parent) as folder:
            created = self.create(folder, path.name)
        with closing(created) as fd:
            yield lambda data: self.write(fd, path.name, data)

    def truncate(self, fd: int, name: str, size: int) -> None:
        self.step("truncate", name)
        os.ftruncate(fd, size)

    def write_new(
        self,
        folder: Folder,
        name: str,
        data: bytes | tuple[bytes | memoryview, ...],
        like: os.stat_result | None = None,
        *,
        mode: int = 0o644,
        sync: bool = True,
    ) -> None:
        """A new file with these bytes, on disk when this returns unless ``sync`` is false: `sync_file` makes several
        durable at less cost than one by one. With the mode and owner of ``like``, or with this mode."""
        mode = mode if like is None else stat.S_IMODE(like.st_mode) & 0o777
        parts = (data,) if isinstance(data, bytes) else data
        size = sum(map(len, parts))

        def fill(opened: int, *, lent: bool = False) -> None:
            with closing(opened) as fd:
                if lent or mode != 0o644:
                    os.fchmod(fd, mode)
                self.write(fd, name, *parts)
                if lent:
                    self.truncate(fd, name, size)
                if like is not None:
                    _make_alike(fd, like)
                if sync:
                    self.sync(fd, name)

        while True:
            try:
                return fill(self.create(folder, name, mode))
            except FileExistsError:
                raise
            except OSError as error:
                self.unlink(folder, name)
                if error.errno not in NO_ROOM or self.lender is None:
                    raise
                if lent := self.lender.lend_file(size):
                    self.rename(*lent, folder, name)
                    return fill(self.open_own(folder, name), lent=True)
                if not self.lender.lend_room():
                    raise

    def append_lines(self, folder: Folder, name: str, lines: bytes, mode: int) -> None:
        """Lines at the end of a file of ours, on disk when this returns; behind one that was torn they begin anew. A
        file with another name, as a snapshot made of hard links has it, is not written: a new one takes its place."""
        with closing(self.open_own(folder, name, mode, os.O_APPEND)) as fd:
            found = os.fstat(fd)
            size = found.st_size
            torn = bool(size) and os.pread(fd, 1, size - 1) != b"\n"
            if found.st_nlink > 1:
                self.rewrite(folder, f"{name}.temporary", name, folder.read(name) + b"\n" * torn + lines, mode)
            else:
                self.write(fd, name, b"\n" * torn + lines)
                self.sync(fd, name)

    def rewrite(self, folder: Folder, draft: str, name: str, data: bytes, mode: int) -> None:
        """A file of ours with other bytes, which take its place at once, and durably."""
        self.unlink(folder, draft)
        self.write_new(folder, draft, data, mode=mode)
        self.replace(folder, draft, folder, name)
        self.sync_folder(folder)

    def allocate(self, folder: Folder, name: str, size: int) -> None:
        """A file of ours made so large, with blocks for all of it."""
        with closing(self.open_own(folder, name, 0o600)) as fd:
            self.step("allocate", name)
            os.posix_fallocate(fd, 0, size)

    def copy_in(self, source: Path, folder: Folder, name: str) -> None:
        """A copy of a regular file of another file system, on disk when this returns."""
        with open_bounded(source) as original, closing(self.create(folder, name)) as fd:
            while chunk := original.read(_COPY_CHUNK):
                self.write(fd, name, chunk)
            _make_alike(fd, os.fstat(original.fileno()))
            self.sync(fd, name)

    def sync_file(self, folder: Folder, name: str) -> None:
        with open_bounded(name, dir_fd=folder.fd, follow=False) as file:
            self.sync(file.fileno(), name)

    def sync_folder(self, folder: Folder) -> None:
        self.sync(folder.fd, folder.path.name)

    def rename(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        """Move within the file system; FileExistsError where the new name is taken, EXDEV from another file system."""
        self._do("rename", new_name, lambda: _rename_noreplace(source.fd, name, target.fd, new_name))

    def replace(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        """Move over whatever has the new name: for files of our own, and where `exchange` is not to be had."""
        self._do("rename", new_name, lambda: os.rename(name, new_name, src_dir_fd=source.fd, dst_dir_fd=target.fd))

    def link(self, source: Folder, name: str, target: Folder, new_name: str) -> None:
        """Give a file a second name; FileExistsError where that is taken."""
        call = partial(os.link, name, new_name, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
        self._do("link", new_name, call)

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
        """Set the permission bits of a file or directory, durably where it may be opened; never through a link."""
        with closing(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)) as fd:
            path = f"/proc/self/fd/{fd}"
            self.step("chmod", name)
            os.chmod(path, mode)
            with suppress(PermissionError), closing(os.open(path, READ_FLAGS)) as there:
                self.sync(there, name)

    def unlink(self, folder: Folder, name: str) -> None:
        """Remove a file of our own, if it is there."""
        self.step("unlink", name)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder.fd)

    def remove(self, folder: Folder, name: str) -> None:
        """Remove a file or a whole directory for good: of the trash on request, or what programs that died left."""
        found = folder.lstat(name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            self.step("rmtree", name)
            from shutil import rmtree

            rmtree(name, dir_fd=folder.fd)
        else:
            self.unlink(folder, name)


@cache
def _libc() -> CDLL:
    from ctypes import CDLL

    return CDLL(None, use_errno=True)


def _renameat2(source_fd: int, name: str, target_fd: int, new_name: str, flags: int) -> None:
    """renameat2(2). Raises OSError; ENOSYS where the C library does not have it."""
    from ctypes import get_errno

    call = getattr(_libc(), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), new_name)
    if call(source_fd, os.fsencode(name), target_fd, os.fsencode(new_name), flags) != 0:
        code = get_errno()
        raise OSError(code, os.strerror(code), name, None, new_name)


def _rename_noreplace(source_fd: int, name: str, target_fd: int, new_name: str) -> None:
    """Where the file system has no RENAME_NOREPLACE, a look and a rename: as near as programs that lock can come."""
    try:
        return _renameat2(source_fd, name, target_fd, new_name, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    try:
        os.stat(new_name, dir_fd=target_fd, follow_symlinks=False)
    except FileNotFoundError:
        return os.rename(name, new_name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)


def _make_alike(fd: int, like: os.stat_result) -> None:
    """Give a new file the mode and, where permitted, the owner of another."""
    os.fchmod(fd, stat.S_IMODE(like.st_mode) & 0o777)
    mine = os.fstat(fd)
    if (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
        with suppress(PermissionError):
            os.fchown(fd, like.st_uid, like.st_gid)


def refuse_inside(directory: Path, path: Path) -> None:
    """Raises ConflictError for a file of the cache itself."""
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        raise ConflictError(f"{path} is in the cache", hint="name a file elsewhere")


def write_outside(
    directory: Path,
    path: Path,
    text: str | Callable[[BinaryIO], object],
    *,
    replace: bool,
    like: Path | None = None,
    most: int = 0o7777,
) -> None:
    """Write a file that is none of the cache in ``directory``, as `writing_apart`: a text, or what is written into it
    when it is open. Raises ConflictError for one of the cache, too."""
    refuse_inside(directory, path)
    with (
        writing_apart(path, replace=replace, like=like, most=most) as fd,
        open(fd, "wb", closefd=False) as file,
    ):
        if isinstance(text, str):
            file.write(text.encode())
        else:
            text(file)


@contextmanager
def writing_apart(path: Path, *, replace: bool, like: Path | None = None, most: int = 0o7777) -> Iterator[int]:
    """A file outside of any cache, open to be written; it has its name once it is whole, if nothing is raised. What it
    replaces lends its mode; a new one gets what the umask leaves, and no right that ``like`` withholds; neither gets
    more than ``most``. Raises FileTakenError for one that is not to be replaced; StorageError, ReadOnlyError."""
    import secrets

    with storage_errors(f"write {path}"):
        there = os.stat(path) if path.exists() else None
        if there is not None and not stat.S_ISREG(there.st_mode):
            raise StorageError(f"cannot write {path}: it is no regular file")
        # A collector takes every name that ends with .prom, which a temporary one must not.
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.temporary")
        mode = 0o666 & most
        if like is not None and like.exists():
            mode &= like.stat().st_mode | stat.S_IRUSR | stat.S_IWUSR
        try:
            with open(draft, "xb", opener=partial(os.open, mode=mode)) as file:
                if there is not None:
                    os.fchmod(file.fileno(), stat.S_IMODE(there.st_mode) & most)
                yield file.fileno()
                os.fsync(file.fileno())
            if replace:
                draft.replace(path)
            else:
                _rename_noreplace(OUTSIDE.fd, str(draft), OUTSIDE.fd, str(path))
        except FileExistsError as error:
            raise FileTakenError(f"{path} is there already") from error
        finally:
            with suppress(OSError):
                draft.unlink()


@contextmanager
def storage_errors(doing: str, what_frees: Callable[[], str] = str) -> Iterator[None]:
    """Turn an OSError into a StorageError or ReadOnlyError that says what could not be done. ``what_frees`` tells where
    the disk is full what to remove first; empty where it knows of nothing."""
    try:
        yield
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        message = f"cannot {doing}: {error.strerror or error}{where}"
        if isinstance(error, ForeignFileError):
            raise ConflictError(message, hint=_FOREIGN_HINT) from error
        if error.errno in NO_ROOM:
            raise StorageError(message, hint=what_frees()) from error
        hint = _HINTS.get(error.errno or 0)
        raise (StorageError(message) if hint is None else ReadOnlyError(message, hint=hint)) from error
