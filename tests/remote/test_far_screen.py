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
from tests.cache.support import until as gone
from tests.remote.support import Hosts
from tests.tui.cache_support import make_cache
from tests.tui.screen_support import screen_text, until


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
        await until(pilot, lambda: "Delete: it is a mirror over ssh" in screen_text(app), "the refusal")
        before = sorted(tmp_path.rglob("*"))
        (cache / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
        await until(pilot, lambda: "entries lost" in screen_text(app), "what changed there")
        assert sorted(tmp_path.rglob("*")) == before
        cache.rename(tmp_path / "away")
        await until(pilot, lambda: "cannot be read: No such file" in screen_text(app), "why nothing is told")
    await gone(lambda: not mirror.directory.exists())
