"""Layers as their uncompressed bytes, whatever they are compressed with.

What a layer is compressed with is read off its first bytes: media types are wrong often enough (image-spec, layer.md).
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import Protocol, cast

from ..errors import LayerError

CHUNK = 1 << 20
"""Bytes of one uncompressed chunk at most, whatever the ratio."""


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
# A frame to skip: zstd's seekable variants begin with one. The low half of the first byte is free.
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
_REFUSED = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x1f\x9d": "compress", b"PK\x03\x04": "zip"}


def compression_of(start: bytes) -> Compression:
    """By the first 6 bytes or more. Raises LayerError for a compression that layers do not have."""
    if start.startswith(_GZIP):
        return Compression.GZIP
    if start.startswith(_ZSTD) or (start[1:4] == _ZSTD_SKIPPABLE and start[0] >> 4 == 5):
        return Compression.ZSTD
    for magic, name in _REFUSED.items():
        if start.startswith(magic):
            raise LayerError(f"compressed with {name}; layers are tars, plain or in gzip or zstd")
    return Compression.NONE


def decompressed(blocks: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    """The uncompressed bytes of a stream of blocks, in chunks; several members or frames are one stream.

    Raises LayerError where the compressed data are cut, damaged or followed by something else.
    """
    return blocks if compression is Compression.NONE else _inflated(blocks, compression)


def _inflated(blocks: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    make, error_type = _tools(compression)
    unused = b""
    try:
        while _skip_padding(start := unused or next(blocks, b""), blocks):
            decompressor = make()
            yield from _member(decompressor, start, blocks, compression)
            unused = decompressor.unused_data
    except error_type as error:
        raise LayerError(f"its {compression} data are damaged: {error}") from error


def _member(
    decompressor: _Decompressor, start: bytes, blocks: Iterator[bytes], compression: Compression
) -> Iterator[bytes]:
    data = start
    while True:
        if chunk := decompressor.decompress(data, CHUNK):
            yield chunk
        if decompressor.eof:
            return
        data = b""
        if decompressor.needs_input:
            data = next(blocks, b"")
            if not data:
                raise LayerError(f"its {compression} data are cut")


def _skip_padding(start: bytes, blocks: Iterator[bytes]) -> bool:
    """Whether another member begins here. Zeros up to the end are padding, as gzip(1) takes them."""
    if not start or start.strip(b"\0"):
        return bool(start)
    if any(block.strip(b"\0") for block in blocks):
        raise LayerError("something follows its compressed data")
    return False


def _tools(compression: Compression) -> tuple[Callable[[], _Decompressor], type[Exception]]:
    """A maker of decompressors and the error they raise; imported only where a layer needs them."""
    if compression is Compression.GZIP:
        from isal import igzip_lib

        return partial(igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_GZIP), cast(type[Exception], igzip_lib.error)
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor, zstd.ZstdError


_CHUNKS = 4
"""How many may wait, of a megabyte each."""


class ReadAhead:
    """An iterator over ``chunks``, which run ahead in a thread; `close` ends it, wherever it is."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._made: queue.Queue[bytes | None] = queue.Queue(_CHUNKS)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Raises what making the chunk raised."""
        chunk = None if self._stopped else self._made.get()
        if chunk is not None:
            return chunk
        self._stopped = True
        self._thread.join()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """No thread is left."""
        self._stopped = True
        while self._thread.is_alive():
            self._take_all()
            self._thread.join(0.01)

    def _take_all(self) -> None:
        """So that the thread, which may wait for room, sees that it is to stop."""
        while not self._made.empty():
            self._made.get_nowait()

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                self._made.put(chunk)
                if self._stopped:
                    return
        except BaseException as error:  # noqa: BLE001  it is raised where the chunks are taken
            self._error = error
        self._made.put(None)
