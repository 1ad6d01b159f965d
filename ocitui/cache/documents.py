"""Manifest, config and descriptor: typed views of the daemon's types, the raw bytes kept beside them.

The fields are those of the OCI image-spec (descriptor.md, manifest.md, config.md) that the daemon reads; what it
refuses is refused here, by `strict_json`. msgspec reads first because it is fast; whatever it does not accept
outright, or accepts where serde might not, is read again by the strict reader, whose word is final.
"""

# Annotations are types here, not texts: the readers are made of them.
import builtins
import functools
import re
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

import msgspec

from .strict_json import Boolean, Integer, Map, Optional, Scanner, Sequence, String, Struct, Type

I64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]

_ESCAPE = re.compile(rb"\\.", re.DOTALL)


class Platform(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an image runs on. ``os_version`` and ``os_features`` are the daemon's names, without OCI's dots."""

    architecture: str
    os: str
    os_version: str | None = None
    os_features: list[str] | None = None
    variant: str | None = None
    features: list[str] | None = None

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}" + (f"/{self.variant}" if self.variant else "")


class BlobDescriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A descriptor inside a manifest: its config or one of its layers."""

    media_type: str
    digest: str
    size: I64
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str | None = None
    data: str | None = None


class ImageManifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """manifest.md; a Docker schema 2 manifest has the same shape."""

    schema_version: U32
    media_type: str | None = None
    artifact_type: str | None = None
    config: BlobDescriptor
    layers: list[BlobDescriptor]
    subject: BlobDescriptor | None = None
    annotations: dict[str, str] | None = None


class Nothing(msgspec.Struct, frozen=True, gc=False):
    """The value of each exposed port and volume: an object whose content does not matter."""


class ContainerConfig(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True, gc=False):
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


class RootFs(msgspec.Struct, frozen=True, gc=False):
    type: str
    diff_ids: list[str]


class HistoryItem(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    created: str | None = None
    author: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfiguration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """config.md. ``history`` is optional there and required here, because the daemon requires it."""

    created: str | None = None
    author: str | None = None
    architecture: str
    os: str
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    variant: str | None = None
    config: ContainerConfig | None = None
    rootfs: RootFs
    history: list[HistoryItem]

    @property
    def platform(self) -> Platform:
        return Platform(self.architecture, self.os, variant=self.variant)


class _ImageIndex(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """image-index.md."""

    schema_version: U32
    media_type: str | None = None
    artifact_type: str | None = None
    manifests: list[BlobDescriptor]
    subject: BlobDescriptor | None = None
    annotations: dict[str, str] | None = None


_RUST_NAMES: dict[type, str] = {
    _ImageIndex: "ImageIndex",
    BlobDescriptor: "Descriptor",
    ContainerConfig: "Config",
    Nothing: "GoMapSerde",
}
_SCALARS: dict[Any, Type] = {
    str: String(),
    bool: Boolean(),
    I64: Integer("i64", -(2**63), 2**63 - 1),
    U32: Integer("u32", 0, 2**32 - 1),
}


def _strict(kind: Any) -> Type:
    """A type as the strict reader has it: a Struct's fields stand in the order of the Rust struct's."""
    if (scalar := _SCALARS.get(kind)) is not None:
        return scalar
    match get_origin(kind), get_args(kind):
        case types.UnionType, (of, _):
            return Optional(_strict(of))
        case builtins.list, (of,):
            return Sequence(_strict(of))
        case builtins.dict, (_, of):
            return Map(_strict(of))
    return _strict_struct(kind)


@functools.cache
def _strict_struct(view: type[msgspec.Struct]) -> Struct:
    hints = view.__annotations__
    names = zip(view.__struct_encode_fields__, view.__struct_fields__, strict=True)
    fields = {name: _strict(hints[field]) for name, field in names}
    return Struct(f"struct {_RUST_NAMES.get(view, view.__name__)}", fields)


PLATFORM, DESCRIPTOR, IMAGE_INDEX = (_strict_struct(view) for view in (Platform, BlobDescriptor, _ImageIndex))
IMAGE_MANIFEST, IMAGE_CONFIGURATION = (_strict_struct(view) for view in (ImageManifest, ImageConfiguration))
T = TypeVar("T")

# Built here, before there are threads: msgspec crashes when two of them decode a type for the first time together.
_decode_manifest = msgspec.json.Decoder(ImageManifest).decode
_decode_config = msgspec.json.Decoder(ImageConfiguration).decode
_decode_anything, _encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Document(Generic[T]):
    """A document's ``raw`` bytes, bit for bit, beside its typed ``value``; equal where the bytes are."""

    raw: bytes = field(repr=False)
    value: T = field(compare=False)

    @staticmethod
    def manifest(raw: bytes) -> "Document[ImageManifest]":
        """Read a manifest; raises DocumentError where the daemon would."""
        return Document(raw, read_manifest(raw))

    @staticmethod
    def config(raw: bytes) -> "Document[ImageConfiguration]":
        """Read a config; raises DocumentError where the daemon would."""
        return Document(raw, read_config(raw))


def read_manifest(raw: bytes) -> ImageManifest:
    """Raises DocumentError where the daemon refuses it."""
    value = read_surely(raw, _decode_manifest)
    if value is None or (b"-" in raw and b"-0" in raw and 0 in _numbers(value)):
        return msgspec.convert(read_strictly(raw, IMAGE_MANIFEST), ImageManifest)
    return value


def read_config(raw: bytes) -> ImageConfiguration:
    """Raises DocumentError where the daemon refuses it."""
    value = read_surely(raw, _decode_config)
    return msgspec.convert(read_strictly(raw, IMAGE_CONFIGURATION), ImageConfiguration) if value is None else value


def read_strictly(raw: bytes, strict: Struct) -> dict[str, Any]:
    """Read all of ``raw`` by the daemon's rules: its known fields by name. Raises DocumentError."""
    scanner = Scanner(raw)
    value: dict[str, Any] = strict.read(scanner)
    scanner.end()
    return value


def read_surely(raw: bytes, decode: Callable[[bytes], T]) -> T | None:
    """What ``decode`` reads, if it is sure to be what serde reads; None where only the strict reader can tell. Zero is
    for the caller to look at: minus zero is an integer to msgspec alone."""
    try:
        value = decode(raw)
        return value if accounts_for(value, raw) else None
    except (ValueError, RecursionError):
        return None


def accounts_for(value: object, raw: bytes) -> bool:
    """Whether no key stands twice in ``raw``, of which msgspec made ``value``; False where that cannot be told.
    The daemon refuses a repeated key and msgspec does not. So the value is written again, and where it has not every
    field, the whole tree: no quote may be left over. Raises what a decoder raises."""
    quotes = raw.count(b'"')
    # A quote inside a text is written as it was read, unless it was given by its number.
    if b"\\" in raw and rb"\u0022" in raw:
        return False
    return _encode(value).count(b'"') == quotes or _encode(_decode_anything(raw)).count(b'"') == quotes


def structural_quotes(raw: bytes) -> int:
    """How many quotes begin or end a string in valid JSON."""
    return (_ESCAPE.sub(b"", raw) if b"\\" in raw else raw).count(b'"')


def _numbers(manifest: ImageManifest) -> list[int]:
    others = [manifest.config.size, manifest.schema_version, manifest.subject.size if manifest.subject else 1]
    return others + [layer.size for layer in manifest.layers]
