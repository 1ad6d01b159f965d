"""PAX extended headers: what they change of the entry that follows (tar(5), "Pax Interchange Format")."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from .layer_errors import LayerError

Xattrs = tuple[tuple[bytes, bytes], ...]

_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_TIME = re.compile(rb"(-?[0-9]{1,20})(?:\.[0-9]*)?")


@dataclass(slots=True)
class PaxHeader:
    """What a PAX header says; None where it leaves the plain header's word."""

    path: bytes | None = None
    link: bytes | None = None
    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime: int | None = None
    schily: dict[bytes, bytes] = field(default_factory=dict)
    libarchive: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def xattrs(self) -> Xattrs:
        """Sorted by name. libarchive writes each one in two spellings; SCHILY's is the plainer."""
        return tuple(sorted({**self.libarchive, **self.schily}.items()))


def parse_pax(data: bytes) -> PaxHeader:
    """The records of a PAX header. Raises LayerError where they are malformed, or say that the file is sparse."""
    header = PaxHeader()
    at = 0
    while at < len(data):
        key, value, at = _record(data, at)
        _apply(header, key, value)
    return header


def _record(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    """``LENGTH KEY=VALUE\\n``, the length counting all of it."""
    space = data.find(b" ", at, at + 20)
    digits = data[at:space]
    if space < 0 or not _NUMBER.fullmatch(digits):
        raise LayerError("its PAX header is malformed")
    end = at + int(digits)
    if end > len(data) or end <= space + 2 or data[end - 1] != 0x0A:
        raise LayerError("its PAX header is malformed")
    key, equals, value = data[space + 1 : end - 1].partition(b"=")
    if not equals or not key:
        raise LayerError("its PAX header is malformed")
    return key, value, end


def _apply(header: PaxHeader, key: bytes, value: bytes) -> None:
    if key.startswith(_SCHILY):
        header.schily[_xattr_name(key.removeprefix(_SCHILY))] = value
    elif key.startswith(_LIBARCHIVE):
        name, decoded = _decode_libarchive(key.removeprefix(_LIBARCHIVE), value)
        header.libarchive[name] = decoded
    elif key.startswith(_SPARSE):
        raise LayerError("sparse files are not supported (PAX GNU.sparse)")
    elif value:
        # An empty value takes a record back, so that the plain header's word counts.
        _apply_field(header, key, value)


def _apply_field(header: PaxHeader, key: bytes, value: bytes) -> None:
    if key == b"path":
        header.path = _text(value, "path")
    elif key == b"linkpath":
        header.link = _text(value, "linkpath")
    elif key == b"size":
        header.size = _number(value, "size")
    elif key == b"uid":
        header.uid = _number(value, "uid")
    elif key == b"gid":
        header.gid = _number(value, "gid")
    elif key == b"mtime":
        match = _TIME.fullmatch(value)
        if match is None:
            raise LayerError(f"its PAX mtime {value[:40]!r} is not a time")
        header.mtime = int(match[1])


def _text(value: bytes, what: str) -> bytes:
    if b"\0" in value:
        raise LayerError(f"its PAX {what} holds a NUL")
    return value


def _number(value: bytes, what: str) -> int:
    if not _NUMBER.fullmatch(value):
        raise LayerError(f"its PAX {what} {value[:40]!r} is not a number")
    return int(value)


def _xattr_name(name: bytes) -> bytes:
    if not name or b"\0" in name or len(name) > 255:
        raise LayerError(f"an extended attribute's name {name[:60]!r} is not one")
    return name


def _decode_libarchive(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """libarchive writes names as in URLs, and values in base64 without its padding."""
    try:
        return _xattr_name(unquote_to_bytes(name)), base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise LayerError(f"its extended attribute {name[:60]!r} is not in base64") from error
