"""Who an operator is to a registry: what it asks for, where the secrets lie, and the token that is given for them.

A challenge is the `WWW-Authenticate` field of RFC 9110, 11.6.1:

    challenge  = auth-scheme [ 1*SP ( token68 / [ auth-param *( OWS "," OWS auth-param ) ] ) ]
    auth-param = token BWS "=" BWS ( token / quoted-string )

Challenges are separated by commas, and so are their parameters; a quoted string may hold commas too, as the scope
`repository:a:pull,push` does. It is answered with basic credentials, or with a token from the server that it names
(Docker Registry v2 authentication, "token" and "oauth2": the `realm` gives a token for a `service` and `scope`).

Credentials are those of Docker's `config.json` and containers' `auth.json`. Their keys are hosts, addresses, or
(containers only) a host and the beginning of a name; the Hub's is `https://index.docker.io/v1/`. `credHelpers` and
`credsStore` name programs that keep the secrets. They go to the registry's own host, and to a token server on another
one only where that is known for it, or the operator agreed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import httpx2
import msgspec

from ocitui.cache import read_bounded
from ocitui.host import config_path, find_program, read_config, write_config

from ..errors import CredentialsError, DeniedError, InvalidReferenceError, RegistryError, UnknownRealmError
from ..sources.references import (
    HUB_NAMES,
    HUB_REGISTRY,
    LARGEST_PORT,
    Credentials,
    RegistryOptions,
    checked_host,
    is_host,
    refuse_login,
)
from .failures import PassingError, host_of, printable, retried, status_failure, trusting

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_AUTH_SCHEME = re.compile(rf"[ \t,]*({_TOKEN})(?=[ \t,]|\Z)")
_TOKEN68 = re.compile(r"[ \t]*[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")
# Some registries leave out the quotes of an address, though it holds what no token may.
_PARAMETER = re.compile(rf'[ \t,]*({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


class Challenge(msgspec.Struct, frozen=True):
    """One challenge: ``scheme`` and the names of ``parameters`` in lower case; a token68 is of no use here."""

    scheme: str
    parameters: dict[str, str] = {}


def parse_challenges(fields: Iterable[str]) -> list[Challenge]:
    """All challenges of the field's lines, in order. What follows something that fits no rule is left out."""
    challenges = []
    for line in fields:
        position = 0
        while scheme := _AUTH_SCHEME.match(line, position):
            parameters: dict[str, str] = {}
            position = scheme.end()
            if match := _TOKEN68.match(line, position):
                position = match.end()
            else:
                while match := _PARAMETER.match(line, position):
                    name, quoted, plain = match.groups()
                    parameters.setdefault(name.lower(), plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted))
                    position = match.end()
            challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_NOT_FOUND = b"credentials not found"
# A helper may have to ask its user for a password.
_TIMEOUT = 60


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str
    secret: str


_decode_answer = msgspec.json.Decoder(_Answer).decode


async def ask_helper(name: str, server: str) -> Credentials | None:
    """What a helper has for a server; None where that is nothing. Raises CredentialsError."""
    if not _NAME.fullmatch(name):
        raise CredentialsError(f"{name!r} is not the name of a credential helper")
    program = f"docker-credential-{name}"
    status, output, errors = await _run(program, server)
    if status != 0:
        if _NOT_FOUND in output + errors:
            return None
        # Its errors stand in either; an object may hold the secret.
        said = printable((errors or output).partition(b"{")[0].decode("utf-8", "replace"))
        raise CredentialsError(f"{program} fails with status {status}: {said}", hint="see that the helper works")
    try:
        answer = _decode_answer(output)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CredentialsError(f"{program} gives no credentials: {error}", hint="see that the helper works") from error
    if not answer.secret:
        return None
    if answer.username == "<token>":
        return Credentials(identity_token=answer.secret)
    return Credentials(answer.username, answer.secret)


async def _run(program: str, server: str) -> tuple[int | None, bytes, bytes]:
    pipe, hint = asyncio.subprocess.PIPE, "install it, or name other credentials with --authfile"
    if (path := find_program(program)) is None:
        raise CredentialsError(f"the credential helper {program} is not installed", hint=hint)
    try:
        process = await asyncio.create_subprocess_exec(path, "get", stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        message = f"the credential helper {program} cannot be run: {error.strerror}"
        raise CredentialsError(message, hint=hint) from error
    try:
        output, errors = await asyncio.wait_for(process.communicate(server.encode()), _TIMEOUT)
    except TimeoutError as error:
        raise CredentialsError(f"{program} does not answer within {_TIMEOUT} seconds") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode, output, errors


HUB_KEY = "https://index.docker.io/v1/"
_SCHEME = re.compile(r"https?://")
_LARGEST_CONFIG = 1 << 20


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
    keys = (HUB_KEY, *HUB_NAMES) if host in HUB_NAMES else (host,)
    for file, must_exist in _files(options):
        config = read_credentials(file, must_exist)
        helpers = config.cred_helpers or {}
        if helper := next((helpers[key] for key in keys if key in helpers), None):
            found = await ask_helper(helper, keys[0])
        else:
            found = await ask_helper(config.creds_store, keys[0]) if config.creds_store else None
            found = found or _from_entries(config.auths or {}, file, keys, path)
        if found is not None:
            return found
    return None


def _files(options: RegistryOptions) -> Iterator[tuple[Path, bool]]:
    """Where to look, and whether it must be there: what is named, else skopeo's and docker's, in skopeo's order."""
    environment = options.environment
    if authfile := options.authfile or environment.get("REGISTRY_AUTH_FILE"):
        yield Path(authfile), True
        return
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers", "auth.json"), False
    if named := environment.get("DOCKER_CONFIG"):
        yield Path(named, "config.json"), False
    elif home := environment.get("HOME"):
        yield Path(home, ".docker", "config.json"), False


def read_credentials(file: Path, must_exist: bool = True) -> _Config:
    """What such a file says; nothing where it is not there and need not be. Raises CredentialsError."""
    try:
        raw = read_bounded(file, _LARGEST_CONFIG)
        return _decode_config(raw) if raw.strip() else _Config()
    except FileNotFoundError as error:
        if must_exist:
            raise CredentialsError(f"{file} does not exist") from error
        return _Config()
    except OSError as error:
        raise CredentialsError(f"cannot read {file}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CredentialsError(f"{file} is no file of credentials: {error}") from error


def check_access(options: RegistryOptions) -> None:
    """See that the files and the mirror that an operator named can be used. Raises SourceError."""
    if options.authfile is not None:
        read_credentials(options.authfile)
    if options.tls_ca is not None:
        trusting(options.tls_ca)
    if options.mirror is not None:
        checked_host(options.mirror, "--mirror")


def _from_entries(entries: Mapping[str, _Entry], file: Path, keys: Sequence[str], path: str) -> Credentials | None:
    """The entry of the longest key that fits: a repository's before its host's."""
    parts = (PurePosixPath(path), *PurePosixPath(path).parents)
    names = [f"{key}/{part}" for part in parts for key in keys]
    by_name = {_plain(key): entry for key, entry in entries.items()} | dict(entries)
    for name in (*names, *keys):
        entry = by_name.get(name)
        if entry is not None and (found := _credentials(entry, file, name)) is not None:
            return found
    return None


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


CLIENT_ID = "ocitui"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by its name or address alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def address_of(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """An address, as it is read at ``base``. Raises RegistryError where it is none."""
    with suppress(httpx2.InvalidURL):
        url = base.join(text) if base is not None else httpx2.URL(text)
        if url.host and 0 < (url.port or 1) <= LARGEST_PORT:
            return url
    # What stands before an @ or after a ? may be a secret, which a registry can repeat.
    raise RegistryError(f"{text.partition('?')[0].rpartition('@')[2][:80]!r} is no address")


def origin_of(url: httpx2.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: what has another origin is told no secret."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def may_carry(url: httpx2.URL, plain_http: bool) -> bool:
    """Whether a request may go there at all: over https, or plainly where that was asked for or is loopback."""
    return url.scheme == "https" or (url.scheme == "http" and (plain_http or is_loopback(url.host)))


Send = Callable[[httpx2.Request], Awaitable[tuple[httpx2.Response, bytes]]]
"""Sends one request, follows no redirect, reads so much of the body."""


_REALMS = "realms.toml"
_KNOWN_REALMS = {HUB_REGISTRY: ["auth.docker.io"]}
"""Who gives a registry's tokens, and is another host."""


def allow_realm(directory: Path, registry: str, realm: str, environment: Mapping[str, str] = os.environ) -> None:
    """Remember, for this operator, that a registry's login may be sent to a realm. Raises CredentialsError,
    StorageError, InvalidReferenceError for what is no host, and ConflictError where the file would lie in the cache's
    ``directory``."""
    refuse_login(realm)
    if not _is_realm(realm):
        raise InvalidReferenceError(f"{realm} is not a host that could be asked", hint="write it as HOST[:PORT]")
    allowed = _allowed_realms(environment)
    realms = dict.fromkeys((*allowed.get(registry, ()), realm))
    write_config(directory, config_path(_REALMS, environment), allowed | {registry: [*realms]})


def _allowed_realms(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """The realms that the operator agreed to, by their registries. Raises CredentialsError."""
    path, hint = config_path(_REALMS, environment), "mend it, or remove it: where a login may go is asked again then"
    try:
        kept = read_config(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{path} is not read: {getattr(error, 'strerror', None) or error}", hint=hint) from error
    for registry, realms in kept.items():
        listed = isinstance(realms, list) and all(isinstance(one, str) and _is_realm(one) for one in realms)
        if not (listed and is_host(registry)):
            raise CredentialsError(f"{path} is not read: {registry[:80]!r} has no list of hosts", hint=hint)
    return kept


def _is_realm(text: str) -> bool:
    """Whether an address has this as its host: one with an underscore is in no reference, but may give tokens."""
    with suppress(RegistryError):
        return host_of(address_of(f"https://{text}")) == text
    return False


class TokenKey(msgspec.Struct, frozen=True):
    """What a token is for."""

    realm: str
    service: str
    scope: str


class _Token(msgspec.Struct, frozen=True):
    token: str | None = None
    access_token: str | None = None


_decode_token = msgspec.json.Decoder(_Token).decode


class Authorizer:
    """Holds what is sent as `Authorization` to one registry for one repository, and renews it."""

    def __init__(self, host: str, path: str, options: RegistryOptions, send: Send, base: httpx2.URL) -> None:
        self.current: str | None = None
        self._host = host
        self._path = path
        self._options = options
        self._send = send
        self._base = base
        self._tokens: dict[TokenKey, str] = {}
        self._credentials: Credentials | None = None
        self._looked = False
        self._lock = asyncio.Lock()

    @property
    def login(self) -> str:
        """Whose credentials were used, docker's ``<token>`` for an identity token; empty for nobody's."""
        used = self._credentials
        return "" if used is None else "<token>" if used.identity_token else used.username

    async def answer(self, challenges: Sequence[Challenge], rejected: str | None) -> str:
        """What to send instead of ``rejected``; several requests that were refused at once ask once. Raises
        RegistryError, which DeniedError and TransferError are, and CredentialsError."""
        async with self._lock:
            if self.current is None or self.current == rejected:
                by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
                if bearer := by_scheme.get("bearer"):
                    self.current = await self._bearer(bearer, rejected)
                elif "basic" in by_scheme:
                    self.current = await self._basic(rejected)
                else:
                    schemes = ", ".join(by_scheme) or "no scheme at all"
                    raise RegistryError(f"{self._host} wants a login by {schemes}; this knows Bearer and Basic")
            return self.current

    async def _basic(self, rejected: str | None) -> str:
        credentials = await self._find()
        if credentials is None or not credentials.username:
            raise DeniedError(f"{self._host} wants a name and password, and none are known")
        header = credentials.basic()
        if header == rejected:
            raise DeniedError(f"{self._host} refuses the password of {credentials.username}")
        return header

    async def _bearer(self, challenge: Challenge, rejected: str | None) -> str:
        parameters = challenge.parameters
        if self._options.as_daemon and not ("service" in parameters and "scope" in parameters):
            raise DeniedError(f"{self._host} names no service or scope for a token, without which the daemon asks none")
        scope = parameters.get("scope") or f"repository:{self._path}:pull"
        key = TokenKey(parameters.get("realm", ""), parameters.get("service", ""), scope)
        known = self._tokens.get(key)
        if known is None or known == rejected:
            credentials = await self._find()
            realm = self._realm(key, credentials is not None)
            token = await retried(self._options, lambda: self._ask(realm, key, credentials))
            known = self._tokens[key] = f"Bearer {token}"
        return known

    async def _find(self) -> Credentials | None:
        if not self._looked and not self._options.as_daemon:
            known = self._options.logins.get(self._host)
            self._credentials = known or await find_credentials(self._host, self._path, self._options)
            self._looked = True
        return self._credentials

    def _realm(self, key: TokenKey, secret: bool) -> httpx2.URL:
        """Where tokens are given. Raises RegistryError where no secret, or nothing, may be sent there, and
        UnknownRealmError where nobody agreed to it."""
        if not key.realm:
            raise RegistryError(f"{self._host} names no token server")
        try:
            realm = address_of(key.realm, self._base)
        except RegistryError as error:
            raise RegistryError(f"{self._host} names a token server, but {error.message}") from error
        if not may_carry(realm, self._options.plain_http and not secret):
            raise RegistryError(
                f"{self._host} wants credentials sent to {realm.host} without https; they were not sent",
                hint="ask who runs the registry: its token server must speak https",
            )
        where = host_of(realm)
        is_known = not secret or realm.host == self._base.host or where in _KNOWN_REALMS.get(self._host, ())
        if not is_known and where not in _allowed_realms(self._options.environment).get(self._host, ()):
            raise UnknownRealmError(self._host, where)
        return realm

    async def _ask(self, realm: httpx2.URL, key: TokenKey, credentials: Credentials | None) -> str:
        response, body = await self._send(_request(realm, key, credentials))
        if response.status_code != 200:
            failure = status_failure(response, body, f"a token for {key.scope}")
            if isinstance(failure, DeniedError):
                who = f"{credentials.username or 'this login'}" if credentials else "one who is not logged in"
                raise DeniedError(f"{realm.host} gives no token to {who}: {failure.message}")
            raise failure if isinstance(failure, PassingError) else RegistryError(failure.message)
        try:
            token = _decode_token(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RegistryError(f"{realm.host} answers with something that is no token") from error
        found = token.token or ("" if self._options.as_daemon else token.access_token) or ""
        if not found or not found.isascii() or not found.isprintable():
            raise RegistryError(f"{realm.host} answers without a token")
        return found


def _request(realm: httpx2.URL, key: TokenKey, credentials: Credentials | None) -> httpx2.Request:
    if credentials is not None and credentials.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": key.service,
            "client_id": CLIENT_ID,
            "scope": key.scope,
            "refresh_token": credentials.identity_token,
        }
        return httpx2.Request("POST", realm, data=form)
    query: list[tuple[str, str | int | float | bool | None]] = [("service", key.service)] if key.service else []
    query += [("scope", scope) for scope in key.scope.split()]
    if credentials is not None:
        query.append(("account", credentials.username))
    headers = {} if credentials is None else {"Authorization": credentials.basic()}
    return httpx2.Request("GET", realm.copy_merge_params(query), headers=headers)
