"""The trees inside packed files, listed by outside tools or read here, and held against each other."""

from __future__ import annotations

import os
import re
import stat
import struct
import tarfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

from ocitui.cache import EROFS_READ_FEATURES
from ocitui.contents.tools import NotCheckedError, Said, Tool
from ocitui.threads import Stop

_MOST_LINKS = 40
# What is mounted over these in a guest, the image does not tell.
_MOUNTED = frozenset((b"proc", b"dev", b"sys", b"run"))


class Node(NamedTuple):
    """``kind`` is a file type as in modes; ``size`` a regular file's, None where not known; ``target`` a link's."""

    kind: int
    size: int | None = None
    target: bytes = b""


Tree = Mapping[bytes, Node]
"""Nodes by their paths, without a slash at the beginning or end; the root is left out."""
_COMPARED = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK))


def lacking(tree: Tree, other: Tree) -> list[bytes]:
    """The paths that ``tree`` lacks, or holds less of, beside another packing of the same image."""
    return sorted(path for path, node in other.items() if node.kind in _COMPARED and _is_less(tree.get(path), node))


def _is_less(mine: Node | None, other: Node) -> bool:
    if mine is None:
        return True
    return mine.size is not None and other.size is not None and mine.size < other.size


def has_program(tree: Tree, path: bytes) -> bool | None:
    """Whether an absolute path leads to something, links followed inside the tree; None where that cannot be told."""
    parts = _parts(path)[::-1]
    at: list[bytes] = []
    links = 0
    while parts:
        part = parts.pop()
        if part == b"..":
            at = at[:-1]
            continue
        at.append(part)
        if at[0] in _MOUNTED:
            return None
        node = tree.get(b"/".join(at))
        if node is None:
            return False
        if node.kind == stat.S_IFLNK:
            links += 1
            if links > _MOST_LINKS:
                return None
            at = [] if node.target.startswith(b"/") else at[:-1]
            parts += _parts(node.target)[::-1]
    return True


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


_SUPERBLOCK_AT = 1024
_SUPERBLOCK = struct.Struct("<3I2BHQQIIII32xI")
_COMPACT = struct.Struct("<4H3I")
_EXTENDED = struct.Struct("<4HQ2I")
_DIRENT = struct.Struct("<QHBx")
_SLOT = 32
_PLAIN, _INLINE = 0, 2
_MOST_NODES, _MOST_LISTED, _LARGEST_DIRECTORY, _LONGEST_TARGET = 2_000_000, 1 << 28, 1 << 28, 1 << 16
_TOO_MANY = "it has too many files to compare"
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
        if unread := fields[12] & ~EROFS_READ_FEATURES:
            raise NotCheckedError(f"it has features that are not read here (0x{unread:x})")
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
            kind = stat.S_IFMT(inode.mode)
            target = image.content(inode, _LONGEST_TARGET) if kind == stat.S_IFLNK else b""
            tree[path] = Node(kind, inode.size if kind == stat.S_IFREG else None, target)
            if kind == stat.S_IFDIR and child not in seen:
                seen.add(child)
                pending.append((path + b"/", child))
            if len(tree) > _MOST_NODES:
                raise NotCheckedError(_TOO_MANY)
    return tree


_KINDS = {
    stat.filemode(kind)[:1].encode(): kind
    for kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
}
_LINE = re.compile(
    rb"([-dlcbps])[rwxsStT-]{9} \d+/\d+ +(\d+)(?:, *\d+)? \d{4}-\d\d-\d\d \d\d:\d\d squashfs-root(?:/(.*))?", re.DOTALL
)
_ARROW = b" -> "


def squashfs_tree(tool: Tool) -> tuple[Said, Tree]:
    """How unsquashfs ended, and what it listed until then. Raises NotCheckedError."""
    listed, tree = bytearray(), dict[bytes, Node]()

    def keep(data: bytes) -> None:
        listed.extend(data)
        if len(listed) > _MOST_LISTED:
            raise NotCheckedError(_TOO_MANY)

    said = tool.run(["-no-progress", "-processors", "1", "-lln", tool.path], keep)
    for kind, size, path in _listed(bytes(listed)):
        if path:
            name, _, target = path.partition(_ARROW) if kind == stat.S_IFLNK else (path, b"", b"")
            tree[name] = Node(kind, size if kind == stat.S_IFREG else None, target)
        if len(tree) > _MOST_NODES:
            raise NotCheckedError(_TOO_MANY)
    return said, tree


def _listed(output: bytes) -> list[tuple[int, int, bytes]]:
    """The lines taken apart; one unlike the others goes on with the name before it, which has a line break."""
    listed: list[tuple[int, int, bytes]] = []
    for line in output.rstrip(b"\n").split(b"\n"):
        if found := _LINE.fullmatch(line):
            listed.append((_KINDS[found[1]], int(found[2]), found[3] or b""))
        elif listed:
            kind, size, path = listed[-1]
            listed[-1] = kind, size, path + b"\n" + line
    return listed


def tar_tree(file: BinaryIO, stop: Stop) -> Tree:
    """The members of a tar whose headers are sound; the last of a path counts. Raises NotCheckedError, OSError."""
    tree: dict[bytes, Node] = {}
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", errorlevel=0) as archive:
            while (member := archive.next()) is not None:
                stop.check()
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep every one of them
                path = member.name.encode("utf-8", "surrogateescape").strip(b"/").removeprefix(b"./").strip(b"/")
                if path not in (b"", b"."):
                    tree[path] = _member_node(member)
                    # Directories that a tar need not name are made when it is unpacked.
                    while (path := path.rpartition(b"/")[0]) and path not in tree:
                        tree[path] = Node(stat.S_IFDIR)
                if len(tree) > _MOST_NODES:
                    raise NotCheckedError(_TOO_MANY)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise NotCheckedError(f"its members cannot be listed: {error}") from error
    return tree


def _member_node(member: tarfile.TarInfo) -> Node:
    if member.isdir():
        return Node(stat.S_IFDIR)
    if member.issym():
        return Node(stat.S_IFLNK, None, member.linkname.encode("utf-8", "surrogateescape"))
    if member.islnk():
        return Node(stat.S_IFREG)
    if member.isreg():
        return Node(stat.S_IFREG, member.size)
    return Node(stat.S_IFIFO if member.isfifo() else stat.S_IFCHR)
