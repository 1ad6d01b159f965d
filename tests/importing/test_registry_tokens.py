"""Logging in: token servers, passwords and identity tokens, and who is never told a secret."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ocitui.importing.errors import DeniedError, RegistryError, SourceError, TransferError
from ocitui.importing.registry.auth import Challenge
from tests.importing.image_makers import Made, make_image, put
from tests.importing.pulling import Pull, is_whole, write_auths
from tests.importing.registry_server import FaultyRegistry, Reply, Request, digest_of, serving

IMAGE = make_image(b"a" * 1000, b"b" * 1000, b"c" * 1000)
BASIC = "Basic " + base64.b64encode(b"anna:se:cret").decode()
SCOPE = "repository:team/app:pull,push"


class TokenServer:
    """Gives tokens `t1`, `t2`, ...; the registry takes the newest only. ``login`` is what it wants first."""

    def __init__(self, registry: FaultyRegistry, realm: str, login: str | None = None) -> None:
        self.given = 0
        self.field = "token"
        self.login = login
        self.challenge = f'Bearer realm="{realm}",service="our service",scope="{SCOPE}"'
        self.requests: list[Request] = []
        registry.rules.append(self.guard)

    def guard(self, request: Request) -> Reply | None:
        if request.path == "/token":
            return self.give(request)
        if request.path.startswith("/v2/") and request.authorization != f"Bearer t{self.given}":
            return Reply(401, {"WWW-Authenticate": self.challenge})
        return None

    def give(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.login is not None and request.authorization != self.login:
            return Reply(401, body=b'{"details": "incorrect username or password"}')
        self.given += 1
        return Reply(body=json.dumps({self.field: f"t{self.given}", "expires_in": 60}).encode())


@pytest.fixture
def image(registry: FaultyRegistry) -> Made:
    return put(registry, IMAGE, "v1")


@pytest.fixture
async def elsewhere() -> AsyncIterator[FaultyRegistry]:
    async with serving(FaultyRegistry()) as running:
        yield running


@pytest.fixture
def authfile(tmp_path: Path, registry: FaultyRegistry) -> Path:
    return write_auths(tmp_path / "auth.json", registry.host, auth=base64.b64encode(b"anna:se:cret").decode())


@pytest.mark.parametrize("field", ["token", "access_token"])
async def test_token_for_one_who_is_not_logged_in(
    pull: Pull, registry: FaultyRegistry, image: Made, field: str
) -> None:
    server = TokenServer(registry, f"http://{registry.host}/token")
    server.field = field
    assert is_whole(await pull.run(), image)
    (request,) = server.requests
    assert request.query == {"service": ["our service"], "scope": [SCOPE]}
    assert request.authorization is None


async def test_expired_token_is_renewed_once_for_all_layers(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    server = TokenServer(registry, f"http://{registry.host}/token")
    source = pull.source()
    found = await source.resolve()
    server.given += 1  # so that the token that was given is refused
    assert is_whole([one async for one in source.fetch(found, pull.blobs)], image)
    await source.aclose()
    assert len(server.requests) == 2


async def test_password(pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path) -> None:
    server = TokenServer(registry, f"http://{registry.host}/token", BASIC)
    pull.authfile = authfile
    assert is_whole(await pull.run(), image)
    (request,) = server.requests
    assert request.query["account"] == ["anna"]
    assert BASIC not in {request.authorization for request in registry.asked("/v2/")}


async def test_wrong_password(pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path) -> None:
    TokenServer(registry, f"http://{registry.host}/token", "Basic another")
    pull.authfile = authfile
    with pytest.raises(DeniedError, match=r"gives no token to anna: .*incorrect username or password"):
        await pull.run()


async def test_token_that_is_never_taken(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    server = TokenServer(registry, f"http://{registry.host}/token")
    registry.rules.insert(0, lambda request: server.give(request) if request.path == "/token" else None)
    registry.rules.insert(1, lambda request: Reply(401, {"WWW-Authenticate": server.challenge}))
    with pytest.raises(DeniedError, match="refuses the token"):
        await pull.run()


async def test_identity_token(pull: Pull, registry: FaultyRegistry, image: Made, tmp_path: Path) -> None:
    server = TokenServer(registry, f"http://{registry.host}/token")
    auth = base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode()
    pull.authfile = write_auths(tmp_path / "a", registry.host, auth=auth, identitytoken="refresh me")
    assert is_whole(await pull.run(), image)
    (request,) = server.requests
    assert request.method == "POST"
    assert urllib.parse.parse_qs(request.body.decode()) == {
        "grant_type": ["refresh_token"],
        "service": ["our service"],
        "client_id": ["ocitui"],
        "scope": [SCOPE],
        "refresh_token": ["refresh me"],
    }


async def test_whose_login_it_was_is_told(
    pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path, tmp_path: Path
) -> None:
    async def login() -> str | None:
        source = pull.source()
        listing = await source.listing()
        await source.aclose()
        return listing.login

    assert await login() == ""
    TokenServer(registry, f"http://{registry.host}/token")
    assert await login() == ""
    pull.authfile = authfile
    assert await login() == "anna"
    auth = base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode()
    pull.authfile = write_auths(tmp_path / "a", registry.host, auth=auth, identitytoken="refresh me")
    assert await login() == "<token>"


async def test_busy_token_server(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    TokenServer(registry, f"http://{registry.host}/token")
    replies = [Reply(429, {"Retry-After": "3"})]
    registry.rules.insert(0, lambda request: replies.pop() if request.path == "/token" and replies else None)
    assert is_whole(await pull.run(), image)
    assert pull.waits.seconds == [3]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"token": ""}', b'{"token": "a\\r\\nb: c"}', b"[1]"])
async def test_token_server_that_gives_none(pull: Pull, registry: FaultyRegistry, image: Made, body: bytes) -> None:
    TokenServer(registry, f"http://{registry.host}/token")
    registry.rules.insert(0, lambda request: Reply(body=body) if request.path == "/token" else None)
    with pytest.raises(RegistryError, match="token"):
        await pull.run()


@pytest.mark.parametrize(
    "realm",
    ["http://registry.example/token", "ftp://127.0.0.1/token", "", "http://[", "https://a:99999/t", "https://a:-1/t"],
)
async def test_realm_that_is_told_no_secret(
    pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path, realm: str
) -> None:
    TokenServer(registry, realm)
    pull.authfile = authfile
    with pytest.raises(RegistryError, match=r"without https|no address|no token server|answers without|is no token"):
        await pull.run()


async def test_basic(pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="ours"'}
    registry.rules.append(lambda request: None if request.authorization == BASIC else Reply(401, challenge))
    with pytest.raises(DeniedError, match="none are known"):
        await pull.run()
    pull.authfile = authfile
    assert is_whole(await pull.run(), image)


async def test_basic_with_a_wrong_password(pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path) -> None:
    registry.always("/v2/", Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'}))
    pull.authfile = authfile
    with pytest.raises(DeniedError, match="refuses the password of anna"):
        await pull.run()


async def test_scheme_that_nobody_knows(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    registry.always("/v2/", Reply(401, {"WWW-Authenticate": "Negotiate"}))
    with pytest.raises(RegistryError, match="negotiate"):
        await pull.run()


async def test_redirect_to_another_host_takes_no_secret_along(
    pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path, elsewhere: FaultyRegistry
) -> None:
    server = TokenServer(registry, f"http://{registry.host}/token", BASIC)
    elsewhere.blobs = registry.blobs

    def redirect(request: Request) -> Reply | None:
        target = f"http://{elsewhere.host}{request.path}?signed=1"
        allowed = "/blobs/" in request.path and request.authorization == f"Bearer t{server.given}"
        return Reply(307, {"Location": target}) if allowed else None

    registry.rules.insert(0, redirect)
    pull.authfile = authfile
    elsewhere.once(digest_of(image.layers[0]), Reply(body=image.layers[0], cut=20))
    assert is_whole(await pull.run(), image)
    assert len(elsewhere.requests) == 5
    assert all(request.authorization is None for request in elsewhere.requests)
    assert [request.headers["range"] for request in elsewhere.requests if "range" in request.headers] == ["bytes=20-"]


async def test_another_host_that_asks_for_a_login_gets_none(
    pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path, elsewhere: FaultyRegistry
) -> None:
    registry.rules.append(
        lambda request: (
            Reply(302, {"Location": f"http://{elsewhere.host}/x"}) if "/manifests/" in request.path else None
        )
    )
    elsewhere.always("/x", Reply(401, {"WWW-Authenticate": 'Basic realm="give it to me"'}))
    pull.authfile = authfile
    with pytest.raises(DeniedError):
        await pull.run()
    assert [request.authorization for request in elsewhere.requests] == [None]


async def test_redirect_within_the_registry_keeps_the_login(
    pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path
) -> None:
    registry.rules.append(
        lambda request: Reply(308, {"Location": "v2"}) if request.path.endswith("/manifests/v1") else None
    )
    registry.rules.append(
        lambda request: None if request.authorization == BASIC else Reply(401, {"WWW-Authenticate": "Basic"})
    )
    registry.manifests["v2"] = registry.manifests["v1"]
    pull.authfile = authfile
    assert is_whole(await pull.run(), image)


async def test_redirects_without_end(pull: Pull, registry: FaultyRegistry) -> None:
    registry.always("/v2/", Reply(302, {"Location": "v1"}))
    with pytest.raises(RegistryError, match="redirects more than 5 times"):
        await pull.run()


async def test_redirect_to_plain_http(pull: Pull, registry: FaultyRegistry) -> None:
    pull.plain_http = False
    registry.always("/v2/", Reply(302, {"Location": "http://registry.example/"}))
    with pytest.raises(RegistryError, match=r"registry\.example without https"):
        await pull.run()


async def test_many_requests_ask_once(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    server = TokenServer(registry, f"http://{registry.host}/token")
    source = pull.source()
    await source.resolve()
    authorizer = source._client._authorizer
    assert authorizer is not None
    challenge = Challenge("bearer", {"realm": f"http://{registry.host}/token"})
    old = authorizer.current
    answers = await asyncio.gather(*(authorizer.answer([challenge], old) for _ in range(8)))
    await source.aclose()
    assert set(answers) == {"Bearer t2"}
    assert len(server.requests) == 2


@pytest.mark.parametrize("port", ["99999", "-1", "x"])
async def test_redirect_to_a_port_that_there_is_not(
    pull: Pull, registry: FaultyRegistry, image: Made, port: str
) -> None:
    registry.always("/manifests/", Reply(307, {"Location": f"https://127.0.0.1:{port}/x"}))
    with pytest.raises(RegistryError, match="is no address"):
        await pull.run()


ECHO = json.dumps({"errors": [{"code": "DENIED", "message": "{}"}]})


@pytest.mark.parametrize("status", [400, 403, 404, 503])
@pytest.mark.parametrize("told", ["Basic YW5uYTpzZTpjcmV0", "se:cret", "se%3Acret", "x" * 297 + "se:cret"])
async def test_an_error_that_echoes_a_password(
    pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path, status: int, told: str
) -> None:
    challenge = Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'})
    echo = Reply(status, body=ECHO.replace("{}", told).encode())
    registry.rules.append(lambda request: echo if request.authorization == BASIC else challenge)
    pull.authfile = authfile
    with pytest.raises(SourceError) as raised:
        await pull.run()
    said = [raised.value.one_line, *pull.waits.messages]
    assert "***" in said[0]
    assert not [text for text in said for part in ("se:", "se%", "cret", "YW5uY") if part in text]


async def test_a_server_that_echoes_an_identity_token(
    pull: Pull, registry: FaultyRegistry, image: Made, tmp_path: Path
) -> None:
    server = TokenServer(registry, f"http://{registry.host}/token")
    registry.once("/token", Reply(400, body=ECHO.replace("{}", "no token s/cret+ here").encode()))
    registry.rules.reverse()
    pull.authfile = write_auths(tmp_path / "auth.json", registry.host, identitytoken="s/cret+")
    with pytest.raises(RegistryError, match=r"no token \*\*\* here"):
        await pull.run()
    assert server.given == 0


async def test_a_header_that_is_none_and_echoes_a_password(
    pull: Pull, registry: FaultyRegistry, image: Made, authfile: Path
) -> None:
    challenge = Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'})
    broken = Reply(200, {"Your Authorization": BASIC})
    registry.rules.append(lambda request: broken if request.authorization == BASIC else challenge)
    pull.authfile = authfile
    with pytest.raises(TransferError) as raised:
        await pull.run()
    assert "broke off" in raised.value.message
    assert "YW5uY" not in "".join([raised.value.one_line, *pull.waits.messages])
