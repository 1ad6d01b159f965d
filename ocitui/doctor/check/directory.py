"""The cache directory as the checks see it: one listing with each file's stat, and reading that follows no trap."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from ocitui.cache import CacheDirectoryError
from ocitui.cache.files import INDEX_NAME, check_directory, config_name, manifest_name

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CHUNK = 1 << 20
_DOCUMENTS = (manifest_name(""), config_name(""))
_TOLD_EVERY = 512
LARGEST_USUAL = 1 << 22
"""Bytes; a larger document is read only where it is asked for."""
_PLAIN_MASK, _PLAIN = 0o170000 | stat.S_IRUSR, stat.S_IFREG | stat.S_IRUSR


class Fact(msgspec.Struct, frozen=True, gc=False):
    """A name of the directory, links not followed. ``failed`` is the error where its stat could not be had, else 0.

    ``plain`` is a regular file with one name, which its owner may read: nothing to say about.
    """

    mode: int
    size: int = 0
    modified_ns: int = 0
    changed_ns: int = 0
    inode: int = 0
    device: int = 0
    links: int = 1
    failed: int = 0
    plain: bool = False

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def word(self) -> str:
        """What it is, for a message."""
        kinds = {
            stat.S_IFREG: "a regular file",
            stat.S_IFDIR: "a directory",
            stat.S_IFLNK: "a link",
            stat.S_IFIFO: "a pipe",
            stat.S_IFSOCK: "a socket",
        }
        return kinds.get(stat.S_IFMT(self.mode), "a device")


Facts = dict[str, Fact]


class Reader(Protocol):
    """Sees documents as the directory is listed."""

    def read(self, name: str, data: bytes) -> object: ...

    def told(self, done: int, total: int) -> object:
        """Called now and then with how many names of all were seen; it may raise to stop."""


class CacheFiles:
    """An open cache directory. Every method raises OSError as the system does; a test may fail them."""

    def __init__(self, directory: Path) -> None:
        """Raises CacheDirectoryError where it cannot be opened and listed."""
        check_directory(directory)
        self.directory = directory
        try:
            self.fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CacheDirectoryError(f"{directory} cannot be opened: {error.strerror}") from error

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> CacheFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def survey(self, reader: Reader | None = None) -> Facts:
        """Every name with its fact. Raises CacheDirectoryError.

        ``reader`` gets each document on the way, which costs less than to find its file once more; one that cannot be
        read is passed over.
        """
        facts: Facts = {}
        try:
            with os.scandir(self.fd) as found:
                items = [*found][::-1]
        except OSError as error:
            raise CacheDirectoryError(f"{self.directory} cannot be listed: {error.strerror}") from error
        total = len(items)
        for at in range(total):
            # Each is let go of at once: it keeps its stat.
            item = items.pop()
            name = item.name
            try:
                if reader is not None and name.endswith(_DOCUMENTS) and item.is_file(follow_symlinks=False):
                    facts[name] = self._read_on_the_way(name, reader)
                else:
                    facts[name] = _fact(self.lstat_item(item))
            except FileNotFoundError:
                continue
            except OSError as error:
                facts[name] = Fact(0, failed=error.errno or errno.EIO)
            if reader is not None and not at % _TOLD_EVERY:
                reader.told(at, total)
        return facts

    def _read_on_the_way(self, name: str, reader: Reader) -> Fact:
        try:
            fd = self.open_fd(name, _READ | os.O_NOFOLLOW)
        except OSError:
            return _fact(self.lstat(name))
        try:
            fact = _fact(os.fstat(fd))
            if fact.plain and fact.size <= LARGEST_USUAL:
                data = os.read(fd, fact.size + 1)
                if len(data) == fact.size:
                    reader.read(name, data)
            return fact
        except OSError:
            return _fact(self.lstat(name))
        finally:
            os.close(fd)

    def refresh(self, facts: Facts, names: Iterable[str]) -> set[str]:
        """Look at these names again; gives those that changed."""
        changed = set()
        for name in names:
            before, now = facts.get(name), self.fact(name)
            if now is None:
                facts.pop(name, None)
            else:
                facts[name] = now
            if now != before:
                changed.add(name)
        return changed

    def fact(self, name: str) -> Fact | None:
        """None where nothing has the name."""
        try:
            return _fact(self.lstat(name))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return Fact(0, failed=getattr(error, "errno", None) or errno.EINVAL)

    @staticmethod
    def lstat_item(item: os.DirEntry[str]) -> os.stat_result:
        return item.stat(follow_symlinks=False)

    def lstat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def target(self, name: str) -> Fact | None:
        """What a link leads to; None where that is nothing, or lies outside the cache."""
        try:
            target = (self.directory / name).resolve(strict=True)
            found = os.stat(target)
        except (OSError, RuntimeError):
            return None
        if target.parent != self.directory.resolve():
            return None
        return Fact(found.st_mode, found.st_size)

    def open_fd(self, name: str, flags: int) -> int:
        return os.open(name, flags, dir_fd=self.fd)

    def open(self, name: str) -> BinaryIO:
        """A regular file for reading, never waited for; what is none raises OSError."""
        fd = self.open_fd(name, _READ)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", name)
        return os.fdopen(fd, "rb", buffering=0)

    @staticmethod
    def size(file: BinaryIO) -> int:
        return os.fstat(file.fileno()).st_size

    def read(self, name: str, size: int) -> bytes:
        """A small file whole; ``size`` is what it is thought to have."""
        fd = self.open_fd(name, _READ)
        try:
            data = os.read(fd, size + 1)
            if len(data) == size:
                return data
            return data + _rest(fd)
        finally:
            os.close(fd)

    def read_index(self) -> bytes:
        with self.open(INDEX_NAME) as file:
            return file.read()


def _fact(found: os.stat_result) -> Fact:
    mode, links = found.st_mode, found.st_nlink
    return Fact(
        mode,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino,
        found.st_dev,
        links,
        0,
        mode & _PLAIN_MASK == _PLAIN and links == 1,
    )


def _rest(fd: int) -> bytes:
    chunks = []
    while chunk := os.read(fd, _CHUNK):
        chunks.append(chunk)
    return b"".join(chunks)
