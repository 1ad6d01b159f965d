"""The quick check's short cut: most digests have nothing wrong with them, and that is told in few steps.

What is not certain here is left to the full checks, which say what is wrong. Few calls, because this goes over every
entry of the largest caches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from ocitui.cache import DocumentError, PackedFormat
from ocitui.cache.documents import read_config, read_manifest
from ocitui.cache.files import config_name, manifest_name

from .directory import LARGEST_USUAL, CacheFiles, Facts
from .document_checks import Carriers

_MANIFEST, _CONFIG = manifest_name(""), config_name("")
_PACKED: dict[str | None, str] = {str(format_): f".{format_}" for format_ in PackedFormat}
_Said = tuple[str, int]
"""The config's digest, and how many layers there are."""
_Half = tuple[int, _Said]
_sha256 = hashlib.sha256


class UsualDocuments:
    """Documents as they are read, in any order: which digests have two that the daemon reads, that are what their
    digests say, and that agree."""

    def __init__(self, told: Callable[[int, int], object] = lambda done, total: None) -> None:
        self.told = told
        self._manifests: dict[str, _Half] = {}
        self._configs: dict[str, _Half] = {}
        self._sound: dict[str, int] = {}

    def read(self, name: str, data: bytes) -> None:
        """Take in a document by its file's name."""
        try:
            if name.endswith(_MANIFEST):
                self._read_manifest(name[: -len(_MANIFEST)], data)
            else:
                self._read_config(name[: -len(_CONFIG)], data)
        except DocumentError:
            return

    def read_of(self, files: CacheFiles, facts: Facts, digests: Iterable[str]) -> None:
        """Read the documents of some digests, and forget what they were before."""
        for digest in digests:
            self._sound.pop(digest, None)
            for name in (digest + _MANIFEST, digest + _CONFIG):
                fact = facts.get(name)
                if fact is not None and fact.plain and fact.size <= LARGEST_USUAL:
                    with suppress(OSError):
                        self.read(name, files.read(name, fact.size))
            self._manifests.pop(digest, None)
            self._configs.pop(digest, None)

    def size(self, digest: str) -> int | None:
        """The manifest's size in bytes; None where there may be something to say about the documents of a digest."""
        return self._sound.get(digest)

    def _read_manifest(self, digest: str, raw: bytes) -> None:
        if "sha256:" + _sha256(raw).hexdigest() == digest:
            manifest = read_manifest(raw)
            seen = manifest.config.digest, len(manifest.layers)
            self._join(digest, len(raw), seen, self._manifests, self._configs)

    def _read_config(self, digest: str, raw: bytes) -> None:
        seen = "sha256:" + _sha256(raw).hexdigest(), len(read_config(raw).rootfs.diff_ids)
        self._join(digest, 0, seen, self._configs, self._manifests)

    def _join(self, digest: str, size: int, seen: _Said, mine: dict[str, _Half], others: dict[str, _Half]) -> None:
        """Hold a document against the other one of its digest, once that was read."""
        other = others.pop(digest, None)
        if other is None:
            mine[digest] = size, seen
        elif other[1] == seen:
            self._sound[digest] = size or other[0]


def unusual(
    documents: UsualDocuments, facts: Facts, groups: Mapping[str, Carriers], digests: Iterable[str]
) -> list[str]:
    """Those of the digests that may have something wrong with them.

    All others have documents with nothing to say about, and for each entry a known format, the manifest's size, no
    platform, and a plain packed file that is not empty.
    """
    left: list[str] = []
    get, size_of, endings = facts.get, documents.size, _PACKED
    for digest in digests:
        size = size_of(digest)
        for _, descriptor in groups[digest]:
            raw = descriptor.raw
            fact = get(digest + endings.get(descriptor.format, ""))
            if (
                descriptor.size != size
                or fact is None
                or not fact.plain
                or not fact.size
                or b"platform" in raw
                or b"\\" in raw
            ):
                left.append(digest)
                break
    return left
