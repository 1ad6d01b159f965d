"""OCI layouts in directories and archives: those of umoci, skopeo and others, and ones that are bent."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ocitui.cache import Platform
from ocitui.importing.errors import NoSuchImageError, UnreadableSourceError, UnsoundSourceError, UnsupportedImageError
from ocitui.importing.layers.layers import LayerSource
from ocitui.importing.sources.images import SourceImage, SourceKind, this_platform
from ocitui.importing.sources.opening import open_source
from ocitui.importing.sources.references import SourceOptions
from ocitui.importing.staging import BlobStore
from tests.importing.builders import SAVED
from tests.importing.image_makers import (
    OCI_INDEX,
    OCI_MANIFEST,
    Made,
    describe,
    in_index,
    layout_files,
    make_image,
    make_index,
    make_tar,
    make_with_umoci,
    named,
    run,
    write_files,
    zstd_compress,
)
from tests.importing.registry_server import digest_of
from tests.tools import need

IMAGE = make_image(b"one" * 1000, b"two")
OTHER = make_image(b"other")
Compress = Callable[[bytes], bytes]
COMPRESSIONS: dict[str, Compress] = {"plain": bytes, "gzip": gzip.compress, "zstd": zstd_compress}


async def resolve(source: str, platform: str | None = "linux/amd64") -> SourceImage:
    wanted = None
    if platform:
        os, architecture, *variant = platform.split("/")
        wanted = Platform(architecture, os, variant=variant[0] if variant else None)
    return await (await open_source(source, SourceOptions(wanted))).resolve()


async def fetch(source: str, blobs: BlobStore) -> list[LayerSource]:
    opened = await open_source(source, SourceOptions(Platform("amd64", "linux")))
    return [one async for one in opened.fetch(await opened.resolve(), blobs)]


def bytes_of(layer: LayerSource) -> bytes:
    with open(layer.path, "rb") as file:
        file.seek(layer.offset)
        return file.read(layer.size or 0)


def write_archive(path: Path, files: Mapping[str, bytes], compress: Compress = bytes) -> Path:
    path.write_bytes(compress(make_tar({f"./{name}": data for name, data in files.items()})))
    return path


async def test_layout_of_umoci(tmp_path: Path, blobs: BlobStore) -> None:
    need("umoci", "skopeo")
    layout = make_with_umoci(tmp_path)
    image = await resolve(f"oci:{layout}:v1")
    assert image.names == ("v1",)
    theirs = json.loads(run("skopeo", "inspect", "--raw", f"oci:{layout}:v1"))
    assert json.loads(image.manifest.raw) == theirs
    layers = await fetch(f"oci:{layout}:v1", blobs)
    assert [digest_of(bytes_of(layer)) for layer in layers] == [layer["digest"] for layer in theirs["layers"]]
    assert [layer.diff_id for layer in layers] == image.config.value.rootfs.diff_ids
    assert not blobs.directory.exists()


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_archive_of_skopeo(tmp_path: Path, blobs: BlobStore, compression: str) -> None:
    need("umoci", "skopeo")
    layout, archive = make_with_umoci(tmp_path), tmp_path / "image.tar"
    run("skopeo", "copy", "-q", f"oci:{layout}:v1", f"oci-archive:{archive}:ghcr.io/team/app:v2")
    archive.write_bytes(COMPRESSIONS[compression](archive.read_bytes()))
    image = await resolve(f"oci-archive:{archive}:ghcr.io/team/app:v2")
    assert image.digest == (await resolve(f"oci:{layout}")).digest
    assert str(image.image_name) == "ghcr.io/team/app:v2"
    layers = await fetch(str(archive), blobs)
    assert [digest_of(bytes_of(layer)) for layer in layers] == [layer.digest for layer in image.layers]


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_archive(tmp_path: Path, blobs: BlobStore, compression: str) -> None:
    files = layout_files(make_index(named(IMAGE, "v1")), *IMAGE.blobs)
    archive = write_archive(tmp_path / "a.tar", files, COMPRESSIONS[compression])
    opened = await open_source(f"oci-archive:{archive}:v1")
    listing = await opened.listing()
    assert opened.kind is SourceKind.OCI_ARCHIVE
    assert [(image.names, image.digest, image.layers) for image in listing.images] == [(("v1",), IMAGE.digest, 2)]
    for _ in range(2):  # the second time from the store
        layers = await fetch(f"oci-archive:{archive}:v1", blobs)
        assert [bytes_of(layer) for layer in layers] == list(IMAGE.layers)
    in_place = compression == "plain"
    assert {layer.path.parent for layer in layers} == {tmp_path if in_place else blobs.directory}


async def test_several_names(tmp_path: Path) -> None:
    files = layout_files(make_index(named(IMAGE, "v1"), named(OTHER, "v2")), *IMAGE.blobs, *OTHER.blobs)
    layout = write_files(tmp_path / "layout", files)
    assert (await resolve(f"oci:{layout}:v2")).digest == OTHER.digest
    assert (await resolve(f"oci:{layout}@{IMAGE.digest}")).digest == IMAGE.digest
    assert (await resolve(f"{layout}:v1")).digest == IMAGE.digest
    with pytest.raises(NoSuchImageError, match="several images: v1, v2"):
        await resolve(f"oci:{layout}")
    with pytest.raises(NoSuchImageError, match="holds no v3; it holds v1, v2"):
        await resolve(f"oci:{layout}:v3")


async def test_names_of_containerd(tmp_path: Path) -> None:
    whole = {"io.containerd.image.name": "docker.io/library/alpine:3.19", "org.opencontainers.image.ref.name": "3.19"}
    index = make_index(describe(IMAGE.manifest, OCI_MANIFEST, annotations=whole))
    layout = write_files(tmp_path / "layout", layout_files(index, *IMAGE.blobs))
    for name in ("3.19", "alpine:3.19", "docker.io/library/alpine:3.19"):
        assert str((await resolve(f"oci:{layout}:{name}")).image_name) == "docker.io/library/alpine:3.19"


async def test_nested_indexes(tmp_path: Path) -> None:
    arm = make_image(b"arm", platform="linux/arm/v7")
    inner = make_index(in_index(IMAGE, "linux/amd64"), in_index(arm, "linux/arm/v7"))
    outer = make_index(describe(inner, OCI_INDEX))
    top = make_index(
        describe(outer, OCI_INDEX, annotations={"org.opencontainers.image.ref.name": "v1"}), named(OTHER, "v2")
    )
    blobs = (inner, outer, *IMAGE.blobs, *arm.blobs, *OTHER.blobs)
    layout = write_files(tmp_path / "layout", layout_files(top, *blobs))
    assert (await resolve(f"oci:{layout}:v1", "linux/arm/v7")).digest == arm.digest
    assert (await resolve(f"oci:{layout}:v1", "linux/amd64")).digest == IMAGE.digest
    assert (await resolve(f"oci:{layout}@{digest_of(inner)}", "linux/arm/v8")).digest == arm.digest
    with pytest.raises(NoSuchImageError, match="no image for linux/s390x, only for linux/amd64, linux/arm/v7"):
        await resolve(f"oci:{layout}:v1", "linux/s390x")
    listing = await (await open_source(f"oci:{layout}")).listing()
    assert [image.names for image in listing.images] == [("v1",), ("v1",), ("v2",)]


async def test_index_of_which_only_a_part_is_there(tmp_path: Path) -> None:
    top = make_index(in_index(OTHER, "linux/arm64"), in_index(IMAGE, "linux/amd64"))
    layout = write_files(tmp_path / "layout", layout_files(top, *IMAGE.blobs))
    assert (await resolve(f"oci:{layout}")).digest == IMAGE.digest
    listing = await (await open_source(f"oci:{layout}")).listing()
    assert [(str(image.platform), image.size is None) for image in listing.images] == [
        ("linux/arm64", True),
        ("linux/amd64", False),
    ]
    with pytest.raises(NoSuchImageError, match=f"{OTHER.digest} is not in"):
        await resolve(f"oci:{layout}", "linux/arm64")


@pytest.mark.parametrize(
    ("tool", "architecture"), [("buildkit-gzip", "arm64"), ("buildkit-zstd", "arm64"), ("skopeo-oci", "amd64")]
)
async def test_archives_by_other_tools(tool: str, architecture: str, tmp_path: Path, blobs: BlobStore) -> None:
    saved = SAVED[tool]
    path = saved.archive.write(tmp_path / "a.tar")
    image = await resolve(str(path), None)
    assert (image.digest, image.manifest.raw) == (saved.image.digest, saved.image.manifest)
    assert str(image.platform) == f"linux/{architecture}"
    assert bool(image.notes) == (this_platform().architecture != architecture)
    assert (str(image.image_name) if image.image_name else None) == saved.tag
    layers = [one async for one in (await open_source(str(path))).fetch(image, blobs)]
    assert tuple(map(bytes_of, layers)) == saved.image.layers


def bend(name: str, data: bytes | None) -> dict[str, bytes]:
    files = layout_files(make_index(named(IMAGE, "v1")), *IMAGE.blobs)
    if data is None:
        del files[name]
    else:
        files[name] = data
    return files


def blob_file(data: bytes) -> str:
    return f"blobs/sha256/{digest_of(data).removeprefix('sha256:')}"


@pytest.mark.parametrize("in_archive", [False, True])
@pytest.mark.parametrize(
    ("name", "data", "error", "says"),
    [
        ("oci-layout", None, UnreadableSourceError, "no file oci-layout"),
        ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}', UnreadableSourceError, r"version '2\.0\.0'"),
        ("oci-layout", b"{", UnsoundSourceError, "oci-layout in .* is malformed"),
        ("index.json", None, UnreadableSourceError, "no index.json"),
        ("index.json", b"{", UnsoundSourceError, "index.json in .* is malformed"),
        ("index.json", b"{}", UnsupportedImageError, "no image manifest or index"),
        ("index.json", b'{"manifests": null}', NoSuchImageError, "holds no image"),
        ("index.json", b'{"manifests": [], "config": {}}', UnsoundSourceError, "both an index and a manifest"),
        ("index.json", make_index(describe(b"x", OCI_MANIFEST)), NoSuchImageError, "is not in"),
        ("index.json", make_index(describe(b"x" * (5 << 20), OCI_MANIFEST)), UnsoundSourceError, "5242880 bytes"),
        ("index.json", make_index({**named(IMAGE, "v"), "digest": "sha256:../x"}), UnsoundSourceError, "no sha256"),
        ("index.json", make_index({**named(IMAGE, "v"), "size": 9}), UnsoundSourceError, "its descriptor says 9"),
        (blob_file(IMAGE.manifest), IMAGE.manifest + b" ", UnsoundSourceError, "its descriptor says"),
        (blob_file(IMAGE.manifest), IMAGE.manifest.swapcase(), UnsoundSourceError, "has the digest"),
        (blob_file(IMAGE.config), IMAGE.config.swapcase(), UnsoundSourceError, "has the digest"),
        (blob_file(IMAGE.config), None, NoSuchImageError, "is not in"),
    ],
)
async def test_bent(
    tmp_path: Path, name: str, data: bytes | None, error: type[Exception], says: str, in_archive: bool
) -> None:
    files = bend(name, data)
    path = write_archive(tmp_path / "a.tar", files) if in_archive else write_files(tmp_path / "a", files)
    with pytest.raises(error, match=says):
        await resolve(f"{'oci-archive' if in_archive else 'oci'}:{path}")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("data", [None, b"short"])
async def test_bent_layer(tmp_path: Path, blobs: BlobStore, data: bytes | None, compression: str) -> None:
    files = bend(blob_file(IMAGE.layers[0]), data)
    archive = write_archive(tmp_path / "a.tar", files, COMPRESSIONS[compression])
    with pytest.raises(UnsoundSourceError, match=digest_of(IMAGE.layers[0])):
        await fetch(f"oci-archive:{archive}", blobs)
    with pytest.raises(UnsoundSourceError, match=digest_of(IMAGE.layers[0])):
        await fetch(f"oci:{write_files(tmp_path / 'layout', files)}", blobs)


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_cut_archive(tmp_path: Path, compression: str) -> None:
    files = layout_files(make_index(named(IMAGE, "v1")), *IMAGE.blobs)
    whole = COMPRESSIONS[compression](make_tar(files))
    archive = tmp_path / "a.tar"
    for length in (100, 700, len(whole) // 2):
        archive.write_bytes(whole[:length])
        with pytest.raises(UnreadableSourceError, match=str(archive)):
            await resolve(f"oci-archive:{archive}")


async def test_more_layers_than_diff_ids(tmp_path: Path) -> None:
    document = json.loads(IMAGE.manifest)
    document["layers"] *= 2
    image = Made(json.dumps(document).encode(), IMAGE.config, IMAGE.layers, IMAGE.tars)
    layout = write_files(tmp_path / "a", layout_files(make_index(named(image, "v1")), *image.blobs))
    with pytest.raises(UnsoundSourceError, match="4 layers, the config 2"):
        await resolve(f"oci:{layout}")


async def test_config_that_the_daemon_refuses(tmp_path: Path) -> None:
    config = IMAGE.config.replace(b'"history"', b'"story"')
    document = json.loads(IMAGE.manifest)
    document["config"] |= {"digest": digest_of(config), "size": len(config)}
    image = Made(json.dumps(document).encode(), config, IMAGE.layers, IMAGE.tars)
    layout = write_files(tmp_path / "a", layout_files(make_index(named(image, "v1")), *image.blobs))
    with pytest.raises(UnsupportedImageError, match=r"the daemon refuses.*history"):
        await resolve(f"oci:{layout}")
