"""Blocks that were compressed each by itself, as packed files hold them, made whole again within a bound; and files of
them, hashed in threads."""

from __future__ import annotations

import lzma
import sys
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from itertools import accumulate, chain, groupby, tee
from typing import NamedTuple, Protocol, TypeVar

import deflate

from ocitui.threads import Stop, made_ahead, processors

from .tree import DamagedError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MOST_MEMORY, _LARGEST_WINDOW = 16 << 20, 23
_SHORTEST_MATCH, _LONG, _GOES_ON = 4, 15, 255
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


def unpack_zlib(block: bytes, most: int) -> bytes:
    """At most so many bytes of a zlib stream. Raises DamagedError."""
    try:
        return bytes(deflate.zlib_decompress(block, most))
    except deflate.DeflateError as raised:
        raise DamagedError(_BENT) from raised


unpack_xz = _by_stream(partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, _MOST_MEMORY), lzma.LZMAError)
unpack_lzma = _by_stream(partial(lzma.LZMADecompressor, lzma.FORMAT_ALONE, _MOST_MEMORY), lzma.LZMAError)
unpack_zstd = _by_stream(
    partial(zstd.ZstdDecompressor, options={zstd.DecompressionParameter.window_log_max: _LARGEST_WINDOW}),
    zstd.ZstdError,
)


def unpack_lz4(block: bytes, most: int, *, whole: bool = True) -> bytes:
    """At most so many bytes of one block as in lz4's doc/lz4_Block_format.md, which holds no more if ``whole``; it has
    no frame, dictionary or checksum. Raises DamagedError."""
    try:
        made = _unpacked_lz4(block, most, whole)
    except IndexError:
        raise DamagedError("it is cut") from None
    if whole and len(made) > most:
        raise DamagedError(_TOO_LONG)
    return bytes(made[:most])


def _unpacked_lz4(block: bytes, most: int, whole: bool) -> bytearray:
    """At most the block's own length more than is wanted. Raises IndexError where it is cut."""
    made, at, end = bytearray(), 0, len(block)
    while whole or len(made) < most:
        token = block[at]
        literals, at = _lz4_length(block, at + 1, token >> 4)
        if literals:
            if at + literals > end:
                raise DamagedError("it is cut")
            made += block[at : at + literals]
            at += literals
        if at == end or (len(made) >= most and not whole):
            break
        distance = block[at] | block[at + 1] << 8
        length, at = _lz4_length(block, at + 2, token & _LONG)
        length += _SHORTEST_MATCH
        begin, room = len(made) - distance, most - len(made)
        if not distance or begin < 0:
            raise DamagedError(_BENT)
        if whole and length > room:
            raise DamagedError(_TOO_LONG)
        length = min(length, room)
        if distance >= length:
            made += made[begin : begin + length]
        else:
            # It repeats what it is about to write.
            made += (made[begin:] * (length // distance + 1))[:length]
    return made


def _lz4_length(block: bytes, at: int, length: int) -> tuple[int, int]:
    """A length whose first four bits are known, and where it ends."""
    if length == _LONG:
        more = _GOES_ON
        while more == _GOES_ON:
            more = block[at]
            length, at = length + more, at + 1
    return length, at


# How many groups for each thread may wait, and about how many blocks are read together: any number of files may say
# that they end in one fragment, each of thousands of blocks.
_AHEAD, MOST_SPANS = 4, 4096
B = TypeVar("B", bytes, "memoryview[int]")
Span = tuple[int, int, int]
"""Of a block of a file: where it begins, its size as the file tells it, and that of what it unpacks to."""


class BulkFile(NamedTuple):
    """A file of so many ``blocks``, the first at ``start``, and of the ``end`` bytes from ``offset`` on of its group's
    fragment, in which several files end. In this order it is read straight on. Its hash is taken by the ``entry``."""

    group: int
    start: int
    offset: int
    end: int
    blocks: int
    entry: int


def hash_bulk(
    files: Iterable[BulkFile],
    fragment_of: Callable[[int], Callable[[], bytes]],
    spans_of: Callable[[BulkFile], list[Span]],
    unpack: Callable[[int, int, int], bytes],
    take: Callable[[int, bytes], object],
    stop: Stop,
) -> None:
    """Have the sha256 of files taken, which come in their order; a group's together, whose fragment is unpacked once,
    unless they have very many blocks. Where things are is told in this thread, what that gives and ``unpack`` are
    called in others. Raises DamagedError, and what these raise."""

    def step(group: int, files: Iterable[BulkFile]) -> Callable[[], list[tuple[int, bytes]]]:
        found = [(file, spans_of(file) if file.blocks else []) for file in files]
        return partial(_hashes, fragment_of(group), found, unpack, stop)

    threads, (files, told) = processors(), tee(files)
    blocks = accumulate(file.blocks for file in told)
    parts = groupby(files, lambda file: (file.group, next(blocks) // MOST_SPANS))
    with made_ahead((step(group, some) for (group, _), some in parts), threads, _AHEAD * threads) as made:
        for entry, hash in chain.from_iterable(made):
            take(entry, hash)


def _hashes(
    fragment: Callable[[], bytes],
    files: list[tuple[BulkFile, list[Span]]],
    unpack: Callable[[int, int, int], bytes],
    stop: Stop,
) -> list[tuple[int, bytes]]:
    ends, hashes = memoryview(fragment()), []
    for file, spans in files:
        hashed = sha256()
        for span in spans:
            stop.check()
            hashed.update(unpack(*span))
        stop.check()
        hashed.update(part_of(ends, file.offset, file.end))
        hashes.append((file.entry, hashed.digest()))
    return hashes


def part_of(fragment: B, at: int, size: int) -> B:
    """A file's end. Raises DamagedError."""
    end = fragment[at : at + size]
    if len(end) != size:
        raise DamagedError("its end lies beyond the fragment that holds it")
    return end
