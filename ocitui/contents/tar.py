"""A tar as a tree: its headers are read once, and a body from where its header stands.

Of a path that comes twice the last counts, a directory need not be named, and a hard link may stand before the file.
What cannot stand in a tree, and all behind a damaged header, is left out and told as damage. The format is that of
tar(5), as `tar_headers` reads it.
"""

from __future__ import annotations

import os
import stat
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
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
    size_of,
)
from .unpacking import MOST_SPANS, BulkFile, Span, hash_bulk

_LONGEST_PATH = 4096
"""Linux's PATH_MAX: what is longer, nobody could open."""
_MOST_TOLD = 1000
_EARLIEST, _LATEST = -(1 << 63), (1 << 63) - 1
_UNNAMED = (1 << 64) - 1
"""The reference of a directory that no header names."""
_STRETCH = 1 << 20
_BODY = 1
"""What the reference of a file that has but a body has more than the place of that, a whole block."""


def tar_tree(file: BinaryIO, stop: Stop, _whole: bool = True) -> PackedTree:
    """The tree of an open tar, always all of it, as the last of a path counts. Raises DamagedError and
    UnreadableFormatError where not even its first entry can be read, or it has too many; OSError; AbandonedError once
    ``stop`` is set."""
    index, headers = _Index(_Members(file)), TarReader(FileReader(file))
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
    extended one, or of a file that is neither sparse nor has extended attributes its body."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last: tuple[int, _Member] | None = None
        self.with_xattrs = set[int]()
        """The references of those that have extended attributes."""

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
        if reference & _BODY:
            return self._pread(size, reference - _BODY + at)
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
        if reference & _BODY:
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

        ordered = sorted((one for one in entries if tree.references[one] & _BODY), key=tree.references.__getitem__)
        files = (file_of(entry, tree.references[entry] - _BODY, tree.sizes[entry]) for entry in ordered)
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
            last = self._last = reference, self._read_member(reference)
        return last[1]

    def _read_member(self, reference: int) -> _Member:
        try:
            entry = next(iter(TarReader(FileReader(self._file, reference))), None)
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
        self.tree = PackedTree(members, self._unnamed(ROOT))
        self._places: dict[bytes, int] = {}
        # Most members stand in the directory of the one before.
        self._directory: tuple[list[bytes], int] = [], ROOT
        self._late: dict[bytes, bytes] = {}
        self._inodes = 0

    def note(self, error: TarError) -> None:
        """Tell what is not in the tree."""
        told = len(self.tree.damage)
        if told < _MOST_TOLD:
            error = error if told < _MOST_TOLD - 1 else type(error)("and there is more that is not told")
            self.tree.note(ROOT, _told(error))

    def add(self, member: TarEntry, start: int) -> None:
        """Take in a member whose first header begins at ``start``. Raises UnreadableFormatError where there are too
        many."""
        self._inodes += 1
        try:
            parts = _parts(member.name)
            if member.kind is Kind.HARD_LINK:
                self._link(parts, _parts(member.link, "what it links to"))
                return
            if member.kind is Kind.SYMLINK and not 0 < len(member.link) <= LONGEST_TARGET:
                raise TarError(f"its target has {len(member.link)} bytes")
            size = len(member.link) if member.kind is Kind.SYMLINK else member.size
            mode, device = FILE_TYPES[member.kind] | member.mode, member.device or (0, 0)
            mtime = min(max(member.mtime, _EARLIEST), _LATEST)
            if member.xattrs:
                self._members.with_xattrs.add(start)
            elif member.kind is Kind.FILE and member.segments is None:
                start = member.offset + _BODY
            self._put(parts, Inode(mode, member.uid, member.gid, size, mtime, self._inodes, start, device))
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

    def _link(self, parts: list[bytes], target: list[bytes]) -> None:
        found = self._find(target)
        if found is not None:
            self._put(parts, self._linked(found))
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

    def _put(self, parts: list[bytes], node: Inode) -> None:
        parent = self._parent(parts)
        there = self._places.get(_key(parent, parts[-1])) if parts else ROOT
        if there is None:
            self._add(parent, parts[-1], node)
        elif stat.S_ISDIR(self.tree.modes[there]) and not stat.S_ISDIR(node.mode):
            raise TarError("it is no directory, but one before it is")
        else:
            self._replace(there, node)
        if self._late:
            self._late.pop(b"/".join(parts), None)

    def _parent(self, parts: list[bytes]) -> int:
        """The directory that a path stands in; those that were not named are made."""
        above = parts[:-1]
        if above == self._directory[0]:
            return self._directory[1]
        entry = ROOT
        for part in above:
            there = self._places.get(_key(entry, part))
            if there is None:
                there = self._add(entry, part, self._unnamed(len(self.tree)))
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
        if node.device != (0, 0):
            tree.devices[entry] = node.device

    @staticmethod
    def _unnamed(entry: int) -> Inode:
        """A directory that no header names; no member's inode has its number."""
        return Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, _UNNAMED - entry, _UNNAMED)


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
