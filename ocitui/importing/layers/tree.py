"""The merged tree of an image: directories of names, and inodes in columns.

An inode is a number; what is known of it stands in arrays under that number, about 50 bytes where an object would take
200. A name belongs to a directory, so several names may have one inode.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from .tar_headers import Kind, TarEntry, Xattrs

ROOT = 0
_MAX_TIME = (1 << 32) - 1
_MAX_LINKS = 255
_MAX_STEPS = 8192


class LinkLoopError(Exception):
    """A path leads through too many symbolic links."""


class Tree:
    """One root directory, 0755 and owned by 0:0, until layers say otherwise."""

    def __init__(self) -> None:
        self.kinds = bytearray()
        self.modes = array("H")
        self.uids = array("I")
        self.gids = array("I")
        self.mtimes = array("I")
        self.sizes = array("Q")
        self.offsets = array("Q")
        self.layers = array("I")
        """The number of the layer that a file's bytes are in."""
        self.parents = array("I")
        """Of directories, which have one name only."""
        self.children: dict[int, dict[bytes, int]] = {}
        self.links: dict[int, bytes] = {}
        self.devices: dict[int, tuple[int, int]] = {}
        self.xattrs: dict[int, Xattrs] = {}
        self._add(Kind.DIRECTORY, ROOT)
        self.modes[ROOT] = 0o755

    def __len__(self) -> int:
        return len(self.kinds)

    def is_directory(self, inode: int) -> bool:
        return self.kinds[inode] == Kind.DIRECTORY

    def add_directory(self, parent: int, name: bytes) -> int:
        """A directory that no layer describes: 0755, owned by 0:0."""
        inode = self._add(Kind.DIRECTORY, parent)
        self.modes[inode] = 0o755
        self.children[parent][name] = inode
        return inode

    def add_entry(self, parent: int, name: bytes, entry: TarEntry, layer: int) -> int:
        """A new inode as an entry describes it; not for hard links."""
        inode = self._add(entry.kind, parent)
        self.children[parent][name] = inode
        self.sizes[inode] = entry.size
        self.offsets[inode] = entry.offset
        self.layers[inode] = layer
        if entry.kind is Kind.SYMLINK:
            self.links[inode] = entry.link
        if entry.device is not None:
            self.devices[inode] = entry.device
        self.describe(inode, entry)
        return inode

    def describe(self, inode: int, entry: TarEntry) -> None:
        """Mode, owner, time and extended attributes as an entry has them, instead of what they were."""
        self.modes[inode] = entry.mode
        self.uids[inode] = entry.uid
        self.gids[inode] = entry.gid
        self.mtimes[inode] = min(max(entry.mtime, 0), _MAX_TIME)
        if entry.xattrs:
            self.xattrs[inode] = entry.xattrs
        else:
            self.xattrs.pop(inode, None)

    def remove(self, parent: int, name: bytes) -> None:
        """Take a name away, and all below it. An inode that has another name keeps it."""
        pending = [self.children[parent].pop(name)]
        while pending:
            below = self.children.pop(pending.pop(), None)
            if below:
                pending.extend(below.values())

    def walk(self, path: list[bytes]) -> tuple[list[bytes], list[int | None]]:
        """Where a path leads, links followed within the root: the names from the root on, and their inodes.

        The inodes begin with the root's; they are None from the first name on that does not exist, or that has
        something else than a directory above it. As a name that is not there cannot be a link, ``..`` after it only
        takes it away. Raises LinkLoopError.
        """
        names: list[bytes] = []
        inodes: list[int | None] = [ROOT]
        pending = path[::-1]
        links = steps = 0
        while pending:
            name = pending.pop()
            steps += 1
            if name in (b"", b"."):
                continue
            if name == b"..":
                if names:
                    names.pop()
                    inodes.pop()
                continue
            inode = self._child(inodes[-1], name)
            if inode is None or self.kinds[inode] != Kind.SYMLINK:
                names.append(name)
                inodes.append(inode)
                continue
            links += 1
            if links > _MAX_LINKS or steps > _MAX_STEPS:
                raise LinkLoopError
            target = self.links[inode]
            if target.startswith(b"/"):
                del names[:], inodes[1:]
            pending.extend(reversed(target.split(b"/")))
        return names, inodes

    def names(self) -> Iterator[tuple[int, bytes, int]]:
        """Every name but the root: its directory, itself, its inode. Directories come before what they hold."""
        pending = [ROOT]
        while pending:
            directory = pending.pop()
            for name, inode in self.children[directory].items():
                if self.kinds[inode] == Kind.DIRECTORY:
                    pending.append(inode)
                yield directory, name, inode

    def _child(self, directory: int | None, name: bytes) -> int | None:
        if directory is None:
            return None
        children = self.children.get(directory)
        return children.get(name) if children else None

    def _add(self, kind: Kind, parent: int) -> int:
        inode = len(self.kinds)
        self.kinds.append(kind)
        for column in (self.modes, self.uids, self.gids, self.mtimes, self.sizes, self.offsets, self.layers):
            column.append(0)
        self.parents.append(parent)
        if kind is Kind.DIRECTORY:
            self.children[inode] = {}
        return inode
