"""Maps of compressed bodies in erofs, and what they lead to: none is believed."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zlib
from contextlib import nullcontext, suppress

import pytest

from ocitui.contents.erofs_compressed import CompressedBody
from ocitui.contents.tree import ContentsError, DamagedError, UnreadableFormatError
from ocitui.contents.unpacking import unpack_lz4
from ocitui.threads import Stop

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class Flat:
    """An image that is the map of one body with full indexes, then its blocks."""

    block, stop, features = 4096, Stop(), 0xFF

    def __init__(self, *indexes: tuple[int, int, int], header: tuple[int, int, int] = (0, 0, 0), data: bytes = b""):
        head = struct.pack("<I2H8x", *header) + b"".join(struct.pack("<2HI", *index) for index in indexes)
        self.bytes = head.ljust(self.block, b"\0") + data.rjust(-(-len(data) // self.block) * self.block, b"\0")

    def body(self, size: int, **more: bool) -> CompressedBody:
        return CompressedBody(self, full=True, end=0, size=size, **more)

    def take(self, at: int, size: int) -> bytes:
        if at + size > len(self.bytes):
            raise DamagedError("beyond")
        return self.bytes[at : at + size]

    def fragment(self, at: int, size: int) -> bytes:
        return f"{at:x}".encode().ljust(size)


RAW, HEAD, NO_HEAD, HEAD_2, COUNT = 0, 1, 2, 3, 1 << 11
PACKED, BIG, INLINE, ROTATED, FRAGMENT = 1, 2, 8, 16, 32
NO_COUNT, BEYOND, NO_EXTENT = (
    "the size of an extent is where none may be",
    "an extent begins beyond its block",
    "a body does not begin with an extent",
)


@pytest.mark.parametrize(
    ("image", "size", "told"),
    [
        (Flat((HEAD, 0, 1), (HEAD, 4096, 1)), 8192, BEYOND),
        (Flat((NO_HEAD, 0, 0)), 10, NO_EXTENT),
        (Flat((HEAD, 5, 1)), 10, NO_EXTENT),
        (Flat((HEAD, 11, 1)), 10, NO_EXTENT),
        (Flat((HEAD, 0, 1), (NO_HEAD, 0, COUNT | 2)), 8192, NO_COUNT),
        (Flat((HEAD, 0, 1), (NO_HEAD, 0, 1), (NO_HEAD, 0, COUNT | 2), header=(0, BIG, 0)), 12_288, NO_COUNT),
        (Flat((HEAD, 0, 1), header=(0, 0, 0x100)), 10, "a body has logical clusters of more than a block"),
        (Flat((HEAD, 0, 1), header=(0, 1, 0)), 10, "a body has encoded extents"),
        (Flat((HEAD, 0, 1), header=(4090 << 16, INLINE, 0)), 10, "the end of a body crosses a block"),
        (Flat(), (1 << 34) + 1, "a compressed body has more than 4,194,304 blocks"),
        (Flat(), 3000 * 4096, "beyond"),
    ],
)
def test_a_map_that_contradicts_itself(image: Flat, size: int, told: str) -> None:
    with pytest.raises(ContentsError) as caught:
        image.body(size)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("image", "at"),
    [(Flat((HEAD, 0, 5), header=(7, FRAGMENT, 0)), b"500000007"), (Flat(header=(7, 5, 1 << 15)), b"500000007")],
    ids=["tail", "whole"],
)
def test_fragments_have_none_themselves(image: Flat, at: bytes) -> None:
    assert image.body(10).read(0, 10) == at.ljust(10)
    with pytest.raises(DamagedError, match="the fragments have fragments"):
        image.body(10, is_fragments=True)


LZ4, LZMA, DEFLATE, ZSTD = range(4)
WIDE = zstd.ZstdCompressor(options={int(zstd.CompressionParameter.window_log): 27})
LZ4_ABC = b"\x30abc"
_DEFLATER = zlib.compressobj(wbits=-15)
NOT_ENDED = _DEFLATER.compress(b"abc") + _DEFLATER.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    ("image", "size", "told"),
    [
        (Flat((RAW, 0, 1), (NO_HEAD, 0, 1), data=b"x" * 8192), 8192, "an extent is longer than any may be"),
        (
            Flat((HEAD, 0, 1), (NO_HEAD, 0, COUNT | 257), header=(0, BIG, 0), data=bytes(2 << 20)),
            8192,
            "an extent is longer than any may be",
        ),
        (Flat(*[(HEAD, 0, 1)], *[(NO_HEAD, 0, 1)] * 3200), 3201 * 4096, "an extent is longer than any may be"),
        (Flat((HEAD, 0, 1), header=(0, 0, 9), data=b"x"), 3, "an extent is packed as number 9, which is not known"),
        *(
            (Flat((HEAD, 0, 1), header=(0, 0, one), data=b"abc"), 3, f"packed as number {one}, which is not known")
            for one in range(4, 16)
        ),
        (Flat((HEAD, 0, 1), header=(0, 0, LZMA), data=b"\1"), 3, "it has no properties of LZMA"),
        (Flat((HEAD, 0, 1), header=(0, 0, LZMA), data=b"\xa2\1"), 3, "an extent does not hold what it should"),
        (Flat((HEAD, 0, 1), header=(0, 0, LZ4), data=LZ4_ABC), 4, "an extent does not hold what it should"),
        (Flat((HEAD, 0, 1), header=(0, 0, LZ4), data=LZ4_ABC), 2, "it unpacks to more than it may"),
        (Flat((HEAD, 0, 1), header=(0, 0, ZSTD), data=zstd.compress(b"abc")), 2, "not hold what it should"),
        (Flat((HEAD, 0, 1), header=(0, 0, ZSTD), data=zstd.compress(b"abc")), 4, "not hold what it should"),
        (Flat((HEAD, 0, 1), header=(0, 0, ZSTD), data=zstd.compress(b"abc")[:-1]), 3, "not hold what it should"),
        (Flat((HEAD, 0, 1), header=(0, 0, ZSTD), data=WIDE.compress(b"abc") + WIDE.flush()), 3, "cannot be unpacked"),
        (Flat((HEAD, 0, 1), header=(0, 0, DEFLATE), data=b"\xff"), 3, "an extent cannot be unpacked"),
        (Flat((HEAD, 0, 1), header=(0, 0, DEFLATE), data=NOT_ENDED), 3, "not hold what it should"),
        (Flat((HEAD, 0, 9), data=b"x"), 3, "beyond"),
    ],
)
def test_an_extent_that_is_not_what_it_says(image: Flat, size: int, told: str) -> None:
    with pytest.raises(ContentsError, match=told):
        image.body(size).read(0, size)


@pytest.mark.parametrize(
    ("block", "packs", "is_read"), [(12, PACKED, True), (13, PACKED, False), (14, 0, True), (15, 0, False)]
)
def test_compact_indexes_have_no_room_for_large_blocks(block: int, packs: int, is_read: bool) -> None:
    image = Flat(header=(0, packs, 0))
    image.block, image.bytes = 1 << block, image.bytes[:8] + bytes(8 << 20)
    with nullcontext() if is_read else pytest.raises(UnreadableFormatError, match="compact indexes of blocks of"):
        CompressedBody(image, full=False, end=0, size=60 << block)


def test_raw_blocks_stand_as_in_their_page_but_for_a_tail() -> None:
    data, tail = bytes(range(256)) * 16, b"t" * 1000 + b"u" * 191
    first = Flat((HEAD, 0, 1), (RAW, 100, 2), (NO_HEAD, 0, 1), header=(0, ROTATED, 0))
    first.bytes += bytes(4096) + data[-100:] + data[:-100]
    assert first.body(4196 + 4096).read(4196, 4096) == data
    last = Flat((HEAD, 0, 1), (RAW, 2000, 0), header=(len(tail) << 16, ROTATED | INLINE, 0))
    last.bytes = last.bytes[:32] + tail
    assert last.body(6096 + len(tail)).read(6096, len(tail)) == tail


@pytest.mark.parametrize("lengths", [[2] * 11, [1, *[2] * 10, 1], [3, 1, 1, 4, 2, 5, 1, 3, 2], [22], [21, 1], [1] * 22])
@pytest.mark.parametrize("packs", [[2] * 11, [2, 2, 2, 16]], ids=["by two", "by sixteen"])
def test_compact_indexes_of_large_clusters(packs: list[int], lengths: list[int]) -> None:
    """In each pack stands where the first cluster begins whose beginning, or number of blocks, is said in it."""
    indexes, blocks = list[int](), list[int]()
    for length in lengths:
        begin = 1 + len(blocks)
        indexes += [0, *(NO_HEAD << 12 | (COUNT | length if back == 1 else back) for back in range(1, length))]
        blocks += [begin, *(begin if back == 1 else begin + length for back in range(1, length))]
    made, at = struct.pack("<I2H", 0, BIG | PACKED * (16 in packs), 0), 0
    for count in packs:
        bits = {2: 16, 16: 14}[count]
        packed = sum(index << bits * number for number, index in enumerate(indexes[at : at + count]))
        made += packed.to_bytes(count * bits // 8, "little") + struct.pack("<I", blocks[at])
        at += count
    image = Flat()
    data = b"".join(struct.pack("<I", block) * 1024 for block in range(1, 23))
    image.bytes = made.ljust(4096, b"\0") + data
    assert CompressedBody(image, full=False, end=0, size=len(data)).read(0, len(data)) == data


def test_each_head_has_its_own_compressor() -> None:
    image = Flat((HEAD_2, 0, 1), header=(0, 0, LZ4 << 4 | DEFLATE), data=LZ4_ABC)
    assert image.body(3).read(0, 3) == b"abc"
    partial = Flat((HEAD | 1 << 15, 0, 1), data=LZ4_ABC)
    assert partial.body(2).read(0, 2) == b"ab"


@pytest.mark.parametrize(
    ("block", "size", "unpacked"),
    [
        (b"\x10a", 1, b"a"),
        (b"\x15a\x01\x00\x10b", 11, b"a" * 10 + b"b"),
        (b"\x44abcd\x04\x00\x00", 12, b"abcd" * 3),
        (b"\x1fa\x01\x00\xff\x02\x10b", 278, b"a" * 277 + b"b"),
        (b"\xf0\x01" + b"x" * 16, 16, b"x" * 16),
    ],
)
def test_a_block_of_lz4(block: bytes, size: int, unpacked: bytes) -> None:
    assert unpack_lz4(block, size) == unpacked
    for less in range(size):
        assert unpack_lz4(block, less, whole=False) == unpacked[:less]
        with pytest.raises(DamagedError):
            unpack_lz4(block, less)
    for cut in range(1, len(block)):
        with suppress(DamagedError):
            assert len(unpack_lz4(block[:-cut], size)) < size
    with pytest.raises(DamagedError):
        unpack_lz4(block + b"\x10", size)


@pytest.mark.parametrize(
    "block", [b"", b"\x10", b"\x10a\x00\x00\x00", b"\x10a\x02\x00\x00", b"\xff", b"\x1fa\x01\x00\xff"]
)
def test_no_block_of_lz4(block: bytes) -> None:
    with pytest.raises(DamagedError):
        unpack_lz4(block, 5)


def test_a_block_of_lz4_takes_no_more_than_it_should() -> None:
    bomb = b"\x1fa\x01\x00" + b"\xff" * (1 << 16) + b"\0"
    tracemalloc.start()
    try:
        for whole in (True, False):
            with suppress(DamagedError):
                unpack_lz4(bomb, 4096, whole=whole)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
