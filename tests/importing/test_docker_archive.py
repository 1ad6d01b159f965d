"""Docker archives: by Docker before and after 25, by skopeo and others, and ones that are bent."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

from ocitui.importing.errors import NoSuchImageError, SourceError, UnreadableSourceError, UnsoundSourceError
from ocitui.importing.layers.layers import LayerSource
from ocitui.importing.sources.archive import Archive, Member
from ocitui.importing.sources.images import SourceKind
from ocitui.importing.sources.layouts import LOCAL_DIGEST, SAVED_DIGEST
from ocitui.importing.sources.opening import open_source
from ocitui.importing.sources.references import SourceOptions
from ocitui.importing.staging import BlobStore
from ocitui.threads import Stop
from tests.importing.builders import DOCKER_1_9, SAVED
from tests.importing.image_makers import (
    OCI_MANIFEST,
    describe,
    layout_files,
    make_config,
    make_image,
    make_index,
    make_tar,
    make_with_umoci,
    run,
)
from tests.importing.registry_server import digest_of
from tests.importing.test_oci_layout import COMPRESSIONS, bytes_of, fetch, resolve, write_archive
from tests.tools import need

TARS = (make_tar({"a": b"1" * 3000}), make_tar({"b": b"2"}))
CONFIG = make_config(*TARS)
CONFIG_NAME = f"{digest_of(CONFIG).removeprefix('sha256:')}.json"


def saved(*tags: str, layers: tuple[bytes, ...] = TARS, config: str = CONFIG_NAME) -> dict[str, bytes]:
    """The files of an archive of Docker before 25."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": config, "RepoTags": list(tags) or None, "Layers": names}]
    return {
        **dict(zip(names, layers, strict=True)),
        CONFIG_NAME: CONFIG,
        "manifest.json": json.dumps(manifest).encode(),
    }


@pytest.mark.parametrize("tool", [tool for tool, one in SAVED.items() if one.docker])
@pytest.mark.parametrize("prefix", ["", "docker-archive:"])
async def test_archives_by_other_tools(tool: str, prefix: str, tmp_path: Path, blobs: BlobStore) -> None:
    saved = SAVED[tool]
    path = saved.archive.write(tmp_path / "a.tar")
    source = await open_source(f"{prefix}{path}{':' if saved.wanted else ''}{saved.wanted}")
    image = await source.resolve()
    assert source.kind is SourceKind.DOCKER_ARCHIVE
    assert image.names == ((saved.tag,) if saved.tag else ())
    assert LOCAL_DIGEST in image.notes
    assert (str(image.image_name) if image.image_name else None) == saved.tag
    assert image.config.raw == saved.image.config
    files = [one async for one in source.fetch(image, blobs)]
    assert [digest_of(bytes_of(layer)) for layer in files] == [layer.digest for layer in image.layers]
    assert [layer.diff_id for layer in files] == [digest_of(tar) for tar in saved.image.tars]


async def test_archive_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSourceError, match=r"Docker before 1\.10"):
        await resolve(str(DOCKER_1_9.write(tmp_path / "a.tar")))


async def test_several_images(tmp_path: Path) -> None:
    path = SAVED["docker-second-of-two"].archive.write(tmp_path / "a.tar")
    with pytest.raises(NoSuchImageError, match=r"several images: team/pair:1, team/pair:2"):
        await resolve(str(path))
    assert (await resolve(f"docker-archive:{path}:@1")).names == ("team/pair:2",)
    with pytest.raises(NoSuchImageError, match="none has number 2"):
        await resolve(f"docker-archive:{path}:@2")
    listing = await (await open_source(str(path))).listing()
    assert [image.layers for image in listing.images] == [1, 2]
    assert listing.notes == (LOCAL_DIGEST,)


async def test_synthesised_manifest_is_always_the_same(tmp_path: Path) -> None:
    one = write_archive(tmp_path / "one.tar", saved("app:1"))
    other = write_archive(tmp_path / "other.tar.gz", saved("app:2"), gzip.compress)
    image = await resolve(f"docker-archive:{one}")
    assert image.digest == (await resolve(f"docker-archive:{other}")).digest
    assert image.config.raw == CONFIG
    manifest = json.loads(image.manifest.raw)
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert manifest["config"]["digest"] == digest_of(CONFIG)
    assert [layer["digest"] for layer in manifest["layers"]] == [digest_of(tar) for tar in TARS]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("inner", COMPRESSIONS)
async def test_compressed_layers(tmp_path: Path, blobs: BlobStore, compression: str, inner: str) -> None:
    layers = tuple(COMPRESSIONS[inner](tar) for tar in TARS)
    archive = write_archive(tmp_path / "a.tar", saved("app:1", layers=layers), COMPRESSIONS[compression])
    found = await fetch(f"docker-archive:{archive}", blobs)
    assert [bytes_of(layer) for layer in found] == list(layers)
    assert [layer.digest for layer in found] == [digest_of(layer) for layer in layers]
    assert [layer.diff_id for layer in found] == [digest_of(tar) for tar in TARS]


@pytest.mark.parametrize("name", ["app:1", "app", "docker.io/library/app:latest", "library/app"])
async def test_names(tmp_path: Path, name: str) -> None:
    archive = write_archive(tmp_path / "a.tar", saved("app:1", "app:latest"))
    assert (await resolve(f"docker-archive:{archive}:{name}")).names == ("app:1", "app:latest")


async def test_name_that_is_not_there(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar", saved("app:1"))
    with pytest.raises(NoSuchImageError, match="holds no app:2; it holds app:1"):
        await resolve(f"docker-archive:{archive}:app:2")


async def test_what_two_archives_share_is_unpacked_once(
    tmp_path: Path, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, contents = list[int](), Archive.contents

    def counted(archive: Archive, members: Set[Member], stop: Stop) -> Iterator[tuple[Member, Iterator[bytes]]]:
        wanted.append(len(members))
        return contents(archive, members, stop)

    async def take(name: str) -> list[LayerSource]:
        archive = write_archive(tmp_path / name, saved("app:1"), gzip.compress)
        source = await open_source(f"docker-archive:{archive}", SourceOptions())
        image = await source.resolve()
        wanted.clear()
        await ready.wait()
        try:
            return [one async for one in source.fetch(image, blobs)]
        finally:
            await source.aclose()

    ready = asyncio.Barrier(2)
    monkeypatch.setattr(Archive, "contents", counted)
    one, other = await asyncio.gather(take("a.tgz"), take("b.tgz"))
    assert [layer.path for layer in one] == [layer.path for layer in other]
    assert sorted(wanted)[:-1] == [0] * (len(wanted) - 1), "one of them unpacked, the others found it there"


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_archive_of_docker_25(tmp_path: Path, blobs: BlobStore, compression: str) -> None:
    """Its manifest is kept, and a registry's where the layers are compressed."""
    image = make_image(b"x", b"y")
    names = [f"blobs/sha256/{digest_of(blob).removeprefix('sha256:')}" for blob in (image.config, *image.layers)]
    manifest = [{"Config": names[0], "RepoTags": ["app:1"], "Layers": names[1:], "LayerSources": {}}]
    annotations = {"io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1"}
    gone = describe(b"another platform", OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64"})
    files = layout_files(
        make_index(gone, describe(image.manifest, OCI_MANIFEST, annotations=annotations)), *image.blobs
    )
    files["manifest.json"] = json.dumps(manifest).encode()
    archive = write_archive(tmp_path / "a.tar", files, COMPRESSIONS[compression])
    found = await resolve(str(archive))
    assert (found.manifest.raw, found.names, found.notes) == (image.manifest, ("app:1",), ())
    assert [bytes_of(layer) for layer in await fetch(str(archive), blobs)] == list(image.layers)


async def test_archive_of_docker_25_with_plain_layers(tmp_path: Path) -> None:
    kind = "application/vnd.oci.image.layer.v1.tar"
    made = make_image(b"x")
    image = make_image(b"x", layers=[describe(made.tars[0], kind)])
    names = [f"blobs/sha256/{digest_of(blob).removeprefix('sha256:')}" for blob in (image.config, image.tars[0])]
    files = layout_files(
        make_index(describe(image.manifest, OCI_MANIFEST)), image.manifest, image.config, image.tars[0]
    )
    files["manifest.json"] = json.dumps([{"Config": names[0], "RepoTags": ["a:1"], "Layers": names[1:]}]).encode()
    found = await resolve(str(write_archive(tmp_path / "a.tar", files)))
    assert (found.digest, found.notes) == (image.digest, (SAVED_DIGEST,))


async def test_archive_of_skopeo(tmp_path: Path, blobs: BlobStore) -> None:
    need("umoci", "skopeo")
    layout, archive = make_with_umoci(tmp_path), tmp_path / "image.tar"
    run("skopeo", "copy", "-q", f"oci:{layout}:v1", f"docker-archive:{archive}:team/app:v1")
    image = await resolve(f"docker-archive:{archive}:team/app:v1")
    assert image.config.raw
    assert [layer.diff_id for layer in await fetch(str(archive), blobs)] == image.config.value.rootfs.diff_ids


def linked(links: dict[str, tuple[bytes, str]]) -> bytes:
    """An archive whose layers are links of this type to these targets."""
    out = io.BytesIO(make_tar({"x/layer.tar": TARS[0], "y/layer.tar": TARS[1], **saved()}))
    files = {name: data for name, data in saved().items() if not name.endswith("layer.tar")}
    out = io.BytesIO(make_tar({"x/layer.tar": TARS[0], "y/layer.tar": TARS[1], **files}))
    with tarfile.open(fileobj=out, mode="a") as archive:
        for name, (kind, target) in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return out.getvalue()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
async def test_linked_layers(tmp_path: Path, blobs: BlobStore, kind: bytes) -> None:
    up = "../" if kind == tarfile.SYMTYPE else ""
    archive = tmp_path / "a.tar"
    archive.write_bytes(linked({"0/layer.tar": (kind, f"{up}x/layer.tar"), "1/layer.tar": (kind, f"{up}y/layer.tar")}))
    assert [bytes_of(layer) for layer in await fetch(f"docker-archive:{archive}", blobs)] == list(TARS)


@pytest.mark.parametrize("target", ["../0/layer.tar", "../../../etc/passwd", "/etc/passwd", "../nothing", "."])
async def test_links_that_lead_nowhere(tmp_path: Path, target: str) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(linked({"0/layer.tar": (tarfile.SYMTYPE, target), "1/layer.tar": (tarfile.SYMTYPE, "../y")}))
    with pytest.raises(UnsoundSourceError, match=r"the layer 0/layer\.tar is a link to .*, which is no file in"):
        await resolve(f"docker-archive:{archive}")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"manifest.json": b"{}"}, "manifest.json"),
        ({"manifest.json": b"[]"}, "holds no image"),
        ({"manifest.json": b'[{"Layers": []}]'}, "Config"),
        ({"manifest.json": b'[{"Config": "../c.json"}]'}, "the config ../c.json is not in"),
        ({CONFIG_NAME: CONFIG + b" "}, "has the digest"),
        (saved(config="0/layer.tar"), "the daemon refuses"),
        (saved(layers=TARS[:1]), "names 1 layers"),
    ],
)
async def test_bent(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    archive = write_archive(tmp_path / "a.tar", {**saved("app:1"), **files})
    with pytest.raises(SourceError, match=says):
        await resolve(f"docker-archive:{archive}")


async def test_another_layer_than_its_diff_id(tmp_path: Path, blobs: BlobStore) -> None:
    """In a plain archive it is found by who reads the layer; in a compressed one when it is unpacked."""
    files = saved("app:1", layers=(TARS[0], TARS[1].replace(b"2", b"3")))
    (_, layer) = await fetch(f"docker-archive:{write_archive(tmp_path / 'a.tar', files)}", blobs)
    assert layer.digest != digest_of(bytes_of(layer))
    with pytest.raises(UnsoundSourceError, match="of the digest"):
        await fetch(f"docker-archive:{write_archive(tmp_path / 'a.tgz', files, gzip.compress)}", blobs)
