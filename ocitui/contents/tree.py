"""The tree inside a packed file, as columns, for whoever lists, reads, compares or digests it; and what can be wrong.
`squashfs`, `erofs` and `tar` each fill one and read the bodies of its files; nothing is mounted or followed."""

from __future__ import annotations

import io
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import chain, pairwise
from typing import Any, BinaryIO, NamedTuple, Protocol, runtime_checkable

from ocitui.cache import CacheError, PackedFormat
from ocitui.stand_in import refuse_told
from ocitui.threads import Stop

ROOT = 0
MOST_ENTRIES, MOST_LISTED = 2_000_000, 256 << 20
"""How many entries a tree may have, and how many bytes its listings may take."""
MOST_DAMAGE = 10_000
MOST_DIRECTORY, LONGEST_TARGET = 64 << 20, 1 << 16
MOST_XATTRS, MOST_XATTR_BYTES = 4096, 1 << 20
LONGEST_NAME = 255
_MOST_LINKS = 40
# How often names of a directory are looked for one by one, before it is listed.
_MOST_LOOKS = 8
_CHECKED_EACH = 256
_DOTS = (b".", b"..")
_NO_DEVICE = (0, 0)


class ContentsError(CacheError):
    """A packed file cannot be read."""

    code = "contents"


class DamagedError(ContentsError):
    """Its bytes contradict themselves, or its format."""

    code = "damaged-image"
    default_hint = "ocitui check --depth deep says what is wrong with it, ocitui repair what mends it"


class UnreadableFormatError(ContentsError):
    """It may be sound, but has what this version does not read."""

    code = "unreadable-image"
    default_hint = "a kernel or the tool that made it may read it"


class LinkLoopError(ContentsError):
    """A path in it leads through more symbolic links than a kernel follows."""

    code = "link-loop"


class HiddenPathError(ContentsError):
    """A path in it leads to where its reader cannot see, as something else is mounted there."""

    code = "hidden-path"


class Inode(NamedTuple):
    """``mode`` is with its type, ``mtime`` in whole seconds, ``device`` major and minor. By ``reference`` its reader
    finds its body, target and attributes; ``number`` is the same for all names of one inode."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    number: int
    reference: int
    device: tuple[int, int] = (0, 0)


class Reader(Protocol):
    """What a format reads of an inode by its reference. Each raises ContentsError, and OSError as the disk does."""

    def target(self, reference: int) -> bytes:
        """Where a symbolic link leads."""

    def xattrs(self, reference: int) -> Mapping[bytes, bytes]:
        """The extended attributes, by their whole names."""

    def read(self, reference: int, at: int, size: int) -> bytes:
        """So many bytes of a regular file from ``at`` on; the caller asks for none beyond its end."""

    def place(self, reference: int) -> tuple[int, ...]:
        """Grows with the place of a regular file's body: files read in this order are read straight on; no identity."""

    def after_hole(self, reference: int, at: int) -> int:
        """How far a regular file is known to be a hole from ``at`` on, which may go on there; ``at`` where it is none
        or the format cannot tell."""


@runtime_checkable
class BlockReader(Protocol):
    """One that knows what a file is made of without unpacking it: what is made of the same parts by readers of the same
    ``layout`` holds the same."""

    layout: tuple[int, int]

    def parts(self, reference: int) -> Iterator[tuple[int, object]]:
        """The parts of a regular file in order: how many bytes each holds, and what it is made of."""


@runtime_checkable
class BulkReader(Protocol):
    """One that reads many files through faster than one after the other."""

    def hash_files(
        self, tree: PackedTree, entries: Iterable[int], take: Callable[[int, bytes], object], stop: Stop
    ) -> None:
        """Have the sha256 of regular files taken, by their entries in the reader's tree; that of one which is sparse or
        has very many blocks may be left out. Raises ContentsError, OSError, AbandonedError."""


@runtime_checkable
class IndexedReader(Protocol):
    """One of a format in which a path is found fast only by an index that was made of the whole."""

    def path_index(self, tree: PackedTree) -> bytes:
        """What `open_tree` finds paths by, of the whole tree that it reads; empty where that cannot be told."""


class Lister(Reader, Protocol):
    """A reader of a format whose directories have a listing each, so that one can be read without the others."""

    listed: int
    """How many bytes of listings were read."""

    def names(self, reference: int) -> Iterator[tuple[Any, ...]]:
        """What a directory has, each with its name first, in rising order; raises as a reader does."""

    def put(self, tree: PackedTree, entry: int, named: tuple[Any, ...]) -> bool:
        """Add to a tree what a directory has by a name; whether that is a directory that may be listed in turn. What is
        wrong with it is noted."""

    def check(self) -> None:
        """Raises AbandonedError once listing is to end, UnreadableFormatError where it takes too much."""


class PackedTree:
    """Entries by their numbers, the root first and parents before children. 60 bytes an entry: paths are made
    where they are asked for. With a ``lister`` a directory is read when it is first asked for what is in it, and one
    that is only passed through for the one name: what is about all entries is true once `list_all` was called."""

    def __init__(self, reader: Reader, root: Inode, lister: Lister | None = None) -> None:
        self.reader, self._lister = reader, lister
        self._names = bytearray()
        self._ends = array("Q")
        self.parents = array("I")
        self.modes, self.uids, self.gids = array("I"), array("I"), array("I")
        self.sizes, self.numbers, self.references = array("Q"), array("Q"), array("Q")
        self.mtimes = array("q")
        self.devices: dict[int, tuple[int, int]] = {}
        self.damage: list[tuple[int, str]] = []
        """What could not be read, by the entry it is about."""
        self.unread: set[int] = set()
        """Which of ``damage``, by its place there, may be sound, but is what this version does not read."""
        self.hashes: dict[int, bytes] = {}
        """The sha256 of regular files where it is known, by their inodes' numbers."""
        self._children: dict[int, list[int]] | None = None
        self._unlisted = {ROOT} if lister is not None else set[int]()
        self._listed = dict[int, Sequence[int]]()
        self._looked = dict[int, dict[bytes, int | None]]()
        self.add(ROOT, b"", root)

    def __len__(self) -> int:
        return len(self.parents)

    def add(self, parent: int, name: bytes, node: Inode) -> int:
        """Add an entry; gives its number. Raises DamagedError for a name that none may have, UnreadableFormatError for
        too many."""
        number = len(self.parents)
        if number != ROOT:
            check_name(name)
        if number >= MOST_ENTRIES:
            raise UnreadableFormatError(f"it has more than {MOST_ENTRIES:,} entries")
        mode, uid, gid, size, mtime, inode, reference, device = node
        self._names += name
        self._ends.append(len(self._names))
        self.parents.append(parent)
        self.modes.append(mode)
        self.uids.append(uid)
        self.gids.append(gid)
        self.sizes.append(size)
        self.mtimes.append(mtime)
        self.numbers.append(inode)
        self.references.append(reference)
        if device != _NO_DEVICE:
            self.devices[number] = device
        self._children = None
        return number

    def note(self, entry: int, error: ContentsError) -> None:
        """Note what could not be read."""
        if isinstance(error, UnreadableFormatError):
            self.unread.add(len(self.damage))
        self.damage.append((entry, str(error)))

    def name(self, entry: int) -> bytes:
        return bytes(self._names[self._ends[entry - 1] if entry else 0 : self._ends[entry]])

    def path(self, entry: int) -> bytes:
        """Without a slash at the beginning or end; empty for the root."""
        parts = []
        while entry != ROOT:
            parts.append(self.name(entry))
            entry = self.parents[entry]
        return b"/".join(reversed(parts))

    def node(self, entry: int) -> Inode:
        return Inode(
            self.modes[entry],
            self.uids[entry],
            self.gids[entry],
            self.sizes[entry],
            self.mtimes[entry],
            self.numbers[entry],
            self.references[entry],
            self.devices.get(entry, (0, 0)),
        )

    def kind(self, entry: int) -> int:
        """The file type, as in modes."""
        return stat.S_IFMT(self.modes[entry])

    def children(self, entry: int) -> Sequence[int]:
        """Of a directory, by the bytes of their names. Raises OSError, AbandonedError, and ContentsError where it is
        too much."""
        if self._lister is not None:
            if entry in self._unlisted:
                self._list(entry)
            return self._listed.get(entry, ())
        if self._children is None:
            found: dict[int, list[int]] = {}
            for number in range(1, len(self)):
                found.setdefault(self.parents[number], []).append(number)
            for numbers in found.values():
                numbers.sort(key=self.name)
            self._children = found
        return self._children.get(entry, [])

    @property
    def is_whole(self) -> bool:
        """Whether all directories were read."""
        return not self._unlisted

    def list_all(self) -> None:
        """Read the directories that nobody asked for so far. Raises as `children`."""
        pending = sorted(self._unlisted, reverse=True)
        while pending:
            pending += reversed(self._list(pending.pop()))

    def _list(self, entry: int, only: bytes = b"") -> list[int]:
        """Add what is in a directory, or only what has a name; gives the directories among it that may be listed."""
        lister, known, before, below = self._lister, self._looked.get(entry, {}), len(self), list[int]()
        if lister is None:
            return below
        try:
            for count, named in enumerate(lister.names(self.references[entry])):
                if not count % _CHECKED_EACH:
                    self._check(lister)
                if only and named[0] > only:
                    break
                is_wanted = named[0] == only if only else not known or named[0] not in known
                if is_wanted and lister.put(self, entry, named):
                    below.append(len(self) - 1)
        except ContentsError as error:
            self.note(entry, error)
        self._check(lister)
        self._unlisted.update(below)
        if not only:
            self._unlisted.discard(entry)
            found: Sequence[int] = range(before, len(self))
            if known:
                found = sorted((*found, *(one for one in known.values() if one is not None)), key=self.name)
            self._listed[entry] = found
        return below

    def _check(self, lister: Lister) -> None:
        """Raises UnreadableFormatError, DamagedError, AbandonedError where listing is to end."""
        lister.check()
        if len(self) >= MOST_ENTRIES or lister.listed > MOST_LISTED:
            raise UnreadableFormatError("it lists more than is read here")
        if len(self.damage) > MOST_DAMAGE:
            kind = UnreadableFormatError if len(self.unread) == len(self.damage) else DamagedError
            raise kind(f"more than {MOST_DAMAGE:,} parts of it cannot be read")

    def find(self, path: bytes) -> int | None:
        """The entry of a path, no link followed; None where there is none."""
        entry = ROOT
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            found = self._child(entry, part)
            if found is None:
                return None
            entry = found
        return entry

    def follow(self, path: bytes, last: bool = True, hidden: Container[bytes] = ()) -> int | None:
        """The entry that a path leads to, links followed inside the tree, whose root is its own parent; one in the
        path's last place only with ``last``. None where it leads nowhere. Raises LinkLoopError, HiddenPathError where
        it leads into what the root has by a name that is ``hidden``, and as `target`."""
        entry, links, parts = ROOT, 0, path.split(b"/")[::-1]
        while parts:
            part = parts.pop()
            if part in (b"", b"."):
                continue
            if entry == ROOT and part in hidden:
                raise HiddenPathError(f"the path leads into /{part.decode()}, which is mounted over")
            found = self.parents[entry] if part == b".." else self._child(entry, part)
            if found is None or self.kind(entry) != stat.S_IFDIR:
                return None
            if self.kind(found) != stat.S_IFLNK or not (parts or last):
                entry = found
                continue
            links += 1
            if links > _MOST_LINKS:
                raise LinkLoopError(f"the path leads through more than {_MOST_LINKS} symbolic links")
            target = self.target(found)
            entry = ROOT if target.startswith(b"/") else entry
            parts += target.split(b"/")[::-1]
        return entry

    def _child(self, entry: int, name: bytes) -> int | None:
        looked = self._looked.setdefault(entry, {}) if entry in self._unlisted else {}
        if name in looked:
            return looked[name]
        if entry in self._unlisted and len(looked) < _MOST_LOOKS:
            before = len(self)
            self._list(entry, name)
            looked[name] = before if len(self) > before else None
            return looked[name]
        children = self.children(entry)
        at = bisect_left(children, name, key=self.name)
        return children[at] if at < len(children) and self.name(children[at]) == name else None

    def first_names(self) -> dict[int, int]:
        """The first entry in order of paths of each inode that has several names, by the others; no directory has."""
        repeated = {number for number, next in pairwise(sorted(self.numbers)) if number == next}
        several: dict[int, list[int]] = {}
        for entry, number in enumerate(self.numbers) if repeated else ():
            if number in repeated and self.kind(entry) != stat.S_IFDIR:
                several.setdefault(number, []).append(entry)
        linked = [entries for entries in several.values() if len(entries) > 1]
        links, places = {}, self._places(chain.from_iterable(linked))
        for entries in linked:
            first = min(entries, key=places.__getitem__)
            links.update({entry: first for entry in entries if entry != first})
        return links

    def _places(self, entries: Iterable[int]) -> dict[int, int]:
        """Of these, and what they are below, the places in the order of their paths. None of these is made, which
        together are as long as the tree is deep, times the entries."""
        below, places = dict[int, set[int]](), {ROOT: 0}
        for entry in entries:
            while entry != ROOT and entry not in (beside := below.setdefault(self.parents[entry], set())):
                beside.add(entry)
                entry = self.parents[entry]
        pending = [(b"", ROOT)] if below else []
        while pending:
            name, entry = pending.pop()
            if entry != ROOT and not name.endswith(b"/"):
                places[entry] = len(places)
                continue
            found = [(self.name(one), one) for one in below[entry]]
            # What is in a directory may come after another whose name goes on: a, a-b, a/c.
            pending += sorted([*found, *((name + b"/", one) for name, one in found if one in below)], reverse=True)
        return places

    def totals(self) -> list[int]:
        """By entry, the bytes of the files that it is and that are below it: an inode's with its first entry only."""
        firsts = dict(zip(reversed(self.numbers), reversed(range(len(self))), strict=True))
        totals = [0] * len(self)
        for entry in firsts.values():
            if stat.S_ISREG(self.modes[entry]):
                totals[entry] = self.sizes[entry]
        for entry in reversed(range(1, len(self))):
            totals[self.parents[entry]] += totals[entry]
        return totals

    def target(self, entry: int) -> bytes:
        return self.reader.target(self.references[entry])

    def xattrs(self, entry: int) -> Mapping[bytes, bytes]:
        return self.reader.xattrs(self.references[entry])

    def files(self, known: Container[int] = ()) -> list[int]:
        """The regular files, each inode once, in the order in which their bodies lie; none of a ``known`` number."""
        return sorted(self.files_as_listed(known), key=self.place)

    def files_as_listed(self, known: Container[int] = ()) -> list[int]:
        """The same in another order, which takes no look at them."""
        modes = enumerate(zip(self.modes, self.numbers, strict=True))
        once = {number: entry for entry, (mode, number) in modes if stat.S_ISREG(mode) and number not in known}
        return list(once.values())

    def place(self, entry: int) -> tuple[int, ...]:
        """Of a regular file, as its reader tells it."""
        # Of what is damaged it is told as the body is read.
        with suppress(ContentsError, OSError):
            return self.reader.place(self.references[entry])
        return ()

    def open(self, entry: int) -> io.RawIOBase:
        """The body of a regular file, to read and seek in. Raises ContentsError as it is read."""
        return _Body(self.reader, self.references[entry], self.sizes[entry])

    def walk(self, entry: int = ROOT) -> Iterator[int]:
        """An entry and all below it, each directory before what is in it, by the bytes of their names."""
        pending = [entry]
        while pending:
            entry = pending.pop()
            yield entry
            pending += reversed(self.children(entry))


class _Body(io.RawIOBase):
    def __init__(self, reader: Reader, reference: int, size: int) -> None:
        self._reader, self._reference, self._size, self._at = reader, reference, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = min(len(buffer), max(0, self._size - self._at))
        # Of an empty one too, which may be one that could not be read.
        data = self._reader.read(self._reference, self._at, size) if size or not self._size else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def check_name(name: bytes) -> None:
    """Raises DamagedError for what no entry of a directory may be called."""
    if not 0 < len(name) <= LONGEST_NAME or b"/" in name or b"\0" in name or name in _DOTS:
        raise DamagedError("it has a name that none may have")


def size_of(file: BinaryIO) -> int:
    """In bytes, of a block device too; where it is read on from stays. Raises OSError."""
    fd = file.fileno()
    at = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.lseek(fd, at, os.SEEK_SET)


def open_tree(
    file: BinaryIO, format: PackedFormat, stop: Stop, *, whole: bool = True, index: bytes = b""
) -> PackedTree:
    """The tree inside an open packed file, which is to stay open as long as bodies are read; not ``whole``, as far as
    it is asked for, where its reader makes one by an ``index``. Only the reader of its format is imported. Raises
    DamagedError, UnreadableFormatError, OSError; AbandonedError once ``stop`` is set."""
    refuse_told(file.fileno())
    reader = import_module(f".{format}", __package__)
    read: Callable[..., PackedTree] = getattr(reader, f"{format}_tree")
    return read(file, stop, whole, index) if index else read(file, stop, whole)
