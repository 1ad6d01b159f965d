"""Layers flattened into one tar stream, in two passes, nothing unpacked.

The first pass reads every layer, checks it and merges the headers into a tree. Then every byte to come is known, and
the second pass writes the tar, reading those layers again of which files are left. Its headers are ustar's, with a PAX
header before one where ustar has no room (tar(5)).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from itertools import chain, groupby

import msgspec

from ocitui.contents import TAR_BLOCK, ChunkReader, Kind, Segments, Xattrs, sum_of_bytes
from ocitui.text import printable

from ..errors import LayerError
from ..progress import ImportPhase
from .layers import Compression, LayerLimits, LayerSource, OpenLayer, read_ahead
from .tree import ROOT, Counter, Tree, merge_layers, naming, opened_layers

END = bytes(2 * TAR_BLOCK)
"""What ends a tar."""

_NAME_ROOM = 100
_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777
_SUM_END, _USTAR = 156, b"ustar\00000" + bytes(64)


def tar_header(
    name: bytes,
    kind: int,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Xattrs = (),
) -> bytes:
    """All that stands before an entry's bytes."""
    before = b""
    records = pax_records(name, uid, gid, size, link, xattrs, mtime)
    mtime = min(max(mtime, 0), _MAX_OCTAL_SIZE)
    if records:
        body = b"".join(records)
        before = _block(b"PaxHeaders/" + name[-80:], ord("x"), 0o644, 0, 0, len(body), mtime, b"", (0, 0))
        before += body + bytes(tar_padding(len(body)))
    uid = uid if uid <= _MAX_OCTAL_ID else 0
    gid = gid if gid <= _MAX_OCTAL_ID else 0
    size = size if size <= _MAX_OCTAL_SIZE else 0
    return before + _block(name[-_NAME_ROOM:], kind, mode, uid, gid, size, mtime, link[:_NAME_ROOM], device)


def pax_records(name: bytes, uid: int, gid: int, size: int, link: bytes, xattrs: Xattrs, mtime: int = 0) -> list[bytes]:
    """What an entry's one block has no room for; mostly nothing."""
    # Names that are not UTF-8 stand as they are: every packer takes the bytes, and none knows "hdrcharset".
    records = []
    if len(name) > _NAME_ROOM:
        records.append(_record(b"path", name))
    if len(link) > _NAME_ROOM:
        records.append(_record(b"linkpath", link))
    if uid > _MAX_OCTAL_ID:
        records.append(_record(b"uid", b"%d" % uid))
    if gid > _MAX_OCTAL_ID:
        records.append(_record(b"gid", b"%d" % gid))
    if size > _MAX_OCTAL_SIZE:
        records.append(_record(b"size", b"%d" % size))
    if not 0 <= mtime <= _MAX_OCTAL_SIZE:
        records.append(_record(b"mtime", b"%d" % mtime))
    records += [_record(b"SCHILY.xattr." + key, value) for key, value in xattrs]
    return records


def tar_padding(size: int) -> int:
    """The zeros after so many bytes."""
    return -size % TAR_BLOCK


def _block(
    name: bytes, kind: int, mode: int, uid: int, gid: int, size: int, mtime: int, link: bytes, device: tuple[int, int]
) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    before, after = name.ljust(_NAME_ROOM, b"\0") + numbers, b"%c" % kind + link.ljust(_NAME_ROOM, b"\0") + _USTAR
    if kind in (Kind.CHARACTER, Kind.BLOCK):
        after += b"%07o\0%07o\0" % device
    after = after.ljust(TAR_BLOCK - _SUM_END, b"\0")
    return b"%b%06o\0 %b" % (before, sum_of_bytes(before + b"        " + after), after)


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``; the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


class Plan:
    """A tree in the order of the tar: ``./`` and directories, links and devices, files by layer, hard links last.
    `size` is the tar's, to the byte; `files` counts its regular files."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._names: list[bytes] = [b""] * len(tree)
        self._parents = array("I", bytes(4 * len(tree)))
        self._directories = array("I", [ROOT])
        self._others = array("I")
        self._links: list[tuple[int, bytes, int]] = []
        self._last = (ROOT, b"")
        self.file_order = self._arrange()
        """Regular files, by layer and by their place in it."""
        self.files = len(self.file_order)
        self.size = len(END) + sum(self._sizes())

    def examples(self, inodes: Iterable[int]) -> tuple[int, str]:
        """How many of these the image has, and the paths of the first."""
        there = [inode for inode in inodes if inode == ROOT or self._names[inode]]
        first = [printable(self._path(inode) or b".") for inode in there[:3]]
        return len(there), ", ".join([*first, "..."] if len(there) > len(first) else first)

    @property
    def before_files(self) -> Iterator[int]:
        """The root, directories, symbolic links, devices and FIFOs."""
        return chain(self._directories, self._others)

    def headers_before_files(self) -> Iterator[bytes]:
        """Of these."""
        for inode in self._directories:
            yield self._header(inode, self._path(inode) + b"/" if inode != ROOT else b"./")
        for inode in self._others:
            yield self._header(inode, self._path(inode))

    def file_header(self, inode: int) -> bytes:
        """To be followed by a regular file's bytes and padding."""
        return self._header(inode, self._path(inode))

    def hard_links(self) -> Iterator[bytes]:
        """Second names, each a link to the name that was written before."""
        tree = self.tree
        for directory, name, inode in self._links:
            path, about = self._join(directory, name), (tree.modes[inode], tree.uids[inode], tree.gids[inode])
            yield tar_header(path, Kind.HARD_LINK, *about, 0, tree.mtimes[inode], link=self._path(inode))

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
        for inode in self.file_order:
            size = tree.sizes[inode]
            length = lengths[self._parents[inode]] + len(self._names[inode])
            yield self._header_size(inode, length) + size + tar_padding(size)
        yield sum(map(len, self.hard_links()))

    def _header_size(self, inode: int, length: int, end: bytes = b"") -> int:
        tree = self.tree
        link = tree.links.get(inode, b"")
        xattrs = tree.xattrs.get(inode, ())
        numbers = tree.uids[inode], tree.gids[inode], tree.sizes[inode]
        if length > _NAME_ROOM or pax_records(b"", *numbers, link, xattrs):
            return len(self._header(inode, self._path(inode) + end))
        return TAR_BLOCK

    def _header(self, inode: int, path: bytes) -> bytes:
        tree = self.tree
        kind = tree.kinds[inode]
        return tar_header(
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


_BUFFER, _HASH = 1 << 18, 32

Part = bytes | memoryview
Write = Callable[[memoryview], None]


class Gathered:
    """Bytes that are written one after the other, from a place on, gathered into larger writes, which are counted."""

    def __init__(self, write_at: Callable[[bytes, int], None], counter: Counter, at: int = 0) -> None:
        self.at, self._size, self._parts, self._write_at, self._counter = at, 0, list[Part](), write_at, counter

    def add(self, data: Part) -> None:
        if size := len(data):
            self._parts.append(data)
            self._size += size
            self.at += size
            if self._size >= _BUFFER:
                self.flush()

    def skip_to(self, at: int) -> None:
        """With zeros."""
        self.add(bytes(at - self.at))

    def leave(self, size: int) -> None:
        """Go on behind so many bytes, which become a hole."""
        if size:
            self.flush()
            self.at += size

    def flush(self) -> None:
        self._write_at(b"".join(self._parts), self.at - self._size)
        self._counter.add(self._size)
        self._parts.clear()
        self._size = 0


@contextmanager
def flattening(
    sources: Iterable[LayerSource], limits: LayerLimits, counter: Counter, held: tuple[bytes, ...] = (b"",)
) -> Iterator[Flattening]:
    """An image's layers, opened and read as they come; ``counter`` counts the bytes of their files. The names of the
    extended attributes that can be kept begin as those ``held``. Raises LayerError."""
    with ExitStack() as stack:
        layers = list[OpenLayer]()
        tree = merge_layers(opened_layers(sources, layers, stack), limits, counter)
        lost = tree.keep_xattrs(held)
        yield Flattening(layers, Plan(tree), lost, bytearray(_HASH * len(tree)))


class Flattening(msgspec.Struct, frozen=True):
    """Layers that were read; ``plan`` says what they come to, `write` writes it. ``lost`` are the extended attributes
    that are left out, with the inodes that had them."""

    layers: Sequence[OpenLayer]
    plan: Plan
    lost: dict[bytes, list[int]] = {}
    hashes: bytearray = bytearray()
    """The sha256 of each regular file whose bytes were taken, at its inode's place."""

    def hash(self, inode: int) -> bytes:
        return bytes(self.hashes[_HASH * inode : _HASH * (inode + 1)])

    def write(self, write: Write, counter: Counter) -> None:
        """Write the tar: `plan.size` bytes, counted by ``counter``. Raises LayerError, and what ``write`` raises."""
        out = Gathered(lambda data, at: write(memoryview(data)), counter)

        def put_body(size: int, parts: Iterable[Part]) -> None:
            for part in parts:
                out.add(part)
            out.add(bytes(tar_padding(size)))

        self._write(out, put_body, counter)
        out.flush()

    def write_hashes(self, write_at: Callable[[bytes, int], None], counter: Counter) -> None:
        """Write the tar with holes for what its files hold: the sha256 of each stands behind its end, in
        `Plan.file_order`. Raises as `write`."""
        out = Gathered(write_at, counter)

        def pass_by(size: int, parts: Iterable[Part]) -> None:
            for part in parts:
                counter.add(len(part))
            out.leave(size + tar_padding(size))

        self._write(out, pass_by, counter)
        out.add(b"".join(map(self.hash, self.plan.file_order)))
        out.flush()

    def _write(self, out: Gathered, put_body: Callable[[int, Iterable[Part]], None], counter: Counter) -> None:
        counter.begin(ImportPhase.WRITE, self.plan.size, self.plan.files)

        def put_file(inode: int, parts: Iterable[Part]) -> None:
            out.add(self.plan.file_header(inode))
            put_body(self.plan.tree.sizes[inode], parts)

        for block in self.plan.headers_before_files():
            out.add(block)
        self.each_file(put_file, counter)
        for block in self.plan.hard_links():
            out.add(block)
        out.add(END)

    def each_file(self, take: Callable[[int, Iterable[Part]], None], counter: Counter) -> None:
        """Have each regular file's bytes taken, in `Plan.file_order`. Raises LayerError, and what ``take`` raises."""
        tree = self.plan.tree
        for number, files in groupby(self.plan.file_order, tree.layers.__getitem__):
            layer, counter.layer = self.layers[number - 1], number
            with naming(number), _bodies(layer) as read:
                for inode in files:
                    offset, size, segments = tree.offsets[inode], tree.sizes[inode], tree.segments.get(inode)
                    parts = read(offset, size) if segments is None else _filled(offset, size, segments, read)
                    take(inode, self._hashed(inode, parts if size else ()))
                    counter.files += 1
                layer.check_unchanged()

    def _hashed(self, inode: int, parts: Iterable[Part]) -> Iterator[Part]:
        hashed = sha256()
        for part in parts:
            hashed.update(part)
            yield part
        self.hashes[_HASH * inode : _HASH * (inode + 1)] = hashed.digest()


_HOLE = bytes(1 << 16)


def _filled(offset: int, size: int, segments: Segments, read: Callable[[int, int], Iterator[Part]]) -> Iterator[Part]:
    """The bytes of a sparse file, its holes as zeros."""
    end = 0
    for at, length in (*segments, (size, 0)):
        while end < at:
            yield _HOLE[: at - end]
            end += min(at - end, len(_HOLE))
        yield from read(offset, length)
        offset, end = offset + length, at + length


@contextmanager
def _bodies(layer: OpenLayer) -> Iterator[Callable[[int, int], Iterator[Part]]]:
    """Gives what reads a file's bytes, by offset and size; files are asked for in the order that they have in it."""
    if layer.compression is Compression.NONE:
        yield layer.part
        return
    with read_ahead(layer.chunks()) as chunks:
        reader = ChunkReader(chunks)

        def read(offset: int, size: int) -> Iterator[Part]:
            reader.skip(offset - reader.position)
            for part in reader.parts(size):
                size -= len(part)
                yield part
            if size:
                raise LayerError("it was cut while it was read")

        yield read
