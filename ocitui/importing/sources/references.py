"""References to images in registries, and how a registry is spoken to.

References are read by the grammar of the distribution project (`reference/regexp.go`):

    reference       := name [ ":" tag ] [ "@" digest ]
    name            := [ domain "/" ] path-component [ "/" path-component ]*
    domain          := host [ ":" port ], a host being names with dots, or an IPv6 address in brackets
    path-component  := [a-z0-9]+ ( ( "." | "_" | "__" | "-"* ) [a-z0-9]+ )*

What stands before the first slash is a domain when it holds a dot, a colon or a capital, or is `localhost`; a name
without one is Docker Hub's, where a name of one component is in `library/`.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ocitui.cache import Platform, usual_digest

from ..errors import InvalidReferenceError, UnsoundSourceError
from ..layers.layers import LayerLimits

HUB = "docker.io"
HUB_REGISTRY = "registry-1.docker.io"
HUB_NAMES = (HUB, "index.docker.io", HUB_REGISTRY)
_LONGEST_NAME = 255
LARGEST_PORT = 65_535

_WORD = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"({_WORD}(?:\.{_WORD})*|\[[a-fA-F0-9:]+\])(?::([0-9]+))?", re.ASCII)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_HEX_NAME = re.compile(r"[a-f0-9]{64}", re.ASCII)


def checked_digest(text: str) -> str:
    """The text, ``sha256:`` and 64 hexadecimal digits: nothing else goes near a path. Raises UnsoundSourceError."""
    if not usual_digest(text):
        raise UnsoundSourceError(f"{text[:80]!r} is no sha256 digest")
    return text


def is_host(text: str) -> bool:
    """Whether this is a host as a reference holds it, with a port or without."""
    match = _HOST.fullmatch(text)
    return match is not None and (not match[2] or (len(match[2]) <= 5 and int(match[2]) <= LARGEST_PORT))


def checked_host(text: str, what: str) -> str:
    """The text, a host with a port or without; ``what`` it is to be. Raises InvalidReferenceError."""
    refuse_login(text)
    if not is_host(text):
        raise InvalidReferenceError(f"{what} {text} is not a host", hint="write it as HOST[:PORT]")
    return text


def registry_named(text: str) -> str:
    """The host of a registry as an operator calls it, which is Docker Hub's by any of its names. Raises
    InvalidReferenceError."""
    return HUB_REGISTRY if text in HUB_NAMES else checked_host(text, "the registry")


class Reference(msgspec.Struct, frozen=True):
    """An image in a registry: ``domain`` is `docker.io` for the Hub, ``path`` whole (`library/alpine`), ``tag`` is
    `latest` where neither a tag nor a digest was given."""

    domain: str
    path: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises InvalidReferenceError."""
        refuse_login(text)
        name, tag, digest = _split(text)
        domain, path = _split_domain(name)
        _check(text, domain, path, tag, digest)
        return cls(domain, path, tag if tag or digest else "latest", digest)

    @property
    def wanted(self) -> str:
        """What stands in the address of the manifest: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def registry(self) -> str:
        """The host and port that serve it."""
        return HUB_REGISTRY if self.domain == HUB else self.domain

    def asked_of(self, mirror: str | None) -> str:
        """The same where a ``mirror`` serves the Hub's images. Raises InvalidReferenceError."""
        return self.registry if self.domain != HUB or mirror is None else checked_host(mirror, "the mirror")


def refuse_login(text: str) -> None:
    """Raises InvalidReferenceError, which does not repeat it, for what may hold a password: `user:password@host/a`."""
    before, _, behind = text.rpartition("://")[2].partition("@")
    # A tag has a password's place only where nothing is said of a digest; a name with a port has a slash.
    tagged = ":" in before and "/" not in before and not behind.startswith(("sha256:", "sha512:"))
    if "/" in behind or "@" in behind or (tagged and behind):
        hint = "leave it out, and log in with skopeo login or with --login"
        raise InvalidReferenceError(
            "what stands before the @ reads as a login, which is not taken from there", hint=hint
        )


def same_image(name: str, other: str) -> bool:
    """Whether two names mean the same image: `busybox` is `docker.io/library/busybox:latest`."""
    try:
        return name == other or Reference.parse(name) == Reference.parse(other)
    except InvalidReferenceError:
        return False


def _split(text: str) -> tuple[str, str | None, str | None]:
    name, at, digest = text.partition("@")
    # A colon before the last slash belongs to a port.
    above, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return above + slash + last, tag if colon else None, digest if at else None


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = first == "localhost" or first != first.lower() or any(mark in first for mark in ".:")
    domain, path = (first, rest) if slash and is_domain else (HUB, name)
    if domain in HUB_NAMES:
        return HUB, path if "/" in path else f"library/{path}"
    return domain, path


def _check(text: str, domain: str, path: str, tag: str | None, digest: str | None) -> None:
    if not is_host(domain):
        raise InvalidReferenceError(f"{text!r}: {domain!r} is not a host")
    if not _PATH.fullmatch(path):
        lower = " (a name is in lower case)" if _PATH.fullmatch(path.lower()) else ""
        raise InvalidReferenceError(f"{text!r}: {path.removeprefix('library/')!r} is not a name{lower}")
    if len(domain) + 1 + len(path) > _LONGEST_NAME:
        raise InvalidReferenceError(f"{text[:60]!r}...: the name is longer than {_LONGEST_NAME} characters")
    if _HEX_NAME.fullmatch(text):
        raise InvalidReferenceError(f"{text!r} is an image's id, not a name", hint="registries know names only")
    if tag is not None and not _TAG.fullmatch(tag):
        raise InvalidReferenceError(f"{text!r}: {tag!r} is not a tag")
    if digest is not None and not usual_digest(digest):
        raise InvalidReferenceError(f"{text!r}: {digest!r} is not sha256: and 64 hexadecimal digits")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, or a token that an OAuth2 server takes in their place."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of an `Authorization` field (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


Logins = Mapping[str, Credentials]


def home_path(text: str | Path) -> Path:
    """The path with its home directory written out, where it has one: `Path.expanduser` would raise RuntimeError."""
    return Path(os.path.expanduser(text))


class RegistryOptions(msgspec.Struct, frozen=True):
    """``tls_ca`` is trusted besides the system's authorities; ``mirror`` serves the Hub's images. ``timeout`` is the
    longest silence in seconds. Who sends less than ``least_rate`` bytes a second, on the average of ``rate_seconds`` by
    ``clock``, has broken off. ``sleep`` waits between two of ``tries``, ``notify`` is told why. ``logins``, by their
    registries' hosts, go before those in files. ``as_daemon`` keeps to what krata's own client does
    (crates/oci/src/registry.rs): anonymous, a token only of a named service and scope, https but for localhost."""

    tls_ca: Path | None = None
    plain_http: bool = False
    authfile: Path | None = None
    mirror: str | None = None
    timeout: float = 30
    least_rate: float = 1024
    rate_seconds: float = 60
    tries: int = 5
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    notify: Callable[[str], None] = lambda message: None
    environment: Mapping[str, str] = os.environ
    logins: Logins = {}
    as_daemon: bool = False

    @classmethod
    def typed(cls, tls_ca: str | None, plain_http: bool, authfile: str | None, mirror: str | None) -> RegistryOptions:
        """As an operator names the files."""
        ca_file, auth_file = (None if file is None else home_path(file) for file in (tls_ca, authfile))
        return cls(ca_file, plain_http, auth_file, mirror)


class SourceOptions(msgspec.Struct, frozen=True):
    """``platform`` is None for this machine's; ``complete`` adds a history to a config that has none. ``limits`` bound
    what is unpacked of a compressed archive."""

    platform: Platform | None = None
    registry: RegistryOptions = RegistryOptions()
    complete: bool = False
    limits: LayerLimits = LayerLimits()
