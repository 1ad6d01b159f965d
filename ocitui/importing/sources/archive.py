"""Archives that hold an image: plain tars are read in place, compressed ones as a stream.

A compressed archive is passed over once to see what it holds, its documents kept in memory (bounded), and once more
when its layers are wanted.
"""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from isal import igzip, igzip_lib

from ocitui.threads import Stop

from ..errors import UnreadableSourceError
from .base import open_regular
from .image_documents import LARGEST_CONFIG

BLOCK = 512
_LARGEST_EXTENSION = 1 << 20
_MOST_MEMBERS = 200_000
_MOST_NAMES = 32 << 20  # characters, of all members
_FILES = frozenset(b"0\x007")
_LINKS = frozenset(b"12")
_HARD_LINK = ord("1")
_PAX, _LONG_NAME, _LONG_LINK = ord("x"), ord("L"), ord("K")


class Stream(Protocol):
    """A tar from its start to its end."""

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end."""

    def skip(self, size: int) -> None:
        """Pass over so many bytes. Raises UnreadableSourceError where there are fewer."""

    @property
    def position(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A file or a link of the archive; ``link`` is the name it stands for, as names are in the archive."""

    name: str
    offset: int
    size: int
    link: str | None = None


def read_members(stream: Stream) -> Iterator[Member]:
    """The members in order; the stream stands at a file's first byte, and who takes it may read but not past it.

    Raises UnreadableSourceError where this is no tar, or one that is cut.
    """
    count = named = 0
    extensions: dict[str, str] = {}
    while (header := _header(stream)) is not None:
        count += 1
        if count > _MOST_MEMBERS:
            raise UnreadableSourceError(f"the archive has more than {_MOST_MEMBERS} members: it holds no image")
        kind, size = header[156], _number(header[124:136])
        if kind in (_PAX, _LONG_NAME, _LONG_LINK):
            extensions |= _extension(kind, _body(stream, size))
            continue
        size = 0 if kind in _LINKS else int(extensions.get("size", size))
        end = stream.position + size + -size % BLOCK
        member = _member(header, kind, stream.position, size, extensions)
        extensions = {}
        if member is not None:
            named += len(member.name) + len(member.link or "")
            if named > _MOST_NAMES:
                raise UnreadableSourceError("the archive's names are too long: it holds no image")
            yield member
        stream.skip(end - stream.position)


def clean(name: str) -> str | None:
    """A name as the archive's members are looked up by: without `./` and a leading slash; None where it leads out."""
    name = posixpath.normpath(name.lstrip("/") or ".")
    return None if name == "." or name.split("/", 1)[0] == ".." else name


def _header(stream: Stream) -> bytes | None:
    """The next header; None at the end: a block of zeros, or no block at all."""
    header = stream.read(BLOCK)
    if not header.strip(b"\0") and len(header) in (0, BLOCK):
        return None
    if len(header) < BLOCK:
        raise UnreadableSourceError("the archive is cut in the middle of a header")
    checksum = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    if checksum != _number(header[148:156]):
        raise UnreadableSourceError("this is no tar, or it is damaged: a header's checksum is wrong")
    return header


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        number = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else _base_256(field)
    else:
        digits = field.split(b"\0", 1)[0].strip() or b"0"
        number = int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else -1
    if number < 0:
        raise UnreadableSourceError("this is no tar, or it is damaged: a header holds a number that is none")
    return number


def _base_256(field: bytes) -> int:
    return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")


def _body(stream: Stream, size: int) -> bytes:
    if size > _LARGEST_EXTENSION:
        raise UnreadableSourceError(f"the archive has a name or an extended header of {size} bytes")
    body = stream.read(size)
    if len(body) < size:
        raise UnreadableSourceError("the archive is cut in the middle of a header")
    stream.skip(-size % BLOCK)
    return body


def _extension(kind: int, body: bytes) -> dict[str, str]:
    if kind == _PAX:
        return _pax(body)
    text = body.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    return {"path" if kind == _LONG_NAME else "linkpath": text}


def _pax(body: bytes) -> dict[str, str]:
    """Records of `LENGTH KEY=VALUE\\n`, the length counting all of it."""
    records = {}
    while body:
        length, _, _ = body.partition(b" ")
        end = int(length) if length.isdigit() and len(length) < 9 else 0
        key, equals, value = body[len(length) + 1 : end - 1].partition(b"=")
        if not equals or not 0 < end <= len(body) or (key == b"size" and not (value.isdigit() and len(value) < 20)):
            raise UnreadableSourceError("the archive has an extended header that is damaged")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        body = body[end:]
    return {key: value for key, value in records.items() if key in ("path", "linkpath", "size")}


def _member(header: bytes, kind: int, offset: int, size: int, extensions: dict[str, str]) -> Member | None:
    name = clean(extensions.get("path") or _name(header))
    if name is None:
        return None
    if kind in _FILES:
        return Member(name, offset, size)
    if kind in _LINKS:
        target = extensions.get("linkpath") or _text(header[157:257])
        if kind != _HARD_LINK and not target.startswith("/"):
            target = posixpath.join(posixpath.dirname(name), target)
        return Member(name, offset, 0, clean(target) or "")
    return None


def _name(header: bytes) -> str:
    name = _text(header[0:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Take = Callable[[Member, Stream], None]
"""Called where the stream stands at a wanted member's first byte; it may read the member."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# Its stub calls it an instance.
_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)
_CHUNK = 1 << 20
_START = 4
_MOST_LINKS = 16
# What is kept of a compressed archive: every document of a sound one fits.
_MOST_KEPT = 64 << 20


class _Plain:
    """A tar that is a file: skipping costs nothing."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    @property
    def position(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def skip(self, size: int) -> None:
        if self.position + size > self._size:
            raise UnreadableSourceError("the archive is cut")
        self._file.seek(size, 1)


class _Forward:
    """A tar that comes out of a decompressor."""

    def __init__(self, file: IO[bytes], stop: Stop) -> None:
        self._file = file
        self._stop = stop
        self.position = 0

    def read(self, size: int) -> bytes:
        self._stop.check()
        data = self._file.read(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        while size > 0:
            data = self.read(min(size, _CHUNK))
            if not data:
                raise UnreadableSourceError("the archive is cut")
            size -= len(data)


class Archive:
    """What an archive holds, by name; where a name comes twice, the last counts."""

    def __init__(self, path: Path, compressed: bool) -> None:
        self.path = path
        self.compressed = compressed
        self._members: dict[str, Member] = {}
        self._kept: dict[str, bytes] = {}
        self._starts: dict[str, bytes] = {}

    @classmethod
    def read(cls, path: Path, stop: Stop) -> Archive:
        """Look through an archive. Raises UnreadableSourceError; AbandonedError once ``stop`` is set."""
        with opened(path, stop) as (stream, compressed):
            archive = cls(path, compressed)
            kept = 0
            for member in read_members(stream):
                stop.check()
                archive._members[member.name] = member
                archive._kept.pop(member.name, None)
                if compressed and kept + member.size <= _MOST_KEPT:
                    kept += archive._keep(member, stream)
        if not archive._members:
            raise UnreadableSourceError(f"{path} holds no file")
        return archive

    def _keep(self, member: Member, stream: Stream) -> int:
        """Keep a file's first bytes, and all of one that may be a document: it begins with a brace or bracket."""
        if member.link is not None or not member.size:
            return 0
        start = self._starts[member.name] = stream.read(min(_START, member.size))
        if start[:1] not in (b"{", b"[") or member.size > LARGEST_CONFIG:
            return 0
        self._kept[member.name] = start + stream.read(member.size - len(start))
        return member.size

    def find(self, name: str) -> Member | None:
        """The file of that name, links followed; None where there is none."""
        found = self._members.get(clean(name) or "")
        for _ in range(_MOST_LINKS):
            if found is None or found.link is None:
                return found
            found = self._members.get(found.link)
        return None

    def bytes_of(self, name: str, largest: int) -> bytes | None:
        """A document's bytes; None where it is not there. Raises UnreadableSourceError for one that is too large."""
        member = self.find(name)
        if member is None:
            return None
        if member.size > largest:
            raise UnreadableSourceError(f"{name} in {self.path} has {member.size} bytes, too many for a document")
        if self.compressed:
            kept = self._kept.get(member.name)
            if kept is None:
                raise UnreadableSourceError(f"{name} in {self.path} is no JSON document")
            return kept
        with _reading(self.path), open_regular(self.path) as file:
            file.seek(member.offset)
            return file.read(member.size)

    def start_of(self, member: Member) -> bytes:
        """The first bytes of a file. Raises UnreadableSourceError."""
        if self.compressed:
            return self._starts.get(member.name, b"")
        with _reading(self.path), open_regular(self.path) as file:
            file.seek(member.offset)
            return file.read(min(_START, member.size))

    def pass_over(self, wanted: set[Member], take: Take, stop: Stop) -> None:
        """Go through the archive once, and ``take`` each wanted member. Raises as `read` does, and what it raises."""
        with opened(self.path, stop) as (stream, _):
            for member in read_members(stream):
                if member in wanted:
                    take(member, stream)


@contextmanager
def opened(path: Path, stop: Stop) -> Iterator[tuple[Stream, bool]]:
    """The archive as a tar, and whether it is compressed: by its first bytes, whatever it is called."""
    with _reading(path), ExitStack() as stack:
        file = stack.enter_context(open_regular(path))
        start = file.read(4)
        size = file.seek(0, 2)
        file.seek(0)
        if start.startswith(_GZIP):
            yield _Forward(stack.enter_context(_gunzip(file)), stop), True
        elif start == _ZSTD:
            yield _Forward(cast("IO[bytes]", stack.enter_context(zstd.open(file, "rb"))), stop), True
        else:
            yield _Plain(file, size), False


def _gunzip(file: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", igzip.open(file, "rb"))  # type: ignore[no-untyped-call]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say what cannot be read, and why. Raises UnreadableSourceError."""
    try:
        yield
    except UnreadableSourceError as error:
        if str(path) in error.message:
            raise
        raise UnreadableSourceError(f"{path}: {error.message}", hint=error.hint) from error
    except (EOFError, _ISAL_ERROR, zstd.ZstdError, igzip.BadGzipFile) as error:
        raise UnreadableSourceError(f"{path} cannot be decompressed: {error}") from error
    except OSError as error:
        raise UnreadableSourceError(f"cannot read {path}: {error.strerror or error}") from error
