"""Every whole descriptor of a broken index, in order, and what was lost where; entries as the files alone tell them.

A descriptor is taken, as its bytes are, where they hold it as a whole object in the list of entries, as far as that
can still be told; one written as an array only where the list can be followed up to it. What the daemon's types refuse
is told apart, verbatim; everything else is a gap. What stands behind the end of a whole index, as after a shorter text
was written over a longer one, is stale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    ANNOTATION_REFERENCE,
    MANIFEST_PLACE,
    PLACE_OF_SUFFIX,
    ROW_WIDTH,
    CacheError,
    Descriptor,
    Document,
    ImageConfiguration,
    ImageManifest,
    ImageName,
    IndexOutcome,
    PackedFormat,
    config_name,
    examine_index,
    manifest_name,
    name_annotations,
)
from ocitui.importing import describe, describe_image, manifest_type

from ..check.entry_checks import Described, has_digest, read_document
from ..check.index_checks import IndexReading
from ..check.judge import Judge
from ..findings import Severity, seen_text
from .scan import Salvaged, Scan

T = TypeVar("T")
_SEPARATOR = b" \t\r\n,"
_NULS = re.compile(rb"\x00{16,}+")
_STRING = rb'[ \t\r\n]*+:[ \t\r\n]*+("[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")'
_DIGESTS = re.compile(rb'"digest"' + _STRING)
_NAMES = re.compile(b'"' + re.escape(ANNOTATION_IMAGE_NAME.encode()) + b'"' + _STRING)
_FRAME_BEGINNING = b'{"schemaVersion":2,"manifests":['
_FRAME_END = re.compile(rb"[ \t\r\n]*+\][ \t\r\n]*+\}[ \t\r\n]*+")
_LONGEST_FRAME = 1 << 16
_MOST_HINTS = 1000

Part = tuple[int, int]
"""From one offset to another."""


class Gap(msgspec.Struct, frozen=True):
    """Bytes that were not salvaged. ``digests`` and ``names`` can be read in them, in order: hints, as nothing says
    that they belong together. Offset and length in bytes."""

    offset: int
    length: int
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
    first, *parts = left
    last = parts.pop() if parts else (len(data), len(data))
    head, tail = _piece(data, first), _piece(data, last)
    if not _fits(head + tail):
        if not _fits(head) and not _fits(head + b"]}"):
            parts.insert(0, first)
        if not _fits(_FRAME_BEGINNING + tail):
            closing = _FRAME_END.match(data, *last)
            parts.append((closing.end(), last[1]) if closing else last)
    # What stands between descriptors anyway is none.
    odd = (part for part in parts if data[slice(*part)].strip(_SEPARATOR))
    return [gap for part in odd for gap in _gaps_in(data, *part)]


def _piece(data: bytes, part: Part) -> bytes:
    """A part of the text; too long a one is cut, as no frame is so long."""
    return data[part[0] : min(part[1], part[0] + _LONGEST_FRAME)]


def _fits(frame: bytes) -> bool:
    """Whether the daemon would load an index with this around its descriptors."""
    return examine_index(frame)[0].outcome is IndexOutcome.LOADED


def _gaps_in(data: bytes, start: int, end: int) -> Iterator[Gap]:
    """The gaps in a part, runs of NUL apart from what stands around them."""
    at = start
    for nuls in _NULS.finditer(data, start, end):
        yield from _stripped(data, at, nuls.start())
        yield Gap(nuls.start(), nuls.end() - nuls.start())
        at = nuls.end()
    yield from _stripped(data, at, end)


def _stripped(data: bytes, start: int, end: int) -> Iterator[Gap]:
    """One gap, without the commas and white space around it."""
    if piece := data[start:end].strip(_SEPARATOR):
        yield Gap(data.index(piece[:1], start), len(piece), *readable(piece))


_decode_text = msgspec.json.Decoder(str).decode


def _strings(pattern: re.Pattern[bytes], piece: bytes) -> tuple[str, ...]:
    """The strings that a pattern finds, each once, in order."""
    found: dict[str, None] = {}
    for match in islice(pattern.finditer(piece), _MOST_HINTS):
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            found[_decode_text(match[1])] = None
    return tuple(found)


_SMALLEST = 16
# Of the characters of an index nearly all are ASCII, and so every second byte of it is NUL; a hole has NULs at both.
_SHARE = 0.3
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class Utf16Text(msgspec.Struct, frozen=True):
    """UTF-16 in broken bytes from ``start`` on: ``data`` is the same text in UTF-8, a lone surrogate as itself."""

    data: bytes
    start: int

    @classmethod
    def find(cls, data: bytes, start: int, end: int) -> Utf16Text | None:
        """The text from ``start`` to ``end``, None where that is not UTF-16."""
        if end - start < _SMALLEST:
            return None
        here, next_ = data[start:end:2].count(0), data[start + 1 : end : 2].count(0)
        if abs(here - next_) < _SHARE * (end - start) / 2:
            return None
        encoding = _BYTE_ORDER_MARKS.get(data[start : start + 2])
        if encoding is not None:
            start += 2
        elif here > next_:
            encoding = "utf-16-be"
        else:
            encoding = "utf-16-le"
        end -= (end - start) % 2
        text = data[start:end].decode(encoding, "surrogatepass")
        return cls(text.encode("utf-8", "surrogatepass"), start)

    def originals(self, offsets: Iterable[int]) -> dict[int, int]:
        """Where in the broken bytes the characters at these offsets of ``data`` stand."""
        places: dict[int, int] = {}
        seen, place = 0, self.start
        for offset in sorted(offsets):
            text = self.data[seen:offset].decode("utf-8", "surrogatepass")
            place += 2 * (len(text) + sum(character > "\uffff" for character in text))
            places[offset] = place
            seen = offset
        return places


class Salvage(msgspec.Struct, frozen=True):
    """What was salvaged from ``size`` bytes, in the order of the file, and the gaps."""

    size: int
    items: tuple[Salvaged, ...]
    gaps: tuple[Gap, ...]

    @property
    def sound(self) -> list[Salvaged]:
        """What the daemon's types accept."""
        return [item for item in self.items if item.descriptor is not None]

    @property
    def refused(self) -> list[Salvaged]:
        """What the daemon's types refuse, for which it would drop the whole index."""
        return [item for item in self.items if item.descriptor is None]

    @property
    def descriptors(self) -> list[Descriptor]:
        """The sound descriptors in the order of an index: the stale ones first, as far as no other has the same
        digest, format and name, so that they win no name from a newer one."""
        current = [item.descriptor for item in self.items if item.descriptor is not None and not item.stale]
        stale = [item.descriptor for item in self.items if item.descriptor is not None and item.stale]
        if not stale:
            return current
        known = {descriptor.identity for descriptor in current}
        return [descriptor for descriptor in stale if descriptor.identity not in known] + current


Piece = TypeVar("Piece", Salvaged, Gap)


def salvage_entries(data: bytes, known: Iterable[Descriptor] = ()) -> Salvage:
    """Search the bytes of an index, whatever they are; the time grows with their length. Never raises. ``known`` are
    descriptors of sound indexes: one that stands here too is held once."""
    items, gaps, left = _search(data, Scan(data, {one.raw: one for one in known}))
    for at, part in enumerate(left):
        if (text := Utf16Text.find(data, *part)) is not None:
            left[at] = (part[0], part[0])
            more_items, more_gaps = _search_utf16(text)
            items += more_items
            gaps += more_gaps
    gaps += find_gaps(data, left)
    offset = attrgetter("offset")
    return Salvage(len(data), tuple(sorted(items, key=offset)), tuple(sorted(gaps, key=offset)))


def _search(data: bytes, found: Scan) -> tuple[list[Salvaged], list[Gap], list[Part]]:
    """What was found in a text, and the parts of it that are left."""
    gaps = []
    for start, end in found.elsewhere:
        one = Descriptor.parse(data[start:end])
        gaps.append(Gap(start, end - start, (one.digest,), (one.image_name,) if one.image_name else ()))
    taken = sorted([*((item.offset, item.offset + item.length) for item in found.found), *found.elsewhere])
    return found.found, gaps, between(len(data), taken)


def _search_utf16(text: Utf16Text) -> tuple[list[Salvaged], list[Gap]]:
    """What is found in a text, at its offsets in the broken bytes."""
    items, gaps, left = _search(text.data, Scan(text.data))
    gaps += find_gaps(text.data, left)
    parts = [*((one.offset, one.length) for one in items), *((one.offset, one.length) for one in gaps)]
    places = text.originals({edge for offset, length in parts for edge in (offset, offset + length)})
    return [_moved(item, places) for item in items], [_moved(gap, places) for gap in gaps]


def _moved(piece: Piece, places: dict[int, int]) -> Piece:
    offset = places[piece.offset]
    return msgspec.structs.replace(piece, offset=offset, length=places[piece.offset + piece.length] - offset)


# Entries as the files alone tell them: all but the name, which stands in the index only. What is wrong with the files,
# the judge says. What a document says of a name is a hint: a builder wrote it, and the daemon never looks at it.

# The most telling first: a whole name, a tag or a name, a title.
_HINTS = (ANNOTATION_IMAGE_NAME, ANNOTATION_REFERENCE, "org.opencontainers.image.title")


class NameHint(msgspec.Struct, frozen=True):
    """What the image may have been called; ``source`` is where that stands."""

    text: str
    source: str


class Told(msgspec.Struct, frozen=True):
    """What an entry's documents tell: the ``descriptor`` that the daemon would have written, without a name, if any."""

    descriptor: Descriptor | None = None
    hints: tuple[NameHint, ...] = ()


class Statement(NamedTuple):
    """What a source says of an entry: its size in bytes, its media type, its platform (empty: it does not say)."""

    size: int
    media_type: str
    platform: str

    @classmethod
    def by(cls, descriptor: Descriptor) -> Statement:
        return cls(descriptor.size, descriptor.media_type, str(descriptor.platform) if descriptor.platform else "")


_WORDS = {format_: format_.value for format_ in PackedFormat}


@lru_cache(1024)
def _texts(described: Described) -> tuple[str, str]:
    """The media type and the platform."""
    return manifest_type(described.manifest_type, described.config_type), str(described.platform)


class FoundEntry(msgspec.Struct, frozen=True, gc=False):
    """A packed file and its documents. ``problems`` are why the entry is not complete and sound. ``manifest_size`` is
    in bytes, ``modified`` and ``manifest_modified`` are the files' mtimes in seconds since the epoch (None: there is no
    manifest), ``changed_ns`` is when the packed file came to its place, in nanoseconds. The documents are read by
    ``read`` when somebody asks what they tell beside what the judge ``described``."""

    digest: str
    format: PackedFormat
    problems: tuple[str, ...]
    modified: float
    manifest_modified: float | None
    read: Callable[[str, PackedFormat], Told]
    changed_ns: int = 0
    manifest_size: int = 0
    described: Described | None = None
    known: Told | None = None

    @property
    def told(self) -> Told:
        """What the documents tell, as they are when this is first asked."""
        known = self.known or self.read(self.digest, self.format)
        msgspec.structs.force_setattr(self, "known", known)
        return known

    @property
    def descriptor(self) -> Descriptor | None:
        """The one that the daemon would have written, without a name; None where the documents do not tell."""
        if self.described is None:
            return self.told.descriptor
        annotations = {ANNOTATION_PACKED_FORMAT: self.format.value}
        media_type = manifest_type(self.described.manifest_type, self.described.config_type)
        return describe(self.digest, media_type, self.manifest_size, self.described.platform, annotations)

    @property
    def said(self) -> Statement | None:
        """What is in the descriptor, without reading the documents again."""
        if self.described is None:
            return Statement.by(self.descriptor) if self.descriptor is not None else None
        return Statement(self.manifest_size, *_texts(self.described))

    @property
    def sound(self) -> bool:
        return not self.problems

    @property
    def key(self) -> tuple[str, str]:
        """The digest and format it is recalled by."""
        return self.digest, _WORDS[self.format]

    def named(self, name: ImageName) -> Descriptor | None:
        """The descriptor under a name that the operator gives."""
        descriptor = self.descriptor
        return None if descriptor is None else descriptor.with_annotations(name_annotations(name))


def rebuild(judge: Judge) -> list[FoundEntry]:
    """Every packed file of a cache that the judge has looked at, with its faults. Raises CacheDirectoryError."""
    listing, orphans = judge.listing, set[str]()
    if judge.index is not None:
        orphans.update(listing.held())
        orphans.difference_update(judge.index.digests)
    of_orphans = Judge(judge.directory)
    if orphans:
        of_orphans.look_at(IndexReading.none(), orphans)
    named = (digest for digest in listing.digests if digest not in orphans)
    return [*_entries(judge, named), *_entries(of_orphans, of_orphans.listing.digests)]


def _entries(judge: Judge, digests: Iterable[str]) -> Iterator[FoundEntry]:
    listing, read = judge.listing, partial(read_told, judge.directory)
    for digest in digests:
        at = listing.rows[digest] * ROW_WIDTH
        manifest = at + MANIFEST_PLACE
        for format_ in listing.formats(digest):
            _, modified, changed = listing.stat_at(at + PLACE_OF_SUFFIX[format_])
            yield FoundEntry(
                digest,
                format_,
                _problems(judge, digest, format_),
                modified / 1e9,
                listing.stat_at(manifest)[1] / 1e9 if listing.has(manifest) else None,
                read,
                changed,
                listing.sizes[manifest],
                judge.described.get(digest),
            )


def _problems(judge: Judge, digest: str, format_: PackedFormat) -> tuple[str, ...]:
    found = judge.findings_of(digest, format_)
    problems = tuple(seen_text(one) for one in found if one.severity.rank >= Severity.HIGH.rank) if found else ()
    if not digest.startswith("sha256:") and has_digest(b"", digest) is None:
        return (*problems, f"its manifest cannot be checked: {digest} is of an algorithm that is not known here")
    return problems


def read_told(directory: Path, digest: str, format_: PackedFormat) -> Told:
    """Read both documents of a digest, each taken only where it is what its digest says, as far as that can be told."""
    manifest = _read(f"{directory}/{manifest_name(digest)}", digest, Document.manifest)
    expected = manifest.value.config.digest if manifest is not None else ""
    config = _read(f"{directory}/{config_name(digest)}", expected, Document.config) if manifest is not None else None
    descriptor = None
    if manifest is not None and config is not None:
        descriptor = describe_image(digest, manifest, config.value, {ANNOTATION_PACKED_FORMAT: format_.value})
    return Told(descriptor, _hints_of(manifest, config))


def _read(path: str, digest: str, parse: Callable[[bytes], Document[T]]) -> Document[T] | None:
    try:
        raw = read_document(path)
        return parse(raw) if has_digest(raw, digest) is not False else None
    except (OSError, CacheError):
        return None


def _hints_of(
    manifest: Document[ImageManifest] | None, config: Document[ImageConfiguration] | None
) -> tuple[NameHint, ...]:
    annotations = (manifest.value.annotations or {}) if manifest else {}
    container = config.value.config if config else None
    labels = (container.labels or {}) if container else {}
    told = [(annotations, "an annotation of the manifest"), (labels, "a label of the config")]
    return tuple(NameHint(one[key], f"{key}, {source}") for key in _HINTS for one, source in told if one.get(key))
