"""What krata's own client would get of a registry, by its rules, and what ocitui gets that has more."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path

import pytest
from msgspec.structs import replace

from ocitui.cache import ImageName
from ocitui.importing import RegistryOptions, Upstream, ask_upstream
from tests.importing.debian_registry import make_certificate
from tests.importing.image_makers import (
    OCI_INDEX,
    OCI_MANIFEST,
    describe,
    layout_files,
    make_image,
    make_tar,
    named,
    put,
)
from tests.importing.pulling import write_auths
from tests.importing.registry_server import FaultyRegistry, Reply, Request, digest_of, serving
from tests.tools import need

IMAGE, OTHER = make_image(b"a" * 100, b"b" * 100), make_image(b"c" * 100)
BASIC = base64.b64encode(b"anna:secret").decode()
OPTIONS = RegistryOptions(environment={}, timeout=5)


def name_at(registry: FaultyRegistry, tag: str = "v1") -> ImageName:
    """The daemon speaks http where a host begins so, and nowhere else."""
    return ImageName.parse(f"{registry.host.replace('127.0.0.1', 'localhost')}/team/app:{tag}")


def wants_token(registry: FaultyRegistry, *, field: str = "token", service: str = ',service="s"') -> None:
    challenge = f'Bearer realm="http://{registry.host}/token"{service},scope="repository:team/app:pull"'

    def guard(request: Request) -> Reply | None:
        if request.path == "/token":
            return Reply(body=json.dumps({field: "t"}).encode())
        return None if request.authorization == "Bearer t" else Reply(401, {"WWW-Authenticate": challenge})

    registry.rules.append(guard)


async def test_it_is_there_whatever_the_tag_is_today(registry: FaultyRegistry) -> None:
    put(registry, IMAGE, "v1")
    found = await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS)
    assert (found.upstream, found.today) == (Upstream.DAEMON, IMAGE.digest)
    put(registry, OTHER, "v1")
    found = await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS)
    assert (found.upstream, found.today) == (Upstream.DAEMON, OTHER.digest)
    del registry.manifests["v1"]
    found = await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS)
    assert (found.upstream, found.today) == (Upstream.DAEMON, "")


async def test_of_an_index_it_is_the_first_of_this_machine(
    registry: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(registry, IMAGE)
    put(registry, OTHER)
    platforms = [{"os": "windows", "architecture": "arm64"}, {"os": "linux", "architecture": "arm64", "variant": "v9"}]
    parts = [
        describe(one.manifest, OCI_MANIFEST, platform=at) for one, at in zip((OTHER, IMAGE), platforms, strict=True)
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts}).encode()
    registry.add_manifest(OCI_INDEX, raw, "v1")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert (await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS)).today == IMAGE.digest


@pytest.mark.parametrize("prefix", ["docker://", ""])
async def test_it_is_asked_for_where_it_came_from_though_it_has_another_name(
    prefix: str, registry: FaultyRegistry
) -> None:
    put(registry, IMAGE, "v1")
    registry.rules.append(lambda request: Reply(404) if "/local/" in request.path else None)
    named_otherwise = ImageName.parse(f"{registry.host.replace('127.0.0.1', 'localhost')}/local/app:v1")
    source = f"{prefix}{registry.host}/team/app:v1"
    found = await ask_upstream(named_otherwise, IMAGE.digest, OPTIONS, source=source)
    assert found.upstream is Upstream.LOGIN, found


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
async def test_it_is_gone_where_any_part_of_it_is(registry: FaultyRegistry, part: str) -> None:
    put(registry, IMAGE, "v1")
    if part == "manifest":
        registry.manifests.clear()
    else:
        del registry.blobs[digest_of(IMAGE.config if part == "config" else IMAGE.layers[1])]
    assert (await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS)).upstream is Upstream.GONE


async def test_the_daemon_has_no_login(registry: FaultyRegistry, tmp_path: Path) -> None:
    put(registry, IMAGE, "v1")
    registry.rules.append(
        lambda request: None if request.authorization == f"Basic {BASIC}" else Reply(401, {"WWW-Authenticate": "Basic"})
    )
    name = name_at(registry)
    assert (await ask_upstream(name, IMAGE.digest, OPTIONS)).upstream is Upstream.GONE
    authfile = write_auths(tmp_path / "auth.json", f"localhost:{name.port}", auth=BASIC)
    options = RegistryOptions(environment={}, authfile=authfile)
    assert (await ask_upstream(name, IMAGE.digest, options)).upstream is Upstream.LOGIN


@pytest.mark.parametrize(
    ("field", "service", "answer"),
    [
        ("token", ',service="s"', Upstream.DAEMON),
        ("access_token", ',service="s"', Upstream.LOGIN),
        ("token", "", Upstream.LOGIN),
    ],
)
async def test_which_tokens_the_daemon_asks_for_and_takes(
    registry: FaultyRegistry, field: str, service: str, answer: Upstream
) -> None:
    put(registry, IMAGE, "v1")
    wants_token(registry, field=field, service=service)
    assert (await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS)).upstream is answer


async def test_the_daemon_needs_https_and_a_type(registry: FaultyRegistry) -> None:
    put(registry, IMAGE, "v1")
    plain = ImageName.parse(f"{registry.host}/team/app:v1")
    assert (await ask_upstream(plain, IMAGE.digest, OPTIONS)).upstream is Upstream.LOGIN
    registry.add_manifest("", IMAGE.manifest, "v1")
    assert (await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS)).upstream is Upstream.LOGIN


@pytest.mark.slow
async def test_an_operator_s_way_to_a_registry_is_not_the_daemon_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openssl")
    make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "leaf.key")
    ways = ((None, replace(OPTIONS, plain_http=True)), (context, replace(OPTIONS, tls_ca=tmp_path / "ca.pem")))
    for tls, options in ways:
        async with serving(FaultyRegistry(), tls) as registry:
            put(registry, IMAGE, "v1")
            name = ImageName.parse(f"{registry.host}/team/app:v1")
            assert (await ask_upstream(name, IMAGE.digest, options)).upstream is Upstream.LOGIN
            if tls is not None:
                monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
                found = await ask_upstream(name, IMAGE.digest, options)
                assert found.upstream is Upstream.DAEMON, "the system trusts that authority"


async def test_nobody_answers(registry: FaultyRegistry) -> None:
    registry.always("/v2/", Reply(503))
    found = await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS)
    assert (found.upstream, "503" in found.text) == (Upstream.UNKNOWN, True)


async def test_ocitui_asks_where_it_was_imported_from(registry: FaultyRegistry) -> None:
    put(registry, IMAGE, "v1")
    name, source = ImageName.parse("localhost:1/team/app:v1"), f"docker://{registry.host}/elsewhere/app:v1"
    assert (await ask_upstream(name, IMAGE.digest, OPTIONS, source=source)).upstream is Upstream.LOGIN
    assert (await ask_upstream(name, IMAGE.digest, OPTIONS)).upstream is Upstream.UNKNOWN


async def test_the_daemon_s_seed_comes_first(registry: FaultyRegistry, tmp_path: Path) -> None:
    index = json.dumps({"schemaVersion": 2, "manifests": [named(IMAGE, "team/app:v1")]}).encode()
    seed = tmp_path / "seed.tar"
    seed.write_bytes(make_tar(layout_files(index, *IMAGE.blobs)))
    found = await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS, seed=seed)
    assert (found.upstream, registry.requests) == (Upstream.DAEMON, [])
    assert (await ask_upstream(name_at(registry), OTHER.digest, OPTIONS, seed=seed)).upstream is Upstream.GONE
    put(registry, IMAGE, "v1")
    missing = await ask_upstream(name_at(registry), IMAGE.digest, OPTIONS, seed=tmp_path / "missing.tar")
    assert missing.upstream is Upstream.UNKNOWN, "a seed that does not open makes every pull fail"
