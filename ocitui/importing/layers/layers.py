"""Layer files: opened once, read twice, checked the first time; and how much they may ask for."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import LayerDigestError, LayerError
from .decompress import Compression, compression_of, decompressed

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """Bounds for one image. They are generous: real images stay far below, and each may be raised."""

    unpacked_bytes: int = 64 * _GIB
    """Of all layers together once decompressed, and of any one size that a header claims."""
    entries: int = 1_000_000
    """In all layers together: what an entry takes in memory is bounded by `metadata_bytes` and about 200 bytes."""
    header_bytes: int = 1 << 20
    """Of one PAX header, long name or long link; Go's archive/tar has the same bound."""
    metadata_bytes: int = 256 << 20
    """Of the names, link targets and extended attributes of all entries together."""
    path_bytes: int = 4096
    """Of a path, parents resolved: Linux's PATH_MAX."""
    depth: int = 512
    """Directories above an entry."""


BLOCK = 1 << 20
"""Bytes read of a layer's file at a time."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_UNKNOWN_ALGORITHM = "sha256"


@dataclass(frozen=True, slots=True)
class LayerSource:
    """Where a layer lies, and what is known of it: what is given is checked.

    ``path`` may be an archive that holds the layer: its bytes are the ``size`` bytes from ``offset`` on, or all that
    follow. ``digest`` is of these bytes, ``diff_id`` of the uncompressed tar. ``media_type`` only helps messages: the
    compression is read off the bytes.
    """

    path: Path
    digest: str | None = None
    size: int | None = None
    diff_id: str | None = None
    media_type: str = ""
    offset: int = 0


class OpenLayer:
    """One open layer. Raises LayerError where it cannot be opened, or is not of the size it should have."""

    def __init__(self, source: LayerSource) -> None:
        self.source = source
        _check_source(source)
        try:
            self._fd = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise LayerError(f"cannot read {source.path}: {error.strerror}") from error
        try:
            self._opened = os.fstat(self._fd)
            self.size = self._size()
            self.compression = compression_of(self._pread(8, 0))
        except BaseException:
            os.close(self._fd)
            raise
        self.diff_id = ""

    def close(self) -> None:
        os.close(self._fd)

    def chunks(self, read: Callable[[int], None]) -> Iterator[bytes]:
        """The uncompressed bytes; ``read`` is called with the number of bytes read of the file."""
        return decompressed(self._blocks(read), self.compression)

    def checked_chunks(self, read: Callable[[int], None]) -> Iterator[bytes]:
        """The same, hashing: once it has come to its end, `diff_id` is known and the digests are as expected.

        Raises LayerDigestError at the end where they are not.
        """
        blocks = self._blocks(read)
        digest = self.source.digest
        if digest is not None and (digest != self.source.diff_id or self.compression is not Compression.NONE):
            blocks = _hashed(blocks, digest, "digest")
        hasher = hashlib.new(_algorithm(self.source.diff_id))
        for chunk in decompressed(blocks, self.compression):
            hasher.update(chunk)
            yield chunk
        self.diff_id = f"{hasher.name}:{hasher.hexdigest()}"
        _compare(self.diff_id, self.source.diff_id, "uncompressed digest (diff_id)")

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
        now = os.fstat(self._fd)
        before = self._opened
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise LayerError(
                f"{self.source.path} changed while it was read", hint="try again once nothing writes to it"
            )

    @property
    def is_vouched_for(self) -> bool:
        """Whether a digest says that the layer ends where it should."""
        return self.source.digest is not None or self.source.diff_id is not None

    def _size(self) -> int:
        if not stat.S_ISREG(self._opened.st_mode):
            raise LayerError(f"{self.source.path} is not a regular file")
        there = self._opened.st_size - self.source.offset
        wanted = self.source.size
        if wanted is None and there >= 0:
            return there
        if wanted is None or there < wanted or (self.source.offset == 0 and there != wanted):
            raise LayerDigestError(f"{self.source.path} has {max(there, 0)} bytes for it, not {wanted}")
        return wanted

    def _blocks(self, read: Callable[[int], None]) -> Iterator[bytes]:
        for block in self.part(0, self.size):
            read(len(block))
            yield block

    def _pread(self, count: int, offset: int) -> bytes:
        try:
            return os.pread(self._fd, min(count, self.size - offset), self.source.offset + offset)
        except OSError as error:
            raise LayerError(f"cannot read {self.source.path}: {error.strerror}") from error


def _check_source(source: LayerSource) -> None:
    for name, digest in (("digest", source.digest), ("diff_id", source.diff_id)):
        if digest is not None and not _DIGEST.fullmatch(digest):
            raise LayerError(f"its {name} {digest[:100]!r} is no sha256, sha384 or sha512 digest")
    if source.media_type.endswith("+encrypted"):
        raise LayerError(f"it is encrypted ({source.media_type})", hint="decrypt the image first, as with skopeo copy")


def _algorithm(digest: str | None) -> str:
    return digest.partition(":")[0] if digest else _UNKNOWN_ALGORITHM


def _hashed(blocks: Iterator[bytes], digest: str, what: str) -> Iterator[bytes]:
    hasher = hashlib.new(_algorithm(digest))
    for block in blocks:
        hasher.update(block)
        yield block
    _compare(f"{hasher.name}:{hasher.hexdigest()}", digest, what)


def _compare(actual: str, wanted: str | None, what: str) -> None:
    if wanted is not None and actual != wanted:
        raise LayerDigestError(f"its {what} is {actual}, not {wanted}")
