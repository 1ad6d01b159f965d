"""A registry as a source of images."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import httpx2

from ocitui.cache import ImageName, InvalidNameError, Platform
from ocitui.cache.documents import BlobDescriptor

from ..blobs import BlobProgress, BlobStore, PartialBlob
from ..errors import InvalidReferenceError, NoSuchImageError, RegistryError
from ..layers.layers import LayerSource
from ..sources.image_tree import Leaf, choose, find_leaves, read_image
from ..sources.images import (
    DOCKER_CONFIG,
    OCI_CONFIG,
    Layer,
    ListedImage,
    SourceImage,
    SourceKind,
    SourceListing,
    check_bytes,
    digest_of,
    media_type_of,
)
from ..sources.references import HUB, Reference, RegistryOptions, is_host
from .client import RegistryClient
from .failures import Backoff, PassingError, media_type

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/(\*|[0-9]{1,19})", re.ASCII)
# A try that brought so much does not count as failed: the line is bad, but it leads somewhere.
_WORTH_IT = 1 << 20
# So many layers come at once.
_PARALLEL = 4


async def download(client: RegistryClient, layer: Layer, blob: PartialBlob) -> None:
    """Append to ``blob`` what is missing; a blob that the registry may not keep is taken from where its descriptor says
    (descriptor.md, "urls"). Raises SourceError, StorageError."""
    try:
        return await _download_from(client, blob, None)
    except NoSuchImageError:
        if not layer.urls:
            raise
    *others, last = layer.urls
    for url in others:
        with suppress(RegistryError, NoSuchImageError):
            return await _download_from(client, blob, url)
    return await _download_from(client, blob, last)


async def _download_from(client: RegistryClient, blob: PartialBlob, url: str | None) -> None:
    backoff = Backoff(client.options)
    while blob.done < blob.size:
        before = blob.done
        try:
            await _once(client, blob, url)
        except PassingError as error:
            await blob.flush()
            if blob.done - before >= _WORTH_IT:
                backoff.made_progress()
            await backoff.wait(error)


async def _once(client: RegistryClient, blob: PartialBlob, url: str | None) -> None:
    async with client.blob(blob.digest, blob.done, url) as response:
        _place(response, blob)
        _check_length(response, blob)
        async for chunk in client.chunks(response):
            await blob.append(chunk)
    if blob.done < blob.size:
        raise PassingError(f"{client.host} ended {blob.digest} after {blob.done} of {blob.size} bytes")


def _place(response: httpx2.Response, blob: PartialBlob) -> None:
    """See that the body goes on where the blob ends (RFC 9110, 15.3.7), or begin again. Raises PassingError."""
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
        if match and int(match[1]) == blob.done and match[2] in ("*", str(blob.size)):
            return
        blob.restart()
        raise PassingError(f"{response.url.host} sends another part of {blob.digest} than was asked for")
    if response.status_code == 416:
        blob.restart()
        raise PassingError(f"{response.url.host} cannot go on with {blob.digest}")
    if blob.done:
        blob.restart()


def _check_length(response: httpx2.Response, blob: PartialBlob) -> None:
    """Raises RegistryError where another length is promised than the descriptor's, or a web page is sent."""
    promised = response.headers.get("content-length", "")
    left = str(blob.size - blob.done)
    if promised == left:
        return
    if media_type(response) == "text/html":
        raise RegistryError(f"{response.url.host} answers with a web page where {blob.digest} should be")
    if promised:
        raise RegistryError(f"{response.url.host} promises {promised[:20]} bytes of {blob.digest}, which lacks {left}")


class RegistrySource:
    """An image in a registry. ``asked`` is what the operator wrote, which krata's name is made of."""

    kind = SourceKind.REGISTRY

    def __init__(self, asked: str, platform: Platform | None, options: RegistryOptions) -> None:
        self._asked = asked
        self._platform = platform
        self.reference = Reference.parse(asked)
        self._client = RegistryClient(_host(self.reference, options), self.reference.path, options)
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
        slots = asyncio.Semaphore(_PARALLEL)

        async def fetch_one(layer: Layer) -> None:
            async with slots:
                await blobs.fetch(layer.digest, layer.size, lambda blob: download(self._client, layer, blob), progress)

        try:
            async with asyncio.TaskGroup() as group:
                for layer in {layer.digest: layer for layer in image.layers}.values():
                    group.create_task(fetch_one(layer))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0]  # noqa: B904  it has a cause of its own
        return [layer.at(blobs.directory / layer.digest) for layer in image.layers]

    async def close(self) -> None:
        await self._client.close()

    async def _found(self) -> list[Leaf]:
        if self._leaves is None:
            root = await self._root()
            self._leaves = await find_leaves([(root, (self._asked,))], self._read)
            if not self._leaves:
                raise NoSuchImageError(f"{self._asked} is an index without any image")
        return self._leaves

    async def _root(self) -> BlobDescriptor:
        what = f"the manifest of {self._asked}"
        raw, sent_as = await self._client.manifest(self.reference.wanted)
        if self.reference.digest:
            check_bytes(what, raw, self.reference.digest)
        digest = digest_of(raw)
        self._documents[digest] = raw
        return BlobDescriptor(media_type_of(what, raw, sent_as), digest, len(raw))

    async def _read(self, descriptor: BlobDescriptor, largest: int) -> bytes:
        digest = descriptor.digest
        if digest not in self._documents:
            if descriptor.media_type in (OCI_CONFIG, DOCKER_CONFIG):
                self._documents[digest] = await self._client.small_blob(digest, largest)
            else:
                self._documents[digest], _ = await self._client.manifest(digest)
        return self._documents[digest]


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
