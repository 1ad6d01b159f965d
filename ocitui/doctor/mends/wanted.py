"""Which files of a digest are to be restored, in an order in which each tells what the next has to be."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ocitui.cache import Descriptor, Document, DocumentError, FileKind, ImageManifest
from ocitui.cache.files import known_format

from ..document_checks import has_digest
from ..findings import Finding
from ..restore import Copy, Restorer, WantedFile
from .near_copies import read_document
from .scene import Scene, file_of

Found = tuple[WantedFile, tuple[Finding, ...], Copy | None]
Content = Callable[[str], str]
"""The digest that a packed file's bytes should have, by its name; empty where nobody recorded it."""

_STRICTLY = frozenset({"packed-incomplete", "packed-changed"})


@dataclass(frozen=True, slots=True)
class WantedFiles:
    """What is missing or bad of one digest."""

    scene: Scene
    restorer: Restorer
    content: Content
    digest: str

    async def find(self, findings: Sequence[Finding]) -> AsyncIterator[Found]:
        """Each file that is missing or bad, the findings about it, and the good copy of it, if there is one.

        The manifest comes first: it says which config is the right one.
        """
        about = self._by_file(findings)
        manifest_name, config_name = (file_of(self.digest, kind, "") for kind in (FileKind.MANIFEST, FileKind.CONFIG))
        if manifest_name in about:
            wanted = WantedFile(
                manifest_name, self.digest, FileKind.MANIFEST, content=self.digest, carriers=self._carriers
            )
            copy = await self._copy_of(wanted)
            manifest = _parsed(copy.data) if copy is not None else None
            yield wanted, about.pop(manifest_name), copy
        else:
            manifest = _parsed(self._right(manifest_name, self.digest))
        if config_name in about:
            wanted = self._config(config_name, manifest)
            yield wanted, about.pop(config_name), await self._copy_of(wanted) if wanted.content else None
        for name, concerned in about.items():
            wanted = self._packed(name, concerned)
            yield wanted, concerned, await self.restorer.find(wanted) if wanted.format else None

    @property
    def _carriers(self) -> tuple[Descriptor, ...]:
        return tuple(self.scene.carrying(self.digest))

    def _by_file(self, findings: Sequence[Finding]) -> dict[str, tuple[Finding, ...]]:
        about: dict[str, tuple[Finding, ...]] = {}
        for finding in findings:
            about[finding.file] = (*about.get(finding.file, ()), finding)
            if finding.code == "file-missing" and finding.kind is FileKind.PACKED:
                for kind in (FileKind.MANIFEST, FileKind.CONFIG):
                    name = file_of(self.digest, kind, "")
                    if name not in self.scene.facts:
                        # Where nothing is there at all, one finding stands for the three files.
                        about.setdefault(name, (finding,))
        return about

    async def _copy_of(self, wanted: WantedFile) -> Copy | None:
        """None too where the document has the right bytes already: no copy would be any better."""
        if self._right(wanted.name, wanted.content) is not None:
            return None
        return await self.restorer.find(wanted)

    def _right(self, name: str, content: str) -> bytes | None:
        with suppress(OSError):
            raw = read_document(self.scene.directory / name)
            if has_digest(raw, content):
                return raw
        return None

    def _config(self, name: str, manifest: ImageManifest | None) -> WantedFile:
        if manifest is None:
            return WantedFile(name, self.digest, FileKind.CONFIG, carriers=self._carriers)
        config = manifest.config
        return WantedFile(
            name, self.digest, FileKind.CONFIG, content=config.digest, size=config.size, carriers=self._carriers
        )

    def _packed(self, name: str, findings: Sequence[Finding]) -> WantedFile:
        return WantedFile(
            name,
            self.digest,
            FileKind.PACKED,
            known_format(os.path.splitext(name)[1][1:]),
            self.content(name),
            strictly=any(finding.code in _STRICTLY for finding in findings),
            carriers=self._carriers,
        )


def _parsed(raw: bytes | None) -> ImageManifest | None:
    """The manifest, where the daemon would read it."""
    try:
        return None if raw is None else Document.manifest(raw).value
    except DocumentError:
        return None
