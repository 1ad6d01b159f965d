"""What a registry or the way to it does wrong, in words for an operator; some of it passes when tried again."""

from __future__ import annotations

import asyncio
import base64
import datetime
import email.utils
import os
import socket
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec

from ocitui.cache import open_bounded

from ..errors import DeniedError, NoSuchImageError, RegistryError, SourceError, TransferError
from ..sources.references import RegistryOptions

_LONGEST_WAIT = 60
_LONGEST_TEXT = 300
_LARGEST_AUTHORITY = 64 << 20
# By OpenSSL's X509_V_ERR_: HOSTNAME_MISMATCH and IP_ADDRESS_MISMATCH; CERT_NOT_YET_VALID and CERT_HAS_EXPIRED.
_CERTIFICATE_HINTS = {
    **dict.fromkeys((62, 64), "write the host as its certificate names it"),
    **dict.fromkeys((9, 10), "see that this machine's clock is right; if it is, the certificate has to be renewed"),
}
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class PassingError(Exception):
    """Something that may go well the next time. ``wait`` is what the registry asked for, in seconds."""

    def __init__(self, message: str, *, wait: float | None = None, connected: bool = True, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or "see that the registry runs and can be reached"
        self.wait = wait
        self.connected = connected


class _Fault(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Faults(msgspec.Struct, frozen=True):
    """The body of an error (distribution-spec, "Error codes"); token servers write `details`."""

    errors: list[_Fault] = []
    details: str = ""


_decode_faults = msgspec.json.Decoder(_Faults).decode


class Route:
    """Where a request is sent, by httpcore's trace: a proxy, which fails otherwise. ``failed``: it came no further."""

    def __init__(self, url: httpx2.URL) -> None:
        self.url = url
        self.failed = False
        self._end = ("", 0)

    async def __call__(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._end = told["host"], told["port"]
        self.failed = event in ("connection.connect_tcp.failed", "connection.start_tls.failed")

    @property
    def proxy(self) -> str:
        """The proxy, and the variable that names it; empty where the host itself was asked."""
        host, port = self._end
        if not host or (host, port) == (self.url.host, self.url.port or _PORTS.get(self.url.scheme)):
            return ""
        return f"the proxy {host}:{port} ({proxy_variable(self.url.scheme) or proxy_variable('all')})"


_PORTS = {"http": 80, "https": 443}


def proxy_variable(scheme: str) -> str:
    """The variable of the environment that names the proxy of a scheme, or of all; empty where none does."""
    wanted = f"{scheme}_proxy"
    return next((name for name in (wanted, *os.environ) if name.lower() == wanted and os.environ.get(name)), "")


async def transport_failure(
    error: httpx2.TransportError, request: httpx2.Request, options: RegistryOptions, route: Route
) -> SourceError | PassingError:
    """What a failure on the way means; a host whose certificate is not valid now is asked again when it is."""
    url, proxy = request.url, route.proxy
    host, causes = (proxy if route.failed else "") or host_of(url), list(causes_of(error))
    way = f"see that the proxy is right and runs, or name {url.host} in NO_PROXY" if proxy else ""
    certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if certificate is not None:
        is_of_now = proxy or certificate.verify_code not in (9, 10)
        times = "" if is_of_now else await _certificate_times(url, options)
        return RegistryError(
            f"the certificate of {host} is not to be trusted: {certificate.verify_message}{times}",
            hint=_CERTIFICATE_HINTS.get(certificate.verify_code, "name the file of its authority with --tls-ca"),
        )
    if isinstance(error, httpx2.ProxyError):
        # Its status only: what a proxy says besides may be anything.
        return PassingError(f"{proxy} gives no way to {host}: {str(error)[:3]}", connected=False, hint=way)
    if isinstance(error, httpx2.ConnectError) and any(isinstance(cause, ssl.SSLError) for cause in causes):
        return RegistryError(f"{host} does not speak TLS", hint="give --plain-http if it is meant to speak plain http")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        there = host if route.failed and proxy else url.host
        return RegistryError(f"there is no host {there}", hint=way or "see that the name is right and that DNS answers")
    said, by = without_secrets(str(error), request) or type(error).__name__, f" by {proxy}" if proxy else ""
    if isinstance(error, httpx2.ConnectTimeout | httpx2.ConnectError):
        return PassingError(f"{host} cannot be reached: {said}", connected=False, hint=way)
    if isinstance(error, httpx2.TimeoutException):
        return PassingError(f"{host}{by} sent nothing for {options.timeout:g} seconds")
    return PassingError(f"{host}{by} broke off: {said}")


# X509_V_FLAG_NO_CHECK_TIME: all of a certificate is verified but when it is valid.
_NO_CHECK_TIME = 0x200000


async def _certificate_times(url: httpx2.URL, options: RegistryOptions) -> str:
    """From when until when a host's certificate is valid; empty where it does not tell. Nothing is sent there."""
    with suppress(OSError, KeyError, TypeError):
        context = await asyncio.to_thread(trusting, options.tls_ca)
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
        async with asyncio.timeout(options.timeout):
            _, writer = await asyncio.open_connection(url.host, url.port or _PORTS["https"], ssl=context)
        writer.close()
        told = writer.get_extra_info("peercert")
        return f"; its own is valid from {told['notBefore']} until {told['notAfter']}"
    return ""


def trusting(tls_ca: Path | None) -> ssl.SSLContext:
    """Trusts the system's authorities, and those of a file. Raises SourceError."""
    context = ssl.create_default_context()
    if tls_ca is not None:
        try:
            open_bounded(tls_ca, _LARGEST_AUTHORITY).close()
            context.load_verify_locations(tls_ca)
        except OSError as error:  # ssl.SSLError is one
            reason = "it is no PEM" if isinstance(error, ssl.SSLError) else error.strerror
            hint = "name a file of certificates in PEM with --tls-ca"
            raise SourceError(f"{tls_ca} holds no certificate: {reason}", hint=hint) from error
    return context


def status_failure(response: httpx2.Response, body: bytes, what: str) -> SourceError | PassingError:
    """What a status that is no success means; ``what`` was asked for."""
    host = host_of(response.url)
    status = without_secrets(f"{response.status_code} {response.reason_phrase}", response.request)
    said = without_secrets(_fault(body), response.request)
    if response.status_code in (401, 403):
        return DeniedError(f"{host} does not give {what}: {said or status}; it may not exist, or want a login")
    if response.status_code == 404:
        return NoSuchImageError(f"{host} has no {what}: {said or status}", hint="see that name, tag and host are right")
    if response.status_code in _PASSING:
        return PassingError(f"{host} answers {status}{said and f': {said}'}", wait=retry_after(response))
    return RegistryError(f"{host} answers {status} for {what}{said and f': {said}'}")


def host_of(url: httpx2.URL) -> str:
    """The host, and the port where one is named."""
    return url.netloc.decode("ascii", "replace")


def retry_after(response: httpx2.Response) -> float | None:
    """What `Retry-After` asks for, in seconds and at most a minute (RFC 9110, 10.2.3); None where it asks nothing."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:9]), _LONGEST_WAIT))
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        return None
    left = (until - datetime.datetime.now(datetime.UTC)).total_seconds()
    return min(max(left, 0.0), _LONGEST_WAIT)


def printable(text: str) -> str:
    """A registry's words as a terminal may show them."""
    text = "".join(mark if mark.isprintable() else " " for mark in text[:_LONGEST_TEXT])
    return " ".join(text.split())


def media_type(response: httpx2.Response) -> str:
    """The content's type without its parameters; empty where it is not given."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower()


def _fault(body: bytes) -> str:
    try:
        faults = _decode_faults(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    first = faults.errors[0] if faults.errors else _Fault(message=faults.details)
    return first.message or first.code


def without_secrets(text: str, request: httpx2.Request) -> str:
    """A registry's words as a terminal may show them, without what the request told it in confidence."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    secrets = [secret, *urllib.parse.parse_qs(request.content.decode("latin-1")).get("refresh_token", [])]
    if scheme.lower() == "basic":
        with suppress(ValueError):
            secrets.append(base64.b64decode(secret).decode().partition(":")[2])
    for one in filter(None, secrets):
        for spelled in (one, urllib.parse.quote(one, safe=""), urllib.parse.quote_plus(one)):
            text = text.replace(spelled, "***")
    return printable(text)


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of, ten at the most."""
    seen = 0
    while error is not None and seen < 10:
        yield error
        seen += 1
        error = error.__cause__ or error.__context__


async def paced(parts: AsyncIterator[bytes], host: str, options: RegistryOptions) -> AsyncIterator[bytes]:
    """The parts of a body. Raises PassingError where few come in a while that is spent waiting; and as ``parts``."""
    waited, came = 0.0, 0
    while True:
        before = options.clock()
        part = await anext(parts, b"")
        waited += options.clock() - before
        came += len(part)
        if waited >= options.rate_seconds:
            if came < options.least_rate * waited:
                raise PassingError(f"{host} sent only {came} bytes in {waited:.0f} seconds")
            waited, came = 0.0, 0
        if not part:
            return
        yield part


T = TypeVar("T")


class Backoff:
    """Counts the tries of one request, and waits between them."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._failed = 0

    def made_progress(self) -> None:
        """A long transfer over a bad line goes on for as long as it gets anywhere."""
        self._failed = 0

    async def wait(self, error: PassingError) -> None:
        """Wait before the next try. Raises TransferError after the last one."""
        self._failed += 1
        if self._failed >= self._options.tries:
            raise TransferError(f"{error.message} (after {self._failed} tries)") from error
        seconds = error.wait if error.wait is not None else min(2.0 ** (self._failed - 1), float(_LONGEST_WAIT))
        self._options.notify(f"{error.message}; trying again in {seconds:g} s")
        await self._options.sleep(seconds)


async def retried(options: RegistryOptions, attempt: Callable[[], Awaitable[T]]) -> T:
    """What ``attempt`` gives, tried again at a PassingError where somebody answers. Raises TransferError too."""
    backoff = Backoff(options)
    while True:
        try:
            return await attempt()
        except PassingError as error:
            if not error.connected:
                raise TransferError(error.message, hint=error.hint) from error
            await backoff.wait(error)
