"""Documents read quickly where it is sure that the daemon reads the same; all others are left to the strict reader.

msgspec takes the last of two equal keys, where the daemon refuses a field it knows. A repeated key shows in the count
of quotes: what was read needs fewer of them than there are.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ocitui.cache import Document, ImageConfiguration, ImageManifest

S = TypeVar("S", bound=msgspec.Struct)
_decode, _encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


def read_manifest(raw: bytes) -> ImageManifest:
    """Raises DocumentError where the daemon refuses it."""
    value = _read(raw, ImageManifest)
    return Document.manifest(raw).value if value is None or _doubtful(value) else value


def _doubtful(manifest: ImageManifest) -> bool:
    """Whether a number may have been minus zero, which is no integer to the daemon."""
    if not manifest.schema_version or not manifest.config.size or manifest.subject is not None:
        return True
    return not all(layer.size for layer in manifest.layers)


def read_config(raw: bytes) -> ImageConfiguration:
    """Raises DocumentError where the daemon refuses it."""
    return _read(raw, ImageConfiguration) or Document.config(raw).value


def _read(raw: bytes, view: type[S]) -> S | None:
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
