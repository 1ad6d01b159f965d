"""The manifests array of an index taken apart: descriptors, and the bytes that stand around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from . import schema
from .descriptors import Descriptor, parse_sound, sound_descriptor
from .serde import next_element
from .serde_scanner import Scanner

# A descriptor ends at one of its first closing braces; those with more nested objects are read step by step.
_BRACES_TRIED = 6


@dataclass(frozen=True, slots=True)
class Layout:
    """The bytes around the descriptors; ``separators`` stand between them, one where all are alike."""

    head: bytes
    opening: bytes
    separators: bytes | tuple[bytes, ...]
    closing: bytes
    tail: bytes


# What the daemon's pretty printer writes between two descriptors, from the one's last line to the other's brace.
_PRETTY_OPENING, _PRETTY_END, _PRETTY_BETWEEN, _PRETTY_CLOSING = b"\n    ", b"\n    }", b",\n    ", b"\n  "


class Pieces:
    """The manifests array as a type for the strict reader: it takes the array apart without walking each descriptor.

    After `read`, ``descriptors`` holds its elements, ``layout`` the white space and commas among them, and
    ``start`` and ``end`` the offsets just inside its brackets.
    """

    def __init__(self, data: bytes, known: dict[bytes, Descriptor]) -> None:
        self._data = data
        self._known = known
        self.descriptors: list[Descriptor] = []
        self.layout = Layout(b"", b"", b",", b"", b"")
        self.start = self.end = 0

    def read(self, scanner: Scanner) -> None:
        if scanner.peek_value() != b"[":
            schema.IMAGE_INDEX.fields["manifests"].read(scanner)
        self.start = scanner.at + 1
        if not self._read_pretty():
            self._read_stepwise(scanner)
        scanner.at = self.end + 1

    def _read_pretty(self) -> bool:
        """Take the array apart where it is laid out as the daemon does; False where it is not, or one is unsound.

        A string holds no line break, so the text between two descriptors is found wherever it stands; that each
        piece reads as a whole object proves that it stood between two.
        """
        data, start = self._data, self.start + len(_PRETTY_OPENING)
        if not data.startswith(_PRETTY_OPENING, self.start):
            return False
        last = data.find(_PRETTY_END + _PRETTY_CLOSING + b"]", start) + len(_PRETTY_END)
        if last < start or data.find(b"\\", start, last) >= 0:
            return False
        self.end = last + len(_PRETTY_CLOSING)
        raws = _cut(data, start, last)
        parsed = self._with_known(raws) if self._known else parse_sound(raws, data.count(b'"', start, last))
        if parsed is None:
            return False
        self.layout = Layout(b"", _PRETTY_OPENING, _PRETTY_BETWEEN, _PRETTY_CLOSING, b"")
        self.descriptors = parsed
        return True

    def _with_known(self, raws: list[bytes]) -> list[Descriptor] | None:
        found = [self._known.get(raw) for raw in raws]
        if None in found:
            found = [known or sound_descriptor(raw) for known, raw in zip(found, raws, strict=True)]
        return None if None in found else cast(list[Descriptor], found)

    def _read_stepwise(self, scanner: Scanner) -> None:
        """Take the array apart element by element, where it is broken or spaced unevenly."""
        data, parsed, gaps = self._data, list[Descriptor](), list[bytes]()
        scanner.at = before = self.start
        while next_element(scanner, first=not parsed):
            scanner.peek()
            start = scanner.at
            descriptor = _whole_descriptor(data, start)
            if descriptor is None:
                schema.DESCRIPTOR.read(scanner)
                descriptor = Descriptor.parse(data[start : scanner.at])
            scanner.at = start + len(descriptor.raw)
            gaps.append(data[before:start])
            parsed.append(descriptor)
            before = scanner.at
        self.end = scanner.at
        closing = data[before : self.end]
        alike = len(set(gaps[1:])) <= 1
        separators = (gaps[1] if len(gaps) > 1 else b",") if alike else tuple(gaps[1:])
        self.layout = Layout(b"", gaps[0] if gaps else b"", separators, closing, b"")
        self.descriptors = parsed


def _cut(data: bytes, start: int, last: int) -> list[bytes]:
    """The text from ``start`` to ``last``, cut between what ends and begins as descriptors do."""
    pieces: list[bytes] = []
    append, find, between = pieces.append, data.find, _PRETTY_END + _PRETTY_BETWEEN
    brace, gap = len(_PRETTY_END), len(between)
    while (end := find(between, start, last)) >= 0:
        append(data[start : end + brace])
        start = end + gap
    append(data[start:last])
    return pieces


def _whole_descriptor(data: bytes, start: int) -> Descriptor | None:
    """The descriptor that begins here, if it is a sound object with few braces; cheaper than reading it strictly."""
    end = start
    for _ in range(_BRACES_TRIED):
        end = data.find(b"}", end) + 1
        if not end:
            return None
        if descriptor := sound_descriptor(data[start:end]):
            return descriptor
    return None
