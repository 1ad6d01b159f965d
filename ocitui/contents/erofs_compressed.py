"""Compressed bodies in erofs: which clusters on disk hold which bytes (as Linux fs/erofs/zmap.c reads the indexes), and
how each is unpacked (fs/erofs/decompressor*.c)."""

from __future__ import annotations

import lzma
import struct
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ocitui.threads import Stop

from .tree import DamagedError, UnreadableFormatError
from .unpacking import unpack_lz4

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ZERO_PADDING, _HAS_MAP_HEADER = 0x01, 0x02 | 0x10 | 0x20 | 0x80
"""Features of the image; without any of the latter an inode with full indexes has no header of its map."""
_HEADER = struct.Struct("<I2H")
# What is advised of a map; the first is said of compact indexes, the second of full ones.
_PACKED, _EXTENTS, _BIG, _INLINE, _INTERLACED, _FRAGMENT = 0x01, 0x01, 0x02 | 0x04, 0x08, 0x10, 0x20
_WHOLE_IS_FRAGMENT, _CLUSTER_BITS = 1 << 63, 0x0F00
_INDEX, _PARTIAL, _KIND = struct.Struct("<2HI"), 1 << 15, 3
_RAW, _HEAD, _NO_HEAD, _HEAD_2 = range(4)
_HAS_COUNT = 1 << 11
_LZ4, _LZMA, _DEFLATE, _ZSTD = range(4)
_PLAIN, _ROTATED, _ELSEWHERE = range(16, 19)
"""What is not packed; no image has a number for these, which are of four bits there."""
_MOST_CLUSTERS, _MOST_STORED, _LONGEST_EXTENT = 1 << 22, 1 << 20, 12 << 20
_LONGEST_WINDOW, _LOOK = 23, 1 << 16


class ClusterSource(Protocol):
    """The image that a body is in."""

    features: int
    block: int
    stop: Stop

    def take(self, at: int, size: int) -> bytes:
        """So many bytes of the file itself."""

    def fragment(self, at: int, size: int) -> bytes:
        """So many bytes of the inode that holds the ends of files, or whole ones."""


class _Cluster(NamedTuple):
    """What an index says of one block of a body. Where an extent begins in it: how, at which byte of it, in which block
    on disk, and whether only the beginning of what is there is meant; else how many blocks on disk its extent takes, in
    ``value``, where that is said."""

    kind: int
    value: int
    block: int
    partial: bool


class CompressedBody:
    """One body of ``size`` bytes, whose map begins behind ``end``; that of the fragments must have none itself. Raises
    ContentsError, OSError as the disk does, and AbandonedError once it is to stop."""

    def __init__(self, image: ClusterSource, *, full: bool, end: int, size: int, is_fragments: bool = False) -> None:
        self._image, self._size = image, size
        self._begins, self._places, self._stored = array("Q"), array("Q"), array("I")
        self._hows, self._partial = bytearray(), bytearray()
        self._last = -1, b""
        at, has_header = end + -end % 8, not full or image.features & _HAS_MAP_HEADER
        header = image.take(at, _HEADER.size) if has_header else bytes(_HEADER.size)
        place, advice, algorithms = _HEADER.unpack(header)
        whole = int.from_bytes(header, "little")
        if whole & _WHOLE_IS_FRAGMENT:
            self._add(0, whole ^ _WHOLE_IS_FRAGMENT, 0, _ELSEWHERE)
        elif full and advice & _EXTENTS:
            raise UnreadableFormatError("a body has encoded extents")
        elif algorithms & _CLUSTER_BITS:
            raise UnreadableFormatError("a body has logical clusters of more than a block")
        elif size:
            self._read_map(at + _HEADER.size, full, place, advice, algorithms)
        if is_fragments and _ELSEWHERE in self._hows:
            raise DamagedError("the fragments have fragments")

    def _add(self, begin: int, place: int, stored: int, how: int, partial: bool = False) -> None:
        self._begins.append(begin)
        self._places.append(place)
        self._stored.append(stored)
        self._hows.append(how)
        self._partial.append(partial)

    def _read_map(self, at: int, full: bool, place: int, advice: int, algorithms: int) -> None:
        block, image, head = self._image.block, self._image, -1
        count = -(-self._size // block)
        if count > _MOST_CLUSTERS:
            raise UnreadableFormatError(f"a compressed body has more than {_MOST_CLUSTERS:,} blocks")
        raw = _ROTATED if advice & _INTERLACED else _PLAIN
        hows = {_RAW: raw, _HEAD: algorithms & 15, _HEAD_2: algorithms >> 4 & 15}
        if full:
            at += _INDEX.size
            area = image.take(at, count * _INDEX.size)
            clusters = _full_index(area)
        else:
            packs = _Packs.of(at, count, bool(advice & _PACKED))
            low_bits = max(block.bit_length() - 1, 12)
            if low_bits > (12 if packs.dense else 14):
                raise UnreadableFormatError(f"a body has compact indexes of blocks of {block:,} bytes")
            area = image.take(at, packs.size)
            clusters = _compact_index(area, packs, low_bits, bool(advice & _BIG))
        high = 0
        for number, (kind, value, first, partial) in zip(range(count), clusters, strict=False):
            if not number % _LOOK:
                image.stop.check()
            if kind != _NO_HEAD:
                if value >= block:
                    raise DamagedError("an extent begins beyond its block")
                if number * block + value < self._size:
                    self._add(number * block + value, first * block, block, hows[kind], partial)
                    head, high = number, first
            elif value:
                if number != head + 1 or not advice & _BIG:
                    raise DamagedError("the size of an extent is where none may be")
                self._stored[-1] = value * block
        if not self._begins or self._begins[0]:
            raise DamagedError("a body does not begin with an extent")
        if advice & _FRAGMENT:
            self._hows[-1], self._places[-1] = _ELSEWHERE, place | (high << 32 if full else 0)
        elif advice & _INLINE and place >> 16:
            self._places[-1], self._stored[-1] = at + len(area), place >> 16
            if self._hows[-1] == _ROTATED:
                # As mkfs.erofs writes it; Linux 6.18 rotates it all the same, and reads other bytes.
                self._hows[-1] = _PLAIN
            if self._places[-1] % block + self._stored[-1] > block:
                raise DamagedError("the end of a body crosses a block")

    def read(self, at: int, size: int) -> bytes:
        """So many bytes from ``at`` on, within its size."""
        extent, data = bisect_right(self._begins, at) - 1, bytearray()
        while len(data) < size:
            begin, end = self._span(extent)
            offset = at + len(data) - begin
            data += self._part(extent, offset, min(end - begin - offset, size - len(data)))
            extent += 1
        return bytes(data)

    def _span(self, extent: int) -> tuple[int, int]:
        end = self._begins[extent + 1] if extent + 1 < len(self._begins) else self._size
        return self._begins[extent], end

    def _part(self, extent: int, offset: int, size: int) -> bytes:
        how, place, stored = self._hows[extent], self._places[extent], self._stored[extent]
        if how == _ELSEWHERE:
            return self._image.fragment(place + offset, size)
        begin, end = self._span(extent)
        if end - begin > (stored if how in (_PLAIN, _ROTATED) else _LONGEST_EXTENT) or stored > _MOST_STORED:
            raise DamagedError("an extent is longer than any may be")
        if how == _PLAIN:
            return self._image.take(place + offset, size)
        last = self._last
        if last[0] != extent:
            self._last = last = extent, self._unpacked(extent, how, end - begin)
        return last[1][offset : offset + size]

    def _unpacked(self, extent: int, how: int, size: int) -> bytes:
        stored = self._image.take(self._places[extent], self._stored[extent])
        if how == _ROTATED:
            # Its bytes stand as in the page that they are of.
            cut = len(stored) - self._image.block + self._begins[extent] % self._image.block
            return stored[cut:] + stored[:cut]
        whole = not self._partial[extent]
        if how != _LZ4 or self._image.features & _ZERO_PADDING:
            stored = stored.lstrip(b"\0")
        else:
            whole = False
        try:
            data = _UNPACK[how](stored, size, whole)
        except (zlib.error, lzma.LZMAError, zstd.ZstdError, ValueError) as error:
            raise DamagedError(f"an extent cannot be unpacked: {error}") from error
        except KeyError:
            raise UnreadableFormatError(f"an extent is packed as number {how}, which is not known") from None
        if len(data) != size:
            raise DamagedError("an extent does not hold what it should")
        return data


def _full_index(area: bytes) -> Iterator[_Cluster]:
    for advice, offset, value in _INDEX.iter_unpack(area):
        kind = advice & _KIND
        if kind != _NO_HEAD:
            yield _Cluster(kind, offset, value, bool(advice & _PARTIAL))
        else:
            yield _Cluster(kind, _count_of(value & 0xFFFF), 0, False)


class _Packs(NamedTuple):
    """How compact indexes stand: by two in eight bytes until a multiple of 32 bytes, then by sixteen in 32 as far as
    they fill that, then by two again."""

    before: int
    dense: int
    after: int

    @classmethod
    def of(cls, at: int, count: int, has_dense: bool) -> _Packs:
        before = min(-at % 32 // 4, count)
        dense = (count - before) // 16 if has_dense else 0
        return cls(-(-before // 2), dense, -(-(count - before - dense * 16) // 2))

    @property
    def size(self) -> int:
        return 8 * (self.before + self.after) + 32 * self.dense


def _compact_index(area: bytes, packs: _Packs, low_bits: int, big: bool) -> Iterator[_Cluster]:
    at = 0
    for many, size, count in ((packs.before, 8, 2), (packs.dense, 32, 16), (packs.after, 8, 2)):
        for _ in range(many):
            yield from _unpacked_indexes(area[at : at + size], count, low_bits, big)
            at += size


def _unpacked_indexes(pack: bytes, count: int, low_bits: int, big: bool) -> Iterator[_Cluster]:
    """The indexes of one pack, at the end of which stands the block of its first extent, or that before it."""
    bits, all_bits = (len(pack) - 4) * 8 // count, int.from_bytes(pack[:-4], "little")
    first, low, after_head = int.from_bytes(pack[-4:], "little") + (not big), (1 << low_bits) - 1, False
    for number in range(count):
        index = all_bits >> number * bits
        kind, value = index >> low_bits & _KIND, index & low
        if kind != _NO_HEAD:
            yield _Cluster(kind, value, first, False)
            first += 1
        else:
            blocks = _count_of(value)
            yield _Cluster(kind, blocks, 0, False)
            first += blocks - after_head if blocks else 0
        after_head = kind != _NO_HEAD


def _count_of(distance: int) -> int:
    return distance & ~_HAS_COUNT if distance & _HAS_COUNT else 0


def _lz4(data: bytes, size: int, whole: bool) -> bytes:
    return unpack_lz4(data, size, whole=whole)


def _lzma(data: bytes, size: int, _whole: bool) -> bytes:
    """MicroLZMA: LZMA1 whose first byte, always zero, gave way to its properties, inverted. It has no end mark."""
    properties = 0xFF ^ data[0] if data else 0xFF
    rest, lc = divmod(properties, 9)
    pb, lp = divmod(rest, 5)
    if pb > 4:
        raise DamagedError("an extent cannot be unpacked: it has no properties of LZMA")
    form = {"id": lzma.FILTER_LZMA1, "dict_size": max(size, 4096), "lc": lc, "lp": lp, "pb": pb}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[form]).decompress(b"\0" + data[1:], size)


def _deflate(data: bytes, size: int, whole: bool) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    return _all_of(stream.decompress(data, size + whole), stream.eof, whole)


def _zstd(data: bytes, size: int, whole: bool) -> bytes:
    stream = zstd.ZstdDecompressor(options={int(zstd.DecompressionParameter.window_log_max): _LONGEST_WINDOW})
    return _all_of(stream.decompress(data, size + whole), stream.eof, whole)


def _all_of(data: bytes, ended: bool, whole: bool) -> bytes:
    if whole and not ended:
        raise DamagedError("an extent does not hold what it should")
    return data


_UNPACK = {_LZ4: _lz4, _LZMA: _lzma, _DEFLATE: _deflate, _ZSTD: _zstd}
