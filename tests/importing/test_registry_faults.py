"""Registries that cut, lie, stall or answer something else: a clear message each, and nothing wrong is kept."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import gzip
import json
import random
from contextlib import aclosing

import pytest

from ocitui.importing.errors import (
    DeniedError,
    NoSuchImageError,
    RegistryError,
    TransferError,
    UnsoundSourceError,
    UnsupportedImageError,
)
from ocitui.importing.staging import BlobStore
from tests.importing.image_makers import OCI_LAYER, OCI_MANIFEST, Made, describe, make_image, put
from tests.importing.pulling import Pull, is_whole
from tests.importing.registry_server import FaultyRegistry, Reply, Request, digest_of, serving

NOISE = random.Random(1).randbytes(3_000_000)
IMAGE = make_image(NOISE, b"small")


@pytest.fixture
def image(registry: FaultyRegistry) -> Made:
    return put(registry, IMAGE, "v1")


def blob_path(image: Made, number: int = 0) -> str:
    return f"/blobs/{digest_of(image.layers[number])}"


async def test_nothing_wrong(pull: Pull, image: Made) -> None:
    seen: dict[str, tuple[int, int]] = {}
    layers = await pull.run(lambda digest, done, total: seen.update({digest: (done, total)}))
    assert is_whole(layers, image)
    assert seen == {digest_of(layer): (len(layer), len(layer)) for layer in image.layers}
    assert [layer.diff_id for layer in layers] == [digest_of(tar) for tar in image.tars]
    assert pull.waits.seconds == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("part", ["/manifests/v1", "/blobs/"])
async def test_passing_status(pull: Pull, registry: FaultyRegistry, image: Made, status: int, part: str) -> None:
    registry.once(part, Reply(status, {"Retry-After": "7"}), Reply(status))
    assert is_whole(await pull.run(), image)
    assert sorted(pull.waits.seconds) == [2.0, 7.0] or sorted(pull.waits.seconds) == [1.0, 7.0]
    assert str(status) in pull.waits.messages[0]


async def test_gives_up_after_five_tries(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    registry.always("/manifests/", Reply(503, body=b'{"errors": [{"code": "X", "message": "busy\\u001b[2J"}]}'))
    with pytest.raises(TransferError, match=r"503 Said: busy \[2J \(after 5 tries\)"):
        await pull.run()
    assert pull.waits.seconds == [1, 2, 4, 8]
    assert len(registry.requests) == 5


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("0", 0),
        ("3600", 60),
        ("9" * 400, 60),
        (email.utils.format_datetime(datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC), usegmt=True), 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("soon", 1),
    ],
)
async def test_retry_after(pull: Pull, registry: FaultyRegistry, image: Made, field: str, seconds: float) -> None:
    registry.once("/manifests/", Reply(429, {"Retry-After": field}))
    await pull.resolve()
    assert pull.waits.seconds == [seconds]


@pytest.mark.parametrize("ranges", [True, False])
async def test_cut_transfers_go_on(pull: Pull, registry: FaultyRegistry, image: Made, ranges: bool) -> None:
    data, registry.ranges = image.layers[0], ranges
    registry.once(blob_path(image), Reply(body=data, cut=1_000_000))
    assert is_whole(await pull.run(), image)
    wanted = [request.headers.get("range") for request in registry.asked(blob_path(image))]
    assert wanted == [None, "bytes=1000000-"]
    assert pull.waits.seconds == [1]


async def test_cut_headers_of_206(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    data = image.layers[0]
    other = Reply(206, {"Content-Range": f"bytes 5-{len(data) - 1}/{len(data)}"}, data[5:])
    registry.once(blob_path(image), Reply(body=data, cut=1_000_000), other)
    assert is_whole(await pull.run(), image)
    assert [request.headers.get("range") for request in registry.asked(blob_path(image))][-1] is None


async def test_range_that_cannot_be_had(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    registry.once(blob_path(image), Reply(body=image.layers[0], cut=1_000_000), Reply(416))
    assert is_whole(await pull.run(), image)


async def test_always_cut(pull: Pull, registry: FaultyRegistry, image: Made, blobs: BlobStore) -> None:
    registry.ranges = False
    registry.always(blob_path(image), Reply(body=image.layers[0], cut=5000))
    with pytest.raises(TransferError, match="broke off"):
        await pull.run()
    (partial,) = (blob for blob in blobs.stored() if blob.partial)
    assert (partial.digest, partial.size) == (digest_of(image.layers[0]), 5000)


async def test_next_pull_goes_on(pull: Pull, registry: FaultyRegistry, image: Made, blobs: BlobStore) -> None:
    def cut(request: Request) -> Reply | None:
        return Reply(body=image.layers[0], cut=1_500_000) if "range" not in request.headers else Reply(403)

    registry.rules.append(lambda request: cut(request) if blob_path(image) in request.path else None)
    with pytest.raises(DeniedError):
        await pull.run()
    registry.rules.clear()
    assert is_whole(await pull.run(), image)
    assert registry.requests[-1].headers["range"] == "bytes=1500000-"


async def test_wrong_bytes_of_an_earlier_pull(pull: Pull, image: Made, blobs: BlobStore) -> None:
    blobs.make_directory()
    digest = digest_of(image.layers[0])
    (blobs.directory / f"{digest}.partial").write_bytes(b"x" * 1000)
    (blobs.directory / digest_of(image.layers[1])).write_bytes(b"x" * len(image.layers[1]))
    assert is_whole(await pull.run(), image)


async def test_stall(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    # A busy machine needs a part of it to connect.
    pull.timeout = 0.5
    registry.once(blob_path(image), Reply(body=image.layers[0], cut=100_000, stall=True))
    assert is_whole(await pull.run(), image)
    assert "sent nothing for 0.5 seconds" in pull.waits.messages[0]


async def test_wrong_bytes(pull: Pull, registry: FaultyRegistry, image: Made, blobs: BlobStore) -> None:
    registry.blobs[digest_of(image.layers[0])] = bytes(len(image.layers[0]))
    with pytest.raises(UnsoundSourceError, match="of the digest sha256:"):
        await pull.run()
    assert digest_of(image.layers[0]) not in {blob.digest for blob in blobs.stored()}


async def test_more_bytes_without_a_length(pull: Pull, registry: FaultyRegistry, image: Made, blobs: BlobStore) -> None:
    registry.always(blob_path(image, 1), Reply(body=NOISE, length=-1))
    with pytest.raises(UnsoundSourceError, match=r"more than the \d+ bytes of its descriptor"):
        await pull.run()
    assert all(blob.size <= len(image.layers[0]) for blob in blobs.stored())


async def test_fewer_bytes_without_a_length(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    registry.once(blob_path(image), Reply(body=image.layers[0][:2_000_000], length=-1))
    assert is_whole(await pull.run(), image)
    assert "after 2000000 of" in pull.waits.messages[0]


@pytest.mark.parametrize("more", [-10, 10])
async def test_lying_length(pull: Pull, registry: FaultyRegistry, image: Made, more: int) -> None:
    data = image.layers[1]
    registry.always(blob_path(image, 1), Reply(body=data + bytes(10), length=len(data) + more))
    with pytest.raises(RegistryError, match=f"promises {len(data) + more} bytes of sha256:"):
        await pull.run()


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
async def test_web_page(pull: Pull, registry: FaultyRegistry, image: Made, part: str) -> None:
    if part == "/blobs/":
        part = blob_path(image)
    registry.always(part, Reply(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<html>Log in"))
    with pytest.raises(RegistryError, match="answers with a web page"):
        await pull.run()


async def test_no_content_type(pull: Pull, registry: FaultyRegistry) -> None:
    image = make_image(b"x")
    document = json.loads(image.manifest)
    del document["mediaType"]
    bare = Made(json.dumps(document).encode(), image.config, image.layers, image.tars)
    put(registry, bare)
    registry.add_manifest("", bare.manifest, "v1")
    assert is_whole(await pull.run(), bare)


async def test_parameters_of_the_content_type(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    registry.add_manifest(f"{OCI_MANIFEST}; charset=utf-8", image.manifest, "v1")
    assert is_whole(await pull.run(), image)


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
async def test_encoded_transfer(pull: Pull, registry: FaultyRegistry, image: Made, part: str) -> None:
    registry.always(part, Reply(headers={"Content-Encoding": "gzip"}, body=gzip.compress(image.manifest)))
    with pytest.raises(RegistryError, match="gzip-encoded"):
        await pull.run()
    assert {request.headers["accept-encoding"] for request in registry.requests} == {"identity"}


async def test_schema_1(pull: Pull, registry: FaultyRegistry) -> None:
    raw = json.dumps({"schemaVersion": 1, "name": "team/app", "fsLayers": []}).encode()
    registry.add_manifest("application/vnd.docker.distribution.manifest.v1+prettyjws", raw, "v1")
    with pytest.raises(UnsupportedImageError, match="schema 1"):
        await pull.run()


async def test_artifact(pull: Pull, registry: FaultyRegistry) -> None:
    put(registry, make_image(config_type="application/vnd.cncf.helm.config.v1+json"), "v1")
    with pytest.raises(UnsupportedImageError, match="helm"):
        await pull.run()


async def test_wrong_manifest_for_a_digest(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    other = make_image(b"other")
    registry.manifests[image.digest] = (OCI_MANIFEST, other.manifest)
    pull.name = pull.name.replace(":v1", f":v1@{image.digest}")
    with pytest.raises(UnsoundSourceError, match=other.digest):
        await pull.resolve()


async def test_said_digest_is_another(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    said = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest_of(b"other")}
    registry.always("/manifests/", Reply(headers=said, body=image.manifest))
    with pytest.raises(UnsoundSourceError, match="and says"):
        await pull.resolve()


async def test_wrong_config(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    registry.blobs[digest_of(image.config)] = image.config.replace(b"amd64", b"arm64")
    with pytest.raises(UnsoundSourceError, match="the config"):
        await pull.resolve()


async def test_endless_manifest(pull: Pull, registry: FaultyRegistry) -> None:
    registry.always("/manifests/", Reply(body=b" " * (5 << 20)))
    with pytest.raises(UnsoundSourceError, match="more than 4194304 bytes"):
        await pull.resolve()


async def test_digests_that_are_paths(pull: Pull, registry: FaultyRegistry, blobs: BlobStore) -> None:
    image = make_image(b"x")
    evil = json.loads(image.manifest)
    evil["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    put(registry, Made(json.dumps(evil).encode(), image.config, image.layers, image.tars), "v1")
    with pytest.raises(UnsoundSourceError, match="no sha256 digest"):
        await pull.run()
    assert not blobs.directory.exists()


async def test_no_such_image(pull: Pull, registry: FaultyRegistry) -> None:
    with pytest.raises(NoSuchImageError, match=r"has no manifest team/app:v1: not known"):
        await pull.run()


async def test_layer_is_missing(pull: Pull, registry: FaultyRegistry, image: Made) -> None:
    del registry.blobs[digest_of(image.layers[1])]
    with pytest.raises(NoSuchImageError, match="has no blob sha256:"):
        await pull.run()


async def test_a_layer_that_failed_while_another_was_read_is_not_given(
    pull: Pull, image: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (digest_of(layer) for layer in image.layers)
    given, failed, read = list[str](), asyncio.Event(), asyncio.Event()

    async def fetch(digest: str, *_: object) -> None:
        if digest == second:
            await read.wait()
            failed.set()
            raise NoSuchImageError("it is gone")

    monkeypatch.setattr(pull.blobs, "fetch", fetch)
    source = pull.source()
    async with aclosing(source), aclosing(source.fetch(await source.resolve(), pull.blobs)) as layers:
        given.append((await anext(layers)).digest)
        read.set()
        await failed.wait()
        with pytest.raises(NoSuchImageError, match="it is gone"):
            await anext(layers)
    assert given == [first]


async def test_nobody_listens(pull: Pull, registry: FaultyRegistry) -> None:
    async with serving(FaultyRegistry()) as gone:
        pull.name = f"{gone.host}/team/app"
    with pytest.raises(TransferError, match="cannot be reached"):
        await pull.resolve()
    assert pull.waits.seconds == []


async def test_layer_from_elsewhere(pull: Pull, registry: FaultyRegistry) -> None:
    image = make_image(b"foreign")
    async with serving(FaultyRegistry()) as elsewhere:
        elsewhere.always("/layer", Reply(body=image.layers[0]))
        urls = [f"http://{elsewhere.host}/gone", f"http://{elsewhere.host}/layer"]
        foreign = make_image(b"foreign", layers=[describe(image.layers[0], OCI_LAYER, urls=urls)])
        put(registry, foreign, "v1")
        registry.blobs.pop(digest_of(image.layers[0]))
        assert is_whole(await pull.run(), foreign)
