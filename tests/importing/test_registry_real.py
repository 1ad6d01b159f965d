"""Debian's docker-registry as operators meet it: behind a token service, a proxy, as a mirror, with a certificate that
has expired; and a pull that was killed goes on where it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocitui.importing.errors import RegistryError, UnknownRealmError
from ocitui.importing.registry.auth import allow_realm
from ocitui.importing.sources.references import Credentials
from ocitui.importing.staging import BlobStore
from tests.cache.support import write_cache
from tests.importing.debian_registry import PASSWORD, USER, DebianRegistry, debian_registry
from tests.importing.http_proxy import http_proxy
from tests.importing.image_makers import layout_files, make_image, make_index, named, run, write_files
from tests.importing.pulling import Pull, is_whole
from tests.importing.registry_server import digest_of, serving
from tests.importing.token_service import BASIC, TokenService
from tests.tools import wait_for

pytestmark = pytest.mark.slow
IMAGE = make_image(*(random.Random(number).randbytes(size) for number, size in enumerate((3000, 200_000, 4 << 20))))
LOGIN = Credentials(USER, PASSWORD)


@pytest.fixture(autouse=True)
def no_proxy_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = layout_files(make_index(named(IMAGE, "v1")), *IMAGE.blobs)
    return write_files(tmp_path_factory.mktemp("layout"), files)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, layout: Path) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("plain"), secure=False) as running:
        running.put(f"oci:{layout}:v1", "team/app:v1")
        running.put(f"oci:{layout}:v1", "library/app:v1")
        yield running


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, layout: Path) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("secure"), secure=True) as running:
        running.put(f"oci:{layout}:v1", "team/app:v1")
        yield running


async def test_a_login_for_one_pull_and_an_authority_of_its_own(secure: DebianRegistry, blobs: BlobStore) -> None:
    pull = Pull(f"{secure.host}/team/app:v1", blobs, tls_ca=secure.ca, plain_http=False, logins={secure.host: LOGIN})
    assert is_whole(await pull.run(), IMAGE)


async def test_a_token_service_on_another_host(
    tmp_path: Path, layout: Path, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is asked as 127.0.0.1, and its tokens are given at localhost."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "registry"
    with debian_registry(root, secure=False) as registry:
        registry.put(f"oci:{layout}:v1", "team/app:v1")
    async with serving(TokenService(tmp_path)) as tokens:
        assert isinstance(tokens, TokenService)
        realm = f"localhost:{tokens.host.rpartition(':')[2]}"
        with debian_registry(root, secure=False, more=tokens.config(f"http://{realm}/token")) as registry:
            logins, environment = {registry.host: LOGIN}, dict(os.environ)
            pull = Pull(f"{registry.host}/team/app:v1", blobs, logins=logins, environment=environment)
            with pytest.raises(UnknownRealmError) as raised:
                await pull.run()
            assert (raised.value.registry, raised.value.realm) == (registry.host, realm)
            assert tokens.requests == [], "nothing was sent there"
            allow_realm(tmp_path / "cache", raised.value.registry, raised.value.realm)
            assert is_whole(await pull.run(), IMAGE)
            assert {one.authorization for one in tokens.requests} == {BASIC}


async def test_a_mirror(plain: DebianRegistry, tmp_path: Path, blobs: BlobStore) -> None:
    """A pull-through cache, which has none of it at first."""
    mirrored = f"proxy: {{remoteurl: 'http://{plain.host}'}}"
    with debian_registry(tmp_path / "mirror", secure=False, more=mirrored) as mirror:
        pull = Pull("app:v1", blobs, mirror=mirror.host)
        assert is_whole(await pull.run(), IMAGE)
        source = pull.source()
        assert source.private, "the daemon does not know of it"
        await source.aclose()


async def test_a_proxy_that_tunnels(
    secure: DebianRegistry, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = {secure.host: LOGIN}
    with http_proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        pull = Pull(f"{secure.host}/team/app:v1", blobs, tls_ca=secure.ca, plain_http=False, logins=logins)
        assert is_whole(await pull.run(), IMAGE)
        seen = len(proxy.passed)
        assert {(one.method, one.target) for one in proxy.passed} == {("CONNECT", secure.host)}
        assert not [one for one in proxy.passed if one.authorization], "it is told no secret"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        (tmp_path / "other").mkdir()
        pull.blobs = BlobStore(tmp_path / "other")
        assert is_whole(await pull.run(), IMAGE)
        assert len(proxy.passed) == seen


async def test_a_certificate_that_has_expired(tmp_path: Path, blobs: BlobStore) -> None:
    with debian_registry(tmp_path / "expired", secure=True, expired=True) as registry:
        ended = run("openssl", "x509", "-in", str(tmp_path / "expired" / "leaf.pem"), "-noout", "-enddate")
        pull = Pull(f"{registry.host}/team/app:v1", blobs, tls_ca=registry.ca, plain_http=False)
        with pytest.raises(RegistryError) as raised:
            await pull.run()
        said = (
            f"the certificate of {registry.host} is not to be trusted: certificate has expired; its own is valid from "
        )
        assert raised.value.message.startswith(said)
        assert raised.value.message.endswith(f" until {ended.strip().removeprefix('notAfter=')}")
        assert "clock" in raised.value.hint
        # Of an authority that nobody trusts no date is told.
        pull.tls_ca = None
        with pytest.raises(RegistryError) as raised:
            await pull.run()
        assert "valid from" not in raised.value.message


def test_a_pull_that_was_killed_goes_on_where_it_was(plain: DebianRegistry, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    write_cache(cache, [1])
    layers = [digest_of(layer) for layer in IMAGE.layers]
    blobs = BlobStore(cache).directory
    command = [sys.executable, "-m", "ocitui", "import", "-C", str(cache), f"docker://{plain.host}/team/app:v1"]
    with http_proxy() as proxy:
        environment = {**os.environ, "HTTP_PROXY": f"http://{proxy.address}"}
        proxy.stops[layers[2]] = 3 << 20
        with subprocess.Popen([*command, "--plain-http", "--format", "tar"], env=environment) as killed:
            part = blobs / f"{layers[2]}.partial"
            try:
                wait_for(lambda: part.exists() and part.stat().st_size >= 1 << 21, "the part of a layer")
                wait_for(lambda: all((blobs / layer).exists() for layer in layers[:2]), "two whole layers")
            finally:
                killed.send_signal(signal.SIGKILL)
        there = part.stat().st_size
        assert 0 < there < len(IMAGE.layers[2])
        proxy.stops.clear()
        proxy.passed.clear()
        done = subprocess.run(
            [sys.executable, "-m", "ocitui", "imports", "--go-on", "-C", str(cache)],
            env=environment,
            capture_output=True,
            check=True,
        )
    assert b"imported" in done.stdout, done.stdout
    assert [one.range for one in proxy.asked(layers[2])] == [f"bytes={there}-"]
    assert proxy.asked(layers[0]) + proxy.asked(layers[1]) == []
    assert not part.exists()
