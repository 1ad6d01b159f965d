"""Descriptors of the index: one entry each, with the annotations the daemon finds it by."""

from __future__ import annotations

from typing import Any

import msgspec

from . import schema
from .documents import I64, Platform, read_strictly, structural_quotes
from .errors import DocumentError

ANNOTATION_IMAGE_NAME = "io.containerd.image.name"
ANNOTATION_PACKED_FORMAT = "dev.krata.oci.packer.format"
ANNOTATION_REFERENCE = "org.opencontainers.image.ref.name"

_UNSET = msgspec.UNSET
# The daemon writes a descriptor's fields in this order; annotations go in where it would put them.
_BEFORE_ANNOTATIONS = ("mediaType", "digest", "size", "urls")


class _Fields(msgspec.Struct, rename="camel", gc=False):
    """What the daemon reads of a descriptor; UNSET is absent, None is null."""

    media_type: str
    digest: str
    size: I64
    urls: list[str] | None | msgspec.UnsetType = _UNSET
    annotations: dict[str, str] | None | msgspec.UnsetType = _UNSET
    platform: Platform | None | msgspec.UnsetType = _UNSET
    artifact_type: str | None | msgspec.UnsetType = _UNSET
    data: str | None | msgspec.UnsetType = _UNSET


_decode = msgspec.json.Decoder(_Fields).decode
_PLAIN_QUOTES = 12  # four keys, two strings, then four for each annotation
_KNOWN_VALUES = {
    text: text
    for text in (
        "squashfs",
        "erofs",
        "tar",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
}


class Descriptor(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One descriptor of the index: what lookups need, and its bytes as they stand in the file.

    ``image_name``, ``format`` and ``reference`` are its three annotations, None where absent.
    """

    raw: bytes
    digest: str
    size: int
    media_type: str
    image_name: str | None
    format: str | None
    reference: str | None

    @classmethod
    def parse(cls, raw: bytes) -> Descriptor:
        """Read one descriptor's JSON. Raises DocumentError where the daemon's types refuse it."""
        return parse_descriptors([raw])[0]

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Descriptor:
        """A descriptor of decoded JSON, unknown fields kept, in order. Raises DocumentError."""
        try:
            return cls.parse(msgspec.json.encode(fields))
        except (TypeError, ValueError) as error:
            raise DocumentError(f"the descriptor is not JSON: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """The descriptor as decoded JSON, unknown fields kept, in order."""
        try:
            fields: dict[str, Any] = msgspec.json.decode(self.raw)
        except (ValueError, RecursionError):
            return read_strictly(self.raw, schema.DESCRIPTOR)
        return fields if isinstance(fields, dict) else read_strictly(self.raw, schema.DESCRIPTOR)

    @property
    def annotations(self) -> dict[str, str]:
        """All annotations; empty when there are none."""
        return self.as_dict().get("annotations") or {}

    @property
    def platform(self) -> Platform | None:
        if b'"platform"' not in self.raw and b"\\" not in self.raw:
            return None
        platform = self.as_dict().get("platform")
        return msgspec.convert(platform, Platform) if platform else None

    @property
    def key(self) -> tuple[str, str | None]:
        """The digest and format it is recalled by."""
        return self.digest, self.format

    def with_annotations(self, changes: dict[str, str]) -> Descriptor:
        """The same descriptor with these annotations set, unknown fields and order kept."""
        fields = self.as_dict()
        annotations = {**(fields.get("annotations") or {}), **changes}
        if "annotations" in fields:
            return self.from_dict({**fields, "annotations": annotations})
        first = {key: value for key, value in fields.items() if key in _BEFORE_ANNOTATIONS}
        return self.from_dict({**first, "annotations": annotations, **fields})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descriptor) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


def parse_descriptors(raws: list[bytes]) -> list[Descriptor]:
    """Read many at once. Raises DocumentError, its place counted from the start of the descriptor that is refused."""
    parsed: list[Descriptor] = []
    append, decode, known = parsed.append, _decode, _KNOWN_VALUES.get
    nothing: dict[str, str] = {}
    for raw in raws:
        try:
            fields = decode(raw)
            annotations = fields.annotations or nothing
            plain = annotations and raw.count(b'"') == _PLAIN_QUOTES + 4 * len(annotations)
            if not (plain and fields.size and b"\\" not in raw) and not _sure(raw, fields):
                fields = _strict_fields(raw)
                annotations = fields.annotations or nothing
        except (ValueError, RecursionError):
            fields = _strict_fields(raw)
            annotations = fields.annotations or nothing
        get = annotations.get
        format_ = get(ANNOTATION_PACKED_FORMAT)
        append(
            Descriptor(
                raw,
                fields.digest,
                fields.size,
                known(fields.media_type, fields.media_type),
                get(ANNOTATION_IMAGE_NAME),
                known(format_, format_) if format_ else format_,
                get(ANNOTATION_REFERENCE),
            )
        )
    return parsed


def _sure(raw: bytes, fields: _Fields) -> bool:
    """Whether no key stands twice and no number is minus zero, so that serde reads what msgspec read."""
    quotes = 10
    for values in (fields.urls, fields.annotations, fields.platform, fields.artifact_type, fields.data):
        quotes += 0 if values is _UNSET else 2
    quotes += 2 * len(fields.urls or ()) + 4 * len(fields.annotations or ())
    quotes += 2 * sum(isinstance(text, str) for text in (fields.artifact_type, fields.data))
    if isinstance(fields.platform, Platform):
        platform = fields.platform
        quotes += 8 + 4 * (platform.os_version is not None) + 4 * (platform.variant is not None)
        for features in (platform.os_features, platform.features):
            quotes += 0 if features is None else 2 + 2 * len(features)
    return structural_quotes(raw) == quotes and not (fields.size == 0 and b"-0" in raw)


def _strict_fields(raw: bytes) -> _Fields:
    return msgspec.convert(read_strictly(raw, schema.DESCRIPTOR), _Fields)
