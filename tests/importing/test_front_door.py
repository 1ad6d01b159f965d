"""The front door: inputs of public reports, and the right answer to each."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from ocitui.cache import ImageName, PackedFormat, PackerCache
from ocitui.importing import ImportDesk, ImportRequest, SourceError, import_image, inspect_source
from ocitui.importing.errors import RepointsNameError
from ocitui.importing.sources import images
from tests.cache.support import make_image, write_cache
from tests.importing.builders import BASE, docker_image, docker_save
from tests.importing.image_makers import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    describe,
    in_index,
    layout_files,
    make_index,
    make_tar,
    named,
    put,
    write_files,
    zstd_compress,
)
from tests.importing.image_makers import make_image as make_layers
from tests.importing.registry_server import FaultyRegistry
from tests.tools import ROOT, need

CASES = ROOT / "tests" / "cases"
TAR = PackedFormat.TAR
pytestmark = pytest.mark.usefixtures("packed_here")


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


async def test_an_archive_that_is_compressed_twice_is_told_so_and_read_once_unpacked(
    cache: PackerCache, tmp_path: Path
) -> None:
    twice, once = tmp_path / "image.tar.gz.xz", tmp_path / "image.tar.gz"
    twice.write_bytes(lzma.compress(gzip.compress((CASES / "01-lowercase-keys.tar").read_bytes())))
    with pytest.raises(SourceError, match="compressed twice, with gzip and then xz") as raised:
        await imported(cache, str(twice))
    assert raised.value.hint == "unpack it with xz -d first"
    once.write_bytes(lzma.decompress(twice.read_bytes()))
    assert await imported(cache, str(once)) == "foo/bar:1"


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


@pytest.mark.parametrize(
    "beside",
    [None, {}, "x", {"digest": 7}, {"mediaType": None}, {"size": "9"}, {"annotations": 1}, {"platform": "linux"}],
)
async def test_what_is_no_descriptor_is_said_of_that_one(beside: object, tmp_path: Path) -> None:
    good = make_layers(b"good")
    wrong = named(make_layers(b"other"), "a/other:1") | beside if isinstance(beside, dict) and beside else beside
    index = {"schemaVersion": 2, "manifests": [wrong, named(good, "a/good:1")]}
    write_files(tmp_path / "layout", layout_files(json.dumps(index).encode(), *good.blobs))
    found = await inspect_source(ImportRequest(source=f"oci:{tmp_path}/layout"))
    assert [bool(one.problem) for one in found.images] == [True, False]
    assert found.digest == good.digest


async def test_what_is_no_descriptor_is_told_by_its_name_and_by_what_is_wrong(tmp_path: Path) -> None:
    good = make_layers(b"good")
    wrong = named(make_layers(b"other"), "a/other:1") | {"size": "9"}
    index = json.dumps({"schemaVersion": 2, "manifests": [wrong, None, named(good, "a/good:1")]}).encode()
    write_files(tmp_path / "layout", layout_files(index, *good.blobs))
    found = await inspect_source(ImportRequest(source=f"oci:{tmp_path}/layout"))
    told = "a manifest has no descriptor, or one that is none"
    assert [(one.names, one.problem) for one in found.images] == [
        (("a/other:1",), told),
        ((), told),
        (("a/good:1",), ""),
    ]
    assert found.notes == (f"a/other:1: {told}", f"one: {told}")


async def test_of_an_index_no_more_is_taken_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 MB two million descriptors that are none took 531 MB, and 6 seconds."""
    monkeypatch.setattr(images, "_descriptor", None)
    index = b'{"schemaVersion":2,"manifests":[' + b"0," * 10_000 + b"0]}"
    write_files(tmp_path / "layout", layout_files(index))
    with pytest.raises(SourceError, match="no list, or one of more than 10,000"):
        await inspect_source(ImportRequest(source=f"oci:{tmp_path}/layout"))


async def test_a_descriptor_without_its_type_is_taken_by_what_it_leads_to(tmp_path: Path) -> None:
    good = make_layers(b"good")
    said = {key: value for key, value in named(good, "a/good:1").items() if key != "mediaType"}
    index = json.dumps({"schemaVersion": 2, "manifests": [said]}).encode()
    write_files(tmp_path / "layout", layout_files(index, *good.blobs))
    found = await inspect_source(ImportRequest(source=f"oci:{tmp_path}/layout"))
    assert (found.digest, [one.problem for one in found.images]) == (good.digest, [""])


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


TOOLS = {"gzip": gzip.compress, "zstd": zstd_compress, "xz": lzma.compress, "bzip2": bz2.compress}


def unpack(tool: str, path: Path, to: Path) -> None:
    """Whatever the tool says of what follows."""
    to.write_bytes(subprocess.run([tool, "-dc"], input=path.read_bytes(), capture_output=True, check=False).stdout)


@pytest.mark.parametrize("tool", TOOLS)
async def test_what_follows_a_compressed_archive(tool: str, tmp_path: Path, cache: PackerCache) -> None:
    path, data = tmp_path / "archive", TOOLS[tool]((CASES / "01-lowercase-keys.tar").read_bytes())
    path.write_bytes(data + b"a signature, or what a broken copy left")
    with pytest.raises(SourceError, match=f"something follows the end of its {tool} data") as refused:
        await imported(cache, str(path))
    assert refused.value.hint == f"what stands before that is whole: {tool} -dc gives it"
    need(tool)
    unpack(tool, path, tmp_path / "given")
    assert await imported(cache, str(tmp_path / "given")) == "foo/bar:1"
    path.write_bytes(data + bytes(5000))
    assert await imported(cache, str(path)) == "foo/bar:1"


@pytest.mark.parametrize("lost", [1, 4, 8, 30])
@pytest.mark.parametrize("tool", TOOLS)
async def test_an_archive_that_lacks_its_last_bytes_is_called_cut(
    tool: str, lost: int, tmp_path: Path, cache: PackerCache
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(TOOLS[tool]((CASES / "01-lowercase-keys.tar").read_bytes())[:-lost])
    with pytest.raises(SourceError, match=f"its {tool} data are cut"):
        await imported(cache, str(path))


async def test_an_archive_that_goes_on_after_its_end_is_left(tmp_path: Path, cache: PackerCache) -> None:
    path, whole = tmp_path / "archive", (CASES / "01-lowercase-keys.tar").read_bytes()
    path.write_bytes(gzip.compress(whole + bytes(70 << 20), 1))
    with pytest.raises(SourceError, match="goes on for long after the end of its tar"):
        await imported(cache, str(path))


async def test_a_link_that_leads_nowhere_is_named_with_its_target(tmp_path: Path, cache: PackerCache) -> None:
    archive = docker_save((docker_image(BASE), "a/b:1"))
    (name,) = (one for one in archive.members if one.endswith("layer.tar"))
    archive.members[name], archive.links[name] = b"", "../elsewhere/layer.tar"
    path = archive.write(tmp_path / "a.tar")
    with pytest.raises(SourceError, match=f"the layer {name} is a link to elsewhere/layer.tar, which is no file in"):
        await imported(cache, str(path))


def disagreeing(directory: Path, *images: tuple[str, str]) -> str:
    """A layout whose index calls images otherwise than their configs do."""
    made = [(make_layers(its.encode(), platform=its), called) for its, called in images]
    below = make_index(*(in_index(image, called) for image, called in made))
    index = make_index(describe(below, OCI_INDEX))
    write_files(directory, layout_files(index, below, *(blob for image, _ in made for blob in image.blobs)))
    return f"oci:{directory}"


async def test_where_index_and_config_disagree_both_are_named(tmp_path: Path, cache: PackerCache) -> None:
    """The daemon chooses by the index, and looks at no config for that (crates/oci/src/fetch.rs)."""
    source = disagreeing(tmp_path / "layout", ("linux/arm64", "linux/amd64"), ("linux/amd64", "linux/s390x"))
    for asked, its in (("linux/amd64", "linux/arm64"), ("linux/s390x", "linux/amd64")):
        found = await inspect_source(ImportRequest(source=source, platform=asked))
        assert found.image is not None
        assert str(found.image.platform) == its
        assert f"its index calls it {asked}, its config {its}, which is what runs" in found.notes
    with pytest.raises(SourceError, match="there is no image for linux/arm64, only for linux/amd64, linux/s390x"):
        await imported(cache, source, name="a/b:1", platform="linux/arm64")
    await imported(cache, source, name="a/b:1", platform="linux/amd64")
    (stored,) = await cache.list()
    assert stored.platform is not None
    assert str(stored.platform) == "linux/arm64"


async def test_where_index_and_config_agree_nothing_is_told(tmp_path: Path) -> None:
    source = disagreeing(tmp_path / "layout", ("linux/arm64/v8", "linux/arm64"), ("linux/arm", "linux/arm/v6"))
    for asked in ("linux/arm64", "linux/arm/v6"):
        found = await inspect_source(ImportRequest(source=source, platform=asked))
        assert not [note for note in found.notes if "its index calls it" in note]
