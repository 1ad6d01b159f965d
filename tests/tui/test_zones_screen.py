"""The zones on screen: who needs what, followed as it changes; and who needs an entry, wherever that is shown."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from ocitui.cache import Ledger, PackedFormat, Topic
from ocitui.doctor import pin
from tests.cache.support import make_image
from tests.host.test_redb import database, expected
from tests.host.xenstore import StandIn, guest
from tests.tui.cache_support import MODIFIED, make_cache
from tests.tui.screen_support import WIDE, Desk, desk

pytestmark = pytest.mark.slow

WEB = {row["name"]: row for row in expected("03-three")["zones"]}["web"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache in a daemon's store, one of whose entries is the kernel of two zones."""
    (tmp_path / "host.uuid").touch()
    (tmp_path / "krata.db").write_bytes(database("03-three"))
    directory = make_cache(tmp_path / "cache" / "image")
    index = json.loads((directory / "index.json").read_bytes())
    index["manifests"][0]["digest"] = WEB["kernel"]["digest"]
    index["manifests"][0]["annotations"]["dev.krata.oci.packer.format"] = "tar"
    (directory / "index.json").write_text(json.dumps(index))
    return directory


async def opened(one: Desk) -> None:
    await one.open("z", "ZonesScreen")
    await one.until(lambda: "3 zones" in one.text, "the zones")


async def test_zones_with_what_they_need_and_what_comes_of_it(cache: Path) -> None:
    async with desk(cache, WIDE) as one:
        await opened(one)
        assert "missing  4 entries that zones need" in " ".join(one.lines.split("\n")).replace("   ", "  ")
        await one.press("end")
        await one.until(lambda: WEB["uuid"] in one.lines, "the zone under the cursor")
        assert "when it is created anew: not found, and not pulled" in one.lines
        await one.press("enter")
        await one.until(lambda: one.top == "MainScreen")
        await one.until(lambda: "no entry of the index is what that is about" in one.status)


async def test_zones_are_read_again_as_the_daemon_writes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.tui.live._HOST_SECONDS", 0.1)
    async with desk(cache) as one:
        await opened(one)
        (cache.parent.parent / "krata.db").write_bytes(database("02-one"))
        await one.until(lambda: "1 zone" in one.text and "3 zones" not in one.text)
        (cache.parent.parent / "krata.db").write_bytes(b"")
        await one.press("r")
        await one.until(lambda: "0 zones, and perhaps others" in one.text)
        assert "make an empty one over it" in one.lines.replace("\n", " ")


async def test_who_needs_an_entry_has_a_column_and_is_followed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.tui.live._HOST_SECONDS", 0.1)
    async with desk(cache) as one:
        await one.until(lambda: "db +1" in one.text, "the zones that need it")
        await one.press("slash", *"used", "colon", *"web", "enter")
        await one.until(lambda: one.table.shown == 1)
        (cache.parent.parent / "krata.db").write_bytes(database("40-clean-flip-in-value"))
        await one.press("slash", *["backspace"] * 3, *"unsure", "enter")
        await one.until(lambda: one.table.shown == one.table.total, "that nobody can tell")


async def test_what_is_wrong_with_the_database_is_told_as_soon_as_it_is_seen(cache: Path) -> None:
    async with desk(cache) as one:
        one.live.host.find_users()
        one.live._tell_users()
        await one.until(lambda: not one.live._cache_stale)
        (cache.parent.parent / "krata.db").write_bytes(b"")
        one.live.host.find_users()
        one.live._tell_users()
        assert one.live._cache_stale
        await one.until(lambda: "database-lost" in {found.code for found in one.live.about_cache})


async def test_guests_are_followed_while_the_database_is_what_it_was(
    cache: Path, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.tui.live._HOST_SECONDS", 0.1)
    monkeypatch.setattr("ocitui.tui.live_host._WALK_SECONDS", 0.1)
    os.utime(cache.parent.parent / "krata.db", (MODIFIED, MODIFIED))
    xenstore = StandIn(open_path, monkeypatch)
    async with desk(cache) as one:
        await one.until(lambda: one.live.complete and "db +1" in one.text)
        xenstore.prints(guest(9, "a3b1c6de-6d0c-4a1e-9d35-0a3a5a2f7f10", "shop"))
        await one.until(lambda: "domain-without-row" in {found.code for found in one.live.about_cache})
        xenstore.prints({})
        await one.until(lambda: "domain-without-row" not in {found.code for found in one.live.about_cache})


async def test_the_pane_tells_who_needs_an_entry_by_what_is_known(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(cache) as one:
        await one.until(lambda: "db +1" in one.text)
        look = Mock()
        monkeypatch.setattr("ocitui.tui.summary.read_zones", look)
        await one.press("slash", *"used", "colon", *"web", "enter")
        await one.until(lambda: "zone web, created: its kernel, next-start" in one.lines)
        look.assert_not_called()


@pytest.mark.parametrize("has_ledger", [True, False])
async def test_that_nobody_uses_anything_is_noted_where_there_is_a_ledger(
    has_ledger: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.tui.live._HOST_SECONDS", 0.01)
    cache = make_cache(tmp_path / "image")
    if has_ledger:
        pin(Ledger.open(cache), [("sha256:abc", "tar")], "")
    async with desk(cache) as one:
        await one.until(lambda: one.live.judge is not None)
        look = Mock(wraps=one.live.host.look)
        monkeypatch.setattr(one.live.host, "look", look)
        await one.until(lambda: look.call_count > 2, "two looks were done")
        assert Ledger.open(cache).noted(Topic.WATCHED).keys() == ({"-"} if has_ledger else set())
        assert (cache / ".ocitui" / "ledger").exists() is has_ledger


async def test_deleting_what_a_zone_needs_is_asked_twice(cache: Path) -> None:
    async with desk(cache) as one:
        await one.until(lambda: "db +1" in one.text)
        await one.press("slash", *"used", "colon", *"web", "enter")
        await one.until(lambda: one.table.shown == 1)
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "nothing is changed before y" in one.status)
        assert "zone web (kernel, next-start)" in one.lines
        await one.press("y")
        await one.until(lambda: "needed by zone db (kernel, now)" in one.status)
        assert not await one.session.cache.transactions()


@pytest.mark.parametrize("done", ["delete", "undo"])
async def test_a_zone_that_comes_while_a_plan_stands_makes_another_plan(cache: Path, done: str) -> None:
    files = [
        (cache.parent.parent / name, (cache.parent.parent / name).read_bytes()) for name in ("krata.db", "host.uuid")
    ]
    kernel = f"{WEB['kernel']['digest']}.tar"
    async with desk(cache) as one:
        if done == "undo":
            packed = make_image(
                cache.parent / "packed", name="app:1", format=PackedFormat.TAR, digest=WEB["kernel"]["digest"]
            )
            await one.session.cache.store(packed)
        for path, _ in files:
            path.unlink()
        if done == "delete":
            await one.press("slash", *kernel[:20], "enter")
            await one.until(lambda: one.table.shown == 1)
        await one.open(*(("d", "DeleteScreen") if done == "delete" else ("u", "UndoScreen")))
        await one.until(lambda: "nothing is changed before y" in one.status)
        assert "in use" not in one.lines
        for path, data in files:
            path.write_bytes(data)
        there = (cache / "index.json").read_bytes()
        await one.press("y")
        await one.until(lambda: "zone web (kernel, next-start)" in one.lines and "nothing is changed" in one.status)
        assert "zones came or went since the plan was shown" in one.lines.replace("\n", " ")
        await one.press("y")
        await one.until(lambda: "needed by zone db (kernel, now)" in one.status)
        assert (cache / "index.json").read_bytes() == there
