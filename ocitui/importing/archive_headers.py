"""The headers of a tar that holds an image: names, places and sizes of its members, nothing of what is in them.

POSIX ustar with PAX (pax(1)) and GNU's long names. Such a tar holds a few files with plain names; all that a layer may
hold besides is passed over. What is read into memory is bounded, whatever a header claims.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from .source_errors import UnreadableSourceError

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
