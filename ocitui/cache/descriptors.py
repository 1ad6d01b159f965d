"""Descriptors of the index: one entry each, with the annotations the daemon finds it by."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from .documents import DESCRIPTOR, I64, Platform, read_strictly, structural_quotes
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
    urls: list[str] | msgspec.UnsetType | None = _UNSET
    annotations: dict[str, str] | msgspec.UnsetType | None = _UNSET
    platform: Platform | msgspec.UnsetType | None = _UNSET
    artifact_type: str | msgspec.UnsetType | None = _UNSET
    data: str | msgspec.UnsetType | None = _UNSET


class _TypicalAnnotations(msgspec.Struct, gc=False):
    """The daemon's own annotations; what else there is shows in the count of quotes."""

    name: str = msgspec.field(name=ANNOTATION_IMAGE_NAME)
    format: str = msgspec.field(name=ANNOTATION_PACKED_FORMAT)
    reference: str | msgspec.UnsetType = msgspec.field(name=ANNOTATION_REFERENCE, default=_UNSET)


class _Typical(msgspec.Struct, rename="camel", gc=False):
    """A descriptor as the daemon writes most of them: no optional field but the annotations."""

    media_type: str
    digest: str
    size: I64
    annotations: _TypicalAnnotations


_decode = msgspec.json.Decoder(_Fields).decode
_decode_typical = msgspec.json.Decoder(_Typical).decode
# Four keys and two strings, and four quotes for each annotation.
_QUOTES_WITH_REFERENCE, _QUOTES_WITHOUT_REFERENCE = 24, 20
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
        return sound_descriptor(raw) or _descriptor(raw, _strict_fields(raw))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Descriptor:
        """A descriptor of decoded JSON, unknown fields kept, in order. Raises DocumentError."""
        try:
            return cls.parse(msgspec.json.encode(fields))
        except (TypeError, ValueError, RecursionError) as error:
            raise DocumentError(f"the descriptor is not JSON: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """The descriptor as decoded JSON, unknown fields kept, in order."""
        try:
            fields: dict[str, Any] = msgspec.json.decode(self.raw)
        except (ValueError, RecursionError):
            return read_strictly(self.raw, DESCRIPTOR)
        return fields if isinstance(fields, dict) else read_strictly(self.raw, DESCRIPTOR)

    @property
    def annotations(self) -> dict[str, str]:
        """All annotations; empty when there are none."""
        return self.as_dict().get("annotations") or {}

    @property
    def platform(self) -> Platform | None:
        # A descriptor written as an array names no field, and an escape may hide the name.
        if b'"platform"' not in self.raw and b"\\" not in self.raw and not self.raw.lstrip().startswith(b"["):
            return None
        platform = self.as_dict().get("platform")
        if isinstance(platform, list):  # serde takes an array of the fields too
            platform = read_strictly(self.raw, DESCRIPTOR)["platform"]
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


def parse_sound(raws: list[bytes], quotes: int) -> list[Descriptor] | None:
    """Read many at once, none with a backslash and ``quotes`` quotes in all; None where only the strict reader can
    tell whether all of them are sound."""
    typical = _parse_typical(raws, quotes)
    if typical is not None:
        return typical
    parsed = [sound_descriptor(raw) for raw in raws]
    return None if None in parsed else cast(list[Descriptor], parsed)


def _parse_typical(raws: list[bytes], quotes: int) -> list[Descriptor] | None:
    """Read descriptors that are all typical; None where one is not, or one more quote is there than they need.

    That count is what tells a repeated key, an unknown field or annotation: each would bring quotes of its own.
    """
    parsed: list[Descriptor] = []
    append, decode, known = parsed.append, _decode_typical, _KNOWN_VALUES.get
    without_reference = 0
    try:
        for raw in raws:
            fields = decode(raw)
            annotations = fields.annotations
            media_type, format_ = fields.media_type, annotations.format
            reference = annotations.reference or None
            if not reference:
                if annotations.reference is not _UNSET:
                    return None
                without_reference += 1
            if not fields.size:
                return None
            append(
                Descriptor(
                    raw,
                    fields.digest,
                    fields.size,
                    known(media_type, media_type),
                    annotations.name,
                    known(format_, format_),
                    reference,
                )
            )
    except (ValueError, RecursionError):
        return None
    with_reference = len(raws) - without_reference
    needed = _QUOTES_WITH_REFERENCE * with_reference + _QUOTES_WITHOUT_REFERENCE * without_reference
    return parsed if needed == quotes else None


def sound_descriptor(raw: bytes) -> Descriptor | None:
    """The descriptor, if msgspec reads it as serde is sure to; None where only the strict reader can tell."""
    try:
        fields = _decode(raw)
    except (ValueError, RecursionError):
        return None
    return _descriptor(raw, fields) if _sure(raw, fields) else None


def _descriptor(raw: bytes, fields: _Fields) -> Descriptor:
    get = (fields.annotations or {}).get
    known = _KNOWN_VALUES.get
    format_ = get(ANNOTATION_PACKED_FORMAT)
    return Descriptor(
        raw,
        fields.digest,
        fields.size,
        known(fields.media_type, fields.media_type),
        get(ANNOTATION_IMAGE_NAME),
        None if format_ is None else known(format_, format_),
        get(ANNOTATION_REFERENCE),
    )


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
    return msgspec.convert(read_strictly(raw, DESCRIPTOR), _Fields)
