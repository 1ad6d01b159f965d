"""The headers of a tar, one entry at a time: ustar, PAX, GNU and V7, as tar(5) has them.

`tarfile` takes four times as long, and drops or misreads what images need: bytes of names, PAX sizes of links, a cut
tar. Names stay bytes throughout.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from functools import lru_cache
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote_to_bytes
from zlib import adler32

import msgspec

from ocitui.cache import ANY_SIZE
from ocitui.text import printable

from .tree import ContentsError, size_of

Xattrs = tuple[tuple[bytes, bytes], ...]
Segments = tuple[tuple[int, int], ...]

_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_SPARSE, _STAR_SPARSE = b"GNU.sparse.", b"SCHILY.realsize"
_MOST_SEGMENTS = 100_000
_NUMBER = re.compile(rb"[0-9]{1,20}")
_TIME = re.compile(rb"(-?[0-9]{1,20})(?:\.[0-9]*)?")


class TarError(ContentsError):
    """The tar is cut or malformed; ``entry`` is the entry's name as it is spelt."""

    def __init__(self, reason: str, *, entry: bytes | None = None) -> None:
        super().__init__(reason if entry is None else f"{printable(entry)}: {reason}")
        self.reason, self.entry = reason, entry

    def placed(self, entry: bytes) -> TarError:
        """The same error, naming its entry."""
        return type(self)(self.reason, entry=entry)


class UnsupportedTarError(TarError):
    """It may be sound, but has what is not read."""


class TarLimitError(UnsupportedTarError):
    """It goes beyond a limit; ``raisable``: one that whoever reads it chose."""

    def __init__(self, reason: str, *, entry: bytes | None = None, raisable: bool = False) -> None:
        super().__init__(reason, entry=entry)
        self.raisable = raisable

    def placed(self, entry: bytes) -> TarError:
        return TarLimitError(self.reason, entry=entry, raisable=self.raisable)


class ExtendedHeader(msgspec.Struct):
    """What the headers before an entry say of it: PAX's by their keywords, GNU's by their type flags."""

    names: dict[bytes, bytes] = {}
    numbers: dict[bytes, int] = {}
    schily: dict[bytes, bytes] = {}
    libarchive: dict[bytes, bytes] = {}
    gnu: dict[bytes, bytes] = {}
    sparse: list[tuple[bytes, bytes]] = []

    @property
    def xattrs(self) -> Xattrs:
        """Sorted by name. libarchive writes each one in two spellings; SCHILY's is the plainer."""
        return tuple(sorted({**self.libarchive, **self.schily}.items()))


def parse_pax(data: bytes) -> ExtendedHeader:
    """The records of a PAX header. Raises TarError where they are malformed, or of a sparse file as star writes it."""
    header = ExtendedHeader()
    at = 0
    while at < len(data):
        key, value, at = _record(data, at)
        _apply(header, key, value)
    return header


def _record(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    """``LENGTH KEY=VALUE\\n``, the length counting all of it."""
    space = data.find(b" ", at, at + 20)
    digits = data[at:space]
    end = at + int(digits) if space >= 0 and _NUMBER.fullmatch(digits) else 0
    key, equals, value = data[space + 1 : end - 1].partition(b"=")
    if not (space + 2 < end <= len(data) and data[end - 1] == 0x0A and key and equals):
        raise TarError("its PAX header is malformed")
    return key, value, end


def _apply(header: ExtendedHeader, key: bytes, value: bytes) -> None:
    if key.startswith(_SCHILY):
        header.schily[_xattr_name(key.removeprefix(_SCHILY))] = value
    elif key.startswith(_LIBARCHIVE):
        name, decoded = _decode_libarchive(key.removeprefix(_LIBARCHIVE), value)
        header.libarchive[name] = decoded
    elif key.startswith(_SPARSE):
        header.sparse.append((key.removeprefix(_SPARSE), value))
    elif key == _STAR_SPARSE:
        raise UnsupportedTarError("sparse files as star writes them are not supported (PAX SCHILY.realsize)")
    elif not value:
        pass  # it takes a record back, so that the plain header's word counts
    elif key in (b"path", b"linkpath"):
        header.names[key] = _text(value, key.decode())
    elif read := _NUMBERS.get(key):
        header.numbers[key] = read(value, key.decode())


def _text(value: bytes, what: str) -> bytes:
    if b"\0" in value:
        raise TarError(f"its PAX {what} holds a NUL")
    return value


def _decimal(value: bytes, what: str) -> int:
    if not _NUMBER.fullmatch(value):
        raise TarError(f"its PAX {what} {value[:40]!r} is not a number")
    return int(value)


def _time(value: bytes, what: str) -> int:
    match = _TIME.fullmatch(value)
    if match is None:
        raise TarError(f"its PAX {what} {value[:40]!r} is not a time")
    return int(match[1])


_NUMBERS = {b"size": _decimal, b"uid": _decimal, b"gid": _decimal, b"mtime": _time}


def _xattr_name(name: bytes) -> bytes:
    if not name or b"\0" in name or len(name) > 255:
        raise TarError(f"an extended attribute's name {name[:60]!r} is not one")
    return name


def _decode_libarchive(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """libarchive writes names as in URLs, and values in base64 without its padding."""
    try:
        return _xattr_name(unquote_to_bytes(name)), base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise TarError(f"its extended attribute {name[:60]!r} is not in base64") from error


class ChunkReader:
    """A stream of chunks, read by the byte; what is skipped is not copied."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self._before = 0

    @property
    def position(self) -> int:
        return self._before + self._at

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        end = self._at + count
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        return b"".join(self.parts(count))

    def skip(self, count: int) -> int:
        """Pass over bytes; how many there were."""
        end = self._at + count
        if end <= len(self._chunk):
            self._at = end
            return count
        return sum(map(len, self.parts(count)))

    def parts(self, count: int) -> Iterator[bytes | memoryview]:
        """The next bytes as they come; fewer at the end."""
        while count:
            part = memoryview(self._chunk)[self._at : self._at + count]
            if part:
                self._at += len(part)
                count -= len(part)
                yield part
            elif not self._next():
                return

    def drain(self) -> None:
        """Read up to the end."""
        while self._next():
            pass

    def _next(self) -> bool:
        self._before += len(self._chunk)
        self._at = 0
        self._chunk = next(self._chunks, b"")
        return bool(self._chunk)


class FileReader:
    """A file from a place on, whoever else reads it: skipping costs nothing."""

    def __init__(self, file: BinaryIO, position: int = 0) -> None:
        self._fd = file.fileno()
        self._size = size_of(file)
        self.position = position

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        data = os.pread(self._fd, count, self.position)
        self.position += len(data)
        return data

    def skip(self, count: int) -> int:
        """Pass over bytes; how many there were."""
        there = max(min(count, self._size - self.position), 0)
        self.position += there
        return there


ByteReader = ChunkReader | FileReader
"""What a tar is read from, from its start to its end."""

TAR_BLOCK = 512
_ZEROS = bytes(TAR_BLOCK)
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_MAX_ID = (1 << 32) - 2
_MAX_MAJOR, _MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1


class Kind(IntEnum):
    """What an entry is; the value is its type flag in a tar header."""

    FILE = 0x30
    HARD_LINK = 0x31
    SYMLINK = 0x32
    CHARACTER = 0x33
    BLOCK = 0x34
    DIRECTORY = 0x35
    FIFO = 0x36


FILE_TYPES: dict[int, int] = {
    Kind.FILE: stat.S_IFREG,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.FIFO: stat.S_IFIFO,
}
"""As modes have them."""

# A contiguous file is a regular one to who knows no such files (POSIX, pax).
_KINDS = {bytes((kind,)): kind for kind in Kind} | dict.fromkeys((b"\0", b"7"), Kind.FILE)
_REFUSED = {
    b"S": "sparse files of GNU's old format are not supported (type 'S'), those of the PAX format are",
    b"D": "incremental dumps are not supported (type 'D')",
    b"M": "archives of several volumes are not supported (type 'M')",
    b"V": "volume labels are not supported (type 'V')",
}


class TarEntry(NamedTuple):
    """One entry, the bytes of its names as they are. ``offset`` is where a file's bytes begin in the layer's tar; of a
    sparse one these are its ``segments`` alone, each with where it stands in the file, and its size."""

    name: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    offset: int
    link: bytes
    device: tuple[int, int] | None
    xattrs: Xattrs
    segments: Segments | None = None

    @property
    def stored(self) -> int:
        """How many bytes it has in the tar."""
        return self.size if self.segments is None else sum(size for _, size in self.segments)


class TarReader:
    """The entries of one tar, which may lack the zeros at its end: a digest says where it ends. At each entry
    ``reader`` stands at a file's first byte, and who takes it may read the file, but not past it."""

    def __init__(self, reader: ByteReader, most_bytes: int = ANY_SIZE, most_header: int = 1 << 20) -> None:
        """``most_bytes`` are those of any one size that a header claims, ``most_header`` those of a PAX header, a long
        name or a long link; Go's archive/tar has the same bound."""
        self._reader = reader
        self._most_bytes, self._most_header = most_bytes, most_header
        self._holes = 0
        self.ended = False
        """Whether the two blocks of zeros were met that end a tar."""

    def __iter__(self) -> Iterator[TarEntry]:
        """Raises TarError where the tar is cut or malformed, or holds what is not supported."""
        reader = self._reader
        extended: ExtendedHeader | None = None
        while block := reader.read(TAR_BLOCK):
            if block == _ZEROS:
                # There are two, of which a tar that ends right there may lack the second.
                second = reader.read(TAR_BLOCK)
                if extended is not None or (second and second != _ZEROS[: len(second)]):
                    raise TarError("its tar has a block of zeros between entries")
                self.ended = second == _ZEROS
                return
            if len(block) < TAR_BLOCK:
                raise TarError("its tar is cut in a header")
            _check_sum(block)
            kind = _KINDS.get(block[156:157])
            if kind is None:
                extended = self._extend(block, extended)
                continue
            entry = self._entry(block, kind, extended)
            extended = None
            yield entry
            if stored := entry.stored:
                left = entry.offset + stored - reader.position
                # The last entry's padding may be left out: `umoci insert` does so, and Go's archive/tar reads it.
                if reader.skip(left + -stored % TAR_BLOCK) < left:
                    raise TarError("its tar is cut in this entry", entry=entry.name)
        if extended is not None:
            raise TarError("its tar is cut after an extended header")

    def _entry(self, block: bytes, kind: Kind, extended: ExtendedHeader | None) -> TarEntry:
        name, link = _name(block), _field(block, 157, 100)
        if extended is not None:
            name = extended.gnu.get(b"L") or extended.names.get(b"path") or name
            link = extended.gnu.get(b"K") or extended.names.get(b"linkpath") or link
        try:
            return self._fields(block, kind, name, link, extended)
        except TarError as error:
            raise error.placed(name) from error

    def _fields(self, block: bytes, kind: Kind, name: bytes, link: bytes, pax: ExtendedHeader | None) -> TarEntry:
        uid, gid, mtime = _number(block[108:116]), _number(block[116:124]), _number(block[136:148])
        size = _number(block[124:136]) if kind is Kind.FILE else 0
        xattrs: Xattrs = ()
        if pax is not None:
            said, xattrs = pax.numbers, pax.xattrs
            uid, gid, mtime = said.get(b"uid", uid), said.get(b"gid", gid), said.get(b"mtime", mtime)
            size = said.get(b"size", size) if kind is Kind.FILE else 0
        self._check(size, uid, gid)
        if pax is not None and pax.sparse:
            return self._sparse(block, name, uid, gid, mtime, size, pax)
        if kind is Kind.FILE and name.endswith(b"/") and block[156] == 0:
            # V7's way to say that it is a directory.
            kind = Kind.DIRECTORY
        device = _device(block) if kind in (Kind.CHARACTER, Kind.BLOCK) else None
        mode = _number(block[100:108]) & 0o7777
        return TarEntry(name, kind, mode, uid, gid, mtime, size, self._reader.position, link, device, xattrs)

    def _sparse(
        self, block: bytes, name: bytes, uid: int, gid: int, mtime: int, stored: int, pax: ExtendedHeader
    ) -> TarEntry:
        """One in the PAX format: its map stands in its records (GNU's 0.0 and 0.1), or before its bytes (1.0)."""
        said = dict(pax.sparse)
        name = said.get(b"name", name)
        real = _decimal(said.get(b"realsize", said.get(b"size", b"")), "GNU.sparse.size")
        before = self._reader.position
        segments = self._pax_segments(said, pax.sparse)
        stored -= self._reader.position - before
        self._check(real, uid, gid)
        end = 0
        for at, size in segments:
            if at < end or size < 0:
                raise TarError("the map of a sparse file is out of order")
            end = at + size
        if end > real or sum(size for _, size in segments) != stored:
            raise TarError("the map of a sparse file is of another size than its bytes")
        self._holes += real - stored
        self._check(self._holes, uid, gid)
        mode, offset, xattrs = _number(block[100:108]) & 0o7777, self._reader.position, pax.xattrs
        return TarEntry(name, Kind.FILE, mode, uid, gid, mtime, real, offset, b"", None, xattrs, segments)

    def _pax_segments(self, said: Mapping[bytes, bytes], records: Sequence[tuple[bytes, bytes]]) -> Segments:
        if said.get(b"major") == b"1":
            return _pairs([*self._map_before_bytes()])
        if b"map" in said:
            return _pairs([_decimal(one, "GNU.sparse.map") for one in said[b"map"].split(b",") if one])
        told = [(key, value) for key, value in records if key in (b"offset", b"numbytes")]
        if any(key != (b"numbytes" if at % 2 else b"offset") for at, (key, _) in enumerate(told)):
            raise TarError("the map of a sparse file is out of order")
        return _pairs([_decimal(value, "GNU.sparse.offset") for _, value in told])

    def _map_before_bytes(self) -> Iterator[int]:
        """Numbers in lines, the first of how many pairs there are, in whole blocks."""
        text, wanted, count = b"", 1, 0
        while count < wanted:
            if b"\n" not in text:
                block = self._reader.read(TAR_BLOCK)
                if len(block) < TAR_BLOCK or len(text) > 40:
                    raise TarError("the map of a sparse file is cut")
                text += block
                continue
            line, _, text = text.partition(b"\n")
            number = _decimal(line, "map of a sparse file")
            if count:
                yield number
            elif number > _MOST_SEGMENTS:
                raise TarError("the map of a sparse file is too long")
            else:
                wanted += 2 * number
            count += 1

    def _check(self, size: int, uid: int, gid: int) -> None:
        if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
            raise TarError(f"its owner {uid}:{gid} is out of range")
        if size < 0:
            raise TarError(f"its size {size} is out of range")
        if size > self._most_bytes:
            raise TarLimitError(f"it claims {size} bytes, more than the limit of {self._most_bytes}", raisable=True)

    def _extend(self, block: bytes, extended: ExtendedHeader | None) -> ExtendedHeader | None:
        """Take in a header that says something of the next entry; a global one says nothing of use."""
        flag = block[156:157]
        if flag == b"g":
            self._body(block)
            return extended
        if flag not in (b"x", b"X", b"L", b"K"):
            raise UnsupportedTarError(
                _REFUSED.get(flag, f"entries of type {flag.decode('latin-1')!r} are not supported"), entry=_name(block)
            )
        body = self._body(block)
        extended = extended or ExtendedHeader()
        if flag in (b"L", b"K"):
            extended.gnu[flag] = body.partition(b"\0")[0]
            return extended
        try:
            return msgspec.structs.replace(parse_pax(body), gnu=extended.gnu)
        except TarError as error:
            raise error.placed(_name(block)) from error

    def _body(self, block: bytes) -> bytes:
        size = _number(block[124:136])
        if not 0 <= size <= self._most_header:
            reason = f"an extended header of {size} bytes, more than the limit of {self._most_header}"
            raise TarLimitError(reason, entry=_name(block))
        body = self._reader.read(size)
        if len(body) < size or self._reader.skip(-size % TAR_BLOCK) < -size % TAR_BLOCK:
            raise TarError("its tar is cut in an extended header")
        return body


def _pairs(numbers: Sequence[int]) -> Segments:
    """Raises TarError where one is without its other."""
    if len(numbers) % 2 or len(numbers) > 2 * _MOST_SEGMENTS:
        raise TarError("the map of a sparse file is cut, or too long")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def sum_of_bytes(block: bytes) -> int:
    """Of a block of a tar: the low half of Adler-32 is one more, modulo 65521 (RFC 1950), which a half stays below."""
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def is_header(block: bytes) -> bool:
    """Whether a tar may begin so; the oldest, v7, has no magic."""
    with suppress(TarError):
        if len(block) == TAR_BLOCK:
            _check_sum(block)
            return True
    return False


def _check_sum(block: bytes) -> None:
    """Raises TarError unless the header adds up, its own field counted as blanks."""
    total = sum_of_bytes(block) - sum(block[148:156]) + 8 * 0x20
    try:
        wanted = _number(block[148:156])
    except TarError:
        wanted = -1
    # Some old tars add high bytes as negative numbers.
    if wanted != total and wanted != total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise TarError("it is not a tar, or damaged: a header's checksum is wrong")


@lru_cache(4096)
def _number(field: bytes) -> int:
    """A number in octal or base 256. Most fields of a tar repeat, so the last values are remembered."""
    if field[0] & 0x80:
        # GNU's numbers in base 256: the top bit marks them, the next one is the sign.
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise TarError(f"a number in its header, {field!r}, is malformed")
    return int(match[1] or b"0", 8)


def _device(block: bytes) -> tuple[int, int]:
    if block[257:262] != b"ustar":
        return 0, 0
    major, minor = _number(block[329:337]), _number(block[337:345])
    if not (0 <= major <= _MAX_MAJOR and 0 <= minor <= _MAX_MINOR):
        raise TarError(f"its device number {major}:{minor} is out of range")
    return major, minor


def _name(block: bytes) -> bytes:
    name = _field(block, 0, 100)
    if block[257:263] != b"ustar\0":
        return name
    # star keeps times where ustar has the end of its prefix.
    prefix = _field(block, 345, 131 if block[508:512] == b"tar\0" else 155)
    return prefix + b"/" + name if prefix else name


def _field(block: bytes, start: int, length: int) -> bytes:
    end = block.find(b"\0", start, start + length)
    return block[start : end if end >= 0 else start + length]
