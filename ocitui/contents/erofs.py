"""erofs read here, as mkfs.erofs 1.5 to 1.9 writes it; the format is of Linux fs/erofs/erofs_fs.h. What is not read is
refused by its name: a metadata box, other devices, encoded extents, tables of attribute prefixes."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

from ocitui.cache import crc32c
from ocitui.threads import Stop

from .erofs_compressed import CompressedBody
from .tree import (
    LONGEST_NAME,
    LONGEST_TARGET,
    MOST_DIRECTORY,
    MOST_XATTR_BYTES,
    MOST_XATTRS,
    ContentsError,
    DamagedError,
    Inode,
    PackedTree,
    UnreadableFormatError,
    size_of,
)

_SUPER_AT, _MAGIC = 1024, 0xE0F5E1E2
_SUPER = struct.Struct("<3I2BHQq4I32xI3H2BIQ8xQ8x")
_HAS_CHECKSUM = 1
_BLOCK_BITS = range(9, 17)
_48BIT, _READ_FEATURES = 0x80, 0xFF
"""Up to 48-bit addresses; prefixes in a table, and encoded extents, are refused where one is met."""
_UNREAD_FEATURES = {0x100: "a metadata box"}

_SLOT, _COMPACT, _EXTENDED = 32, struct.Struct("<4H4I2H4x"), struct.Struct("<4HQ4Iq2I16x")
_IS_EXTENDED, _ONE_LINK, _KNOWN_FORMAT = 1, 1 << 4, (1 << 5) - 1
_PLAIN, _FULL_INDEX, _INLINE, _COMPACT_INDEX, _CHUNKS = range(5)
_COMPRESSED = frozenset((_FULL_INDEX, _COMPACT_INDEX))
_NOWHERE_32, _NOWHERE_48 = (1 << 32) - 1, (1 << 48) - 1
_LARGEST_FILE, _LATEST = (1 << 63) - 1, 1 << 62
_CHUNK_BITS, _CHUNK_INDEXES, _CHUNK_48BIT = 0x1F, 0x20, 0x40
_CHUNK_INDEX = struct.Struct("<2HI")

_DIRENT = struct.Struct("<QHBx")
_TYPES = (None, stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFLNK)
_WITH_BODY = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK))
_DEVICES = frozenset((stat.S_IFCHR, stat.S_IFBLK))
_DOTS = (b".", b"..")
_PIECE, _LOOK = 1 << 20, 1 << 12

_XATTR_HEADER, _XATTR = struct.Struct("<4xB7x"), struct.Struct("<2BH")
_LONG_PREFIX = 0x80
_PREFIXES = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    5: b"lustre.",
    6: b"security.",
}


_Name = tuple[bytes, int, int]
"""In a directory, with its inode and the number of its type."""


class ErofsInode(NamedTuple):
    """An inode with where its parts are: ``start`` is its first block, or the form of its chunks, None for a hole; its
    attributes are the ``xattrs`` bytes before ``end``, where its map begins, or the end of its body."""

    inode: Inode
    layout: int
    start: int | None
    xattrs: int
    end: int


class ErofsReader:
    """An image that is open. Each method raises ContentsError, OSError as the disk does, and AbandonedError once it is
    to stop."""

    def __init__(self, file: BinaryIO, stop: Stop) -> None:
        self._file, self.stop = file, stop
        self._size = size_of(file)
        (magic, checksum, compatible, bits, _, small_root, _, self._epoch, _, blocks, meta, shared, self.features, _,
         devices, _, directory_bits, _, _, self._packed, large_root) = _SUPER.unpack(
            self.take(_SUPER_AT, _SUPER.size)
        )  # fmt: skip
        if magic != _MAGIC:
            raise DamagedError("it is no erofs")
        if bits not in _BLOCK_BITS:
            raise DamagedError(f"its block size is 2 to the power of {bits}")
        self.block = 1 << bits
        if compatible & _HAS_CHECKSUM:
            covered = bytearray(self.take(_SUPER_AT, self.block - _SUPER_AT % self.block))
            covered[4:8] = bytes(4)
            if crc32c(covered) != checksum:
                raise DamagedError("the checksum of its superblock is wrong")
        self._refuse(devices, directory_bits)
        self.root = small_root
        if self.features & _48BIT and large_root:
            self.root, blocks = large_root, blocks | small_root << 32
        if blocks * self.block > self._size:
            raise DamagedError(f"it is cut short: {self._size} bytes where its superblock says {blocks * self.block}")
        if not -_LATEST < self._epoch < _LATEST:
            raise DamagedError("its time is none")
        self._meta, self._shared = meta * self.block, shared * self.block
        self.listed, self._placed = 0, {self.root}
        self._node: tuple[int, ErofsInode] | None = None
        # Whoever asks for those of an inode has its number from where it was read.
        self._with_xattrs = set[int]()
        self._map: tuple[int, CompressedBody] | None = None
        self._fragments: tuple[ErofsInode, CompressedBody | None] | None = None

    def _refuse(self, devices: int, directory_bits: int) -> None:
        if unread := self.features & ~_READ_FEATURES:
            unknown = f"features that are not known (0x{unread:x})"
            raise UnreadableFormatError(f"it has {_UNREAD_FEATURES.get(unread, unknown)}")
        if devices:
            raise UnreadableFormatError("a part of it is on other devices")
        if directory_bits:
            raise UnreadableFormatError("its directories have blocks of their own size")

    def take(self, at: int, size: int) -> bytes:
        """So many bytes of the file itself."""
        if at + size > self._size:
            raise DamagedError("a part of it lies beyond its end")
        data = os.pread(self._file.fileno(), size, at)
        if len(data) != size:
            raise DamagedError("it was cut while it was read")
        return data

    def node(self, number: int) -> ErofsInode:
        last = self._node
        if last is None or last[0] != number:
            self._node = last = number, self._read_node(number)
        return last[1]

    def _read_node(self, number: int) -> ErofsInode:
        at = self._meta + number * _SLOT
        head = self.take(at, min(_EXTENDED.size, max(self._size - at, _COMPACT.size)))
        form, mode = head[0] | head[1] << 8, head[4] | head[5] << 8
        if form & ~_KNOWN_FORMAT:
            raise UnreadableFormatError(f"an inode has a form that is not known (0x{form:x})")
        nowhere = _NOWHERE_48
        if form & _IS_EXTENDED:
            if len(head) < _EXTENDED.size:
                raise DamagedError("a part of it lies beyond its end")
            _, count, _, high, size, low, _, uid, gid, mtime, _, _ = _EXTENDED.unpack(head)
            at += _EXTENDED.size
        else:
            _, count, _, high, size, passed, low, _, uid, gid = _COMPACT.unpack_from(head)
            mtime = self._epoch + passed
            at += _COMPACT.size
            if stat.S_ISDIR(mode) or not form & _ONE_LINK:
                high, nowhere = 0, _NOWHERE_32
        kind, layout, xattrs = stat.S_IFMT(mode), form >> 1 & 7, count and _XATTR_HEADER.size + 4 * (count - 1)
        if xattrs:
            self._with_xattrs.add(number)
        if kind not in _TYPES or size > _LARGEST_FILE:
            raise DamagedError("an inode has a type or a size that none may have")
        device = (0, 0)
        if kind in _DEVICES:
            device = low >> 8 & 0xFFF, low & 0xFF | low >> 12 & 0xFFF00
        start: int | None = low | high << 32
        if layout == _PLAIN and start == nowhere:
            start = None
        inode = Inode(mode, uid, gid, size if kind in _WITH_BODY else 0, mtime, number, number, device)
        return ErofsInode(inode, layout, start, xattrs, at + xattrs)

    def check(self) -> None:
        self.stop.check()

    def names(self, reference: int) -> Iterator[_Name]:
        """The names in a directory; its two dots are left out."""
        node, last = self.node(reference), b""
        size = node.inode.size
        if size > MOST_DIRECTORY:
            raise UnreadableFormatError(f"a directory of it takes {size:,} bytes, more than is read here")
        for at in range(0, size, _PIECE):
            self.stop.check()
            piece = self.body(node, at, min(_PIECE, size - at))
            self.listed += len(piece)
            for begin in range(0, len(piece), self.block):
                for name, number, kind in _block_entries(piece[begin : begin + self.block]):
                    if name <= last:
                        raise DamagedError("the names of a directory are not in order")
                    last = name
                    if name not in _DOTS:
                        yield name, number, kind

    def put(self, tree: PackedTree, entry: int, named: _Name) -> bool:
        name, number, kind = named
        try:
            child = self.node(number).inode
            if kind and (kind >= len(_TYPES) or _TYPES[kind] != stat.S_IFMT(child.mode)):
                raise DamagedError("a directory says another type than the inode")
        except ContentsError as error:
            tree.note(entry, type(error)(f"{error}: {name[:LONGEST_NAME]!r}"))
            return False
        added, is_directory = tree.add(entry, name, child), stat.S_ISDIR(child.mode)
        if is_directory and number in self._placed:
            tree.note(added, DamagedError("a directory has two places"))
            return False
        if is_directory:
            self._placed.add(number)
        return is_directory

    def body(self, node: ErofsInode, at: int, size: int) -> bytes:
        """So many bytes from ``at`` on of what an inode holds; none are beyond its end."""
        size = min(size, node.inode.size - at)
        if size <= 0:
            return b""
        if node.layout == _CHUNKS:
            return self._chunks(node, at, size)
        if node.layout in _COMPRESSED:
            return self._compressed(node).read(at, size)
        if node.layout not in (_PLAIN, _INLINE):
            raise UnreadableFormatError(f"a body is laid out as number {node.layout}, which is not known")
        if node.start is None:
            return bytes(size)
        first = node.start * self.block
        if node.layout == _PLAIN:
            return self.take(first + at, size)
        whole = (node.inode.size - 1) // self.block * self.block
        if node.end % self.block + node.inode.size - whole > self.block:
            raise DamagedError("the end of a body crosses a block")
        before = min(max(whole - at, 0), size)
        data = self.take(first + at, before) if before else b""
        return data + self.take(node.end + at + before - whole, size - before) if size > before else data

    def _chunks(self, node: ErofsInode, at: int, size: int) -> bytes:
        chunk, data = self._chunk_size(node), bytearray()
        first, last = at // chunk, (at + size - 1) // chunk
        for number, address in enumerate(self._addresses(node, first, last), first):
            begin, end = max(number * chunk, at), min((number + 1) * chunk, at + size)
            if address is None:
                data += bytes(end - begin)
            else:
                data += self.take(address * self.block + begin % chunk, end - begin)
        return bytes(data)

    def _chunk_size(self, node: ErofsInode) -> int:
        form = (node.start or 0) & 0xFFFF
        if form & ~(_CHUNK_BITS | _CHUNK_INDEXES | _CHUNK_48BIT):
            raise UnreadableFormatError(f"the chunks of a body have a form that is not known (0x{form:x})")
        size: int = self.block << (form & _CHUNK_BITS)
        return size

    def _addresses(self, node: ErofsInode, first: int, last: int) -> Iterator[int | None]:
        """The first block of each of these chunks; None of one that is a hole."""
        form = node.start or 0
        unit, high = 8 if form & _CHUNK_INDEXES else 4, 0xFFFF if form & _CHUNK_48BIT else 0
        table = self.take(node.end + -node.end % unit + first * unit, (last - first + 1) * unit)
        for entry in range(0, len(table), unit):
            if unit == 4:
                address, nowhere = int.from_bytes(table[entry : entry + 4], "little"), _NOWHERE_32
            else:
                upper, _, lower = _CHUNK_INDEX.unpack_from(table, entry)
                address, nowhere = lower | (upper & high) << 32, _NOWHERE_32 | high << 32
            yield None if address == nowhere else address

    def _compressed(self, node: ErofsInode) -> CompressedBody:
        number = node.inode.number
        last = self._map
        if last is None or last[0] != number:
            self._map = last = number, self._open_map(node)
        return last[1]

    def _open_map(self, node: ErofsInode, is_fragments: bool = False) -> CompressedBody:
        full = node.layout == _FULL_INDEX
        return CompressedBody(self, full=full, end=node.end, size=node.inode.size, is_fragments=is_fragments)

    def fragment(self, at: int, size: int) -> bytes:
        """So many bytes of the inode that holds the ends of files, or whole ones."""
        if self._fragments is None:
            node = self._read_node(self._packed)
            packed = node.layout in _COMPRESSED
            if not stat.S_ISREG(node.inode.mode):
                raise DamagedError("the inode of its fragments is no file")
            self._fragments = node, self._open_map(node, True) if packed else None
        node, compressed = self._fragments
        if at + size > node.inode.size:
            raise DamagedError("a fragment lies beyond the end of them all")
        return compressed.read(at, size) if compressed else self.body(node, at, size)

    def place(self, reference: int) -> tuple[int, ...]:
        node = self.node(reference)
        return node.start or 0, reference

    def read(self, reference: int, at: int, size: int) -> bytes:
        return self.body(self.node(reference), at, size)

    def after_hole(self, reference: int, at: int) -> int:
        node = self.node(reference)
        if node.layout == _PLAIN and node.start is None:
            return node.inode.size
        if node.layout != _CHUNKS or at >= node.inode.size:
            return at
        chunk = self._chunk_size(node)
        first = at // chunk
        last = min(first + _LOOK, (node.inode.size - 1) // chunk)
        for number, address in enumerate(self._addresses(node, first, last), first):
            if address is not None:
                return max(at, number * chunk)
        return min((last + 1) * chunk, node.inode.size)

    def target(self, reference: int) -> bytes:
        node = self.node(reference)
        if not 0 < node.inode.size <= LONGEST_TARGET:
            raise DamagedError(f"a link's target takes {node.inode.size:,} bytes")
        target = self.body(node, 0, node.inode.size)
        if b"\0" in target:
            raise DamagedError("a link's target has a zero byte")
        return target

    def xattrs(self, reference: int) -> Mapping[bytes, bytes]:
        if reference not in self._with_xattrs:
            return {}
        node = self.node(reference)
        area = self.take(node.end - node.xattrs, node.xattrs)
        at = _XATTR_HEADER.size + 4 * _XATTR_HEADER.unpack_from(area)[0]
        if at > len(area):
            raise DamagedError("the attributes of an inode do not fit it")
        found: dict[bytes, bytes] = {}
        taken = 0
        for (shared,) in struct.iter_unpack("<I", area[_XATTR_HEADER.size : at]):
            taken += self._shared_xattr(self._shared + 4 * shared, found)
            _check_xattrs(found, taken)
        while at < len(area):
            at += _xattr(area, at, found)
            _check_xattrs(found, taken + at)
        return found

    def _shared_xattr(self, at: int, found: dict[bytes, bytes]) -> int:
        name, _, value = _XATTR.unpack(self.take(at, _XATTR.size))
        return _xattr(self.take(at, _XATTR.size + name + value), 0, found)


def _xattr(area: bytes, at: int, found: dict[bytes, bytes]) -> int:
    """Take one attribute down; gives what it takes, so that the next begins at a multiple of four."""
    begin = at + _XATTR.size
    length, prefix, size = _XATTR.unpack_from(area.ljust(begin, b"\0"), at)
    if begin + length + size > len(area):
        raise DamagedError("the attributes of an inode do not fit it")
    if prefix & _LONG_PREFIX:
        raise UnreadableFormatError("an attribute's name begins as in a table of prefixes")
    if prefix not in _PREFIXES:
        raise UnreadableFormatError(f"an attribute's name begins as number {prefix}, which is not known")
    name = _PREFIXES[prefix] + area[begin : begin + length]
    if name in found or b"\0" in name:
        raise DamagedError("an inode has an attribute twice, or one with a zero byte in its name")
    found[name] = area[begin + length : begin + length + size]
    taken: int = _XATTR.size + length + size
    return taken + -taken % 4


def _check_xattrs(found: Mapping[bytes, bytes], taken: int) -> None:
    if len(found) > MOST_XATTRS or taken > MOST_XATTR_BYTES:
        raise UnreadableFormatError("an inode has more attributes than are read here")


def _block_entries(block: bytes) -> Iterator[_Name]:
    """The names of one block of a directory, which all stand behind its table; the last may be followed by zeros."""
    heads = _DIRENT.unpack_from(block)[1] if len(block) >= _DIRENT.size else 0
    if not heads or heads % _DIRENT.size or heads >= len(block):
        raise DamagedError("the names of a directory are not where it says")
    table = list(_DIRENT.iter_unpack(block[:heads]))
    ends = [at for _, at, _ in table[1:]]
    ends.append(len(block))
    for (number, at, kind), end in zip(table, ends, strict=True):
        if not heads <= at < end <= len(block):
            raise DamagedError("the names of a directory are not where it says")
        name = block[at:end]
        yield name.partition(b"\0")[0] if end == len(block) else name, number, kind


def erofs_tree(file: BinaryIO, stop: Stop, whole: bool = True) -> PackedTree:
    """The paths of an erofs that is open, all if ``whole``. Raises ContentsError, OSError; what is wrong with one
    directory or inode is among the tree's damage."""
    image = ErofsReader(file, stop)
    root = image.node(image.root)
    if not stat.S_ISDIR(root.inode.mode):
        raise DamagedError("its root is no directory")
    tree = PackedTree(image, root.inode, image)
    if whole:
        tree.list_all()
    return tree
