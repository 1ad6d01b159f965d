"""What the flattened tar will hold, in which order, and how long it will be."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from .tar_headers import Kind
from .tar_writer import END, header, needs_pax, padding
from .tree import ROOT, Tree

_BLOCK_HEADER = 512


class Plan:
    """A tree in the order of the tar: ``./`` and directories, links and devices, files by layer, hard links last.

    `size` is the tar's, to the byte; `entries` counts its members, `files` those that are regular files.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._names: list[bytes] = [b""] * len(tree)
        self._parents = array("I", bytes(4 * len(tree)))
        self._directories = array("I", [ROOT])
        self._others = array("I")
        self._links: list[tuple[int, bytes, int]] = []
        self._last = (ROOT, b"")
        self._file_order = self._arrange()
        self.size = len(END) + sum(self._sizes())

    @property
    def files(self) -> int:
        return len(self._file_order)

    @property
    def entries(self) -> int:
        return len(self._directories) + len(self._others) + self.files + len(self._links)

    def headers_before_files(self) -> Iterator[bytes]:
        """``./``, directories, symbolic links, devices and FIFOs."""
        for inode in self._directories:
            yield self._header(inode, self._path(inode) + b"/" if inode != ROOT else b"./")
        for inode in self._others:
            yield self._header(inode, self._path(inode))

    def file_headers(self) -> Iterator[tuple[int, bytes]]:
        """Regular files, by layer and by their place in it; to be followed by their bytes and padding."""
        for inode in self._file_order:
            yield inode, self._header(inode, self._path(inode))

    def hard_links(self) -> Iterator[bytes]:
        """Second names, each a link to the name that was written before."""
        tree = self.tree
        for directory, name, inode in self._links:
            yield header(
                self._join(directory, name),
                Kind.HARD_LINK,
                tree.modes[inode],
                tree.uids[inode],
                tree.gids[inode],
                0,
                tree.mtimes[inode],
                link=self._path(inode),
            )

    def _arrange(self) -> array[int]:
        """Give every inode its first name. Inodes are numbered in the order of layers, so files only need sorting."""
        kinds, names, parents = self.tree.kinds, self._names, self._parents
        files = array("I")
        by_kind: dict[int, array[int]] = {Kind.DIRECTORY: self._directories, Kind.FILE: files}
        for directory, name, inode in self.tree.names():
            if names[inode]:
                self._links.append((directory, name, inode))
                continue
            names[inode], parents[inode] = name, directory
            by_kind.get(kinds[inode], self._others).append(inode)
        return array("I", sorted(files))

    def _sizes(self) -> Iterator[int]:
        """Of every member with its header; paths are measured, not made."""
        tree = self.tree
        lengths = array("I", bytes(4 * len(tree)))
        yield len(self._header(ROOT, b"./"))
        for inode in self._directories[1:]:
            lengths[inode] = lengths[self._parents[inode]] + len(self._names[inode]) + 1
            yield self._header_size(inode, lengths[inode], b"/")
        for inode in self._others:
            yield self._header_size(inode, lengths[self._parents[inode]] + len(self._names[inode]))
        for inode in self._file_order:
            size = tree.sizes[inode]
            length = lengths[self._parents[inode]] + len(self._names[inode])
            yield self._header_size(inode, length) + size + padding(size)
        yield sum(map(len, self.hard_links()))

    def _header_size(self, inode: int, length: int, end: bytes = b"") -> int:
        tree = self.tree
        link = tree.links.get(inode, b"")
        xattrs = tree.xattrs.get(inode, ())
        if length <= 100 and not needs_pax(b"", tree.uids[inode], tree.gids[inode], tree.sizes[inode], link, xattrs):
            return _BLOCK_HEADER
        return len(self._header(inode, self._path(inode) + end))

    def _header(self, inode: int, path: bytes) -> bytes:
        tree = self.tree
        kind = tree.kinds[inode]
        return header(
            path,
            kind,
            0o777 if kind == Kind.SYMLINK else tree.modes[inode],
            tree.uids[inode],
            tree.gids[inode],
            tree.sizes[inode],
            tree.mtimes[inode],
            tree.links.get(inode, b""),
            tree.devices.get(inode, (0, 0)),
            tree.xattrs.get(inode, ()),
        )

    def _path(self, inode: int) -> bytes:
        return self._join(self._parents[inode], self._names[inode])

    def _join(self, directory: int, name: bytes) -> bytes:
        """Neighbours are mostly of one directory, so the last one is remembered."""
        if directory == ROOT:
            return name
        if directory != self._last[0]:
            self._last = (directory, self._directory_path(directory))
        return self._last[1] + name

    def _directory_path(self, directory: int) -> bytes:
        parts = [b""]
        while directory != ROOT:
            parts.append(self._names[directory])
            directory = self._parents[directory]
        return b"/".join(reversed(parts))
