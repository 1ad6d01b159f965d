"""Headers of the tar that a packer reads: ustar, with a PAX header before it where ustar has no room (tar(5))."""

from __future__ import annotations

from .tar_headers import BLOCK, Kind, Xattrs

END = bytes(2 * BLOCK)
"""What ends a tar."""

_NAME_ROOM = 100
_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777
_SUM = slice(148, 156)


def header(
    name: bytes,
    kind: int,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Xattrs = (),
) -> bytes:
    """All that stands before an entry's bytes. The time is one that ustar has room for."""
    if not needs_pax(name, uid, gid, size, link, xattrs):
        return _block(name, kind, mode, uid, gid, size, mtime, link, device)
    body = b"".join(_records(name, uid, gid, size, link, xattrs))
    before = _block(b"PaxHeaders/" + name[-80:], ord("x"), 0o644, 0, 0, len(body), mtime, b"", (0, 0))
    plain = _block(
        name[-_NAME_ROOM:],
        kind,
        mode,
        uid if uid <= _MAX_OCTAL_ID else 0,
        gid if gid <= _MAX_OCTAL_ID else 0,
        size if size <= _MAX_OCTAL_SIZE else 0,
        mtime,
        link[:_NAME_ROOM],
        device,
    )
    return before + body + bytes(padding(len(body))) + plain


def needs_pax(name: bytes, uid: int, gid: int, size: int, link: bytes, xattrs: Xattrs) -> bool:
    """Whether an entry's header is longer than one block."""
    return (
        len(name) > _NAME_ROOM
        or len(link) > _NAME_ROOM
        or uid > _MAX_OCTAL_ID
        or gid > _MAX_OCTAL_ID
        or size > _MAX_OCTAL_SIZE
        or bool(xattrs)
    )


def padding(size: int) -> int:
    """The zeros after so many bytes."""
    return -size % BLOCK


def _block(
    name: bytes, kind: int, mode: int, uid: int, gid: int, size: int, mtime: int, link: bytes, device: tuple[int, int]
) -> bytes:
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:148] = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    block[_SUM] = b"        "
    block[156] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\00000"
    if kind in (Kind.CHARACTER, Kind.BLOCK):
        block[329:345] = b"%07o\0%07o\0" % device
    block[_SUM] = b"%06o\0 " % sum(block.translate(None, b"\0"))
    return bytes(block)


def _records(name: bytes, uid: int, gid: int, size: int, link: bytes, xattrs: Xattrs) -> list[bytes]:
    # Names that are not UTF-8 stand as they are: every packer takes the bytes, and none knows "hdrcharset".
    records = [
        *([_record(b"path", name)] if len(name) > _NAME_ROOM else []),
        *([_record(b"linkpath", link)] if len(link) > _NAME_ROOM else []),
        *([_record(b"uid", b"%d" % uid)] if uid > _MAX_OCTAL_ID else []),
        *([_record(b"gid", b"%d" % gid)] if gid > _MAX_OCTAL_ID else []),
        *([_record(b"size", b"%d" % size)] if size > _MAX_OCTAL_SIZE else []),
    ]
    return records + [_record(b"SCHILY.xattr." + key, value) for key, value in xattrs]


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``; the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
