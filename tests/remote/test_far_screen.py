"""The screen on another host's cache: asked again, never said to be in step, and nothing of it is changed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ocitui.remote import HostMirror, SshPlace
from ocitui.tui import live_host
from ocitui.tui.app import OcituiApp
from ocitui.tui.session import ScreenOptions, Session
from ocitui.tui.widgets.lines import PickList
from tests.cache.support import until as gone
from tests.remote.support import Hosts
from tests.tui.cache_support import make_cache
from tests.tui.screen_support import screen_text, until

pytestmark = pytest.mark.slow


async def test_it_shows_what_is_there_and_what_changes_there(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_ASK_SECONDS", "_TICK_SECONDS"):
        monkeypatch.setattr(live_host, name, 0.1)
    cache = make_cache(tmp_path / "image")
    mirror = HostMirror(SshPlace.parse(f"ssh://good{cache}"), shared=True)
    await mirror.ask()
    app = OcituiApp(Session(ScreenOptions(mirror.directory, read_only=True, mirror=mirror)))
    async with app.run_test(size=(250, 40)) as pilot:
        await until(pilot, lambda: "7 entries" in screen_text(app), "the entries")
        head = screen_text(app).splitlines()[:3]
        assert head[0].startswith(f" {os.uname().nodename} ")
        assert f"  {cache}  " in head[0]
        assert re.search(r"asked \d+s ago", " ".join(head))
        assert "in step" not in screen_text(app)
        await pilot.press("d")
        told = f"Delete: it is a mirror over ssh of {os.uname().nodename}; there: ssh good "
        await until(pilot, lambda: told in screen_text(app), "the refusal")
        cache.rename(tmp_path / "away")
        await until(pilot, lambda: "cannot be read: No such file" in screen_text(app), "why nothing is told")
        await until(pilot, lambda: re.search(r"\? asked \d+s ago", screen_text(app)) is not None, "it is as it was")
        (tmp_path / "away").rename(cache)
        await until(pilot, lambda: "cannot be read: No such file" not in screen_text(app), "it is there again")
        await until(pilot, lambda: re.search(r"✓ asked \d+s ago", screen_text(app)) is not None, "as it is")
        before = sorted(tmp_path.rglob("*"))
        (cache / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
        await until(pilot, lambda: "entries lost" in screen_text(app), "what changed there")
        assert sorted(tmp_path.rglob("*")) == before
    await gone(lambda: not mirror.directory.exists())


async def test_from_the_fleet_to_a_host_and_back(hosts: Hosts, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    places = [SshPlace.parse(word) for word in (f"good{cache}", "locked", f"good:{hosts.ports['good']}/nowhere")]
    app = OcituiApp(Session(ScreenOptions(tmp_path / "none", hosts=places)))
    async with app.run_test(size=(160, 40)) as pilot:
        await until(pilot, lambda: re.search(r"asked \d+s ago", screen_text(app)) is not None, "all have answered")
        for said in ("login-refused", "cache-directory", "1 host with problems  1 host not reached  1 host without"):
            assert said in screen_text(app)
        fleet = app.screen
        rows = fleet.query_one(PickList)
        rows.move_to(f"ssh://good{cache}")
        await pilot.press("enter")
        await until(pilot, lambda: f"  {cache}  " in screen_text(app).splitlines()[0], "the cache there")
        await until(pilot, lambda: "7 entries" in screen_text(app).splitlines()[0], "its entries")
        mirror = app.session.directory
        await pilot.press("p")
        await until(pilot, lambda: "7 header; nothing wrong" in screen_text(app), "what is wrong there")
        await until(pilot, lambda: not app.session.live.looking, "all was looked at")
        await pilot.pause(0.5)
        assert "reads all bytes" not in screen_text(app)
        await pilot.press("escape", "d")
        await until(pilot, lambda: "Delete: it is a mirror over ssh" in screen_text(app), "the refusal")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is fleet, "the fleet again")
        assert app.session is app.home
        await until(pilot, lambda: not mirror.exists(), "nothing is left of it")
        await pilot.press("enter")
        await until(pilot, lambda: "7 entries" in screen_text(app).splitlines()[0], "the entries once more")
    await gone(lambda: not app.session.directory.exists())
