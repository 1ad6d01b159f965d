"""A registry as a source of images: the requests of a pull (OCI distribution-spec, "Pulling manifests", "Pulling
blobs") to one repository, and what is made of their answers."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress

import httpx2
from httpx2._utils import get_environment_proxies  # the client has no way to leave one out

from ocitui.cache import BlobDescriptor, ImageName, InvalidNameError, usual_digest
from ocitui.threads import look_up_apart, settled

from ..errors import (
    DeniedError,
    NoSuchImageError,
    RegistryError,
    SourceError,
    UnsoundSourceError,
)
from ..layers.layers import Layers
from ..sources.images import (
    DOCKER_CONFIG,
    INDEXES,
    LARGEST_DOCUMENT,
    MANIFESTS,
    OCI_CONFIG,
    Layer,
    Leaf,
    ListedImage,
    SourceImage,
    SourceKind,
    SourceListing,
    check_bytes,
    choose,
    digest_of,
    find_leaves,
    media_type_of,
    read_image,
)
from ..sources.references import Reference, RegistryOptions, SourceOptions, checked_digest
from ..staging import BlobProgress, BlobStore, PartialBlob, unheard
from .auth import CLIENT_ID, Authorizer, address_of, is_loopback, may_carry, origin_of, parse_challenges
from .failures import (
    Backoff,
    PassingError,
    Route,
    causes_of,
    host_of,
    media_type,
    paced,
    proxy_variable,
    retried,
    status_failure,
    transport_failure,
    trusting,
)

ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_MOST_LOGINS = 3
_LARGEST_FAULT = 64 << 10


class RegistryClient:
    """Reads one repository of a registry; to be closed. The first request finds out how to speak to it."""

    def __init__(self, host: str, path: str, options: RegistryOptions) -> None:
        self.host = host
        self.path = path
        self.options = options
        self._http: httpx2.AsyncClient | None = None
        self._base: httpx2.URL | None = None
        self._authorizer: Authorizer | None = None
        self._starting = asyncio.Lock()

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    @property
    def login(self) -> str:
        """Whose login was asked for; empty where none was, or nobody is logged in."""
        return self._authorizer.login if self._authorizer else ""

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """The manifest or index of a tag or digest, and the media type that it is sent as. Raises SourceError."""
        return await retried(self.options, lambda: self._manifest(wanted))

    async def small_blob(self, digest: str, largest: int) -> bytes:
        """A document that is a blob. Raises SourceError."""

        async def attempt() -> bytes:
            async with self.blob(digest, 0) as response:
                return await self._read(response, largest, digest)

        return await retried(self.options, attempt)

    async def need_blob(self, digest: str) -> None:
        """See that a blob is there; none of it is read. Raises SourceError."""

        async def attempt() -> None:
            async with self.blob(digest, 0):
                return

        await retried(self.options, attempt)

    async def _manifest(self, wanted: str) -> tuple[bytes, str]:
        what = f"manifest {self.path}{'@' if usual_digest(wanted) else ':'}{wanted}"
        async with self.get(f"/v2/{self.path}/manifests/{wanted}", what, {"Accept": ACCEPT}) as response:
            if media_type(response) in ("text/html", "application/xhtml+xml"):
                raise RegistryError(
                    f"{host_of(response.url)} answers with a web page: it is no registry, or a proxy answers"
                )
            raw = await self._read(response, LARGEST_DOCUMENT, what)
        if self.options.as_daemon and "content-type" not in response.headers:
            raise UnsoundSourceError(f"{self.host} sends the {what} without its type, which the daemon needs")
        digest, said = digest_of(raw), response.headers.get("docker-content-digest", "")
        if usual_digest(said) and said != digest:
            raise UnsoundSourceError(f"{self.host} sends the {what} with the digest {digest}, and says {said}")
        return raw, media_type(response)

    def blob(self, digest: str, offset: int, url: str | None = None) -> AbstractAsyncContextManager[httpx2.Response]:
        """A blob from an offset on, its body not read yet; ``url`` is one of its descriptor's. Raises as `get` does."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        address = str(address_of(url)) if url else f"/v2/{self.path}/blobs/{checked_digest(digest)}"
        return self.get(address, f"blob {digest}", headers)

    @asynccontextmanager
    async def get(self, address: str, what: str, headers: Mapping[str, str]) -> AsyncIterator[httpx2.Response]:
        """A response of success, logged in and redirected; a path is one at the registry. A range that cannot be had
        (416) counts as success: what is there is of no use. Raises SourceError, PassingError."""
        response = await self._logged_in(address_of(address, await self._start()), headers)
        async with aclosing(response):
            if response.status_code not in (200, 206, 416):
                body = await self._beginning(response)
                raise status_failure(response, body, what)
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            if encoding not in ("", "identity"):
                # A blob's digest is of its bytes as they are: nobody may compress them on the way.
                host = host_of(response.url)
                raise RegistryError(f"{host} sends its answer {encoding[:20]}-encoded, though asked not to")
            yield response

    async def _logged_in(self, url: httpx2.URL, headers: Mapping[str, str]) -> httpx2.Response:
        """The response once the registry is content with who asks; others are told nothing. Raises SourceError."""
        assert self._authorizer is not None
        for _ in range(_MOST_LOGINS):
            sent = self._authorizer.current
            response = await self._redirected(url, headers, sent)
            if response.status_code != 401 or not self._is_ours(response.url):
                return response
            await self._drain(response)
            challenges = parse_challenges(response.headers.get_list("www-authenticate"))
            await self._authorizer.answer(challenges, sent)
        raise DeniedError(f"{self.host} refuses the token that its own server gave for {self.path}")

    async def _redirected(self, url: httpx2.URL, headers: Mapping[str, str], secret: str | None) -> httpx2.Response:
        """Follow redirects; the secret goes to the registry's own origin only."""
        for _ in range(_MOST_REDIRECTS + 1):
            if not may_carry(url, self.options.plain_http):
                hint = "give --plain-http to allow it" if url.scheme == "http" else ""
                raise RegistryError(f"{self.host} sends to {url.host} without https", hint=hint)
            own = {"Authorization": secret} if secret and self._is_ours(url) else {}
            response = await self._send(httpx2.Request("GET", url, headers={**headers, **own}))
            if response.status_code not in _REDIRECTS:
                return response
            await self._drain(response)
            url = address_of(response.headers.get("location", ""), response.url)
        raise RegistryError(f"{self.host} redirects more than {_MOST_REDIRECTS} times")

    def _is_ours(self, url: httpx2.URL) -> bool:
        return self._base is not None and origin_of(url) == origin_of(self._base)

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request with the fields and the timeout that all requests have. Raises SourceError, PassingError."""
        assert self._http is not None
        request.headers.setdefault("Accept", "*/*")
        request.headers["User-Agent"] = CLIENT_ID
        request.headers["Accept-Encoding"] = "identity"
        route = Route(request.url)
        request.extensions |= {"timeout": self._http.timeout.as_dict(), "trace": route}
        longest = self.options.timeout + self.options.rate_seconds
        try:
            async with asyncio.timeout(longest):
                return await self._http.send(request, stream=True)
        except TimeoutError as error:
            raise PassingError(f"{host_of(request.url)} gave no whole answer in {longest:g} seconds") from error
        except httpx2.TransportError as error:
            raise await transport_failure(error, request, self.options, route) from error

    async def _send_and_read(self, request: httpx2.Request) -> tuple[httpx2.Response, bytes]:
        """One request of a login."""
        async with aclosing(await self._send(request)) as response:
            return response, await self._beginning(response)

    async def chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        """The body as it comes. Raises SourceError, PassingError where it breaks off or comes too slowly."""
        try:
            async for chunk in paced(response.aiter_raw(), host_of(response.url), self.options):
                yield chunk
        except httpx2.TransportError as error:
            request = response.request
            raise await transport_failure(error, request, self.options, Route(request.url)) from error

    async def _read(self, response: httpx2.Response, largest: int, what: str) -> bytes:
        """All of a body. Raises UnsoundSourceError for more than ``largest`` bytes."""
        body = await self._beginning(response, largest)
        if len(body) > largest:
            raise UnsoundSourceError(f"{host_of(response.url)} sends more than {largest} bytes for the {what}")
        return body

    async def _beginning(self, response: httpx2.Response, enough: int = _LARGEST_FAULT) -> bytes:
        """A body until there is more than ``enough`` of it: what says what is wrong, or is a token, is shorter."""
        body = bytearray()
        async for chunk in self.chunks(response):
            body += chunk
            if len(body) > enough:
                break
        return bytes(body)

    async def _drain(self, response: httpx2.Response) -> None:
        """Read a short body to its end, so that the connection can be used again."""
        async with aclosing(response):
            with suppress(SourceError, PassingError):  # the next request finds another connection
                await self._beginning(response)

    async def _start(self) -> httpx2.URL:
        """The registry's address; where it is on loopback, https is tried before http."""
        async with self._starting:
            if self._http is None:
                look_up_apart(asyncio.get_running_loop())
                # Reading the system's authorities takes longer than a key's answer may.
                self._http = await asyncio.to_thread(_http_client, self.options)
            if self._base is None:
                scheme = "http" if self.options.plain_http or await self._speaks_http_only() else "https"
                self._base = address_of(f"{scheme}://{self.host}")
                self._authorizer = Authorizer(self.host, self.path, self.options, self._send_and_read, self._base)
            return self._base

    async def _speaks_http_only(self) -> bool:
        if self.options.as_daemon:
            return self.host.startswith("localhost")
        url = address_of(f"https://{self.host}/v2/")
        if not is_loopback(url.host):
            return False
        try:
            response = await self._send(httpx2.Request("GET", url))
        except (SourceError, PassingError) as error:
            # Whether nobody there speaks TLS; a certificate that is not to be trusted says that somebody does.
            kinds = (ssl.SSLError, ConnectionResetError, EOFError)
            failed = next((cause for cause in causes_of(error) if isinstance(cause, kinds)), None)
            return failed is not None and not isinstance(failed, ssl.SSLCertVerificationError)
        await response.aclose()
        return False


def _http_client(options: RegistryOptions) -> httpx2.AsyncClient:
    """A client that asks by the environment's proxies; of those that cannot be used it tells where they would be."""
    verify, ways = trusting(options.tls_ca), dict[str, httpx2.AsyncBaseTransport | None]()
    for pattern, proxy in get_environment_proxies().items():
        ways[pattern] = None if proxy is None else _by_proxy(pattern.removesuffix("://"), proxy, verify)
    return httpx2.AsyncClient(verify=verify, timeout=options.timeout, mounts=ways, trust_env=False)


def _by_proxy(scheme: str, proxy: str, verify: ssl.SSLContext) -> httpx2.AsyncBaseTransport:
    kind = ""
    with suppress(RegistryError):
        kind = address_of(proxy).scheme
    return httpx2.AsyncHTTPTransport(verify=verify, proxy=proxy) if kind in ("http", "https") else _NoWay(scheme, kind)


class _NoWay(httpx2.AsyncBaseTransport):
    """What would be sent to a proxy that cannot be used; its address may hold a password. Raises SourceError."""

    def __init__(self, scheme: str, kind: str) -> None:
        self._scheme, self._what = scheme, f"that speaks {kind}" if kind else "with what is no address"

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        variable = proxy_variable(self._scheme)
        hint = f"write it as http://HOST:PORT, an IPv6 address in brackets, or unset {variable}"
        raise SourceError(f"{variable} names a proxy {self._what}", hint=hint)


_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/(\*|[0-9]{1,19})", re.ASCII)
# A try that brought so much does not count as failed: the line is bad, but it leads somewhere.
_WORTH_IT = 1 << 20
# So many layers come at once.
_PARALLEL = 4


async def download(client: RegistryClient, layer: Layer, blob: PartialBlob) -> None:
    """Append to ``blob`` what is missing; what the registry may not keep comes from where its descriptor says
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
            async with client.blob(blob.digest, blob.done, url) as response:
                _place(response, blob)
                _check_length(response, blob)
                async for chunk in client.chunks(response):
                    await blob.append(chunk)
            if blob.done < blob.size:
                raise PassingError(f"{client.host} ended {blob.digest} after {blob.done} of {blob.size} bytes")
        except PassingError as error:
            await blob.flush()
            if blob.done - before >= _WORTH_IT:
                backoff.made_progress()
            await backoff.wait(error)


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

    def __init__(self, asked: str, options: SourceOptions) -> None:
        self._asked, self._options, self.reference = asked, options, Reference.parse(asked)
        host = self.reference.asked_of(options.registry.mirror)
        self._client = RegistryClient(host, self.reference.path, options.registry)
        self._documents: dict[str, bytes] = {}
        self._leaves: list[Leaf] | None = None

    @property
    def private(self) -> bool:
        """Whether it took what the daemon's own client has not: a login, an authority, plain http, a mirror."""
        options, mirrored = self._client.options, self._client.host != self.reference.registry
        return bool(self._client.login or options.tls_ca or options.plain_http or mirrored)

    async def listing(self) -> SourceListing:
        """The image's platforms; the sizes of the one that would be taken. Raises SourceError."""
        leaves = await self._found()
        images = [ListedImage((self._asked,), leaf.digest, leaf.platform, None, None) for leaf in leaves]
        try:
            chosen = await self.resolve()
        except NoSuchImageError as error:
            return SourceListing(self._asked, tuple(images), (error.message,), self._client.login)
        listed = [chosen.listed() if image.digest == chosen.digest else image for image in images]
        return SourceListing(self._asked, tuple(listed), chosen.notes, self._client.login)

    async def resolve(self) -> SourceImage:
        """The image of the platform. Raises SourceError."""
        platform, name = self._options.platform, None
        leaf = choose(await self._found(), platform)
        with suppress(InvalidNameError):
            name = ImageName.parse(self._asked)
        return await read_image(leaf, platform, name, self._read, complete=self._options.complete)

    async def fetch(self, image: SourceImage, blobs: BlobStore, progress: BlobProgress = unheard) -> Layers:
        """Download what the store lacks, several layers at once. Raises SourceError, StorageError."""
        slots = asyncio.Semaphore(_PARALLEL)

        async def fetch_one(layer: Layer) -> None:
            async with slots:
                await blobs.fetch(layer.digest, layer.size, lambda blob: download(self._client, layer, blob), progress)

        different = {layer.digest: layer for layer in image.layers}
        coming = {digest: asyncio.create_task(fetch_one(layer)) for digest, layer in different.items()}
        try:
            for layer in image.layers:
                while True:
                    # One may have failed while another was read.
                    for one in filter(asyncio.Task.done, coming.values()):
                        one.result()
                    if coming[layer.digest].done():
                        break
                    left = [one for one in coming.values() if not one.done()]
                    await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                yield layer.at(blobs.directory / layer.digest)
        finally:
            for one in coming.values():
                one.cancel()
            await settled(asyncio.gather(*coming.values(), return_exceptions=True))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _found(self) -> list[Leaf]:
        if self._leaves is None:
            what = f"the manifest of {self._asked}"
            raw, sent_as = await self._client.manifest(self.reference.wanted)
            if self.reference.digest:
                check_bytes(what, raw, self.reference.digest)
            digest = digest_of(raw)
            self._documents[digest] = raw
            root = BlobDescriptor(media_type_of(what, raw, sent_as), digest, len(raw))
            self._leaves = await find_leaves([(root, (self._asked,))], self._read)
            if not self._leaves:
                raise NoSuchImageError(f"{self._asked} is an index without any image")
        return self._leaves

    async def _read(self, descriptor: BlobDescriptor, largest: int) -> bytes:
        digest = descriptor.digest
        if digest not in self._documents:
            if descriptor.media_type in (OCI_CONFIG, DOCKER_CONFIG):
                self._documents[digest] = await self._client.small_blob(digest, largest)
            else:
                self._documents[digest], _ = await self._client.manifest(digest)
        return self._documents[digest]
