"""squashfs to be read: opened, and made so that every field of it can be bent; nothing in that is compressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ocitui.contents.squashfs import squashfs_tree
from ocitui.contents.tree import PackedTree
from ocitui.threads import Stop

NONE, NO_TABLE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
DIRECTORY, FILE, LINK, DEVICE = 1, 2, 3, 5
_SUPER = "<4s4I6H8Q"
_FIELDS = (
    *("magic", "inodes", "made", "block_size", "fragment_count", "compressor", "block_log", "flags", "ids", "major"),
    *("minor", "root", "used", "ids_at", "xattrs_at", "inodes_at", "listings_at", "fragments_at", "exports_at"),
)


@contextmanager
def opened(path: Path) -> Iterator[PackedTree]:
    with open(path, "rb", buffering=0) as packed:
        yield squashfs_tree(packed, Stop())


class Member(NamedTuple):
    """A name of the root directory; ``form`` and ``number`` are what its listing says of the inode."""

    name: bytes
    form: int
    inode: bytes
    number: int = 0
    reference: int | None = None


def head(form: int, number: int, mode: int = 0o644) -> bytes:
    return struct.pack("<4H2I", form, mode, 0, 0, 1_700_000_000, number)


def file(number: int, size: int, *words: int, start: int = 96, fragment: int = NONE, offset: int = 0) -> bytes:
    return head(2, number) + struct.pack(f"<{4 + len(words)}I", start, fragment, offset, size, *words)


def long_file(number: int, size: int, *words: int, start: int = 96, xattrs: int = NONE) -> bytes:
    fields = struct.pack("<3Q4I", start, size, 0, 1, NONE, 0, xattrs)
    return head(9, number) + fields + struct.pack(f"<{len(words)}I", *words)


def link(number: int, target: bytes, size: int | None = None) -> bytes:
    return head(3, number) + struct.pack("<2I", 1, len(target) if size is None else size) + target


def directory(number: int, size: int, start: int = 0, offset: int = 0) -> bytes:
    return head(1, number, 0o755) + struct.pack("<2I2HI", start, 2, size + 3, offset, 1)


def listing(members: Sequence[tuple[bytes, int, int, int]], claimed: int | None = None) -> bytes:
    """Of names with their forms, numbers and references."""
    made = b""
    for name, form, number, reference in members:
        made += struct.pack("<3I", 0 if claimed is None else claimed, reference >> 16, number)
        made += struct.pack("<HhHH", reference & 0xFFFF, 0, form, len(name) - 1) + name
    return made


def metadata(content: bytes) -> bytes:
    parts = [content[at : at + 8192] for at in range(0, len(content), 8192)]
    return b"".join(struct.pack("<H", len(part) | 0x8000) + part for part in parts)


def xattr(kind: int, name: bytes, value: bytes, size: int | None = None) -> bytes:
    return struct.pack("<HH", kind, len(name)) + name + struct.pack("<I", len(value) if size is None else size) + value


def made(
    *members: Member,
    data: bytes = b"",
    listed: bytes | None = None,
    beside: bytes = b"",
    fragments: Sequence[tuple[int, int]] = (),
    xattrs: tuple[bytes, Sequence[tuple[int, int]]] | None = None,
    **bent: Any,
) -> bytes:
    """An image whose root holds these; ``listed`` stands in place of its listing, ``beside`` behind it. ``fragments``
    are places and sizes, ``xattrs`` a table and the places and counts in it; ``bent`` fields of the superblock."""
    inodes, named = bytearray(32), []
    for number, member in enumerate(members, 2):
        block, offset = divmod(len(inodes), 8192)
        reference = block * 8194 << 16 | offset if member.reference is None else member.reference
        named.append((member.name, member.form, member.number or number, reference))
        inodes += member.inode
    own = listing(named) if listed is None else listed
    inodes[:32] = directory(1, len(own))
    image = bytearray(96) + data
    fields: dict[str, Any] = dict(zip(_FIELDS, (b"hsqs", 0, 0, 1 << 17, len(fragments), 1, 17, 0, 1, 4), strict=False))
    fields.update(minor=0, root=0, inodes_at=len(image), exports_at=NO_TABLE, fragments_at=NO_TABLE, xattrs_at=NO_TABLE)

    def add(content: bytes, index_head: bytes = b"") -> int:
        nonlocal image
        blocks = range(len(image), len(image) + len(content), 8192)
        image += metadata(content)
        at = len(image)
        image += index_head + b"".join(struct.pack("<Q", block + 2 * i) for i, block in enumerate(blocks))
        return at

    image += metadata(bytes(inodes))
    fields["listings_at"] = len(image)
    image += metadata(own + beside)
    if fragments:
        fields["fragments_at"] = add(b"".join(struct.pack("<QII", *place, 0) for place in fragments))
    fields["ids_at"] = add(bytes(4))
    if xattrs:
        table, places = xattrs
        start = len(image)
        image += metadata(table)
        rows = b"".join(struct.pack("<QII", place, count, 0) for place, count in places)
        fields["xattrs_at"] = add(rows, struct.pack("<QII", start, len(places), 0))
    fields["used"] = len(image)
    fields.update(bent)
    struct.pack_into(_SUPER, image, 0, *(fields[field] for field in _FIELDS))
    return bytes(image) + bytes(-len(image) % 4096)
