"""Blocks that were compressed by themselves: unpacked as they were, within their bound, and whole."""

from __future__ import annotations

import lzma
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from backports import zstd

from ocitui.contents.tree import DamagedError
from ocitui.contents.unpacking import Unpack, unpack_lz4, unpack_lzma, unpack_xz, unpack_zlib, unpack_zstd


@pytest.mark.parametrize("unpack", [unpack_zlib, unpack_xz, unpack_lzma, unpack_zstd, unpack_lz4])
def test_a_block_is_unpacked_within_its_bound(unpack: Unpack) -> None:
    content = b"some text, some more text, " * 100
    packed = PACKERS[unpack](content)
    assert unpack(packed, len(content)) == content
    assert unpack(packed, len(content) + 500) == content
    for cut in range(len(packed)):
        # lz4 has no word for its end: what it unpacks to is too short, if no more.
        with suppress(DamagedError) if unpack is unpack_lz4 else pytest.raises(DamagedError):
            assert len(unpack(packed[:cut], len(content))) < len(content)
    with pytest.raises(DamagedError, match=r"more than it may|cannot be unpacked"):
        unpack(packed, len(content) - 1)


def _lz4(content: bytes) -> bytes:
    """One match after as many literals as its distance, and the end as literals."""
    assert content[27:2695] == (content[:27] * 100)[:2668]
    literals, match = 27 - 15, 2668 - 4 - 15
    head = bytes((0xFF, literals)) + content[:27] + struct.pack("<H", 27)
    return head + b"\xff" * (match // 255) + bytes((match % 255,)) + b"\x50" + content[2695:]


def _packers() -> dict[Unpack, Callable[[bytes], bytes]]:
    return {
        unpack_zlib: zlib.compress,
        unpack_xz: lambda content: lzma.compress(content, lzma.FORMAT_XZ, preset=0),
        unpack_lzma: lambda content: lzma.compress(content, lzma.FORMAT_ALONE, preset=0),
        unpack_zstd: zstd.compress,
        unpack_lz4: _lz4,
    }


PACKERS = _packers()


@pytest.mark.parametrize(
    "block",
    [
        b"\x10",
        b"\x10a\x01",
        b"\x10a\x02\x00",
        b"\x10a\x00\x00",
        b"\xf0",
        b"\xf0\xff",
        b"\x1fa\x01\x00\xff\xff",
        b"\x50ab",
    ],
)
def test_a_damaged_lz4_block_is_refused(block: bytes) -> None:
    with pytest.raises(DamagedError):
        unpack_lz4(block, 100)


def test_an_lz4_block_that_grows_is_not_unpacked() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError, match="more than it may"):
            unpack_lz4(b"\x1fa\x01\0" + b"\xff" * 100_000 + b"\0\0", 1 << 17)
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("unpack", [unpack_zstd, unpack_xz, unpack_lzma])
def test_a_block_may_not_claim_much_memory(unpack: Unpack) -> None:
    wide = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})
    packed = {
        unpack_zstd: wide.compress(b"text") + wide.flush(),
        unpack_xz: lzma.compress(b"text", lzma.FORMAT_XZ, preset=9),
        unpack_lzma: lzma.compress(b"text", lzma.FORMAT_ALONE, preset=9),
    }[unpack]
    with pytest.raises(DamagedError, match="cannot be unpacked"):
        unpack(packed, 1 << 17)
