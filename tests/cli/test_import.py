"""`ocitui import` and `ocitui inspect` of packed files."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Ocitui
from tests.cli.test_writing import locked
from tests.importing.sources import FORMATS, Source, make_source

COMMON = {"schema", "version", "host", "cache"}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return make_source(tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("format_", FORMATS)
def test_import_gives_the_entry_and_the_transaction(format_: str, tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    source = make_source(tmp_path, format_)
    done = ocitui("import", f"packed:{source.packed}", "--name", "busybox:1", "-C", cache, "--json")
    assert done.status == 0
    assert done.err == ""
    assert set(done.json) == COMMON | {"entry", "transaction", "outcome", "notes"}
    assert done.json["outcome"] == "stored"
    assert done.json["entry"] == ocitui("list", "-C", cache, "--json").json["entries"][0]
    assert done.json["entry"]["state"] == "ok"
    assert done.json["transaction"] == ocitui("log", "-C", cache, "--json").json["transactions"][0]
    assert ocitui("resolve", "busybox:1", "--format", format_, "-C", cache).status == 0
    assert ocitui("undo", "-C", cache).status == 0
    assert ocitui("list", "-C", cache, "--json").json["entries"] == []
    assert sorted(os.listdir(cache)) == [".ocitui", "index.json"]
    assert os.listdir(cache / ".ocitui" / "import") == []
    assert os.listdir(cache / ".ocitui" / "imports") == []


def test_import_says_what_it_did(source: Source, cache: Path, ocitui: Ocitui) -> None:
    done = ocitui("import", source.packed, "--name", "a:1", "-C", cache)
    assert done.out.startswith(f"imported a:1 as tar\ndigest {source.digest}\ntransaction ")


def test_where_an_image_came_from_is_told_before_it_goes(source: Source, cache: Path, ocitui: Ocitui) -> None:
    assert ocitui("import", source.packed, "--name", "a:1", "-C", cache).status == 0
    told = ocitui("delete", "a:1", "--yes", "-C", cache)
    assert "Can come back:" in told.out
    assert f"packed:{source.packed} is there" in told.out.replace("\n", "")
    ocitui("undo", "-C", cache)
    plan = ocitui("delete", "a:1", "--yes", "--json", "-C", cache).json["plan"]
    (origin,) = plan["origins"].values()
    assert (origin["comes_back"], origin["source"]) == ("local", f"packed:{source.packed}")
    ocitui("undo", "-C", cache)
    source.packed.unlink()
    told = ocitui("delete", "a:1", "--yes", "-C", cache)
    assert "it cannot come back" in told.out
    assert "is gone, or was written since" in " ".join(told.out.split())


def test_an_import_knows_its_transaction_whatever_the_clock_says(
    source: Source, cache: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, ticks = time.time(), itertools.count()
    monkeypatch.setattr(time, "time", lambda: now - next(ticks))
    done = ocitui("import", source.packed, "--name", "a:1", "-C", cache, "--json").json
    assert done["transaction"] == ocitui("log", "-C", cache, "--json").json["transactions"][0]


def test_a_name_is_taken_over_only_when_asked(source: Source, cache: Path, ocitui: Ocitui) -> None:
    words = ["import", source.packed, "-C", cache, "--name"]
    assert ocitui(*words, "a:1").status == 0
    refused = ocitui(*words, "a:2", "--json")
    assert refused.status == 4
    assert refused.json["error"]["code"] == "named-otherwise"
    assert "--rename" in refused.err
    assert ocitui(*words, "a:2", "--rename").status == 0
    assert ocitui("undo", "-C", cache).status == 0
    assert ocitui("list", "-C", cache, "--json").json["entries"][0]["name"] == "a:1"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--format", "erofs"], "source"),
        (["--platform", "linux/amd64"], "no-such-image"),
        (["--manifest", "/nowhere"], "source"),
    ],
)
def test_imports_that_are_refused(words: list[str], code: str, source: Source, cache: Path, ocitui: Ocitui) -> None:
    done = ocitui("import", source.packed, "--name", "a:1", "-C", cache, "--json", *words)
    assert done.status == 4
    assert done.json["error"]["code"] == code
    assert not (cache / "index.json").exists()


def test_a_name_is_needed_as_packed_files_say_none(source: Source, cache: Path, ocitui: Ocitui) -> None:
    done = ocitui("import", source.packed, "-C", cache)
    assert done.status == 4
    assert "packed files say no name" in done.err


def test_the_format_is_that_of_the_bytes(source: Source, cache: Path, ocitui: Ocitui) -> None:
    unnamed = source.packed.rename(source.packed.with_suffix(""))
    refused = ocitui("import", f"packed:{unnamed}", "--name", "a:1", "--format", "squashfs", "-C", cache)
    assert refused.status == 4
    assert "is tar by its magic, not squashfs" in refused.err
    assert (
        ocitui("import", f"packed:{unnamed}", "--name", "a:1", "-C", cache, "--json").json["entry"]["format"] == "tar"
    )


def test_another_platform_is_noted(source: Source, cache: Path, ocitui: Ocitui) -> None:
    done = ocitui("import", source.packed, "--name", "a:1", "-C", cache, "--json")
    here = os.uname().machine
    assert done.json["notes"] == ([] if here == "aarch64" else [done.json["notes"][0]])
    assert here == "aarch64" or "the image is for linux/arm64/v8, this machine is" in done.json["notes"][0]


def test_the_right_platform_passes(source: Source, cache: Path, ocitui: Ocitui) -> None:
    for platform in ("linux/arm64/v8", "arm64", "linux/aarch64"):
        words = ["--name", "a:1", "--platform", platform, "-C", cache]
        assert ocitui("import", source.packed, *words).status == 0


@pytest.mark.parametrize("source_text", ["oci:x", "docker://127.0.0.1:1/a", "127.0.0.1:1/a:3", "/nowhere.tar", "dir:x"])
def test_sources_that_cannot_be_imported(source_text: str, cache: Path, ocitui: Ocitui) -> None:
    for words in (["import", source_text, "--name", "a:1"], ["inspect", source_text]):
        done = ocitui(*words, "-C", cache)
        assert done.status == 4
        assert done.err.count("\n") == 1


def test_an_import_into_a_corrupt_cache(source: Source, cache: Path, ocitui: Ocitui) -> None:
    (cache / "index.json").write_bytes(b"{")
    done = ocitui("import", source.packed, "--name", "a:1", "-C", cache, "--json")
    assert done.status == 4
    assert done.json["error"]["code"] == "corrupt-index"
    assert (cache / "index.json").read_bytes() == b"{"


def test_an_import_into_a_locked_cache(source: Source, cache: Path, ocitui: Ocitui) -> None:
    with locked(cache):
        assert ocitui("import", source.packed, "--name", "a:1", "-C", cache).status == 5
    assert not (cache / ".ocitui" / "import").exists()
    assert ocitui("list", "-C", cache, "--json").json["entries"] == []


def test_inspect(source: Source, cache: Path, ocitui: Ocitui) -> None:
    done = ocitui("inspect", f"packed:{source.packed}", "--json", "-C", cache)
    assert done.status == 0
    (image,) = done.json["images"]
    assert image == {
        "names": [],
        "platform": "linux/arm64/v8",
        "digest": source.digest,
        "format": "tar",
        "size": source.packed.stat().st_size,
        "layers": 1,
        "taken": True,
        "name": None,
        "cached": [],
        "problems": [],
    }
    assert source.digest in ocitui("inspect", source.packed).out
    assert ocitui("import", source.packed, "--name", "a:1", "-C", cache).status == 0
    (image,) = ocitui("inspect", f"packed:{source.packed}", "--json", "-C", cache).json["images"]
    assert image["cached"] == [{"format": "tar", "name": "a:1"}]
    assert "cached:    as tar, named a:1" in ocitui("inspect", source.packed, "-C", cache).out


def test_inspect_of_what_could_not_be_imported(source: Source, ocitui: Ocitui) -> None:
    source.config.write_bytes(b"")
    done = ocitui("inspect", source.packed)
    assert done.status == 1
    assert "problem:" in done.out
    assert ocitui("inspect", source.packed, "--json").json["images"][0]["problems"]


def test_import_warns_of_a_daemon_in_the_words_of_delete(
    source: Source, cache: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ocitui.host.daemon import DaemonState

    words = ["import", f"packed:{source.packed}", "--name", "busybox:1", "-C", cache]
    assert "kratad" not in ocitui(*words).err
    monkeypatch.setattr("ocitui.host.daemon.find_daemon", lambda _: DaemonState(7, 0.0, True))
    warned = ocitui(*words).err
    assert "kratad runs here since 1970-01-01" in warned
    assert warned.strip() in ocitui("delete", "busybox:1", "-C", cache).out
    assert ocitui(*words, "--json").err == ""
    assert "kratad runs here" in ocitui("imports", "--go-on", "-C", cache).err
