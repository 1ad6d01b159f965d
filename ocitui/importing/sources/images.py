"""What every source gives: a listing before anything is written, one image of it, and its layers as files.

Manifests, indexes and configs are told apart, read, and checked against their digests. Media types are those of the
OCI image-spec (media-types.md) and of Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import msgspec

from ocitui.cache import (
    Descriptor,
    Document,
    DocumentError,
    ImageConfiguration,
    ImageManifest,
    ImageName,
    PackedFormat,
    PackedImage,
    Platform,
)
from ocitui.cache.documents import BlobDescriptor
from ocitui.cache.files import open_bounded

from ..blobs import BlobProgress, BlobStore, unheard
from ..errors import UnreadableSourceError, UnsoundSourceError, UnsupportedImageError
from ..layers.layers import LayerSource
from .references import checked_digest, is_digest

T = TypeVar("T")


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. Raises OSError, UnreadableSourceError for a pipe, device or socket."""
    try:
        return BufferedReader(open_bounded(path))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _irregular(path) from error


def refuse_irregular(path: Path) -> None:
    """Raises UnreadableSourceError where something is there that is neither a file nor a directory."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise _irregular(path)


def _irregular(path: Path) -> UnreadableSourceError:
    return UnreadableSourceError(f"{path} is no regular file", hint="copy what it gives into a file, and name that")


class SourceKind(StrEnum):
    OCI_LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    REGISTRY = "docker"
    PACKED = "packed"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as the manifest describes it; ``diff_id`` is the digest of the tar inside, by the config."""

    digest: str
    size: int
    media_type: str
    diff_id: str
    urls: tuple[str, ...] = ()

    def at(self, path: Path, offset: int = 0) -> LayerSource:
        """The layer where it lies; who reads it hashes it."""
        return LayerSource(path, self.digest, self.size, self.diff_id, offset)


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image that a source holds. ``platform`` and ``size`` (config and layers) are None where not known yet."""

    names: tuple[str, ...]
    digest: str
    platform: Platform | None
    size: int | None
    layers: int | None


@dataclass(frozen=True, slots=True)
class SourceListing:
    """What a source holds, in its own order. ``notes`` are for the operator's eyes."""

    source: str
    kind: SourceKind
    images: tuple[ListedImage, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image, its documents read and their digests checked, its layers not fetched yet.

    ``image_name`` is krata's spelling of what was asked or of what the source calls it, None where it says no name.
    """

    names: tuple[str, ...]
    image_name: ImageName | None
    digest: str
    manifest: Document[ImageManifest]
    config: Document[ImageConfiguration]
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()

    @property
    def platform(self) -> Platform:
        return self.config.value.platform

    @property
    def layer_sizes(self) -> dict[str, int]:
        """The bytes of all different layers, by digest."""
        return {layer.digest: layer.size for layer in self.layers}

    @property
    def size(self) -> int:
        """The bytes of the config and of all different layers."""
        return self.manifest.value.config.size + sum(self.layer_sizes.values())

    def listed(self) -> ListedImage:
        return ListedImage(self.names, self.digest, self.platform, self.size, len(self.layers))


class Source(Protocol):
    """A place that holds images, to be closed at the end."""

    @property
    def kind(self) -> SourceKind: ...

    async def listing(self) -> SourceListing:
        """All that it holds. Raises SourceError."""

    async def resolve(self) -> SourceImage:
        """The image that was asked for: by name or digest, and by platform. Raises SourceError."""

    async def fetch(self, image: SourceImage, blobs: BlobStore, progress: BlobProgress = unheard) -> list[LayerSource]:
        """The image's layers in order, as files. What was downloaded or unpacked has its digest; what lies in place
        is of the right size, and is hashed by who reads it, once. Raises SourceError, StorageError."""

    async def close(self) -> None: ...


OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
# The distribution-spec's bound for a manifest; a config has none, and holds a line of history for each layer.
LARGEST_DOCUMENT = 4 << 20
LARGEST_CONFIG = 16 << 20


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of an index or manifest list; Docker writes null for an empty one."""

    manifests: list[BlobDescriptor] | None = None


_decode_index = msgspec.json.Decoder(Index).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


def check_bytes(what: str, raw: bytes, digest: str, size: int | None = None) -> None:
    """Raises UnsoundSourceError unless ``raw`` has this digest and size."""
    if size is not None and len(raw) != size:
        raise UnsoundSourceError(f"{what} has {len(raw)} bytes, its descriptor says {size}")
    actual = digest_of(raw)
    if actual != digest:
        raise UnsoundSourceError(f"{what} has the digest {actual}, not {digest}")


def check_descriptor(what: str, descriptor: BlobDescriptor, largest: int | None = None) -> None:
    """Raises UnsoundSourceError for a digest that is none, and a size that cannot be."""
    if not is_digest(descriptor.digest):
        raise UnsoundSourceError(f"{what} has the digest {descriptor.digest[:80]!r}, which is no sha256 digest")
    if descriptor.size < 0 or (largest is not None and descriptor.size > largest):
        raise UnsoundSourceError(f"{what} is said to have {descriptor.size} bytes")


def media_type_of(what: str, raw: bytes, claimed: str = "") -> str:
    """The media type of a manifest or index: as the document says, else as ``claimed``, else by its fields.

    Raises UnsupportedImageError for schema 1 and for other documents, UnsoundSourceError for one that is both a
    manifest and an index (CVE-2021-41190) or contradicts ``claimed``.
    """
    fields = fields_of(what, raw)
    said = fields.get("mediaType")
    said = said if isinstance(said, str) else ""
    claimed = claimed.partition(";")[0].strip().lower()
    if fields.get("schemaVersion") == 1 or said in SCHEMA_1 or claimed in SCHEMA_1:
        raise UnsupportedImageError(
            f"{what} is of Docker's image manifest version 2, schema 1, which nobody has made since 2017"
        )
    is_index, is_manifest = "manifests" in fields, "config" in fields or "layers" in fields
    if is_index and is_manifest:
        raise UnsoundSourceError(f"{what} is both an index and a manifest")
    by_fields = OCI_INDEX if is_index else OCI_MANIFEST if is_manifest else ""
    found = said or claimed
    if found not in MANIFESTS | INDEXES:
        found = by_fields
    if not found or (found in INDEXES) != is_index:
        raise UnsupportedImageError(f"{what} is no image manifest or index, but {_kind(said or claimed)}")
    if claimed in MANIFESTS | INDEXES and (claimed in INDEXES) != is_index:
        raise UnsoundSourceError(f"{what} is sent as {claimed}, and is {found}")
    return found


def read_index(what: str, raw: bytes) -> list[BlobDescriptor]:
    """The descriptors of an index, in order. Raises UnsoundSourceError."""
    return decoded(what, raw, _decode_index).manifests or []


def read_manifest(what: str, raw: bytes) -> Document[ImageManifest]:
    """Read a manifest by the daemon's rules, and check its descriptors. Raises SourceError."""
    document = _accepted(what, raw, Document.manifest)
    manifest = document.value
    if manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        artifact = manifest.artifact_type or manifest.config.media_type
        raise UnsupportedImageError(f"{what} is no image, but {_kind(artifact)}", hint="import an image")
    check_descriptor("the config", manifest.config, LARGEST_CONFIG)
    for number, layer in enumerate(manifest.layers, 1):
        check_descriptor(f"layer {number}", layer)
        if "+encrypted" in layer.media_type:
            raise UnsupportedImageError(f"layer {number} is encrypted", hint="decrypt the image with skopeo copy first")
    return document


def read_config(what: str, raw: bytes, manifest: ImageManifest) -> Document[ImageConfiguration]:
    """Read the manifest's config by the daemon's rules, and check its digest. Raises SourceError."""
    check_bytes(what, raw, manifest.config.digest, manifest.config.size)
    return parse_config(what, raw)


def parse_config(what: str, raw: bytes) -> Document[ImageConfiguration]:
    """Read a config by the daemon's rules, and see that its diff_ids are digests. Raises SourceError."""
    document = _accepted(what, raw, Document.config)
    for number, diff_id in enumerate(document.value.rootfs.diff_ids, 1):
        if not is_digest(diff_id):
            raise UnsoundSourceError(f"layer {number} has the diff_id {diff_id[:80]!r}, which is no sha256 digest")
    return document


def _accepted(what: str, raw: bytes, parse: Callable[[bytes], Document[T]]) -> Document[T]:
    """Raises UnsupportedImageError for what the daemon would refuse."""
    try:
        return parse(raw)
    except DocumentError as error:
        raise UnsupportedImageError(f"{what} is one that the daemon refuses: {error.message}") from error


def layers_of(manifest: ImageManifest, config: ImageConfiguration) -> tuple[Layer, ...]:
    """Manifest's layers with the config's diff_ids. Raises UnsoundSourceError where they do not go together."""
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise UnsoundSourceError(f"the manifest has {len(manifest.layers)} layers, the config {len(diff_ids)}")
    return tuple(
        Layer(layer.digest, layer.size, layer.media_type, diff_id, tuple(layer.urls or ()))
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True)
    )


def blob_name(digest: str) -> str:
    """The name of a blob's file in a layout. Raises UnsoundSourceError for what is no digest."""
    return f"blobs/sha256/{checked_digest(digest).removeprefix('sha256:')}"


def fields_of(what: str, raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises UnsoundSourceError."""
    return decoded(what, raw, _decode_object)


def decoded(what: str, raw: bytes, decode: Callable[[bytes], T]) -> T:
    """What a document holds. Raises UnsoundSourceError where it is not JSON, or not of these fields."""
    try:
        return decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnsoundSourceError(f"{what} is malformed: {error}") from error


def _kind(media_type: str) -> str:
    return f"{media_type[:80]!r}" if media_type else "a document of an unknown kind"


def manifest_type(said: str | None, config_type: str) -> str:
    """The media type of a manifest, by what it says of itself, else by its config's."""
    return said or (DOCKER_MANIFEST if config_type == DOCKER_CONFIG else OCI_MANIFEST)


def packed_image(
    name: ImageName,
    path: Path,
    format: PackedFormat,
    manifest: Document[ImageManifest],
    config: Document[ImageConfiguration],
    digest: str,
) -> PackedImage:
    """The image whose packed file is at ``path``, as the cache takes it."""
    descriptor = describe_image(digest, manifest, config.value)
    return PackedImage(
        name=name, digest=digest, path=path, format=format, descriptor=descriptor, config=config, manifest=manifest
    )


def describe_image(
    digest: str,
    manifest: Document[ImageManifest],
    config: ImageConfiguration,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """The descriptor of a manifest, with its platform (OCI image-spec, descriptor.md and image-index.md)."""
    media_type = manifest_type(manifest.value.media_type, manifest.value.config.media_type)
    return describe(digest, media_type, len(manifest.raw), config.platform, annotations)


def describe(
    digest: str, media_type: str, size: int, on: Platform, annotations: Mapping[str, str] | None = None
) -> Descriptor:
    """The descriptor of a manifest of ``size`` bytes whose image runs ``on`` a platform."""
    platform = msgspec.to_builtins(Platform(on.architecture, on.os, variant=on.variant))
    return Descriptor.from_dict(
        {
            "mediaType": media_type,
            "digest": digest,
            "size": size,
            **({} if annotations is None else {"annotations": annotations}),
            "platform": platform,
        }
    )
