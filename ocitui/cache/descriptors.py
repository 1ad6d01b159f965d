"""Descriptors of the index: one by one, and all of them as columns.

A cache may hold 100,000, so they are decoded by the hundred and kept field by field. msgspec takes a repeated key,
which the daemon refuses: the quotes in the text are counted, and where one is left over they are read singly.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate, chain, islice, pairwise
from operator import eq
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

import msgspec

from . import documents
from .documents import DESCRIPTOR, I64, Platform, read_strictly
from .errors import DocumentError
from .files import FileKind, file_names, known_format, usable_digest
from .strict_json import Scanner, next_element

if TYPE_CHECKING:
    from .names import ImageName

ANNOTATION_IMAGE_NAME = "io.containerd.image.name"
ANNOTATION_PACKED_FORMAT = "dev.krata.oci.packer.format"
ANNOTATION_REFERENCE = "org.opencontainers.image.ref.name"

_UNSET = msgspec.UNSET
_ABSENT = msgspec.Raw()
_NO_ANNOTATIONS: dict[str, str] = {}
# The daemon writes a descriptor's fields in this order; annotations go in where it would put them.
_BEFORE_ANNOTATIONS = ("mediaType", "digest", "size", "urls")


class _Entry(msgspec.Struct, rename="camel", gc=False, omit_defaults=True):
    """What the daemon reads of a descriptor; UNSET is absent, None null. Equal platforms are read once."""

    media_type: str
    digest: str
    size: I64
    annotations: dict[str, str] | msgspec.UnsetType | None = _UNSET
    platform: msgspec.Raw = _ABSENT
    urls: list[str] | msgspec.UnsetType | None = _UNSET
    artifact_type: str | msgspec.UnsetType | None = _UNSET
    data: str | msgspec.UnsetType | None = _UNSET


class _UsualAnnotations(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The daemon's own annotations and no other."""

    name: str | None = msgspec.field(name=ANNOTATION_IMAGE_NAME, default=None)
    format: str | None = msgspec.field(name=ANNOTATION_PACKED_FORMAT, default=None)
    reference: str | None = msgspec.field(name=ANNOTATION_REFERENCE, default=None)


class _UsualEntry(msgspec.Struct, rename="camel", gc=False, forbid_unknown_fields=True):
    """A descriptor as the daemon writes it."""

    media_type: str
    digest: str
    size: I64
    annotations: _UsualAnnotations
    platform: msgspec.Raw = _ABSENT


# Built here, before there are threads: msgspec crashes when two of them decode a type for the first time together.
_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_entries = msgspec.json.Decoder(list[_Entry]).decode
_decode_usual = msgspec.json.Decoder(list[_UsualEntry]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_anything, _encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
# How much text is decoded at once, in bytes; at the least, where something in it is odd.
_BLOCK, _SMALLEST_BLOCK = 49_152, 512
# After so many descriptors another block begins.
_FULL_BLOCK = 64
_FEW = 16
SPACES = b" \t\r\n"
# Where a descriptor most probably ends and another begins.
_CUT = re.compile(rb',[ \t\r\n]*+\{[ \t\r\n]*+"')


class Descriptor(msgspec.Struct, frozen=True, gc=False):
    """One descriptor of the index: what lookups need, and its bytes as they stand in the file. ``image_name``,
    ``format`` and ``reference`` are its three annotations, None where absent, as is ``platform``."""

    raw: bytes
    digest: str
    size: int
    media_type: str
    image_name: str | None
    format: str | None
    reference: str | None
    platform: Platform | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Descriptor:
        """Read one descriptor's JSON. Raises DocumentError where the daemon's types refuse it."""
        return sound_descriptor(raw) or _strictly_read(raw, read_strictly(raw, DESCRIPTOR))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Descriptor:
        """A descriptor of decoded JSON, unknown fields kept, in order. Raises DocumentError."""
        try:
            return cls.parse(_encode(fields))
        except (TypeError, ValueError, RecursionError) as error:
            raise DocumentError(f"the descriptor is not JSON: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """The descriptor as decoded JSON, unknown fields kept, in order."""
        with suppress(ValueError, RecursionError):
            if isinstance(fields := _decode_anything(self.raw), dict):
                return fields
        return read_strictly(self.raw, DESCRIPTOR)

    @property
    def annotations(self) -> dict[str, str]:
        """All annotations; empty when there are none."""
        return self.as_dict().get("annotations") or {}

    @property
    def key(self) -> tuple[str, str | None]:
        """The digest and format it is recalled by."""
        return self.digest, self.format

    @property
    def identity(self) -> tuple[str, str | None, str | None]:
        """The digest, format and name that tell it from other entries."""
        return self.digest, self.format, self.image_name

    @property
    def files(self) -> dict[FileKind, str]:
        """The names of its entry's three files; empty where no lookup can reach any."""
        known = known_format(self.format)
        return {} if known is None or not usable_digest(self.digest) else file_names(self.digest, known)

    @property
    def packed_file(self) -> str:
        """The name of its packed file; empty where it can have none."""
        return self.files.get(FileKind.PACKED, "")

    def with_annotations(self, changes: dict[str, str]) -> Descriptor:
        """The same descriptor with these annotations set, unknown fields and order kept."""
        fields = self.as_dict()
        annotations = {**(fields.get("annotations") or {}), **changes}
        if "annotations" in fields:
            return self.from_dict({**fields, "annotations": annotations})
        first = {key: value for key, value in fields.items() if key in _BEFORE_ANNOTATIONS}
        return self.from_dict({**first, "annotations": annotations, **fields})

    def __hash__(self) -> int:
        # A platform may have lists, which have none.
        return hash(self.raw)


def name_annotations(name: ImageName) -> dict[str, str]:
    """The annotations by which the daemon stores a name."""
    reference = {} if name.reference is None else {ANNOTATION_REFERENCE: name.reference}
    return {ANNOTATION_IMAGE_NAME: str(name), **reference}


def sound_descriptor(raw: bytes) -> Descriptor | None:
    """The descriptor, if msgspec reads it as serde is sure to; None where only the strict reader can tell."""
    entry = documents.read_surely(raw, _decode_entry)
    if entry is None or (entry.size == 0 and b"-0" in raw):
        return None
    try:
        platform, _ = _read_platform(bytes(entry.platform))
    except DocumentError:
        return None
    return _make(raw, entry.digest, entry.size, entry.media_type, entry.annotations or _NO_ANNOTATIONS, platform)


def _strictly_read(raw: bytes, fields: dict[str, Any]) -> Descriptor:
    """The descriptor of these bytes, by its fields as the strict reader read them."""
    annotations, platform = fields.get("annotations") or _NO_ANNOTATIONS, fields.get("platform")
    typed = None if platform is None else Platform(**platform)
    return _make(raw, fields["digest"], fields["size"], fields["mediaType"], annotations, typed)


def _make(
    raw: bytes, digest: str, size: int, media_type: str, annotations: dict[str, str], platform: Platform | None
) -> Descriptor:
    get = annotations.get
    name, format_ = get(ANNOTATION_IMAGE_NAME), get(ANNOTATION_PACKED_FORMAT)
    return Descriptor(raw, digest, size, media_type, name, format_, get(ANNOTATION_REFERENCE), platform)


@lru_cache(1024)
def _read_platform(raw: bytes) -> tuple[Platform | None, int]:
    """The platform of a descriptor, and how many quotes it and its key take up. Raises DocumentError."""
    if not raw:
        return None, 0
    fields = None if raw == b"null" else read_strictly(raw, documents.PLATFORM)
    return None if fields is None else Platform(**fields), documents.structural_quotes(raw) + 2


V = TypeVar("V")


class Unchanged(NamedTuple):
    """What of the descriptors of an index stands in other bytes as it did: those before ``beginning``, and those from
    ``end`` on, which begin at the offset ``start``, -1 where there are none."""

    beginning: int
    end: int
    start: int


class Columns(Sequence[Descriptor]):
    """The descriptors of an index in order, each made when it is asked for; held field by field, equal values shared.
    ``data`` is the text of the whole index, of which ``first`` and ``last`` are the offsets just inside the brackets of
    their array. ``blocks`` are the positions of those at which a block of it begins, and ``offsets`` where that is.
    Until it is asked for, the text may be in two ``parts``: most of an older one, and what follows that."""

    def __init__(self, data: bytes = b"", first: int = 0) -> None:
        self.parts: tuple[bytes | memoryview, bytes] = b"", data
        self.first, self.last = first, first
        self.digests: list[str] = []
        self.sizes = array("q")
        self.media_types: list[str] = []
        self.names: list[str | None] = []
        self.formats: list[str | None] = []
        self.references: list[str | None] = []
        self.platforms: list[Platform | None] = []
        self.blocks: list[int] = []
        self.offsets: list[int] = []
        self._apart: dict[int, list[tuple[int, bytes]]] = {}

    def __len__(self) -> int:
        return len(self.digests)

    @overload
    def __getitem__(self, at: int) -> Descriptor: ...

    @overload
    def __getitem__(self, at: slice) -> list[Descriptor]: ...

    def __getitem__(self, at: int | slice) -> Descriptor | list[Descriptor]:
        if isinstance(at, int):
            position = range(len(self))[at]
            return next(self.made(position, position + 1))
        start, stop, step = at.indices(len(self))
        return list(self.made(start, stop)) if step == 1 else [self[at] for at in range(start, stop, step)]

    def __iter__(self) -> Iterator[Descriptor]:
        return self.made(0, len(self))

    def at(self, positions: Sequence[int]) -> ChosenDescriptors:
        """Those at some positions, which ascend."""
        return ChosenDescriptors(self, positions)

    @property
    def data(self) -> bytes:
        beginning, rest = self.parts
        if beginning:
            rest = b"".join((beginning, rest))
            self.parts = b"", rest
        return rest

    def text(self, start: int, stop: int | None = None) -> list[memoryview]:
        """The text between two offsets, to the end where there is no second, as the parts that it lies in."""
        beginning, rest = self.parts
        seam = len(beginning)
        behind = slice(max(0, start - seam), None if stop is None else max(0, stop - seam))
        return [*filter(None, (memoryview(beginning)[start:stop], memoryview(rest)[behind]))]

    def lists(self) -> tuple[list[Any] | array[int], ...]:
        """The columns in the order of a descriptor's fields."""
        annotations = self.names, self.formats, self.references
        return self.digests, self.sizes, self.media_types, *annotations, self.platforms

    def made(self, start: int, stop: int) -> Iterator[Descriptor]:
        """The descriptors from ``start`` to ``stop``."""
        if start < stop:
            number = self._block_of(start)
            blocks = map(self._take_apart, range(number, len(self.blocks)))
            raws = islice(chain.from_iterable(blocks), start - self.blocks[number], None)
            rows = zip(*(column[start:stop] for column in self.lists()), strict=True)
            for row, (_, raw) in zip(rows, raws, strict=False):
                yield Descriptor(raw, *row)

    def located(self, position: int) -> tuple[int, bytes]:
        """The offset of a descriptor, and its bytes."""
        number = self._block_of(position)
        return self._take_apart(number)[position - self.blocks[number]]

    def start(self, position: int) -> int:
        """The offset at which a descriptor begins."""
        number = self._block_of(position)
        return self.offsets[number] if self.blocks[number] == position else self.located(position)[0]

    def end(self, position: int) -> int:
        """The offset at which a descriptor ends."""
        if position == len(self) - 1:
            # Only white space is between the last one and the bracket.
            return self.offsets[-1] + len(b"".join(self.text(self.offsets[-1], self.last)).rstrip(SPACES))
        start, raw = self.located(position)
        return start + len(raw)

    def _block_of(self, position: int) -> int:
        return bisect_right(self.blocks, position) - 1

    def _take_apart(self, number: int) -> list[tuple[int, bytes]]:
        """The offset and the bytes of each descriptor of a block."""
        found = self._apart.get(number)
        if found is None:
            start, end = [*self.offsets[number : number + 2], self.last][:2]
            text, found, at = b"[%b]" % b"".join(self.text(start, end)).rstrip(SPACES + b","), [], 1
            try:
                for raw in map(bytes, _decode_raws(text)):
                    at = text.find(raw[:1], at)
                    found.append((start + at - 1, raw))
                    at += len(raw)
            except (ValueError, RecursionError):
                # One has a text that is no Unicode, and that the daemon ignores.
                scanner = Scanner(text, 1)
                while next_element(scanner, first=not found):
                    scanner.peek()
                    at = scanner.at
                    DESCRIPTOR.read(scanner)
                    found.append((start + at - 1, text[at : scanner.at]))
            # The first and the last are asked for in turn where something is appended.
            if len(self._apart) > 1:
                self._apart.clear()
            self._apart[number] = found
        return found

    def unchanged(self, data: bytes, start: int, end: int) -> Unchanged:
        """What of them, block by block, stands in other bytes, whose descriptors are from ``start`` to ``end``."""
        texts = [*pairwise([*self.offsets, self.last])]

        def stands(number: int, moved: int) -> bool:
            first, last = texts[number]
            return least <= first + moved and data.startswith(self.data[first:last], first + moved)

        moved, least, beginning, stop = start - self.offsets[0], start, 0, len(texts)
        while beginning < len(texts) - 1 and stands(beginning, moved):
            beginning += 1
        least, moved = self.offsets[beginning] + moved, end - self.last
        while stop > beginning and stands(stop - 1, moved):
            stop -= 1
        positions = [*self.blocks, len(self)]
        return Unchanged(positions[beginning], positions[stop], self.offsets[stop] + moved if stop < len(texts) else -1)

    def append(self, descriptor: Descriptor, offset: int) -> None:
        """Append a descriptor that stands at ``offset``."""
        self.begin(offset)
        for column, value in zip(self.lists(), msgspec.structs.astuple(descriptor)[1:], strict=True):
            column.append(value)

    def extend(self, other: Columns, *ranges: tuple[int, int, int]) -> None:
        """Append ranges of another, ascending: from where, to where, and by how many bytes its text was moved."""
        beginnings = [start for start, _, _ in ranges]
        ends = [*accumulate((stop - start for start, stop, _ in ranges), initial=len(self))]
        for position, offset in zip(other.blocks, other.offsets, strict=True):
            at = bisect_right(beginnings, position) - 1
            if at >= 0 and position < ranges[at][1]:
                self.blocks.append(ends[at] + position - beginnings[at])
                self.offsets.append(offset + ranges[at][2])
        for column, values in zip(self.lists(), other.lists(), strict=True):
            for start, stop, _ in ranges:
                column.extend(values if stop - start == len(values) else values[start:stop])

    def read(self, text: bytes, offset: int) -> bool:
        """Append the descriptors of a list in JSON that is UTF-8 and not empty; the first stands at ``offset``. False,
        and nothing appended, where only the strict reader can tell what the daemon reads."""
        try:
            read = _read_usual(text) or _read_any(text)
        except (ValueError, RecursionError, DocumentError):
            read = None
        if read is None:
            return False
        entries, sizes, (names, formats, references), platforms = read
        self.begin(offset)
        self.digests += [entry.digest for entry in entries]
        self.sizes.fromlist(sizes)
        self.media_types += _shared([entry.media_type for entry in entries])
        self.names += names
        self.formats += _shared(formats)
        self.references += _shared(references)
        self.platforms += platforms
        return True

    def begin(self, offset: int) -> None:
        """Begin a block with the next descriptor, if the last one is full."""
        if not self.blocks or len(self) - self.blocks[-1] >= _FULL_BLOCK:
            self.blocks.append(len(self))
            self.offsets.append(offset)


class ChosenDescriptors(Sequence[Descriptor]):
    """Some of an index's descriptors, which are not made before they are asked for."""

    def __init__(self, columns: Columns, positions: Sequence[int]) -> None:
        self._columns, self._positions = columns, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, at: int) -> Descriptor: ...

    @overload
    def __getitem__(self, at: slice) -> ChosenDescriptors: ...

    def __getitem__(self, at: int | slice) -> Descriptor | ChosenDescriptors:
        if isinstance(at, int):
            return self._columns[self._positions[at]]
        return ChosenDescriptors(self._columns, self._positions[at])

    def __iter__(self) -> Iterator[Descriptor]:
        # Each run of them is made at once.
        start, positions = 0, self._positions
        for end in range(1, len(positions) + 1):
            if end == len(positions) or positions[end] != positions[end - 1] + 1:
                yield from self._columns.made(positions[start], positions[end - 1] + 1)
                start = end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChosenDescriptors) and len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))


_Read = tuple[Sequence[_Entry | _UsualEntry], list[int], tuple[list[str | None], ...], list[Platform | None]]
"""Entries; and their sizes, annotations and platforms as columns."""


def _read_usual(text: bytes) -> _Read | None:
    try:
        entries = _decode_usual(text)
    except ValueError:
        return None
    given = [entry.annotations for entry in entries]
    annotations = [one.name for one in given], [one.format for one in given], [one.reference for one in given]
    platforms, quotes = _read_platforms(entries)
    quotes += 24 * len(entries)
    if not all(map(all, annotations)):
        quotes -= 4 * sum(value is None for values in annotations for value in values)
    sizes = [entry.size for entry in entries]
    sure = documents.structural_quotes(text) == quotes and (all(sizes) or b"-0" not in text)
    return (entries, sizes, annotations, platforms) if sure else None


def _read_any(text: bytes) -> _Read | None:
    entries = _decode_entries(text)
    given = [entry.annotations for entry in entries]
    annotations = [one or _NO_ANNOTATIONS for one in given]
    platforms, quotes = _read_platforms(entries)
    quotes += 12 * len(entries) - 2 * given.count(_UNSET) + 4 * sum(map(len, annotations))
    sizes = [entry.size for entry in entries]
    if documents.structural_quotes(text) != quotes or not all(sizes):
        # One is odd, or has what was not counted.
        for entry, raw in zip(entries, map(bytes, _decode_raws(text)), strict=True):
            if not documents.accounts_for(entry, raw) or (not entry.size and b"-0" in raw):
                return None
    keys = (ANNOTATION_IMAGE_NAME, ANNOTATION_PACKED_FORMAT, ANNOTATION_REFERENCE)
    return entries, sizes, tuple([one.get(key) for one in annotations] for key in keys), platforms


def _read_platforms(entries: Sequence[_Entry | _UsualEntry]) -> tuple[list[Platform | None], int]:
    """The platforms, and how many quotes they and their keys take up. Raises DocumentError."""
    texts = [entry.platform for entry in entries]
    if not any(texts):
        return [None] * len(entries), 0
    read = [_read_platform(bytes(text)) for text in texts]
    return [platform for platform, _ in read], sum([quotes for _, quotes in read])


def _shared(values: list[V]) -> list[V]:
    """The same values, equal ones as one object; unless the first few tell that hardly any are equal."""
    if values.count(values[0]) == len(values):
        return values[:1] * len(values)
    few = values[:_FEW]
    if len(set(few)) == len(few) == _FEW:
        return values
    distinct = dict(zip(values, values, strict=True))
    return [distinct[value] for value in values]


class DescriptorArray:
    """The manifests array as a type for the strict reader: after `read`, ``columns`` hold its descriptors.
    It is decoded by the block: that each block of its text is a list of its own proves that it was cut between two
    descriptors. Where a block is not decoded for sure, smaller ones are, until what is odd is read alone. What stands
    at the beginning and at the end as it did in ``previous`` is taken from there."""

    def __init__(self, previous: Columns | None) -> None:
        self._previous = previous
        self.columns = Columns()

    def read(self, scanner: Scanner) -> None:
        if scanner.peek_value() != b"[":
            documents.IMAGE_INDEX.fields["manifests"].read(scanner)
        scanner.at += 1
        self.columns = Columns(scanner.data, scanner.at)
        if next_element(scanner, first=True):
            self._read_elements(scanner)
        self.columns.last = scanner.at
        scanner.at += 1

    def _read_elements(self, scanner: Scanner) -> None:
        data, previous = scanner.data, self._previous
        # The array's end, unless another bracket follows it: then the last block is no list, and it is found singly.
        end = max(data.rfind(b"]"), 0) or len(data)
        if previous:
            same = previous.unchanged(data, scanner.at, end)
            if same.beginning and not self._keep_beginning(scanner, previous, same.beginning):
                return
            if same.start >= scanner.at and end < len(data):
                comma = data.rfind(b",", scanner.at, same.start)
                if not self._decode(scanner, comma, same.start):
                    return
                if scanner.at == same.start:
                    moved, scanner.at = end - previous.last, end
                    self.columns.extend(previous, (same.end, len(previous), moved))
                    return
        self._decode(scanner, end, len(data) + 1)

    def _keep_beginning(self, scanner: Scanner, previous: Columns, stop: int) -> bool:
        """Take over the descriptors before ``stop``; False where the array ends behind them."""
        moved = scanner.at - previous.offsets[0]
        self.columns.extend(previous, (0, stop, moved))
        # What separates them from the next one is read again: another may follow, or none.
        start, raw = previous.located(stop - 1)
        scanner.at = moved + start + len(raw)
        return next_element(scanner, first=False)

    def _decode(self, scanner: Scanner, limit: int, until: int) -> bool:
        """Read descriptors until one begins at ``until`` or later; False at the array's end. It may be at ``limit``."""
        view, size, suspect, uncut = memoryview(scanner.data), _BLOCK, 0, 0
        while scanner.at < until:
            start = scanner.at
            stop = None if start < uncut else _find_cut(scanner.data, start, size, limit)
            if stop is not None and self.columns.read(b"".join((b"[", view[start:stop], b"]")), start):
                size, scanner.at = size if stop < suspect else min(8 * size, _BLOCK), stop
            elif stop is not None and size > _SMALLEST_BLOCK:
                size, suspect = size // 8, stop
                continue
            else:
                if stop is None:
                    # Nor is there a cut for long: none of this is written as objects are, or it is very large.
                    uncut = max(uncut, start + size + _BLOCK)
                fields = DESCRIPTOR.read(scanner)
                self.columns.append(_strictly_read(scanner.data[start : scanner.at], fields), start)
            if not next_element(scanner, first=False):
                return False
        return True


def _find_cut(data: bytes, start: int, size: int, limit: int) -> int | None:
    """Where a descriptor seems to end, ``size`` bytes behind ``start`` or later; None where none does for long."""
    most = start + size + _BLOCK
    if cut := _CUT.search(data, start + size, min(limit, most)):
        return cut.start()
    return limit if start < limit <= most else None
