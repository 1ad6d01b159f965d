"""Whether a packed file is sound, for deep checks and repairs: all that is in it read once, and hashed as it passes,
and its tree held against the program that the image is to run."""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

from ocitui.cache import PackedFormat
from ocitui.text import printable
from ocitui.threads import Stop

from .tar_headers import FileReader, Kind, TarReader
from .tree import ROOT, ContentsError, DamagedError, PackedTree, UnreadableFormatError, open_tree, size_of

_CHUNK = 1 << 20
# What is valid may unpack to terabytes: how long it may take, and for a large file so many bytes of it a second.
_LEAST_SECONDS, _LEAST_RATE = 60.0, 4 << 20
# What has more holes together is not hashed: 8 GiB of zeros take some 5 s of CPU, and what is valid may have terabytes.
_MOST_HOLES, _ZEROS = 8 << 30, memoryview(bytes(_CHUNK))
_TOLD = 3
MOUNTED = frozenset((b"proc", b"dev", b"sys", b"run"))
"""What a guest has in these, its image does not tell."""


class NotCheckedError(Exception):
    """A packed file was not read to its end; the text says why."""


class ReadThrough(NamedTuple):
    """What reading a packed file told: its ``tree``, where all names could be read; ``problem``, the damage that was
    found, with the files it hits; ``unchecked``, why a part was not read. Of a sound file both are empty. The tree has
    the hashes of its files; ``hashed``: of all."""

    tree: PackedTree | None = None
    problem: str = ""
    unchecked: str = ""
    hashed: bool = False


def read_through(file: BinaryIO, format: PackedFormat, stop: Stop) -> ReadThrough:
    """Read an open packed file as a guest would that reads all of it. Raises OSError as the disk does, AbandonedError
    once ``stop`` is set."""
    reading = _Reading(file, stop)
    try:
        tree = open_tree(file, format, stop)
    except UnreadableFormatError as error:
        return ReadThrough(unchecked=str(error))
    except ContentsError as error:
        return ReadThrough(problem=str(error))
    for at, (entry, text) in enumerate(tree.damage):
        reading.note(tree, entry, text, unread=at in tree.unread)
    try:
        reading.read(tree)
    except NotCheckedError as error:
        reading.unchecked = reading.unchecked or str(error)
    problem = reading.problem(tree)
    hashed = not (tree.damage or problem or reading.unchecked) and reading.holes_left >= 0
    return ReadThrough(None if tree.damage else tree, problem, reading.unchecked, hashed)


class _Reading:
    """One file as it is read, and what could not be so far. Raises as `read_through`."""

    def __init__(self, file: BinaryIO, stop: Stop) -> None:
        seconds = max(_LEAST_SECONDS, size_of(file) / _LEAST_RATE)
        self._stop, self._deadline = stop, time.monotonic() + seconds
        self._damage, self._hit, self._known = "", set[int](), set[int]()
        self.unchecked, self.holes_left = "", _MOST_HOLES

    def read(self, tree: PackedTree) -> None:
        """All that the inodes of a tree hold but names, each once. Raises NotCheckedError where it takes too long."""
        self._known = {tree.numbers[entry] for entry, _ in tree.damage}
        inodes = dict(zip(tree.numbers, range(len(tree)), strict=True))
        self._read_each(tree, sorted(inodes.values(), key=tree.references.__getitem__), self._read_inode)
        self._read_each(tree, tree.files(), self._read_body)

    def _read_each(self, tree: PackedTree, entries: Iterable[int], read: Callable[[PackedTree, int], None]) -> None:
        for entry in entries:
            self._check()
            if tree.numbers[entry] not in self._known:
                try:
                    read(tree, entry)
                except ContentsError as error:
                    self.note(tree, entry, str(error), unread=isinstance(error, UnreadableFormatError))

    def _read_inode(self, tree: PackedTree, entry: int) -> None:
        tree.xattrs(entry)
        if tree.kind(entry) == stat.S_IFLNK:
            tree.target(entry)

    def _read_body(self, tree: PackedTree, entry: int) -> None:
        reader, reference, size, at = tree.reader, tree.references[entry], tree.sizes[entry], 0
        hashing = hashlib.sha256()
        while at < size:
            self._check()
            end = reader.after_hole(reference, at)
            if end == at:
                data = reader.read(reference, at, min(_CHUNK, size - at))
                hashing.update(data)
                end += len(data)
            else:
                self._hash_zeros(hashing, min(end, size) - at)
            if end == at:
                raise DamagedError("it ends before its size")
            at = end
        if self.holes_left >= 0:
            tree.hashes[tree.numbers[entry]] = hashing.digest()

    def _hash_zeros(self, hashing: hashlib._Hash, size: int) -> None:
        self.holes_left -= size
        while size > 0 and self.holes_left >= 0:
            self._check()
            hashing.update(_ZEROS[: min(size, _CHUNK)])
            size -= _CHUNK

    def _check(self) -> None:
        self._stop.check()
        if time.monotonic() > self._deadline:
            raise NotCheckedError("it took too long, and was ended")

    def note(self, tree: PackedTree, entry: int, text: str, *, unread: bool) -> None:
        """Keep why an entry cannot be read."""
        if unread:
            self.unchecked = self.unchecked or f"{text}: {_spelled(tree, entry)}"
            return
        self._damage = self._damage or text
        self._hit.add(tree.numbers[entry])

    def problem(self, tree: PackedTree) -> str:
        """The first damage, and by all their names the files that any hits; empty where there is none."""
        hit = [entry for entry, number in enumerate(tree.numbers) if number in self._hit and entry != ROOT]
        if not hit:
            return self._damage
        more = f" and {len(hit) - _TOLD:,} more" if len(hit) > _TOLD else ""
        return f"{self._damage}; it hits {', '.join(_spelled(tree, entry) for entry in hit[:_TOLD])}{more}"


def _spelled(tree: PackedTree, entry: int) -> str:
    return printable(b"/" + tree.path(entry))


def taken_file_problem(file: BinaryIO, path: str, stop: Stop) -> str:
    """Why the daemon does not get a file that it takes out of an open tar, such as a zone's kernel: it reads the first
    entry of that very path. Empty where that is a regular file, and not empty. Raises TarError, OSError, and
    AbandonedError once ``stop`` is set."""
    for member in TarReader(FileReader(file)):
        stop.check()
        if member.name == path.encode():
            if member.kind is not Kind.FILE:
                return f"its {path} is no regular file"
            return "" if member.size else f"its {path} is empty"
    return f"it holds no {path}"


def has_program(tree: PackedTree, path: bytes) -> bool | None:
    """Whether an absolute path leads to something, links followed inside the tree; None where that cannot be told.
    Raises OSError."""
    try:
        return tree.follow(path, hidden=MOUNTED) is not None
    except ContentsError:
        return None
