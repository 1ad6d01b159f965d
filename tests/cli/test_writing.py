"""delete, undo and log: plans, questions, transactions, and who is kept out."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ocitui.cache import PackerCache, Preparation, transactions
from ocitui.cli import output
from ocitui.cli.demo_cache import ALPINE, BUSYBOX, OLD_ALPINE
from tests import krata
from tests.cache.scenes import interrupted_delete
from tests.cli.answering import answer
from tests.cli.conftest import Ocitui
from tests.host.loops import loop_device

COMMON = {"schema", "version", "host", "cache"}
UNKNOWN = "sha256:" + "0" * 64


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Another program works on the cache; gives the lock's descriptor."""
    own = directory / ".ocitui"
    own.mkdir(exist_ok=True)
    fd = os.open(own / "lock", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"somebody (process 1, me@there)")
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield fd
    finally:
        os.close(fd)


NONSENSE = (
    "delete nonsense --yes",
    "undo nonsense",
    "point nonsense nonsense",
    "trash restore nonsense",
    "trash empty nonsense --yes",
    "repair --apply --yes --only nonsense",
    "repair --apply --yes --adopt nonsense",
    "import packed:nonsense",
    "import nonsense:nonsense --level 99999",
    "imports --go-on nonsense",
    "imports --forget nonsense",
    "imports --clear --yes",
)


@pytest.mark.parametrize("words", NONSENSE)
def test_what_is_pending_is_finished_before_anything_is_looked_at(words: str, demo: Path, ocitui: Ocitui) -> None:
    before = (demo / "index.json").read_bytes()
    pending = asyncio.run(interrupted_delete(demo))
    shutil.rmtree(demo / ".ocitui" / "reserve")
    refused = ocitui(*words.split(), "-C", demo, "--read-only")
    assert (refused.status, "--read-only was given" in refused.err) == (4, True)
    done = ocitui(*words.split(), "-C", demo)
    assert done.err.splitlines()[0].startswith("note: the delete of ")
    assert f", {pending}, which was interrupted, is rolled back" in done.err
    assert (demo / ".ocitui" / "journal" / f"{pending}.void.json").exists()
    assert (demo / ".ocitui" / "reserve" / "index").exists()
    assert (demo / "index.json").read_bytes() == before


@pytest.mark.parametrize("words", ["point nonsense", "undo --nonsense", "import", "delete --wait never"])
def test_what_is_no_command_leaves_what_is_pending_to_the_next(words: str, demo: Path, ocitui: Ocitui) -> None:
    pending = asyncio.run(interrupted_delete(demo))
    before = {path: path.lstat().st_mtime_ns for path in demo.rglob("*")}
    assert ocitui(*words.split(), "-C", demo).status == 2
    assert {path: path.lstat().st_mtime_ns for path in demo.rglob("*")} == before
    safety = " ".join(ocitui("help", "safety").out.split())
    assert "status 2) touches nothing, and leaves that to the one after it" in safety
    assert f", {pending}, which was interrupted, is rolled back" in ocitui("undo", "nonsense", "-C", demo).err


def test_log_says_what_is_not_acted_on(demo: Path, ocitui: Ocitui) -> None:
    ocitui("delete", ALPINE.digest, "--yes", "-C", demo)
    odd = demo / ".ocitui" / "journal" / "000900-abcd.done.json"
    os.mkfifo(odd)
    told = f"note: .ocitui/journal/{odd.name} is not acted on: it is not a regular file\n"
    done = ocitui("log", "-C", demo)
    assert (done.status, done.err) == (0, told)
    assert len(done.out.splitlines()) == 2


def test_delete_shows_the_plan_and_gives_the_transaction(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("delete", ALPINE.digest[:15], "--yes", "-C", demo)
    assert done.status == 0
    assert f"{ALPINE.digest}.tar" in done.out
    assert f"will then stand for another image:\n  tar  alpine:3.19 {OLD_ALPINE.digest}\n" in done.out
    assert "the room is free once that is emptied" in done.out
    assert "transaction " in done.out
    assert not list(demo.glob(f"{ALPINE.digest}*"))


def test_delete_as_json(demo: Path, ocitui: Ocitui) -> None:
    before = snapshot(demo)
    done = ocitui("delete", ALPINE.digest, "--yes", "--json", "-C", demo)
    assert set(done.json) == COMMON | {"plan", "transaction"}
    plan = done.json["plan"]
    assert set(plan) == {"entries", "files", "kept", "uncovered", "bytes_trashed", "used_by", "doubt", "origins"}
    assert [entry["digest"] for entry in plan["entries"]] == [ALPINE.digest]
    assert [entry["digest"] for entry in plan["uncovered"]] == [OLD_ALPINE.digest]
    assert {file["name"]: file["size"] for file in plan["files"]} == {
        name: len(data) for name, data in before.items() if name.startswith(ALPINE.digest)
    }
    assert plan["bytes_trashed"] == sum(file["size"] for file in plan["files"])
    (logged,) = ocitui("log", "--json", "-C", demo).json["transactions"]
    assert logged == done.json["transaction"]
    assert (logged["kind"], logged["state"]) == ("delete", "done")


def test_undo_brings_everything_back(demo: Path, ocitui: Ocitui) -> None:
    before = snapshot(demo)
    deleted = ocitui("delete", ALPINE.digest, "--yes", "--json", "-C", demo).json["transaction"]
    done = ocitui("undo", deleted["id"], "--json", "-C", demo)
    assert done.status == 0
    assert done.json["transaction"]["of"] == deleted["id"]
    assert snapshot(demo) == before
    log = ocitui("log", "-C", demo).out.splitlines()
    assert [line.split()[4:6] for line in log[1:]] == [["done", "1"], ["undone", "1"]]


def test_undo_without_an_id_takes_the_newest(demo: Path, ocitui: Ocitui) -> None:
    before = snapshot(demo)
    ocitui("delete", ALPINE.digest, "--yes", "-C", demo)
    ocitui("delete", BUSYBOX.digest, "--yes", "-C", demo)
    assert "undone: delete" in ocitui("undo", "-C", demo).out
    assert list(demo.glob(f"{BUSYBOX.digest}*"))
    assert ocitui("undo", "-C", demo).status == 0
    assert snapshot(demo) == before
    nothing = ocitui("undo", "-C", demo)
    assert nothing.status == 1
    assert "an undo is undone by its ID" in nothing.err
    assert ocitui("undo", "20200101-nothing", "-C", demo).status == 1


def test_delete_of_one_format_keeps_what_another_needs(krata_cache: Path, ocitui: Ocitui) -> None:
    words = [krata.BUSYBOX.digest[7:15], "--format", "tar", "--format", "erofs"]
    done = ocitui("delete", *words, "--yes", "-C", krata_cache)
    assert done.status == 0
    assert "Kept, because another format of that digest uses them" in done.out
    left = ocitui("list", "-C", krata_cache, "--json", "--filter", "busybox").json["entries"]
    assert [entry["format"] for entry in left] == ["squashfs"]
    assert left[0]["state"] == "ok"


def test_delete_without_a_format_takes_all_of_them(krata_cache: Path, ocitui: Ocitui) -> None:
    before = snapshot(krata_cache)
    assert ocitui("delete", krata.BUSYBOX.digest[7:15], "--yes", "-C", krata_cache).status == 0
    assert ocitui("list", "-C", krata_cache, "--filter", "busybox", "--json").json["entries"] == []
    assert ocitui("undo", "-C", krata_cache).status == 0
    assert snapshot(krata_cache) == before


@pytest.mark.parametrize("words", [[UNKNOWN], ["zzz"], [ALPINE.digest, "--format", "erofs"]])
def test_delete_of_what_is_not_there(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    before = snapshot(demo)
    done = ocitui("delete", *words, "--yes", "-C", demo, "--json")
    assert done.status == 1
    assert done.json["error"]["code"] == "no-such-entry"
    assert snapshot(demo) == before


def test_without_a_terminal_delete_needs_yes(demo: Path, ocitui: Ocitui) -> None:
    before = snapshot(demo)
    done = ocitui("delete", ALPINE.digest, "-C", demo)
    assert done.status == 2
    assert f"{ALPINE.digest}.tar" in done.out
    assert "--yes" in done.err
    as_json = ocitui("delete", ALPINE.digest, "-C", demo, "--json")
    assert as_json.status == 2
    assert set(as_json.json) == COMMON | {"plan", "error"}
    assert snapshot(demo) == before


@pytest.mark.parametrize("typed", ["", "y", "YES", "no", "yes please"])
def test_only_the_whole_word_confirms(typed: str, demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(demo)
    answer(monkeypatch, typed)
    done = ocitui("delete", ALPINE.digest, "-C", demo)
    assert done.status == 130
    assert done.out == ""
    assert snapshot(demo) == before


def test_the_question_names_the_host_and_the_cache(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="host7"))
    questions = answer(monkeypatch, "yes")
    done = ocitui("delete", ALPINE.digest, "-C", demo)
    assert done.status == 0
    assert len(questions) == 1
    assert done.err.startswith(f"on host7, in {demo}\n")


def test_a_plan_that_no_longer_holds_is_shown_and_asked_again(
    demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if len(asked) == 1:
            with open(demo / f"{ALPINE.digest}.tar", "ab") as packed:
                packed.write(b"more")
        return "yes"

    monkeypatch.setattr(output, "can_ask", lambda: True)
    monkeypatch.setattr(output, "ask", ask)
    done = ocitui("delete", ALPINE.digest, "-C", demo)
    assert done.status == 0
    assert len(asked) == 2
    assert "changed since the plan was shown" in done.err


def test_the_daemon_is_named_in_the_question(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    from ocitui.host.daemon import DaemonState

    monkeypatch.setattr("ocitui.host.daemon.find_daemon", lambda _: DaemonState(7, 0.0, True))
    assert "kratad runs here since 1970-01-01" in ocitui("delete", ALPINE.digest, "-C", demo).out


def test_undo_of_somebody_else_s_transaction_asks(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(transactions, "whoami", lambda: "ocitui (process 9, ann@elsewhere)")
        ocitui("delete", ALPINE.digest, "--yes", "-C", demo)
    refused = ocitui("undo", "-C", demo)
    assert refused.status == 2
    assert "ann@elsewhere" in refused.out
    answer(monkeypatch, "")
    assert ocitui("undo", "-C", demo).status == 130
    assert ocitui("undo", "--yes", "-C", demo).status == 0


def test_read_only_is_refused_before_anything_is_asked(
    demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(demo)
    questions = answer(monkeypatch)
    for words in (["delete", ALPINE.digest], ["undo"], ["import", "packed:x", "--name", "x"]):
        done = ocitui(*words, "--read-only", "--json", "-C", demo)
        assert done.status == 4
        assert done.json["error"]["code"] == "read-only"
    assert questions == []
    assert snapshot(demo) == before
    assert not (demo / ".ocitui").exists()


def test_a_locked_cache_says_who_holds_it(demo: Path, ocitui: Ocitui) -> None:
    with locked(demo):
        done = ocitui("delete", ALPINE.digest, "--yes", "--json", "-C", demo)
    assert done.status == 5
    assert done.json["error"]["code"] == "locked"
    assert "me@there" in done.err


@pytest.mark.parametrize("words", NONSENSE)
def test_wait_waits_for_the_lock(words: str, demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(demo) as fd:
        assert ocitui(*words.split(), "-C", demo).status == 5

        async def released(_: float) -> None:
            fcntl.flock(fd, fcntl.LOCK_UN)

        monkeypatch.setattr("asyncio.sleep", released)
        assert ocitui(*words.split(), "--wait", "60", "-C", demo).status != 5


@pytest.mark.parametrize(
    "words", ["delete --yes", "undo", "repair --apply --yes --even-if-gone", "trash restore", "trash empty --yes"]
)
def test_wait_holds_for_what_follows_the_question(
    words: str, demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = ocitui("delete", ALPINE.digest, "--yes", "--json", "-C", demo).json["transaction"]["id"]
    own = {"delete": [OLD_ALPINE.digest], "trash": [deleted]}.get(words.split()[0], [])
    prepare = PackerCache.prepare
    with locked(demo) as fd:
        fcntl.flock(fd, fcntl.LOCK_UN)

        async def prepared(cache: PackerCache) -> Preparation:
            found = await prepare(cache)
            fcntl.flock(fd, fcntl.LOCK_EX)
            return found

        async def released(_: float) -> None:
            fcntl.flock(fd, fcntl.LOCK_UN)

        monkeypatch.setattr(PackerCache, "prepare", prepared)
        assert ocitui(*words.split(), *own, "-C", demo).status == 5
        fcntl.flock(fd, fcntl.LOCK_UN)
        monkeypatch.setattr("asyncio.sleep", released)
        assert ocitui(*words.split(), *own, "--wait", "60", "-C", demo).status in (0, 3)


def test_a_transaction_that_was_never_ended_is_shown_and_left_alone(demo: Path, ocitui: Ocitui) -> None:
    ocitui("delete", ALPINE.digest, "--yes", "-C", demo)
    (record,) = (demo / ".ocitui" / "journal").glob("*.done.json")
    record.rename(record.with_name(record.name.replace(".done.", ".pending.")))
    done = ocitui("log", "-C", demo)
    assert "pending" in done.out.splitlines()[1]
    assert "next command that writes" in done.out.splitlines()[2]
    assert list((demo / ".ocitui" / "journal").glob("*.pending.json"))


def test_an_undo_that_meets_something_in_the_place(demo: Path, ocitui: Ocitui) -> None:
    ocitui("delete", ALPINE.digest, "--yes", "-C", demo)
    (demo / f"{ALPINE.digest}.tar").write_bytes(b"something else")
    done = ocitui("undo", "--json", "-C", demo)
    assert done.status == 4
    assert done.json["error"]["code"] == "conflict"
    assert (demo / f"{ALPINE.digest}.tar").read_bytes() == b"something else"


def test_delete_of_entries_with_a_format_nobody_knows(demo: Path, ocitui: Ocitui) -> None:
    index: dict[str, Any] = json.loads((demo / "index.json").read_text())
    for entry in index["manifests"]:
        if entry["digest"] == ALPINE.digest:
            entry["annotations"]["dev.krata.oci.packer.format"] = "zip"
    (demo / "index.json").write_text(json.dumps(index))
    before = snapshot(demo)
    assert ocitui("delete", ALPINE.digest, "--yes", "-C", demo).status == 0
    assert ocitui("undo", "-C", demo).status == 0
    assert json.loads(snapshot(demo)["index.json"]) == json.loads(before["index.json"])


def test_a_delete_on_a_cache_that_is_gone(demo: Path, ocitui: Ocitui) -> None:
    shutil.rmtree(demo)
    assert ocitui("delete", ALPINE.digest, "--yes", "-C", demo).status == 4
    assert ocitui("undo", "-C", demo).status == 4


def packed_files(directory: Path) -> list[Path]:
    return [path for path in directory.glob(f"{ALPINE.digest}.*") if not path.name.endswith(".json")]


def test_deleting_what_is_in_use_is_asked_twice(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    words, (file,) = ("delete", ALPINE.digest, "-C", demo), packed_files(demo)
    with loop_device(file) as device:
        refused = ocitui(*words, "--yes")
        assert (refused.status, ocitui(*words, "--yes", "--json").json["plan"]["used_by"]) == (2, [str(device)])
        questions = answer(monkeypatch, "yes", "no")
        done = ocitui(*words)
        assert (done.status, len(questions)) == (130, 2)
        assert f"needed by {device}" in done.err
        assert file.exists()
        answer(monkeypatch, "yes", "yes")
        assert ocitui(*words).status == 0
        assert not file.exists()


def test_an_undo_says_what_was_gone_already(demo: Path, ocitui: Ocitui) -> None:
    ocitui("delete", ALPINE.digest, "--yes", "-C", demo)
    without = (demo / "index.json").read_bytes()
    ocitui("undo", "-C", demo)
    back = ocitui("log", "--json", "-C", demo).json["transactions"][0]["id"]
    # A daemon that never knew of it writes what it remembers.
    (demo / "index.json").write_bytes(without)
    done = ocitui("undo", back, "-C", demo)
    assert "note: gone from the index already: alpine:3.19" in done.out
    assert "index-shrunk" not in ocitui("check", "-C", demo).out
