"""squashfs 4.0 in gzip, written here, so that its bytes are those of the layers and of libdeflate's version alone. The
format is of Linux fs/squashfs/squashfs_fs.h: files in blocks of 128 KiB, their ends gathered into such blocks
("fragments"), then tables in blocks of 8 KiB: inodes, listings, fragments, inodes by number, owners, attributes.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter as Counts
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import deflate

from ocitui.contents import Kind, Xattrs

from ..errors import PackerError
from ..layers.flatten import Flattening, Part
from ..layers.tree import ROOT, Counter
from ..progress import ImportPhase

_BLOCK_LOG, _METADATA, _END = 17, 1 << 13, 1 << 12
_BLOCK = 1 << _BLOCK_LOG
_HOLE = bytes(_BLOCK)
_RAW, _METADATA_RAW = 1 << 24, 1 << 15
_NONE, _NOWHERE = (1 << 32) - 1, (1 << 64) - 1
_SUPER, _MAGIC, _GZIP = struct.Struct("<4s4I6H8Q"), b"hsqs", 1
# Ends of large files are in fragments too, files are stored once, inodes are found by number; no attributes.
_FLAGS, _NO_XATTRS = 0x20 | 0x40 | 0x80, 0x200
_HEAD, _HEADER, _NAME = struct.Struct("<4H2I"), struct.Struct("<3I"), struct.Struct("<HhHH")
_MOST_NAMES, _DELTAS = 256, range(-(1 << 15), 1 << 15)
_DIRECTORY, _LARGE_DIRECTORY = struct.Struct("<2I2HI"), struct.Struct("<4I2HI")
_FILE, _LARGE_FILE = struct.Struct("<4I"), struct.Struct("<3Q4I")
_PLACE, _U16, _U32 = struct.Struct("<Q2I"), struct.Struct("<H"), struct.Struct("<I")
_TYPES: dict[int, int] = {
    Kind.DIRECTORY: 1,
    Kind.FILE: 2,
    Kind.SYMLINK: 3,
    Kind.BLOCK: 4,
    Kind.CHARACTER: 5,
    Kind.FIFO: 6,
}
_EXTENDED = 7
"""What is added to the type of an inode that has all fields."""
_PREFIXES = (b"user.", b"trusted.", b"security.")
_LONGEST_NAME, _LARGEST_VALUE = 255, 1 << 16
_MOST_IDS = (1 << 16) - 1
# How many blocks for each thread are being compressed, or wait to be written.
_AHEAD = 4

WriteAt = Callable[[bytes | bytearray, int], None]


class SquashfsImage:
    """A tree as squashfs, compressed at ``level`` in so many ``threads``: `write` puts it there. Attributes that it
    cannot hold are added to those that the ``image`` lost. Raises PackerError for more owners than it can number."""

    def __init__(self, image: Flattening, level: int, threads: int) -> None:
        self._image, self._tree, self._level, self._threads = image, image.plan.tree, level, threads
        tree, self._inodes = self._tree, array("I", chain(image.plan.before_files, image.plan.file_order))
        owners = sorted({column[inode] for column in (tree.uids, tree.gids) for inode in self._inodes})
        if len(owners) > _MOST_IDS:
            raise PackerError(
                f"it has {len(owners):,} users and groups, and squashfs holds {_MOST_IDS:,}",
                hint="--format erofs or tar holds them",
            )
        self._owners = {owner: number for number, owner in enumerate(owners)}
        self._numbers, self._links = array("I", bytes(4 * len(tree))), tree.link_counts()
        for number, inode in enumerate(self._inodes, 1):
            self._numbers[inode] = number
        self._sets, self._xattrs = dict[bytes, tuple[int, int]](), dict[int, int]()
        for inode in self._inodes:
            if inode in tree.xattrs:
                self._add_xattrs(inode, tree.xattrs[inode])

    def write(self, write_at: WriteAt, counter: Counter) -> int:
        """Gives how many bytes it has: what was written behind them does not belong to it. Raises LayerError, and what
        ``write_at`` raises."""
        plan, tree = self._image.plan, self._tree
        counter.begin(ImportPhase.WRITE, plan.size, plan.files)
        with ThreadPoolExecutor(self._threads, "pack") as pool:
            self._bodies = _Bodies(self._image, write_at, counter, pool, self._level, _AHEAD * self._threads)
            self._image.each_file(self._bodies.put, counter)
            self._bodies.end()
        self._write_at, self._at = write_at, self._bodies.at
        inodes, listings, self._references = self._table(), self._table(), array("Q", [_NOWHERE]) * len(tree)
        directories = [inode for inode in plan.before_files if tree.is_directory(inode)]
        for directory in reversed(directories):
            self._put_directory(directory, inodes, listings)
        starts = [self._put(inodes.end()), self._put(listings.end())]
        starts.append(self._put_rows(self._bodies.places))
        starts.append(self._put_rows(_little("Q", [self._references[inode] for inode in self._inodes])))
        owners = self._put_rows(_little("I", list(self._owners)))
        xattrs, used = self._put_xattrs(), self._at
        self._put(bytes(-used % _END))
        counter.add(counter.total - counter.done)
        numbers = len(self._inodes), max(tree.mtimes), _BLOCK, len(self._bodies.places) // _PLACE.size
        flags = _FLAGS if self._sets else _FLAGS | _NO_XATTRS
        kind = _GZIP, _BLOCK_LOG, flags, len(self._owners), 4, 0
        write_at(_SUPER.pack(_MAGIC, *numbers, *kind, self._references[ROOT], used, owners, xattrs, *starts), 0)
        return self._at

    def _add_xattrs(self, inode: int, xattrs: Xattrs) -> None:
        """Number the set of attributes, which others may have too."""
        made, count = bytearray(), 0
        for name, value in xattrs:
            kind, prefix = next(((at, one) for at, one in enumerate(_PREFIXES) if name.startswith(one)), (0, name))
            rest = name.removeprefix(prefix)
            if not rest or len(name) > _LONGEST_NAME or len(value) > _LARGEST_VALUE:
                self._image.lost.setdefault(name, []).append(inode)
                continue
            made += _U16.pack(kind) + _U16.pack(len(rest)) + rest + _U32.pack(len(value)) + value
            count += 1
        if count:
            self._xattrs[inode], _ = self._sets.setdefault(bytes(made), (len(self._sets), count))

    def _table(self) -> _Table:
        return _Table(self._level)

    def _put(self, data: bytes | bytearray) -> int:
        """Gives where it begins."""
        at = self._at
        self._write_at(data, at)
        self._at += len(data)
        return at

    def _put_rows(self, rows: bytes | bytearray) -> int:
        """Gives where their index begins, which stands behind them."""
        table = self._table()
        table.add(rows)
        start = self._put(table.end())
        return self._put(_little("Q", [start + at for at in table.starts]))

    def _put_xattrs(self) -> int:
        if not self._sets:
            return _NOWHERE
        table, rows = self._table(), bytearray()
        for made, (_, count) in self._sets.items():
            rows += _PLACE.pack(table.place, count, len(made))
            table.add(made)
        start, ids = self._put(table.end()), self._table()
        ids.add(rows)
        first = self._put(ids.end())
        at = self._put(_PLACE.pack(start, len(self._sets), 0))
        self._put(_little("Q", [first + block for block in ids.starts]))
        return at

    def _put_directory(self, directory: int, inodes: _Table, listings: _Table) -> None:
        """Put its listing and all inodes that it names there, but for directories, which are there; then its own."""
        tree, children = self._tree, sorted(self._tree.children[directory].items())
        for _, inode in children:
            if self._references[inode] == _NOWHERE:
                self._references[inode] = inodes.place
                inodes.add(self._inode(inode))
        start = listings.place
        at = first = start & 0xFFFF
        block, index, count = 0, bytearray(), 0
        for run in self._runs(children, at):
            if at // _METADATA > block:
                block, count, name = at // _METADATA, count + 1, run[0][0]
                index += _HEADER.pack(at - first, listings.place >> 16, len(name) - 1) + name
            listing = self._listed(run)
            listings.add(listing)
            at += len(listing)
        self._references[directory] = inodes.place
        # A listing is told with 3 bytes more, for `.` and `..`.
        links, size, above = self._links[directory], at - first + 3, self._numbers[tree.parents[directory]]
        if directory == ROOT:
            above = len(self._inodes) + 1
        if count or size >= 1 << 16 or directory in self._xattrs:
            fields = links, size, start >> 16, above, count, first, self._xattrs.get(directory, _NONE)
            inodes.add(self._head(directory, True) + _LARGE_DIRECTORY.pack(*fields) + index)
        else:
            inodes.add(self._head(directory, False) + _DIRECTORY.pack(start >> 16, links, size, first, above))

    def _runs(self, children: Iterable[tuple[bytes, int]], at: int) -> Iterator[list[tuple[bytes, int]]]:
        """Names that one header is for; the first of them ``at`` this byte of a block of listings."""
        run: list[tuple[bytes, int]] = []
        end = at
        for name, inode in children:
            if run:
                first = run[0][1]
                if (
                    len(run) == _MOST_NAMES
                    or self._references[inode] >> 16 != self._references[first] >> 16
                    or self._numbers[inode] - self._numbers[first] not in _DELTAS
                    or end // _METADATA > at // _METADATA
                ):
                    yield run
                    run, at = [], end
            end += _NAME.size + len(name) + (0 if run else _HEADER.size)
            run.append((name, inode))
        if run:
            yield run

    def _listed(self, run: list[tuple[bytes, int]]) -> bytearray:
        base, reference = self._numbers[run[0][1]], self._references[run[0][1]]
        made = bytearray(_HEADER.pack(len(run) - 1, reference >> 16, base))
        for name, inode in run:
            kind, place = _TYPES[self._tree.kinds[inode]], self._references[inode] & 0xFFFF
            made += _NAME.pack(place, self._numbers[inode] - base, kind, len(name) - 1) + name
        return made

    def _inode(self, inode: int) -> bytes:
        """Of what is no directory."""
        tree, kind = self._tree, self._tree.kinds[inode]
        if kind == Kind.FILE:
            return self._file(inode)
        made = _U32.pack(self._links[inode])
        if kind == Kind.SYMLINK:
            made += _U32.pack(len(tree.links[inode])) + tree.links[inode]
        elif kind != Kind.FIFO:
            made += _U32.pack(tree.device(inode))
        xattrs = self._xattrs.get(inode)
        return self._head(inode, xattrs is not None) + made + (b"" if xattrs is None else _U32.pack(xattrs))

    def _file(self, inode: int) -> bytes:
        bodies, size, links = self._bodies, self._tree.sizes[inode], self._links[inode]
        start, fragment, offset = bodies.starts[inode], bodies.fragments[inode], bodies.offsets[inode]
        words, xattrs = bodies.words.get(inode, array("I")), self._xattrs.get(inode, _NONE)
        # What is not stored; a file that is all holes stores a byte, as the kernel counts it.
        holes = min(words.count(0) * _BLOCK, max(size - 1, 0))
        if holes or links > 1 or xattrs != _NONE or max(start, size) > _NONE:
            made = self._head(inode, True) + _LARGE_FILE.pack(start, size, holes, links, fragment, offset, xattrs)
        else:
            made = self._head(inode, False) + _FILE.pack(start, fragment, offset, size)
        return made + _little("I", words)

    def _head(self, inode: int, is_extended: bool) -> bytes:
        tree, form = self._tree, _TYPES[self._tree.kinds[inode]]
        owner, group = self._owners[tree.uids[inode]], self._owners[tree.gids[inode]]
        mode, number = tree.mode(inode) & 0o7777, self._numbers[inode]
        return _HEAD.pack(form + _EXTENDED * is_extended, mode, owner, group, tree.mtimes[inode], number)


class _Bodies:
    """Files as they come: blocks and fragments, compressed in threads, written in their order; and what their inodes
    are to say of them, by inode. What is another file's too is stored once."""

    def __init__(
        self,
        image: Flattening,
        write_at: WriteAt,
        counter: Counter,
        pool: ThreadPoolExecutor,
        level: int,
        ahead: int,
    ) -> None:
        tree = image.plan.tree
        self.at, self.places = _SUPER.size, bytearray()
        self.starts = array("Q", bytes(8 * len(tree)))
        self.words: dict[int, array[int]] = {}
        self.fragments, self.offsets = array("I", [_NONE]) * len(tree), array("I", bytes(4 * len(tree)))
        self._hash, self._write_at, self._counter = image.hash, write_at, counter
        self._pool, self._level, self._ahead = pool, level, ahead
        sizes = Counts(tree.sizes[inode] for inode in image.plan.file_order)
        self._sizes, self._twice = tree.sizes, {size for size, count in sizes.items() if size and count > 1}
        self._first = dict[bytes, int]()
        self._pending = deque[tuple[int | None, Future[tuple[bytes | bytearray, bool]] | None]]()
        self._ends, self._fragment = bytearray(), 0

    def put(self, inode: int, parts: Iterable[Part]) -> None:
        block = bytearray()
        for part in parts:
            self._counter.add(len(part))
            at = 0
            while len(block) + len(part) - at >= _BLOCK:
                end = at + _BLOCK - len(block)
                block += part[at:end]
                self._put_block(inode, block)
                block, at = bytearray(), end
            block += part[at:] if at else part
        first = inode
        if self._sizes[inode] in self._twice:
            first = self._first.setdefault(self._hash(inode), inode)
        if first != inode:
            self._take_back(inode, first)
        elif block:
            self._put_end(inode, block)

    def end(self) -> None:
        if self._ends:
            self._put_fragment()
        self._write(0)

    def _put_block(self, inode: int, block: bytearray) -> None:
        is_hole = block == _HOLE
        self.words.setdefault(inode, array("I"))
        self._pending.append((inode, None if is_hole else self._pool.submit(_packed, block, self._level)))
        self._write(self._ahead)

    def _put_end(self, inode: int, end: bytearray) -> None:
        if len(self._ends) + len(end) > _BLOCK:
            self._put_fragment()
        self.fragments[inode], self.offsets[inode] = self._fragment, len(self._ends)
        self._ends += end

    def _put_fragment(self) -> None:
        self._pending.append((None, self._pool.submit(_packed, self._ends, self._level)))
        self._ends, self._fragment = bytearray(), self._fragment + 1
        self._write(self._ahead)

    def _take_back(self, inode: int, first: int) -> None:
        """Have the blocks of a file overwritten, which holds what the ``first`` of its bytes does."""
        if inode in self.words:
            self._write(0)
            self.at = self.starts[inode] or self.at
            self.words[inode] = self.words[first]
        for column in (self.starts, self.fragments, self.offsets):
            column[inode] = column[first]

    def _write(self, most: int) -> None:
        """Write until so many blocks are pending."""
        while len(self._pending) > most:
            inode, future = self._pending.popleft()
            data, is_raw = future.result() if future else (b"", False)
            word = len(data) | _RAW * is_raw
            if inode is None:
                self.places += _PLACE.pack(self.at, word, 0)
            else:
                if word:
                    self.starts[inode] = self.starts[inode] or self.at
                self.words[inode].append(word)
            if data:
                self._write_at(data, self.at)
                self.at += len(data)


class _Table:
    """Metadata, compressed as it comes; ``starts`` tells where its blocks begin in it."""

    def __init__(self, level: int) -> None:
        self.starts, self._level = array("Q"), level
        self._made, self._block = bytearray(), bytearray()

    @property
    def place(self) -> int:
        """Where what is added next is to be found: its block, and in the low 16 bits where it is in that."""
        return len(self._made) << 16 | len(self._block)

    def add(self, data: bytes | bytearray) -> None:
        self._block += data
        while len(self._block) >= _METADATA:
            self._turn()

    def end(self) -> bytearray:
        """All of it."""
        if self._block:
            self._turn()
        return self._made

    def _turn(self) -> None:
        self.starts.append(len(self._made))
        data, is_raw = _packed(self._block[:_METADATA], self._level)
        self._made += _U16.pack(len(data) | _METADATA_RAW * is_raw) + data
        del self._block[:_METADATA]


def _little(kind: str, numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}{kind}", *numbers)


def _packed(block: bytearray, level: int) -> tuple[bytes | bytearray, bool]:
    """A block as it is stored, and whether that is as it was."""
    made = deflate.zlib_compress(block, level)
    return (made, False) if len(made) < len(block) else (block, True)
