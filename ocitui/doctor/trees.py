"""What a packed root filesystem holds, path by path, and whether a program is in it."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import NamedTuple

_MOST_LINKS = 40
# What is mounted over these in a guest, the image does not tell.
_MOUNTED = frozenset((b"proc", b"dev", b"sys", b"run"))


class Node(NamedTuple):
    """``kind`` is the file type as in a mode; ``size`` of a regular file, None where it is not known; ``target`` of a
    link."""

    kind: int
    size: int | None = None
    target: bytes = b""


Tree = Mapping[bytes, Node]
"""Nodes by their paths, without a slash at the beginning or end; the root is left out."""
_COMPARED = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK))


def lacking(tree: Tree, other: Tree) -> list[bytes]:
    """The paths that ``tree`` lacks, or holds less of, beside another packing of the same image."""
    missing = []
    for path, node in other.items():
        if node.kind not in _COMPARED:
            continue
        mine = tree.get(path)
        if mine is None or _less(mine, node):
            missing.append(path)
    return sorted(missing)


def _less(mine: Node, other: Node) -> bool:
    return (
        mine.kind == other.kind == stat.S_IFREG
        and mine.size is not None
        and other.size is not None
        and mine.size < other.size
    )


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
