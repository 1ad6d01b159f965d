"""Files out of a packed file onto the disk: only below one directory, through no link, and over nothing unasked."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from ocitui.cache import FileTakenError, StorageError
from ocitui.text import printable
from ocitui.threads import Stop

from .tree import ROOT, Inode, PackedTree

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RIGHTS = 0o777
# O_NOFOLLOW says the first of a link, with O_DIRECTORY the second.
_NO_DIRECTORY = (errno.ELOOP, errno.ENOTDIR)
_NOBODY_AT_ALL = (1 << 32) - 1
_EARLIEST, _LATEST = -(1 << 31), (1 << 34) - 1  # ext4's
_PRIVILEGED_XATTRS = (b"trusted.", b"security.", b"system.")


class Extracted(msgspec.Struct, frozen=True):
    """How many entries were written, and the bytes of their files; ``left_out`` counts by what was not restored."""

    entries: int
    bytes: int
    left_out: dict[str, int]


class Extraction:
    """Entries of a tree, each with all that is below it, and where they go: ``directory`` and their path in the image
    below it. ``privileged`` restores what only root may, owners apart: devices, setuid, setgid, trusted attributes.
    Raises as `PackedTree.children`, StorageError in place of OSError."""

    def __init__(self, tree: PackedTree, entries: Iterable[int], directory: Path, *, privileged: bool = False) -> None:
        self._tree, self._directory, self._privileged = tree, directory, privileged
        self._is_root = os.geteuid() == 0
        try:
            self._wanted = list(dict.fromkeys(below for entry in entries for below in tree.walk(entry)))
        except OSError as error:
            raise StorageError(f"the packed file cannot be read: {error.strerror}") from error
        self._written: dict[int, bytes] = {}
        self._left_out = Counter[str]()
        self._bytes = 0

    @property
    def size(self) -> int:
        """The bytes of the regular files, each inode once."""
        tree = self._tree
        files = {tree.numbers[one]: tree.sizes[one] for one in self._wanted if stat.S_ISREG(tree.modes[one])}
        return sum(files.values())

    @property
    def unread(self) -> list[tuple[bytes, str]]:
        """By paths what could not be read of the tree, where a directory that is written may hold more for it: in that
        directory, or nobody knows where, which is told of the root."""
        tree, hit = self._tree, {ROOT, *self._wanted}
        is_any = any(map(self._is_directory, self._wanted))
        return [(tree.path(entry), text) for entry, text in tree.damage if entry in hit] if is_any else []

    def in_the_way(self) -> Iterator[bytes]:
        """The paths that are there already and would be replaced: all but directories where a directory comes. Raises
        FileTakenError where something else than a directory stands on the way, StorageError."""
        with self._storage_errors():
            for entry in self._wanted:
                path = self._tree.path(entry)
                found = self._found(path)
                if found is not None and path and not (stat.S_ISDIR(found) and self._is_directory(entry)):
                    yield path

    def run(
        self, stop: Stop, *, replace: bool = False, passed: Callable[[int], object] = lambda size: None
    ) -> Extracted:
        """Write all; times and modes of directories last, so that what they hold can be written. Raises FileTakenError,
        StorageError, ContentsError, AbandonedError; what was written by then stays."""
        with self._storage_errors():
            self._directory.mkdir(parents=True, exist_ok=True)
            if self.size > (free := os.statvfs(self._directory)).f_bavail * free.f_frsize:
                raise StorageError(f"{self._directory} has no room for {self.size} bytes", hint="name fewer paths")
            for entry in self._wanted:
                stop.check()
                with self._parent(self._tree.path(entry)) as (parent, name):
                    self._write(entry, parent, name, replace, stop, passed)
            for entry in reversed(self._wanted):
                if self._is_directory(entry):
                    with self._opened(self._tree.path(entry)) as fd:
                        self._restore(fd, entry)
        return Extracted(len(self._written), self._bytes, dict(self._left_out))

    def _is_directory(self, entry: int) -> bool:
        return self._tree.kind(entry) == stat.S_IFDIR

    def _found(self, path: bytes) -> int | None:
        """The mode of what stands at a path below the directory; None for nothing."""
        with suppress(FileNotFoundError), self._parent(path, make=False) as (parent, name):
            return os.stat(name or b".", dir_fd=parent, follow_symlinks=False).st_mode
        return None

    @contextmanager
    def _parent(self, path: bytes, *, make: bool = True) -> Iterator[tuple[int, bytes]]:
        """The open directory that a path is in, made where it is not there, and the name; empty for the root."""
        before, _, name = path.rpartition(b"/")
        with self._opened(before, make=make) as fd:
            yield fd, name

    @contextmanager
    def _opened(self, path: bytes, *, make: bool = False) -> Iterator[int]:
        """A directory below the one that all goes to, opened part by part, so that no link is followed."""
        with ExitStack() as stack:
            # The operator's own path to it may have links.
            fd = os.open(self._directory, _DIRECTORY & ~os.O_NOFOLLOW)
            stack.callback(os.close, fd)
            for part in path.split(b"/") if path else ():
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=fd)
                try:
                    fd = os.open(part, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    if error.errno in _NO_DIRECTORY:
                        raise self._taken(path) from error
                    raise
                stack.callback(os.close, fd)
            yield fd

    def _write(
        self, entry: int, parent: int, name: bytes, replace: bool, stop: Stop, passed: Callable[[int], object]
    ) -> None:
        """One entry; a directory only as an empty one that its owner may write to."""
        tree, kind, path = self._tree, self._tree.kind(entry), self._tree.path(entry)
        if kind == stat.S_IFDIR:
            if entry != ROOT:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=parent)
            self._written[tree.numbers[entry]] = path
            return
        if kind == stat.S_IFSOCK or (kind in (stat.S_IFBLK, stat.S_IFCHR) and not self._may_make_devices()):
            self._left_out["sockets" if kind == stat.S_IFSOCK else "devices"] += 1
            return
        draft = b".ocitui-" + secrets.token_hex(8).encode()
        try:
            self._make(entry, parent, draft, stop, passed)
            if replace:
                os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
            else:
                # As rename does not, it refuses a name that is taken by now.
                os.link(draft, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        except (FileExistsError, IsADirectoryError) as error:
            raise self._taken(path) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=parent)
        self._written.setdefault(tree.numbers[entry], path)

    def _make(self, entry: int, parent: int, draft: bytes, stop: Stop, passed: Callable[[int], object]) -> None:
        tree, kind, node = self._tree, self._tree.kind(entry), self._tree.node(entry)
        if (first := self._written.get(node.number)) is not None:
            with self._parent(first) as (place, name):
                os.link(name, draft, src_dir_fd=place, dst_dir_fd=parent, follow_symlinks=False)
            return
        if kind == stat.S_IFREG:
            fd = os.open(draft, _NEW_FILE, 0o600, dir_fd=parent)
            try:
                self._copy(entry, fd, stop, passed)
                self._restore(fd, entry)
            finally:
                os.close(fd)
            return
        if kind == stat.S_IFLNK:
            os.symlink(tree.target(entry), draft, dir_fd=parent)
        else:
            os.mknod(draft, kind | (node.mode & _RIGHTS), os.makedev(*node.device), dir_fd=parent)
        if self._is_root:
            os.chown(draft, *_owner(node), dir_fd=parent, follow_symlinks=False)
        os.utime(draft, _times(node), dir_fd=parent, follow_symlinks=False)

    def _copy(self, entry: int, fd: int, stop: Stop, passed: Callable[[int], object]) -> None:
        """The bytes of a file; whole zero blocks become holes."""
        body, size = self._tree.open(entry), 0
        while data := body.read(_CHUNK):
            stop.check()
            if data != _ZEROS[: len(data)]:
                view = memoryview(data)
                while view:
                    done = os.pwrite(fd, view, size + len(data) - len(view))
                    view = view[done:]
            size += len(data)
            passed(len(data))
        os.ftruncate(fd, size)
        self._bytes += size

    def _restore(self, fd: int, entry: int) -> None:
        """Owner, mode, attributes and time of an open file or directory, in an order in which none undoes another."""
        tree, node = self._tree, self._tree.node(entry)
        if self._is_root:
            os.fchown(fd, *_owner(node))
        for name, value in tree.xattrs(entry).items():
            self._restore_xattr(fd, name, value)
        rights = _RIGHTS if not self._privileged else 0o7777
        if node.mode & 0o7000 & ~rights and stat.S_ISREG(node.mode):
            self._left_out["setuid and setgid bits"] += 1
        # A directory's sticky bit gives nobody a right.
        os.fchmod(fd, node.mode & (rights | (stat.S_ISVTX if stat.S_ISDIR(node.mode) else 0)))
        os.utime(fd, _times(node))

    def _restore_xattr(self, fd: int, name: bytes, value: bytes) -> None:
        if not self._privileged and name.startswith(_PRIVILEGED_XATTRS):
            self._left_out["privileged attributes"] += 1
            return
        try:
            os.setxattr(fd, name, value)
        except OSError:
            self._left_out["attributes that cannot be stored there"] += 1

    def _may_make_devices(self) -> bool:
        return self._privileged and self._is_root

    def _taken(self, path: bytes) -> FileTakenError:
        place = self._directory / os.fsdecode(path)
        return FileTakenError(f"{printable(os.fsencode(place))} is in the way", hint="name another directory")

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot write below {self._directory}: {error.strerror}") from error


def _owner(node: Inode) -> tuple[int, int]:
    """As chown(2) takes it, for which the last number is none."""
    uid, gid = (-1 if one == _NOBODY_AT_ALL else one for one in (node.uid, node.gid))
    return uid, gid


def _times(node: Inode) -> tuple[int, int]:
    """Of access and change, the nearest that file systems hold."""
    mtime = min(max(node.mtime, _EARLIEST), _LATEST)
    return mtime, mtime
