"""Where a registry's login may be sent: its own host, a token server that is known for it, and one that the operator
agreed to; and a login for one import."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx2
import pytest

from ocitui.cache import ConflictError
from ocitui.importing.errors import (
    CredentialsError,
    DeniedError,
    InvalidReferenceError,
    RegistryError,
    UnknownRealmError,
)
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.jobs import ImportJob
from ocitui.importing.registry.auth import Authorizer, Challenge, allow_realm
from ocitui.importing.sources.references import HUB_REGISTRY, Credentials, RegistryOptions
from tests.importing.image_makers import make_image, put
from tests.importing.pulling import Pull, is_whole
from tests.importing.registry_server import FaultyRegistry, Reply

LOGIN = Credentials("anna", "s3cret")


class Asking:
    """A client that is asked to answer a challenge, and what it sent."""

    def __init__(self, registry: str, config: Path, logins: bool = True) -> None:
        options = RegistryOptions(
            logins={registry: LOGIN} if logins else {}, environment={"XDG_CONFIG_HOME": str(config)}
        )
        self.sent: list[tuple[str, str]] = []
        self._authorizer = Authorizer(registry, "a/b", options, self._send, httpx2.URL(f"https://{registry}"))

    async def _send(self, request: httpx2.Request) -> tuple[httpx2.Response, bytes]:
        self.sent.append((request.url.netloc.decode(), request.headers.get("authorization", "")))
        return httpx2.Response(200, request=request), b'{"token": "t"}'

    async def answer(self, realm: str) -> list[tuple[str, str]]:
        assert await self._authorizer.answer([Challenge("bearer", {"realm": realm})], None) == "Bearer t"
        return self.sent


@pytest.mark.parametrize(
    ("registry", "realm", "host"),
    [
        (HUB_REGISTRY, "https://auth.docker.io/token", "auth.docker.io"),
        (HUB_REGISTRY, "https://auth.docker.io:443/token", "auth.docker.io"),
        ("registry.example", "https://registry.example/token", "registry.example"),
        ("registry.example:5000", "https://REGISTRY.example:5001/token", "registry.example:5001"),
        ("registry.example", "/token", "registry.example"),
    ],
)
async def test_its_own_host_and_what_is_known(registry: str, realm: str, host: str, tmp_path: Path) -> None:
    assert await Asking(registry, tmp_path).answer(realm) == [(host, LOGIN.basic())]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("registry", "realm", "host"),
    [
        (HUB_REGISTRY, "https://auth.docker.io:444/token", "auth.docker.io:444"),
        (HUB_REGISTRY, "https://auth.docker.io.example/token", "auth.docker.io.example"),
        (HUB_REGISTRY, "https://auth.docker.io@evil.example/token", "evil.example"),
        ("mirror.example", "https://auth.docker.io/token", "auth.docker.io"),
        ("registry.example", "https://auth.registry.example/token", "auth.registry.example"),
        ("registry.example", "https://registry.example./token", "registry.example."),
        ("registry.example", "//evil.example/token", "evil.example"),
    ],
)
async def test_another_host_is_told_nothing_before_the_operator_agrees(
    registry: str, realm: str, host: str, tmp_path: Path
) -> None:
    asking = Asking(registry, tmp_path)
    with pytest.raises(UnknownRealmError) as raised:
        await asking.answer(realm)
    assert (raised.value.registry, raised.value.realm, asking.sent) == (registry, host, [])
    assert f"{registry} wants its login sent to {host}" in raised.value.message
    # Without a login there is nothing to tell.
    assert await Asking(registry, tmp_path, logins=False).answer(realm) == [(host, "")]


async def test_what_was_agreed_to_is_remembered_for_that_registry(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    for realm in ("auth.example", "tokens.example:5001", "auth.example"):
        allow_realm(tmp_path / "cache", "registry.example:5000", realm, environment)
    file = tmp_path / "ocitui" / "realms.toml"
    assert file.read_text() == '"registry.example:5000" = ["auth.example","tokens.example:5001"]\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for realm in ("auth.example", "tokens.example:5001"):
        answer = await Asking("registry.example:5000", tmp_path).answer(f"https://{realm}/token")
        assert answer == [(realm, LOGIN.basic())]
    for registry, realm in (("registry.example", "auth.example"), ("registry.example:5000", "auth.example:1")):
        with pytest.raises(UnknownRealmError):
            await Asking(registry, tmp_path).answer(f"https://{realm}/token")


@pytest.mark.parametrize("realm", ["auth_svc:5001", "auth.example."])
async def test_a_host_that_no_reference_may_have_can_be_agreed_to(realm: str, tmp_path: Path) -> None:
    allow_realm(tmp_path / "cache", "registry.example", realm, {"XDG_CONFIG_HOME": str(tmp_path)})
    answer = await Asking("registry.example", tmp_path).answer(f"https://{realm}/token")
    assert answer == [(realm, LOGIN.basic())]


@pytest.mark.parametrize("realm", ["https://auth.example", "a b", "anna:secret@auth.example", "auth.example/token", ""])
def test_what_is_no_host_is_not_agreed_to(realm: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidReferenceError) as raised:
        allow_realm(tmp_path / "cache", "registry.example", realm, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert "secret" not in raised.value.message
    assert not (tmp_path / "ocitui").exists()


async def test_a_realm_of_the_hub_can_be_agreed_to(tmp_path: Path) -> None:
    allow_realm(tmp_path / "cache", HUB_REGISTRY, "login.example", {"XDG_CONFIG_HOME": str(tmp_path)})
    answer = await Asking(HUB_REGISTRY, tmp_path).answer("https://login.example/token")
    assert answer == [("login.example", LOGIN.basic())]


async def test_what_is_no_address_is_told_without_what_may_be_a_secret(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="h:99999/' is no address") as raised:
        await Asking("registry.example", tmp_path).answer("https://anna:s3cret@h:99999/?token=t0ken")
    assert "s3cret" not in raised.value.message
    assert "t0ken" not in raised.value.message


@pytest.mark.parametrize(
    "content",
    [
        b'"registry.example" = "auth.example"',
        b'"registry.example" = ["auth.example", 1]',
        b'"registry.example" = ["https://auth.example"]',
        b'"a b" = ["auth.example"]',
        b"registry",
        b"\xff",
        b"a = " + b"[" * 5000,
        b'"registry.example" = ["auth.example"]\n' + b"#" * (1 << 16),
    ],
    ids=["no list", "a number", "an address", "no host", "no TOML", "no text", "too deep", "too large"],
)
async def test_a_file_of_realms_that_is_none_lets_nothing_out(content: bytes, tmp_path: Path) -> None:
    file, asking = tmp_path / "ocitui" / "realms.toml", Asking("registry.example", tmp_path)
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(CredentialsError, match="is not read") as raised:
        await asking.answer("https://auth.example/token")
    with pytest.raises(CredentialsError, match="is not read"):
        allow_realm(tmp_path / "cache", "a.example", "b.example", {"XDG_CONFIG_HOME": str(tmp_path)})
    assert asking.sent == []
    assert file.read_bytes() == content
    assert "remove it: where a login may go is asked again then" in raised.value.hint
    file.unlink()
    with pytest.raises(UnknownRealmError):
        await asking.answer("https://auth.example/token")


def test_realms_are_never_kept_in_the_cache(tmp_path: Path) -> None:
    with pytest.raises(ConflictError):
        allow_realm(tmp_path, "a.example", "b.example", {"XDG_CONFIG_HOME": str(tmp_path / ".ocitui")})
    assert not any(tmp_path.iterdir())


async def test_a_file_that_others_could_read_is_the_operator_s_alone_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "ocitui" / "realms.toml"
    file.parent.mkdir()
    file.write_text("")
    file.chmod(0o644)
    allow_realm(tmp_path / "cache", "a.example", "b.example", {"XDG_CONFIG_HOME": str(tmp_path)})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [*file.parent.iterdir()] == [file]


async def test_a_login_for_one_import_goes_first_and_marks_the_source_as_private(
    pull: Pull, registry: FaultyRegistry
) -> None:
    image = put(registry, make_image(b"x"), "v1")
    refusal = Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'})
    registry.rules.append(lambda request: None if request.authorization == LOGIN.basic() else refusal)
    pull.plain_http = False
    pull.logins = {registry.host: LOGIN}
    pull.environment = {"REGISTRY_AUTH_FILE": "/nowhere"}
    assert is_whole(await pull.run(), image)
    source = pull.source()
    await source.resolve()
    assert source.private, "the daemon's own client has no login"
    await source.aclose()


async def test_a_login_that_nobody_asked_for_is_not_sent_and_marks_nothing(
    pull: Pull, registry: FaultyRegistry
) -> None:
    put(registry, make_image(b"x"), "v1")
    pull.plain_http = False
    pull.logins = {registry.host: LOGIN}
    source = pull.source()
    await source.resolve()
    await source.aclose()
    assert not source.private
    assert {request.authorization for request in registry.requests} == {None}


async def test_a_login_for_another_registry_is_not_sent(pull: Pull, registry: FaultyRegistry) -> None:
    registry.always("/v2/", Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'}))
    pull.logins = {"other.example": LOGIN}
    with pytest.raises(DeniedError, match="none are known"):
        await pull.run()
    assert {request.authorization for request in registry.requests} == {None}


def test_a_login_stands_in_no_record_and_no_text() -> None:
    request = ImportRequest(source="docker://registry.example/a")
    job = ImportJob(1, request, logins={"registry.example": LOGIN})
    options = request.source_options(logins=job.logins)
    assert options.registry.logins == job.logins
    assert not [text for text in (repr(job), repr(options), request.to_json().decode()) if "s3cret" in text]
