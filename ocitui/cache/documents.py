"""Manifest, config and descriptor: typed views of the daemon's types, the raw bytes kept beside them.

The fields are those of the OCI image-spec (descriptor.md, manifest.md, config.md) that the daemon reads; what it
refuses is refused here, by `serde`. msgspec reads first because it is fast; whatever it does not accept outright, or
accepts where serde might not, is read again by the strict reader, whose word is final.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from .errors import DocumentError
from .strict_json import Boolean, Integer, Map, Optional, Scanner, Sequence, String, Struct
from .strict_json import Struct as SerdeStruct

_string = String()
_strings = Sequence("a sequence", _string)
_string_map = Map("a map", _string)
_maybe_string = Optional(_string)
_maybe_strings = Optional(_strings)
_maybe_string_map = Optional(_string_map)
# A Go map[string]struct{}: every value an object whose content does not matter.
_go_set = Optional(Map("a map", Struct("struct GoMapSerde", {})))

_U32 = Integer("u32", 0, 2**32 - 1)
_I64 = Integer("i64", -(2**63), 2**63 - 1)

PLATFORM = Struct(
    "struct Platform",
    {
        "architecture": _string,
        "os": _string,
        # Without the dots that OCI writes: what OCI calls os.version is an unknown field to the daemon.
        "os_version": _maybe_string,
        "os_features": _maybe_strings,
        "variant": _maybe_string,
        "features": _maybe_strings,
    },
)
DESCRIPTOR = Struct(
    "struct Descriptor",
    {
        "mediaType": _string,
        "digest": _string,
        "size": _I64,
        "urls": _maybe_strings,
        "annotations": _maybe_string_map,
        "platform": Optional(PLATFORM),
        "artifactType": _maybe_string,
        "data": _maybe_string,
    },
)
_maybe_descriptor = Optional(DESCRIPTOR)
IMAGE_INDEX = Struct(
    "struct ImageIndex",
    {
        "schemaVersion": _U32,
        "mediaType": _maybe_string,
        "artifactType": _maybe_string,
        "manifests": Sequence("a sequence", DESCRIPTOR),
        "subject": _maybe_descriptor,
        "annotations": _maybe_string_map,
    },
)
IMAGE_MANIFEST = Struct(
    "struct ImageManifest",
    {
        "schemaVersion": _U32,
        "mediaType": _maybe_string,
        "artifactType": _maybe_string,
        "config": DESCRIPTOR,
        "layers": Sequence("a sequence", DESCRIPTOR),
        "subject": _maybe_descriptor,
        "annotations": _maybe_string_map,
    },
)
_CONFIG = Struct(
    "struct Config",
    {
        "User": _maybe_string,
        "ExposedPorts": _go_set,
        "Env": _maybe_strings,
        "Entrypoint": _maybe_strings,
        "Cmd": _maybe_strings,
        "Volumes": _go_set,
        "WorkingDir": _maybe_string,
        "Labels": _maybe_string_map,
        "StopSignal": _maybe_string,
    },
)
_ROOTFS = Struct("struct RootFs", {"type": _string, "diff_ids": _strings})
_HISTORY = Struct(
    "struct History",
    {
        "created": _maybe_string,
        "author": _maybe_string,
        "created_by": _maybe_string,
        "comment": _maybe_string,
        "empty_layer": Optional(Boolean()),
    },
)
IMAGE_CONFIGURATION = Struct(
    "struct ImageConfiguration",
    {
        "created": _maybe_string,
        "author": _maybe_string,
        "architecture": _string,
        "os": _string,
        "os.version": _maybe_string,
        "os.features": _maybe_strings,
        "variant": _maybe_string,
        "config": Optional(_CONFIG),
        "rootfs": _ROOTFS,
        "history": Sequence("a sequence", _HISTORY),
    },
)


I64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
# Minus zero is a float to the daemon and an integer to msgspec; inside a string the pattern costs a second reading.
_MINUS_ZERO = re.compile(rb"[:\[,\s]-0[,\]}\s]")


class Platform(msgspec.Struct, frozen=True):
    """What an image runs on. ``os_version`` and ``os_features`` are the daemon's names, without OCI's dots."""

    architecture: str
    os: str
    os_version: str | None = None
    os_features: list[str] | None = None
    variant: str | None = None
    features: list[str] | None = None

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}" + (f"/{self.variant}" if self.variant else "")


class BlobDescriptor(msgspec.Struct, frozen=True, rename="camel"):
    """A descriptor inside a manifest: its config or one of its layers."""

    media_type: str
    digest: str
    size: I64
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str | None = None
    data: str | None = None


class ImageManifest(msgspec.Struct, frozen=True, rename="camel"):
    """manifest.md; a Docker schema 2 manifest has the same shape."""

    schema_version: U32
    config: BlobDescriptor
    layers: list[BlobDescriptor]
    media_type: str | None = None
    artifact_type: str | None = None
    subject: BlobDescriptor | None = None
    annotations: dict[str, str] | None = None


class Nothing(msgspec.Struct, frozen=True):
    """The value of each exposed port and volume: an object whose content does not matter."""


class ContainerConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """config.md, "config": how a container of the image runs."""

    user: str | None = None
    exposed_ports: dict[str, Nothing] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, Nothing] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None


class RootFs(msgspec.Struct, frozen=True):
    type: str
    diff_ids: list[str]


class History(msgspec.Struct, frozen=True):
    created: str | None = None
    author: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfiguration(msgspec.Struct, frozen=True):
    """config.md. ``history`` is optional there and required here, because the daemon requires it."""

    architecture: str
    os: str
    rootfs: RootFs
    history: list[History]
    created: str | None = None
    author: str | None = None
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    variant: str | None = None
    config: ContainerConfig | None = None

    @property
    def platform(self) -> Platform:
        return Platform(self.architecture, self.os, variant=self.variant)


T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Document(Generic[T]):
    """A document's ``raw`` bytes, bit for bit, beside its typed ``value``."""

    __slots__ = ("raw", "value")

    def __init__(self, raw: bytes, value: T) -> None:
        self.raw = raw
        self.value = value

    @staticmethod
    def manifest(raw: bytes) -> Document[ImageManifest]:
        """Read a manifest; raises DocumentError where the daemon would."""
        return Document(raw, read_document(raw, IMAGE_MANIFEST, ImageManifest))

    @staticmethod
    def config(raw: bytes) -> Document[ImageConfiguration]:
        """Read a config; raises DocumentError where the daemon would."""
        return Document(raw, read_document(raw, IMAGE_CONFIGURATION, ImageConfiguration))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Document({len(self.raw)} bytes, {self.value!r})"


def read_document(raw: bytes, strict: SerdeStruct, view: type[S]) -> S:
    """Read ``raw`` as ``view``, accepting exactly what ``strict`` accepts. Raises DocumentError."""
    value = _read_fast(raw, view)
    if value is not None:
        return value
    return msgspec.convert(read_strictly(raw, strict), view)


def read_strictly(raw: bytes, strict: SerdeStruct) -> dict[str, Any]:
    """Read all of ``raw`` by the daemon's rules: its known fields by name. Raises DocumentError."""
    scanner = Scanner(raw)
    value: dict[str, Any] = strict.read(scanner)
    scanner.end()
    return value


def _read_fast(raw: bytes, view: type[S]) -> S | None:
    """Read with msgspec where its answer is sure to be serde's; None sends the caller to the strict reader."""
    try:
        raw.decode()
        tree = msgspec.json.decode(raw)
        if _MINUS_ZERO.search(raw) or structural_quotes(raw) != _quotes(tree):
            return None
        return msgspec.convert(tree, view)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None


def structural_quotes(raw: bytes) -> int:
    """How many quotes begin or end a string in valid JSON."""
    return (_ESCAPE.sub(b"", raw) if b"\\" in raw else raw).count(b'"')


def _quotes(tree: Any) -> int:
    """How many quotes JSON without a repeated key needs for ``tree``: fewer than were there betray a repeated key."""
    total = 0
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            total += 2
        elif isinstance(item, dict):
            total += 2 * len(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return total


__all__ = [
    "BlobDescriptor",
    "ContainerConfig",
    "Document",
    "DocumentError",
    "History",
    "ImageConfiguration",
    "ImageManifest",
    "Nothing",
    "Platform",
    "RootFs",
]


_decode, _encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


def read_manifest(raw: bytes) -> ImageManifest:
    """Raises DocumentError where the daemon refuses it."""
    value = _read_usual(raw, ImageManifest)
    return Document.manifest(raw).value if value is None or _doubtful(value) else value


def _doubtful(manifest: ImageManifest) -> bool:
    """Whether a number may have been minus zero, which is no integer to the daemon."""
    if not manifest.schema_version or not manifest.config.size or manifest.subject is not None:
        return True
    return not all(layer.size for layer in manifest.layers)


def read_config(raw: bytes) -> ImageConfiguration:
    """Raises DocumentError where the daemon refuses it."""
    return _read_usual(raw, ImageConfiguration) or Document.config(raw).value


def _read_usual(raw: bytes, view: type[S]) -> S | None:
    """None where only the strict reader can tell."""
    try:
        if not raw.isascii():
            raw.decode()
        tree = _decode(raw)
        # Escaped quotes are as many on both sides, unless one was written as a number.
        if _encode(tree).count(b'"') != raw.count(b'"') or (b"\\" in raw and rb"\u0022" in raw):
            return None
        return msgspec.convert(tree, view)
    except (ValueError, RecursionError):
        return None
