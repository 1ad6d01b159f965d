"""What differs between two trees, for `ocitui diff`: paths that only one has, and what is another of those both have.

It is what a level of `digest` has in its text, and no more: two trees have the same digest of a level exactly where
nothing differs at that level.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from functools import partial
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVar

from ocitui.threads import Stop

from .digest import TreeLevel, TreeLines, body_hash, kept_xattrs, sorted_entries
from .tree import ROOT, BlockReader, ContentsError, DamagedError, PackedTree

_CHUNK = 1 << 20
_DEVICES = (stat.S_IFBLK, stat.S_IFCHR)
T = TypeVar("T")


class TreeChange(NamedTuple):
    """A path whose entry, by its number in either tree, is another; None where it is not there. ``what`` differs of
    one that both have: type, link, mode, owner, size, content, target, device, mtime, xattrs. ``grown`` is by how many
    bytes its file is larger; all of them together by how many the second tree is larger than the first."""

    path: bytes
    before: int | None
    after: int | None
    what: tuple[str, ...]
    grown: int


class ComparedTree:
    """A tree that is compared. ``unread`` is told of each entry of which a part that is looked at cannot be read: that
    is then not among what differs. Raises DamagedError where it is not known what the tree has."""

    def __init__(self, tree: PackedTree, unread: Callable[[int, Exception], object]) -> None:
        if tree.damage:
            raise DamagedError(f"it cannot be compared, as a part of it cannot be read: {tree.damage[0][1]}")
        self.tree, self.unread = tree, unread
        self.rows = [*sorted_entries(tree)]
        self.first_names = tree.first_names()

    def first_name(self, entry: int) -> bytes | None:
        """The path of it; None for what is the first itself."""
        first = self.first_names.get(entry)
        return None if first is None else self.tree.path(first)

    def weight(self, entry: int | None) -> int:
        """The bytes of a file, which only the first name of an inode stands for."""
        if entry is None or self.tree.kind(entry) != stat.S_IFREG or entry in self.first_names:
            return 0
        return self.tree.sizes[entry]

    def told(self, entry: int, read: Callable[[], T]) -> T | None:
        """What is read of an entry; None where it cannot be, which is told."""
        try:
            return read()
        except (ContentsError, OSError) as error:
            self.unread(entry, error)
            return None


class TreeComparison:
    """Two trees beside each other."""

    def __init__(self, before: ComparedTree, after: ComparedTree, level: TreeLevel) -> None:
        self.before, self.after, self._level = before, after, level
        one, other = before.tree.reader, after.tree.reader
        self._blocks: tuple[BlockReader, BlockReader] | None = None
        if isinstance(one, BlockReader) and isinstance(other, BlockReader) and one.layout == other.layout:
            self._blocks = one, other
        self._different = set[tuple[int, int]]()

    def changes(self, stop: Stop, passed: Callable[[int], object] = lambda size: None) -> Iterator[TreeChange]:
        """In the order of the bytes of their paths. Files of one size are read before the first; ``passed`` is told
        of their bytes. Raises AbandonedError."""
        self._read(stop, passed)
        for path, before, after in self._pairs():
            stop.check()
            what = tuple(self._what(before, after)) if before is not None and after is not None else ()
            if what or before is None or after is None:
                yield TreeChange(path, before, after, what, self.after.weight(after) - self.before.weight(before))

    def _pairs(self) -> Iterator[tuple[bytes, int | None, int | None]]:
        before = ((path, False, entry) for path, entry in self.before.rows)
        after = ((path, True, entry) for path, entry in self.after.rows)
        for path, group in groupby(merge(before, after), itemgetter(0)):
            found = {is_after: entry for _, is_after, entry in group}
            yield path, found.get(False), found.get(True)

    def _read(self, stop: Stop, passed: Callable[[int], object]) -> None:
        """Find which files of one size hold something else, each pair once, in the order in which they lie."""
        before, after, pairs = self.before.tree, self.after.tree, dict[int, dict[int, int]]()
        for _, one, other in self._pairs():
            if one is None or other is None or not before.kind(one) == after.kind(other) == stat.S_IFREG:
                continue
            is_same = before.reader is after.reader and before.references[one] == after.references[other]
            if before.sizes[one] == after.sizes[other] and not is_same:
                pairs.setdefault(before.numbers[one], {})[after.numbers[other]] = other
        for one in before.files() if pairs else ():
            for number, other in pairs.get(before.numbers[one], {}).items():
                if self._bodies_differ(one, other, stop, passed):
                    self._different.add((before.numbers[one], number))

    def _bodies_differ(self, one: int, other: int, stop: Stop, passed: Callable[[int], object]) -> bool:
        sides = (self.before, one), (self.after, other)
        if any(side.tree.hashes for side, _ in sides):
            hashes = [side.told(at, partial(body_hash, side.tree, at, stop, passed)) for side, at in sides]
            return None not in hashes and hashes[0] != hashes[1]
        body, second = self.before.tree.open(one), self.after.tree.open(other)
        for at, size in self._doubtful(one, other, stop):
            body.seek(at)
            second.seek(at)
            data = self.before.told(one, partial(body.read, size))
            beside = self.after.told(other, partial(second.read, size))
            if data is None or beside is None:
                return False
            passed(len(data) + len(beside))
            if data != beside:
                return True
        return False

    def _doubtful(self, one: int, other: int, stop: Stop) -> Iterator[tuple[int, int]]:
        """Where in two files of one size, and in how many bytes, something may differ: not where they are made of the
        same parts."""
        before, after, at = self.before.tree, self.after.tree, 0
        if self._blocks is None:
            for at in range(0, before.sizes[one] or 1, _CHUNK):
                stop.check()
                yield at, min(_CHUNK, before.sizes[one] - at)
            return
        parts = self._blocks[0].parts(before.references[one])
        others = self._blocks[1].parts(after.references[other])
        while True:
            stop.check()
            part = self.before.told(one, partial(next, parts, None))
            beside = self.after.told(other, partial(next, others, None))
            if part is None or beside is None:
                return
            if part != beside:
                yield at, part[0]
            at += part[0]

    def _what(self, one: int, other: int) -> Iterator[str]:
        before, after = self.before.tree.node(one), self.after.tree.node(other)
        kind = stat.S_IFMT(before.mode)
        if kind != stat.S_IFMT(after.mode):
            yield "type"
            return
        link = self.before.first_name(one)
        if link != self.after.first_name(other):
            yield "link"
        elif link is not None:  # What is another of the inode is told with its first name.
            return
        if one == ROOT and self._level is not TreeLevel.FULL:
            return
        if before.mode != after.mode and kind != stat.S_IFLNK:
            yield "mode"
        if (before.uid, before.gid) != (after.uid, after.gid):
            yield "owner"
        if kind == stat.S_IFREG and before.size != after.size:
            yield "size"
        elif kind == stat.S_IFREG and (before.number, after.number) in self._different:
            yield "content"
        elif kind == stat.S_IFLNK and self._differ(one, other, PackedTree.target):
            yield "target"
        elif kind in _DEVICES and before.device != after.device:
            yield "device"
        if self._level is TreeLevel.FULL and before.mtime != after.mtime:
            yield "mtime"
        if self._level is not TreeLevel.CONTENT and self._differ(one, other, kept_xattrs):
            yield "xattrs"

    def _differ(self, one: int, other: int, read: Callable[[PackedTree, int], object]) -> bool:
        found = self.before.told(one, partial(read, self.before.tree, one))
        beside = self.after.told(other, partial(read, self.after.tree, other))
        return None not in (found, beside) and found != beside


def unlike(lines: TreeLines, other: TreeLines, stop: Stop) -> list[TreeChange]:
    """What of the level ``content`` is otherwise in the second of two packings of one image. Raises ContentsError,
    AbandonedError."""
    if lines.content == other.content:
        return []

    def unread(entry: int, error: Exception) -> None:
        """Nothing: what lines tell is known."""

    before, after = (ComparedTree(one.tree(), unread) for one in (lines, other))
    return [*TreeComparison(before, after, TreeLevel.CONTENT).changes(stop)]
