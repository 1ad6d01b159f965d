"""The directories of an erofs, read without mounting it (Linux fs/erofs/erofs_fs.h): plain and inlined ones.

File data is never looked at, so compression does not matter; a directory that is compressed itself cannot be read.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ocitui.importing.threads import Stop

from .tools import NotCheckedError
from .trees import Node, Tree

_SUPERBLOCK_AT = 1024
_SUPERBLOCK = struct.Struct("<3I2BHQQIIII")
_COMPACT = struct.Struct("<4H3I")
_EXTENDED = struct.Struct("<4HQ2I")
_DIRENT = struct.Struct("<QHBx")
_SLOT = 32
_PLAIN, _INLINE = 0, 2
_MOST_NODES, _LARGEST_DIRECTORY, _LONGEST_TARGET = 2_000_000, 1 << 28, 1 << 16
_DOTS = (b".", b"..")


class _Inode(NamedTuple):
    mode: int
    size: int
    layout: int
    start: int
    tail_at: int


class _Image:
    """Raises NotCheckedError for what it cannot read, OSError as the disk does."""

    def __init__(self, file: BinaryIO) -> None:
        self._fd = file.fileno()
        self._size = os.fstat(self._fd).st_size
        fields = self._unpack(_SUPERBLOCK, _SUPERBLOCK_AT)
        if not 9 <= fields[3] <= 16:
            raise NotCheckedError("its block size is none that is known")
        self.block = 1 << fields[3]
        self.root = fields[5]
        self._meta = fields[10] * self.block

    def inode(self, number: int) -> _Inode:
        at = self._meta + number * _SLOT
        form = int.from_bytes(self._read(at, 2), "little")
        if form & 1:
            _, attributes, mode, _, size, start, _ = self._unpack(_EXTENDED, at)
            head = 64
        else:
            _, attributes, mode, _, size, _, start = self._unpack(_COMPACT, at)
            head = 32
        head += 12 + 4 * (attributes - 1) if attributes else 0
        return _Inode(mode, size, form >> 1 & 7, start, at + head)

    def content(self, inode: _Inode, most: int) -> bytes:
        """All bytes of a directory or link."""
        if inode.size > most:
            raise NotCheckedError("a directory of it has an impossible size")
        if inode.layout == _PLAIN:
            return self._read(inode.start * self.block, inode.size)
        if inode.layout != _INLINE:
            raise NotCheckedError("its directories are compressed")
        tail = inode.size % self.block
        whole = inode.size - tail
        return self._read(inode.start * self.block, whole) + self._read(inode.tail_at, tail)

    def entries(self, inode: _Inode) -> Iterator[tuple[bytes, int]]:
        content = self.content(inode, _LARGEST_DIRECTORY)
        for at in range(0, len(content), self.block):
            yield from _block_entries(content[at : at + self.block])

    def _read(self, at: int, size: int) -> bytes:
        if not size:
            return b""
        if at + size > self._size:
            raise NotCheckedError("a part of it lies beyond its end")
        data = os.pread(self._fd, size, at)
        if len(data) != size:
            raise NotCheckedError("it was cut while it was read")
        return data

    def _unpack(self, form: struct.Struct, at: int) -> tuple[int, ...]:
        return form.unpack(self._read(at, form.size))


def _block_entries(block: bytes) -> Iterator[tuple[bytes, int]]:
    """The names of one block of a directory, with their inodes; the last name ends where the block's zeros begin."""
    if len(block) < _DIRENT.size:
        return
    count = _DIRENT.unpack_from(block)[1] // _DIRENT.size
    if not 0 < count * _DIRENT.size <= len(block):
        raise NotCheckedError("a directory of it cannot be read")
    entries = [_DIRENT.unpack_from(block, at * _DIRENT.size) for at in range(count)]
    ends = [entry[1] for entry in entries[1:]] + [len(block)]
    for (number, start, _), end in zip(entries, ends, strict=True):
        yield block[start:end].partition(b"\0")[0], number


def erofs_tree(file: BinaryIO, stop: Stop) -> Tree:
    """Every path of it. Raises NotCheckedError, OSError."""
    image = _Image(file)
    tree: dict[bytes, Node] = {}
    pending, seen = [(b"", image.root)], {image.root}
    while pending:
        stop.check()
        prefix, number = pending.pop()
        for name, child in image.entries(image.inode(number)):
            if name in _DOTS or not name:
                continue
            inode, path = image.inode(child), prefix + name
            tree[path] = _node(image, inode)
            if stat.S_ISDIR(inode.mode) and child not in seen:
                seen.add(child)
                pending.append((path + b"/", child))
            if len(tree) > _MOST_NODES:
                raise NotCheckedError("it has too many files to compare")
    return tree


def _node(image: _Image, inode: _Inode) -> Node:
    kind = stat.S_IFMT(inode.mode)
    if kind == stat.S_IFLNK:
        return Node(kind, None, image.content(inode, _LONGEST_TARGET))
    return Node(kind, inode.size if kind == stat.S_IFREG else None)
