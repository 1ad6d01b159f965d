"""What was packed, read back before anything is stored, and held against the tree that was to be packed; and what of
that the format cannot hold, in words."""

from __future__ import annotations

import re
import stat
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from ocitui.cache import PackedFormat
from ocitui.contents import ContentsError, PackedTree, TreeLines, UnreadableFormatError, hash_files, open_tree
from ocitui.text import counted, printable
from ocitui.threads import Stop

from ..errors import ReadBackError
from ..layers.flatten import Flattening
from ..layers.tree import ROOT


def read_back(output: Path, format: PackedFormat, image: Flattening, *, with_root: bool) -> TreeLines | None:
    """The lines of a packed file, none where they are too long, once all of it was read and is what the ``image`` came
    to; without ``with_root`` but for the root's own attributes. Raises ReadBackError, OSError."""
    stop = Stop()
    try:
        with open(output, "rb") as file:
            tree = open_tree(file, format, stop)
            inodes = _compare(image, tree, with_root)

            def hold(entry: int, hash: bytes) -> None:
                if hash != image.hash(inodes[entry]):
                    raise _error(tree, entry, "its content is another")

            hash_files(tree, hold, stop)
            with suppress(UnreadableFormatError):
                return TreeLines.of(tree, stop, lambda entry: image.hash(inodes[entry]))
            return None
    except ContentsError as error:
        raise ReadBackError(f"what was packed cannot be read back: {error}") from error


def _compare(image: Flattening, tree: PackedTree, with_root: bool) -> array[int]:
    """The inode of each entry. Raises ReadBackError for the first that is otherwise but for the content of files,
    ContentsError for what cannot be read."""
    flat, inodes = image.plan.tree, array("I")
    lost = {name: set(having) for name, having in image.lost.items()}
    firsts = array("I", [len(tree)]) * len(flat)
    for entry in range(len(tree)):
        found = flat.children.get(inodes[tree.parents[entry]], {}).get(tree.name(entry)) if entry else ROOT
        if found is None:
            raise _error(tree, entry, "no layer has it")
        inodes.append(found)
        first = firsts[found] = min(firsts[found], entry)
        if tree.numbers[first] != tree.numbers[entry]:
            raise _error(tree, entry, "it is linked otherwise")
        if what := _difference(image, found, lost, tree, entry) if entry or with_root else "":
            raise _error(tree, entry, f"its {what} is another")
    once = sorted((entry for entry in firsts if entry < len(tree)), key=tree.numbers.__getitem__)
    for entry, next in pairwise(once):
        if tree.numbers[entry] == tree.numbers[next]:
            raise _error(tree, next, "it is linked otherwise")
    if missing := sum(1 for _ in flat.names()) + 1 - len(tree):
        raise ReadBackError(f"what was packed lacks {counted(missing, 'name')} of what the layers hold")
    return inodes


def _difference(image: Flattening, inode: int, lost: dict[bytes, set[int]], tree: PackedTree, entry: int) -> str:
    """What of an entry is not as its inode has it; empty where all is."""
    flat, node = image.plan.tree, tree.node(entry)
    kind = stat.S_IFMT(node.mode)
    if kind != stat.S_IFMT(flat.mode(inode)):
        return "type"
    if node.mode != flat.mode(inode) and kind != stat.S_IFLNK:
        return "mode"
    if (node.uid, node.gid) != (flat.uids[inode], flat.gids[inode]):
        return "owner"
    if node.mtime != flat.mtimes[inode]:
        return "time"
    if kind == stat.S_IFREG and node.size != flat.sizes[inode]:
        return "content"
    if kind == stat.S_IFLNK and tree.target(entry) != flat.links[inode]:
        return "target"
    if node.device != flat.devices.get(inode, (0, 0)):
        return "device"
    xattrs = {name: value for name, value in flat.xattrs.get(inode, ()) if inode not in lost.get(name, ())}
    return "" if tree.xattrs(entry) == xattrs else "set of extended attributes"


def _error(tree: PackedTree, entry: int, what: str) -> ReadBackError:
    return ReadBackError(f"what was packed is not what the layers hold: {printable(b'/' + tree.path(entry))}: {what}")


_ACL = "POSIX ACL"
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_LINUX = (b"user.", b"trusted.", b"security.")
HELD = {PackedFormat.SQUASHFS: _LINUX, PackedFormat.EROFS: (*_LINUX, *_ACLS), PackedFormat.TAR: (b"",)}
_MOST_NOTES = 10
_OWN_WORDS = re.compile(r"'[^']*'|\S*/\S*|\d+")
"""What differs in what a tool says of one file and of another."""


def losses(image: Flattening, format: PackedFormat) -> Iterator[str]:
    """What the format cannot hold, counted."""
    lost: dict[str, dict[int, None]] = {}
    for name, inodes in image.lost.items():
        what = _ACL if name in _ACLS else f"extended attribute {printable(name)}"
        lost.setdefault(what, {}).update(dict.fromkeys(inodes))
    told = [(what, count, which) for what in lost for count, which in [image.plan.examples(lost[what])] if count]
    for what, count, which in told[:_MOST_NOTES]:
        end = "; --format erofs or tar keeps it" if what is _ACL else ""
        yield f"{format} holds no {what}: that of {counted(count, 'file')} is left out ({which}){end}"
    if len(told) > _MOST_NOTES:
        yield f"{format} holds {len(told) - _MOST_NOTES} more extended attributes neither"
    count, which = image.plan.examples(sorted(image.plan.tree.clamped))
    if count:
        yield f"{counted(count, 'time')} before 1970 or after 2106 became the nearest that can be held ({which})"


def grouped(lines: Sequence[str]) -> Iterator[str]:
    """What a tool said, the first of each kind."""
    kinds: dict[str, list[str]] = {}
    for line in lines:
        kinds.setdefault(_OWN_WORDS.sub("", line), []).append(line)
    for alike in list(kinds.values())[:_MOST_NOTES]:
        yield alike[0] + (f" ({len(alike) - 1} more like it)" if len(alike) > 1 else "")
    if len(kinds) > _MOST_NOTES:
        yield f"the packer said {len(kinds) - _MOST_NOTES} more things"
