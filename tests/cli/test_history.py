"""history and list --at: what came and went, who did it, and the index as it was."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import IndexHistory
from ocitui.cli.demo_cache import ALPINE, BUSYBOX, OLD_ALPINE
from tests.cli.conftest import Ocitui

FIRST = 1_700_000_000.0


@pytest.fixture
def told(demo: Path, ocitui: Ocitui) -> Path:
    """A cache of which a check saw each of these: as it was, less an entry, more by another program, and as that
    turned all around."""
    os.utime(demo / "index.json", (FIRST, FIRST))
    ocitui("check", "-C", demo)
    delete(demo, ocitui)
    for act in (lambda _: None, add, turn):
        act(demo)
        ocitui("check", "-C", demo)
    return demo


def delete(demo: Path, ocitui: Ocitui) -> None:
    ocitui("delete", f"{ALPINE.digest}.tar", "--yes", "-C", demo)


def changed(demo: Path, change: Callable[[list[Any]], object]) -> None:
    index = json.loads((demo / "index.json").read_bytes())
    change(index["manifests"])
    (demo / "index.json").write_text(json.dumps(index))


def add(demo: Path) -> None:
    def put(manifests: list[Any]) -> None:
        new = json.loads(json.dumps(manifests[1]))
        new["annotations"]["io.containerd.image.name"] = "new:1"
        manifests.append(new)

    changed(demo, put)


def turn(demo: Path) -> None:
    changed(demo, list.reverse)


def lines(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line) for line in text.splitlines()]


def test_each_change_and_who_did_it(told: Path, ocitui: Ocitui) -> None:
    done = ocitui("history", "-C", told)
    title, turned, added, deleted, oldest = lines(done.out)
    assert title == ["WHEN", "DONE BY", "WHO", "CHANGE"]
    assert turned[1:] == ["another program", "-", "the same entries, written anew"]
    assert added[1:] == ["another program", "-", f"+new:1.tar; new:1={BUSYBOX.digest[7:19]}.tar"]
    assert re.fullmatch(r"delete 000001-[0-9a-f]{4}", deleted[1])
    assert re.fullmatch(r"\S+@\S+", deleted[2])
    assert deleted[3] == f"-alpine:3.19.tar; alpine:3.19={OLD_ALPINE.digest[7:19]}.tar"
    assert oldest[1:] == ["-", "-", "the oldest that is kept, with 8 entries"]
    assert (done.status, done.err) == (0, "")


def test_each_change_as_json(told: Path, ocitui: Ocitui) -> None:
    _, added, deleted, oldest = ocitui("history", "-C", told, "--json").json["changes"]
    assert (added["transactions"], added["another_program"]) == ([], True)
    assert added["added"] == [{"name": "new:1", "digest": BUSYBOX.digest, "format": "tar"}]
    (transaction,) = deleted["transactions"]
    assert (transaction["kind"], deleted["another_program"]) == ("delete", False)
    assert deleted["removed"] == [{"name": "alpine:3.19", "digest": ALPINE.digest, "format": "tar"}]
    (won,) = deleted["winners"]
    assert (won["digest"], won["before"]["digest"]) == (OLD_ALPINE.digest, ALPINE.digest)
    assert deleted["when"] == ocitui("log", "-C", told, "--json").json["transactions"][0]["started"]
    assert (oldest["another_program"], oldest["entries"], oldest["added"]) == (None, 8, [])


def test_who_won_a_name(told: Path, ocitui: Ocitui) -> None:
    _, now, before = lines(ocitui("history", "alpine:3.19", "-C", told).out)
    assert now[1:4] == ["-", OLD_ALPINE.digest[7:19], "tar"]
    assert before[:4] == ["earlier", now[0], ALPINE.digest[7:19], "tar"]
    # As krata spells it, and by any name that there was.
    spelled = ocitui("history", "mirror.gcr.io/library/alpine:3.19", "-C", told, "--json").json["changes"]
    assert [(one["name"], one["digest"], one["since"] is None) for one in spelled] == [
        ("alpine:3.19", OLD_ALPINE.digest, False),
        ("alpine:3.19", ALPINE.digest, True),
    ]
    assert spelled[1]["until"] == spelled[0]["since"]
    refused = ocitui("history", "nothing:1", "-C", told)
    assert (refused.status, refused.out) == (1, "")
    assert "no index that is kept has the name nothing:1" in refused.err


def test_what_nobody_looked_at_yet_is_told_too(demo: Path, ocitui: Ocitui) -> None:
    os.utime(demo / "index.json", (FIRST, FIRST))
    assert "2023-11-14 22:13:20Z" in ocitui("history", "-C", demo).out
    delete(demo, ocitui)
    assert [line[1][:6] for line in lines(ocitui("history", "-C", demo).out)[1:]] == ["delete", "-"]
    (demo / "index.json").write_bytes(b"{")
    done = ocitui("history", "-C", demo)
    assert done.status == 0
    assert len(done.out.splitlines()) == 2
    assert "index.json as it is now is left out: EOF while parsing" in done.err
    (demo / "index.json").unlink()
    assert "index.json as it is now is left out: there is none" in ocitui("history", "-C", demo).err


def test_the_index_as_it_was(told: Path, ocitui: Ocitui) -> None:
    instants = IndexHistory(told).instants
    changes = ocitui("history", "-C", told, "--json").json["changes"]
    for at, change in enumerate(changes):
        found = ocitui("list", "--at", change["when"], "-C", told, "--json")
        assert len(found.json["entries"]) == change["entries"] == instants[at].entries
        assert found.err.startswith("note: index.json as it was from ")
    # As it is shown, to the second, it is the end of that second.
    shown = lines(ocitui("history", "-C", told).out)[1][0]
    assert len(ocitui("list", "--at", shown, "-C", told, "--json").json["entries"]) == changes[0]["entries"]
    listed = ocitui("list", "--at", changes[-1]["when"], "-C", told)
    assert listed.out.splitlines()[1].split() == [
        *("alpine", "3.19", "tar", OLD_ALPINE.digest[7:19], "linux/amd64", "-", "-", "-"),
    ]
    assert len(lines(ocitui("list", "--at", changes[-1]["when"], "--filter", "alpine", "-C", told).out)) == 3
    entry = ocitui("list", "--at", "0s", "-C", told, "--json").json["entries"][0]
    assert (entry["packed_size"], entry["state"], entry["depth"], entry["checked"]) == (None, "-", None, None)


def test_what_list_cannot_tell_of_then(told: Path, ocitui: Ocitui) -> None:
    older = ocitui("list", "--at", "9d", "-C", told)
    assert (older.status, older.out) == (1, "")
    assert "no index so old is kept (ocitui history tells" in older.err
    for words in ("state:bad", "!used:", "alpine size>1M", "AGE<2d"):
        refused = ocitui("list", "--at", "0s", "--filter", words, "-C", told)
        assert refused.status == 2
        assert "asks for what is not known of then" in refused.err
    for time in ("2026-01-31T12:00:00", "yesterday", "2026-13-31T12:00:00Z", "2 days"):
        assert "is neither a time like" in ocitui("list", "--at", time, "-C", told).err
    later = ocitui("list", "--at", "2999-01-31 12:00:00+05:30", "-C", told)
    assert (later.status, later.out) == (0, ocitui("list", "--at", "0s", "-C", told).out)
    folder = told / ".ocitui" / "backups"
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    damaged = ocitui("list", "--at", "0s", "-C", told)
    assert (damaged.status, "the index of then is kept, but damaged (ask for another time)" in damaged.err) == (4, True)
    assert "cannot be read any more" in ocitui("history", "-C", told).err


def test_without_a_cache(tmp_path: Path, ocitui: Ocitui) -> None:
    assert ocitui("history", "-C", tmp_path).out == "WHEN  DONE BY  WHO  CHANGE\n"
    for words in (["history"], ["list", "--at", "2d"]):
        assert ocitui(*words, "-C", tmp_path / "absent").status == 4
    assert "no index so old is kept (" in ocitui("list", "--at", "2d", "-C", tmp_path).err


def test_that_older_ones_went_is_told(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.backups.MOST_BACKUP_BYTES", 2500)
    for _ in range(4):
        add(demo)
        ocitui("check", "-C", demo)
    assert "older ones are not kept any more: all together take" in ocitui("history", "-C", demo).err
