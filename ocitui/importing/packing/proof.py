"""What was packed, read back before anything is stored, and held against the tree that was to be packed."""

from __future__ import annotations

import stat
import sys
from array import array
from pathlib import Path

from ocitui.cache import PackedFormat
from ocitui.contents import ContentsError, PackedTree, TreeLevel, digest_lines, open_tree
from ocitui.text import counted, printable
from ocitui.threads import Stop

from ..errors import ReadBackError
from ..layers.flatten import Flattening
from ..layers.tree import ROOT

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def read_back(output: Path, format: PackedFormat, image: Flattening, *, with_root: bool) -> bytes:
    """The text of the digest of a packed file, of the level ``full``, in zstd, once all of it was read and is what the
    ``image`` came to; without ``with_root`` but for the root's own attributes. Raises ReadBackError, OSError."""
    stop = Stop()
    try:
        with open(output, "rb") as file:
            tree = open_tree(file, format, stop)
            packing = zstd.ZstdCompressor()
            packed = [packing.compress(line.encode()) for line in digest_lines(tree, TreeLevel.FULL, stop)]
            _compare(image, tree, with_root)
            return b"".join((*packed, packing.flush()))
    except ContentsError as error:
        raise ReadBackError(f"what was packed cannot be read back: {error}") from error


def _compare(image: Flattening, tree: PackedTree, with_root: bool) -> None:
    """Raises ReadBackError for the first that is otherwise, ContentsError for what cannot be read."""
    flat, inodes = image.plan.tree, array("I")
    lost = {name: set(having) for name, having in image.lost.items()}
    named, numbered = dict[int, int](), dict[int, int]()
    for entry in range(len(tree)):
        found = flat.children.get(inodes[tree.parents[entry]], {}).get(tree.name(entry)) if entry else ROOT
        if found is None:
            raise _error(tree, entry, "no layer has it")
        inodes.append(found)
        number = tree.numbers[entry]
        if numbered.setdefault(number, found) != found or named.setdefault(found, number) != number:
            raise _error(tree, entry, "it is linked otherwise")
        if what := _difference(image, found, lost, tree, entry) if entry or with_root else "":
            raise _error(tree, entry, f"its {what} is another")
    if missing := sum(1 for _ in flat.names()) + 1 - len(tree):
        raise ReadBackError(f"what was packed lacks {counted(missing, 'name')} of what the layers hold")


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
    if kind == stat.S_IFREG and (node.size, tree.hashes[node.number]) != (flat.sizes[inode], image.hash(inode)):
        return "content"
    if kind == stat.S_IFLNK and tree.target(entry) != flat.links[inode]:
        return "target"
    if node.device != flat.devices.get(inode, (0, 0)):
        return "device"
    xattrs = {name: value for name, value in flat.xattrs.get(inode, ()) if inode not in lost.get(name, ())}
    return "" if tree.xattrs(entry) == xattrs else "set of extended attributes"


def _error(tree: PackedTree, entry: int, what: str) -> ReadBackError:
    return ReadBackError(f"what was packed is not what the layers hold: {printable(b'/' + tree.path(entry))}: {what}")
