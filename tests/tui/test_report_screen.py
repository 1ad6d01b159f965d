"""The screen on a report: whose cache it is, as it was, and nothing to change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocitui.doctor import opened_report, write_report
from ocitui.tui.app import OcituiApp
from ocitui.tui.session import ScreenOptions, Session
from tests.tui.cache_support import make_cache
from tests.tui.screen_support import screen_text, until


def reported(directory: Path, to: Path) -> None:
    with open(to, "xb") as file:
        write_report(directory, file)


@pytest.mark.slow
async def test_it_opens_read_only_as_the_host_was(tmp_path: Path) -> None:
    cache, report = make_cache(tmp_path / "image"), tmp_path / "incident"
    reported(cache, report)
    with opened_report(report) as directory:
        app = OcituiApp(Session(ScreenOptions(directory, read_only=True)))
        async with app.run_test(size=(250, 40)) as pilot:
            await until(pilot, lambda: "7 entries" in screen_text(app), "the entries")
            head = screen_text(app).splitlines()[0]
            assert head.startswith(f" {os.uname().nodename} at 2")
            assert f"  {cache}  " in head
            await pilot.press("d")
            await until(pilot, lambda: "Delete: it is a report" in screen_text(app), "the refusal")
            await pilot.press("p", "3")
            await until(pilot, lambda: "a report has no packed files to read" in screen_text(app), "why not deep")
