"""How to speak to a registry, and which addresses may be told a secret."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2  # a tenth of a second to load, for who only wants to name options

Origin = tuple[str, str, int | None]


def _nothing(message: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """``tls_ca`` is trusted besides the system's authorities; ``plain_http`` asks for http to any host.

    ``mirror`` serves the Hub's images. ``timeout`` is the longest silence in seconds. Who sends less than
    ``least_rate`` bytes a second, on the average of ``rate_seconds`` by ``clock``, is taken to have broken off.
    ``sleep`` waits between two of ``tries``, and ``notify`` is told why.
    """

    tls_ca: Path | None = None
    plain_http: bool = False
    authfile: Path | None = None
    mirror: str | None = None
    timeout: float = 30
    least_rate: float = 1024
    rate_seconds: float = 60
    tries: int = 5
    parallel: int = 4
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    notify: Callable[[str], None] = _nothing
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by its name or address alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def origin_of(url: httpx2.URL) -> Origin:
    """Scheme, host and port: what has another origin is told no secret."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def may_carry(url: httpx2.URL, plain_http: bool) -> bool:
    """Whether a request may go there at all: over https, or plainly where that was asked for or is loopback."""
    return url.scheme == "https" or (url.scheme == "http" and (plain_http or is_loopback(url.host)))
