"""Every key of the table of actions does what it says, and no other key does anything."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from textual.widget import Widget
from textual.widgets import Input

from ocitui.tui.actions import ACTIONS, BY_NAME, keys_text
from ocitui.tui.app import OcituiApp
from ocitui.tui.widgets.document_view import DocumentView
from ocitui.tui.widgets.entry_table import EntryTable
from ocitui.tui.widgets.lines import LinesView
from tests.tui.cache_support import BUSYBOX, TEA, Image, make_cache
from tests.tui.screen_support import SMALL, Desk, desk

pytestmark = pytest.mark.slow

Check = Callable[[Desk], Awaitable[None]]


def _opens(screen: str) -> Check:
    async def check(one: Desk) -> None:
        await one.until(lambda: one.top == screen, screen)
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen", "back")

    return check


def _says(text: str) -> Check:
    async def check(one: Desk) -> None:
        await one.until(lambda: text in one.status, text)

    return check


def _comes_true(condition: Callable[[Desk], bool]) -> Check:
    async def check(one: Desk) -> None:
        await one.until(lambda: condition(one))

    return check


async def _copies(one: Desk, letter: str, text: str) -> None:
    await one.open("c", "MenuScreen")
    await one.press(letter)
    await one.until(lambda: "sent to the terminal" in one.status)
    assert f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\a" in one.driver.written


async def _asks_for_a_filter(one: Desk) -> None:
    await one.until(lambda: isinstance(one.app.focused, Input))
    await one.press(*"tea", "enter")
    assert one.table.shown == 1


async def _quits(one: Desk) -> None:
    await one.until(lambda: one.app._exit)
    assert one.app.return_value == 0


_DOES: dict[str, Check] = {
    "resolve": _opens("ResolveScreen"),
    "import_image": _opens("ImportScreen"),
    "imports": _opens("ImportsScreen"),
    "zones": _opens("ZonesScreen"),
    "room": _opens("RoomScreen"),
    "pin": _opens("ReasonScreen"),
    "undo": _opens("UndoScreen"),
    "journal": _opens("TimelineScreen"),
    "trash": _opens("TrashScreen"),
    "problems": _opens("ProblemsScreen"),
    "mend": _says("nothing is known to be wrong with it"),
    "why": _opens("WhyScreen"),
    "point": _opens("PointScreen"),
    "verdict": _opens("VerdictScreen"),
    "refresh": _says("read again"),
    "delete": _opens("DeleteScreen"),
    "copy": _opens("MenuScreen"),
    "diff": _opens("DiffScreen"),
    "extract": _says("4 shows the files"),
    "hidden": _says("4 shows the files"),
    "bad_row(1)": _says("no bad row is shown"),
    "bad_row(-1)": _says("no bad row is shown"),
    "worst_first": _comes_true(lambda one: one.table.rows.sort_column == "state"),
    "filter": _asks_for_a_filter,
    "sort": _opens("MenuScreen"),
    "mark_all": _says("7 marked"),
    "clear_marks": _comes_true(lambda one: not one.table.rows.marked),
    "show_tab('summary')": _comes_true(lambda one: one.pane.tab == "summary"),
    "show_tab('manifest')": _comes_true(lambda one: one.pane.tab == "manifest"),
    "show_tab('config')": _comes_true(lambda one: one.pane.tab == "config"),
    "show_tab('files')": _comes_true(lambda one: one.pane.tab == "files"),
    "show_tab('problems')": _comes_true(lambda one: one.pane.tab == "problems"),
    "show_tab('history')": _comes_true(lambda one: one.pane.tab == "history"),
    "step_tab(1)": _comes_true(lambda one: one.pane.tab == "manifest"),
    "step_tab(-1)": _comes_true(lambda one: one.pane.tab == "history"),
    "layout": _comes_true(lambda one: not one.pane.display and one.table.display),
    "move_split(5)": _comes_true(lambda one: one.session.settings.split == 55),
    "move_split(-5)": _comes_true(lambda one: one.session.settings.split == 45),
    "switch_focus": _comes_true(lambda one: isinstance(one.app.focused, LinesView)),
    "help": _opens("HelpScreen"),
    "commands": _opens("CommandScreen"),
    "next_theme": _comes_true(lambda one: one.app.theme == "ocitui-light"),
    "host_colour": _says("the host's name stands on red"),
    "keep_settings": _says("the next start looks like this"),
    "interrupt": _says("nothing is running"),
    "quit": _quits,
}
_PRESSES = [(action.name, key) for action in ACTIONS for key in action.keys if action.name in _DOES]


@pytest.mark.parametrize(("action", "key"), _PRESSES)
async def test_a_key_does_what_the_table_says(tmp_path: Path, action: str, key: str) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        if action == "clear_marks":
            await one.press("space", "space")
        await one.press(key)
        await _DOES[action](one)


def test_every_action_is_tried() -> None:
    tried_elsewhere = {"back", "redraw", "suspend"} | {action.name for action in ACTIONS if action.handled_by_widget}
    assert _DOES.keys() | tried_elsewhere == BY_NAME.keys()


async def test_moving_marking_and_opening(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        rows: list[int | None] = []
        for key in ("down", "j", "up", "k", "end", "home", "G", "g", "pagedown", "pageup", "ctrl+f", "home"):
            await one.press(key)
            rows.append(one.table.cursor_row)
        assert rows == [1, 2, 1, 0, 6, 0, 6, 0, 6, 0, 6, 0]
        await one.press("space")
        assert one.table.cursor_row == 1
        assert "1 marked" in one.status
        await one.press("enter")
        await one.until(lambda: not one.table.display, "the whole pane")
        assert one.focused == "LinesView"
        await one.press("3")
        await one.until(lambda: one.focused == "DocumentView", "the keys follow the tab")
        await one.press("tab")
        assert one.focused == "DocumentView"
        await one.press("escape")
        await one.until(lambda: one.app.focused is one.table)
        assert one.table.display


def _keys_are_in(one: Desk, view: str) -> bool:
    return one.focused == view


async def test_enter_in_the_pane_gives_it_the_whole_screen(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        for tab, view in (("1", "LinesView"), ("2", "DocumentView")):
            await one.press(tab, "tab")
            await one.until(partial(_keys_are_in, one, view), "the keys in the pane")
            await one.press("enter")
            await one.until(lambda: not one.table.display, "the whole pane")
            await one.press("escape")
            await one.until(lambda: one.app.focused is one.table)


async def test_searching_a_document(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press("2", "enter")
        await one.until(lambda: isinstance(one.app.focused, DocumentView))
        await one.press("slash", *"digest", "enter")
        await one.until(lambda: "match 1 of 2" in one.status)
        await one.press("n")
        await one.until(lambda: "match 2 of 2" in one.status)
        await one.press("N")
        await one.until(lambda: "match 1 of 2" in one.status)
        assert one.table.rows.filter_text == ""
        await one.press("slash", *"absent", "enter")
        await one.until(lambda: "no match" in one.status)


async def test_escape_clears_a_filter_first_and_never_quits(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press("slash", *"busybox", "enter", "enter")
        await one.until(lambda: not one.table.display)
        await one.press("escape")
        await one.until(lambda: one.table.display)
        assert one.table.rows.filter_text == "busybox"
        await one.press("escape")
        assert one.table.rows.filter_text == ""
        await one.press("escape", "escape")
        await one.rest()
        assert one.app.is_running


async def test_escape_in_the_filter_takes_it_back(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press("slash", *"tea", "escape")
        assert one.table.shown == 7
        await one.press("slash", *"tea", "enter", "slash", *" erofs", "escape")
        assert (one.table.rows.filter_text, one.table.shown) == ("tea", 1), "the filter that was in force is again"
        await one.press("escape")
        # Keys that come at once, as over a slow link.
        await one.press("slash", "escape", "slash", *"ngi", "enter")
        assert one.table.shown == 1


async def test_no_key_acts_while_an_input_has_the_focus(tmp_path: Path) -> None:
    typed = "ritvRdcsaAg1[]:?qTjknN y"
    keys = {":": "colon", "?": "question_mark", " ": "space", "[": "left_square_bracket", "]": "right_square_bracket"}
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press(
            "slash", *(keys.get(character, character) for character in typed), "f5", "tab", "shift+tab", "f1"
        )
        assert one.top == "MainScreen"
        assert one.table.rows.filter_text == typed
        assert isinstance(one.app.focused, Input)
        await one.press("escape")
        for key, screen in (("r", "ResolveScreen"), ("question_mark", "HelpScreen")):
            await one.open(key, screen)
            field = one.app.screen.query_one(Input)
            field.value = ""
            await one.press(*(keys.get(character, character) for character in typed))
            assert field.value == typed
            assert one.top == screen
            await one.press("escape")
        assert not await one.session.cache.transactions()


async def test_keys_that_come_at_once_go_where_they_were_meant(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        one.send_at_once("j", "slash", *"tea", "enter", "space", "r")
        await one.until(lambda: one.top == "ResolveScreen")
        assert one.table.rows.filter_text == "tea"
        assert len(one.table.rows.marked) == 1
        await one.press("escape")
        one.send_at_once("slash", "escape", "escape", "slash", *"ngi", "enter", "d")
        await one.until(lambda: one.top == "DeleteScreen")
        await one.press("escape")
        assert one.table.shown == 1
        one.send_at_once("escape", "end", "d", "y", "enter", "G", "g", "j")
        await one.until(lambda: one.table.cursor_row == 1)
        await one.rest()
        assert one.table.total == 7
        one.send_at_once("slash", *"tea", "escape", "slash")
        await one.rest()
        assert one.table.shown == 7


async def test_a_filter_of_a_field_that_is_none_changes_nothing_and_says_what_was_meant(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    async with desk(cache) as one:
        await one.press("slash", *"busybox ", *"sate", "colon")
        await one.until(lambda: "there is no field sate; state: may be meant" in one.status)
        assert one.table.rows.filter_text == "busybox sate"
        await one.press("enter")
        assert one.table.rows.filter_text == "busybox sate"


async def test_the_mouse_leaves_the_filter_as_it_is(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press("slash", *"busy")
        await one.pilot.click(EntryTable, offset=(5, 2))
        await one.until(lambda: one.app.focused is one.table)
        assert one.table.rows.filter_text == "busy"
        await one.press("slash", "escape")
        assert one.table.rows.filter_text == "busy"
        await one.press("escape")
        assert one.table.shown == 7


_FILTERS = {
    "busy": 2, "!busy": 5, "busy erofs": 1, "name:alpine": 3, "tag:3.19": 3, "format:tar": 1, "size>10M": 1,
    "size<2M": 2, "state:bad": 1, "!state:bad": 6, "platform:": 7, "digest:sha256": 7, "alpine !tar !erofs": 1,
}  # fmt: skip


async def test_the_filter_narrows_as_it_is_typed(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image")
    (cache / f"{BUSYBOX.digest}.erofs").unlink()
    async with desk(cache) as one:
        for text, shown in _FILTERS.items():
            await one.press("slash")
            one.app.screen.query_one("#ask", Input).value = text
            await one.until(lambda found=f": {shown}/7": found in one.status, text)  # type: ignore[misc]
            assert one.table.shown == shown
            await one.press("escape")


async def test_sorting_by_letter_by_list_and_by_mouse(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image"), SMALL) as one:
        await one.open("s", "MenuScreen")
        await one.press("n")
        await one.until(lambda: one.table.rows.sort_column == "name")
        assert "NAME ▴" in one.text
        assert one.names[0].startswith("docker.io/library/alpine")
        await one.open("s", "MenuScreen")
        assert "name, now: again reverses" in one.text
        await one.press("n")
        await one.until(lambda: "NAME ▾" in one.text)
        await one.open("s", "MenuScreen")
        await one.press("end", "enter")
        await one.until(lambda: one.table.rows.sort_column == "state")
        header = one.text.split("\n")[2]
        await one.pilot.click(EntryTable, offset=(header.index("SIZE"), 0))
        await one.until(lambda: one.table.rows.sort_column == "size")
        assert "SIZE▾" in one.text, "the largest first"
        sorts = (("a", "age", True), ("A", "age", False), ("S", "size", False), ("s", "size", True))
        for letter, column, reverse in sorts:
            await one.open("s", "MenuScreen")
            await one.press(letter)
            await one.until(lambda: one.top == "MainScreen")
            assert (one.table.rows.sort_column, one.table.rows.reverse) == (column, reverse)
        await one.open("s", "MenuScreen")
        await one.press("i")
        await one.until(lambda: one.table.rows.sort_column is None)
        first = one.names[0]
        for letter, reverse in (("I", True), ("I", True), ("i", False), ("i", False)):
            await one.open("s", "MenuScreen")
            await one.press(letter)
            await one.until(lambda: one.top == "MainScreen")
            assert (one.table.rows.sort_column, one.table.rows.reverse) == (None, reverse)
            assert one.names[-1 if reverse else 0] == first
        await one.open("s", "MenuScreen")
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen")


async def test_the_shell_is_to_be_had_on_every_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(OcituiApp, "action_suspend_process", lambda self: given.append(type(self.screen).__name__))
    opened = {"MainScreen": (), "DeleteScreen": ("d",), "MenuScreen": ("s",), "CommandScreen": ("colon",)}
    async with desk(make_cache(tmp_path / "image")) as one:
        for number, (screen, keys) in enumerate(opened.items()):
            await one.press(*keys)
            await one.until(lambda screen=screen: one.top == screen, screen)  # type: ignore[misc]
            await one.press("ctrl+z")
            await one.until(lambda number=number: len(given) > number, f"{screen} gives it")  # type: ignore[misc]
            await one.until(lambda: not one.app._suspending)
            await one.press("escape")
            await one.until(lambda: one.top == "MainScreen")
    assert given == [*opened]


async def test_themes_go_round(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        seen = []
        for _ in range(3):
            await one.press("T")
            await one.rest()
            seen.append(one.app.theme)
        assert seen == ["ocitui-light", "ocitui-ansi", "ocitui-dark"]
        assert "theme dark" in one.status


@pytest.mark.parametrize(
    ("typed", "screen"),
    [("delete", "DeleteScreen"), ("d", "DeleteScreen"), ("rm", "DeleteScreen"), ("I", "ImportsScreen"),
     ("Import", "ImportScreen"), ("prob", "ProblemsScreen"), ("timeline", "TimelineScreen")],
)  # fmt: skip
async def test_a_command_is_run_by_name_alias_or_key_however_quickly_it_is_typed(
    tmp_path: Path, typed: str, screen: str
) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("colon", "CommandScreen")
        await one.press(*typed, "enter")
        await one.until(lambda: one.top == screen, screen)
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen")
        one.send_at_once("colon", *typed, "enter")
        await one.until(lambda: one.top == screen, screen)


async def test_commands_are_found_and_chosen(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("colon", "CommandScreen")
        await one.press(*"nosuch", "enter")
        assert one.top == "CommandScreen"
        assert "there is no such command" in one.text
        await one.press(*["backspace"] * 6, *"summ", "down", "up", "enter")
        await one.until(lambda: one.top == "MainScreen")
        await one.press("2", "colon", *"q", "enter")
        await one.until(lambda: one.app._exit)


async def test_every_bound_key_is_in_the_table(tmp_path: Path) -> None:
    known = {key for action in ACTIONS for key in action.keys} | {"left", "right"}
    inherited = {"super+c"}  # Textual's own, for terminals that have such a key
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.press("2", "3", "1")
        await one.rest()
        widgets: list[Widget] = [one.table, one.main.query_one(LinesView), *one.main.query(DocumentView), one.main]
        bound = {key for widget in widgets for key in widget._bindings.key_to_bindings}
        bound |= set(one.app._bindings.key_to_bindings)
        assert bound - known - inherited == set()


@pytest.mark.parametrize("keys", ["s n n", "s escape escape", "t escape escape", "d escape enter", "p escape escape"])
async def test_keys_typed_ahead_end_a_screen_once(keys: str, tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        opening, *ending = keys.split()
        await one.press(opening)
        await one.until(lambda: one.top != "MainScreen")
        one.send_at_once(*ending)
        await one.until(lambda: one.top == "MainScreen")
        await one.press("R")
        await one.until(lambda: "read again" in one.status)


async def test_what_is_copied_commands_no_shell(tmp_path: Path) -> None:
    hostile = Image("docker.io/library/tea:1\r\x1b[201~id\n", ("tar",))
    async with desk(make_cache(tmp_path / "image", [hostile])) as one:
        await _copies(one, "n", "docker.io/library/tea:1\ufffd\ufffd[201~id\ufffd")
        assert "without the characters" in one.status


async def test_a_name_that_is_none_is_not_copied(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "image", [TEA])
    nameless = TEA.descriptor("squashfs")
    del nameless["annotations"]["io.containerd.image.name"]
    (cache / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [nameless]}))
    async with desk(cache) as one:
        await one.open("c", "MenuScreen")
        assert "d  digest" in one.text
        assert "n  name" not in one.text
        await one.press("n")
        assert "no key n here" in one.text
        assert "\x1b]52;c;" not in one.driver.written


async def test_help_shows_every_key_and_finds_them(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image"), (120, 100)) as one:
        await one.open("question_mark", "HelpScreen")
        for action in ACTIONS:
            assert f"{action.label}. {action.help[:30]}" in one.text
        await one.press(*"clipboard")
        await one.until(lambda: "Delete." not in one.text)
        assert "Copy." in one.text
        await one.press(*"xyz")
        await one.until(lambda: "nothing is said about that" in one.text)


def test_no_key_is_one_that_tmux_or_flow_control_takes() -> None:
    taken = {"ctrl+a", "ctrl+b", "ctrl+h", "ctrl+j", "ctrl+s", "ctrl+q", "ctrl+enter"}
    keys = [key for action in ACTIONS for key in action.keys]
    assert not taken & set(keys)
    assert len(keys) == len(set(keys))
    assert all(f"    {action.key_label} " in keys_text() for action in ACTIONS)
