"""trash: what it holds, what comes back, and what goes for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocitui.cli.demo_cache import ALPINE, BUSYBOX
from tests.cli.answering import answer
from tests.cli.conftest import Ocitui

PACKED = f"{ALPINE.digest}.tar"


@pytest.fixture
def deleted(demo: Path, ocitui: Ocitui) -> str:
    """The id of a transaction that took alpine out."""
    transaction: str = ocitui("delete", ALPINE.digest, "--yes", "--json", "-C", demo).json["transaction"]["id"]
    return transaction


def test_an_empty_trash(demo: Path, ocitui: Ocitui) -> None:
    assert ocitui("trash", "-C", demo).out == "the trash is empty\n"
    done = ocitui("trash", "--json", "-C", demo)
    assert (done.status, done.json["files"], done.json["bytes"]) == (0, [], 0)
    assert ocitui("trash", "empty", "-C", demo).status == 0


def test_it_lists_what_a_transaction_took_out(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    for words in (["trash"], ["trash", "list"]):
        done = ocitui(*words, "-C", demo)
        assert done.status == 0
        assert f"delete {deleted}  alpine:3.19  can be undone" in done.out
        assert f"{ALPINE.digest[7:19]}….tar" in done.out
        assert "3 files, " in done.out
    files = ocitui("trash", "list", "--json", "-C", demo).json["files"]
    assert {file["name"] for file in files} == {
        PACKED,
        f"{ALPINE.digest}.manifest.json",
        f"{ALPINE.digest}.config.json",
    }
    assert {file["transaction"] for file in files} == {deleted}
    assert all(file["undoable"] and file["recorded"] for file in files)


@pytest.mark.parametrize("word", [PACKED, ALPINE.digest, ALPINE.digest[7:15]])
def test_files_come_back_by_name_or_digest(word: str, demo: Path, ocitui: Ocitui, deleted: str) -> None:
    done = ocitui("trash", "restore", word, "-C", demo)
    assert done.status == 0
    assert (demo / PACKED).exists()
    assert "files come back without entries" in done.out
    assert ocitui("undo", "-C", demo).status == 0
    assert not (demo / PACKED).exists()
    assert ocitui("undo", deleted, "-C", demo).status == 0
    assert (demo / PACKED).exists()


def test_files_come_back_by_transaction(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    done = ocitui("trash", "restore", deleted, "--json", "-C", demo)
    assert done.status == 0
    assert len(done.json["files"]) == 3
    assert done.json["transaction"]["kind"] == "restore"
    assert sorted(done.json["transaction"]["files_placed"])[-1] == PACKED


def test_nothing_is_overwritten(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    (demo / PACKED).write_bytes(b"something else")
    done = ocitui("trash", "restore", PACKED, "--json", "-C", demo)
    assert (done.status, done.json["error"]["code"]) == (4, "conflict")
    assert (demo / PACKED).read_bytes() == b"something else"


def test_two_versions_of_a_file_are_told_apart(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    ocitui("undo", deleted, "-C", demo)
    os.truncate(demo / PACKED, 512)
    again = ocitui("delete", ALPINE.digest, "--yes", "--json", "-C", demo).json["transaction"]["id"]
    (demo / PACKED).write_bytes(b"a third")
    ocitui("repair", "--only", "orphan-file", "--trash-orphans", "--apply", "--yes", "-C", demo)
    done = ocitui("trash", "restore", PACKED, "-C", demo)
    assert done.status == 2
    assert again in done.err
    assert ocitui("trash", "restore", again, "-C", demo).status == 0


def test_what_the_trash_does_not_hold(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    done = ocitui("trash", "restore", "nothing", "-C", demo)
    assert (done.status, done.out) == (1, "")
    assert ocitui("trash", "empty", "20200101-nothing", "--yes", "-C", demo).status == 1
    assert ocitui("trash", "burn", "-C", demo).status == 2
    assert ocitui("trash", "restore", "-C", demo).status == 2


def test_emptying_asks_and_says_what_is_lost(
    demo: Path, ocitui: Ocitui, deleted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = ocitui("trash", "empty", "-C", demo)
    assert refused.status == 2
    assert "1 transaction can then no longer be undone" in refused.out
    answer(monkeypatch, "y")
    assert ocitui("trash", "empty", "-C", demo).status == 130
    assert len(list((demo / ".ocitui" / "trash").iterdir())) == 3
    questions = answer(monkeypatch, "yes")
    done = ocitui("trash", "empty", "-C", demo)
    assert (done.status, len(questions)) == (0, 1)
    assert "removed 3 files" in done.out
    assert not list((demo / ".ocitui" / "trash").iterdir())
    assert ocitui("undo", deleted, "-C", demo).status != 0
    assert "emptied" in ocitui("log", "-C", demo).out


def test_emptying_of_one_transaction_leaves_the_others(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    other = ocitui("delete", BUSYBOX.digest, "--yes", "--json", "-C", demo).json["transaction"]["id"]
    done = ocitui("trash", "empty", deleted, "--yes", "--json", "-C", demo)
    assert done.json["removed"]["files"] == 3
    left = ocitui("trash", "--json", "-C", demo).json["files"]
    assert {file["transaction"] for file in left} == {other}


def test_what_went_there_lately_can_stay(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    done = ocitui("trash", "empty", "--older-than", "1d", "-C", demo)
    assert (done.status, done.out) == (0, "nothing in the trash is to go\n")
    assert ocitui("trash", "empty", "--older-than", "0s", "--yes", "-C", demo).status == 0
    assert ocitui("trash", "--json", "-C", demo).json["files"] == []


def test_read_only_lists_and_refuses_the_rest(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    assert ocitui("trash", "--read-only", "-C", demo).status == 0
    assert ocitui("--read-only", "trash", "-C", demo).status == 0
    for words in (["restore", PACKED], ["empty", "--yes"]):
        for place in (["trash", "--read-only", *words], ["trash", *words, "--read-only"]):
            done = ocitui(*place, "--json", "-C", demo)
            assert (done.status, done.json["error"]["code"]) == (4, "read-only")


def test_the_directory_may_stand_before_the_action(demo: Path, ocitui: Ocitui, deleted: str) -> None:
    assert deleted in ocitui("trash", "-C", demo, "list").out
    assert ocitui("trash", "-C", demo, "--json", "restore", PACKED).json["transaction"]["kind"] == "restore"
