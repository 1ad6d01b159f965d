"""squashfs 4.0 of little endian, read here; nothing is mounted. The format is of Linux fs/squashfs/squashfs_fs.h: files
and the ends of files ("fragments"), then tables in blocks of 8 KiB: inodes, listings, fragments, owners, attributes.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate, starmap
from typing import Any, BinaryIO, TypeVar

from ocitui.threads import Stop

from .squashfs_inodes import BASIC_FORMS, BEHIND_TARGET, INODE_FORMS, LINK_FORM, NO_FRAGMENT, NO_XATTRS, SquashfsInode
from .tree import (
    LONGEST_NAME,
    LONGEST_TARGET,
    MOST_DIRECTORY,
    MOST_XATTR_BYTES,
    MOST_XATTRS,
    DamagedError,
    Inode,
    PackedTree,
    UnreadableFormatError,
    size_of,
)
from .unpacking import (
    BulkFile,
    Span,
    Unpack,
    hash_bulk,
    part_of,
    unpack_lz4,
    unpack_lzma,
    unpack_xz,
    unpack_zlib,
    unpack_zstd,
)

_SUPER = struct.Struct("<4s4I6H8Q")
_MAGIC, _OTHER_ORDER = b"hsqs", b"sqsh"
_COMPRESSORS: dict[int, tuple[str, Unpack | None]] = {
    1: ("gzip", unpack_zlib),
    2: ("lzma", unpack_lzma),
    3: ("lzo", None),
    4: ("xz", unpack_xz),
    5: ("lz4", unpack_lz4),
    6: ("zstd", unpack_zstd),
}
_BLOCK_LOGS = range(12, 21)
# A block that is not compressed says so, in its size.
_METADATA, _METADATA_RAW = 1 << 13, 1 << 15
_RAW, _STORED_SIZE = 1 << 24, (1 << 24) - 1
_NO_TABLE = _NOWHERE = (1 << 64) - 1
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_PLACE = struct.Struct("<QI4x")
"""Of a fragment, with its size; of attributes and of their table, with their number."""
_ATTRIBUTE, _ELSEWHERE, _LARGEST_VALUE = struct.Struct("<HH"), 0x100, 1 << 16
_PREFIXES = {0: b"user.", 1: b"trusted.", 2: b"security."}
_HEADER, _NAME, _MOST_NAMES = struct.Struct("<3I"), struct.Struct("<HhHH"), 256
_HEAD = struct.Struct("<4H2I")
_DIR, _REG = 1, 2
_KINDS = (0, stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK)
_BULK = struct.Struct(">2Q4I")
"""A `BulkFile` in half of its memory; in the order of its bytes too."""
_CHUNK, _MOST_BLOCKS = 2048, 64 << 20
# How many blocks of metadata a listing may unpack, and how many are kept for it and, of a whole one, afterwards.
_MOST_UNPACKED, _KEPT_LISTING, _KEPT = (256 << 20) // _METADATA, 4096, 64
# Duplicates are in fragments of long before.
_KEPT_FRAGMENTS = 8
_UNREAL = 1 << 63
"""With its entry's number, that of an inode which is not to be believed."""

T = TypeVar("T")


_Name = tuple[bytes, int, int, int]
"""In a listing, with the basic form and the number that its inode is to have, and its reference."""


def squashfs_tree(file: BinaryIO, stop: Stop, whole: bool = True) -> PackedTree:
    """Its entries, all if ``whole``; of a damaged listing those before the damage. The tree reads on from ``file``, for
    one thread at a time. Raises DamagedError, UnreadableFormatError, OSError, AbandonedError."""
    image = _Squashfs(file, stop)
    return image.whole_tree() if whole else image.tree()


class _Squashfs:
    def __init__(self, file: BinaryIO, stop: Stop) -> None:
        self._file, self.size, self._stop = file, size_of(file), stop
        if self.size < _SUPER.size:
            raise DamagedError("it is too short for a squashfs")
        self._blocks: dict[int, tuple[bytes, int]] = {}
        self._recent = -1, (b"", 0)
        self._most_kept, self._unpacked, self.listed = _KEPT_LISTING, 0, 0
        self._placed = set[int]()
        self._attributed = {_NOWHERE}
        self._last_file: tuple[int, _BlockList] | None = None
        self._last_block: tuple[Span, bytes] = (-1, 0, 0), b""
        self._last_fragments: dict[int, bytes] = {}
        self._stored_fragments: dict[int, tuple[int, bytes]] = {}
        self._find_tables(*self._superblock())

    def _superblock(self) -> tuple[int, int, list[int]]:
        """How many fragments and owners there are, and where the tables are."""
        magic, _, _, self._block_size, fragments, compressor, block_log, _, ids, major, minor, *starts = _SUPER.unpack(
            self.stored(0, _SUPER.size)
        )
        if magic == _OTHER_ORDER:
            raise UnreadableFormatError("it is squashfs of big endian")
        if magic != _MAGIC:
            raise DamagedError("it does not begin as squashfs does")
        if (major, minor) != (4, 0):
            raise UnreadableFormatError(f"it is squashfs {major}.{minor}, and only 4.0 is read here")
        if block_log not in _BLOCK_LOGS or self._block_size != 1 << block_log:
            raise DamagedError("its block size is impossible")
        self._root, used, *tables = starts
        if self.size < used:
            raise DamagedError(f"it is cut: of {used:,} bytes there are {self.size:,}")
        name, unpack = _COMPRESSORS.get(compressor, (f"compressor {compressor}", None))
        if unpack is None:
            raise UnreadableFormatError(f"it is compressed with {name}, which is not read here")
        self.size, self._unpack = used, unpack
        self.layout = compressor, self._block_size
        return fragments, ids, tables

    def _find_tables(self, fragments: int, ids: int, starts: list[int]) -> None:
        ids_at, xattrs_at, inodes, listings, fragments_at, _ = starts
        if not _SUPER.size <= inodes < listings < self.size:
            raise DamagedError("its tables are out of order")
        self._ids = _Ids(owners := _Rows(self, ids_at, ids, listings, _U32))
        self._fragments = _Rows(self, fragments_at, fragments, listings, _PLACE) if fragments else None
        self._inodes = range(inodes, listings)
        self._listings = range(listings, (self._fragments or owners).first)
        self._xattrs: _Rows | None = None
        if xattrs_at != _NO_TABLE:
            start, count = _PLACE.unpack(self.stored(xattrs_at, _PLACE.size))
            self._xattrs = _Rows(self, xattrs_at + _PLACE.size, count, listings, _PLACE)
            self._attributes = range(start, self._xattrs.first)

    def stored(self, at: int, size: int) -> bytes:
        """Bytes as they are in the file."""
        if at + size > self.size:
            raise DamagedError("a part of it lies beyond its end")
        data = os.pread(self._file.fileno(), size, at)
        if len(data) != size:
            raise DamagedError("it was cut while it was read")
        return data

    def _unpacked_at(self, at: int, size: int, most: int) -> bytes:
        packed = self.stored(at, size)
        try:
            return self._unpack(packed, most)
        except DamagedError as error:
            raise DamagedError(f"its block at byte {at:,} is damaged: {error}") from error

    def block(self, at: int) -> tuple[bytes, int]:
        """A block of metadata, and where the next one begins."""
        if at != self._recent[0]:
            self._recent = at, _kept(self._blocks, at, self._new_block, self._most_kept)
        return self._recent[1]

    def _new_block(self, at: int) -> tuple[bytes, int]:
        self._unpacked += 1
        (head,) = _U16.unpack(self.stored(at, _U16.size))
        size, at = head & ~_METADATA_RAW, at + _U16.size
        if not 0 < size <= _METADATA:
            raise DamagedError(f"its block at byte {at:,} has an impossible size")
        return self.stored(at, size) if head & _METADATA_RAW else self._unpacked_at(at, size, _METADATA), at + size

    def tree(self) -> PackedTree:
        """With its root; made once."""
        root, _ = self._inode(self._root)
        if root.form != _DIR:
            raise DamagedError("its root is no directory")
        self._placed.add(self._root)
        return PackedTree(self, self._told(root, self._root), self)

    def whole_tree(self) -> PackedTree:
        tree = self.tree()
        tree.list_all()
        self._blocks.clear()
        self._most_kept = _KEPT
        return tree

    def check(self) -> None:
        self._stop.check()
        if self._unpacked > _MOST_UNPACKED:
            raise UnreadableFormatError("it lists more than is read here")

    def names(self, reference: int) -> Iterator[_Name]:
        """Of a listing, until it ends or is damaged."""
        listing, fault = self._listing(self._inode(reference)[0])
        at, last = 0, b""
        try:
            while at < len(listing):
                more, block, base = _HEADER.unpack_from(listing, at)
                at += _HEADER.size
                if more >= _MOST_NAMES:
                    raise DamagedError("its listing is damaged")
                for _ in range(more + 1):
                    offset, delta, form, length = _NAME.unpack_from(listing, at)
                    at += _NAME.size
                    name = listing[at : at + length + 1]
                    at += length + 1
                    if at > len(listing) or name <= last or form not in BASIC_FORMS:
                        raise fault or DamagedError("its listing is damaged")
                    yield name, form, base + delta & 0xFFFFFFFF, block << 16 | offset
                    last = name
        except struct.error:
            raise fault or DamagedError("its listing is cut") from None
        if fault:
            raise fault

    def _listing(self, directory: SquashfsInode) -> tuple[bytes, DamagedError | None]:
        """As much of it as can be read, and why there is no more. Its size is told with 3 more, for `.` and `..`."""
        size, listing = directory.size - 3, bytearray()
        if size > MOST_DIRECTORY:
            raise UnreadableFormatError(f"its listing claims {size:,} bytes, which is more than is read here")
        try:
            if size > 0:
                self.listed += size
                cursor = _Cursor(self, self._listings, directory.start << 16 | directory.offset)
                for part in cursor.parts(size):
                    listing += part
        except DamagedError as error:
            return bytes(listing), error
        return bytes(listing), None

    def put(self, tree: PackedTree, entry: int, named: _Name) -> bool:
        text, form, number, reference = named
        try:
            node, _ = self._inode(reference)
            if node.form != form or node.number != number:
                raise DamagedError("its inode is not that of its name")
            if form == _DIR and reference in self._placed:
                raise DamagedError("it is a directory that has another place")
            told = self._told(node, reference)
        except DamagedError as error:
            told = Inode(_KINDS[form], 0, 0, 0, 0, _UNREAL | len(tree), _NOWHERE)
            tree.note(tree.add(entry, text, told), error)
            return False
        tree.add(entry, text, told)
        if form == _DIR:
            self._placed.add(reference)
        return form == _DIR

    def _inode(self, reference: int) -> tuple[SquashfsInode, _Cursor]:
        """An inode, and what stands behind its head: a link's target, or the list of a file's blocks."""
        cursor = _Cursor(self, self._inodes, reference)
        head = cursor.unpack(_HEAD)
        if head[0] not in INODE_FORMS:
            raise DamagedError("its inode is of an impossible type")
        layout, added, ordered = INODE_FORMS[head[0]]
        return SquashfsInode._make(ordered(head + cursor.unpack(layout) + added)), cursor

    def _told(self, node: SquashfsInode, reference: int) -> Inode:
        """As the tree holds it. Its number is its place: what it claims as such may be another's too."""
        form, mode, user, group, mtime, _, size, _, _, _, xattrs, device = node
        if xattrs != NO_XATTRS:
            self._attributed.add(reference)
        if form == _DIR:
            size = 0
        elif form == LINK_FORM and size > LONGEST_TARGET:
            raise DamagedError("where it leads is too long for a link")
        elif size > _MOST_BLOCKS * self._block_size:
            raise DamagedError("it claims more blocks than a file has")
        # As the kernel's new_decode_dev.
        rdev = (device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00) if device else (0, 0)
        mode = _KINDS[form] | mode & 0o7777
        return Inode(mode, self._ids[user], self._ids[group], size, mtime, reference, reference, rdev)

    def target(self, reference: int) -> bytes:
        node, cursor = self._inode(reference)
        if node.form != LINK_FORM or node.size > LONGEST_TARGET:
            raise DamagedError("it is no link")
        target = cursor.take(node.size)
        if b"\0" in target:
            raise DamagedError("where it leads is damaged")
        return target

    def xattrs(self, reference: int) -> dict[bytes, bytes]:
        if reference not in self._attributed:
            return {}
        node, cursor = self._inode(reference)
        index = node.xattrs
        if index == BEHIND_TARGET:
            cursor.take(node.size)
            (index,) = cursor.unpack(_U32)
        found: dict[bytes, bytes] = {}
        if index == NO_XATTRS:
            return found
        if self._xattrs is None:
            raise DamagedError("it has extended attributes, which are nowhere")
        place, count = self._xattrs.row(index)
        if count > MOST_XATTRS:
            raise UnreadableFormatError(f"it claims {count:,} extended attributes, which is more than is read here")
        cursor, left = _Cursor(self, self._attributes, place), MOST_XATTR_BYTES
        for _ in range(count):
            name, value = self._xattr(cursor)
            left -= len(name) + len(value)
            if left < 0:
                raise UnreadableFormatError("its extended attributes take more than is read here")
            if name in found:
                raise DamagedError("its extended attributes are damaged")
            found[name] = value
        return found

    def _xattr(self, cursor: _Cursor) -> tuple[bytes, bytes]:
        kind, length = cursor.unpack(_ATTRIBUTE)
        prefix = _PREFIXES.get(kind & ~_ELSEWHERE)
        if prefix is None:
            raise UnreadableFormatError(f"it has an extended attribute of kind {kind}, which is not read here")
        if not 0 < length <= LONGEST_NAME - len(prefix):
            raise DamagedError("its extended attributes are damaged")
        name = prefix + cursor.take(length)
        (size,) = cursor.unpack(_U32)
        if kind & _ELSEWHERE:
            if size != _U64.size:
                raise DamagedError("its extended attributes are damaged")
            cursor = _Cursor(self, self._attributes, *cursor.unpack(_U64))
            (size,) = cursor.unpack(_U32)
        if size > _LARGEST_VALUE or b"\0" in name:
            raise DamagedError("its extended attributes are damaged")
        return name, cursor.take(size)

    def place(self, reference: int) -> tuple[int, ...]:
        node, _ = self._inode(reference)
        return node.fragment, node.start

    def after_hole(self, reference: int, at: int) -> int:
        blocks = self._block_list(reference)
        end: int = blocks.after_hole(at // self._block_size) * self._block_size
        return max(at, min(end, blocks.node.size))

    def read(self, reference: int, at: int, size: int) -> bytes:
        blocks, parts = self._block_list(reference), []
        end = min(at + size, blocks.node.size)
        while at < end:
            index, skip = divmod(at, self._block_size)
            part = self._data(blocks, index)[skip : skip + end - at]
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def hash_files(
        self, tree: PackedTree, entries: Iterable[int], take: Callable[[int, bytes], object], stop: Stop
    ) -> None:
        def spans(file: BulkFile) -> list[Span]:
            blocks = self._block_list(tree.references[file.entry])
            return [blocks.span(index) for index in range(file.blocks)]

        files = (self._bulk_file(entry, tree.references[entry]) for entry in entries)
        bulk = (file for file in files if file.blocks <= _CHUNK and file.start < self.size)
        ordered = sorted(_BULK.pack(*file) for file in bulk)
        hash_bulk(starmap(BulkFile, map(_BULK.unpack, ordered)), self._fragment_of, spans, self._whole, take, stop)

    def _bulk_file(self, entry: int, reference: int) -> BulkFile:
        node, _ = self._file_inode(reference)
        blocks, end = divmod(node.size, self._block_size)
        if node.fragment == NO_FRAGMENT or not end:
            return BulkFile(NO_FRAGMENT + node.start, node.start, 0, 0, blocks + (end > 0), entry)
        return BulkFile(node.fragment, node.start, node.offset, end, blocks, entry)

    def _fragment_of(self, group: int) -> Callable[[], bytes]:
        return partial(self._unpacked_data, *self._fragment_place(group)) if group < NO_FRAGMENT else bytes

    def parts(self, reference: int) -> Iterator[tuple[int, object]]:
        blocks = self._block_list(reference)
        left = blocks.node.size
        for index in range(blocks.count):
            size = min(left, self._block_size)
            yield size, self._stored_part(*blocks.place(index))
            left -= size
        if left:
            yield left, (blocks.node.offset, self._stored_fragment(blocks.node.fragment))

    def _stored_fragment(self, number: int) -> tuple[int, bytes]:
        return _kept(
            self._stored_fragments,
            number,
            lambda number: self._stored_part(*self._fragment_place(number)),
            _KEPT_FRAGMENTS,
        )

    def _stored_part(self, at: int, word: int) -> tuple[int, bytes]:
        """How a block is stored, and its bytes."""
        return word, self.stored(at, self._stored_size(at, word)) if word else b""

    def _block_list(self, reference: int) -> _BlockList:
        """The same as the last time, or found."""
        last = self._last_file
        if last is None or last[0] != reference:
            self._last_file = last = reference, _BlockList(*self._file_inode(reference), self._block_size)
        return last[1]

    def _file_inode(self, reference: int) -> tuple[SquashfsInode, _Cursor]:
        node, cursor = self._inode(reference)
        if node.form != _REG or node.size > _MOST_BLOCKS * self._block_size:
            raise DamagedError("it is no file")
        return node, cursor

    def _data(self, blocks: _BlockList, index: int) -> bytes:
        """All of a block of a file, or of its end."""
        node = blocks.node
        if index == blocks.count:
            return part_of(self._fragment(node.fragment), node.offset, node.size - index * self._block_size)
        span = blocks.span(index)
        if self._last_block[0] != span:
            self._last_block = span, self._whole(*span)
        return self._last_block[1]

    def _whole(self, at: int, word: int, size: int) -> bytes:
        """A block of a file, which holds so much."""
        data = self._unpacked_data(at, word) if word else bytes(size)
        if len(data) != size:
            raise DamagedError(f"its block at byte {at:,} is damaged: it holds {len(data):,} bytes")
        return data

    def _fragment_place(self, number: int) -> tuple[int, ...]:
        if self._fragments is None:
            raise DamagedError("its end is nowhere")
        return self._fragments.row(number)

    def _fragment(self, number: int) -> bytes:
        return _kept(
            self._last_fragments,
            number,
            lambda number: self._unpacked_data(*self._fragment_place(number)),
            _KEPT_FRAGMENTS,
        )

    def _unpacked_data(self, at: int, word: int) -> bytes:
        size = self._stored_size(at, word)
        return self.stored(at, size) if word & _RAW else self._unpacked_at(at, size, self._block_size)

    def _stored_size(self, at: int, word: int) -> int:
        size = word & _STORED_SIZE
        if not 0 < size <= self._block_size or word & ~(_RAW | _STORED_SIZE):
            raise DamagedError(f"its block at byte {at:,} has an impossible size")
        return size


def _kept(kept: dict[int, T], key: int, make: Callable[[int], T], most: int) -> T:
    """What was made for a key, of which the last ones that were asked for are kept."""
    found = kept.pop(key, None)
    if found is None:
        found = make(key)
        if len(kept) >= most:
            del kept[next(iter(kept))]
    kept[key] = found
    return found


class _Cursor:
    """Reads on in a table from a place: where its block begins in the table, and in the low 16 bits where it is in what
    that unpacks to."""

    __slots__ = ("_at", "_block", "_block_at", "_image", "_next", "_table")

    def __init__(self, image: _Squashfs, table: range, place: int) -> None:
        self._image, self._table, self._at = image, table, place & 0xFFFF
        self._turn(table.start + (place >> 16))
        if self._at > len(self._block):
            raise DamagedError("a part of it lies beyond its block")

    @property
    def place(self) -> int:
        return self._block_at - self._table.start << 16 | self._at

    def _turn(self, at: int) -> None:
        if at not in self._table:
            raise DamagedError("a part of it lies outside its table")
        self._block_at = at
        self._block, self._next = self._image.block(at)

    def moved(self, place: int) -> _Cursor:
        return _Cursor(self._image, self._table, place)

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        at = self._at
        if at + form.size > len(self._block):
            return form.unpack(self.take(form.size))
        self._at += form.size
        return form.unpack_from(self._block, at)

    def take(self, size: int) -> bytes:
        return b"".join(self.parts(size))

    def parts(self, size: int) -> Iterator[bytes]:
        """So many bytes, a block's at a time."""
        while size:
            if self._at == len(self._block):
                self._turn(self._next)
                self._at = 0
            part = self._block[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            yield part


class _Rows:
    """A table of rows of one size, by an index of its blocks that stands at a byte, after them; none of which is before
    ``least``."""

    def __init__(self, image: _Squashfs, at: int, count: int, least: int, form: struct.Struct) -> None:
        self._image, self._at, self._count, self._least, self._form = image, at, count, least, form
        self._in_block = _METADATA // form.size
        if at > image.size - _U64.size * -(-count // self._in_block):
            raise DamagedError("its tables are out of order")
        self.first = self._block_at(0) if count else at

    def _block_at(self, block: int) -> int:
        (at,) = _U64.unpack(self._image.stored(self._at + block * _U64.size, _U64.size))
        if not self._least <= at < self._at:
            raise DamagedError("its tables are out of order")
        return int(at)

    def row(self, number: int) -> tuple[int, ...]:
        if number >= self._count:
            raise DamagedError("it has a number that is beyond its table")
        block, row = divmod(number, self._in_block)
        at = self._block_at(block)
        return _Cursor(self._image, range(at, at + 1), row * self._form.size).unpack(self._form)


class _Ids(dict[int, int]):
    """Users and groups by the numbers that inodes have for them, read when first asked for."""

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows

    def __missing__(self, number: int) -> int:
        (self[number],) = self._rows.row(number)
        return self[number]


class _BlockList:
    """Where the blocks of a file are, ``count`` but for its fragment; found some thousands at a time when asked for."""

    def __init__(self, node: SquashfsInode, cursor: _Cursor, block_size: int) -> None:
        whole, end = divmod(node.size, block_size)
        self.node, self.count = node, whole + (end > 0 and node.fragment == NO_FRAGMENT)
        self._cursor, self._block_size = cursor, block_size
        self._chunks, self._chunk = [(cursor.place, node.start)], -1
        self._words: tuple[int, ...] = ()
        self._starts: list[int] = []

    def place(self, index: int) -> tuple[int, int]:
        """The byte at which a block begins, and its size as the file tells it."""
        chunk, index = divmod(index, _CHUNK)
        while chunk != self._chunk:
            self._load(min(chunk, len(self._chunks) - 1))
        return self._starts[index], self._words[index]

    def span(self, index: int) -> Span:
        """With the size that it is to have unpacked; not of the end in a fragment."""
        at, word = self.place(index)
        return at, word, min(self._block_size, self.node.size - index * self._block_size)

    def after_hole(self, index: int) -> int:
        """The first block from ``index`` on that is stored, or where the next some thousands begin."""
        end = min(self.count, index - index % _CHUNK + _CHUNK)
        while index < end and not self.place(index)[1]:
            index += 1
        return index

    def _load(self, chunk: int) -> None:
        place, start = self._chunks[chunk]
        cursor = self._cursor.moved(place)
        count = min(_CHUNK, self.count - chunk * _CHUNK)
        self._words = struct.unpack(f"<{count}I", cursor.take(_U32.size * count))
        self._starts = list(accumulate((word & _STORED_SIZE for word in self._words), initial=start))
        self._chunk = chunk
        if chunk + 1 == len(self._chunks):
            self._chunks.append((cursor.place, self._starts[-1]))
