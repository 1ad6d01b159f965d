"""Resolve and recall by the daemon's rules, and why they answer as they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from .descriptors import Descriptor
from .documents import Document, ImageConfiguration, ImageManifest
from .errors import DocumentError
from .files import FileKind, PackedFormat, file_names, read_regular, regular_file, usable_digest
from .index import ImageIndex
from .names import ImageName


class PackedImage(msgspec.Struct, frozen=True, kw_only=True):
    """A packed root filesystem at ``path``, with the documents it was made from."""

    name: ImageName
    digest: str
    path: Path
    format: PackedFormat
    descriptor: Descriptor
    config: Document[ImageConfiguration]
    manifest: Document[ImageManifest]


class ResolvedImage(msgspec.Struct, frozen=True, kw_only=True):
    """What a name stands for in one format."""

    name: ImageName
    digest: str
    descriptor: Descriptor
    manifest: Document[ImageManifest]


T = TypeVar("T")
LATEST = "latest"


def resolve(directory: Path, index: ImageIndex, name: ImageName, format: PackedFormat) -> ResolvedImage | None:
    """What the daemon's resolve answers: the last entry of the name, recalled. Raises DocumentError, StorageError."""
    winner = None if name.reference == LATEST else index.by_name(str(name))
    image = recall(directory, index, name, winner.digest, format) if winner is not None else None
    if image is None:
        return None
    return ResolvedImage(name=image.name, digest=image.digest, descriptor=image.descriptor, manifest=image.manifest)


def recall(
    directory: Path, index: ImageIndex, name: ImageName, digest: str, format: PackedFormat
) -> PackedImage | None:
    """What the daemon's recall answers: the first entry of the digest and format, if its three files are regular.
    Raises DocumentError where a document does not parse, StorageError where it cannot be read."""
    descriptor = index.by_key(digest, format)
    if descriptor is None or not usable_digest(digest):
        return None
    paths = {kind: directory / file for kind, file in file_names(digest, format).items()}
    if not all(regular_file(path) for path in paths.values()):
        return None
    return PackedImage(
        name=name,
        digest=digest,
        path=paths[FileKind.PACKED],
        format=format,
        descriptor=descriptor,
        manifest=_read(paths[FileKind.MANIFEST], Document.manifest),
        config=_read(paths[FileKind.CONFIG], Document.config),
    )


def _read(path: Path, parse: Callable[[bytes], T]) -> T:
    raw = read_regular(path)
    try:
        return parse(raw)
    except DocumentError as error:
        raise DocumentError(f"{path.name}: {error.message}", line=error.line, column=error.column) from error


class Reason(msgspec.Struct, frozen=True):
    """One step towards the answer; ``ok`` is whether the lookup went on from it."""

    ok: bool
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """A lookup's answer with its reasons; ``error`` is the daemon's error, which it meets at every lookup."""

    reasons: tuple[Reason, ...]
    descriptor: Descriptor | None = None
    image: PackedImage | None = None
    error: str = ""

    @property
    def hit(self) -> bool:
        return self.image is not None


def explain_resolve(directory: Path, index: ImageIndex, name: ImageName, format: PackedFormat) -> Explanation:
    """Resolve a name, saying at each step what was found."""
    spelling = str(name)
    reasons = [Reason(True, f"krata spells the name {spelling!r}")]
    carriers = [at for at, carried in enumerate(index.names) if carried == spelling]
    missed = "" if carriers else "no entry carries this name"
    if name.reference == LATEST:
        carried = f"; {len(carriers)} entries carry it" if carriers else ""
        missed = f"the tag {LATEST!r} is never resolved from the cache: the daemon pulls{carried}"
    if missed:
        return Explanation((*reasons, Reason(False, missed)))
    for at in carriers[:-1]:
        one = _short(index.descriptors[at])
        reasons.append(Reason(True, f"entry {at + 1} carries it, overruled by a later one: {one}"))
    at, winner = carriers[-1], index.descriptors[carriers[-1]]
    reasons.append(Reason(True, f"entry {at + 1} carries it and wins, as the last of that name: {_short(winner)}"))
    rest = explain_recall(directory, index, name, winner.digest, format)
    return msgspec.structs.replace(rest, reasons=(*reasons, *rest.reasons))


def explain_recall(
    directory: Path, index: ImageIndex, name: ImageName, digest: str, format: PackedFormat
) -> Explanation:
    """Recall a digest, saying at each step what was found."""
    descriptor = index.by_key(digest, format)
    if descriptor is None:
        formats = [index.formats[at] or "none" for at in index.positions(digest)]
        there = f"it is there as {', '.join(formats)}" if formats else "no entry has this digest"
        return Explanation((Reason(False, f"no entry of {digest} in format {format}: {there}"),))
    reasons = [Reason(True, f"the index has {_short(descriptor)}")]

    def ended(text: str, image: PackedImage | None = None, error: str = "") -> Explanation:
        return Explanation((*reasons, Reason(image is not None, text)), descriptor, image, error)

    if not usable_digest(digest):
        return ended(f"{digest!r} cannot be a file name")
    for kind, file in file_names(digest, format).items():
        if problem := _file_problem(directory / file):
            return ended(f"{kind} {file}: {problem}")
        reasons.append(Reason(True, f"{kind} {file}: a regular file"))
    try:
        image = recall(directory, index, name, digest, format)
    except DocumentError as error:
        return ended(f"the daemon cannot read {error.placed}, at any lookup", error=error.placed)
    return ended("both documents parse" if image else "a file vanished meanwhile", image)


def _short(descriptor: Descriptor) -> str:
    return f"{descriptor.digest} {descriptor.format or 'without a format'}"


def _file_problem(path: Path) -> str:
    if regular_file(path) is not None:
        return ""
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    return "not a regular file" if path.exists() else "missing"
