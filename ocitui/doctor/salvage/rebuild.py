"""Entries as the files alone tell them: everything but the name, which stands in the index only.

What is wrong with the files, the judge says. What a manifest or a config says of a name is a hint: a builder wrote it,
and the daemon never looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
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
    PackedFormat,
    config_name,
    manifest_name,
    name_annotations,
)
from ocitui.importing import describe, describe_image, manifest_type

from ..check.entry_checks import Described, has_digest, read_document
from ..check.index_checks import IndexReading
from ..check.judge import Judge
from ..findings import Severity, seen_text

T = TypeVar("T")
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
