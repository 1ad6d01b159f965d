"""A layer of many small members or frames, as eStargz and zstd:chunked make them, costs no more than its bytes."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable

import pytest
from backports import zstd

from ocitui.importing.layers import layers
from ocitui.importing.layers.layers import Compression, decompressed

pytestmark = pytest.mark.slow

MEMBERS = 5000


class Counting:
    """A decompressor that counts the bytes that it is given, and those that it gives back."""

    moved = 0

    def __init__(self, real: layers._Decompressor) -> None:
        self._real = real

    def decompress(self, data: bytes, most: int = -1) -> bytes:
        Counting.moved += len(data)
        return self._real.decompress(data, most)

    @property
    def unused_data(self) -> bytes:
        unused = self._real.unused_data
        Counting.moved += len(unused)
        return unused

    @property
    def eof(self) -> bool:
        return self._real.eof

    @property
    def needs_input(self) -> bool:
        return self._real.needs_input


SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"


@pytest.mark.parametrize("size", [0, 1, 500, 6000, 20_000])
@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
def test_what_is_behind_a_member_is_not_copied_again(
    kind: Compression, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = bytes(byte * 37 % 251 for byte in range(size))
    member = gzip.compress(noise, 1, mtime=0) if kind is Compression.GZIP else SKIPPABLE + zstd.compress(noise)
    stream = member * MEMBERS
    tools = layers._tools

    def counting_tools(kind: Compression) -> tuple[Callable[[], layers._Decompressor], type[Exception]]:
        made, error = tools(kind)
        return lambda: Counting(made()), error

    monkeypatch.setattr(layers, "_tools", counting_tools)
    monkeypatch.setattr(Counting, "moved", 0)
    blocks = iter([stream[at : at + layers.BLOCK] for at in range(0, len(stream), layers.BLOCK)])
    assert sum(map(len, decompressed(blocks, kind))) == size * MEMBERS
    # Twice what it is, and what may lie behind the beginning of each: not the rest of a megabyte each time.
    assert Counting.moved <= 2 * len(stream) + MEMBERS * 2 * layers._FIRST_PIECE


def test_frames_to_skip_are_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_tools", lambda kind: (None, zstd.ZstdError))
    stream = SKIPPABLE * 100_000
    assert list(decompressed(iter([stream[: layers.BLOCK], stream[layers.BLOCK :]]), Compression.ZSTD)) == []
