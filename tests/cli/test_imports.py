"""`ocitui imports`: the list of interrupted imports, going on with them, forgetting, and the downloads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocitui.cache import PackedFormat, StorageError
from ocitui.cli import import_run
from ocitui.importing.image_import import UnfinishedImport, recorded_import
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.staging import BlobStore
from tests.cli.answering import answer
from tests.cli.conftest import Ocitui
from tests.cli.import_support import downloaded, make_layout, put_image, running
from tests.importing.image_makers import make_image
from tests.importing.registry_server import FaultyRegistry, digest_of

BLOB = b"downloaded" * 1000


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with running(FaultyRegistry()) as serving:
        yield serving


def interrupt(cache: Path, source: str, name: str | None = None) -> str:
    """Leave the record of an import whose program was told to leave."""
    request = ImportRequest(source=source, name=name, format=PackedFormat.TAR)
    with pytest.raises(asyncio.CancelledError), recorded_import(cache, request) as import_id:
        raise asyncio.CancelledError
    return import_id


def keep_blob(cache: Path) -> Path:
    store = BlobStore(cache)
    store.make_directory()
    path = store.directory / digest_of(BLOB)
    path.write_bytes(BLOB)
    return path


def test_nothing(cache: Path, ocitui: Ocitui) -> None:
    done = ocitui("imports", "-C", cache)
    assert (done.status, done.out) == (0, "no import was interrupted\nno downloads are kept\n")
    assert ocitui("imports", "--go-on", "-C", cache).out == "no import was interrupted\n"
    assert ocitui("imports", "--forget", "-C", cache).out == "no import was interrupted\n"
    assert ocitui("imports", "--clear", "-C", cache).out == "there was nothing to remove\n"
    assert ocitui("imports", "-C", cache / "nowhere").status == 4


def test_the_list(cache: Path, ocitui: Ocitui) -> None:
    import_id = interrupt(cache, "docker://localhost:1/a/b:1", "c:1")
    keep_blob(cache)
    done = ocitui("imports", "-C", cache, "--json")
    (one,) = done.json["imports"]
    assert one.pop("started").startswith("20")
    assert one == {
        "id": import_id,
        "source": "docker://localhost:1/a/b:1",
        "name": "c:1",
        "format": "tar",
        "platform": None,
    }
    assert done.json["downloaded"] == len(BLOB)
    said = ocitui("imports", "-C", cache).out
    assert import_id in said
    assert "9.8K that were downloaded are kept; --clear removes them" in said


@pytest.mark.slow
def test_going_on_with_all_that_can(registry: FaultyRegistry, tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    put_image(registry, b"content")
    failing = interrupt(cache, f"docker://{registry.host}/team/gone:1")
    interrupt(cache, f"docker://{registry.host}/team/app:1.0")
    interrupt(cache, f"oci:{make_layout(tmp_path / 'layout', ('v1', make_image(b'x')))}", "x:1")
    done = ocitui("imports", "--go-on", "-C", cache, "--json")
    assert done.status == 4
    failed, first, second = done.json["imports"]
    assert failed["error"]["code"] == "no-such-image"
    assert (first["outcome"], second["outcome"]) == ("stored", "stored")
    assert second["entry"]["name"] == "x:1"
    assert [one["id"] for one in ocitui("imports", "-C", cache, "--json").json["imports"]] == [failing]


def test_going_on_with_one_says_what_came_of_it(registry: FaultyRegistry, cache: Path, ocitui: Ocitui) -> None:
    put_image(registry, b"content")
    wanted = interrupt(cache, f"docker://{registry.host}/team/app:1.0")
    other = interrupt(cache, "docker://localhost:1/a:1")
    done = ocitui("imports", wanted, "--go-on", "-C", cache)
    assert done.status == 0
    assert f"imported {registry.host}/team/app:1.0 as tar\n" in done.out
    assert [one["id"] for one in ocitui("imports", "-C", cache, "--json").json["imports"]] == [other]


def test_yes_does_not_stand_for_a_new_name(
    tmp_path: Path, cache: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"oci:{make_layout(tmp_path / 'layout', ('v1', make_image(b'x')))}"
    assert ocitui("import", source, "--name", "old:1", "--format", "tar", "-C", cache).status == 0
    interrupt(cache, source, "new:1")
    questions = answer(monkeypatch, "no")
    monkeypatch.setattr(import_run, "can_ask", lambda: True)
    assert ocitui("imports", "--go-on", "--yes", "-C", cache).status == 130
    assert "give the entry the new name?" in questions[0]
    assert "old:1" in ocitui("list", "-C", cache, "--json").out


@pytest.mark.slow
def test_yes_lets_a_name_stand_for_another_image(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    old, new = (f"oci:{make_layout(tmp_path / tag, (tag, make_image(tag.encode())))}" for tag in ("old", "new"))
    assert ocitui("import", old, "--name", "x:1", "--format", "tar", "-C", cache).status == 0
    interrupt(cache, new, "x:1")
    refused = ocitui("imports", "--go-on", "-C", cache, "--json").json["imports"][0]["error"]
    assert (refused["code"], "give --yes" in refused["hint"]) == ("repoints-name", True)
    (done,) = ocitui("imports", "--go-on", "--yes", "-C", cache, "--json").json["imports"]
    assert (done["outcome"], done["entry"]["name"]) == ("stored", "x:1")
    for words, status in ([], 4), (["--yes"], 0):
        assert ocitui("import", old, "--name", "x:1", "--format", "tar", *words, "-C", cache).status == status


def test_forgetting(cache: Path, ocitui: Ocitui) -> None:
    first = interrupt(cache, "docker://localhost:1/a:1")
    second = interrupt(cache, "docker://localhost:1/a:2")
    blob = keep_blob(cache)
    assert ocitui("imports", "--forget", first, "-C", cache).out == "forgotten: docker://localhost:1/a:1\n"
    assert [one["id"] for one in ocitui("imports", "-C", cache, "--json").json["imports"]] == [second]
    assert ocitui("imports", "--forget", "-C", cache, "--json").json["forgotten"][0]["id"] == second
    assert ocitui("imports", "-C", cache, "--json").json["imports"] == []
    assert blob.exists()


def test_what_cannot_be_read_is_listed_and_forgotten(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    kept, records = interrupt(cache, "docker://localhost:1/a:1"), cache / ".ocitui" / "imports"
    (records / "big.json").write_bytes(b" " * (2 << 20))
    (records / "later.json").write_bytes(b'{"version": 99}')
    told = {one["id"]: one.get("problem") for one in ocitui("imports", "-C", cache, "--json").json["imports"]}
    assert told == {kept: None, "big": "it is damaged", "later": "it is of a later ocitui"}
    assert "cannot be read: it is damaged" in ocitui("imports", "-C", cache).out
    source = f"oci:{make_layout(tmp_path / 'layout', ('v1', make_image(b'x')))}"
    assert ocitui("import", source, "--name", "x:1", "--format", "tar", "-C", cache).status == 0
    done = ocitui("imports", "--go-on", "big", "-C", cache)
    assert (done.status, "imports --forget big removes it" in done.err) == (4, True)
    assert ocitui("imports", "--forget", "big", "-C", cache).out == "forgotten: cannot be read: it is damaged\n"
    done = ocitui("imports", "--forget", "-C", cache)
    assert (done.status, "it is of a later ocitui" in done.err) == (4, True)
    assert [path.name for path in records.iterdir()] == ["later.json"]


def test_what_cannot_be_looked_at_does_not_stop_an_import(tmp_path: Path, cache: Path, ocitui: Ocitui) -> None:
    (cache / ".ocitui").mkdir()
    source = f"oci:{make_layout(tmp_path / 'layout', ('v1', make_image(b'x')))}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ocitui.importing.image_import.unfinished_imports", refused)
        assert ocitui("import", source, "--name", "x:1", "--format", "tar", "-C", cache).status == 0


def refused(directory: Path) -> list[UnfinishedImport]:
    raise StorageError("no")


@pytest.mark.parametrize(("words", "status"), [(["--forget", "20"], 2), (["--go-on", "nothing"], 1)])
def test_ids_that_name_none_or_several(words: list[str], status: int, cache: Path, ocitui: Ocitui) -> None:
    for tag in "12":
        interrupt(cache, f"docker://localhost:1/a:{tag}")
    assert ocitui("imports", *words, "-C", cache).status == status
    assert len(ocitui("imports", "-C", cache, "--json").json["imports"]) == 2


def test_clearing_asks_and_leaves_what_is_in_use(cache: Path, ocitui: Ocitui) -> None:
    blob = keep_blob(cache)
    asked = ocitui("imports", "--clear", "-C", cache)
    assert asked.status == 2
    assert "9.8K that were downloaded are removed" in asked.out
    with BlobStore(cache).held([blob]):
        done = ocitui("imports", "--clear", "--yes", "-C", cache, "--json")
        assert (done.json["removed"], done.json["downloaded"]) == (0, len(BLOB))
    assert ocitui("imports", "--clear", "--yes", "-C", cache).out.endswith("9.8K were removed\n")
    assert downloaded(cache) == 0


@pytest.mark.parametrize("words", [["--go-on"], ["--forget"], ["--clear", "--yes"]])
def test_read_only_is_heeded(words: list[str], cache: Path, ocitui: Ocitui) -> None:
    interrupt(cache, "docker://localhost:1/a:1")
    blob = keep_blob(cache)
    done = ocitui("imports", *words, "--read-only", "-C", cache, "--json")
    assert (done.status, done.json["error"]["code"]) == (4, "read-only")
    assert blob.exists()
    assert len(ocitui("imports", "-C", cache, "--json").json["imports"]) == 1
