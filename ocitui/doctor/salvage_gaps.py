"""What of a broken index is no descriptor: the frame of the index, or a gap, and what can still be read in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

import msgspec

from ocitui.cache import ANNOTATION_IMAGE_NAME, IndexOutcome, examine_index

_SPACE = b" \t\r\n"
_SEPARATOR = _SPACE + b","
_NULS = re.compile(rb"\x00{16,}+")
_MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16, little-endian"), (b"\xfe\xff", "UTF-16, big-endian"))
_STRING = rb'[ \t\r\n]*+:[ \t\r\n]*+("[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")'
_DIGESTS = re.compile(rb'"digest"' + _STRING)
_NAMES = re.compile(b'"' + re.escape(ANNOTATION_IMAGE_NAME.encode()) + b'"' + _STRING)
_FRAME_BEGINNING = b'{"schemaVersion":2,"manifests":['
_FRAME_END = re.compile(rb"[ \t\r\n]*+\][ \t\r\n]*+\}[ \t\r\n]*+")
_FRAME_KEYS = re.compile(rb'"(?:schemaVersion|manifests)"')
_NOTHING = "bytes that are no descriptor"
_LONGEST_FRAME = 1 << 16
_MOST_HINTS = 1000

Part = tuple[int, int]
"""From one offset to another."""


class Gap(msgspec.Struct, frozen=True):
    """Bytes that were not salvaged, and what they are. ``digests`` and ``names`` can be read in them, in order: hints,
    as nothing says that they belong together. Offset and length in bytes."""

    offset: int
    length: int
    what: str
    digests: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def readable(piece: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The digests and the image names that can be read in a piece of an index, each once, in order."""
    return _strings(_DIGESTS, piece), _strings(_NAMES, piece)


def between(size: int, taken: Iterable[Part]) -> list[Part]:
    """What is left of ``size`` bytes around the parts that were taken, in order; parts of no length too."""
    left: list[Part] = []
    at = 0
    for start, end in taken:
        left.append((at, start))
        at = end
    return [*left, (at, size)]


def find_gaps(data: bytes, left: list[Part]) -> list[Gap]:
    """The gaps in what is left of a text, as `between` gives it."""
    first, *middle = left
    last = middle.pop() if middle else (len(data), len(data))
    if _fits(_piece(data, first) + _piece(data, last)):
        framed: list[Gap] = []
    else:
        framed = [*_head_gaps(data, *first), *_tail_gaps(data, *last)]
    return sorted([*framed, *(gap for part in middle for gap in _plain_gaps(data, *part))], key=_by_offset)


def _by_offset(gap: Gap) -> int:
    return gap.offset


def _piece(data: bytes, part: Part) -> bytes:
    """A part of the text; too long a one is cut, as no frame is so long."""
    return data[part[0] : min(part[1], part[0] + _LONGEST_FRAME)]


def _fits(frame: bytes) -> bool:
    """Whether the daemon would load an index with this around its descriptors."""
    return examine_index(frame)[0].outcome is IndexOutcome.LOADED


def _head_gaps(data: bytes, start: int, end: int) -> list[Gap]:
    for mark, name in _MARKS:
        if data.startswith(mark, start):
            return [Gap(start, len(mark), f"a byte order mark ({name})"), *_head_gaps(data, start + len(mark), end)]
    head = _piece(data, (start, end))
    if _fits(head) or _fits(head + b"]}"):
        return []
    gaps = list(_plain_gaps(data, start, end))
    if len(gaps) != 1 or gaps[0].digests or gaps[0].names or _FRAME_KEYS.search(head) is None:
        return gaps
    reason = examine_index(head + b"]}")[0].message
    return [msgspec.structs.replace(gaps[0], what=f"the beginning of the index: {reason}")]


def _tail_gaps(data: bytes, start: int, end: int) -> list[Gap]:
    tail = _piece(data, (start, end))
    if _fits(_FRAME_BEGINNING + tail):
        return []
    if _fits(_FRAME_BEGINNING + tail.lstrip(_SEPARATOR)):
        return [Gap(data.index(b",", start), 1, "a trailing comma")]
    closing = _FRAME_END.match(data, start, end)
    gaps = list(_plain_gaps(data, closing.end() if closing else start, end))
    if closing:
        return [_named(gap, "bytes after the end of the index") for gap in gaps]
    if len(gaps) != 1 or not tail.lstrip(_SEPARATOR).startswith(b"]"):
        return gaps
    return [_named(gaps[0], f"the end of the index: {examine_index(_FRAME_BEGINNING + tail)[0].message}")]


def _named(gap: Gap, what: str) -> Gap:
    """The gap under a better name, unless a part of a descriptor is in it, or only NULs."""
    return msgspec.structs.replace(gap, what=what) if gap.what == _NOTHING else gap


def _plain_gaps(data: bytes, start: int, end: int) -> Iterator[Gap]:
    """The gaps in a part, runs of NUL apart from what stands around them."""
    at = start
    for nuls in _NULS.finditer(data, start, end):
        yield from _stripped(data, at, nuls.start())
        yield Gap(nuls.start(), nuls.end() - nuls.start(), "NUL bytes")
        at = nuls.end()
    yield from _stripped(data, at, end)


def _stripped(data: bytes, start: int, end: int) -> Iterator[Gap]:
    """One gap, without the commas and white space that would stand between descriptors anyway."""
    piece = data[start:end].strip(_SEPARATOR)
    if piece:
        at = data.index(piece[:1], start)
        digests, names = readable(piece)
        part = bool(digests or names) or b'"mediaType"' in piece
        what = "part of a descriptor" if part else _NOTHING
        yield Gap(at, len(piece), what, digests, names)


def _strings(pattern: re.Pattern[bytes], piece: bytes) -> tuple[str, ...]:
    """The strings that a pattern finds, each once, in order."""
    found: dict[str, None] = {}
    for match in islice(pattern.finditer(piece), _MOST_HINTS):
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            found[msgspec.json.decode(match[1], type=str)] = None
    return tuple(found)
