"""A tar as a tree: its headers are read once, and a body from where its header stands.

Of a path that comes twice the last counts, a directory need not be named, and a hard link may stand before the file.
What cannot stand in a tree, and all behind a damaged header, is left out and told as damage. The format is that of
tar(5), as `tar_headers` reads it.

As the last of a path counts, one path costs reading all headers, but where an index is at hand that was made of them:
how many rows it has, in four bytes, a row for each entry, `_ROW`, and the names of all in the same order: the root,
then what is in it by the bytes of names, then what is in each of these, and so on.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import BinaryIO, NamedTuple

from ocitui.text import printable
from ocitui.threads import Stop

from .tar_headers import FILE_TYPES, TAR_BLOCK, FileReader, Kind, TarEntry, TarError, TarReader, UnsupportedTarError
from .tree import (
    LONGEST_NAME,
    LONGEST_TARGET,
    MOST_ENTRIES,
    MOST_XATTRS,
    ROOT,
    ContentsError,
    DamagedError,
    Inode,
    PackedTree,
    UnreadableFormatError,
    check_name,
    size_of,
)
from .unpacking import MOST_SPANS, BulkFile, Span, hash_bulk

_LONGEST_PATH = 4096
"""Linux's PATH_MAX: what is longer, nobody could open."""
_MOST_TOLD = 1000
_EARLIEST, _LATEST = -(1 << 63), (1 << 63) - 1
_UNNAMED = (1 << 64) - 1
"""What the references and numbers of directories that no header names count down from."""
_LAST_PLACE = (1 << 63) - 1
_ROW, _COUNT = struct.Struct("<QII"), struct.Struct("<I")
"""Of an entry in an index: where its first header begins, of all but one name of a file that of its hard link, and
beyond `_LAST_PLACE` for a root without; the row behind the last of what is in it; where its name ends."""
_MOST_LISTED = 2000
"""So many entries that were found by an index cost as much as reading all headers of many tars."""
_STRETCH = 1 << 20


def tar_tree(file: BinaryIO, stop: Stop, whole: bool = True, index: bytes = b"") -> PackedTree:
    """The tree of an open tar; all of it, unless it is not to be ``whole`` and has an ``index`` that tells the truth of
    its root. Raises DamagedError and UnreadableFormatError where not even its first entry can be read, or it has too
    many; OSError; AbandonedError once ``stop`` is set."""
    return (not whole and index and _Indexed(file, index, stop).tree()) or _scanned(file, stop, _Members(file))


def _scanned(file: BinaryIO, stop: Stop, members: _Members) -> PackedTree:
    """All of an open tar by its headers; raises as `tar_tree`."""
    index, headers = _Index(members), TarReader(FileReader(file))
    start = 0
    try:
        for member in headers:
            stop.check()
            index.add(member, start)
            start = member.offset + member.stored
            start += -start % TAR_BLOCK
        if not headers.ended:
            raise TarError("it is cut short: it ends without two zero blocks")
    except TarError as error:
        if not start:
            raise _told(error) from error
        end = min(start, size_of(file))
        index.note(type(error)(f"what stands behind byte {end} is not told: {error.message}"))
    index.link_late(stop)
    return index.tree


def _told(error: TarError) -> ContentsError:
    """What is wrong with a header, as an error of the whole tar."""
    kind = UnreadableFormatError if isinstance(error, UnsupportedTarError) else DamagedError
    return kind(error.message)


class _Member(NamedTuple):
    """An entry, and where the parts of a file begin in it and in the tar."""

    entry: TarEntry
    starts: array[int]
    places: array[int]


class _Members:
    """What is read of an inode when it is asked for; its reference is where its first header begins, which may be an
    extended one, and of a file that is neither sparse nor has extended attributes how many blocks behind it the body
    does, if these are fewer than a block has bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last: tuple[int, _Member] | None = None
        self.with_xattrs = set[int]()
        """The references of those that have extended attributes."""
        self.links: dict[int, tuple[int, int]] = {}
        """Of the entries that are hard links where the link's header begins, and the entry that it names."""

    def inode(self, member: TarEntry, start: int) -> Inode:
        """That of a member, no hard link, whose first header begins at ``start``. Raises TarError."""
        if member.kind is Kind.SYMLINK and not 0 < len(member.link) <= LONGEST_TARGET:
            raise TarError(f"its target has {len(member.link)} bytes")
        size = len(member.link) if member.kind is Kind.SYMLINK else member.size
        mode, device = FILE_TYPES[member.kind] | member.mode, member.device or (0, 0)
        mtime, before = min(max(member.mtime, _EARLIEST), _LATEST), 0
        if member.xattrs:
            self.with_xattrs.add(start)
        elif member.kind is Kind.FILE and member.segments is None:
            before = (member.offset - start) // TAR_BLOCK
        reference = start + before if before < TAR_BLOCK else start
        return Inode(mode, member.uid, member.gid, size, mtime, start, reference, device)

    def path_index(self, tree: PackedTree) -> bytes:
        """An index of the tree that they are all the members of; none where a name below the root has no header, or a
        hard link's does not tell what it is."""
        links, numbers = self.links, tree.numbers
        if len(set(numbers)) + len(links) != len(tree) or max(numbers[1:], default=0) > _LAST_PLACE:
            return b""
        if any(named in links or numbers[entry] != numbers[named] for entry, (_, named) in links.items()):
            return b""
        rows, names, order = bytearray(), bytearray(), [ROOT]
        for entry in order:
            order += tree.children(entry)
            names += tree.name(entry)
            rows += _ROW.pack(links[entry][0] if entry in links else numbers[entry], len(order), len(names))
        return _COUNT.pack(len(order)) + rows + names

    def target(self, reference: int) -> bytes:
        return self._member(reference).entry.link

    def xattrs(self, reference: int) -> Mapping[bytes, bytes]:
        found = dict(self._member(reference).entry.xattrs) if reference in self.with_xattrs else {}
        if len(found) > MOST_XATTRS:
            raise UnreadableFormatError(f"it has more than {MOST_XATTRS} extended attributes")
        return found

    def place(self, reference: int) -> tuple[int, ...]:
        return (reference,)

    def read(self, reference: int, at: int, size: int) -> bytes:
        if body := _body(reference):
            return self._pread(size, body + at)
        entry, starts, places = self._member(reference)
        if entry.segments is None:
            return self._pread(size, entry.offset + at)
        data, end = bytearray(size), at + size
        for number in range(max(bisect_right(starts, at) - 1, 0), bisect_right(starts, end)):
            start, length = entry.segments[number]
            first, last = max(start, at), min(start + length, end)
            if first < last:
                data[first - at : last - at] = self._pread(last - first, places[number] + first - start)
        return bytes(data)

    def after_hole(self, reference: int, at: int) -> int:
        if _body(reference):
            return at
        entry, starts, _ = self._member(reference)
        if entry.segments is None:
            return at
        number = bisect_right(starts, at)
        if number and at < sum(entry.segments[number - 1]):
            return at
        return starts[number] if number < len(starts) else entry.size

    def hash_files(
        self, tree: PackedTree, entries: Iterable[int], take: Callable[[int, bytes], object], stop: Stop
    ) -> None:
        """Of a stretch of the tar together, those whose bodies lie in it; what goes beyond it, in blocks."""

        def file_of(entry: int, at: int, size: int) -> BulkFile:
            group, offset = divmod(at, _STRETCH)
            fits = offset + size <= _STRETCH
            return BulkFile(group, at, offset, size if fits else 0, 0 if fits else -(-size // _STRETCH), entry)

        def spans(file: BulkFile) -> list[Span]:
            end = file.start + tree.sizes[file.entry]
            return [(at, 0, min(_STRETCH, end - at)) for at in range(file.start, end, _STRETCH)]

        bodies = sorted((body, entry) for entry in entries if (body := _body(tree.references[entry])))
        files = (file_of(entry, body, tree.sizes[entry]) for body, entry in bodies)
        hash_bulk(
            (file for file in files if file.blocks <= MOST_SPANS),
            lambda group: partial(os.pread, self._file.fileno(), _STRETCH, group * _STRETCH),
            spans,
            lambda at, _, size: self._pread(size, at),
            take,
            stop,
        )

    def _member(self, reference: int) -> _Member:
        """The same as the last time, or read."""
        last = self._last
        if last is None or last[0] != reference:
            last = self._last = reference, self._read_member(reference - reference % TAR_BLOCK)
        return last[1]

    def _read_member(self, start: int) -> _Member:
        try:
            entry = next(iter(TarReader(FileReader(self._file, start))), None)
        except TarError as error:
            raise _told(error) from error
        if entry is None:
            raise DamagedError("it was cut while it was read")
        segments = entry.segments or ()
        places = accumulate((size for _, size in segments[:-1]), initial=entry.offset)
        return _Member(entry, array("Q", (at for at, _ in segments)), array("Q", places))

    def _pread(self, size: int, at: int) -> bytes:
        data = os.pread(self._file.fileno(), size, at)
        while len(data) < size:
            more = os.pread(self._file.fileno(), size - len(data), at + len(data))
            if not more:
                raise DamagedError(f"it is cut: it ends at byte {at + len(data)}")
            data += more
        return data


class _Index:
    """The tree as the members come into it. A directory stays one: a member that would take its place is damage."""

    def __init__(self, members: _Members) -> None:
        self._members = members
        self.tree = PackedTree(members, _unnamed(ROOT))
        self._places: dict[bytes, int] = {}
        # Most members stand in the directory of the one before.
        self._directory: tuple[list[bytes], int] = [], ROOT
        self._late: dict[bytes, bytes] = {}

    def note(self, error: TarError) -> None:
        """Tell what is not in the tree."""
        told = len(self.tree.damage)
        if told < _MOST_TOLD:
            error = error if told < _MOST_TOLD - 1 else type(error)("and there is more that is not told")
            self.tree.note(ROOT, _told(error))

    def add(self, member: TarEntry, start: int) -> None:
        """Take in a member whose first header begins at ``start``. Raises UnreadableFormatError where there are too
        many."""
        try:
            parts = _parts(member.name)
            if member.kind is Kind.HARD_LINK:
                self._link(parts, _parts(member.link, "what it links to"), start)
            else:
                self._put(parts, self._members.inode(member, start))
        except TarError as error:
            self.note(error.placed(member.name))

    def link_late(self, stop: Stop) -> None:
        """Put the hard links in the tree that stood before what they name."""
        while self._late:
            stop.check()
            names, path = list[bytes](), next(iter(self._late))
            while (target := self._late.pop(path, None)) is not None:
                names.append(path)
                path = target
            found = self._find(path.split(b"/"))
            for name in names:
                try:
                    if found is None:
                        raise TarError(f"it is a hard link to {printable(path)}, which is not there")
                    self._put(_parts(name), self._linked(found))
                except TarError as error:
                    self.note(error.placed(name))

    def _link(self, parts: list[bytes], target: list[bytes], start: int) -> None:
        found = self._find(target)
        if found is not None:
            self._members.links[self._put(parts, self._linked(found))] = start, found
            return
        self._late[b"/".join(parts)] = b"/".join(target)
        if len(self._late) > MOST_ENTRIES:
            raise UnreadableFormatError(f"it has more than {MOST_ENTRIES:,} entries")

    def _linked(self, entry: int) -> Inode:
        if stat.S_ISDIR(self.tree.modes[entry]):
            raise TarError(f"it is a hard link to {printable(self.tree.path(entry))}, which is a directory")
        return self.tree.node(entry)

    def _find(self, parts: list[bytes]) -> int | None:
        entry: int | None = ROOT
        for part in parts:
            if entry is None:
                break
            entry = self._places.get(_key(entry, part))
        return entry

    def _put(self, parts: list[bytes], node: Inode) -> int:
        parent = self._parent(parts)
        there = self._places.get(_key(parent, parts[-1])) if parts else ROOT
        if there is None:
            there = self._add(parent, parts[-1], node)
        elif stat.S_ISDIR(self.tree.modes[there]) and not stat.S_ISDIR(node.mode):
            raise TarError("it is no directory, but one before it is")
        else:
            self._replace(there, node)
        if self._late:
            self._late.pop(b"/".join(parts), None)
        return there

    def _parent(self, parts: list[bytes]) -> int:
        """The directory that a path stands in; those that were not named are made."""
        above = parts[:-1]
        if above == self._directory[0]:
            return self._directory[1]
        entry = ROOT
        for part in above:
            there = self._places.get(_key(entry, part))
            if there is None:
                there = self._add(entry, part, _unnamed(len(self.tree)))
            elif not stat.S_ISDIR(self.tree.modes[there]):
                raise TarError(f"it stands below {printable(self.tree.path(there))}, which is no directory")
            entry = there
        self._directory = above, entry
        return entry

    def _add(self, parent: int, name: bytes, node: Inode) -> int:
        entry = self._places[_key(parent, name)] = self.tree.add(parent, name, node)
        return entry

    def _replace(self, entry: int, node: Inode) -> None:
        tree = self.tree
        tree.modes[entry], tree.uids[entry], tree.gids[entry] = node.mode, node.uid, node.gid
        tree.sizes[entry], tree.mtimes[entry] = node.size, node.mtime
        tree.numbers[entry], tree.references[entry] = node.number, node.reference
        tree.devices.pop(entry, None)
        self._members.links.pop(entry, None)
        if node.device != (0, 0):
            tree.devices[entry] = node.device


class _Indexed(_Members):
    """Those of a tar that are found by an index. What it says of a path is believed where the header there names that
    path, be there a later one. Else all headers are read, as where it would take as long; entries that were listed
    stay, as they were right.
    """

    def __init__(self, file: BinaryIO, index: bytes, stop: Stop) -> None:
        super().__init__(file)
        self.listed = 0
        self._index, self._stop = index, stop
        (self._count,) = _COUNT.unpack_from(index) if len(index) >= _COUNT.size else (0,)
        self._names_at = _COUNT.size + self._count * _ROW.size
        self._folders: dict[int, tuple[int, bytes]] = {}
        self._all: PackedTree | None = None

    def tree(self) -> PackedTree | None:
        """None where its root is not as the index tells."""
        if not self._count or self._names_at > len(self._index):
            return None
        root = _unnamed(ROOT) if self._row(ROOT)[0] > _LAST_PLACE else self._found(ROOT, b"")
        if root is None:
            return None
        self._folders[root.reference] = ROOT, b""
        tree = PackedTree(self, root, self)
        self._damage, self._unread = tree.damage, tree.unread
        return tree

    def check(self) -> None:
        self._stop.check()

    def names(self, reference: int) -> Iterator[tuple[bytes, int]]:
        (folder, path), last = self._folders[reference], b""
        for row in self._below(folder) if self._all is None else ():
            name = self._name(row)
            if name <= last:
                self._read_all()
            if self._all is not None:
                break
            last = name
            yield name, row
        if self._all is not None:
            found = self._all.find(path)
            for entry in self._all.children(found) if found is not None else ():
                if (name := self._all.name(entry)) > last:
                    yield name, entry

    def put(self, tree: PackedTree, entry: int, named: tuple[bytes, int]) -> bool:
        name, row = named
        path = tree.path(entry) + b"/" + name
        node = self._found(row, path) if self._all is None and len(tree) < _MOST_LISTED else None
        if node is None:
            everything = self._read_all()
            if (found := everything.find(path)) is None:
                return False
            node = everything.node(found)
        tree.add(entry, name, node)
        if is_folder := stat.S_ISDIR(node.mode):
            self._folders[node.reference] = row, path
        return is_folder

    def _read_all(self) -> PackedTree:
        """Once; what is damaged is told of the tree then, whatever it is asked for."""
        if self._all is None:
            self._all = _scanned(self._file, self._stop, self)
            self._unread |= {len(self._damage) + at for at in self._all.unread}
            self._damage += self._all.damage
        return self._all

    def _found(self, row: int, path: bytes) -> Inode | None:
        """What the headers say that a row tells of; None where that is not what has the path."""
        with suppress(ContentsError):
            start, member = self._at(row, path)
            if member.kind is Kind.HARD_LINK:
                start, member = self._at(self._look(member.link), member.link)
            if member.kind is not Kind.HARD_LINK:
                return self.inode(member, start)
        return None

    def _at(self, row: int, path: bytes) -> tuple[int, TarEntry]:
        """Where the member begins that a row tells of, and what it is. Raises ContentsError where it has not the
        path."""
        start = self._row(row)[0]
        if start < size_of(self._file) and not start % TAR_BLOCK:
            member = self._read_member(start).entry
            if _parts(member.name) == _parts(path):
                return start, member
        raise DamagedError("its index is not of this tar")

    def _look(self, path: bytes) -> int:
        """The row of a path; of one that has none another. Raises TarError."""
        row = ROOT
        for part in _parts(path):
            below = self._below(row)
            at = bisect_left(below, part, key=self._name)
            row = below[at] if at < len(below) else ROOT
        return row

    def _row(self, row: int) -> tuple[int, int, int]:
        return _ROW.unpack_from(self._index, _COUNT.size + row * _ROW.size) if row >= 0 else (0, 1, 0)

    def _below(self, row: int) -> Sequence[int]:
        """The rows of what is in a directory."""
        return range(self._row(row - 1)[1], min(self._row(row)[1], self._count))

    def _name(self, row: int) -> bytes:
        """Empty where none may have it."""
        name = self._index[self._names_at + self._row(row - 1)[2] : self._names_at + self._row(row)[2]]
        with suppress(DamagedError):
            check_name(name)
            return name
        return b""


def _body(reference: int) -> int:
    """Where the body begins of a file that has but that; 0 of what has none, or more."""
    blocks = reference % TAR_BLOCK
    return reference + blocks * (TAR_BLOCK - 1) if blocks else 0


def _unnamed(entry: int) -> Inode:
    """A directory that no header names; no member's inode has its number."""
    return Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, _UNNAMED - entry, _UNNAMED - entry)


def _key(parent: int, name: bytes) -> bytes:
    return name + parent.to_bytes(4, "little")


def _parts(path: bytes, what: str = "its path") -> list[bytes]:
    """The names of a path, which begins at the root whether or not it says so. Raises TarError for one that climbs, or
    that no file could have."""
    if len(path) > _LONGEST_PATH:
        raise TarError(f"{what} has more than {_LONGEST_PATH} bytes")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise TarError(f"{what} climbs")
    if b"\0" in path or (len(path) > LONGEST_NAME and max(map(len, parts), default=0) > LONGEST_NAME):
        raise TarError(f"{what} has a name that none may have")
    return parts
