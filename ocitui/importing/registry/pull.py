"""A registry as a source of images."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ocitui.cache import ImageName, InvalidNameError, Platform
from ocitui.cache.documents import BlobDescriptor

from ..blobs import BlobStore
from ..image_documents import DOCKER_CONFIG, OCI_CONFIG, check_bytes, media_type_of
from ..image_tree import Leaf, choose, find_leaves, read_image
from ..layers import LayerSource
from ..partial_blob import PartialBlob
from ..references import HUB, Reference, is_host
from ..resolved import BlobProgress, Layer, ListedImage, SourceImage, SourceKind, SourceListing
from ..source_errors import InvalidReferenceError, NoSuchImageError
from .client import RegistryClient
from .download import download
from .options import RegistryOptions


class RegistrySource:
    """An image in a registry. ``asked`` is what the operator wrote, which krata's name is made of."""

    kind = SourceKind.REGISTRY

    def __init__(self, asked: str, platform: Platform | None, options: RegistryOptions) -> None:
        self._asked = asked
        self._platform = platform
        self.reference = Reference.parse(asked)
        self._client = RegistryClient(_host(self.reference, options), self.reference.path, options)
        self._parallel = options.parallel
        self._documents: dict[str, bytes] = {}
        self._leaves: list[Leaf] | None = None

    async def listing(self) -> SourceListing:
        """The image's platforms; the sizes of the one that would be taken. Raises SourceError."""
        leaves = await self._found()
        images = [ListedImage((self._asked,), leaf.digest, leaf.platform, None, None) for leaf in leaves]
        try:
            chosen = await self.resolve()
        except NoSuchImageError as error:
            return SourceListing(self._asked, self.kind, tuple(images), (error.message,))
        listed = [chosen.listed() if image.digest == chosen.digest else image for image in images]
        return SourceListing(self._asked, self.kind, tuple(listed), chosen.notes)

    async def resolve(self) -> SourceImage:
        """The image of the platform. Raises SourceError."""
        leaf = choose(await self._found(), self._platform)
        return await read_image(leaf, self._platform, _krata_name(self._asked), self._read)

    async def fetch(
        self, image: SourceImage, blobs: BlobStore, progress: BlobProgress | None = None
    ) -> list[LayerSource]:
        """Download what the store lacks, several layers at once. Raises SourceError, StorageError."""
        slots = asyncio.Semaphore(self._parallel)

        async def fetch_one(layer: Layer) -> None:
            async with slots:
                await blobs.fetch(layer.digest, layer.size, lambda blob: self._download(layer, blob), progress)

        await _together([fetch_one(layer) for layer in {layer.digest: layer for layer in image.layers}.values()])
        return [
            LayerSource(blobs.directory / layer.digest, layer.digest, layer.size, layer.diff_id, layer.media_type)
            for layer in image.layers
        ]

    async def close(self) -> None:
        await self._client.close()

    async def _download(self, layer: Layer, blob: PartialBlob) -> None:
        await download(self._client, layer, blob)

    async def _found(self) -> list[Leaf]:
        if self._leaves is None:
            root = await self._root()
            self._leaves = await find_leaves([(root, (self._asked,))], self._read)
            if not self._leaves:
                raise NoSuchImageError(f"{self._asked} is an index without any image")
        return self._leaves

    async def _root(self) -> BlobDescriptor:
        wanted = self.reference.wanted
        fetched = await self._client.manifest(wanted)
        if self.reference.digest:
            check_bytes(f"the manifest of {self._asked}", fetched.raw, self.reference.digest)
        media_type = media_type_of(f"the manifest of {self._asked}", fetched.raw, fetched.media_type)
        self._documents[fetched.digest] = fetched.raw
        return BlobDescriptor(media_type, fetched.digest, len(fetched.raw))

    async def _read(self, descriptor: BlobDescriptor, largest: int) -> bytes:
        known = self._documents.get(descriptor.digest)
        if known is None:
            known = self._documents[descriptor.digest] = await self._fetch_document(descriptor, largest)
        return known

    async def _fetch_document(self, descriptor: BlobDescriptor, largest: int) -> bytes:
        if descriptor.media_type in (OCI_CONFIG, DOCKER_CONFIG):
            return await self._client.small_blob(descriptor.digest, largest)
        return (await self._client.manifest(descriptor.digest)).raw


def _host(reference: Reference, options: RegistryOptions) -> str:
    """The registry that is asked: the Hub's images may come from a mirror."""
    if reference.domain != HUB or options.mirror is None:
        return reference.registry
    if not is_host(options.mirror):
        raise InvalidReferenceError(f"the mirror {options.mirror!r} is not a host", hint="write it as HOST[:PORT]")
    return options.mirror


def _krata_name(text: str) -> ImageName | None:
    try:
        return ImageName.parse(text)
    except InvalidNameError:
        return None


async def _together(works: list[Coroutine[Any, Any, None]]) -> None:
    """All of these at once; the first error ends the others, and is raised once they have ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
