"""The fields of an import as they are typed, and the request that they make. No widget in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ocitui.cache import CacheError, ImageName, PackedFormat
from ocitui.importing.packing.packer_base import check_choice
from ocitui.importing.requests import ImportRequest
from ocitui.importing.sources.opening import expanded

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = " KMGTP"


@dataclass(frozen=True, slots=True)
class Field:
    """A line to type in. ``path`` says that paths are completed; fields in one ``row`` stand beside each other."""

    id: str
    label: str
    hint: str
    path: bool = False
    row: int = 0


BASIC = (
    Field("source", "Source", "path, oci: oci-archive: docker-archive: packed: or registry name", path=True),
    Field("name", "Name", "as the daemon is to find it; empty: what the source calls it"),
)
PLATFORM = Field("platform", "Platform", "this machine's; or linux/arm64")
ADVANCED = (
    Field("compression", "Compression", "the format's own", row=1),
    Field("level", "Level", "its own", row=1),
    Field("max_bytes", "Most bytes", "64G unpacked", row=2),
    Field("max_entries", "Most files", "1000000", row=2),
    Field("tls_ca", "TLS CA file", "trusted besides the system's authorities", path=True, row=3),
    Field("authfile", "Auth file", "credentials; empty: those of skopeo login or docker login", path=True, row=4),
    Field("mirror", "Mirror", "HOST[:PORT] that serves the images of Docker Hub", row=5),
    Field("manifest", "Manifest", "of packed files; empty: FILE.manifest.json beside them", path=True, row=6),
    Field("config", "Config", "of packed files; empty: FILE.config.json beside them", path=True, row=7),
)
SWITCHES = (("plain_http", "Plain http"), ("again", "Again"))
SOURCE_FIELDS = ("source", "platform", "tls_ca", "authfile", "mirror", "manifest", "config", "plain_http")
"""What a look at the source depends on."""


_LABELS = {
    **{field.id: f'"{field.label}"' for field in (*BASIC, PLATFORM)},
    **{field.id: f'"{field.label}" (F2)' for field in ADVANCED},
    **{id: f'"{label}" (F2)' for id, label in SWITCHES},
}
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


def with_fields(hint: str) -> str:
    """A hint that names options, as one that names the form's fields."""
    return _OPTION.sub(lambda option: _LABELS.get(option[1].replace("-", "_"), option[0]), hint)


class FormError(CacheError):
    """What was typed into a field is not what it takes."""

    code = "form"


def make_request(typed: Mapping[str, str]) -> ImportRequest:
    """The import that the fields ask for. Raises FormError, InvalidNameError, PackingChoiceError."""
    if not typed["source"]:
        raise FormError("no source yet", hint="type a path, or a name in a registry")
    format_, compression = PackedFormat(typed["format"]), typed["compression"] or None
    level = _number(typed["level"], "Level", least=0)
    check_choice(format_, compression, level)
    return ImportRequest(
        source=expanded(typed["source"]),
        name=str(ImageName.parse(typed["name"])) if typed["name"] else None,
        format=format_,
        compression=compression,
        level=level,
        max_bytes=_size(typed["max_bytes"]),
        max_entries=_number(typed["max_entries"], "Most files", least=1),
        plain_http=typed["plain_http"] == "yes",
        again=typed["again"] == "yes",
        platform=typed["platform"] or None,
        tls_ca=typed["tls_ca"] or None,
        authfile=typed["authfile"] or None,
        mirror=typed["mirror"] or None,
        manifest=typed["manifest"] or None,
        config=typed["config"] or None,
    )


def _number(text: str, label: str, *, least: int) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise FormError(f"{label}: {text!r} is not a number from {least}")
    return int(text)


def _size(text: str) -> int | None:
    if not text:
        return None
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * 1024 ** _UNITS.index(match[2].upper() or " ")) if match else 0
    if size < 1:
        raise FormError(f"Most bytes: {text!r} is not a size like 500M or 64G")
    return size
