"""point: a digest wins its name, nothing is deleted, and undo points the name back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cli.demo_cache import ALPINE, BUSYBOX, OLD_ALPINE, QUEUE
from tests.cli.answering import answer
from tests.cli.conftest import Ocitui

NAME = "alpine:3.19"


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def winner(ocitui: Ocitui, demo: Path) -> str:
    digest: str = ocitui("resolve", NAME, "--format", "tar", "--json", "-C", demo).json["digest"]
    return digest


def test_the_name_stands_for_the_other_image_and_back(demo: Path, ocitui: Ocitui) -> None:
    before = files(demo)
    assert winner(ocitui, demo) == ALPINE.digest
    done = ocitui("point", NAME, OLD_ALPINE.digest[7:15], "--yes", "-C", demo)
    assert done.status == 0
    assert f"stands for  {ALPINE.digest[7:19]}" in done.out
    assert f"will be     {OLD_ALPINE.digest[7:19]}" in done.out
    assert winner(ocitui, demo) == OLD_ALPINE.digest
    assert {name for name, data in files(demo).items() if data != before[name]} == {"index.json"}
    assert ocitui("undo", "-C", demo).status == 0
    assert files(demo) == before


def test_as_json(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("point", NAME, OLD_ALPINE.digest, "--yes", "--json", "-C", demo).json
    assert done["plan"]["winner"]["digest"] == ALPINE.digest
    assert done["plan"]["entry"]["digest"] == OLD_ALPINE.digest
    assert done["transaction"]["kind"] == "point"


def test_it_asks(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(demo)
    refused = ocitui("point", NAME, OLD_ALPINE.digest, "-C", demo, "--json")
    assert (refused.status, set(refused.json) >= {"plan", "error"}) == (2, True)
    answer(monkeypatch, "no")
    assert ocitui("point", NAME, OLD_ALPINE.digest, "-C", demo).status == 130
    assert files(demo) == before
    answer(monkeypatch, "yes")
    assert ocitui("point", NAME, OLD_ALPINE.digest, "-C", demo).status == 0


def test_what_wins_already_is_left_alone(demo: Path, ocitui: Ocitui) -> None:
    before = files(demo)
    done = ocitui("point", NAME, ALPINE.digest, "-C", demo)
    assert done.status == 0
    assert "already: nothing to do" in done.out
    assert ocitui("point", NAME, ALPINE.digest, "-C", demo, "--json").json["transaction"] is None
    assert files(demo) == before


@pytest.mark.parametrize("words", [["nowhere:1", ALPINE.digest], [NAME, QUEUE.digest], [NAME, "0" * 12]])
def test_no_entry_has_both(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("point", *words, "--yes", "--json", "-C", demo)
    assert (done.status, done.json["error"]["code"]) == (1, "no-such-entry")


def test_an_image_whose_files_are_gone_is_told_of(demo: Path, ocitui: Ocitui) -> None:
    (demo / f"{OLD_ALPINE.digest}.config.json").unlink()
    done = ocitui("point", NAME, OLD_ALPINE.digest, "-C", demo)
    assert done.status == 2
    assert "the daemon would not find it all the same" in done.out


def test_a_plan_that_no_longer_holds_is_shown_again(
    demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ocitui.cli import output

    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if len(asked) == 1:
            monkeypatch.setattr(output, "can_ask", lambda: False)
            ocitui("delete", BUSYBOX.digest, "--yes", "-C", demo)
            ocitui("point", NAME, OLD_ALPINE.digest, "--yes", "-C", demo)
            ocitui("point", NAME, ALPINE.digest, "--yes", "-C", demo)
            monkeypatch.setattr(output, "can_ask", lambda: True)
        return "yes"

    monkeypatch.setattr(output, "can_ask", lambda: True)
    monkeypatch.setattr(output, "ask", ask)
    done = ocitui("point", NAME, OLD_ALPINE.digest, "-C", demo)
    assert done.status == 0
    assert len(asked) == 2
    assert winner(ocitui, demo) == OLD_ALPINE.digest


def test_read_only_and_a_corrupt_index_are_refused(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("point", NAME, OLD_ALPINE.digest, "--read-only", "--json", "-C", demo)
    assert (done.status, done.json["error"]["code"]) == (4, "read-only")
    (demo / "index.json").write_bytes(b"{")
    done = ocitui("point", NAME, OLD_ALPINE.digest, "--yes", "--json", "-C", demo)
    assert (done.status, done.json["error"]["code"]) == (4, "corrupt-index")
