"""index.json: read by the daemon's rules, held as its own bytes, edited by splicing.

Every descriptor keeps the bytes it has in the file, and so does what stands around them: an index that is read and
written unchanged is byte-identical, whatever wrote it, and unknown fields survive.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import msgspec

from .descriptors import Descriptor, parse_sound, sound_descriptor
from .documents import DESCRIPTOR, IMAGE_INDEX, Platform
from .errors import DocumentError
from .strict_json import Scanner, Struct, next_element
from .verdict import IndexOutcome, Verdict

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
            IMAGE_INDEX.fields["manifests"].read(scanner)
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
                DESCRIPTOR.read(scanner)
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


EMPTY_INDEX = (
    b'{\n  "schemaVersion": 2,\n  "mediaType": "application/vnd.oci.image.index.v1+json",\n  "manifests": []\n}\n'
)
_INDENT = re.compile(rb"\n([ \t]*)[^\n]*\[\Z")

Key = tuple[str, str | None]
"""Digest and format: what the daemon recalls an entry by."""
Placement = tuple[int, Descriptor, bytes | None]
"""Where an entry goes, and its gap: what stands before it, or after it among those at the very beginning."""


class NotUtf8Error(DocumentError):
    """The bytes are not UTF-8: the one fault for which the daemon refuses to start and leaves the file alone."""


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """An index the daemon would load: its descriptors in order, its lookups by hash table, its bytes."""

    layout: Layout
    descriptors: list[Descriptor]
    _by_format: dict[str | None, dict[str, Descriptor]] = field(repr=False)
    _by_name: dict[str | None, Descriptor] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes, previous: ImageIndex | None = None) -> ImageIndex:
        """Read an index; descriptors that ``previous`` has, byte for byte, are taken from there.

        Raises NotUtf8Error or DocumentError, with the place, where the daemon would not load it.
        """
        _check_utf8(data)
        pieces = Pieces(data, {} if previous is None else {d.raw: d for d in previous.descriptors})
        scanner = Scanner(data)
        _schema_with(pieces).read(scanner)
        scanner.end()
        head, tail = data[: pieces.start], data[pieces.end :]
        return cls._of(replace(pieces.layout, head=head, tail=tail), pieces.descriptors)

    @classmethod
    def empty(cls) -> ImageIndex:
        """The index the daemon writes where there is none."""
        return cls.parse(EMPTY_INDEX)

    @classmethod
    def _of(cls, layout: Layout, descriptors: list[Descriptor]) -> ImageIndex:
        by_format: dict[str | None, dict[str, Descriptor]] = {}
        for descriptor in reversed(descriptors):
            same_format = by_format.get(descriptor.format)
            if same_format is None:
                same_format = by_format[descriptor.format] = {}
            same_format[descriptor.digest] = descriptor
        return cls(layout, descriptors, by_format, {d.image_name: d for d in descriptors})

    def __len__(self) -> int:
        return len(self.descriptors)

    @property
    def digests(self) -> list[str]:
        return [d.digest for d in self.descriptors]

    @property
    def formats(self) -> list[str | None]:
        return [d.format for d in self.descriptors]

    @property
    def names(self) -> list[str | None]:
        return [d.image_name for d in self.descriptors]

    @property
    def references(self) -> list[str | None]:
        return [d.reference for d in self.descriptors]

    @property
    def platforms(self) -> list[Platform | None]:
        return [d.platform for d in self.descriptors]

    def by_key(self, digest: str, format: str | None) -> Descriptor | None:
        """The entry the daemon recalls: the first of that digest and format."""
        return self._by_format.get(format, {}).get(digest)

    def by_name(self, name: str) -> Descriptor | None:
        """The entry the daemon resolves: the last of that name."""
        return self._by_name.get(name)

    def to_bytes(self) -> bytes:
        layout, raws = self.layout, [d.raw for d in self.descriptors]
        if not raws:
            return b"".join((layout.head, layout.opening, layout.closing, layout.tail))
        raws[0] = layout.head + layout.opening + raws[0]
        raws[-1] += layout.closing + layout.tail
        if isinstance(layout.separators, bytes):
            return layout.separators.join(raws)
        return b"".join(piece for pair in zip((b"", *layout.separators), raws, strict=True) for piece in pair)

    def matches(self, data: bytes) -> bool:
        """Whether these bytes are this very index."""
        return self.to_bytes() == data

    def without(self, keys: Collection[Key]) -> ImageIndex:
        """The index less every entry of these digests and formats."""
        doomed = set(keys)
        if all(self.by_key(*key) is None for key in doomed):
            return self
        return self._keeping([i for i, d in enumerate(self.descriptors) if (d.digest, d.format) not in doomed])

    def without_at(self, positions: Collection[int]) -> ImageIndex:
        """The index less the entries at these positions."""
        doomed = set(positions)
        return self._keeping([i for i in range(len(self)) if i not in doomed]) if doomed else self

    def _keeping(self, kept: list[int]) -> ImageIndex:
        descriptors = [self.descriptors[i] for i in kept]
        layout = self.layout
        if not isinstance(layout.separators, bytes):
            layout = replace(layout, separators=tuple(layout.separators[i - 1] for i in kept[1:]))
        if not descriptors:
            layout = replace(layout, opening=b"", closing=b"")
        return self._of(layout, descriptors)

    def appended(self, descriptor: Descriptor) -> ImageIndex:
        """The index with a new entry at the end, which wins its name; its bytes are laid out like the others."""
        layout = self._roomy_layout()
        descriptor = msgspec.structs.replace(descriptor, raw=self.laid_out(descriptor.raw))
        if not isinstance(layout.separators, bytes):
            layout = replace(layout, separators=(*layout.separators, _default_separator(layout)))
        same_format = self._by_format.get(descriptor.format, {})
        first = {descriptor.digest: same_format.get(descriptor.digest, descriptor)}
        return ImageIndex(
            layout,
            [*self.descriptors, descriptor],
            {**self._by_format, descriptor.format: {**same_format, **first}},
            {**self._by_name, descriptor.image_name: descriptor},
        )

    def inserted(self, placed: Sequence[Placement]) -> ImageIndex:
        """The index with entries put in, verbatim, each before the entry that now has that position."""
        layout = self._roomy_layout()
        default = _default_separator(layout)
        descriptors: list[Descriptor] = []
        separators: list[bytes] = []
        for gap_after, descriptor, gap_before in self._woven(placed):
            if descriptors:
                separators.append(gap_after or gap_before or default)
            descriptors.append(descriptor)
        alike = len(set(separators)) <= 1
        return self._of(
            replace(layout, separators=(separators or [default])[0] if alike else tuple(separators)), descriptors
        )

    def _woven(self, placed: Sequence[Placement]) -> Iterator[tuple[bytes | None, Descriptor, bytes | None]]:
        """Old and new entries in order, each with what its predecessor wants after itself, and it before itself."""
        newcomers: dict[int, list[Placement]] = {}
        for one in placed:
            newcomers.setdefault(min(one[0], len(self)), []).append(one)
        gap_after: bytes | None = None
        for position in range(len(self) + 1):
            for _, descriptor, gap in newcomers.get(position, ()):
                yield gap_after, descriptor, gap
                gap_after = None if position else gap
            if position < len(self):
                yield gap_after, self.descriptors[position], self.gap(position - 1) if position else None
                gap_after = None

    def gap(self, position: int) -> bytes | None:
        """The comma and white space after the entry at a position; None after the last."""
        if not 0 <= position < len(self) - 1:
            return None
        separators = self.layout.separators
        return separators if isinstance(separators, bytes) else separators[position]

    def with_gaps(self, opening: bytes, closing: bytes) -> ImageIndex:
        """The same index with this white space inside its brackets."""
        return replace(self, layout=replace(self.layout, opening=opening, closing=closing))

    def laid_out(self, raw: bytes) -> bytes:
        """A descriptor's JSON, white space alone changed, as the others of this index are written."""
        return _laid_out(raw, self._roomy_layout().opening)

    def _roomy_layout(self) -> Layout:
        """The layout for at least one entry: empty brackets are opened as the head is indented."""
        layout = self.layout
        if self.descriptors:
            return layout
        indent = _INDENT.search(layout.head)
        if indent is None:
            return replace(layout, opening=b"", closing=b"", separators=b",")
        opening = b"\n" + indent[1] * 2
        return replace(layout, opening=opening, closing=b"\n" + indent[1], separators=b"," + opening)


def _default_separator(layout: Layout) -> bytes:
    if isinstance(layout.separators, bytes):
        return layout.separators
    common = Counter(layout.separators).most_common(1)
    return common[0][0] if common else b"," + layout.opening


def _laid_out(raw: bytes, opening: bytes) -> bytes:
    """A descriptor's JSON as the daemon's pretty printer writes it at this depth; compact in a compact index."""
    _, newline, indent = opening.rpartition(b"\n")
    if not newline:
        return msgspec.json.format(raw, indent=0)
    return msgspec.json.format(raw, indent=2).replace(b"\n", b"\n" + indent)


def _check_utf8(data: bytes) -> None:
    if data.isascii():
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise NotUtf8Error("stream did not contain valid UTF-8", line=line, column=column) from None


def _schema_with(pieces: Pieces) -> Struct:
    return replace(IMAGE_INDEX, fields={**IMAGE_INDEX.fields, "manifests": pieces})


def judge_index(data: bytes | None) -> IndexOutcome:
    """What the daemon would do with these bytes as index.json; None means that there is no file."""
    return examine_index(data)[0].outcome


def examine_index(data: bytes | None, previous: ImageIndex | None = None) -> tuple[Verdict, ImageIndex | None]:
    """The verdict, and the index where the daemon would load it; quicker where ``previous`` is much the same."""
    if data is None:
        return Verdict(IndexOutcome.CREATED), None
    try:
        index = ImageIndex.parse(data, previous)
    except NotUtf8Error as error:
        return Verdict(IndexOutcome.ERROR, 0, error.message, error.line, error.column), None
    except DocumentError as error:
        return Verdict(IndexOutcome.RESET, 0, error.message, error.line, error.column), None
    return Verdict(IndexOutcome.LOADED, len(index)), index
