"""What every source gives: a listing before anything is written, one image of it, and its layers as files.

Manifests, indexes and configs are told apart, read, and checked against their digests. Media types are those of the
OCI image-spec (media-types.md) and of Docker's image manifest version 2, schema 2.

From the descriptors at the root of a source the way leads through nested indexes to its images, of which one is chosen
by platform. Names are Go's (`GOOS`, `GOARCH`), as the OCI image-spec says (image-index.md). Other spellings and the
variant that goes without saying are those of containerd's `platforms` package.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform as machine
import re
import stat
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from ocitui.cache import (
    BlobDescriptor,
    Descriptor,
    Document,
    DocumentError,
    ImageConfiguration,
    ImageManifest,
    ImageName,
    InvalidNameError,
    PackedFormat,
    PackedImage,
    Platform,
    open_bounded,
    spelled,
    usual_digest,
)
from ocitui.text import first_of

from ..errors import NoSuchImageError, SourceError, UnreadableSourceError, UnsoundSourceError, UnsupportedImageError
from ..layers.layers import Layers, LayerSource
from ..staging import BlobProgress, BlobStore, unheard
from .references import checked_digest, same_image

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


class Layer(msgspec.Struct, frozen=True):
    """One layer as the manifest describes it; ``diff_id`` is the digest of the tar inside, by the config."""

    digest: str
    size: int
    media_type: str
    diff_id: str
    urls: tuple[str, ...] = ()

    def at(self, path: Path, offset: int = 0) -> LayerSource:
        """The layer where it lies; who reads it hashes it."""
        return LayerSource(path, self.digest, self.size, self.diff_id, offset)


class ListedImage(msgspec.Struct, frozen=True):
    """One image that a source holds. ``platform`` and ``size`` (config and layers) are None where not known yet;
    ``problem`` says why it could not be imported, or is no image (empty: it can be)."""

    names: tuple[str, ...]
    digest: str
    platform: Platform | None
    size: int | None
    layers: int | None
    problem: str = ""


class SourceListing(msgspec.Struct, frozen=True):
    """What a source holds, in its own order. ``notes`` are for the operator's eyes; ``login`` is whose login a registry
    asked for, empty where it wanted none, None where there is no registry."""

    source: str
    images: tuple[ListedImage, ...]
    notes: tuple[str, ...] = ()
    login: str | None = None


class SourceImage(msgspec.Struct, frozen=True):
    """One image, its documents read and checked, its layers not fetched yet. ``image_name`` is krata's spelling of what
    was asked or of what the source calls it, None where it says no name."""

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

    @property
    def private(self) -> bool:
        """Whether it took what the daemon's own client has not: a login, an authority, plain http, a mirror."""

    async def listing(self) -> SourceListing:
        """All that it holds. Raises SourceError."""

    async def resolve(self) -> SourceImage:
        """The image that was asked for: by name or digest, and by platform. Raises SourceError."""

    def fetch(self, image: SourceImage, blobs: BlobStore, progress: BlobProgress = unheard) -> Layers:
        """The image's layers in order, as files, each once it is there. What was downloaded or unpacked has its digest;
        what lies in place is of the right size, and is hashed by who reads it. Raises SourceError, StorageError."""

    async def aclose(self) -> None: ...


OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
# What follows is json or prettyjws.
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
# The distribution-spec's bound for a manifest; a config has none, and holds a line of history for each layer.
LARGEST_DOCUMENT = 4 << 20
LARGEST_CONFIG = 16 << 20
_DEEPEST, _MOST = 8, 10_000


# What a descriptor says that does not say it, as Go reads it.
_UNTOLD = {"mediaType": "", "digest": "", "size": 0}
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
    if not usual_digest(descriptor.digest):
        told = f"the digest {descriptor.digest[:80]!r}, which is no sha256 digest"
        raise UnsoundSourceError(f"{what} has {told if descriptor.digest else 'no descriptor, or one that is none'}")
    if descriptor.size < 0 or (largest is not None and descriptor.size > largest):
        raise UnsoundSourceError(f"{what} is said to have {descriptor.size} bytes")


def media_type_of(what: str, raw: bytes, claimed: str = "") -> str:
    """As the document says, else as ``claimed``, else by its fields. Raises UnsupportedImageError for schema 1 and what
    is no image, UnsoundSourceError for what is manifest and index (CVE-2021-41190) or contradicts ``claimed``."""
    fields = fields_of(what, raw)
    said = fields.get("mediaType")
    said = said if isinstance(said, str) else ""
    claimed = claimed.partition(";")[0].strip().lower()
    if fields.get("schemaVersion") == 1 or any(one.startswith(_SCHEMA_1) for one in (said, claimed)):
        raise UnsupportedImageError(
            f"{what} is of Docker's image manifest version 2, schema 1, which nobody has made since 2017",
            hint="skopeo copy to oci:DIR makes an OCI image of it",
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
    """The descriptors of an index, in order; of one that is none only its name: it says nothing of its neighbours.
    Raises UnsoundSourceError."""
    manifests = fields_of(what, raw).get("manifests")
    if not isinstance(manifests, list | None) or len(manifests or ()) > _MOST:
        raise UnsoundSourceError(f"{what} is malformed: its manifests are no list, or one of more than {_MOST:,}")
    return [*map(_descriptor, manifests or ())]


def _descriptor(said: object) -> BlobDescriptor:
    told = said if isinstance(said, dict) else {}
    for some in (told, {"annotations": told.get("annotations")}):
        with suppress(msgspec.ValidationError):
            return msgspec.convert(_UNTOLD | some, BlobDescriptor)
    return BlobDescriptor("", "", 0)


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


def read_config(what: str, raw: bytes) -> Document[ImageConfiguration]:
    """Read a config by the daemon's rules, and see that its diff_ids are digests. Raises SourceError."""
    try:
        document = _accepted(what, raw, Document.config)
    except UnsupportedImageError as error:
        if (completed := with_history(raw)) is not None:
            with suppress(DocumentError):
                Document.config(completed)
                raise UnsupportedImageError(error.message, hint=_COMPLETE) from error
        raise
    for number, diff_id in enumerate(document.value.rootfs.diff_ids, 1):
        if not usual_digest(diff_id):
            raise UnsoundSourceError(f"layer {number} has the diff_id {diff_id[:80]!r}, which is no sha256 digest")
    return document


_COMPLETE = "give --complete-config to add an empty one: OCI allows that; the digest is local then"
COMPLETED = "its config had no history, and was completed: no registry knows the image by this digest"


def with_history(raw: bytes) -> bytes | None:
    """A config with an empty history, which OCI lets it leave out and the daemon does not; None where it needs none."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        fields = _decode_object(raw)
        return None if fields.get("history") is not None else msgspec.json.encode(fields | {"history": []})
    return None


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
    told = {} if annotations is None else {"annotations": annotations}
    return Descriptor.from_dict({"mediaType": media_type, "digest": digest, "size": size, **told, "platform": platform})


_ARCHITECTURES = {
    **dict.fromkeys(("x86_64", "x86-64"), ("amd64", None)),
    "aarch64": ("arm64", None),
    **dict.fromkeys(("armhf", "armv7l", "armv8l"), ("arm", "v7")),
    **dict.fromkeys(("armel", "armv6l"), ("arm", "v6")),
    **dict.fromkeys(("i386", "i486", "i586", "i686", "x86"), ("386", None)),
    "loongarch64": ("loong64", None),
}
# The variant that is meant where none is written.
_UNSAID = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
_VARIANT = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def parse_platform(text: str) -> Platform:
    """Read ``OS/ARCHITECTURE[/VARIANT]``, or an architecture of linux alone. Raises NoSuchImageError."""
    words = text.split("/")
    if len(words) > 3 or not all(_WORD.fullmatch(word) for word in words):
        raise NoSuchImageError(f"{text!r} is not a platform", hint="write it as linux/arm64 or linux/arm/v7")
    if len(words) == 1:
        words = ["linux", *words]
    return normal(Platform(words[1], words[0], variant=words[2] if len(words) == 3 else None))


def this_platform() -> Platform:
    """The platform of this machine."""
    return normal(Platform(machine.machine(), sys.platform))


def fit(wanted: Platform, offered: Platform) -> tuple[int, ...] | None:
    """How well ``offered`` runs on ``wanted``, an earlier variant too: the greater the better; None: not at all."""
    wanted, offered = normal(wanted), normal(offered)
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.variant == offered.variant:
        return (sys.maxsize,)
    mine, its = _number(wanted), _number(offered)
    return its if mine and its and its <= mine else None


def normal(platform: Platform) -> Platform:
    """The same in the usual spelling: `x86_64` is amd64, arm64's v8 goes without saying."""
    architecture = platform.architecture.lower()
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, None))
    variant = platform.variant.lower() if platform.variant else implied
    if variant and variant.isascii() and variant[0].isdigit():
        variant = f"v{variant}"
    if architecture == "arm":
        variant = variant or _UNSAID["arm"]
    elif variant == _UNSAID.get(architecture):
        variant = None
    return Platform(architecture, platform.os.lower(), variant=variant)


def _number(platform: Platform) -> tuple[int, ...] | None:
    match = _VARIANT.fullmatch(platform.variant or _UNSAID.get(platform.architecture, ""))
    return (int(match[1]), int(match[2] or 0)) if match else None


ReadBlob = Callable[[BlobDescriptor, int], Awaitable[bytes]]
"""Gives a document's bytes, at most so many; who calls it checks the digest."""


class Leaf(msgspec.Struct, frozen=True):
    """A manifest in the tree. ``indexes`` are the digests above it; without any it stands at the root. ``error`` is why
    it is none of an image, or cannot be read, which says nothing of its neighbours."""

    descriptor: BlobDescriptor
    names: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    platform: Platform | None = None
    error: SourceError | None = None

    @property
    def digest(self) -> str:
        return self.descriptor.digest


async def find_leaves(roots: Iterable[tuple[BlobDescriptor, tuple[str, ...]]], read: ReadBlob) -> list[Leaf]:
    """All manifests below the roots but attestations, in order. Raises UnsoundSourceError for too many."""
    leaves: dict[tuple[str, tuple[str, ...]], Leaf] = {}
    pending = [_leaf(descriptor, names) for descriptor, names in reversed(list(roots))]
    seen = 0
    while pending:
        leaf = pending.pop()
        seen += 1
        if seen > _MOST or len(leaf.indexes) > _DEEPEST:
            raise UnsoundSourceError("the indexes hold too much, or hold each other")
        if _is_attestation(leaf.descriptor):
            continue
        below = None
        try:
            check_descriptor("a manifest", leaf.descriptor, LARGEST_DOCUMENT)
            below = await _below(leaf, read)
        except SourceError as error:
            leaf = replace(leaf, error=error)
        if below is not None:
            pending.extend(reversed(below))
        else:
            leaves.setdefault((leaf.digest, leaf.names), leaf)
    return list(leaves.values())


async def _below(leaf: Leaf, read: ReadBlob) -> list[Leaf] | None:
    """What stands in an index; None for a manifest."""
    media_type = leaf.descriptor.media_type
    if media_type in MANIFESTS:
        return None
    what = f"the {'index' if media_type in INDEXES else 'manifest'} {leaf.digest}"
    raw = await read_checked(what, leaf.descriptor, LARGEST_DOCUMENT, read)
    if media_type_of(what, raw, media_type) not in INDEXES:
        return None
    return [_leaf(child, leaf.names, (*leaf.indexes, leaf.digest)) for child in read_index(what, raw)]


def _leaf(descriptor: BlobDescriptor, names: tuple[str, ...], indexes: tuple[str, ...] = ()) -> Leaf:
    return Leaf(descriptor, names, indexes, normal(descriptor.platform) if descriptor.platform else None)


async def read_checked(what: str, descriptor: BlobDescriptor, largest: int, read: ReadBlob) -> bytes:
    """A document's bytes, once its descriptor, its size and its digest were checked. Raises SourceError."""
    check_descriptor(what, descriptor, largest)
    raw = await read(descriptor, largest)
    check_bytes(what, raw, descriptor.digest, descriptor.size)
    return raw


def choose(leaves: Sequence[Leaf], wanted: Platform | None) -> Leaf:
    """The leaf of the platform; None is this machine's. One manifest that stands in no index is taken without a word on
    its platform, which its config says. What is no image is passed over, if there is one. Raises NoSuchImageError where
    there is none, or several, and what is wrong with the only one."""
    leaves = [leaf for leaf in leaves if leaf.error is None] or leaves
    if leaves[0].error is not None:
        raise leaves[0].error
    if len({leaf.digest for leaf in leaves}) == 1 and (not leaves[0].indexes or leaves[0].platform is None):
        return leaves[0]
    target = wanted or this_platform()
    fits = [(score, leaf) for leaf in leaves if leaf.platform and (score := fit(target, leaf.platform)) is not None]
    if not fits:
        there = ", ".join(dict.fromkeys(str(leaf.platform or "an unknown platform") for leaf in leaves)) or "none"
        raise NoSuchImageError(f"there is no image for {target}, only for {there}", hint="choose one with --platform")
    best = max(score for score, _ in fits)
    chosen = [leaf for score, leaf in fits if score == best]
    if len({leaf.digest for leaf in chosen}) > 1 and len({leaf.names for leaf in chosen}) > 1:
        names = ", ".join(dict.fromkeys(name or leaf.digest for leaf in chosen for name in leaf.names or ("",)))
        raise NoSuchImageError(f"there are several images: {names}", hint="name one of them after the path and a colon")
    return chosen[0]


async def read_image(
    leaf: Leaf, wanted: Platform | None, image_name: ImageName | None, read: ReadBlob, *, complete: bool = False
) -> SourceImage:
    """The leaf's manifest and config, read and checked; with ``complete`` a history is added to a config that lacks it,
    which makes both others. Raises SourceError; NoSuchImageError for another platform."""
    what = f"the manifest {leaf.digest}"
    raw = await read_checked(what, leaf.descriptor, LARGEST_DOCUMENT, read)
    media_type_of(what, raw, leaf.descriptor.media_type)
    manifest = read_manifest(what, raw)
    what = f"the config {manifest.value.config.digest}"
    config_raw, digest = await read_checked(what, manifest.value.config, LARGEST_CONFIG, read), leaf.digest
    completed = with_history(config_raw) if complete else None
    if completed is not None:
        manifest, config_raw = _naming(manifest, completed), completed
        digest = digest_of(manifest.raw)
    config = read_config(what, config_raw)
    layers = layers_of(manifest.value, config.value)
    called, runs = leaf.platform, normal(config.value.platform)
    # Who asks for a platform is given what an index calls so: the daemon looks at no config for that either.
    is_called_so = wanted is not None and called is not None and fit(wanted, called) is not None
    checked = () if is_called_so else check_platform(config.value.platform, wanted)
    notes = (*checked, *names_left_out(leaf.names, image_name))
    if called is not None and (called.os, called.architecture) != (runs.os, runs.architecture):
        notes += (f"its index calls it {called}, its config {runs}, which is what runs",)
    notes += (COMPLETED,) if completed is not None else ()
    return SourceImage(leaf.names, image_name, digest, manifest, config, layers, notes=notes)


def _naming(manifest: Document[ImageManifest], config: bytes) -> Document[ImageManifest]:
    """A manifest that names another config, and is otherwise as it was."""
    fields = _decode_object(manifest.raw)
    fields["config"] |= {"digest": digest_of(config), "size": len(config)}
    return Document.manifest(msgspec.json.encode(fields))


def names_left_out(names: Sequence[str], taken: ImageName | None) -> tuple[str, ...]:
    """A note on the names that a source gives an image besides the one that is taken."""
    others = [name for name in names if any(mark in name for mark in ":/") and spelled(name) != str(taken)]
    return (f"it is also called {first_of(others)}, which is not stored; --name takes another",) if others else ()


def check_platform(found: Platform, wanted: Platform | None) -> tuple[str, ...]:
    """A note where the image is not for this machine. Raises NoSuchImageError where it is not as ``wanted``."""
    if wanted is not None and fit(wanted, found) is None:
        raise NoSuchImageError(f"the image is for {found}, not for {wanted}", hint="leave out --platform to take it")
    if wanted is None and fit(this_platform(), found) is None:
        return (f"the image is for {found}, this machine is {this_platform()}",)
    return ()


def first_name(texts: Sequence[str], asked: str | None = None) -> ImageName | None:
    """krata's reading of the name that was ``asked`` for, if it is given, else of the first that is no mere tag."""
    for text in sorted(texts, key=lambda one: asked is None or not same_image(asked, one)):
        with suppress(InvalidNameError):
            if any(mark in text for mark in ":/"):
                return ImageName.parse(text)
    return None


def _is_attestation(descriptor: BlobDescriptor) -> bool:
    """BuildKit's attestations stand in an index as manifests of the platform unknown/unknown."""
    if "vnd.docker.reference.type" in (descriptor.annotations or {}):
        return True
    platform = descriptor.platform
    return platform is not None and platform.os == "unknown" and platform.architecture == "unknown"
