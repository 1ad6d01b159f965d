"""What a click does beside the rows: keys, tabs and slots are pressed by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widget import Widget

from ocitui.tui.widgets.bars import HealthBar, KeyBar, Question, RuleBar, StatusBar
from ocitui.tui.widgets.entry_pane import Tab
from ocitui.tui.widgets.lines import PickList
from tests.tui.cache_support import BUSYBOX, make_cache, packed_path
from tests.tui.screen_support import Desk, desk

pytestmark = pytest.mark.slow


async def _click(one: Desk, kind: type[Widget], text: str) -> None:
    bar = one.app.screen.query_one(kind)

    def line() -> str:
        return "".join(segment.text for segment in bar.render_line(0))

    await one.until(lambda: text in line(), text)
    assert await one.pilot.click(bar, offset=(line().index(text) + 1, 0))


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
            await _click(one, RuleBar, name)
            await one.until(lambda name=name: one.pane.tab == name.lower())  # type: ignore[misc]
        await _click(one, RuleBar, "───")
        await one.rest()
        assert one.pane.tab == "summary", "a rule is no key"


async def test_a_slot_leads_where_its_key_does(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        for text, screen in (
            ("index in step", "VerdictScreen"),
            ("no problems", "ProblemsScreen"),
            ("disk", "RoomScreen"),
            ("trash", "TimelineScreen"),
        ):
            await _click(one, HealthBar, text)
            await one.until(lambda screen=screen: one.top == screen)  # type: ignore[misc]
            await one.press("escape")
            await one.until(lambda: one.top == "MainScreen")


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
        assert one.app._exception is None


async def test_room_without_a_key_presses_none(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, BUSYBOX).unlink()
    async with desk(cache) as one:
        await one.until(lambda: "plans what mends it" in one.status)
        for kind in (StatusBar, HealthBar):
            assert await one.pilot.click(one.main.query_one(kind), offset=(79, 0))
            await one.rest()
            assert one.top == "MainScreen"
        await _click(one, StatusBar, "says what kratad does")
        await one.until(lambda: one.top == "WhyScreen")


async def test_keys_of_a_question_and_of_more_lines_are_pressed(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    packed_path(cache, BUSYBOX).unlink()
    async with desk(cache) as one:
        await one.open("d", "DeleteScreen")
        await one.until(lambda: "nothing is changed" in one.status)
        await _click(one, KeyBar, "Cancel")
        await one.until(lambda: one.top == "MainScreen")
        await one.open("p", "ProblemsScreen")
        await one.until(lambda: "DO FIRST" in one.text)
        await _click(one, KeyBar, "1-4")
        await one.rest()
        assert "no key" not in one.status
        assert await one.pilot.click(PickList, offset=(5, 1))
        await one.until(lambda: one.top == "RepairScreen")


async def test_a_name_that_looks_like_markup_is_shown(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("c", "MenuScreen")
        await one.press("N")
        await one.until(lambda: one.top == "FileNameScreen")
        one.app.screen.query_one(Question).value = "/nowhere[/x]/[red]y"
        await one.press("enter")
        await one.until(lambda: "cannot write it" in one.text or "No such file" in one.text)
        assert one.app._exception is None
