"""Who an operator is to a registry: Docker's `config.json` and containers' `auth.json`.

Keys are hosts, addresses, or (containers only) a host and the beginning of a name; the Hub's is
`https://index.docker.io/v1/`. `credHelpers` and `credsStore` name programs that keep the secrets.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ocitui.cache.files import read_bounded

from ..references import HUB, HUB_REGISTRY
from ..source_errors import CredentialsError
from .helper import ask_helper
from .options import RegistryOptions

HUB_KEY = "https://index.docker.io/v1/"
_HUB_KEYS = (HUB, "index.docker.io", HUB_REGISTRY)
_SCHEME = re.compile(r"https?://")
LARGEST_CONFIG = 1 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, or a token that an OAuth2 server takes in their place."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of an `Authorization` field (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _Entry(msgspec.Struct, frozen=True):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    auths: dict[str, _Entry] | None = None
    cred_helpers: dict[str, str] | None = None
    creds_store: str | None = None


_decode_config = msgspec.json.Decoder(_Config).decode


async def find_credentials(host: str, path: str, options: RegistryOptions) -> Credentials | None:
    """What is known for this registry and repository; None where nothing is. Raises CredentialsError."""
    for file, must_exist in _files(options):
        config = _read(file, must_exist)
        if config is not None and (found := await _find(config, file, host, path)) is not None:
            return found
    return None


def _files(options: RegistryOptions) -> Iterator[tuple[Path, bool]]:
    """Where to look, and whether the file must be there: one that is named is the only one."""
    environment = options.environment
    if options.authfile is not None:
        yield options.authfile, True
    elif named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named), True
    else:
        yield from ((file, False) for file in _usual_files(environment))


def _usual_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """What `skopeo login` and `docker login` write, in skopeo's order."""
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers", "auth.json")
    home = environment.get("HOME")
    if named := environment.get("DOCKER_CONFIG"):
        yield Path(named, "config.json")
    elif home:
        yield Path(home, ".docker", "config.json")


def _read(file: Path, must_exist: bool) -> _Config | None:
    try:
        raw = read_bounded(file, LARGEST_CONFIG)
        return _decode_config(raw) if raw.strip() else _Config()
    except FileNotFoundError as error:
        if must_exist:
            raise CredentialsError(f"{file} does not exist") from error
        return None
    except OSError as error:
        raise CredentialsError(f"cannot read {file}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CredentialsError(f"{file} is no file of credentials: {error}") from error


async def _find(config: _Config, file: Path, host: str, path: str) -> Credentials | None:
    server = HUB_KEY if host in _HUB_KEYS else host
    if helper := _by_host(config.cred_helpers or {}, host):
        return await _from_helper(helper, server)
    if config.creds_store and (found := await _from_helper(config.creds_store, server)) is not None:
        return found
    return _from_entries(config.auths or {}, file, host, path)


def _by_host(values: Mapping[str, str], host: str) -> str | None:
    return next((values[key] for key in _keys_of(host) if key in values), None)


def _keys_of(host: str) -> tuple[str, ...]:
    return (HUB_KEY, *_HUB_KEYS) if host in _HUB_KEYS else (host,)


async def _from_helper(helper: str, server: str) -> Credentials | None:
    answer = await ask_helper(helper, server)
    if answer is None:
        return None
    username, secret = answer
    return Credentials(identity_token=secret) if username == "<token>" else Credentials(username, secret)


def _from_entries(entries: Mapping[str, _Entry], file: Path, host: str, path: str) -> Credentials | None:
    """The entry of the longest key that fits: a repository's before its host's."""
    names = [f"{name}/{part}" for part in _beginnings(path) for name in _keys_of(host)] + list(_keys_of(host))
    by_name = {_plain(key): entry for key, entry in entries.items()} | dict(entries)
    for name in names:
        entry = by_name.get(name)
        if entry is not None and (found := _credentials(entry, file, name)) is not None:
            return found
    return None


def _beginnings(path: str) -> Iterator[str]:
    """`a/b/c`, `a/b`, `a`."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _plain(key: str) -> str:
    """A key without scheme, and without the path of a versioned address such as `https://host/v1/`."""
    plain = _SCHEME.sub("", key)
    return plain.partition("/")[0] if plain != key else plain


def _credentials(entry: _Entry, file: Path, name: str) -> Credentials | None:
    username, password = entry.username or "", entry.password or ""
    if entry.auth:
        try:
            decoded = base64.b64decode(entry.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise CredentialsError(f"the credentials for {name} in {file} are not base64") from error
        username, _, password = decoded.partition(":")
        password = password.rstrip("\0")
    if entry.identitytoken:
        return Credentials(username, identity_token=entry.identitytoken)
    return Credentials(username, password) if username else None
