"""The rows of a table in a redb file of format 2, read without a lock, beside the program that writes it.

What cannot be read for sure is said to be so. A commit writes the header before the pages it leads to: a page that does
not fit its checksum is read again, some times. The layout is that of redb 2.1 (`src/tree_store`): two slots, of which
each leads to three trees of pages, whose checksums stand in their parents.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from struct import Struct, unpack_from
from typing import BinaryIO, NamedTuple

import msgspec
from xxhash import xxh3_128_intdigest

from ocitui.cache import open_bounded

_MAGIC = b"redb\x1a\n\xa9\r\n"
_FORMAT, _PAGE, _REGION_HEADER, _REGION_DATA = 2, 4096, 130, 1 << 20
_HEADER = Struct("<9sB2xIIIII32x128s128s")
_PRIMARY, _RECOVERY = 1, 2
_SLOT = Struct("<B3B4x32s32s32sQ16s")
_REF = Struct("<Q16sQ")
_LEAF, _BRANCH = 1, 2
_NORMAL_TABLE = 3
_DEFINITION = Struct("<BQB32sBIBIIII")
_FREED_KEY = 16
# What a file may ask for: depths and sizes far beyond those of 100,000 zones.
_MOST_DEPTH, _MOST_PAGE, _MOST_BYTES, _MOST_ROWS = 20, 1 << 26, 1 << 28, 1 << 20
_ATTEMPTS, _AT_REST, _PAUSE, _LONGEST = 50, 3, 0.002, 1.0


class DatabaseState(StrEnum):
    """EXACT: the rows are those that the daemon has, or would start with. SHORT: they are whole, in a file that is
    shorter than it says, on which the daemon does not start. DAMAGED: none can be told for sure. REFUSED: it is no such
    file, of another format, or may not be read. ABSENT: there is no file."""

    EXACT = "exact"
    SHORT = "short"
    DAMAGED = "damaged"
    REFUSED = "refused"
    ABSENT = "absent"


Row = tuple[bytes, bytes]


class Table(msgspec.Struct, frozen=True):
    """A reading of one table: its rows, by their keys, which are all that there are where the state ``is_sure``;
    ``note`` says why it is not, and what the daemon would do. ``makes_anew``: it would make an empty file in its place
    at its start. ``unreadable``: the system does not let this program read it."""

    state: DatabaseState
    rows: tuple[Row, ...] = ()
    note: str = ""
    makes_anew: bool = False
    unreadable: bool = False

    @property
    def is_sure(self) -> bool:
        return self.state in (DatabaseState.EXACT, DatabaseState.SHORT)


def read_table(path: Path, name: str, key_width: int) -> Table:
    """The rows of a table whose keys have that width, and whose values have none; none where there is no such table
    yet. Takes up to a second where the file is damaged. Never raises."""
    try:
        with open_bounded(path, follow=False) as file:
            return _read(file, name.encode(), key_width)
    except FileNotFoundError:
        note = "it is not there: the daemon would start with no zone, and destroy every guest that runs"
        return Table(DatabaseState.ABSENT, note=note, makes_anew=True)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Table(DatabaseState.REFUSED, note="it is a link, which is not followed here", unreadable=True)
        why = "it is no regular file" if error.errno in (errno.EINVAL, errno.EISDIR) else error.strerror
        return Table(DatabaseState.REFUSED, note=f"it cannot be read: {why}", unreadable=error.errno == errno.EACCES)


class _RefusedError(Exception):
    """It is nothing that is read here; the text says what."""


class _DamagedError(Exception):
    """What was read does not hold together; the text says where."""


class _Header(NamedTuple):
    god_byte: int
    full_regions: int
    last_pages: int
    slots: tuple[bytes, bytes]

    @property
    def length(self) -> int:
        """How long the file is to be, in bytes."""
        last = (_REGION_HEADER + self.last_pages) * _PAGE if self.last_pages else 0
        return _PAGE + self.full_regions * (_REGION_HEADER + _REGION_DATA) * _PAGE + last


class _Slot(NamedTuple):
    user: _TreeRef | None
    system: _TreeRef | None
    freed: _TreeRef | None
    transaction: int
    is_whole: bool


class _TreeRef(NamedTuple):
    page: int
    checksum: int
    length: int


def _read(file: BinaryIO, name: bytes, key_width: int) -> Table:
    tries, note, deadline = 0, "", time.monotonic() + _LONGEST
    while True:
        size, tries = os.fstat(file.fileno()).st_size, tries + 1
        try:
            header = _header(file)
            try:
                rows = _rows(file, header, size, name, key_width)
            except _DamagedError as error:
                # Pages may be on their way, or have been written over since the header was read.
                if tries >= (_ATTEMPTS if header.god_byte & _RECOVERY else _AT_REST) or time.monotonic() > deadline:
                    return Table(DatabaseState.DAMAGED, note=str(error))
                time.sleep(_PAUSE)
                continue
        except _RefusedError as error:
            makes_anew = os.pread(file.fileno(), len(_MAGIC), 0) != _MAGIC
            return Table(DatabaseState.REFUSED, note=str(error), makes_anew=makes_anew)
        if size < header.length:
            if tries < _AT_REST:
                # It may have grown since it was asked for its size.
                continue
            note = f"it has {size} of {header.length} bytes: the daemon does not start on it"
        return Table(DatabaseState.SHORT if note else DatabaseState.EXACT, rows, note)


def _header(file: BinaryIO) -> _Header:
    data = os.pread(file.fileno(), _HEADER.size, 0)
    if not data.startswith(_MAGIC):
        what = "it is no database of redb" if data else "it is empty"
        raise _RefusedError(f"{what}: the daemon would make an empty one over it, and destroy every guest that runs")
    if len(data) < _HEADER.size:
        raise _RefusedError(f"it ends in its header, after {len(data)} bytes: the daemon does not start on it")
    _, god_byte, page, region_header, region_data, full, last, first, second = _HEADER.unpack(data)
    for slot in (first, second):
        if slot[0] != _FORMAT:
            raise _RefusedError(f"its format is {slot[0]}, not {_FORMAT}: krata 0.0.21 does not start on it")
    if (page, region_header, region_data) != (_PAGE, _REGION_HEADER, _REGION_DATA):
        raise _RefusedError(f"its pages are laid out otherwise than krata's ({page} bytes each)")
    return _Header(god_byte, full, last, (first, second))


def _slot(raw: bytes) -> _Slot:
    _, *given, user, system, freed, transaction, checksum = _SLOT.unpack(raw)
    roots = zip(given, (user, system, freed), strict=True)
    user_root, system_root, freed_root = (_ref(ref) if there else None for there, ref in roots)
    is_whole = xxh3_128_intdigest(raw[:-16]) == int.from_bytes(checksum, "little")
    return _Slot(user_root, system_root, freed_root, transaction, is_whole)


def _ref(raw: bytes) -> _TreeRef:
    page, checksum, length = _REF.unpack(raw)
    return _TreeRef(page, int.from_bytes(checksum, "little"), length)


def _rows(file: BinaryIO, header: _Header, size: int, name: bytes, key_width: int) -> tuple[Row, ...]:
    """The rows of the commit that the daemon has, or would recover. Raises _RefusedError, _DamagedError."""
    slots = [_slot(raw) for raw in header.slots]
    first = slots.pop(header.god_byte & _PRIMARY)
    (second,) = slots
    if not header.god_byte & _RECOVERY:
        # It was closed in good order, and what does not hold is not looked at by the daemon.
        if not first.is_whole or (second.is_whole and second.transaction > first.transaction):
            raise _DamagedError("the header does not hold: the daemon would act on it all the same")
        try:
            return _rows_of(file, first, size, name, key_width)
        except _DamagedError as error:
            raise _DamagedError(f"{error}: the daemon would act on it all the same") from None
    if not first.is_whole or (second.is_whole and second.transaction > first.transaction):
        first, second = second, first
    if not first.is_whole:
        raise _DamagedError("neither of its two commits holds")
    try:
        return _rows_of(file, first, size, name, key_width)
    except _DamagedError:
        if not second.is_whole:
            raise
        try:
            return _rows_of(file, second, size, name, key_width)
        except _DamagedError as error:
            raise _DamagedError(f"{error}: the daemon does not start on it") from None


def _rows_of(file: BinaryIO, slot: _Slot, size: int, name: bytes, key_width: int) -> tuple[Row, ...]:
    """The rows of a commit, all of whose trees hold: the daemon gives up one of which any does not."""
    trees, rows = _Trees(file, size), list[Row]()
    for is_user, ref in ((True, slot.user), (False, slot.system)):
        for key, value in [*trees.pairs(ref, None, None)]:
            definition = _definition(value)
            wanted = is_user and key == name
            if wanted and (definition.key_width, definition.value_width) != (key_width, None):
                raise _RefusedError(f"the table {name.decode()} has keys or values of another kind")
            for row in trees.pairs(definition.root, definition.key_width, definition.value_width):
                if wanted:
                    rows.append(row)
    for _ in trees.pairs(slot.freed, _FREED_KEY, None):
        continue
    return tuple(rows)


class _Definition(NamedTuple):
    root: _TreeRef | None
    key_width: int | None
    value_width: int | None


def _definition(value: bytes) -> _Definition:
    if len(value) < _DEFINITION.size:
        raise _DamagedError("a table's definition is cut short")
    kind, length, has_root, root, fixed_key, key, fixed_value, width, *_ = _DEFINITION.unpack_from(value)
    if kind != _NORMAL_TABLE:
        raise _RefusedError(f"it has a table of the kind {kind}, which is not read here")
    ref = _ref(root) if has_root else None
    if length != (ref.length if ref else 0):
        raise _DamagedError("a table has another number of rows than its tree")
    return _Definition(ref, key if fixed_key else None, width if fixed_value else None)


class _Trees:
    """The pages of one commit; each is read once, and no more of them than the file can hold."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._fd, self._size = file.fileno(), size
        self._left, self._rows, self._seen = min(size, _MOST_BYTES), _MOST_ROWS, set[int]()

    def pairs(self, root: _TreeRef | None, key_width: int | None, value_width: int | None) -> Iterator[Row]:
        """Keys and values of a tree in their order; None is a width that is not fixed. Raises _DamagedError where a
        page does not hold, which may come late, and _RefusedError for more than is read."""
        if root is None:
            return
        count = 0
        self._rows -= root.length
        if self._rows < 0:
            raise _RefusedError("it has more rows than are read here")
        for pair in self._below(root.page, root.checksum, key_width, value_width, _MOST_DEPTH):
            count += 1
            if count > root.length:
                break
            yield pair
        if count != root.length:
            raise _DamagedError(f"a tree has another number of rows than {root.length}")

    def _below(
        self, number: int, checksum: int, key_width: int | None, value_width: int | None, depth: int
    ) -> Iterator[Row]:
        if not depth:
            raise _DamagedError("a tree is too deep")
        page = self._page(number)
        count = int.from_bytes(page[2:4], "little")
        if page[0] == _LEAF:
            keys, values = _leaf(page, count, key_width, value_width)
            _check(page[: values[-1]], checksum, number)
            bounds = zip(keys, keys[1:], values, values[1:], strict=False)
            yield from ((page[at:end], page[start:stop]) for at, end, start, stop in bounds)
            return
        if page[0] != _BRANCH:
            raise _DamagedError(f"page {number:x} is neither leaf nor branch")
        pages = 8 + 16 * (count + 1)
        keys = _ends(page, pages + 8 * (count + 1), count, key_width)
        _check(page[: keys[-1]], checksum, number)
        for child, at in enumerate(unpack_from(f"<{count + 1}Q", page, pages)):
            below = int.from_bytes(page[8 + 16 * child : 24 + 16 * child], "little")
            yield from self._below(at, below, key_width, value_width, depth - 1)

    def _page(self, number: int) -> bytes:
        """The bytes of a page by its number: its place in a region, the region, how often its size is doubled."""
        index, region, order = number & 0xFFFFF, number >> 20 & 0xFFFFF, number >> 59
        size = _PAGE << order
        header = _PAGE + region * (_REGION_HEADER + _REGION_DATA) * _PAGE + _REGION_HEADER * _PAGE
        if size > _MOST_PAGE:
            raise _RefusedError(f"it has a page of {size} bytes, more than is read here")
        blocks = range((header + index * size) // _PAGE, (header + (index + 1) * size) // _PAGE)
        if blocks.stop * _PAGE > self._size or not self._seen.isdisjoint(blocks):
            raise _DamagedError(f"page {number:x} lies outside the file, or is led to twice")
        self._left -= size
        if self._left < 0:
            raise _RefusedError("its trees are larger than is read here")
        self._seen.update(blocks)
        page = os.pread(self._fd, size, header + index * size)
        if len(page) != size:
            raise _DamagedError(f"page {number:x} is cut short")
        return page


def _leaf(page: bytes, count: int, key_width: int | None, value_width: int | None) -> tuple[list[int], list[int]]:
    """Where the keys of a leaf begin and the last one ends, and its values. Raises _DamagedError."""
    ends = 4 + (4 * count if key_width is None else 0)
    start = ends + (4 * count if value_width is None else 0)
    keys = _ends(page, 4, count, key_width, start)
    return keys, _ends(page, ends, count, value_width, keys[-1])


def _ends(page: bytes, at: int, count: int, width: int | None, start: int | None = None) -> list[int]:
    """Where ``count`` things begin, and the last one ends: those of a width from ``start`` on, which is ``at`` where it
    is not given; of the others the ends stand there. Raises _DamagedError."""
    if not count:
        raise _DamagedError("a page holds nothing")
    if width is not None:
        start = at if start is None else start
        found = [start + width * number for number in range(count + 1)]
    else:
        if at + 4 * count > len(page):
            raise _DamagedError("a page is shorter than what it lists")
        start = at + 4 * count if start is None else start
        found = [start, *unpack_from(f"<{count}I", page, at)]
    if found[-1] > len(page) or found != sorted(found):
        raise _DamagedError("what a page lists lies outside it")
    return found


def _check(data: bytes, checksum: int, number: int) -> None:
    if xxh3_128_intdigest(data) != checksum:
        raise _DamagedError(f"page {number:x} does not fit its checksum")
