"""The line of health: each slot says how things are, never moves, and never has more than its room."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ocitui.cache import Condition, Health, PackerCache
from ocitui.host.daemon import DaemonState
from ocitui.tui.live import LiveCache, LiveChange
from ocitui.tui.live_host import LiveHost
from ocitui.tui.widgets.bars import Part, health_parts
from tests.tui.cache_support import TEA, make_cache
from tests.tui.screen_support import LIMIT_SECONDS, Desk, desk

COLUMNS = {80: (1, 20, 41, 67), 100: (1, 22, 55, 87), 120: (1, 22, 55, 87), 160: (1, 22, 55, 87)}
GIB = 1 << 30
ROOM = {"half": (80 * GIB, 40 * GIB), "full": (80 * GIB, 0), "nearly": (80 * GIB, 1016 << 20), "none": None}
SEVERITIES: dict[str, Counter[str]] = {
    "none": Counter(),
    "some": Counter(high=2, medium=1, low=4),
    "many": Counter(critical=120, high=99, medium=100, low=20_000),
}


def known(**what: Any) -> LiveCache:
    """What is known of a sound cache, but for this."""
    host = SimpleNamespace(
        disk=what.pop("disk", ROOM["half"]), trash=what.pop("trash", 21 * GIB), asked=None, unanswered=""
    )
    facts = {
        "loaded": True,
        "health": Health(Condition.SOUND),
        "alarm": "",
        "severities": Counter[str](),
        "complete": True,
        "host": host,
    }
    return cast(LiveCache, SimpleNamespace(**facts | what))


def cells(parts: list[Part]) -> list[tuple[str, str]]:
    return [(part, "plain") if isinstance(part, str) else part for part in parts]


def slots(live: LiveCache, width: int = 80) -> list[str]:
    """The text of each slot."""
    text = "".join(text for text, _ in cells(health_parts(live, width)))
    ends = (*COLUMNS[width][1:], width)
    return [text[start:end].rstrip() for start, end in zip(COLUMNS[width], ends, strict=True)]


def role_of(live: LiveCache, text: str) -> str:
    return next(role for part, role in cells(health_parts(live, 80)) if part == text)


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (Condition.SOUND, "v ✓ index in step"),
        (Condition.STALE, "v  ✖ index torn"),
        (Condition.CORRUPT, "v  ✖ index broken"),
        (Condition.MISSING, "v  ✖ index gone"),
        (Condition.GONE, "v  ✖ cache gone"),
        (Condition.UNREADABLE, "v  ✖ not readable"),
    ],
)
def test_the_index(condition: Condition, says: str) -> None:
    live = known(health=Health(condition))
    assert slots(live)[0] == says
    assert role_of(live, "v") == ("muted" if condition is Condition.SOUND else "key")


def test_lost_entries_a_reading_that_lasts_and_polling() -> None:
    assert slots(known(alarm="entries are gone"))[0] == "v  ✖ entries lost"
    assert slots(known(loaded=False))[::3] == ["v ? reading", ""]
    assert slots(known(health=Health(Condition.SOUND, polling="no events")))[0] == "v ✓ in step, polls"


@pytest.mark.parametrize(
    ("severities", "narrow", "wide"),
    [
        (Counter[str](), "p ✓ no problems", "p ✓ no problems"),
        (Counter(low=1), "p · 1 low", "p · 1 low"),
        (Counter(high=2, medium=1), "p ✗ 2 high ! 1 med", "p ✗ 2 high ! 1 medium"),
        (Counter(high=3, low=120), "p ✗ 3 high · 99+ low", "p ✗ 3 high · 99+ low"),
        (Counter(critical=1, high=120), "p ✖ 1 crit", "p ✖ 1 critical ✗ 99+ high"),
        # What is milder is not told in place of what has no room.
        (Counter(critical=1, high=120, medium=1), "p ✖ 1 crit", "p ✖ 1 critical ✗ 99+ high"),
        (Counter(critical=10, high=12, medium=3), "p ✖ 10 crit", "p ✖ 10 critical ✗ 12 high"),
    ],
)
def test_the_problems(severities: Counter[str], narrow: str, wide: str) -> None:
    assert slots(known(severities=severities))[1] == narrow
    assert slots(known(severities=severities), 120)[1] == wide
    assert role_of(known(severities=severities), "p") == ("key" if severities else "muted")


def test_what_was_not_looked_into_is_not_said_to_be_well() -> None:
    assert slots(known(complete=False))[1] == "p ? looking"
    assert slots(known(health=Health(Condition.CORRUPT)))[1] == "p ? looking", "a broken index is a problem"
    assert slots(known(complete=False, severities=Counter(high=1)))[1] == "p ✗ 1 high"


def test_the_disk() -> None:
    assert slots(known())[2] == "b disk ━━── 50% 40G free"
    assert slots(known(disk=ROOM["full"]))[2] == "b disk ━━━━ 100% 0B free"
    nearly = known(disk=ROOM["nearly"])
    assert "━━─ 99%" in slots(nearly)[2], "full only where nothing is free"
    assert role_of(nearly, " 99%") == "warn"
    assert role_of(known(), " 50%") == "plain"
    assert slots(known(disk=ROOM["none"]))[2:] == ["", "t trash 21G"], "the trash stays in its place"


@pytest.mark.parametrize("width", [*COLUMNS])
def test_a_slot_has_no_more_than_its_room(width: int) -> None:
    found = itertools.product(Condition, SEVERITIES.values(), ROOM.values(), (0, 1016 << 20, 1016 * GIB), (True, False))
    for condition, severities, disk, trash, complete in found:
        health = Health(condition, polling="no events")
        live = known(health=health, severities=severities, disk=disk, trash=trash, complete=complete)
        text = "".join(part for part, _ in cells(health_parts(live, width)))
        assert len(text) <= width, text
        shown = re.findall(r"(?:99\+|\d+) (crit|high|med|low)", text)
        assert shown == ["crit", "high", "med", "low"][: len(shown)] or shown == ["high", "med", "low"][: len(shown)]
        for column, letter in zip(COLUMNS[width], "vpbt", strict=True):
            assert text[column - 1] == " ", text
            assert text[column] == (letter if letter != "b" or disk else " "), text


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks of 4K are free, of a hundred thousand; one of none: the file system does not tell."""
    free = [50_000]

    def statvfs(_: object) -> os.statvfs_result:
        if not free:
            raise OSError(5, "Input/output error")
        return os.statvfs_result((4096, 4096, 100_000, free[0], free[0], 9, 9, 9, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    return free


def _host(directory: Path) -> LiveHost:
    return LiveHost(directory)


async def test_what_shows_is_told_and_nothing_else(tmp_path: Path, room: list[int]) -> None:
    host = _host(make_cache(tmp_path / "image"))
    assert host.room_changed()
    assert host.disk == (100_000 * 4096, 50_000 * 4096)
    assert not host.room_changed(), "nothing is another"
    room[0] -= 1
    assert not host.room_changed(), "too little to show"
    room[0] -= 30_000
    assert host.room_changed()


async def test_a_trash_that_changed_is_counted(tmp_path: Path, room: list[int]) -> None:
    cache = make_cache(tmp_path / "image")
    host = _host(cache)
    host.room_changed()
    assert host.trash == 0
    async with await PackerCache.open(cache) as opened:
        await opened.delete([(TEA.digest, "squashfs")])
        assert host.room_changed()
        assert host.trash >= TEA.size
        await opened.empty_trash()
        assert host.room_changed()
        assert host.trash == 0


async def test_a_file_system_that_does_not_tell_has_no_gauge(tmp_path: Path, room: list[int]) -> None:
    host = _host(make_cache(tmp_path / "image"))
    host.room_changed()
    room.clear()
    assert host.room_changed()
    assert host.disk is None
    assert not host.room_changed()
    room.append(50_000)
    assert host.room_changed()
    assert host.disk is not None


async def test_nothing_is_told_where_nothing_shows(
    tmp_path: Path, room: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.watch.to_the_second", lambda _: 0.0)
    told, looks, really = list[LiveChange](), threading.Semaphore(0), LiveHost.room_changed

    def look(host: LiveHost) -> bool:
        changed = really(host)
        looks.release()
        return changed

    async def looked() -> None:
        """Until it was looked at three times from now on, so that what came of the first but one is told."""
        while looks.acquire(blocking=False):
            pass
        for _ in range(3):
            assert await asyncio.to_thread(looks.acquire, timeout=LIMIT_SECONDS)

    monkeypatch.setattr(LiveHost, "room_changed", look)
    monkeypatch.setattr(LiveHost, "find_daemon", lambda _: DaemonState())
    cache = make_cache(tmp_path / "image")
    live = LiveCache(cache, lambda: PackerCache(cache))
    live.tell = told.append
    following = asyncio.create_task(live.follow_host())
    await looked()
    assert told == [LiveChange()], "the room, which was not known"
    room[0] -= 1
    await looked()
    assert len(told) == 1
    room[0] = 100
    await looked()
    assert len(told) == 2
    following.cancel()


@pytest.mark.parametrize("width", [80, 100, 120])
async def test_on_the_screen_no_slot_is_cut(width: int, tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image"), (width, 30), read_only=True) as one:
        assert _line(one, 1).rstrip().endswith("t trash 0B")
        assert " ro " in _line(one, 0)


def _line(one: Desk, number: int) -> str:
    return one.text.split("\n")[number]
