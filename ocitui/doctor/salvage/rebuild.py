"""Entries as the files alone tell them: everything but the name, which stands in the index only.

What a manifest or a config says of a name is a hint: a builder wrote it, and the daemon never looks at it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    ANNOTATION_REFERENCE,
    Descriptor,
    Document,
    DocumentError,
    ImageConfiguration,
    ImageManifest,
    ImageName,
    PackedFormat,
)
from ocitui.cache.files import config_name, manifest_name, packed_name
from ocitui.cache.listing import CacheFiles, Fact, Listing
from ocitui.cache.packed_file import check_packed_file
from ocitui.importing.describe import describe_image

from ..check.document_checks import has_digest

T = TypeVar("T")
_LARGEST_DOCUMENT = 1 << 26
_TITLE = "org.opencontainers.image.title"
# The most telling first: a whole name, a tag or a name, a title.
_HINTS = (ANNOTATION_IMAGE_NAME, ANNOTATION_REFERENCE, _TITLE)


@dataclass(frozen=True, slots=True)
class NameHint:
    """What the image may have been called; ``source`` is where that stands."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """A packed file and its documents. ``descriptor`` is the one that the daemon would have written, without a name;
    None where the documents do not tell. ``problems`` are why the entry is not complete and sound, as far as reading
    documents and superblocks tells.

    ``packed_size`` is in bytes, ``modified`` and ``manifest_modified`` are the files' mtimes in seconds since the epoch
    (None: there is no manifest), ``created`` is what the config says, ``platform`` is as ``linux/amd64``; these two are
    empty where nothing tells.
    """

    digest: str
    format: PackedFormat
    descriptor: Descriptor | None
    problems: tuple[str, ...]
    packed_size: int
    modified: float
    manifest_modified: float | None = None
    created: str = ""
    platform: str = ""
    hints: tuple[NameHint, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.problems

    @property
    def key(self) -> tuple[str, str]:
        """The digest and format it is recalled by."""
        return self.digest, self.format.value

    def named(self, name: ImageName) -> Descriptor | None:
        """The descriptor under a name that the operator gives."""
        if self.descriptor is None:
            return None
        reference = {} if name.reference is None else {ANNOTATION_REFERENCE: name.reference}
        return self.descriptor.with_annotations({ANNOTATION_IMAGE_NAME: str(name), **reference})


def rebuild(directory: Path) -> list[FoundEntry]:
    """Every packed file of the cache with what its documents tell, by the manifests' times, the oldest first.

    Raises CacheDirectoryError; what a file's faults are stands in its entry.
    """
    with CacheFiles(directory) as files:
        listing = Listing.read(files)
        found = [entry for digest in listing.held() for entry in _entries(files, listing, digest)]
    return sorted(found, key=lambda one: (one.manifest_modified or one.modified, one.digest, one.format))


@dataclass(frozen=True, slots=True)
class _Documents:
    """What both documents of a digest tell, for all its formats."""

    manifest: Document[ImageManifest] | None
    config: Document[ImageConfiguration] | None
    problems: tuple[str, ...]
    modified: float | None


def _entries(files: CacheFiles, listing: Listing, digest: str) -> list[FoundEntry]:
    formats = listing.formats(digest)
    documents = _read_documents(files, listing, digest) if formats else None
    return [_entry(files, listing, digest, format_, documents) for format_ in formats if documents]


def _entry(
    files: CacheFiles, listing: Listing, digest: str, format_: PackedFormat, documents: _Documents
) -> FoundEntry:
    manifest, config = documents.manifest, documents.config
    descriptor = None
    if manifest is not None and config is not None:
        annotations = {ANNOTATION_PACKED_FORMAT: format_.value}
        descriptor = describe_image(digest, manifest, config.value).with_annotations(annotations)
    name = packed_name(digest, format_)
    fact = listing.get(name) or Fact(0)
    return FoundEntry(
        digest,
        format_,
        descriptor,
        (*documents.problems, *_packed_problems(files, fact, name, format_)),
        fact.size,
        fact.modified_ns / 1e9,
        documents.modified,
        (config.value.created or "") if config else "",
        str(config.value.platform) if config else "",
        _hints(manifest, config),
    )


def _packed_problems(files: CacheFiles, fact: Fact, name: str, format_: PackedFormat) -> list[str]:
    if not fact.regular:
        return [f"the packed file is {fact.word}"]
    try:
        with files.open(name) as file:
            check = check_packed_file(file.fileno(), files.size(file))
    except OSError as error:
        return [f"the packed file cannot be read: {error.strerror}"]
    if check.found is not None and check.found is not format_:
        return [f"the packed file is {check.found} by its magic, not {format_}"]
    return [f"the packed file is not whole: {check.problem}"] if check.problem else []


def _read_documents(files: CacheFiles, listing: Listing, digest: str) -> _Documents:
    problems: list[str] = []
    manifest = _read(files, listing, manifest_name(digest), "manifest", Document.manifest, problems)
    config = _read(files, listing, config_name(digest), "config", Document.config, problems)
    if manifest is not None and not _matches(manifest, digest, "manifest", problems):
        manifest = None
    if config is not None and (
        manifest is None or not _matches(config, manifest.value.config.digest, "config", problems)
    ):
        config = None
    fact = listing.get(manifest_name(digest))
    return _Documents(manifest, config, tuple(problems), fact.modified_ns / 1e9 if fact else None)


def _matches(document: Document[T], digest: str, kind: str, problems: list[str]) -> bool:
    """Whether a document is what its digest says; where nobody can tell, it is taken for that, and the problem said."""
    matches = has_digest(document.raw, digest)
    if matches is None:
        problems.append(f"the {kind} cannot be checked: {digest} is of an algorithm that is not known here")
    elif not matches:
        problems.append(f"the {kind} is not what its digest says, {digest}")
    return matches is not False


def _read(
    files: CacheFiles,
    listing: Listing,
    name: str,
    kind: str,
    parse: Callable[[bytes], Document[T]],
    problems: list[str],
) -> Document[T] | None:
    fact = listing.get(name)
    if fact is None or not fact.regular or fact.size > _LARGEST_DOCUMENT:
        state = "missing" if fact is None else f"{fact.size} bytes long" if fact.regular else fact.word
        problems.append(f"the {kind} is {state}")
        return None
    try:
        return parse(files.read(name, fact.size))
    except OSError as error:
        problems.append(f"the {kind} cannot be read: {error.strerror}")
    except DocumentError as error:
        problems.append(f"the daemon's types refuse the {kind}: {error.message}")
    return None


def _hints(
    manifest: Document[ImageManifest] | None, config: Document[ImageConfiguration] | None
) -> tuple[NameHint, ...]:
    annotations = (manifest.value.annotations or {}) if manifest else {}
    container = config.value.config if config else None
    labels = (container.labels or {}) if container else {}
    told = [(annotations, "an annotation of the manifest"), (labels, "a label of the config")]
    return tuple(
        NameHint(fields[key], f"{key}, {source}") for key in _HINTS for fields, source in told if fields.get(key)
    )
