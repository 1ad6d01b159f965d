"""Room: what takes the disk, marks against a goal, rules, pins, and what goes, to the trash or for good."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import Ledger, PackerCache, Topic
from ocitui.doctor import survey_room
from ocitui.tui.live import LiveChange
from ocitui.tui.widgets.lines import CURSOR, LinesView
from tests.tui.cache_support import BUSYBOX, NGINX, make_cache, packed_path
from tests.tui.screen_support import WIDE, Desk, desk

pytestmark = pytest.mark.slow


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = make_cache(tmp_path / "cache" / "image")
    ledger = Ledger(directory)
    for path in directory.glob("*.squashfs"):
        ledger.note(Topic.ASKED, path.name, "daemon a registry gives it")
    ledger.flush()
    return directory


async def opened(one: Desk) -> None:
    await one.open("b", "RoomScreen")
    await one.until(lambda: "BACK" in one.text and "free" in one.text, "the room")


async def test_what_takes_the_room_and_whether_it_comes_back(cache: Path) -> None:
    os.truncate(packed_path(cache, NGINX), 5 << 20)
    async with desk(cache, WIDE) as one:
        await opened(one)
        first = next(line for line in one.text.splitlines() if "nginx" in line)
        assert "5.0M" in first
        assert re.search(r" free .* [0-9.]+[KMGT] are not the cache's$", one.text.splitlines()[3].rstrip())
        assert "daemon" in first
        assert "a registry gives it, asked" in one.lines
        assert "unseen since" in one.lines
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")
        assert one.table.cursor_entry is not None
        assert one.table.cursor_entry.digest == NGINX.digest


async def test_marks_add_up_against_the_goal(cache: Path) -> None:
    async with desk(cache, WIDE) as one:
        await opened(one)
        await one.press("space", "f", *"900000T", "enter")
        await one.until(lambda: "marked = " in one.text and "wanted" in one.text and "short" in one.text)
        await one.press("A")
        await one.until(lambda: "marked = " not in one.text)
        await one.press("f", *["backspace"] * 20, *"much", "enter")
        await one.until(lambda: "much is no size" in one.status)


async def test_by_rule(cache: Path) -> None:
    async with desk(cache, WIDE) as one:
        await opened(one)
        await one.press("r", *["backspace"] * 40, *"nonsense", "enter")
        await one.until(lambda: "'nonsense' is no rule" in one.status)
        await one.press("r", *["backspace"] * 40, *"unused", "enter", "a")
        await one.until(lambda: "marked by unused" in one.status and "stay: " in one.status)
        assert "cannot" in one.status


async def test_a_pin_keeps_it_from_every_rule(cache: Path) -> None:
    async with desk(cache, WIDE) as one:
        await opened(one)
        await one.open("p", "ReasonScreen")
        await one.press(*"mine", "enter")
        await one.until(lambda: "no rule takes it" in one.status)
        assert "mine, by " in one.lines
        await one.press("p")
        await one.until(lambda: "no longer pinned" in one.status)
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen")
        await one.open("asterisk", "ReasonScreen")
        await one.press("enter")
        await one.until(lambda: "1 entry pinned" in one.status)
        await one.press("asterisk")
        await one.until(lambda: "no longer pinned" in one.status)


async def test_to_the_trash_and_for_good(cache: Path) -> None:
    async with desk(cache, WIDE) as one:
        await opened(one)
        await one.press("space", "space")
        await one.open("d", "PruneScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        assert "2 entries of" in one.lines
        await one.press("y")
        await one.until(lambda: one.top == "RoomScreen" and "in the trash, u undoes it" in one.status)
        trash, index = cache / ".ocitui" / "trash", (cache / "index.json").read_bytes()
        await one.press("home")
        await one.until(lambda: "the trash" in next(line for line in one.text.splitlines() if CURSOR in line))
        await one.press("space")
        await one.open("D", "PruneScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        assert "the trash is emptied" in one.lines
        (trashed,) = re.findall(r"(\d+) files", one.lines)
        await one.press("y", *"99", "enter")
        await one.until(lambda: f"{trashed} was to be typed" in one.status)
        assert len(os.listdir(trash)) >= int(trashed)
        await one.press("y", *trashed, "enter")
        await one.until(lambda: one.top == "RoomScreen" and "are free again" in one.status)
        assert os.listdir(trash) == []
        assert (cache / "index.json").read_bytes() == index, "only what was marked went"


@pytest.mark.parametrize("way", ["tab", "click"])
async def test_nothing_goes_for_good_by_leaving_the_question(cache: Path, way: str) -> None:
    index = (cache / "index.json").read_bytes()
    async with desk(cache, WIDE) as one:
        await opened(one)
        await one.press("space")
        await one.open("D", "PruneScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        await one.press("y", "1")
        if way == "tab":
            await one.press("tab")
        else:
            await one.pilot.click(LinesView)
        await one.pilot.pause()
        assert one.top == "PruneScreen"
        await one.press("y", "1", "enter")
        await one.until(lambda: one.top == "RoomScreen" and "are free again" in one.status)
    assert (cache / "index.json").read_bytes() != index


async def test_the_trash_counts_for_a_goal_where_it_is_marked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await PackerCache(cache).delete([(NGINX.digest, "squashfs")])
    disk = os.statvfs(cache)
    monkeypatch.setattr("os.statvfs", lambda path: disk)
    async with desk(cache, WIDE) as one:
        await opened(one)
        await one.press("f", *str(disk.f_bavail * disk.f_frsize + 1), "enter")
        await one.press("r", *["backspace"] * 40, *"unused", "enter", "a")
        await one.until(lambda: "1 entry marked by unused" in one.status)
        await one.press("A", "home")
        await one.until(lambda: "the trash" in next(line for line in one.text.splitlines() if CURSOR in line))
        await one.press("space", "a")
        await one.until(lambda: "0 entries marked by unused" in one.status)


async def test_what_is_marked_for_good_goes_with_nothing_else(cache: Path) -> None:
    async with desk(cache, WIDE) as one:
        await opened(one)
        trash = cache / ".ocitui" / "trash"
        before = set(os.listdir(trash)) if trash.is_dir() else set()
        await one.press("home", "space")
        await one.open("D", "PruneScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        assert "1 entry of" in one.lines
        await one.press("y", "1", "enter")
        await one.until(lambda: one.top == "RoomScreen" and "1 entry gone" in one.status)
        assert set(os.listdir(trash)) == before


async def test_what_was_done_is_said_though_the_cache_changes_meanwhile(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, may_end = list[Any](), threading.Event()
    may_end.set()

    def survey(*given: Any) -> Any:
        looks.append(given)
        assert may_end.wait(60)
        return survey_room(*given)

    monkeypatch.setattr("ocitui.tui.screens.room.survey_room", survey)
    monkeypatch.setattr("ocitui.tui.screens.room._LOOK_SECONDS", 0.05)
    async with desk(cache, WIDE) as one:
        await opened(one)
        await one.open("p", "ReasonScreen")
        may_end.clear()
        before = len(looks)
        await one.press(*"mine", "enter")
        await one.until(lambda: len(looks) > before)
        before = len(looks)
        one.live.tell(LiveChange(another=True))
        await one.until(lambda: len(looks) > before)
        may_end.set()
        await one.until(lambda: "no rule takes it" in one.status)


async def test_it_follows_what_other_programs_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.tui.screens.room._LOOK_SECONDS", 0.1)
    async with desk(cache, WIDE) as one:
        await opened(one)
        assert "busybox" in one.text
        for path in cache.glob(f"{BUSYBOX.digest}.*fs"):
            path.unlink()
        await one.until(lambda: "busybox" not in one.text)


async def test_who_may_not_write_marks_and_changes_nothing(cache: Path) -> None:
    async with desk(cache, WIDE, read_only=True) as one:
        before = (cache / ".ocitui" / "ledger").read_bytes()
        await opened(one)
        for key in ("d", "D", "p"):
            await one.press(key)
            await one.until(lambda: "not done" in one.status)
        assert (cache / ".ocitui" / "ledger").read_bytes() == before
