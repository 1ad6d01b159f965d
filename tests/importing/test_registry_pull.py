"""Pulls from Debian's docker-registry, and what images a registry's indexes give."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from ocitui.cache import ImageName, Platform
from ocitui.importing.errors import DeniedError, InvalidReferenceError, NoSuchImageError, RegistryError, SourceError
from ocitui.importing.registry.client import RegistrySource
from ocitui.importing.registry.failures import Route, transport_failure
from ocitui.importing.sources.references import RegistryOptions, SourceOptions
from ocitui.importing.staging import BlobStore
from tests.importing.debian_registry import PASSWORD, USER, DebianRegistry, debian_registry, make_certificate
from tests.importing.image_makers import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    describe,
    in_index,
    make_image,
    make_index,
    make_with_umoci,
    put,
    run,
)
from tests.importing.pulling import Pull, is_whole
from tests.importing.registry_server import FaultyRegistry, digest_of, serving
from tests.tools import need


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("umoci")
    return make_with_umoci(tmp_path_factory.mktemp("umoci"))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def real(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, layout: Path
) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry"), request.param) as running:
        running.put(f"oci:{layout}:v1", "team/app:v1")
        yield running


def pull_from(real: DebianRegistry, blobs: BlobStore, tmp_path: Path, name: str = "team/app:v1") -> Pull:
    """A pull as an operator would ask for it: neither http nor https is said."""
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    authfile = tmp_path / "auth.json"
    authfile.write_text(json.dumps({"auths": {real.host: {"auth": auth}}}))
    return Pull(f"{real.host}/{name}", blobs, authfile=authfile, tls_ca=real.ca, plain_http=False)


def blobs_of(layout: Path) -> dict[str, bytes]:
    return {f"sha256:{file.name}": file.read_bytes() for file in (layout / "blobs" / "sha256").iterdir()}


@pytest.mark.slow
async def test_image_of_umoci(real: DebianRegistry, layout: Path, blobs: BlobStore, tmp_path: Path) -> None:
    pull = pull_from(real, blobs, tmp_path)
    image = await pull.resolve()
    theirs = blobs_of(layout)
    assert image.manifest.raw == theirs[image.digest]
    assert image.config.raw == theirs[image.manifest.value.config.digest]
    assert image.image_name == ImageName.parse(pull.name)
    layers = await pull.run()
    assert [layer.path.read_bytes() for layer in layers] == [theirs[layer.digest] for layer in image.layers]
    assert len(layers) == 2


async def test_by_digest(real: DebianRegistry, blobs: BlobStore, tmp_path: Path) -> None:
    digest = (await pull_from(real, blobs, tmp_path).resolve()).digest
    image = await pull_from(real, blobs, tmp_path, f"team/app@{digest}").resolve()
    assert image.digest == digest


async def test_resumed(real: DebianRegistry, blobs: BlobStore, tmp_path: Path, layout: Path) -> None:
    pull = pull_from(real, blobs, tmp_path)
    image = await pull.resolve()
    blobs.make_directory()
    for layer in image.layers:
        (blobs.directory / f"{layer.digest}.partial").write_bytes(blobs_of(layout)[layer.digest][:50])
    seen: list[int] = []
    layers = await pull.run(lambda digest, done, total: seen.append(done))
    assert [digest_of(layer.path.read_bytes()) for layer in layers] == [layer.digest for layer in image.layers]


async def test_no_such_tag(real: DebianRegistry, blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(NoSuchImageError, match="manifest unknown"):
        await pull_from(real, blobs, tmp_path, "team/app:v2").resolve()


async def test_login_is_wanted(real: DebianRegistry, blobs: BlobStore) -> None:
    pull = Pull(f"{real.host}/team/app:v1", blobs, tls_ca=real.ca, plain_http=real.ca is None)
    if real.ca is None:
        assert (await pull.resolve()).layers
        return
    with pytest.raises(DeniedError, match="wants a name and password"):
        await pull.resolve()


async def test_certificate_is_checked(real: DebianRegistry, blobs: BlobStore, tmp_path: Path) -> None:
    pull = pull_from(real, blobs, tmp_path)
    if real.ca is None:
        assert (await pull.resolve()).layers
        return
    pull.tls_ca = None
    with pytest.raises(RegistryError, match=r"certificate of 127\.0\.0\.1:.* not to be trusted"):
        await pull.resolve()


async def test_a_certificate_for_another_name(blobs: BlobStore, tmp_path: Path) -> None:
    need("openssl")
    leaf = tmp_path / "leaf"
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=ours")
    names = ("-addext", "subjectAltName=DNS:elsewhere.example")
    run("openssl", "req", "-x509", *made, *names, "-keyout", f"{leaf}.key", "-out", f"{leaf}.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{leaf}.pem", f"{leaf}.key")
    async with serving(FaultyRegistry(), context) as registry:
        with pytest.raises(RegistryError, match="not to be trusted") as raised:
            await Pull(f"{registry.host}/app", blobs, plain_http=False, tls_ca=Path(f"{leaf}.pem")).resolve()
    assert raised.value.hint == "write the host as its certificate names it"


@pytest.mark.parametrize("code", [9, 10], ids=["not yet", "no longer"])
async def test_a_certificate_of_another_time(code: int) -> None:
    error = httpx2.ConnectError("no")
    error.__cause__ = cause = ssl.SSLCertVerificationError("no")
    cause.verify_code, cause.verify_message = code, "certificate has expired"
    request = httpx2.Request("GET", "https://127.0.0.1:1/")
    failure = await transport_failure(error, request, RegistryOptions(timeout=1), Route(request.url))
    assert isinstance(failure, RegistryError)
    assert "clock" in failure.hint


async def test_secrets_stay_off_plain_http_after_a_bad_certificate(blobs: BlobStore, tmp_path: Path) -> None:
    need("openssl")
    make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "leaf.key")
    async with serving(FaultyRegistry(), context) as registry:
        image = put(registry, make_image(b"x"), "latest")
        with pytest.raises(RegistryError, match="not to be trusted"):
            await Pull(f"{registry.host}/app", blobs, plain_http=False).resolve()
        layers = await Pull(f"{registry.host}/app", blobs, plain_http=False, tls_ca=tmp_path / "ca.pem").run()
        assert is_whole(layers, image)


@pytest.mark.parametrize("plain_http", [True, False])
async def test_https_is_tried_where_http_was_not_asked_for(
    registry: FaultyRegistry, blobs: BlobStore, plain_http: bool
) -> None:
    put(registry, make_image(b"x"), "latest")
    await Pull(f"{registry.host}/app", blobs, plain_http=plain_http).resolve()
    assert (registry.served > len(registry.requests)) is not plain_http


async def test_authority_that_is_none(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SourceError, match=r"ca\.pem holds no certificate"):
        await Pull("localhost/a", blobs, tls_ca=tmp_path / "ca.pem").resolve()


VARIANTS = {name: make_image(name.encode(), platform=name) for name in ("linux/arm/v6", "linux/arm/v7", "linux/arm64")}
AMD64 = make_image(b"amd64")


@pytest.fixture
def nested(registry: FaultyRegistry) -> FaultyRegistry:
    """`v1` is an index of an index, with an attestation beside the images."""
    for image in (AMD64, *VARIANTS.values()):
        put(registry, image)
    unknown = describe(AMD64.manifest, DOCKER_MANIFEST, platform={"os": "unknown", "architecture": "unknown"})
    inner = make_index(*(in_index(image, name) for name, image in VARIANTS.items()))
    registry.add_manifest(OCI_INDEX, inner)
    outer = make_index(unknown, in_index(AMD64, "linux/amd64"), describe(inner, OCI_INDEX))
    registry.add_manifest(OCI_INDEX, outer, "v1")
    return registry


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        (Platform("arm", "linux", variant="v6"), "linux/arm/v6"),
        (Platform("arm", "linux", variant="v7"), "linux/arm/v7"),
        (Platform("arm", "linux"), "linux/arm/v7"),
        (Platform("arm", "linux", variant="v8"), "linux/arm/v7"),
        (Platform("arm64", "linux", variant="v8"), "linux/arm64"),
        (Platform("aarch64", "linux"), "linux/arm64"),
    ],
)
async def test_platform(pull: Pull, nested: FaultyRegistry, platform: Platform, name: str) -> None:
    pull.platform = platform
    assert is_whole(await pull.run(), VARIANTS[name])


async def test_platform_that_is_not_there(pull: Pull, nested: FaultyRegistry) -> None:
    pull.platform = Platform("arm", "linux", variant="v5")
    with pytest.raises(NoSuchImageError, match="no image for linux/arm/v5, only for linux/amd64, linux/arm/v6, "):
        await pull.run()


async def test_listing(pull: Pull, nested: FaultyRegistry) -> None:
    source = pull.source()
    listing = await source.listing()
    await source.aclose()
    assert [str(image.platform) for image in listing.images] == ["linux/amd64", *VARIANTS]
    assert [image.size is not None for image in listing.images] == [True, False, False, False]
    assert listing.images[0].size == len(AMD64.config) + len(AMD64.layers[0])
    assert not any("/blobs/" in request.path for request in nested.requests if request.path.endswith("v1"))


async def test_another_platform_in_no_index(pull: Pull, registry: FaultyRegistry) -> None:
    put(registry, make_image(b"x", platform="linux/s390x"), "v1")
    with pytest.raises(NoSuchImageError, match="the image is for linux/s390x"):
        await pull.resolve()
    pull.platform = None
    assert "linux/s390x" in (await pull.resolve()).notes[0]


async def test_accepts_all_kinds(pull: Pull, nested: FaultyRegistry) -> None:
    await pull.resolve()
    accepted = nested.asked("/manifests/v1")[0].headers["accept"]
    for kind in ("oci.image.manifest.v1+json", "oci.image.index.v1+json", "manifest.v2+json", "manifest.list.v2+json"):
        assert kind in accepted


async def test_mirror_of_the_hub(registry: FaultyRegistry, blobs: BlobStore) -> None:
    image = put(registry, make_image(b"x"), "3.19")
    pull = Pull("alpine:3.19", blobs, mirror=registry.host)
    assert is_whole(await pull.run(), image)
    assert {request.path.split("/manifests")[0] for request in registry.asked("/manifests/")} == {"/v2/library/alpine"}
    assert str((await pull.resolve()).image_name) == "alpine:3.19"


@pytest.mark.slow
def test_mirror_is_for_the_hub_only() -> None:
    options = RegistryOptions(mirror="mirror.example")
    assert RegistrySource("ghcr.io/a", SourceOptions(None, options))._client.host == "ghcr.io"
    assert RegistrySource("alpine", SourceOptions())._client.host == "registry-1.docker.io"
    with pytest.raises(InvalidReferenceError, match="the mirror"):
        RegistrySource("alpine", SourceOptions(None, RegistryOptions(mirror="https://x/")))
