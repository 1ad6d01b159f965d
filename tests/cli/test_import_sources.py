"""`ocitui import` from layouts, archives and registries: names, formats, outcomes, and what it says."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ocitui
from tests.cli.import_support import downloaded, make_layout, put_image, running, snapshot, staged
from tests.importing.builders import SAVED
from tests.importing.debian_registry import PASSWORD, USER, DebianRegistry, debian_registry
from tests.importing.image_makers import make_image, make_with_umoci
from tests.importing.registry_server import FaultyRegistry, Reply
from tests.tools import need

pytestmark = pytest.mark.slow


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with running(FaultyRegistry()) as serving:
        yield serving


@pytest.mark.parametrize(("format_", "program"), [("squashfs", "umoci"), ("erofs", "umoci"), ("tar", "tar")])
def test_a_layout_of_umoci(format_: str, program: str, tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    need("umoci", program)
    layout = make_with_umoci(tmp_path)
    words = ["--name", "two:1", "--format", format_, "-C", cache, "--json"]
    done = ocitui("import", f"oci:{layout}:v1", *words)
    assert (done.status, done.err) == (0, "")
    assert done.json["outcome"] == "stored"
    assert (done.json["entry"]["name"], done.json["entry"]["format"]) == ("two:1", format_)
    assert done.json["transaction"] == ocitui("log", "-C", cache, "--json").json["transactions"][0]
    assert ocitui("resolve", "two:1", "--format", format_, "-C", cache).status == 0
    assert staged(cache) == []


@pytest.mark.parametrize("tool", ["docker", "bazel-whiteouts", "skopeo", "ko"])
def test_archives_bring_their_names(tool: str, tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    archive = SAVED[tool].archive.write(tmp_path / "a.tar")
    done = ocitui("import", archive, "--format", "tar", "-C", cache, "--json")
    assert done.status == 0
    name = done.json["entry"]["name"]
    assert name == SAVED[tool].tag
    assert any("no registry knows the image by its digest" in note for note in done.json["notes"])
    assert any("never looks for the tag latest" in note for note in done.json["notes"]) == name.endswith(":latest")


def test_a_source_without_a_name_asks_for_one(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    layout = make_layout(tmp_path / "layout", ("v1", make_image()))
    done = ocitui("import", f"oci:{layout}", "--format", "tar", "-C", cache)
    assert done.status == 4
    assert "says no name for the image (give it one with --name)" in done.err
    assert snapshot(cache) == {}


def test_steps_are_lines_where_there_is_no_terminal(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    layout = make_layout(tmp_path / "layout", ("v1", make_image(b"one", b"two")))
    done = ocitui("import", f"oci:{layout}", "--name", "a:1", "--format", "tar", "-C", cache)
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["read layers", "pack", "finish", "store"]
    assert "2 layers" in done.err
    assert done.out.startswith("imported a:1 as tar\ndigest sha256:")


def test_what_is_cached_is_said_and_not_fetched(registry: FaultyRegistry, cache: Path, ocitui: Ocitui) -> None:
    put_image(registry, b"content")
    words = ["import", f"{registry.host}/team/app:1.0", "--format", "tar", "-C", cache]
    assert ocitui(*words).status == 0
    blobs = len(registry.asked("/blobs/"))
    again = ocitui(*words, "--json")
    assert again.status == 0
    assert (again.json["outcome"], again.json["transaction"]) == ("cached", None)
    assert again.json["entry"]["name"] == f"{registry.host}/team/app:1.0"
    assert "--again" in ocitui(*words).out
    assert len(registry.asked("/blobs/")) == blobs + 2  # the config, each time
    assert ocitui(*words, "--again", "--json").json["outcome"] == "stored"
    assert downloaded(cache) == 0


def test_a_new_name_packs_nothing(registry: FaultyRegistry, cache: Path, ocitui: Ocitui) -> None:
    put_image(registry, b"content")
    registry.manifests["2.0"] = registry.manifests["1.0"]
    words = ["--format", "tar", "-C", cache]
    assert ocitui("import", f"{registry.host}/team/app:1.0", *words).status == 0
    refused = ocitui("import", f"{registry.host}/team/app:2.0", *words, "--json")
    assert refused.status == 4
    assert refused.json["error"]["code"] == "named-otherwise"
    assert "--rename" in refused.json["error"]["hint"]
    done = ocitui("import", f"{registry.host}/team/app:2.0", *words, "--json", "--rename")
    assert done.json["outcome"] == "renamed"
    assert done.json["transaction"]["kind"] == "import"
    assert ocitui("resolve", f"{registry.host}/team/app:2.0", *words).status == 0
    assert ocitui("undo", "-C", cache).status == 0
    assert ocitui("resolve", f"{registry.host}/team/app:1.0", *words).status == 0


def test_a_busy_registry_is_waited_for_and_said(registry: FaultyRegistry, cache: Path, ocitui: Ocitui) -> None:
    image = put_image(registry, b"content")
    registry.once("/manifests/", Reply(503, {"Retry-After": "0"}))
    registry.once(f"/blobs/{json.loads(image.manifest)['layers'][0]['digest']}", Reply(429, {"Retry-After": "0"}))
    done = ocitui("import", f"{registry.host}/team/app:1.0", "--format", "tar", "-C", cache)
    assert done.status == 0
    assert "answers 503 Said; trying again in 0 s\n" in done.err
    assert "answers 429 Said; trying again in 0 s\n" in done.err


@pytest.mark.parametrize(
    ("option", "said"), [(["--max-bytes", "1K"], "--max-bytes"), (["--max-entries", "1"], "--max-entries")]
)
def test_limits_name_the_option_that_raises_them(
    option: list[str], said: str, tmp_path: Path, cache: Path, ocitui: Ocitui
) -> None:
    layout = make_layout(tmp_path / "layout", ("v1", make_image(b"one" * 1000, b"two")))
    done = ocitui("import", f"oci:{layout}", "--name", "a:1", "--format", "tar", "-C", cache, *option, "--json")
    assert done.status == 4
    assert done.json["error"]["code"] == "layer-limit"
    assert said in done.json["error"]["hint"]
    assert snapshot(cache) == {}
    assert staged(cache) == []


@pytest.mark.parametrize("command", ["inspect", "import"])
def test_an_archive_that_unpacks_to_too_much_is_taken_as_is_advised(
    command: str, tmp_path: Path, cache: Path, ocitui: Ocitui
) -> None:
    layout = make_layout(tmp_path / "layout", ("v1", make_image(b"one" * 1000, b"two")))
    subprocess.run(["tar", "-C", layout, "-czf", tmp_path / "image.tgz", "."], check=True)
    words = [command, f"oci-archive:{tmp_path / 'image.tgz'}", "-C", cache]
    words += ["--name", "a:1", "--format", "tar"] if command == "import" else []
    refused = ocitui(*words, "--max-bytes", "1K", "--json")
    assert "--max-bytes raises the limit" in json.dumps(refused.json)
    assert ocitui(*words, "--max-bytes", "1M").status == 0


def test_a_packed_file_of_another_cache_is_read_through_before_it_is_stored(
    tmp_path: Path, cache: Path, ocitui: Ocitui
) -> None:
    """Its header is whole, its documents are right, and nobody recorded its hash."""
    image, other = make_image(b"one" * 1000, b"two"), tmp_path / "other"
    other.mkdir()
    layout = make_layout(tmp_path / "layout", ("v1", image))
    assert ocitui("import", f"oci:{layout}", "--name", "a:1", "-C", other).status == 0
    words = ("import", f"cache:{other}:a:1", "-C", cache)
    packed = other / f"{image.digest}.squashfs"
    sound = packed.read_bytes()
    bent = bytearray(sound)
    bent[96:128] = bytes(32)
    packed.write_bytes(bent)
    refused = ocitui(*words)
    assert (refused.status, f"{packed} is damaged: " in refused.err) == (4, True), refused.out
    assert (snapshot(cache), staged(cache)) == ({}, [])
    packed.write_bytes(sound)
    assert ocitui(*words).status == 0
    # What is in it is known by now, as of what was packed here.
    assert ocitui("digest", "a:1", "--json", "-C", cache).json["from"] == "stored"


def test_a_packer_that_is_missing_is_named_before_anything_is_fetched(
    registry: FaultyRegistry, cache: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(registry, b"content")
    monkeypatch.setenv("PATH", str(cache))
    done = ocitui("import", f"{registry.host}/team/app:1.0", "--packer", "mksquashfs", "-C", cache)
    assert done.status == 4
    assert "mksquashfs is not installed (apt install squashfs-tools, or choose another format)" in done.err
    assert len(registry.asked("/blobs/")) == 1  # the config
    assert ocitui("import", f"{registry.host}/team/app:1.0", "-C", cache).status == 0


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    need("umoci")
    with debian_registry(tmp_path_factory.mktemp("registry"), secure=True) as registry:
        registry.put(f"oci:{make_with_umoci(tmp_path_factory.mktemp('made'))}:v1", "team/app:1.0")
        yield registry


def authfile(path: Path, registry: DebianRegistry, password: str) -> Path:
    auth: dict[str, Any] = {registry.host: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}}
    path.write_text(json.dumps({"auths": auth}))
    return path


def test_a_registry_with_tls_and_a_password(
    secure: DebianRegistry, tmp_path: Path, cache: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    words = ["import", f"docker://{secure.host}/team/app:1.0", "--format", "tar", "-C", cache]
    assert secure.ca is not None
    untrusted = ocitui(*words)
    assert "is not to be trusted" in untrusted.err
    assert "--tls-ca" in untrusted.err
    words += ["--tls-ca", secure.ca]
    assert "none are known" in ocitui(*words).err
    assert "refuses the password of anna" in ocitui(*words, "--authfile", authfile(tmp_path / "bad", secure, "x")).err
    done = ocitui(*words, "--authfile", authfile(tmp_path / "good", secure, PASSWORD), "--json")
    assert done.status == 0
    assert done.json["entry"]["name"] == f"{secure.host}/team/app:1.0"
    assert os.listdir(cache / ".ocitui" / "imports") == []
