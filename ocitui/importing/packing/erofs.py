"""erofs that is not compressed, written here: nothing is unpacked, no user is needed, and no file system's or host's
order comes into it. The format is of Linux fs/erofs/erofs_fs.h: a superblock, the inodes with their attributes and
the ends of their files, then whole blocks.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable
from itertools import chain
from uuid import NAMESPACE_OID, uuid5

from ocitui.cache import crc32c
from ocitui.contents import Kind, Xattrs

from ..layers.flatten import Flattening, Gathered, Part
from ..layers.tree import ROOT, Counter
from ..progress import ImportPhase

_BLOCK, _SLOT, _INODE = 1 << 12, 32, 64
_SUPER_AT = 1024
_SUPER = struct.Struct("<3I2BH2Q4I16s16x48x")
_MAGIC, _CHECKSUM_AND_MTIME = 0xE0F5E1E2, 3
_EXTENDED = struct.Struct("<4HQ4IQ2I16x")
_PLAIN, _INLINE = 1, 1 | 2 << 1
_ATTRIBUTE = struct.Struct("<2BH")
_PREFIXES = {
    b"user.": 1,
    b"system.posix_acl_access": 2,
    b"system.posix_acl_default": 3,
    b"trusted.": 4,
    b"security.": 6,
}
# Of a name in a directory.
_TYPES: dict[int, int] = {
    Kind.FILE: 1,
    Kind.DIRECTORY: 2,
    Kind.CHARACTER: 3,
    Kind.BLOCK: 4,
    Kind.FIFO: 5,
    Kind.SYMLINK: 7,
}
_NAME = struct.Struct("<QHBx")
_ATTRIBUTES, _MOST_ATTRIBUTES = 12, 4 * 0xFFFF


class ErofsImage:
    """A tree as erofs: where all of it stands, ``size`` bytes in all, and `write`, which puts it there. Attributes that
    it cannot hold are added to those that the ``image`` lost; ``identity`` is what its UUID is made from."""

    def __init__(self, image: Flattening, identity: str) -> None:
        self._image, self._identity = image, identity
        self._tree = tree = image.plan.tree
        self._attributes = {inode: self._packed(inode, xattrs) for inode, xattrs in tree.xattrs.items()}
        self._links = tree.link_counts()
        self._nodes, self._starts = array("Q", bytes(8 * len(tree))), array("Q", bytes(8 * len(tree)))
        self._sizes, self._inline = array("Q", tree.sizes), bytearray(len(tree))
        for inode in image.plan.before_files:
            self._sizes[inode] = len(self._content(inode))
        at, blocks, self._inodes = _BLOCK, 0, 0
        for self._inodes, inode in enumerate(chain(image.plan.before_files, image.plan.file_order), 1):
            before = _INODE + len(self._attributes.get(inode, b""))
            whole, end = divmod(self._sizes[inode], _BLOCK)
            left = -at % _BLOCK or _BLOCK
            # An end stands behind its inode, where that takes no half of a block to begin a new one.
            inline = before + end <= left or (before + end <= _BLOCK and end <= _BLOCK // 2)
            needed = before + end if inline else before
            if left < (needed if needed <= _BLOCK else _INODE):
                at += left
            self._nodes[inode], self._starts[inode], self._inline[inode] = at // _SLOT, blocks, inline
            blocks += whole + (end > 0 and not inline)
            at += needed + -needed % _SLOT
        self._first = -(-at // _BLOCK)
        self.size = (self._first + blocks) * _BLOCK

    def write(self, write_at: Callable[[bytes, int], None], counter: Counter) -> None:
        """Raises LayerError, and what ``write_at`` raises."""
        counter.begin(ImportPhase.WRITE, self.size, self._image.plan.files)
        nodes, blocks = Gathered(write_at, counter, _BLOCK), Gathered(write_at, counter, self._first * _BLOCK)

        def put(inode: int, parts: Iterable[Part]) -> None:
            size = self._sizes[inode]
            to_come = size - size % _BLOCK if self._inline[inode] else size
            nodes.skip_to(self._nodes[inode] * _SLOT)
            nodes.add(self._inode(inode) + self._attributes.get(inode, b""))
            for part in parts:
                if to_come:
                    blocks.add(part[:to_come])
                if len(part) > to_come:
                    nodes.add(part[to_come:])
                to_come = max(to_come - len(part), 0)
            blocks.skip_to(blocks.at + -blocks.at % _BLOCK)

        for inode in self._image.plan.before_files:
            put(inode, (self._content(inode),))
        self._image.each_file(put, counter)
        nodes.skip_to(self._first * _BLOCK)
        for gathered in (nodes, blocks):
            gathered.flush()
        write_at(self._super_block(), 0)
        counter.add(_BLOCK)

    def _content(self, inode: int) -> bytes:
        """Of what is no file: a directory's names, in blocks by their bytes, or where a link leads."""
        tree = self._tree
        if not tree.is_directory(inode):
            return tree.links.get(inode, b"")
        heads, names, made = bytearray(), bytearray(), bytearray()
        above = ((b".", inode), (b"..", tree.parents[inode]))
        block: list[tuple[bytes, int]] = []
        used = 0
        for name, child in (*sorted((*above, *tree.children[inode].items())), (b"", -1)):
            used += _NAME.size + len(name)
            if used > _BLOCK or not name:
                heads, names = bytearray(), bytearray()
                for told, node in block:
                    at, kind = _NAME.size * len(block) + len(names), _TYPES[tree.kinds[node]]
                    heads += _NAME.pack(self._nodes[node], at, kind)
                    names += told
                made += bytes(-len(made) % _BLOCK) + heads + names
                block, used = [], _NAME.size + len(name)
            block.append((name, child))
        return bytes(made)

    def _inode(self, inode: int) -> bytes:
        tree, size, xattrs = self._tree, self._sizes[inode], self._attributes.get(inode)
        start = tree.device(inode) if inode in tree.devices else self._first + self._starts[inode]
        return _EXTENDED.pack(
            _INLINE if self._inline[inode] and size % _BLOCK else _PLAIN,
            (len(xattrs) - _ATTRIBUTES) // 4 + 1 if xattrs else 0,
            tree.mode(inode),
            0,
            size,
            start,
            self._nodes[inode],
            tree.uids[inode],
            tree.gids[inode],
            tree.mtimes[inode],
            0,
            self._links[inode],
        )

    def _packed(self, inode: int, xattrs: Xattrs) -> bytes:
        made = bytearray(_ATTRIBUTES)
        for name, value in xattrs:
            prefix, number = next((known for known in _PREFIXES.items() if name.startswith(known[0])), (name, 0))
            rest = name.removeprefix(prefix)
            room = _MOST_ATTRIBUTES - len(made) - _ATTRIBUTE.size - len(rest) - 4
            if not number or bool(rest) != prefix.endswith(b".") or len(value) > min(room, 0xFFFF):
                self._image.lost.setdefault(name, []).append(inode)
                continue
            made += _ATTRIBUTE.pack(len(rest), number, len(value)) + rest + value
            made += bytes(-len(made) % 4)
        return bytes(made) if len(made) > _ATTRIBUTES else b""

    def _super_block(self) -> bytes:
        uuid, newest = uuid5(NAMESPACE_OID, self._identity).bytes, max(self._tree.mtimes)
        root, blocks = self._nodes[ROOT], self.size // _BLOCK

        def block(checksum: int) -> bytes:
            numbers = 12, 0, root, self._inodes, newest, 0, blocks, 0, 0
            made = _SUPER.pack(_MAGIC, checksum, _CHECKSUM_AND_MTIME, *numbers, uuid)
            return made + bytes(_BLOCK - _SUPER_AT - len(made))

        return bytes(_SUPER_AT) + block(crc32c(block(0)))
