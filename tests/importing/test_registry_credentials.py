"""Credentials from Docker's and containers' files, and from helper programs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ocitui.importing.errors import CredentialsError
from ocitui.importing.registry.auth import find_credentials
from ocitui.importing.sources.references import Credentials, RegistryOptions

HUB_KEY = "https://index.docker.io/v1/"


def encoded(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


async def find(tmp_path: Path, config: Any, host: str, path: str = "team/app") -> Credentials | None:
    file = tmp_path / "auth.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    return await find_credentials(host, path, RegistryOptions(authfile=file, environment={}))


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/v1/", "ghcr.io"),
        ("http://localhost:5000/v2/", "localhost:5000"),
        (HUB_KEY, "registry-1.docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("ghcr.io/team", "ghcr.io"),
        ("ghcr.io/team/app", "ghcr.io"),
    ],
)
async def test_keys(tmp_path: Path, key: str, host: str) -> None:
    auths = {key: encoded("anna:a:b"), "example.com": encoded("x:y")}
    assert await find(tmp_path, {"auths": auths}, host) == Credentials("anna", "a:b")


async def test_longest_key_wins(tmp_path: Path) -> None:
    auths = {"ghcr.io": encoded("host:1"), "ghcr.io/team": encoded("team:1"), "ghcr.io/team/other": encoded("other:1")}
    assert await find(tmp_path, {"auths": auths}, "ghcr.io") == Credentials("team", "1")
    assert await find(tmp_path, {"auths": auths}, "ghcr.io", "teams/app") == Credentials("host", "1")


@pytest.mark.parametrize("config", ["", "{}", {"auths": {"ghcr.io": {}}}, {"auths": {"ghcr.io.evil": encoded("a:b")}}])
async def test_nothing_known(tmp_path: Path, config: Any) -> None:
    assert await find(tmp_path, config, "ghcr.io") is None


@pytest.mark.parametrize("config", ["[]", "{", '{"auths": {"ghcr.io": {"auth": "*"}}}', '{"credHelpers": 1}'])
async def test_bad_files(tmp_path: Path, config: str) -> None:
    with pytest.raises(CredentialsError):
        await find(tmp_path, config, "ghcr.io")


async def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("anna", "secret", "secret"))


async def test_which_file(tmp_path: Path) -> None:
    def write(name: str, user: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"auths": {"ghcr.io": encoded(f"{user}:x")}}))
        return file

    async def user(environment: dict[str, str], authfile: Path | None = None) -> str:
        options = RegistryOptions(authfile=authfile, environment=environment)
        found = await find_credentials("ghcr.io", "a", options)
        return found.username if found else ""

    named, from_environment = write("named.json", "named"), write("environment.json", "environment")
    write("run/containers/auth.json", "run")
    write("docker/config.json", "docker")
    write("home/.docker/config.json", "home")
    everything = {
        "REGISTRY_AUTH_FILE": str(from_environment),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "HOME": str(tmp_path / "home"),
    }
    found = [await user(everything, named), await user(everything)]
    for gone in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "HOME"):
        del everything[gone]
        found.append(await user(everything))
    assert found == ["named", "environment", "run", "docker", "home", ""]
    with pytest.raises(CredentialsError, match="does not exist"):
        await user({}, tmp_path / "nothing")


def make_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A helper that writes down what it is asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker-credential-ours"
    program.write_text(f"#!/bin/sh\n(echo $@; cat; echo) >>{tmp_path}/asked\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path / "asked"


ANSWER = """echo '{"ServerURL": "x", "Username": "anna", "Secret": "s"}'"""


@pytest.mark.parametrize(
    ("config", "host", "asked"),
    [
        ({"credHelpers": {"ghcr.io": "ours"}}, "ghcr.io", "ghcr.io"),
        ({"credsStore": "ours", "auths": {"ghcr.io": {}}}, "ghcr.io", "ghcr.io"),
        ({"credHelpers": {"docker.io": "ours"}}, "registry-1.docker.io", HUB_KEY),
        ({"credsStore": "ours"}, "registry-1.docker.io", HUB_KEY),
    ],
)
async def test_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], host: str, asked: str
) -> None:
    record = make_helper(tmp_path, monkeypatch, ANSWER)
    assert await find(tmp_path, config, host) == Credentials("anna", "s")
    assert record.read_text() == f"get\n{asked}\n"


async def test_helper_with_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_helper(tmp_path, monkeypatch, """echo '{"Username": "<token>", "Secret": "s"}'""")
    assert await find(tmp_path, {"credsStore": "ours"}, "ghcr.io") == Credentials(identity_token="s")


async def test_helper_that_knows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_helper(tmp_path, monkeypatch, "echo 'credentials not found in native keychain'; exit 1")
    config = {"credsStore": "ours", "auths": {"ghcr.io": encoded("file:x")}}
    assert await find(tmp_path, config, "ghcr.io") == Credentials("file", "x")


@pytest.mark.parametrize("script", ["echo locked >&2; exit 1", "echo nothing", "exec false"])
async def test_helper_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    make_helper(tmp_path, monkeypatch, script)
    with pytest.raises(CredentialsError, match="docker-credential-ours"):
        await find(tmp_path, {"credsStore": "ours"}, "ghcr.io")


async def test_a_helper_that_fails_and_prints_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_helper(tmp_path, monkeypatch, ANSWER.replace('"s"', '"s3cret"') + "; exit 1")
    with pytest.raises(CredentialsError) as raised:
        await find(tmp_path, {"credsStore": "ours"}, "ghcr.io")
    assert "s3cret" not in raised.value.one_line


@pytest.mark.parametrize("name", ["nowhere-to-be-found", "../evil", "a b", ""])
async def test_helper_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(CredentialsError):
        await find(tmp_path, {"credHelpers": {"ghcr.io": name or "-"}}, "ghcr.io")
