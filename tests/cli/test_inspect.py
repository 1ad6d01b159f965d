"""`ocitui inspect` of layouts, archives and registries."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import NoReturn

import pytest

from ocitui.cache import PackedFormat, PackerCache, StorageError
from ocitui.importing.inspect import ImportRequest, Inspection, Standing, inspect_source, standing_of
from ocitui.importing.staging import BlobStore
from ocitui.text import human_size
from ocitui.words.imports import size_lines
from tests.cli.conftest import Ocitui
from tests.cli.import_support import make_layout, put_image, running
from tests.importing.builders import DOCKER_1_9, SAVED
from tests.importing.image_makers import OCI_INDEX, in_index, make_image, make_index
from tests.importing.pulling import write_auths
from tests.importing.registry_server import FaultyRegistry, Reply, digest_of

COMMON = {"schema", "version", "host", "cache"}
AMD64, ARM64 = make_image(b"for amd64"), make_image(b"for arm64", platform="linux/arm64/v8")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


def test_a_layout_with_two_images(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    layout = make_layout(tmp_path / "layout", ("example.com/a/b:1", AMD64), ("v2", make_image(b"other")))
    done = ocitui("inspect", f"oci:{layout}:example.com/a/b:1", "--json", "-C", cache)
    assert done.status == 0
    assert set(done.json) == COMMON | {"source", "kind", "images", "notes", "problems", "login"}
    assert done.json["login"] is None
    first, second = done.json["images"]
    assert first == {
        "names": ["example.com/a/b:1"],
        "platform": "linux/amd64",
        "digest": AMD64.digest,
        "size": len(AMD64.config) + len(AMD64.layers[0]),
        "layers": 1,
        "taken": True,
        "name": "example.com/a/b:1",
        "cached": [],
        "kept": 0,
        "layers_kept": 0,
        "problem": None,
    }
    assert (second["taken"], second["name"], second["kept"], second["layers_kept"]) == (False, None, None, None)
    assert os.listdir(cache) == []
    undecided = ocitui("inspect", layout, "-C", cache)
    assert undecided.status == 1
    assert "an import takes none: there are several images" in undecided.out


def test_what_the_cache_has(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    layout = make_layout(tmp_path / "layout", ("a/b:1", AMD64))
    assert ocitui("import", layout, "--format", "tar", "-C", cache).status == 0
    (image,) = ocitui("inspect", layout, "--json", "-C", cache).json["images"]
    assert image["cached"] == [{"format": "tar", "name": "a/b:1"}]
    said = ocitui("inspect", layout, "-C", cache).out
    assert f"an import takes {AMD64.digest}, named a/b:1\nthe cache has it as tar, named a/b:1\n" in said


@pytest.mark.parametrize("data", [b"{", None])
def test_a_cache_that_cannot_be_read_is_a_note(data: bytes | None, tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    layout = make_layout(tmp_path / "layout", ("a/b:1", AMD64))
    if data is None:
        cache.rmdir()
    else:
        (cache / "index.json").write_bytes(data)
    done = ocitui("inspect", layout, "--json", "-C", cache)
    assert done.status == 0
    assert done.json["images"][0]["cached"] is None
    assert "note: whether the cache has it is not known" in ocitui("inspect", layout, "-C", cache).out


def test_platforms_of_a_registry(cache: Path, ocitui: Ocitui) -> None:
    registry = FaultyRegistry()
    for image in (AMD64, ARM64):
        registry.add_manifest("application/vnd.oci.image.manifest.v1+json", image.manifest)
        registry.add_blob(image.config)
    registry.add_manifest(OCI_INDEX, make_index(in_index(AMD64, "linux/amd64"), in_index(ARM64, "linux/arm64")), "1.0")
    with running(registry):
        words = ["inspect", f"{registry.host}/team/app:1.0", "-C", cache]
        done = ocitui(*words, "--platform", "arm64", "--json")
        assert done.status == 0
        assert done.json["login"] == ""
        assert [image["platform"] for image in done.json["images"]] == ["linux/amd64", "linux/arm64/v8"]
        assert [image["taken"] for image in done.json["images"]] == [False, True]
        assert done.json["notes"] == [], "it is the platform that was asked for"
        none = ocitui(*words, "--platform", "linux/s390x", "--json")
        assert none.status == 1
        assert "there is no image for linux/s390x" in none.json["problems"][0]
        assert none.json["notes"] == []
        assert len(registry.asked(AMD64.digest)) == 0


def test_whose_login_a_registry_wanted(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    registry, auth = FaultyRegistry(), base64.b64encode(b"anna:secret").decode()
    refusal = Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'})
    registry.rules.append(lambda request: None if request.authorization else refusal)
    with running(registry):
        put_image(registry, b"x")
        words = ["inspect", f"{registry.host}/team/app:1.0", "-C", cache]
        words += ["--authfile", write_auths(tmp_path / "a", registry.host, auth=auth)]
        assert "\nlogged in as anna\n" in ocitui(*words).out
        assert ocitui(*words, "--json").json["login"] == "anna"


def test_what_it_takes_and_which_layers_are_not_fetched_again(cache: Path, ocitui: Ocitui) -> None:
    with running(FaultyRegistry()) as registry:
        image = put_image(registry, b"one", b"two", os.urandom(8_192))
        blobs = BlobStore(cache)
        blobs.make_directory()
        for layer, end in zip(image.layers, (None, None, 4_096), strict=True):
            (blobs.directory / f"{digest_of(layer)}{'.partial' if end else ''}").write_bytes(layer[:end])
        words = ["inspect", f"{registry.host}/team/app:1.0", "-C", cache]
        said, (found,) = ocitui(*words).out, ocitui(*words, "--json").json["images"]
    kept = sum(map(len, image.layers[:2])) + 4_096
    assert (found["kept"], found["layers_kept"]) == (kept, 2)
    assert f"kept: 2 of 3 layers, {human_size(kept)}, from earlier imports: not fetched again\n" in said
    size = human_size(sum(map(len, image.layers)))
    assert f"on disk: about {size} as squashfs, which is an estimate by its layers\n" in said


@pytest.mark.parametrize(
    ("tool", "format", "compression", "about"),
    [
        ("docker", "squashfs", None, "less than"),
        ("docker", "tar", None, "about"),
        ("buildkit-gzip", "squashfs", None, "about"),
        ("buildkit-gzip", "erofs", None, "more than"),
        ("buildkit-gzip", "erofs", "lz4", "about"),
    ],
)
async def test_the_estimate_goes_by_what_is_compressed(
    tool: str, format: str, compression: str | None, about: str, tmp_path: Path
) -> None:
    request = ImportRequest(
        source=str(SAVED[tool].archive.write(tmp_path / "a.tar")), format=PackedFormat(format), compression=compression
    )
    found = await inspect_source(request)
    assert found.image is not None
    (line,) = size_lines(found.image, None, request)
    assert line.text.startswith(f"{about} ")


def test_what_an_earlier_import_left_is_a_hint_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: BlobStore) -> NoReturn:
        raise StorageError("cannot look at the blobs: Permission denied")

    async def look() -> Standing:
        request = ImportRequest(source=f"{registry.host}/team/app:1.0")
        return await standing_of(PackerCache(tmp_path), await inspect_source(request), request)

    monkeypatch.setattr(BlobStore, "stored", refuse)
    registry = FaultyRegistry()
    with running(registry):
        put_image(registry, b"x")
        assert asyncio.run(look()) == Standing()


def test_a_registry_that_does_not_have_it(cache: Path, ocitui: Ocitui) -> None:
    with running(FaultyRegistry()) as registry:
        put_image(registry, b"x")
        done = ocitui("inspect", f"{registry.host}/team/app:2.0", "-C", cache, "--json")
    assert done.status == 4
    assert done.json["error"]["code"] == "no-such-image"


def test_an_archive_of_docker(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    done = ocitui("inspect", SAVED["docker"].archive.write(tmp_path / "a.tar"), "--json", "-C", cache)
    assert done.status == 0
    assert done.json["kind"] == "docker-archive"
    (image,) = done.json["images"]
    assert (image["names"], image["layers"], image["name"]) == (["toolbox:latest"], 14, "toolbox:latest")
    assert any("docker save kept no manifest" in note for note in done.json["notes"])


def test_it_says_what_one_look_at_the_source_found(
    tmp_path: Path, cache: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inspection, "notes", property(lambda self: ("all there is to know",)))
    monkeypatch.setattr(Inspection, "is_taken", lambda self, image: image.digest == ARM64.digest)
    layout = make_layout(tmp_path / "layout", ("a:1", AMD64), ("b:1", ARM64))
    done = ocitui("inspect", f"oci:{layout}:a:1", "-C", cache, "--json")
    assert done.json["notes"] == ["all there is to know"]
    assert [image["taken"] for image in done.json["images"]] == [False, True]
    said = ocitui("inspect", f"oci:{layout}:a:1", "-C", cache).out
    assert "note: all there is to know\n" in said
    assert [line[:1] for line in said.splitlines()[1:3]] == [" ", ">"]


def test_what_is_no_image(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    (tmp_path / "README.md").write_text("# No archive\n")
    for path in (DOCKER_1_9.write(tmp_path / "a.tar"), tmp_path / "README.md"):
        done = ocitui("inspect", f"docker-archive:{path}", "-C", cache)
        assert done.status == 4
        assert done.err.count("\n") == 1
