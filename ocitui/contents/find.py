"""Which entries of a tree have a path like this, or hold these bytes: for `ocitui find`."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from fnmatch import translate

from ocitui.text import unescaped
from ocitui.threads import Stop

from .digest import body_hash
from .tree import ROOT, ContentsError, PackedTree


class PathPattern:
    """A glob as fnmatch(3) has it. With a slash it is of a whole path, part by part, so that no ``*`` goes over one;
    without one, or behind ``**/``, of its last names. Bytes may be written as ``\\xNN``, as programs are told them."""

    def __init__(self, pattern: str) -> None:
        text = os.fsdecode(unescaped(os.fsencode(pattern)))
        self._is_whole = "/" in text and not text.startswith("**/")
        text = text.removeprefix("**/")
        self._parts = [re.compile(translate(part)).match for part in reversed(text.split("/")) if part]

    def matches(self, tree: PackedTree, entry: int) -> bool:
        for part in self._parts:
            if entry == ROOT or not part(os.fsdecode(tree.name(entry))):
                return False
            entry = tree.parents[entry]
        return entry == ROOT or not self._is_whole


def find_entries(
    tree: PackedTree,
    stop: Stop,
    *,
    pattern: PathPattern | None = None,
    sha256: bytes | None = None,
    unread: Callable[[int, Exception], object],
) -> Iterator[int]:
    """Those whose path is like ``pattern``, and that are files of such a hash: only files that may be both are read.
    ``unread`` is told of those that cannot be. Raises AbandonedError."""
    found = [entry for entry in range(len(tree)) if pattern is None or pattern.matches(tree, entry)]
    if sha256 is None:
        yield from found
        return
    wanted = {tree.numbers[entry] for entry in found if tree.kind(entry) == stat.S_IFREG}
    alike = set[int]()
    for entry in tree.files():
        if tree.numbers[entry] in wanted:
            try:
                if body_hash(tree, entry, stop) == sha256:
                    alike.add(tree.numbers[entry])
            except (ContentsError, OSError) as error:
                unread(entry, error)
    yield from (entry for entry in found if tree.numbers[entry] in alike)
