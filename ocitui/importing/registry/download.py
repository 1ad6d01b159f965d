"""One blob from a registry into the store: resumed where it broke off, never longer than its descriptor says."""

from __future__ import annotations

import re

import httpx2

from ..partial_blob import PartialBlob
from ..resolved import Layer
from ..source_errors import NoSuchImageError, RegistryError
from .client import RegistryClient
from .failures import PassingError, media_type
from .retry import Backoff

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/(\*|[0-9]{1,19})", re.ASCII)
# A try that brought so much does not count as failed: the line is bad, but it leads somewhere.
_WORTH_IT = 1 << 20


async def download(client: RegistryClient, layer: Layer, blob: PartialBlob) -> None:
    """Append to ``blob`` what is missing. Raises SourceError, StorageError."""
    try:
        await _download_from(client, blob, None)
    except NoSuchImageError:
        if not layer.urls:
            raise
        await _download_from_elsewhere(client, layer.urls, blob)


async def _download_from_elsewhere(client: RegistryClient, urls: tuple[str, ...], blob: PartialBlob) -> None:
    """Take a blob that the registry may not keep from where its descriptor says (descriptor.md, "urls")."""
    for url in urls[:-1]:
        try:
            return await _download_from(client, blob, url)
        except (RegistryError, NoSuchImageError):
            continue
    return await _download_from(client, blob, urls[-1])


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
        await _place(response, blob)
        _check_length(response, blob)
        async for chunk in client.chunks(response):
            await blob.append(chunk)
    if blob.done < blob.size:
        raise PassingError(f"{client.host} ended {blob.digest} after {blob.done} of {blob.size} bytes")


async def _place(response: httpx2.Response, blob: PartialBlob) -> None:
    """See that the body goes on where the blob ends (RFC 9110, 15.3.7), or begin again. Raises PassingError."""
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
        if match and int(match[1]) == blob.done and match[2] in ("*", str(blob.size)):
            return
        await blob.restart()
        raise PassingError(f"{response.url.host} sends another part of {blob.digest} than was asked for")
    if response.status_code == 416:
        await blob.restart()
        raise PassingError(f"{response.url.host} cannot go on with {blob.digest}")
    if blob.done:
        await blob.restart()


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
