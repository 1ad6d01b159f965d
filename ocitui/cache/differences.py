"""Chains: files in which indexes are kept one behind the other, each as what differs from the one before it.

The first is the newest, and whole, so that later ones come before it without a look at the others. A line stands before
each: how many bytes at its beginning and end are those of the one before it, how many follow, its name as a backup, and
a checksum of the line. What follows is compressed: what stands between. Whether that makes the index again, its sha256
tells, of which the name has a part. Damage costs the index that it is in, and those behind it that have bytes of it.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple

from .disk import Folder
from .files import MOST_INDEX_BYTES

_HEAD = re.compile(rb"((\d{1,10}) (\d{1,10}) (\d{1,10}) ([!-~]{1,200})) ([0-9a-f]{16})\n")
_LONGEST_HEAD, _MOST_LINKS = 260, 4096
_STRIDE = 1 << 16


class ChainedIndex(NamedTuple):
    """Its ``name`` as a backup, how many bytes ``beginning`` and ``end`` have in common with the index before it, and
    the ``start`` in the file, and the ``length``, of what stands between."""

    name: str
    beginning: int
    end: int
    start: int
    length: int


class IndexChain:
    """A chain that is read: ``links`` are what it has, newest first, as far as the heads are whole. Raises OSError."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self.name, self.links = folder, name, list[ChainedIndex]()
        # The one that was made last, as the next is mostly asked for then.
        self._at, self._data = -1, b""
        with folder.open_file(name) as file:
            at, size = 0, os.fstat(file.fileno()).st_size
            while len(self.links) < _MOST_LINKS:
                file.seek(at)
                found = _HEAD.match(file.read(_LONGEST_HEAD))
                if found is None or _checksum(found[1]) != found[6]:
                    break
                beginning, end, length = map(int, found.group(2, 3, 4))
                at += found.end() + length
                if at > size:
                    break
                self.links.append(ChainedIndex(found[5].decode(), beginning, end, at - length, length))

    def data(self, at: int) -> bytes:
        """The bytes of one of its indexes: others where something is damaged. Raises OSError."""
        if at < self._at:
            self._at, self._data = -1, b""
        with self._folder.open_file(self.name) as file:
            for _, beginning, end, start, length in self.links[self._at + 1 : at + 1]:
                before, between = self._data, b""
                file.seek(start)
                with suppress(zlib.error, ValueError):
                    between = unpacked(file.read(length))
                fits = beginning + end <= len(before) and beginning + end + len(between) <= MOST_INDEX_BYTES
                self._data = b"".join((before[:beginning], between, before[len(before) - end :])) if fits else b""
        self._at = at
        return self._data


def linked(name: str, data: bytes, before: bytes = b"") -> bytes:
    """What stands in a chain for an index, behind another one or as the first."""
    size, other = len(data), len(before)
    beginning = _alike(min(size, other), lambda at, to: data[at:to] == before[at:to])
    least = min(size, other) - beginning
    end = _alike(least, lambda at, to: data[size - to : size - at] == before[other - to : other - at])
    packed = compressed(data[beginning : size - end])
    told = f"{beginning} {end} {len(packed)} {name}".encode()
    return b"%b %b\n%b" % (told, _checksum(told), packed)


def _alike(most: int, same: Callable[[int, int], bool]) -> int:
    """How many bytes, of so many at most, are the same: asked by the block."""
    found, stride = 0, _STRIDE
    while stride:
        if found + stride <= most and same(found, found + stride):
            found += stride
        else:
            stride //= 2
    return found


def _checksum(told: bytes) -> bytes:
    return blake2b(told, digest_size=8).hexdigest().encode()


def compressed(data: bytes) -> bytes:
    """Quickly, as a gzip file: 40 MB of an index in a tenth of a second, to a ninth of its size."""
    # Loaded only where something is written.
    from isal import isal_zlib

    packed: bytes = isal_zlib.compress(data, 1, 31)
    return packed


def unpacked(data: bytes) -> bytes:
    """What was compressed, as large as any index is. Raises ValueError, zlib.error."""
    unpacking = zlib.decompressobj(wbits=31)
    found = unpacking.decompress(data, MOST_INDEX_BYTES)
    if not unpacking.eof:
        raise ValueError("it is cut short, or larger than any index")
    return found
