"""Copies outside the cache: what the operator names as a source, and the registry of an entry's name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ocitui.cache import CacheError, FileKind, ImageName, InvalidNameError, PackedFormat
from ocitui.cache.files import INDEX_NAME, config_name, manifest_name, packed_name
from ocitui.cache.ledger import Ledger
from ocitui.importing.errors import NoSuchImageError, SourceError
from ocitui.importing.home_paths import home_path
from ocitui.importing.sources.base import Source, SourceImage, SourceKind
from ocitui.importing.sources.opening import PackedFiles, SourceOptions, find_packed_files, open_source, recognise
from ocitui.importing.sources.references import Reference, is_digest
from ocitui.threads import Stop, in_thread

from ..check.document_checks import has_digest
from .copies import Copy, Refuse, Shelf, WantedFile, good_packed, read_document
from .steps import FetchKind


class CacheNames:
    """The files of another cache's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ledger: Ledger | None = Ledger.open(directory)

    def manifests(self, digest: str) -> list[Path]:
        return [self._directory / manifest_name(digest)]

    def configs(self, digest: str) -> list[Path]:
        return [self._directory / config_name(digest)]

    def packed(self, digest: str, format: PackedFormat) -> list[Path]:
        return [self._directory / packed_name(digest, format)]


class PackedNames:
    """A packed file with its documents, of whatever digest the manifest turns out to have."""

    ledger: Ledger | None = None

    def __init__(self, files: PackedFiles) -> None:
        self._files = files

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

    async def find(self, wanted: WantedFile, refuse: Refuse) -> Copy | None:
        return await in_thread(lambda stop: self._find(wanted, refuse, stop))

    def _find(self, wanted: WantedFile, refuse: Refuse, stop: Stop) -> Copy | None:
        if wanted.format is not None:
            return self._packed(wanted, wanted.format, refuse, stop)
        kind, digest = wanted.kind, wanted.digest
        paths = self._names.manifests(digest) if kind is FileKind.MANIFEST else self._names.configs(digest)
        for path, raw in self._documents(paths):
            if has_digest(raw, wanted.content):
                return Copy(self.label, len(raw), data=raw)
            refuse(f"{path} is refused: its bytes have not the digest {wanted.content}")
        return None

    def _packed(self, wanted: WantedFile, format: PackedFormat, refuse: Refuse, stop: Stop) -> Copy | None:
        # A file of that name is this image only where the manifest beside it has the digest.
        manifests = self._documents(self._names.manifests(wanted.digest))
        if not any(has_digest(raw, wanted.digest) for _, raw in manifests):
            return None
        for path in self._names.packed(wanted.digest, format):
            known = good_packed(path, wanted, refuse, stop, self._names.ledger)
            if known is not None:
                return Copy(
                    self.label + known.words,
                    os.stat(path).st_size,
                    fetch=FetchKind.COPY,
                    origin=str(path.absolute()),
                    sha256=known.sha256,
                )
        return None

    def _documents(self, paths: list[Path]) -> Iterator[tuple[Path, bytes]]:
        for path in paths:
            with suppress(OSError):
                yield path, read_document(path)


def shelf_for(text: str, access: SourceOptions) -> Shelf:
    """What an operator names as a source. Raises SourceError where it is none."""
    path = home_path(text)
    if path.is_dir() and (path / INDEX_NAME).exists() and not (path / "oci-layout").exists():
        return FilesShelf(text, CacheNames(path))
    if recognise(text).kind is SourceKind.PACKED:
        return FilesShelf(text, PackedNames(find_packed_files(text)))
    return LayerShelf(text, access)


class LayerShelf:
    """A layout or an archive: its images, read when one is first asked for."""

    def __init__(self, text: str, access: SourceOptions) -> None:
        self.label = text
        self._access = access
        self._images: dict[str, tuple[str, SourceImage | None]] = {}

    async def find(self, wanted: WantedFile, refuse: Refuse) -> Copy | None:
        if not is_digest(wanted.digest):
            return None
        if wanted.digest not in self._images:
            self._images[wanted.digest] = await self._image(wanted.digest)
        origin, image = self._images[wanted.digest]
        return copy_of(image, wanted, self.label, origin) if image is not None else None

    async def _image(self, digest: str) -> tuple[str, SourceImage | None]:
        for origin in await self._origins(digest):
            image = await resolved(origin, digest, self._access)
            if image is not None:
                return origin, image
        return "", None

    async def _origins(self, digest: str) -> list[str]:
        found = await asyncio.to_thread(recognise, self.label)
        path = found.path.absolute()
        source = await open_source(self.label, self._access)
        try:
            kind = source.kind
            listed = (await source.listing()).images if kind is SourceKind.DOCKER_ARCHIVE else ()
        finally:
            await source.close()
        if kind is not SourceKind.DOCKER_ARCHIVE:
            return [f"{kind}:{path}@{digest}"]
        return [f"{kind}:{path}:@{number}" for number, image in enumerate(listed) if image.digest == digest]


class RegistryShelf:
    """The registry of an entry's name, which is asked for the digest and for nothing else."""

    label = "the registry of its name"

    def __init__(self, access: SourceOptions) -> None:
        self._access = access
        self._images: dict[str, SourceImage | None] = {}

    async def find(self, wanted: WantedFile, refuse: Refuse) -> Copy | None:
        """Every registry is asked before the failure of one is raised."""
        failure: CacheError | None = None
        for origin in registry_origins(wanted):
            try:
                image = await self._image(origin, wanted.digest)
            except CacheError as error:
                failure = error
                continue
            if image is not None and (copy := copy_of(image, wanted, origin, origin)) is not None:
                return copy
        if failure is not None:
            raise failure
        return None

    async def _image(self, origin: str, digest: str) -> SourceImage | None:
        if origin not in self._images:
            self._images[origin] = await resolved(origin, digest, self._access)
        return self._images[origin]


def registry_origins(wanted: WantedFile) -> list[str]:
    """NAME@DIGEST for each name that the digest has in the index, without its tag."""
    origins: dict[str, None] = {}
    for descriptor in wanted.carriers:
        with suppress(SourceError, InvalidNameError):
            if descriptor.image_name and is_digest(wanted.digest):
                # Read by the distribution grammar: krata takes localhost:5000/foo for a name with a tag.
                reference = Reference.parse(str(ImageName.parse(descriptor.image_name)))
                origins[f"docker://{reference.domain}/{reference.path}@{wanted.digest}"] = None
    return list(origins)


async def resolved(origin: str, digest: str, access: SourceOptions) -> SourceImage | None:
    """The image of a digest, its documents read and checked; None where the source does not have it.

    Raises SourceError.
    """
    source: Source = await open_source(origin, access)
    try:
        image = await source.resolve()
    except NoSuchImageError:
        return None
    finally:
        await source.close()
    return image if image.digest == digest else None


def copy_of(image: SourceImage, wanted: WantedFile, where: str, origin: str) -> Copy | None:
    """A document of an image, or its layers as what a packed file is made of."""
    if wanted.format is not None:
        return Copy(f"the layers in {where}", image.size, fetch=FetchKind.IMPORT, origin=origin)
    raw = image.manifest.raw if wanted.kind is FileKind.MANIFEST else image.config.raw
    return Copy(where, len(raw), data=raw) if has_digest(raw, wanted.content) else None
