"""Copies in files that are named as a cache's are: another cache, or a packed file with its documents."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ocitui.cache import FileKind, PackedFormat
from ocitui.cache.files import config_name, manifest_name, packed_name
from ocitui.importing.sources import PackedFiles

from ..document_checks import has_digest
from ..ledger import Damage, Ledger
from ..restore import Copy, WantedFile
from .near_copies import good_packed, is_known_damaged, read_document
from .steps import FetchKind


class CacheNames:
    """The files of another cache's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ledger = Ledger.open(directory)

    def recorded(self, name: str) -> str:
        """The sha256 that this cache's ledger has of a packed file; empty where it has none."""
        record = self._ledger.look(name)
        return record.sha256 if record is not None else ""

    def damage(self, name: str, found: os.stat_result) -> Damage | None:
        """What a deep check of this cache found wrong with a packed file."""
        return self._ledger.damage(name, found)

    def manifests(self, digest: str) -> list[Path]:
        return [self._directory / manifest_name(digest)]

    def configs(self, digest: str) -> list[Path]:
        return [self._directory / config_name(digest)]

    def packed(self, digest: str, format: PackedFormat) -> list[Path]:
        return [self._directory / packed_name(digest, format)]


class PackedNames:
    """A packed file with its documents, of whatever digest the manifest turns out to have."""

    def __init__(self, files: PackedFiles) -> None:
        self._files = files

    def recorded(self, name: str) -> str:
        return ""

    def damage(self, name: str, found: os.stat_result) -> Damage | None:
        return None

    def manifests(self, digest: str) -> list[Path]:
        return [self._files.manifest]

    def configs(self, digest: str) -> list[Path]:
        return [self._files.config]

    def packed(self, digest: str, format: PackedFormat) -> list[Path]:
        return [self._files.packed] if self._files.format in (None, format) else []


class FilesShelf:
    """Files as a cache has them; what they are is told by their bytes, not by their names."""

    def __init__(self, text: str, names: CacheNames | PackedNames) -> None:
        self.label = text
        self._names = names

    async def find(self, wanted: WantedFile) -> Copy | None:
        return await asyncio.to_thread(self._find, wanted)

    async def close(self) -> None:
        """Nothing is held open."""

    def _find(self, wanted: WantedFile) -> Copy | None:
        if wanted.format is not None:
            return self._packed(wanted, wanted.format)
        kind, digest = wanted.kind, wanted.digest
        paths = self._names.manifests(digest) if kind is FileKind.MANIFEST else self._names.configs(digest)
        for raw in self._documents(paths):
            if has_digest(raw, wanted.content):
                return Copy(self.label, len(raw), data=raw)
        return None

    def _packed(self, wanted: WantedFile, format: PackedFormat) -> Copy | None:
        # A file of that name is this image only where the manifest beside it has the digest.
        if not any(has_digest(raw, wanted.digest) for raw in self._documents(self._names.manifests(wanted.digest))):
            return None
        for path in self._names.packed(wanted.digest, format):
            with suppress(OSError):
                found = os.stat(path)
                damage = self._names.damage(wanted.name, found)
                if not stat.S_ISREG(found.st_mode) or is_known_damaged(damage, wanted):
                    continue
                known = good_packed(path, wanted, self._names.recorded(wanted.name))
                if known is not None:
                    origin = str(path.absolute())
                    return Copy(
                        self.label + known.words,
                        found.st_size,
                        fetch=FetchKind.COPY,
                        origin=origin,
                        sha256=known.sha256,
                    )
        return None

    def _documents(self, paths: list[Path]) -> Iterator[bytes]:
        for path in paths:
            with suppress(OSError):
                yield read_document(path)
