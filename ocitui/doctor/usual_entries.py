"""The quick check's short cut: most digests have nothing wrong with them, and that is told in few steps.

What is not certain here is left to the full checks, which say what is wrong. One long loop with few calls, because it
goes over every entry of the largest caches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from ocitui.cache import DocumentError, ImageManifest, PackedFormat
from ocitui.cache.documents import I64, U32
from ocitui.cache.files import config_name, manifest_name

from .document_checks import Carriers
from .fast_documents import read_config, read_manifest
from .files import CacheFiles, Facts

_LARGEST = 1 << 22
_MANIFEST, _CONFIG = manifest_name(""), config_name("")
_PACKED: dict[str | None, str] = {str(format_): f".{format_}" for format_ in PackedFormat}
# Keys and strings of a usual manifest without layers, and of each layer.
_QUOTES, _LAYER_QUOTES = 20, 10


class _Blob(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    media_type: str
    digest: str
    size: I64


class _Manifest(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """A manifest as most tools write it: every field there is, and no other."""

    schema_version: U32
    media_type: str
    config: _Blob
    layers: list[_Blob]


_decode = msgspec.json.Decoder(_Manifest).decode


def unusual(files: CacheFiles, facts: Facts, groups: Mapping[str, Carriers], digests: Iterable[str]) -> list[str]:
    """Those of the digests that may have something wrong with them: all others have three plain files for each entry,
    documents that the daemon reads, that are what their digests say, and that agree."""
    left: list[str] = []
    get, read, sha256 = facts.get, files.read, hashlib.sha256
    for digest in digests:
        manifest_fact, config_fact = get(digest + _MANIFEST), get(digest + _CONFIG)
        if (
            manifest_fact is None
            or config_fact is None
            or not manifest_fact.plain
            or not config_fact.plain
            or manifest_fact.size > _LARGEST
            or config_fact.size > _LARGEST
            or not _are_usual(facts, digest, groups[digest], manifest_fact.size)
        ):
            left.append(digest)
            continue
        try:
            raw = read(digest + _MANIFEST, manifest_fact.size)
            if sha256(raw).hexdigest() != digest[7:]:
                left.append(digest)
                continue
            config_digest, layers = _of_manifest(raw)
            raw = read(digest + _CONFIG, config_fact.size)
            if "sha256:" + sha256(raw).hexdigest() != config_digest or len(read_config(raw).rootfs.diff_ids) != layers:
                left.append(digest)
        except (OSError, DocumentError):
            left.append(digest)
    return left


def _are_usual(facts: Facts, digest: str, carriers: Carriers, size: int) -> bool:
    """Whether each entry has a known format, the manifest's size, no platform, and a packed file that is not empty."""
    for _, descriptor in carriers:
        ending, raw = _PACKED.get(descriptor.format), descriptor.raw
        if ending is None or descriptor.size != size or b"platform" in raw or b"\\" in raw:
            return False
        fact = facts.get(digest + ending)
        if fact is None or not fact.plain or not fact.size:
            return False
    return digest.startswith("sha256:")


def _of_manifest(raw: bytes) -> tuple[str, int]:
    """The digest of its config, and how many layers it has. Raises DocumentError."""
    try:
        usual = _decode(raw)
        # A repeated key would bring quotes of its own; zero may have been minus zero, no integer to the daemon.
        if (
            raw.count(b'"') == _QUOTES + _LAYER_QUOTES * len(usual.layers)
            and b"\\" not in raw
            and usual.schema_version
            and usual.config.size
            and all([layer.size for layer in usual.layers])  # noqa: C419  a list is quicker
        ):
            return usual.config.digest, len(usual.layers)
    except (ValueError, RecursionError):
        pass
    manifest: ImageManifest = read_manifest(raw)
    return manifest.config.digest, len(manifest.layers)
