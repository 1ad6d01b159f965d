"""What a click does beside the rows: keys, tabs and slots are pressed by it."""

from __future__ import annotations

from pathlib import Path

from textual.widget import Widget

from ocitui.tui.widgets.bars import HealthBar, KeyBar, TabBar
from ocitui.tui.widgets.entry_pane import Tab
from tests.tui.cache_support import make_cache
from tests.tui.screen_support import Desk, desk


async def _click(one: Desk, kind: type[Widget], text: str) -> None:
    bar = one.app.screen.query_one(kind)
    line = "".join(segment.text for segment in bar.render_line(0))
    assert await one.pilot.click(bar, offset=(line.index(text) + 1, 0))


async def test_keys_and_their_words_are_pressed(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await _click(one, KeyBar, "Resolve")
        await one.until(lambda: one.top == "ResolveScreen")
        await _click(one, KeyBar, "back")
        await one.until(lambda: one.top == "MainScreen")
        await _click(one, KeyBar, "?")
        await one.until(lambda: one.top == "HelpScreen")
        await one.press("escape")
        await _click(one, KeyBar, "space")
        await one.until(lambda: one.table.rows.marks == 1)


async def test_a_tab_is_opened(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        for name in ("Manifest", "History", "Summary"):
            await _click(one, TabBar, name)
            await one.until(lambda name=name: one.pane.tab == name.lower())  # type: ignore[misc]
        await _click(one, TabBar, "───")
        await one.rest()
        assert one.pane.tab == "summary", "a rule is no key"


async def test_a_slot_leads_where_its_key_does(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        for text, screen in (
            ("index in step", "VerdictScreen"),
            ("no problems", "ProblemsScreen"),
            ("trash", "TimelineScreen"),
        ):
            await _click(one, HealthBar, text)
            await one.until(lambda screen=screen: one.top == screen)  # type: ignore[misc]
            await one.press("escape")
            await one.until(lambda: one.top == "MainScreen")
        await _click(one, HealthBar, "disk")
        await one.rest()
        assert one.top == "MainScreen", "it leads nowhere"


async def test_a_tab_that_is_left_before_it_is_filled(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        tabs: tuple[Tab, ...] = ("manifest", "problems")
        for tab in tabs:
            one.pane.open_tab(tab)
            await one.settle()
        one.pane.refresh_entry(one.pane.entry)
        await one.settle()
        one.pane.open_tab("manifest")
        one.pane.open_tab("problems")
        await one.settle()
        assert one.app.fault is None
