"""A manifest or config laid out over lines, as both front ends show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import accumulate

import msgspec

from ocitui.text import human_size

DOCUMENT_CHUNK = 1 << 18  # One step in C takes a few milliseconds at most, so that the event loop gets its turn.
Alive = Callable[[], bool]

_INDENT = 2
_ALWAYS_FINE = 4 << 20
_GROWTH = 6
_DEEPEST = 1000  # msgspec refuses more.
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
# A closing bracket counts 0, a comma 1, an opening bracket 2: their sum less their number is the depth.
_STRUCTURE = bytes.maketrans(b"]},[{", b"\0\0\1\2\2")
_OTHER = bytes(set(range(256)) - set(b"]},[{"))


class SupersededError(Exception):
    """Nobody waits for this document any more."""


class NotIndentedError(Exception):
    """The document can be read but not laid out; the text says why."""


def indent_document(raw: bytes, alive: Alive) -> bytes:
    """``raw`` over lines; order, repeated keys and numbers stay as written. Raises msgspec.DecodeError where it is not
    JSON, NotIndentedError where it could not be shown laid out."""
    size = indented_size(raw, alive) if len(raw) * _DEEPEST > _ALWAYS_FINE else 0
    fits = size <= max(_ALWAYS_FINE, _GROWTH * len(raw))
    try:
        formatted = msgspec.json.format(raw, indent=_INDENT if fits else -1)
    except RecursionError:
        raise NotIndentedError("it is nested too deeply to be laid out over lines") from None
    if not fits:  # Only what is JSON comes this far.
        raise NotIndentedError(f"laid out over lines it would take {human_size(size)}")
    return formatted


def indented_size(raw: bytes, alive: Alive) -> int:
    """About how many bytes ``raw`` takes when laid out, never much less; it need not be JSON."""
    spaces = depth = 0
    for text in _outside_strings(raw, alive):
        structure = text.translate(_STRUCTURE, _OTHER)
        count = len(structure)
        depths = sum(accumulate(structure)) - count * (count + 1) // 2 + count * depth
        spaces += count + _INDENT * max(depths, 0)
        depth += sum(structure) - count
    return len(raw) + spaces


def _outside_strings(raw: bytes, alive: Alive) -> Iterator[bytes]:
    inside = 0
    for chunk in _chunks_between_escapes(raw, alive):
        parts = (_ESCAPE.sub(b"", chunk) if b"\\" in chunk else chunk).split(b'"')
        yield b" ".join(parts[inside::2])
        inside = (inside + len(parts) - 1) % 2


def _chunks_between_escapes(raw: bytes, alive: Alive) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        check_wanted(alive)
        chunk = raw[start : start + DOCUMENT_CHUNK]
        if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
            chunk = raw[start : start + len(chunk) + 1]
        yield chunk
        start += len(chunk)


def check_wanted(alive: Alive) -> None:
    """Raises SupersededError once nobody waits any more."""
    if not alive():
        raise SupersededError
