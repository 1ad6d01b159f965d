"""The front door: inputs of public reports, and the right answer to each."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from ocitui.cache import ImageName, PackedFormat, PackerCache
from ocitui.importing import ImportDesk, ImportRequest, SourceError, import_image, inspect_source
from ocitui.importing.errors import RepointsNameError
from tests.cache.support import make_image, write_cache
from tests.importing.image_makers import (
    OCI_CONFIG,
    OCI_MANIFEST,
    describe,
    layout_files,
    make_tar,
    named,
    put,
    write_files,
)
from tests.importing.image_makers import make_image as make_layers
from tests.importing.registry_server import FaultyRegistry
from tests.tools import ROOT

CASES = ROOT / "tests" / "cases"
TAR = PackedFormat.TAR


@pytest.fixture
def cache(tmp_path: Path) -> PackerCache:
    write_cache(tmp_path / "cache", [])
    return PackerCache(tmp_path / "cache")


async def imported(cache: PackerCache, source: str, **how: object) -> str:
    """Under what name it is stored."""
    request = ImportRequest(source=source, format=TAR, **how)  # type: ignore[arg-type]
    return str((await import_image(ImportDesk(cache), request)).image.name)


def tree(cache: PackerCache) -> dict[str, bytes]:
    """The files of the only image."""
    (packed,) = cache.directory.glob("*.tar")
    with tarfile.open(packed) as opened:
        return {one.name: opened.extractfile(one).read() for one in opened if one.isfile()}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["01-lowercase-keys.tar", "02-archive.tar.xz"])
async def test_an_archive_as_docker_reads_it(name: str, cache: PackerCache) -> None:
    assert await imported(cache, str(CASES / name)) == "foo/bar:1"
    assert {key.lstrip("./"): data for key, data in tree(cache).items()} == {"a/b": b"one", "a/c": b"two"}


async def test_one_bad_neighbour_blinds_nobody(cache: PackerCache) -> None:
    source = str(CASES / "04-bad-neighbour.oci.tar")
    for asked in (source, f"{source}:v1"):
        found = await inspect_source(ImportRequest(source=asked))
        assert {one.names: bool(one.problem) for one in found.images} == {("v1",): False, ("chart",): True}
        assert found.can_be_taken
    assert await imported(cache, source, name="a/b:1") == "a/b:1"
    with pytest.raises(SourceError, match="is no image, but"):
        await imported(cache, f"{source}:chart", name="a/b:2")


async def test_what_is_missing_of_one_is_said_of_that_one(tmp_path: Path) -> None:
    good, torn = make_layers(b"good"), make_layers(b"torn")
    index = {"schemaVersion": 2, "manifests": [named(torn, "a/torn:1"), named(good, "a/good:1")]}
    write_files(tmp_path / "layout", layout_files(json.dumps(index).encode(), *good.blobs))
    found = await inspect_source(ImportRequest(source=f"oci:{tmp_path}/layout"))
    assert [bool(one.problem) for one in found.images] == [True, False]
    assert found.digest == good.digest


async def test_the_name_asked_for_is_the_name_stored(cache: PackerCache) -> None:
    source = f"docker-archive:{CASES / '17-two-tags.tar'}"
    found = await inspect_source(ImportRequest(source=source))
    assert "it is also called app:dev, which is not stored; --name takes another" in found.notes
    assert await imported(cache, f"{source}:app:dev") == "app:dev"


async def test_a_name_that_works_is_not_repointed_unasked(tmp_path: Path, cache: PackerCache) -> None:
    await cache.store(make_image(tmp_path / "old", "old", name="foo/bar:1", format=PackedFormat.SQUASHFS))
    source = str(CASES / "01-lowercase-keys.tar")
    before = (cache.directory / "index.json").read_bytes()
    with pytest.raises(RepointsNameError, match="in squashfs it would be a miss then"):
        await imported(cache, source)
    assert (cache.directory / "index.json").read_bytes() == before
    await imported(cache, source, repoint=True)
    assert await cache.recall(ImageName.parse("foo/bar:1"), (await cache.list())[-1].digest, TAR)


async def test_a_name_that_the_daemon_does_not_find_is_nobody_s(tmp_path: Path, cache: PackerCache) -> None:
    old = await cache.store(make_image(tmp_path / "old", "old", name="foo/bar:1"))
    old.path.unlink()
    assert await imported(cache, str(CASES / "01-lowercase-keys.tar")) == "foo/bar:1"


async def test_a_layer_in_xz(tmp_path: Path, cache: PackerCache) -> None:
    import hashlib
    import lzma

    tar = make_tar({"f": b"content"})
    image = make_layers(b"content")
    layer = lzma.compress(tar)
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]}
    config = json.dumps(json.loads(image.config) | {"rootfs": rootfs}).encode()
    manifest = json.dumps(
        json.loads(image.manifest)
        | {
            "config": describe(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [describe(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
    ).encode()
    index = {"schemaVersion": 2, "manifests": [describe(manifest, OCI_MANIFEST)]}
    write_files(tmp_path / "layout", layout_files(json.dumps(index).encode(), manifest, config, layer))
    await imported(cache, f"oci:{tmp_path}/layout", name="a/b:1")
    assert b"content" in tree(cache).values()


@pytest.mark.parametrize("history", [{}, {"history": None}])
async def test_a_config_without_history_is_completed_when_that_is_asked_for(
    history: dict[str, None], tmp_path: Path, cache: PackerCache
) -> None:
    image = make_layers(b"content")
    fields = {key: value for key, value in json.loads(image.config).items() if key != "history"} | history
    config = json.dumps(fields).encode()
    manifest = json.dumps(
        json.loads(image.manifest) | {"config": describe(config, "application/vnd.oci.image.config.v1+json")}
    ).encode()
    index = {"schemaVersion": 2, "manifests": [describe(manifest, OCI_MANIFEST)]}
    write_files(tmp_path / "layout", layout_files(json.dumps(index).encode(), manifest, config, *image.layers))
    source = f"oci:{tmp_path}/layout"
    with pytest.raises(SourceError, match=r"history|expected a sequence") as refused:
        await imported(cache, source, name="a/b:1")
    assert "--complete-config" in refused.value.hint
    found = await inspect_source(ImportRequest(source=source, complete_config=True))
    assert any("no registry knows the image by this digest" in note for note in found.notes)
    await imported(cache, source, name="a/b:1", complete_config=True)
    (stored,) = await cache.list()
    assert stored.digest == found.digest
    recalled = await cache.recall(ImageName.parse("a/b:1"), stored.digest, TAR)
    assert recalled is not None
    assert json.loads(recalled.config.raw) == fields | {"history": []}


@pytest.mark.parametrize("whole", [True, False])
async def test_what_was_completed_is_nothing_that_the_daemon_can_pull(
    whole: bool, registry: FaultyRegistry, quick: None, cache: PackerCache
) -> None:
    image = make_layers(b"content")
    if not whole:
        config = json.dumps({key: value for key, value in json.loads(image.config).items() if key != "history"})
        fields = json.loads(image.manifest) | {"config": describe(config.encode(), OCI_CONFIG)}
        image = replace(image, config=config.encode(), manifest=json.dumps(fields).encode())
    put(registry, image, "v1")
    source = f"docker://{registry.host}/team/app:v1"
    asked = ImportRequest(source=source, format=TAR, platform="linux/amd64", complete_config=True)
    done = await import_image(ImportDesk(cache), asked)
    assert done.source is not None
    assert done.source.private is not whole


async def test_the_case_without_history(cache: PackerCache) -> None:
    source = str(CASES / "03-no-history.oci.tar")
    await imported(cache, source, name="a/b:1", complete_config=True)
    assert await cache.recall(ImageName.parse("a/b:1"), (await cache.list())[0].digest, TAR) is not None


async def test_the_sparse_case(cache: PackerCache) -> None:
    await imported(cache, str(CASES / "05-sparse-pax10.oci.tar"), name="a/b:1")
    (data,) = tree(cache).values()
    assert data == b"HELLO" + bytes(9995)


async def test_an_entry_of_another_cache(tmp_path: Path, cache: PackerCache) -> None:
    await imported(cache, str(CASES / "01-lowercase-keys.tar"))
    (entry,) = await cache.list()
    write_cache(tmp_path / "other", [])
    other = PackerCache(tmp_path / "other")
    assert await imported(other, f"cache:{cache.directory}:foo/bar:1") == "foo/bar:1"
    assert (
        await imported(other, f"cache:{cache.directory}:{entry.digest[:20]}.tar", name="a/b:2", rename=True) == "a/b:2"
    )
    assert (other.directory / f"{entry.digest}.tar").read_bytes() == next(cache.directory.glob("*.tar")).read_bytes()
    for text, why in (
        (f"{cache.directory}:nothing", "it has foo/bar:1"),
        (f"{tmp_path}:a", "no cache that can be read"),
    ):
        with pytest.raises(SourceError, match=why):
            await imported(other, f"cache:{text}")
    (cache.directory / "index.json").write_bytes(b"{")
    with pytest.raises(SourceError, match="corrupt") as refused:
        await imported(other, f"cache:{cache.directory}:foo/bar:1")
    assert "ocitui repair" in refused.value.hint
