"""Manifest and config: whether the daemon reads them, whether they are what their digests say, and agree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from ocitui.cache import Descriptor, DocumentError, FileKind, ImageConfiguration, ImageManifest, Platform
from ocitui.cache.documents import read_config, read_manifest
from ocitui.cache.files import MOST_DOCUMENT_BYTES, config_name, manifest_name
from ocitui.cache.listing import CacheFiles, Listing

from ..catalogue import CATALOGUE
from ..findings import Finding
from .descriptor_checks import Where, where
from .file_checks import FileLook, standing, unreadable

Carriers = Sequence[tuple[int | None, Descriptor]]
"""The descriptors of one digest, each with its position; None where no index names it."""
_ALGORITHMS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


def document_place(carriers: Carriers) -> Where:
    """Where a fault of a shared document lies: its digest's first entry, without a format where there are several."""
    _, descriptor = carriers[0]
    at = where(descriptor)
    if any(other.format != descriptor.format for _, other in carriers):
        at["format"] = ""
    return at


class DocumentChecks:
    """The documents of one digest; ``findings`` and ``missing`` once `run` was called."""

    def __init__(self, files: CacheFiles, listing: Listing, digest: str, carriers: Carriers, at: Where) -> None:
        self._files, self._listing, self._digest, self._carriers, self._at = files, listing, digest, carriers, at
        self.findings: list[Finding] = []
        self.missing: list[Finding] = []

    def run(self) -> DocumentChecks:
        raw_manifest = self._raw(FileKind.MANIFEST, manifest_name(self._digest))
        raw_config = self._raw(FileKind.CONFIG, config_name(self._digest))
        manifest = None if raw_manifest is None else self._manifest(raw_manifest)
        expected = None if manifest is None else manifest.config.digest
        config = None if raw_config is None else self._config(raw_config, expected)
        if manifest is not None and config is not None:
            self._compare(manifest, config)
        return self

    def _raw(self, kind: FileKind, name: str) -> bytes | None:
        """The bytes of a document; None, and a finding, where they are not to be had."""
        fact = self._listing.get(name)
        if fact is not None and fact.plain and fact.size <= MOST_DOCUMENT_BYTES:
            return self._read(kind, name, fact.size)
        found = standing(self._files, fact, name, kind, self._at)
        if found.size is None or found.size > MOST_DOCUMENT_BYTES:
            self._refuse(found, kind)
            return None
        return self._read(kind, name, found.size)

    def _read(self, kind: FileKind, name: str, size: int) -> bytes | None:
        try:
            return self._files.read(name, size)
        except FileNotFoundError:
            self._refuse(standing(self._files, None, name, kind, self._at), kind)
        except OSError as error:
            self.findings.append(unreadable(error, kind, self._at))
        return None

    def _refuse(self, found: FileLook, kind: FileKind) -> None:
        if found.finding is not None:
            (self.missing if found.missing else self.findings).append(found.finding)
        else:
            self._say(f"{kind}-unparsable", f"it has {found.size} bytes, which no document has: it was not read", kind)

    def _say(self, code: str, seen: str, kind: FileKind) -> None:
        self.findings.append(CATALOGUE[code].finding(seen, kind=kind, **self._at))

    def _manifest(self, raw: bytes) -> ImageManifest | None:
        """The manifest, if it is what its digest says."""
        matches = has_digest(raw, self._digest)
        try:
            value = read_manifest(raw)
        except DocumentError as error:
            code = "manifest-is-index" if _is_index(raw) else "manifest-unparsable"
            self._say(code, _unparsable(error, matches), FileKind.MANIFEST)
            return None
        if matches is False:
            self._say("manifest-digest", f"its content is not that of {self._digest}", FileKind.MANIFEST)
            return None
        if any(d.size != len(raw) for _, d in self._carriers):
            sizes = sorted({d.size for _, d in self._carriers} - {len(raw)})
            seen = f"it has {len(raw)} bytes where the descriptor says {', '.join(map(str, sizes))}"
            self._say("size-mismatch", seen, FileKind.MANIFEST)
        return value

    def _config(self, raw: bytes, expected: str | None) -> ImageConfiguration | None:
        matches = None if expected is None else has_digest(raw, expected)
        try:
            value = read_config(raw)
        except DocumentError as error:
            code = "config-no-history" if _lacks_history(raw, error) else "config-unparsable"
            self._say(code, _unparsable(error, matches), FileKind.CONFIG)
            return None
        if matches is False:
            self._say(
                "config-digest", f"its content is not that of {expected}, which the manifest names", FileKind.CONFIG
            )
            return None
        return value

    def _compare(self, manifest: ImageManifest, config: ImageConfiguration) -> None:
        layers, diff_ids = len(manifest.layers), len(config.rootfs.diff_ids)
        if layers != diff_ids:
            seen = f"the manifest has {layers} layers, the config {diff_ids} diff_ids"
            self._say("layers-disagree", seen, FileKind.CONFIG)
        for _, descriptor in self._carriers:
            platform = descriptor.platform
            if platform is not None and platform_disagrees(platform, config):
                seen = f"the descriptor says {platform}, the config {config.platform}"
                fault = CATALOGUE["platform-disagrees"]
                self.findings.append(fault.finding(seen, kind=FileKind.CONFIG, **where(descriptor)))


def has_digest(data: bytes, digest: str) -> bool | None:
    """Whether these bytes have this digest; None for an algorithm that is not known here."""
    algorithm, _, hexadecimal = digest.partition(":")
    hashing = _ALGORITHMS.get(algorithm)
    return None if hashing is None else hashing(data).hexdigest() == hexadecimal.lower()


def _unparsable(error: DocumentError, matches: bool | None) -> str:
    content = {
        True: "; its content is what its digest says",
        False: "; its content is not what its digest says",
        None: "",
    }
    return f"the daemon's types refuse it: {error.placed}{content[matches]}"


def _tree(raw: bytes) -> dict[str, Any]:
    try:
        tree = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _is_index(raw: bytes) -> bool:
    tree = _tree(raw)
    return tree.get("mediaType") in _INDEX_TYPES or ("manifests" in tree and "config" not in tree)


def _lacks_history(raw: bytes, error: DocumentError) -> bool:
    """Whether that is all that is wrong: the daemon looks for missing fields last, and for this one last of them."""
    return error.message == "missing field `history`" and bool(_tree(raw))


def platform_disagrees(platform: Platform, config: ImageConfiguration) -> bool:
    """Whether a descriptor's platform is not the config's."""
    variants = platform.variant, config.variant
    return (
        platform.os != config.os
        or platform.architecture != config.architecture
        or (variants[0] != variants[1] and all(variants))
    )
