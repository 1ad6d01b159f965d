"""Answers to a registry's challenges: basic credentials, or a token from the server that the challenge names.

Docker Registry v2 authentication, "token" and "oauth2": the `realm` gives a token for a `service` and `scope`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx2
import msgspec

from ..source_errors import DeniedError, RegistryError
from .challenge import Challenge
from .credentials import Credentials, find_credentials
from .failures import PassingError, status_failure
from .options import RegistryOptions, is_loopback, may_carry
from .retry import retried

CLIENT_ID = "ocitui"
_LARGEST = 1 << 20

Send = Callable[[httpx2.Request], Awaitable[tuple[httpx2.Response, bytes]]]
"""Sends one request, follows no redirect, reads so much of the body."""


@dataclass(frozen=True, slots=True)
class TokenKey:
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

    async def answer(self, challenges: Sequence[Challenge], rejected: str | None) -> str:
        """What to send instead of ``rejected``; several requests that were refused at once ask once.

        Raises DeniedError, RegistryError, CredentialsError, TransferError.
        """
        async with self._lock:
            if self.current is None or self.current == rejected:
                self.current = await self._renewed(challenges, rejected)
            return self.current

    async def _renewed(self, challenges: Sequence[Challenge], rejected: str | None) -> str:
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        if bearer := by_scheme.get("bearer"):
            return await self._bearer(bearer, rejected)
        if "basic" in by_scheme:
            return await self._basic(rejected)
        schemes = ", ".join(by_scheme) or "no scheme at all"
        raise RegistryError(f"{self._host} wants a login by {schemes}; this knows Bearer and Basic")

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
        scope = parameters.get("scope") or f"repository:{self._path}:pull"
        key = TokenKey(parameters.get("realm", ""), parameters.get("service", ""), scope)
        known = self._tokens.get(key)
        if known is None or known == rejected:
            known = self._tokens[key] = f"Bearer {await self._token(key)}"
        return known

    async def _find(self) -> Credentials | None:
        if not self._looked:
            self._credentials = await find_credentials(self._host, self._path, self._options)
            self._looked = True
        return self._credentials

    async def _token(self, key: TokenKey) -> str:
        credentials = await self._find()
        realm = self._realm(key, credentials is not None)
        return await retried(self._options, lambda: self._ask(realm, key, credentials))

    def _realm(self, key: TokenKey, secret: bool) -> httpx2.URL:
        """Where tokens are given. Raises RegistryError where no secret, or nothing, may be sent there."""
        try:
            realm = self._base.join(key.realm)
        except httpx2.InvalidURL as error:
            raise RegistryError(f"{self._host} names a token server that is no address: {key.realm[:80]!r}") from error
        if not key.realm or not realm.host:
            raise RegistryError(f"{self._host} names no token server")
        safe = realm.scheme == "https" or (realm.scheme == "http" and is_loopback(realm.host))
        if not safe and (secret or not may_carry(realm, self._options.plain_http)):
            raise RegistryError(
                f"{self._host} wants credentials sent to {realm.host} without https; they were not sent",
                hint="ask who runs the registry: its token server must speak https",
            )
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
        found = token.token or token.access_token or ""
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
