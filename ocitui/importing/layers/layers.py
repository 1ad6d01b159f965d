"""Layer files: opened once, read twice, checked the first time; and how much they may ask for. What a layer is
compressed with is read off its first bytes: media types are wrong often enough (image-spec, layer.md)."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from itertools import chain, repeat, takewhile
from pathlib import Path
from typing import Protocol, cast

import msgspec

from ocitui.cache import open_bounded
from ocitui.threads import made_ahead

from ..errors import LayerDigestError, LayerError


class LayerLimits(msgspec.Struct, frozen=True):
    """Bounds for one image. They are generous: real images stay far below, and each may be raised."""

    unpacked_bytes: int = 64 << 30
    """Of all layers together once decompressed, and of any one size that a header claims."""
    entries: int = 1_000_000
    """In all layers together: what an entry takes in memory is bounded by `metadata_bytes` and about 200 bytes."""
    header_bytes: int = 1 << 20
    """Of one PAX header, long name or long link; Go's archive/tar has the same bound."""
    metadata_bytes: int = 256 << 20
    """Of the names, link targets, extended attributes and maps of sparse files of all entries together."""
    path_bytes: int = 4096
    """Of a path, parents resolved: Linux's PATH_MAX."""
    depth: int = 512
    """Directories above an entry."""


BLOCK = 1 << 20
"""Bytes read of a layer's file at a time."""


class LayerSource(msgspec.Struct, frozen=True):
    """Where a layer lies: the ``size`` bytes of ``path`` from ``offset`` on, which may be an archive that holds it.
    ``digest`` is the sha256 digest of these bytes, ``diff_id`` that of the uncompressed tar: both are to be checked."""

    path: Path
    digest: str
    size: int
    diff_id: str
    offset: int = 0


Layers = AsyncGenerator[LayerSource, None]
"""The layers of an image, the lowest first, each once its file is whole."""


class OpenLayer:
    """One open layer. Raises LayerError where it cannot be opened, or is not of the size it should have."""

    def __init__(self, source: LayerSource) -> None:
        self.source = source
        self.size = source.size
        # Of its own, not of a generator: one that is left to the collector may be ended in any thread, amid any lock.
        self._hashing = ThreadPoolExecutor(2, "hash")
        try:
            self._file = open_bounded(source.path)
        except OSError as error:
            raise LayerError(f"cannot read {source.path}: {error.strerror}") from error
        try:
            self._opened = os.fstat(self._file.fileno())
            there = self._opened.st_size - source.offset
            if there < self.size or (source.offset == 0 and there != self.size):
                raise LayerDigestError(f"{source.path} has {max(there, 0)} bytes for it, not {self.size}")
            self.compression = readable_compression(self._pread(LONGEST_MAGIC, 0))
        except BaseException:
            self._file.close()
            raise

    def end_hashing(self) -> None:
        """Have no thread of it left; nothing is to be checked any more."""
        self._hashing.shutdown()

    def close(self) -> None:
        self.end_hashing()
        self._file.close()

    def chunks(self) -> Iterator[bytes]:
        """The uncompressed bytes."""
        return decompressed(self.part(0, self.size), self.compression)

    def checked_chunks(self, read: Callable[[int], None]) -> Iterator[bytes]:
        """The same, hashing; ``read`` is told the bytes read of the file. Raises LayerDigestError at the end."""
        blocks, digest, diff_id = self._blocks(read), self.source.digest, self.source.diff_id
        if digest != diff_id or self.compression is not Compression.NONE:
            blocks = self._hashed(blocks, digest, "digest")
        return self._hashed(decompressed(blocks, self.compression), diff_id, "uncompressed digest (diff_id)")

    def part(self, offset: int, size: int) -> Iterator[bytes]:
        """Bytes of a layer that is not compressed."""
        end = offset + size
        while offset < end:
            block = self._pread(min(end - offset, BLOCK), offset)
            if not block:
                raise LayerError("it was cut while it was read")
            offset += len(block)
            yield block

    def check_unchanged(self) -> None:
        """Raises LayerError where the file was written to since it was opened."""
        now = os.fstat(self._file.fileno())
        before = self._opened
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise LayerError(
                f"{self.source.path} changed while it was read", hint="try again once nothing writes to it"
            )

    def _hashed(self, blocks: Iterator[bytes], digest: str, what: str) -> Iterator[bytes]:
        """The same blocks, each hashed in a thread while the next one is made."""
        hasher, hashing = hashlib.sha256(), None
        for block in blocks:
            if hashing is not None:
                hashing.result()
            hashing = self._hashing.submit(hasher.update, block)
            yield block
        if hashing is not None:
            hashing.result()
        actual = f"sha256:{hasher.hexdigest()}"
        if actual != digest:
            raise LayerDigestError(f"its {what} is {actual}, not {digest}")

    def _blocks(self, read: Callable[[int], None]) -> Iterator[bytes]:
        for block in self.part(0, self.size):
            read(len(block))
            yield block

    def _pread(self, count: int, offset: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), min(count, self.size - offset), self.source.offset + offset)
        except OSError as error:
            raise LayerError(f"cannot read {self.source.path}: {error.strerror}") from error


CHUNK = 1 << 20
"""Bytes of one uncompressed chunk at most, whatever the ratio."""


class Compression(StrEnum):
    """What bytes are compressed with; layers and archives are read in the first five."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"
    COMPRESS = "compress"
    ZIP = "zip"
    LZ4 = "lz4"
    LZIP = "lzip"

    @property
    def hint(self) -> str:
        """How to come by what is read, of what is not."""
        tool = {"zip": "unzip", "compress": "gzip -d"}.get(self, f"{self} -d")
        return f"unpack it with {tool} first"


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


_MAGICS = {
    b"\x1f\x8b\x08": Compression.GZIP,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
    # A tar may begin with a name that begins so: the level and the first block's beginning, or the end, are told too.
    **{b"BZh%d%b" % (one, block): Compression.BZIP2 for one in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")},
    b"\xfd7zXZ\x00": Compression.XZ,
    b"\x1f\x9d": Compression.COMPRESS,
    b"PK\x03\x04": Compression.ZIP,
    b"\x04\x22\x4d\x18": Compression.LZ4,
    b"LZIP\x01": Compression.LZIP,
}
# A frame to skip: zstd's seekable variants begin with one. The low half of the first byte is free.
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
LONGEST_MAGIC = 10


def compression_of(start: bytes) -> Compression:
    """By the first bytes, `LONGEST_MAGIC` of them or more."""
    if start[1:4] == _ZSTD_SKIPPABLE and start[0] >> 4 == 5:
        return Compression.ZSTD
    return next((found for magic, found in _MAGICS.items() if start.startswith(magic)), Compression.NONE)


def readable_compression(start: bytes) -> Compression:
    """The same. Raises LayerError for a compression that is not read."""
    found = compression_of(start)
    if found not in _READ:
        raise LayerError(f"compressed with {found}, which is not read", hint=found.hint)
    return found


def decompressed(blocks: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    """The uncompressed chunks of a stream of blocks; several members or frames are one stream. Raises LayerError where
    the compressed data are cut, damaged or followed by something else, and what the blocks raise."""
    if compression is Compression.NONE:
        yield from blocks
        return
    make, error_type = _tools(compression)
    block, at, members = b"", 0, 0
    try:
        while True:
            if len(block) - at < _FRAME:
                # Where a member begins can be told then, unless there is no more.
                block, at = block[at:] + next(blocks, b""), 0
            skippable = compression is Compression.ZSTD and block[at + 1 : at + 4] == _ZSTD_SKIPPABLE
            if skippable and block[at] >> 4 == 5:
                size = _FRAME + int.from_bytes(block[at + 4 : at + _FRAME], "little")
                while size > len(block) - at:
                    size, at, block = size - (len(block) - at), 0, next(blocks, b"")
                    if not block:
                        raise LayerError(f"its {compression} data are cut")
                at, members = at + size, members + 1
                continue
            if not _begins(block, at, blocks, compression, first=not members):
                return
            member, piece = make(), _FIRST_PIECE
            members += 1
            while not member.eof:
                if member.needs_input:
                    if at == len(block):
                        block, at = next(blocks, b""), 0
                        if not block:
                            raise LayerError(f"its {compression} data are cut")
                    # A short one leaves little behind it, which is copied; there may be a hundred thousand of them.
                    part = block[at : at + piece]
                    at, piece = at + len(part), min(2 * piece, CHUNK)
                    chunk = member.decompress(part, CHUNK)
                else:
                    chunk = member.decompress(b"", CHUNK)
                if chunk:
                    yield chunk
            at -= len(member.unused_data)
    except error_type as error:
        if isinstance(error, OSError) and error.errno:
            raise  # bzip2's own have no number: it is the source that cannot be read
        raise LayerError(f"its {compression} data are damaged: {error}") from error


_READ = (Compression.NONE, Compression.GZIP, Compression.ZSTD, Compression.BZIP2, Compression.XZ)
_FIRST_PIECE, _FRAME = 1 << 12, 8
_XZ_MEMORY = 192 << 20
"""What xz(1) asks for to unpack what its greatest level made is 65 MB."""


def _begins(block: bytes, at: int, blocks: Iterator[bytes], compression: Compression, *, first: bool) -> bool:
    """Whether another member begins here; zeros at the end are padding, as for gzip(1). Raises LayerError for more."""
    start = block[at : at + LONGEST_MAGIC]
    if not start or (not first and not start.strip(b"\0")):
        if not start or not any(part.strip(b"\0") for part in chain((block[at:],), blocks)):
            return False
    elif first or compression in (compression_of(start), *(_MAGICS[one] for one in _MAGICS if one.startswith(start))):
        return True
    hint = f"what stands before that is whole: {compression} -dc gives it"
    raise LayerError(f"something follows the end of its {compression} data", hint=hint)


def _tools(compression: Compression) -> tuple[Callable[[], _Decompressor], type[Exception]]:
    """A maker of decompressors and the error they raise; imported only where a layer needs them."""
    if compression is Compression.GZIP:
        from isal import igzip_lib

        return partial(igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_GZIP), cast(type[Exception], igzip_lib.error)
    if compression is Compression.XZ:
        import lzma

        return partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, _XZ_MEMORY), lzma.LZMAError
    if compression is Compression.BZIP2:
        import bz2

        return bz2.BZ2Decompressor, OSError
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor, zstd.ZstdError


_CHUNKS = 4
"""How many may wait, of a megabyte each."""


@contextmanager
def read_ahead(chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """The same chunks, made ahead in a thread, which is gone at the end. What making one raises comes in its place."""
    with made_ahead(repeat(partial(next, chunks, b"")), 1, _CHUNKS) as made:
        yield takewhile(bool, made)
