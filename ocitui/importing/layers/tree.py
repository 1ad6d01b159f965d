"""The merged tree of an image, and how layers come into it: directories of names, and inodes in columns.

An inode is a number; what is known of it stands in arrays under that number, about 50 bytes where an object would take
200. A name belongs to a directory, so several names may have one inode.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

import msgspec

from ocitui.contents import FILE_TYPES, MOST_XATTRS, ChunkReader, Kind, Segments, TarEntry, TarError, TarReader, Xattrs
from ocitui.text import human_size, printable

from ..errors import LayerError, LayerLimitError, raised_with
from ..progress import ImportPhase, ImportProgress, ProgressCall
from .layers import LayerLimits, LayerSource, OpenLayer, read_ahead

ROOT = 0
_MAX_TIME = (1 << 32) - 1
_MAX_LINKS = 255
_MAX_STEPS = 8192


class HiddenFile(NamedTuple):
    """A regular file that a layer has and the image has not: the numbers of its ``layer`` and of the one that took it
    away, or put something else in its place."""

    path: bytes
    size: int
    layer: int
    hidden_by: int


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
        self.folder_names: dict[int, bytes] = {}
        """Of directories but the root."""
        self.links: dict[int, bytes] = {}
        self.devices: dict[int, tuple[int, int]] = {}
        self.xattrs: dict[int, Xattrs] = {}
        self.segments: dict[int, Segments] = {}
        """Of sparse files, what of them the layer has, and where it stands in them."""
        self.clamped: set[int] = set()
        """Those whose time no packed file can hold, which have the nearest that it can."""
        self._add(Kind.DIRECTORY, ROOT)
        self.modes[ROOT] = 0o755

    def __len__(self) -> int:
        return len(self.kinds)

    def is_directory(self, inode: int) -> bool:
        return self.kinds[inode] == Kind.DIRECTORY

    def mode(self, inode: int) -> int:
        """With its type; all of a symbolic link is allowed."""
        kind = self.kinds[inode]
        return FILE_TYPES[kind] | (0o777 if kind == Kind.SYMLINK else self.modes[inode])

    def device(self, inode: int) -> int:
        """Its numbers as the kernel's new_encode_dev makes them one; 0 of what is none."""
        major, minor = self.devices.get(inode, (0, 0))
        return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12

    def link_counts(self) -> array[int]:
        """How many names each inode has, a directory by `.` and `..` too."""
        links = array("I", bytes(4 * len(self)))
        links[ROOT] = 2
        for directory, _, inode in self.names():
            links[inode] += 1
            if self.is_directory(inode):
                links[inode] += 1
                links[directory] += 1
        return links

    def add_directory(self, parent: int, name: bytes) -> int:
        """A directory that no layer describes: 0755, owned by 0:0."""
        inode = self._add(Kind.DIRECTORY, parent)
        self.modes[inode] = 0o755
        self.children[parent][name] = inode
        self.folder_names[inode] = name
        return inode

    def add_entry(self, parent: int, name: bytes, entry: TarEntry, layer: int) -> int:
        """A new inode as an entry describes it; not for hard links."""
        inode = self._add(entry.kind, parent, entry.size, entry.offset, layer)
        self.children[parent][name] = inode
        if entry.kind is Kind.DIRECTORY:
            self.folder_names[inode] = name
        if entry.kind is Kind.SYMLINK:
            self.links[inode] = entry.link
        if entry.device is not None:
            self.devices[inode] = entry.device
        if entry.segments is not None:
            self.segments[inode] = entry.segments
        self.describe(inode, entry)
        return inode

    def describe(self, inode: int, entry: TarEntry) -> None:
        """Mode, owner, time and extended attributes as an entry has them, instead of what they were."""
        self.modes[inode] = entry.mode
        self.uids[inode] = entry.uid
        self.gids[inode] = entry.gid
        self.mtimes[inode] = mtime = min(max(entry.mtime, 0), _MAX_TIME)
        if mtime != entry.mtime:
            self.clamped.add(inode)
        elif self.clamped:
            self.clamped.discard(inode)
        if entry.xattrs:
            self.xattrs[inode] = entry.xattrs
        else:
            self.xattrs.pop(inode, None)

    def keep_xattrs(self, beginnings: tuple[bytes, ...]) -> dict[bytes, list[int]]:
        """Take away the extended attributes whose names do not begin so; gives what had each."""
        gone: dict[bytes, list[int]] = {}
        for inode, xattrs in list(self.xattrs.items()):
            for name, _ in xattrs:
                if not name.startswith(beginnings):
                    gone.setdefault(name, []).append(inode)
            if held := tuple(one for one in xattrs if one[0].startswith(beginnings)):
                self.xattrs[inode] = held
            else:
                del self.xattrs[inode]
        return gone

    def remove(self, parent: int, name: bytes) -> None:
        """Take a name away, and all below it. An inode that has another name keeps it."""
        pending = [self.children[parent].pop(name)]
        while pending:
            below = self.children.pop(pending.pop(), None)
            if below:
                pending.extend(below.values())

    def files_at(self, parent: int, name: bytes) -> Iterator[tuple[bytes, int]]:
        """The regular file of a name, or all below it, each with its path."""
        above, names = parent, [name]
        while above != ROOT:
            names.append(self.folder_names[above])
            above = self.parents[above]
        pending = [(b"/".join(reversed(names)), self.children[parent][name])]
        while pending:
            path, inode = pending.pop()
            if self.kinds[inode] == Kind.FILE:
                yield path, inode
            pending.extend((path + b"/" + below, one) for below, one in self.children.get(inode, {}).items())

    def walk(self, path: list[bytes]) -> tuple[list[bytes], list[int | None]]:
        """Where a path leads, links followed within the root: the names from the root on, and their inodes, which begin
        with the root's; None from the first on that is not there, or not below a directory. As a name that is not there
        cannot be a link, ``..`` after it only takes it away. Raises LayerError for too many links."""
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
            above = inodes[-1]
            inode = None if above is None else self.children.get(above, {}).get(name)
            if inode is None or self.kinds[inode] != Kind.SYMLINK:
                names.append(name)
                inodes.append(inode)
                continue
            links += 1
            if links > _MAX_LINKS or steps > _MAX_STEPS:
                raise LayerError("its path leads through too many symbolic links")
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

    def _add(self, kind: Kind, parent: int, size: int = 0, offset: int = 0, layer: int = 0) -> int:
        inode = len(self.kinds)
        self.kinds.append(kind)
        for column in (self.modes, self.uids, self.gids, self.mtimes):
            column.append(0)
        self.sizes.append(size)
        self.offsets.append(offset)
        self.layers.append(layer)
        self.parents.append(parent)
        if kind is Kind.DIRECTORY:
            self.children[inode] = {}
        return inode


class _Hidden(msgspec.Struct):
    """The files by their inodes, and the bytes of their paths."""

    files: dict[int, HiddenFile] = {}
    bytes: int = 0


_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
# AUFS kept files of its own under such names; they mean nothing here.
_AUFS = b".wh..wh."
_MAX_NAME = 255
_MAX_TARGET = 4095
_MAX_RESOLVED = 16384
_SECONDS_BETWEEN = 0.1


class Changeset:
    """One layer on its way into a tree; ``number`` counts from 1. What it takes away of the layers below comes into
    ``hidden``, by inode, where that is given."""

    def __init__(self, tree: Tree, number: int, limits: LayerLimits, hidden: _Hidden | None = None) -> None:
        self._tree = tree
        self._number = number
        self._limits = limits
        self._hidden = hidden
        # Where paths lead, as long as no directory or link on the way is taken away.
        self._resolved: dict[bytes, int] = {b"": ROOT}
        # This layer's own: inodes from here on, directories below that number that it went through, links by name.
        self._first = len(tree)
        self._own: set[int] = {ROOT}
        self._own_links: set[tuple[int, bytes]] = set()
        # Directories that hold nothing but the layer's own since a whiteout went through them.
        self._swept: set[int] = set()

    def apply(self, entry: TarEntry) -> None:
        """Raises LayerError where the entry cannot be in a root filesystem."""
        if len(entry.name) > self._limits.path_bytes:
            raise LayerLimitError(f"its path has more than {self._limits.path_bytes} bytes")
        if len(entry.xattrs or ()) > MOST_XATTRS:
            raise LayerLimitError(f"it has more than {MOST_XATTRS:,} extended attributes")
        parent, name = split_path(entry.name)
        if not name:
            if entry.kind is not Kind.DIRECTORY:
                raise LayerError("it would replace the root directory")
            self._tree.describe(ROOT, entry)
        elif _AUFS in entry.name and _is_aufs(parent, name):
            return
        elif name.startswith(_WHITEOUT):
            self._white_out(parent, name)
        else:
            self._add(parent, name, entry)

    def _add(self, path: bytes, name: bytes, entry: TarEntry) -> None:
        if len(name) > _MAX_NAME:
            raise LayerError(f"its name has more than {_MAX_NAME} bytes")
        tree = self._tree
        parent = self._directory(path)
        there = tree.children[parent].get(name)
        if there is not None:
            if entry.kind is Kind.DIRECTORY and tree.is_directory(there):
                self._own.add(there)
                tree.describe(there, entry)
                return
            self._remove(parent, name, there)
        if entry.kind is Kind.HARD_LINK:
            tree.children[parent][name] = self._link_target(entry.link)
            self._own_links.add((parent, name))
            return
        if entry.kind is Kind.SYMLINK:
            if not entry.link:
                raise LayerError("it is a symbolic link to nothing")
            if len(entry.link) > _MAX_TARGET:
                raise LayerError(f"its target has more than {_MAX_TARGET} bytes")
        tree.add_entry(parent, name, entry, self._number)

    def _directory(self, path: bytes) -> int:
        """The directory at a path, made where it is missing; now the layer's own."""
        inode = self._resolved.get(path)
        if inode is None:
            inode = self._make_directories(path)
            if len(self._resolved) >= _MAX_RESOLVED:
                self._resolved = {b"": ROOT}
            self._resolved[path] = inode
        parents, own = self._tree.parents, self._own
        above = inode
        while above not in own:
            own.add(above)
            above = parents[above]
        return inode

    def _make_directories(self, path: bytes) -> int:
        tree = self._tree
        names, inodes = tree.walk(path.split(b"/"))
        self._check_depth(names)
        inode = ROOT
        for name, there in zip(names, inodes[1:], strict=True):
            if there is not None and not tree.is_directory(there):
                self._remove(inode, name, there)
                there = None
            inode = tree.add_directory(inode, name) if there is None else there
        return inode

    def _check_depth(self, names: list[bytes]) -> None:
        if any(len(name) > _MAX_NAME for name in names):
            raise LayerError(f"a name in its path has more than {_MAX_NAME} bytes")
        if len(names) > self._limits.depth:
            raise LayerLimitError(f"it lies below more than {self._limits.depth} directories")
        if sum(map(len, names)) + len(names) > self._limits.path_bytes:
            raise LayerLimitError(f"its path has more than {self._limits.path_bytes} bytes")

    def _remove(self, parent: int, name: bytes, inode: int) -> None:
        kind = self._tree.kinds[inode]
        if self._hidden is not None:
            self._hide(parent, name, self._hidden)
        self._tree.remove(parent, name)
        self._own_links.discard((parent, name))
        if kind in (Kind.DIRECTORY, Kind.SYMLINK):
            self._resolved = {b"": ROOT}

    def _hide(self, parent: int, name: bytes, hidden: _Hidden) -> None:
        """Note what is about to be removed. Raises LayerLimitError where the paths of it all would be too long."""
        tree = self._tree
        for path, inode in tree.files_at(parent, name):
            if inode < self._first:
                hidden.files[inode] = HiddenFile(path, tree.sizes[inode], tree.layers[inode], self._number)
                hidden.bytes += len(path)
                if hidden.bytes > self._limits.metadata_bytes:
                    most = human_size(self._limits.metadata_bytes)
                    told = f"the paths of what layers hide take more than {most}, too much to be listed"
                    raise LayerLimitError(told, hint="the entry is none the worse for it")

    def _link_target(self, target: bytes) -> int:
        path, name = split_path(target)
        directory = self._find(path)
        inode = None if directory is None or not name else self._tree.children[directory].get(name)
        if inode is None:
            raise LayerError(f"it is a hard link to {printable(target)}, which is not there")
        if self._tree.is_directory(inode):
            raise LayerError(f"it is a hard link to {printable(target)}, which is a directory")
        return inode

    def _find(self, path: bytes) -> int | None:
        """The directory at a path, where there is one."""
        if (known := self._resolved.get(path)) is not None:
            return known
        inode = self._tree.walk(path.split(b"/"))[1][-1]
        return inode if inode is not None and self._tree.is_directory(inode) else None

    def _white_out(self, path: bytes, name: bytes) -> None:
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise LayerError("it is a whiteout that names no entry")
        directory = self._find(path)
        if directory is None:
            return
        if name == _OPAQUE:
            self._sweep(directory)
        elif hidden in self._tree.children[directory]:
            below = self._remove_lower(directory, hidden)
            if below is not None:
                self._sweep(below)

    def _sweep(self, directory: int) -> None:
        """Remove all that lower layers left in a directory. Once is enough: a layer only adds what is its own."""
        pending = [directory]
        while pending:
            directory = pending.pop()
            if directory in self._swept:
                continue
            self._swept.add(directory)
            for name in list(self._tree.children[directory]):
                below = self._remove_lower(directory, name)
                if below is not None:
                    pending.append(below)

    def _remove_lower(self, directory: int, name: bytes) -> int | None:
        """Remove a name of a lower layer. Returns a directory that is the layer's own, whose content is yet to do."""
        inode = self._tree.children[directory][name]
        if inode < self._first and inode not in self._own and (directory, name) not in self._own_links:
            self._remove(directory, name, inode)
        elif self._tree.is_directory(inode):
            return inode
        return None


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """The directory and the name of a path, as from the root: ``..`` never leads out of it. No name is the root."""
    path = path.removeprefix(b"./").rstrip(b"/")
    head, _, name = path.rpartition(b"/")
    # Nearly every path is plain by now.
    if name and b"//" not in path and b"/." not in path and path[0] not in b"/.":
        return head, name
    names: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del names[-1:]
        elif part not in (b"", b"."):
            names.append(part)
    return (b"/".join(names[:-1]), names[-1]) if names else (b"", b"")


def _is_aufs(path: bytes, name: bytes) -> bool:
    return (name.startswith(_AUFS) and name != _OPAQUE) or (b"/" + path).find(b"/" + _AUFS) >= 0


class Counter(msgspec.Struct):
    """How far a pass over so many ``layers`` has come; ``call`` is told now and then, and whenever `tell` is called."""

    call: ProgressCall = lambda now: None
    layers: int = 0
    phase: ImportPhase = ImportPhase.READ
    layer: int = 0
    done: int = 0
    total: int = 0
    files: int = 0
    files_total: int = 0
    _told: float = 0.0

    def begin(self, phase: ImportPhase, total: int, files_total: int = 0) -> None:
        """A pass of so many bytes and files begins."""
        self.phase, self.done, self.total, self.files, self.files_total = phase, 0, total, 0, files_total

    def add(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self._told >= _SECONDS_BETWEEN:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        numbers = self.done, self.total, self.files, self.files_total
        self.call(ImportProgress(self.phase, *numbers, layer=self.layer, layers_total=self.layers))


_SEGMENT_BYTES = 144
"""What two numbers in a tuple take in memory."""


class _Budget:
    """What all layers together may take, counted against the limits."""

    def __init__(self, limits: LayerLimits) -> None:
        self._limits = limits
        self._bytes = 0
        self._metadata = 0

    def counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same chunks of a layer. Raises LayerLimitError."""
        limit = self._limits.unpacked_bytes
        for chunk in chunks:
            self._bytes += len(chunk)
            if self._bytes > limit:
                raise LayerLimitError(
                    f"the layers unpack to more than {limit} bytes, the limit", hint=raised_with("--max-bytes")
                )
            yield chunk

    def add(self, entry: TarEntry, entries: int) -> None:
        """One more than so many. Raises LayerLimitError."""
        limits = self._limits
        self._metadata += len(entry.name) + len(entry.link)
        if entry.xattrs:
            self._metadata += sum(len(name) + len(value) for name, value in entry.xattrs)
        self._metadata += len(entry.segments or ()) * _SEGMENT_BYTES
        if entries >= limits.entries:
            raise LayerLimitError(
                f"the image has more than {limits.entries} entries, the limit", hint=raised_with("--max-entries")
            )
        if self._metadata > limits.metadata_bytes:
            raise LayerLimitError(
                f"names, attributes and maps of sparse files take more than {limits.metadata_bytes} bytes, the limit"
            )


def opened_layers(sources: Iterable[LayerSource], layers: list[OpenLayer], stack: ExitStack) -> Iterator[OpenLayer]:
    """Each of them as it comes, open as long as the stack stands; ``layers`` gets them too. Raises LayerError."""
    for number, source in enumerate(sources, 1):
        with naming(number):
            layers.append(stack.enter_context(closing(OpenLayer(source))))
        yield layers[-1]


def hidden_files(sources: Iterable[LayerSource], limits: LayerLimits, counter: Counter) -> tuple[list[HiddenFile], int]:
    """What layers have that later ones hide, the largest of each layer first, and the bytes of all files of all layers.
    Nothing is written. Raises LayerError."""
    hidden = _Hidden()
    with ExitStack() as stack:
        tree = merge_layers(opened_layers(sources, [], stack), limits, counter, hidden)
    for _, _, kept in tree.names():
        hidden.files.pop(kept, None)
    return sorted(hidden.files.values(), key=lambda one: (one.layer, -one.size, one.path)), sum(tree.sizes)


def merge_layers(
    layers: Iterable[OpenLayer], limits: LayerLimits, counter: Counter, hidden: _Hidden | None = None
) -> Tree:
    """The tree of all layers; ``counter`` counts the bytes of their files, and ``hidden`` gets what they take away of
    each other. Raises LayerError."""
    tree, budget = Tree(), _Budget(limits)
    for number, layer in enumerate(layers, 1):
        counter.layer, changeset = number, Changeset(tree, number, limits, hidden)
        with naming(number), read_ahead(layer.checked_chunks(counter.add)) as chunks:
            reader = ChunkReader(budget.counted(chunks))
            for entry in TarReader(reader, limits.unpacked_bytes, limits.header_bytes):
                budget.add(entry, counter.files)
                try:
                    changeset.apply(entry)
                except LayerError as error:
                    raise error.placed(entry=entry.name) from error
                counter.files += 1
            # What follows the end of the tar belongs to the digest all the same.
            reader.drain()
        layer.end_hashing()
    return tree


@contextmanager
def naming(number: int) -> Iterator[None]:
    """Errors from inside name this layer."""
    try:
        yield
    except TarError as error:
        raise LayerError.of(error).placed(layer=number) from error
    except LayerError as error:
        raise error.placed(layer=number) from error
