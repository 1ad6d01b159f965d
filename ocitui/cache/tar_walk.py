"""A walk over a tar's headers, as tar(5) has them: every checksum, every length, and the two zero blocks at the end.

`tarfile` stops without a word at a bad header, so it cannot tell a whole archive from a broken one.
"""

from __future__ import annotations

import re
from typing import BinaryIO

BLOCK = 512
_ZERO = bytes(BLOCK)
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_TYPE = 156
# Links, devices, directories and pipes have no body, whatever their size field says.
_BODILESS = frozenset(b"123456")
_PAX, _PAX_GLOBAL, _OLD_SPARSE = ord("x"), ord("g"), ord("S")
_LONGEST_PAX = 1 << 24
_MOST_DIGITS = 20  # more than any file's size has; int() refuses thousands
_PAX_RECORD = re.compile(rb"(\d{1,9}) ")


def begins_as_tar(head: bytes) -> bool:
    """Whether the first block is a header with the right checksum."""
    return len(head) >= BLOCK and _header_problem(head[:BLOCK]) is None


def tar_problem(file: BinaryIO, size: int) -> str | None:
    """Why a tar of ``size`` bytes is not whole, None where it is. Raises OSError."""
    at, pax_size = 0, None
    while True:
        file.seek(at)
        header = file.read(BLOCK)
        if len(header) < BLOCK:
            return f"it is cut short: it ends at byte {at + len(header)} without two zero blocks"
        if header == _ZERO:
            return None if file.read(BLOCK) == _ZERO else f"the zero block at byte {at} is followed by no second one"
        problem = _header_problem(header)
        if problem is not None:
            return f"the header at byte {at}: {problem}"
        at += BLOCK * (1 + _sparse_maps(file, header))
        kind, length = header[_TYPE], _number(header[_SIZE])
        if length is None or length < 0:
            return f"the header before byte {at} has no valid size"
        if kind == _PAX:
            if length > _LONGEST_PAX:
                return f"the extended header before byte {at} has {length} bytes"
            pax_size = _pax_size(file.read(length))
        elif kind != _PAX_GLOBAL and chr(kind) not in "LK":
            length = 0 if kind in _BODILESS else length if pax_size is None else pax_size
            pax_size = None
        if at + length > size:
            return f"it is cut short: {size} bytes, and the file whose body begins at byte {at} has {length}"
        at += -(-length // BLOCK) * BLOCK


def _header_problem(header: bytes) -> str | None:
    if header == _ZERO:
        return "a zero block"
    wanted = _number(header[_CHECKSUM])
    unsigned = sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")
    # Old archivers summed the bytes as signed characters.
    signed = unsigned - 256 * sum(byte > 127 for byte in (*header[:148], *header[156:]))
    return None if wanted in (unsigned, signed) else "its checksum is wrong"


def _number(field: bytes) -> int | None:
    """A number in octal digits, or in base 256 where the first bit says so."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.partition(b"\0")[0].strip()
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return None


def _pax_size(body: bytes) -> int | None:
    """The size an extended header gives, which overrules the header's; its records are ``LENGTH KEY=VALUE\\n``."""
    at, size = 0, None
    while found := _PAX_RECORD.match(body, at):
        length = int(found[1])
        key, _, value = body[found.end() : at + length - 1].partition(b"=")
        if key == b"size" and value.isdigit():
            size = int(value.lstrip(b"0")[:_MOST_DIGITS] or b"0")
        at += max(length, 1)
    return size


def _sparse_maps(file: BinaryIO, header: bytes) -> int:
    """How many further blocks the map of an old GNU sparse file takes."""
    more, count = header[_TYPE] == _OLD_SPARSE and header[482], 0
    while more:
        block = file.read(BLOCK)
        count += 1
        more = len(block) == BLOCK and block[504]
    return count
