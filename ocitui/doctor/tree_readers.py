"""The tree of a packed file, by its format: a squashfs as unsquashfs lists it, an erofs and a tar read here."""

from __future__ import annotations

import re
import stat
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from ocitui.importing.threads import Stop

from .erofs_tree import erofs_tree
from .tools import NotCheckedError, Said, Tool
from .trees import Node, Tree

_MOST_NODES = 2_000_000
_KINDS = {
    b"-": stat.S_IFREG,
    b"d": stat.S_IFDIR,
    b"l": stat.S_IFLNK,
    b"c": stat.S_IFCHR,
    b"b": stat.S_IFBLK,
    b"p": stat.S_IFIFO,
    b"s": stat.S_IFSOCK,
}
_ROOT = b"squashfs-root"
_LINE = re.compile(
    rb"([-dlcbps])[rwxsStT-]{9} \d+/\d+ +(\d+)(?:, *\d+)? \d{4}-\d\d-\d\d \d\d:\d\d squashfs-root(?:/(.*))?", re.DOTALL
)
_ARROW = b" -> "
__all__ = ["erofs_tree", "squashfs_tree", "tar_tree"]


def squashfs_tree(tool: Tool) -> tuple[Said, Tree]:
    """How unsquashfs ended, and what it listed until then. Raises NotCheckedError."""
    chunks: list[bytes] = []
    said = tool.run(["-no-progress", "-lln", tool.path], chunks.append)
    tree: dict[bytes, Node] = {}
    for kind, size, path in _listed(b"".join(chunks)):
        if path:
            name, _, target = path.partition(_ARROW) if kind == stat.S_IFLNK else (path, b"", b"")
            tree[name] = Node(kind, size if kind == stat.S_IFREG else None, target)
    return said, tree


def _listed(output: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The lines taken apart; one unlike the others goes on with the name before it, which has a line break."""
    pending: re.Match[bytes] | None = None
    rest = b""
    for line in output.rstrip(b"\n").split(b"\n"):
        found = _LINE.fullmatch(line)
        if found is None:
            if pending is None:
                continue
            rest += b"\n" + line
            continue
        if pending is not None:
            yield _KINDS[pending[1]], int(pending[2]), (pending[3] or b"") + rest
        pending, rest = found, b""
    if pending is not None:
        yield _KINDS[pending[1]], int(pending[2]), (pending[3] or b"") + rest


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
                    _add_parents(tree, path)
                if len(tree) > _MOST_NODES:
                    raise NotCheckedError("it has too many files to compare")
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise NotCheckedError(f"its members cannot be listed: {error}") from error
    return tree


def _add_parents(tree: dict[bytes, Node], path: bytes) -> None:
    """The directories that a tar need not name, as they are made when it is unpacked."""
    while (path := path.rpartition(b"/")[0]) and path not in tree:
        tree[path] = Node(stat.S_IFDIR)


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
