"""Copies outside the cache: what the operator names as a source, and the registry of an entry's name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ocitui.cache import CacheError, FileKind, ImageName, InvalidNameError, PackedFormat
from ocitui.cache.files import INDEX_NAME, config_name, manifest_name, packed_name
from ocitui.cache.ledger import Ledger
from ocitui.importing.errors import NoSuchImageError, SourceError, UnreadableSourceError, UnsupportedSourceError
from ocitui.importing.sources.images import Source, SourceImage, SourceKind
from ocitui.importing.sources.opening import (
    PackedFiles,
    SourceOptions,
    find_packed_files,
    home_path,
    open_source,
    recognise,
)
from ocitui.importing.sources.references import Reference, is_digest
from ocitui.threads import Stop, in_thread

from ..check.document_checks import has_digest
from .copies import Copies, Copy, Refuse, WantedFile, good_packed, read_document
from .steps import FetchKind

FilesOf = Callable[[str, PackedFormat | None], PackedFiles]
"""The files of an image, by its digest and a format, where that matters."""


class FilesCopies:
    """Files as a cache has them; what they are is told by their bytes, not by their names."""

    def __init__(self, text: str, files: FilesOf, ledger: Ledger | None = None) -> None:
        self.label, self._files, self._ledger = text, files, ledger

    async def find(self, wanted: WantedFile, refuse: Refuse) -> Copy | None:
        return await in_thread(lambda stop: self._find(wanted, refuse, stop))

    def _find(self, wanted: WantedFile, refuse: Refuse, stop: Stop) -> Copy | None:
        files = self._files(wanted.digest, wanted.format)
        if wanted.format is not None:
            return self._packed(files, wanted, refuse, stop)
        path = files.manifest if wanted.kind is FileKind.MANIFEST else files.config
        raw = _document(path)
        if raw is None or has_digest(raw, wanted.content):
            return Copy(self.label, len(raw), data=raw) if raw is not None else None
        refuse(f"{path} is refused: its bytes have not the digest {wanted.content}")
        return None

    def _packed(self, files: PackedFiles, wanted: WantedFile, refuse: Refuse, stop: Stop) -> Copy | None:
        # A file of that name is this image only where the manifest beside it has the digest.
        manifest = _document(files.manifest)
        if manifest is None or not has_digest(manifest, wanted.digest) or files.format not in (None, wanted.format):
            return None
        known = good_packed(files.packed, wanted, refuse, stop, self._ledger)
        if known is None:
            return None
        return Copy(
            self.label + known.words,
            os.stat(files.packed).st_size,
            fetch=FetchKind.COPY,
            origin=str(files.packed.absolute()),
            sha256=known.sha256,
        )


def _document(path: Path) -> bytes | None:
    """A document's bytes; None where they are not to be had."""
    with suppress(OSError):
        return read_document(path)
    return None


def _files_in(directory: Path) -> FilesOf:
    """The files of another cache's directory."""

    def files(digest: str, format: PackedFormat | None) -> PackedFiles:
        packed = directory / packed_name(digest, format or PackedFormat.SQUASHFS)
        return PackedFiles(packed, directory / manifest_name(digest), directory / config_name(digest), format)

    return files


_NO_REGISTRY = "registries are asked for what the entries' own names give: --registry, on the screen o"


def copies_named(text: str, access: SourceOptions) -> Copies:
    """What an operator names as a source. Raises SourceError where it is none, a registry among them."""
    path = home_path(text)
    if os.path.exists(path / INDEX_NAME) and not os.path.exists(path / "oci-layout"):
        return FilesCopies(text, _files_in(path), Ledger.open(path))
    kind = recognise(text).kind
    if kind is SourceKind.REGISTRY:
        raise UnsupportedSourceError(f"{text} is no layout, archive, packed file or other cache", hint=_NO_REGISTRY)
    if kind is SourceKind.PACKED:
        files = find_packed_files(text)
        if not os.path.isfile(files.packed):
            raise UnreadableSourceError(f"{files.packed} does not exist")
        return FilesCopies(text, lambda *_: files)
    return LayerCopies(text, access)


class LayerCopies:
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


class RegistryCopies:
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
