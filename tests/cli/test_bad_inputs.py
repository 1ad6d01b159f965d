"""Caches that cannot be read: a clear line, a fixed status, and nothing changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache.files import MOST_INDEX_BYTES
from ocitui.cli.demo_cache import ALPINE
from tests.cli.conftest import Ocitui
from tests.tools import CONFORMANCE, recorded

READING = (
    ["list"],
    ["resolve", "a:1"],
    ["recall", "abc"],
    ["show", "abc"],
    ["verdict"],
    ["log"],
)
WRITING = (["delete", "abc", "--yes"], ["undo", "--yes"])


def bad_directories(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    return {name: tmp_path / name for name in ("absent", "file", "loop")} | {
        "long": tmp_path / ("x" * 300),
        "below a file": tmp_path / "file" / "cache",
    }


@pytest.mark.parametrize("name", ["absent", "file", "loop", "long", "below a file"])
@pytest.mark.parametrize("words", [*READING, *WRITING], ids=lambda words: str(words[0]))
def test_what_is_no_directory(name: str, words: list[str], tmp_path: Path, ocitui: Ocitui) -> None:
    done = ocitui(*words, "-C", bad_directories(tmp_path)[name], "--json")
    assert done.status == 4
    assert done.json["error"]["code"] == "cache-directory"
    assert done.json["error"]["hint"]
    assert done.err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_directory_that_may_not_be_read(tmp_path: Path, ocitui: Ocitui) -> None:
    tmp_path.chmod(0)
    try:
        assert ocitui("list", "-C", tmp_path).status == 4
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("record", recorded("indexes.json"), ids=lambda record: str(record["case"]))
def test_every_index_of_the_records(record: dict[str, Any], tmp_path: Path, ocitui: Ocitui) -> None:
    index = tmp_path / "index.json"
    if record["input"] is not None:
        index.write_bytes((CONFORMANCE / "indexes" / Path(record["input"]).name).read_bytes())
    before = index.read_bytes() if index.exists() else None
    sound = record["outcome"] in ("created", "loaded")
    verdict = ocitui("verdict", "-C", tmp_path, "--json")
    assert verdict.status == (0 if sound else 1)
    assert verdict.json["outcome"] == record["outcome"]
    for words in (["list"], ["list", "--json"]):
        done = ocitui(*words, "-C", tmp_path)
        assert done.status == (0 if sound else 4)
        assert done.err.count("\n") == (0 if sound else 1)
    assert ocitui("verdict", "-C", tmp_path).status == verdict.status
    assert (index.read_bytes() if index.exists() else None) == before
    assert set(os.listdir(tmp_path)) <= {"index.json"}


@pytest.mark.parametrize("data", [b"", b"\0" * 512, b'{"schemaVersion": 2, "manifests": ['])
def test_a_corrupt_index_stops_whatever_needs_it(data: bytes, tmp_path: Path, ocitui: Ocitui) -> None:
    (tmp_path / "index.json").write_bytes(data)
    for words in (["list"], ["resolve", "a:1"], ["recall", "abc"], ["show", "abc"], ["delete", "abc", "--yes"]):
        done = ocitui(*words, "-C", tmp_path, "--json")
        assert done.status == 4
        assert done.json["error"]["code"] == "corrupt-index"
        assert "before the daemon is started or restarted" in done.json["error"]["hint"]
        assert "line 1 column" in done.err
    assert (tmp_path / "index.json").read_bytes() == data


@pytest.mark.parametrize(
    ("make", "statuses"),
    [
        (Path.mkdir, {"list": 4, "verdict": 1, "delete": 4}),
        (os.mkfifo, {"list": 4, "verdict": 1, "delete": 4}),
        # For the daemon there is none then.
        (lambda index: index.symlink_to("nowhere"), {"list": 0, "verdict": 0, "delete": 1}),
    ],
    ids=["directory", "fifo", "dangling link"],
)
def test_an_index_that_is_no_file(
    make: Callable[[Path], object], statuses: dict[str, int], tmp_path: Path, ocitui: Ocitui
) -> None:
    index = tmp_path / "index.json"
    make(index)
    before = index.lstat()
    for command, status in statuses.items():
        words = ["abc", "--yes"] if command == "delete" else []
        done = ocitui(command, *words, "-C", tmp_path)
        assert done.status == status
        assert "Traceback" not in done.err
    after = index.lstat()
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)


def test_an_empty_journal_folder_and_damaged_records(demo: Path, ocitui: Ocitui) -> None:
    journal = demo / ".ocitui" / "journal"
    journal.mkdir(parents=True)
    (journal / "20200101T000000-abcd.done.json").write_bytes(b"{")
    (journal / "nonsense").write_bytes(b"")
    assert ocitui("log", "-C", demo).status == 0
    assert ocitui("undo", "-C", demo).status == 1


def test_an_index_beyond_all_bounds_is_not_read(demo: Path, ocitui: Ocitui) -> None:
    os.truncate(demo / "index.json", MOST_INDEX_BYTES + 1)
    for words in ("list", "verdict", "resolve alpine:3.19", "delete abc --yes", "repair"):
        done = ocitui(*words.split(), "-C", demo)
        assert (done.status, "index.json cannot be read: it has" in done.err + done.out) == (4, True)
    assert ocitui("check", "-C", demo).status == 1


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "endless"])
def test_what_an_import_is_given_and_is_no_file(make: Callable[[Path], object], demo: Path, ocitui: Ocitui) -> None:
    odd = demo.parent / "odd"
    make(odd)
    packed = demo / f"{ALPINE.digest}.tar"
    for words, status in (
        (["docker://localhost:1/a:1", "--authfile", odd], 2),
        (["docker://localhost:1/a:1", "--tls-ca", odd], 2),
        ([f"packed:{packed}", "--name", "a:1", "--manifest", odd], 4),
        ([f"packed:{odd}", "--name", "a:1", "--format", "tar"], 4),
        ([f"oci-archive:{odd}"], 4),
    ):
        done = ocitui("import", *words, "-C", demo)
        assert done.status == status
        assert "regular file" in done.err
