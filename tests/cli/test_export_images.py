"""Entries as images of one layer: what other programs make of them, and what comes back."""

from __future__ import annotations

import asyncio
import io
import json
import lzma
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackedFormat, PackerCache
from ocitui.cli.demo_cache import ALPINE
from ocitui.contents import TarReader
from ocitui.contents.tar_headers import ChunkReader
from tests.cache.support import digest_of, make_image
from tests.cli.conftest import Ocitui, rot
from tests.cli.import_support import snapshot
from tests.importing.image_makers import run
from tests.importing.layer_support import tree_of_directory
from tests.importing.pipeline import umoci_tree
from tests.tools import ROOT, need

KINDS = ("oci", "oci-archive", "docker-archive")
PACKED = ROOT / "tests" / "packed"
ZOO = ("zoo.gzip.squashfs", "zoo.1.9.3.zstd.erofs", "zoo.tar")


def zoo(name: str) -> bytes:
    return lzma.decompress((PACKED / f"{name}.xz").read_bytes())


def cache_of(directory: Path, **packed: tuple[bytes, str]) -> Path:
    """A cache of entries, each with the bytes of its packed file and its format, by their names."""
    directory.mkdir()

    async def store() -> None:
        cache = PackerCache(directory)
        for name, (content, format) in packed.items():
            draft = directory.with_name(name.replace("/", "-"))
            await cache.store(make_image(draft, name, name=name, format=PackedFormat(format), content=content))

    asyncio.run(store())
    return directory


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    return tmp_path / "other"


def blob(layout: Path, digest: str) -> bytes:
    raw = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert digest_of(raw) == digest
    return raw


def manifests(layout: Path) -> list[tuple[str, dict[str, Any]]]:
    """The names that an index gives, with their manifests."""
    index = json.loads((layout / "index.json").read_bytes())
    return [
        (one["annotations"]["org.opencontainers.image.ref.name"], json.loads(blob(layout, one["digest"])))
        for one in index["manifests"]
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_skopeo_takes_comes_back_as_it_was(kind: str, tmp_path: Path, other: Path, ocitui: Ocitui) -> None:
    """Owners, modes, times, attributes, links, devices and bytes, the root's own too."""
    need("skopeo")
    cache = cache_of(tmp_path / "cache", **{"team/zoo:1": (zoo(ZOO[0]), "squashfs")})
    image = f"{kind}:{tmp_path}/out"
    done = ocitui("export", "-C", cache, "team/zoo:1", image)
    assert (done.status, "which no registry knows" in done.err) == (0, True)
    assert json.loads(run("skopeo", "inspect", "--config", f"{image}:team/zoo:1"))["config"]["Labels"]
    assert ocitui("import", "-C", other, f"{image}:team/zoo:1", "--format", "squashfs").status == 0
    digests = [ocitui("digest", "-C", one, "team/zoo:1", "--level", "full").out for one in (cache, other)]
    assert digests[0] == digests[1] != ""


def test_umoci_unpacks_what_was_packed(tmp_path: Path, ocitui: Ocitui) -> None:
    """To it, as to all that Go's reader of tars serves, an attribute without a value is none (PAX's rule)."""
    need("umoci")
    cache = cache_of(tmp_path / "cache", x=(zoo(ZOO[0]), "squashfs"))
    assert ocitui("export", "-C", cache, "x", f"oci:{tmp_path}/out").status == 0
    unpacked = umoci_tree(tmp_path / "out", tmp_path / "unpacked")
    assert ocitui("extract", "-C", cache, "x", "/", "-o", tmp_path / "expected", "--privileged").status == 0
    expected = tree_of_directory(tmp_path / "expected")
    assert expected.tree["etc/hostname"]["xattrs"].pop("user.empty") == ""
    assert unpacked == expected
    assert len(unpacked.hardlinks) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_tree_is_one_layer_whatever_packed_it(kind: str, tmp_path: Path, ocitui: Ocitui) -> None:
    entries = {f"z:{number}": (zoo(name), name.rpartition(".")[2]) for number, name in enumerate(ZOO)}
    cache = cache_of(tmp_path / "cache", **entries)
    for out in ("one", "two"):
        told = ocitui("export", "-C", cache, *entries, f"{kind}:{tmp_path / out}", "--json").json
        assert [one["name"] for one in told["entries"]] == [*entries]
        assert len({one["local_digest"] for one in told["entries"]}) == len(ZOO)
    if kind == "oci":
        assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two") != {}
        names, made = zip(*manifests(tmp_path / "one"), strict=True)
        assert [*names] == [*entries]
        assert len({one["layers"][0]["digest"] for one in made}) == 1
        return
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one") as archive:
        members = [one.name for one in archive]
        assert (
            len(members) == len({*members}) == {"oci-archive": 2 * len(ZOO) + 3, "docker-archive": len(ZOO) + 2}[kind]
        )


def test_the_config_stays_but_for_its_layers(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    ocitui("export", "-C", demo, ALPINE.digest, f"oci:{tmp_path}/out")
    [(_, manifest)] = manifests(tmp_path / "out")
    assert manifest["annotations"] == {"dev.ocitui.entry.digest": ALPINE.digest}
    [layer] = manifest["layers"]
    assert len(blob(tmp_path / "out", layer["digest"])) == layer["size"]
    before = json.loads((demo / f"{ALPINE.digest}.config.json").read_bytes())
    after = json.loads(blob(tmp_path / "out", manifest["config"]["digest"]))
    assert after.pop("rootfs") == {"type": "layers", "diff_ids": [layer["digest"]]}
    [history] = after.pop("history")
    assert ALPINE.digest in history["comment"]
    assert after == {key: value for key, value in before.items() if key not in ("rootfs", "history")}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_made_of_what_is_damaged(kind: str, demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    """Neither of what its header tells, nor of what only the recorded hash does, nor of what shows as it is read."""
    rot(demo, ocitui)
    bent = bytearray(zoo(ZOO[0]))
    bent[len(bent) // 2 : len(bent) // 2 + 64] = bytes(64)
    other = cache_of(tmp_path / "cache", bent=(bytes(bent), "squashfs"))
    before = sorted(os.listdir(tmp_path))
    for cache, name in ((demo, "quay.io/example/queue:7.2"), (demo, ALPINE.digest), (other, "bent")):
        done = ocitui("export", "-C", cache, name, f"{kind}:{tmp_path}/out")
        assert (done.status, done.err.count("ocitui: ")) == (4, 1), done.err
        assert sorted(os.listdir(tmp_path)) == before


def test_a_layout_gets_another_index_only_if_agreed(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    layout = tmp_path / "out"
    layout.mkdir()
    ocitui("export", "-C", demo, ALPINE.digest, f"oci:{layout}")
    first = snapshot(layout)
    refused = ocitui("export", "-C", demo, "busybox:1.36", f"oci:{layout}")
    assert (refused.status, "no terminal to ask on" in refused.err) == (2, True)
    assert snapshot(layout) == first
    assert ocitui("export", "-C", demo, "busybox:1.36", f"oci:{layout}", "--yes").status == 0
    assert [name for name, _ in manifests(layout)] == ["busybox:1.36"]
    kept = {name: content for name, content in first.items() if name != "index.json"}
    assert kept.items() <= snapshot(layout).items()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_already_stays(kind: str, demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    before = sorted(os.listdir(tmp_path))
    for place in (tmp_path / "out", demo / "out"):
        assert ocitui("export", "-C", demo, "busybox:1.36", f"{kind}:{place}", "--yes").status == 4
    assert sorted(os.listdir(tmp_path)) == before
    assert os.listdir(tmp_path / "out") == ["mine"]


@pytest.mark.parametrize("dest", ["oci:", "oci:out:v1", "oci-archive:-", "docker-archive:out:app:1"])
def test_a_place_that_cannot_be_meant_is_a_mistake(dest: str, demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("export", "-C", demo, "busybox:1.36", dest)
    assert (done.status, "no oci" in done.err or "no docker" in done.err) == (2, True)


def test_two_formats_of_one_entry_are_not_two_images(tmp_path: Path, ocitui: Ocitui) -> None:
    cache = cache_of(tmp_path / "cache", a=(zoo(ZOO[0]), "squashfs"))
    image = make_image(tmp_path / "a", "a", name="a", format=PackedFormat.TAR, content=zoo("zoo.tar"))
    asyncio.run(PackerCache(cache).store(image))
    done = ocitui("export", "-C", cache, "a.tar", "a.squashfs", f"oci:{tmp_path}/out")
    assert (done.status, "two formats" in done.err) == (2, True)


def packed_tar(*members: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for one in members:
            archive.addfile(one)
    return file.getvalue()


def member(name: str, **pax: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.pax_headers = pax
    return info


def test_a_name_that_would_take_another_away_is_refused(tmp_path: Path, ocitui: Ocitui) -> None:
    cache = cache_of(tmp_path / "cache", a=(packed_tar(member("etc/.wh.passwd")), "tar"))
    done = ocitui("export", "-C", cache, "a", f"oci:{tmp_path}/out")
    assert (done.status, "/etc/.wh.passwd' would take another file away" in done.err) == (4, True), done.err
    assert not (tmp_path / "out").exists()


def test_what_no_layer_holds_is_told(tmp_path: Path, ocitui: Ocitui) -> None:
    attribute = packed_tar(member("file", **{"LIBARCHIVE.xattr.user.a%3Db": "eA", "SCHILY.xattr.user.c": "d"}))
    cache = cache_of(tmp_path / "cache", s=(zoo(ZOO[0]), "squashfs"), t=(attribute, "tar"))
    done = ocitui("export", "-C", cache, "s", "t", f"oci:{tmp_path}/out", "--json")
    assert [one["left_out"] for one in done.json["entries"]] == [
        {"sockets": 1},
        {"attributes with = in their names": 1},
    ]
    assert "left out" in done.err


def test_times_beyond_what_a_header_holds_are_kept(tmp_path: Path, ocitui: Ocitui) -> None:
    times = {"before": -5, "after": 1 << 34}
    members = (member(name, mtime=str(time)) for name, time in times.items())
    cache = cache_of(tmp_path / "cache", a=(packed_tar(*members), "tar"))
    assert ocitui("export", "-C", cache, "a", f"oci:{tmp_path}/out").status == 0
    [(_, manifest)] = manifests(tmp_path / "out")
    layer = blob(tmp_path / "out", manifest["layers"][0]["digest"])
    found = {one.name.decode(): one.mtime for one in TarReader(ChunkReader(iter([layer])))}
    assert found.items() >= times.items()


def test_a_name_that_comes_twice_is_the_last_ones(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    for dest in (f"oci:{tmp_path / 'out'}", f"docker-archive:{tmp_path / 'out.tar'}"):
        assert ocitui("export", "-C", demo, "--filter", "name:alpine", dest).status == 0
    listed = json.loads((tmp_path / "out" / "index.json").read_bytes())["manifests"]
    names = [one.get("annotations", {}).get("org.opencontainers.image.ref.name") for one in listed]
    assert names == [None, "alpine:3.19"]
    with tarfile.open(tmp_path / "out.tar") as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        assert [one["RepoTags"] for one in json.load(file)] == [[], ["alpine:3.19"]]


def test_a_directory_that_is_there_stays_the_same_one(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    place = tmp_path / "out"
    place.mkdir()
    place.chmod(0o750)
    before = place.stat()
    assert ocitui("export", "-C", demo, ALPINE.digest, f"oci:{place}").status == 0
    assert (place.stat().st_ino, place.stat().st_mode) == (before.st_ino, before.st_mode)
    assert sorted(os.listdir(place)) == ["blobs", "index.json", "oci-layout"]
