"""The digest of a tree: the same for one image in all formats, on every host, whoever packed it.

It is the sha256 of a text, a line a path in the order of their bytes, that `help/contents.md` fixes. Three levels come
of it: ``content`` leaves out what some packers lose (the root's attributes, times, extended attributes), ``xattrs`` has
the attributes that all formats hold, ``full`` has all. What no format keeps alike is in none: sizes and link counts of
directories, modes of symbolic links, sockets, sparseness.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from ocitui.text import escaped
from ocitui.threads import Stop

from .tree import MOST_LISTED, ROOT, DamagedError, PackedTree

_CHUNK = 1 << 20
_XATTRS = (b"user.", b"trusted.", b"security.")
_SORTS = {
    stat.S_IFDIR: "d",
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
    stat.S_IFIFO: "p",
}


TEXT_HEAD = re.compile("packed-tree 1 (content|xattrs|full)")
"""The first line of a digest's text."""
_MTIME = re.compile(r" mtime=-?\d+")


class TreeLevel(StrEnum):
    """How much of a tree a digest is of."""

    CONTENT = "content"
    XATTRS = "xattrs"
    FULL = "full"


def tree_digest(
    tree: PackedTree, level: TreeLevel, stop: Stop, passed: Callable[[int], object] = lambda size: None
) -> str:
    """``sha256:`` and the hash of `digest_lines`. Raises ContentsError, also where a part of the tree is damaged,
    OSError, AbandonedError."""
    return text_digest(digest_lines(tree, level, stop, passed))


def text_digest(lines: Iterable[str]) -> str:
    """``sha256:`` and the hash of a text."""
    hashed = hashlib.sha256()
    for line in lines:
        hashed.update(line.encode())
    return f"sha256:{hashed.hexdigest()}"


def digest_lines(
    tree: PackedTree, level: TreeLevel, stop: Stop, passed: Callable[[int], object] = lambda size: None
) -> Iterator[str]:
    """The text of a digest, line by line; ``passed`` is told the bytes of files that were read. Raises as
    `tree_digest`."""
    if tree.damage:
        raise DamagedError(f"it has no digest, as a part of it cannot be read: {tree.damage[0][1]}")
    hashes = _hashes(tree, stop, passed)
    first = dict[int, str]()
    yield f"packed-tree 1 {level}\n"
    for path, entry in sorted_entries(tree):
        stop.check()
        sort, name, number = _SORTS[tree.kind(entry)], _spelled(path), tree.numbers[entry]
        if number in first and sort != "d":
            yield f"{name} {sort} link={first[number]}\n"
            continue
        first[number] = name
        yield " ".join([name, sort, *_attributes(tree, entry, sort, hashes), *_more(tree, entry, level)]) + "\n"


def at_level(line: str, level: TreeLevel) -> str:
    """What a line of the level ``full`` is at another."""
    if line.startswith("packed-tree "):
        return f"packed-tree 1 {level}\n"
    if level is TreeLevel.FULL:
        return line
    if line.startswith("/ "):
        return "/ d\n"
    return line.partition(" mtime=")[0].rstrip("\n") + "\n" if level is TreeLevel.CONTENT else _MTIME.sub("", line, 1)


def sorted_entries(tree: PackedTree) -> list[tuple[bytes, int]]:
    """All that a digest is of, by the bytes of their paths, which stand before them. Raises DamagedError where these
    are longer together than a tree's are."""
    found = zip(_paths(tree), range(len(tree)), strict=True)
    return sorted((path, entry) for path, entry in found if tree.kind(entry) in _SORTS)


def kept_xattrs(tree: PackedTree, entry: int) -> dict[bytes, bytes]:
    """Those of its extended attributes that all formats hold. Raises ContentsError, OSError."""
    return {name: value for name, value in tree.xattrs(entry).items() if name.startswith(_XATTRS)}


def _attributes(tree: PackedTree, entry: int, sort: str, hashes: dict[int, bytes]) -> Iterator[str]:
    """What every level has of an entry but the root."""
    if entry == ROOT:
        return
    if sort != "l":
        yield f"{stat.S_IMODE(tree.modes[entry]):04o}"
    yield f"{tree.uids[entry]}:{tree.gids[entry]}"
    if sort == "f":
        yield f"{tree.sizes[entry]} sha256:{hashes[tree.numbers[entry]].hex()}"
    elif sort == "l":
        yield f"->{_escaped(tree.target(entry))}"
    elif sort in "bc":
        yield "{},{}".format(*tree.devices.get(entry, (0, 0)))


def _more(tree: PackedTree, entry: int, level: TreeLevel) -> Iterator[str]:
    """What only some levels have of it."""
    if level is TreeLevel.CONTENT or (entry == ROOT and level is TreeLevel.XATTRS):
        return
    if level is TreeLevel.FULL:
        if entry == ROOT:
            yield f"{stat.S_IMODE(tree.modes[ROOT]):04o} {tree.uids[ROOT]}:{tree.gids[ROOT]}"
        yield f"mtime={tree.mtimes[entry]}"
    for name, value in sorted(kept_xattrs(tree, entry).items()):
        yield f"x:{_escaped(name)}={value.hex()}"


def _hashes(tree: PackedTree, stop: Stop, passed: Callable[[int], object]) -> dict[int, bytes]:
    """The sha256 of each regular file by its inode's number, each read once, in the order in which they lie."""
    for entry in tree.files():
        tree.hashes[tree.numbers[entry]] = body_hash(tree, entry, stop, passed)
    return tree.hashes


def body_hash(tree: PackedTree, entry: int, stop: Stop, passed: Callable[[int], object] = lambda size: None) -> bytes:
    """The sha256 of a regular file, read where it is not known. Raises ContentsError, OSError, AbandonedError."""
    if known := tree.hashes.get(tree.numbers[entry]):
        return known
    hashed, size, at = hashlib.sha256(), tree.sizes[entry], 0
    # Of an empty one too, which may be one that could not be read.
    while data := tree.reader.read(tree.references[entry], at, min(size - at, _CHUNK)):
        stop.check()
        hashed.update(data)
        passed(len(data))
        at += len(data)
    return hashed.digest()


def _paths(tree: PackedTree) -> list[bytes]:
    """Of all entries. Raises DamagedError where they are longer together than a tree's are."""
    paths, left = [b""], MOST_LISTED
    for entry in range(1, len(tree)):
        before = paths[tree.parents[entry]]
        path = before + b"/" + tree.name(entry) if before else tree.name(entry)
        left -= len(path)
        if left < 0:
            raise DamagedError(f"its paths are longer than {MOST_LISTED:,} bytes together")
        paths.append(path)
    return paths


def _spelled(path: bytes) -> str:
    return "/" + _escaped(path)


def _escaped(text: bytes) -> str:
    return escaped(text).replace(" ", r"\x20")
