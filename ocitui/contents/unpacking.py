"""Blocks that were compressed each by itself, as packed files hold them, made whole again within a bound."""

from __future__ import annotations

import lzma
import sys
import zlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

from .tree import DamagedError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MOST_MEMORY, _LARGEST_WINDOW = 16 << 20, 23
_TOO_LONG, _BENT = "it unpacks to more than it may", "it cannot be unpacked"

Unpack = Callable[[bytes, int], bytes]
"""What a block unpacks to, which is at most so many bytes. Raises DamagedError."""


class _Stream(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _by_stream(make: Callable[[], _Stream], error: type[Exception]) -> Unpack:
    def unpack(block: bytes, most: int) -> bytes:
        stream = make()
        try:
            # With room for one more, as a checksum is looked at only where the output is not full.
            data = stream.decompress(block, most + 1)
        except error as raised:
            raise DamagedError(_BENT) from raised
        if len(data) > most:
            raise DamagedError(_TOO_LONG)
        if not stream.eof:
            raise DamagedError("it is cut")
        return data

    return unpack


unpack_zlib = _by_stream(zlib.decompressobj, zlib.error)
unpack_xz = _by_stream(partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, _MOST_MEMORY), lzma.LZMAError)
unpack_lzma = _by_stream(partial(lzma.LZMADecompressor, lzma.FORMAT_ALONE, _MOST_MEMORY), lzma.LZMAError)
unpack_zstd = _by_stream(
    partial(zstd.ZstdDecompressor, options={zstd.DecompressionParameter.window_log_max: _LARGEST_WINDOW}),
    zstd.ZstdError,
)


def unpack_lz4(block: bytes, most: int) -> bytes:
    """Of one block as in lz4's doc/lz4_Block_format.md, without a frame or a dictionary; it has no checksum."""
    made, at = bytearray(), 0
    try:
        while True:
            token = block[at]
            literals, at = _lz4_length(block, at + 1, token >> 4)
            if len(made) + literals > most:
                raise DamagedError(_TOO_LONG)
            made += block[at : at + literals]
            at += literals
            if at == len(block):
                return bytes(made)
            distance = block[at] | block[at + 1] << 8
            length, at = _lz4_length(block, at + 2, token & 15)
            length += 4
            if not 0 < distance <= len(made):
                raise DamagedError(_BENT)
            if len(made) + length > most:
                raise DamagedError(_TOO_LONG)
            again = made[-distance:][:length]
            made += again if len(again) == length else (again * (length // distance + 1))[:length]
    except IndexError:
        raise DamagedError("it is cut") from None


def _lz4_length(block: bytes, at: int, length: int) -> tuple[int, int]:
    """A length whose first four bits are known, and where it ends."""
    if length == 15:
        more = 255
        while more == 255:
            more = block[at]
            length, at = length + more, at + 1
    return length, at
