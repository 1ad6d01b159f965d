"""The requests of a pull (OCI distribution-spec, "Pulling manifests", "Pulling blobs") to one repository."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

from ..errors import DeniedError, RegistryError, SourceError, UnsoundSourceError
from ..sources.images import INDEXES, LARGEST_DOCUMENT, MANIFESTS, digest_of
from ..sources.references import RegistryOptions, is_digest, is_loopback, may_carry, origin_of
from .auth import CLIENT_ID, Authorizer, parse_challenges
from .failures import PassingError, causes_of, media_type, paced, retried, status_failure, transport_failure

ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_MOST_LOGINS = 3
_LARGEST_FAULT = 64 << 10


class RegistryClient:
    """Reads one repository of a registry; to be closed. The first request finds out how to speak to it.

    That raises SourceError for a `tls_ca` which holds no certificate.
    """

    def __init__(self, host: str, path: str, options: RegistryOptions) -> None:
        self.host = host
        self.path = path
        self.options = options
        self._http: httpx2.AsyncClient | None = None
        self._base: httpx2.URL | None = None
        self._authorizer: Authorizer | None = None
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """The manifest or index of a tag or digest, and the media type that it is sent as, tried again as often as the
        options say. Raises SourceError."""
        return await retried(self.options, lambda: self._manifest(wanted))

    async def small_blob(self, digest: str, largest: int) -> bytes:
        """A document that is a blob. Raises SourceError."""

        async def attempt() -> bytes:
            async with self.blob(digest, 0) as response:
                return await self._read(response, largest, digest)

        return await retried(self.options, attempt)

    async def _manifest(self, wanted: str) -> tuple[bytes, str]:
        what = f"manifest {self.path}{'@' if is_digest(wanted) else ':'}{wanted}"
        url = await self._url("manifests", wanted)
        async with self.get(url, what, {"Accept": ACCEPT}) as response:
            if media_type(response) in ("text/html", "application/xhtml+xml"):
                raise RegistryError(f"{_host(response)} answers with a web page: it is no registry, or a proxy answers")
            raw = await self._read(response, LARGEST_DOCUMENT, what)
        digest, said = digest_of(raw), response.headers.get("docker-content-digest", "")
        if is_digest(said) and said != digest:
            raise UnsoundSourceError(f"{self.host} sends the {what} with the digest {digest}, and says {said}")
        return raw, media_type(response)

    @asynccontextmanager
    async def blob(self, digest: str, offset: int, url: str | None = None) -> AsyncIterator[httpx2.Response]:
        """A blob from an offset on, its body not read yet; ``url`` is one of its descriptor's.

        Raises SourceError, PassingError.
        """
        if not is_digest(digest):
            raise UnsoundSourceError(f"{digest[:80]!r} is no sha256 digest")
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        where = _parsed(url) if url else await self._url("blobs", digest)
        async with self.get(where, f"blob {digest}", headers) as response:
            yield response

    async def _url(self, kind: str, name: str) -> httpx2.URL:
        base = await self._start()
        return base.join(f"/v2/{self.path}/{kind}/{name}")

    @asynccontextmanager
    async def get(self, url: httpx2.URL, what: str, headers: Mapping[str, str]) -> AsyncIterator[httpx2.Response]:
        """A response of success, logged in and redirected. Raises SourceError, PassingError.

        A range that cannot be had (416) counts as success: what is there is of no use.
        """
        response = await self._logged_in(url, headers)
        try:
            if response.status_code not in (200, 206, 416):
                body = await self._beginning(response)
                raise status_failure(response, body, what)
            _check_encoding(response)
            yield response
        except httpx2.TransportError as error:
            raise transport_failure(error, response.url, self.options.timeout) from error
        finally:
            await response.aclose()

    async def _logged_in(self, url: httpx2.URL, headers: Mapping[str, str]) -> httpx2.Response:
        """The response once the registry is content with who asks; others are told nothing. Raises SourceError."""
        await self._start()
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
                raise RegistryError(
                    f"{self.host} sends to {url.host} without https", hint="give --plain-http to allow it"
                )
            own = {"Authorization": secret} if secret and self._is_ours(url) else {}
            response = await self._send(httpx2.Request("GET", url, headers={**headers, **own}))
            if response.status_code not in _REDIRECTS:
                return response
            await self._drain(response)
            url = _parsed(response.headers.get("location", ""), response.url)
        raise RegistryError(f"{self.host} redirects more than {_MOST_REDIRECTS} times")

    def _is_ours(self, url: httpx2.URL) -> bool:
        return self._base is not None and origin_of(url) == origin_of(self._base)

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await self._send_raw(request)
        except httpx2.TransportError as error:
            raise transport_failure(error, request.url, self.options.timeout) from error

    async def _send_raw(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request with the fields and the timeout that all requests have. Raises httpx2.TransportError."""
        assert self._http is not None
        request.headers.setdefault("Accept", "*/*")
        request.headers["User-Agent"] = CLIENT_ID
        request.headers["Accept-Encoding"] = "identity"
        request.extensions["timeout"] = self._http.timeout.as_dict()
        longest = self.options.timeout + self.options.rate_seconds
        try:
            async with asyncio.timeout(longest):
                return await self._http.send(request, stream=True)
        except TimeoutError as error:
            raise httpx2.ReadTimeout(f"no whole answer in {longest:g} seconds", request=request) from error

    async def _send_and_read(self, request: httpx2.Request) -> tuple[httpx2.Response, bytes]:
        """One request of a login."""
        response = await self._send(request)
        try:
            return response, await self._beginning(response)
        except httpx2.TransportError as error:
            raise transport_failure(error, request.url, self.options.timeout) from error
        finally:
            await response.aclose()

    def chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        """The body as it comes. Raises PassingError where it comes too slowly, httpx2.TransportError."""
        return paced(response.aiter_raw(), _host(response), self.options)

    async def _read(self, response: httpx2.Response, largest: int, what: str) -> bytes:
        """All of a body. Raises UnsoundSourceError for more than ``largest`` bytes."""
        body = await self._beginning(response, largest)
        if len(body) > largest:
            raise UnsoundSourceError(f"{_host(response)} sends more than {largest} bytes for the {what}")
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
        try:
            await self._beginning(response)
        except (httpx2.TransportError, PassingError):
            pass  # the next request finds another connection
        finally:
            await response.aclose()

    async def _start(self) -> httpx2.URL:
        """The registry's address; where it is on loopback, https is tried before http."""
        async with self._starting:
            if self._http is None:
                # Reading the system's authorities takes longer than a key's answer may.
                self._http = await asyncio.to_thread(_http_client, self.options)
            if self._base is None:
                scheme = "http" if self.options.plain_http or await self._speaks_http_only() else "https"
                self._base = _parsed(f"{scheme}://{self.host}")
                self._authorizer = Authorizer(self.host, self.path, self.options, self._send_and_read, self._base)
            return self._base

    async def _speaks_http_only(self) -> bool:
        url = _parsed(f"https://{self.host}/v2/")
        if not is_loopback(url.host):
            return False
        try:
            response = await self._send_raw(httpx2.Request("GET", url))
        except httpx2.TransportError as error:
            return _is_no_tls(error)
        await response.aclose()
        return False


def _check_encoding(response: httpx2.Response) -> None:
    """A blob's digest is of its bytes as they are: nobody may compress them on the way. Raises RegistryError."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RegistryError(f"{_host(response)} sends its answer {encoding[:20]}-encoded, though asked not to")


def _http_client(options: RegistryOptions) -> httpx2.AsyncClient:
    context = ssl.create_default_context()
    if options.tls_ca is not None:
        try:
            context.load_verify_locations(options.tls_ca)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise SourceError(f"{options.tls_ca} holds no certificate: {reason}", hint="give a file in PEM") from error
    return httpx2.AsyncClient(verify=context, timeout=options.timeout)


def _parsed(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    try:
        url = base.join(text) if base is not None else httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise RegistryError(f"{text[:80]!r} is no address") from error
    if not url.host:
        raise RegistryError(f"{text[:80]!r} is no address")
    return url


def _is_no_tls(error: BaseException) -> bool:
    """Whether a handshake failed because nobody there speaks TLS, rather than for a certificate."""
    for cause in causes_of(error):
        if isinstance(cause, ssl.SSLError | ConnectionResetError | EOFError):
            return not isinstance(cause, ssl.SSLCertVerificationError)
    return False


def _host(response: httpx2.Response) -> str:
    return response.url.netloc.decode("ascii", "replace")
