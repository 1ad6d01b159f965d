"""Lines of text: however many there are, the first are there at once, and keys are answered."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from textual._styles_cache import StylesCache
from textual.app import App, ComposeResult

from ocitui.tui.widgets.lines import Line, LinesView, LongList, PickList, PickRow
from tests.tui.cache_support import make_cache
from tests.tui.screen_support import LIMIT_SECONDS, desk, text_of

MANY = 50_000


class LinesApp(App[None]):
    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__()
        self._shown = lines

    def compose(self) -> ComposeResult:
        yield LinesView(self._shown)


async def whole(view: LinesView, rows: int) -> None:
    """Wait until so many rows are laid out."""
    await until(lambda: view.virtual_size.height == rows, lambda: f"{view.virtual_size.height} of {rows} rows")


async def at_row(view: LinesView, row: int) -> None:
    """Wait until it is scrolled to this row."""
    await until(lambda: view.scroll_offset.y == row, lambda: f"row {view.scroll_offset.y}, not {row}")


async def until(condition: Callable[[], bool], seen: Callable[[], str]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, seen()
        await asyncio.sleep(0.01)


async def test_the_rows_of_many_lines_follow_the_first_ones() -> None:
    app = LinesApp([])
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LinesView)
        view.set_lines(Line(f"line {number}", "label") for number in range(MANY))
        assert 10 <= view.virtual_size.height < MANY
        await pilot.press("j")
        assert view.scroll_offset.y == 1
        await whole(view, MANY)
        await pilot.press("G")
        await at_row(view, MANY - 10)
        assert text_of(view).splitlines() == [f"label   line {number}" for number in range(MANY)]


async def test_the_place_far_down_is_kept_when_the_size_changes() -> None:
    app = LinesApp([Line(f"line {number}") for number in range(MANY)])
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LinesView)
        await whole(view, MANY)
        view.scroll_to(y=MANY // 2, animate=False, immediate=True)
        await pilot.resize_terminal(60, 12)
        await at_row(view, MANY // 2)
        await whole(view, MANY)


async def test_other_lines_end_the_layout_of_those_before() -> None:
    app = LinesApp([])
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LinesView)
        view.set_lines(Line(f"line {number}") for number in range(MANY))
        view.set_lines([Line("one"), Line("two")])
        await pilot.pause()
        await whole(view, 2)
        assert text_of(view) == "one\ntwo"


async def test_a_long_list_makes_only_the_lines_that_show() -> None:
    made: list[int] = []

    def make(number: int) -> Line:
        made.append(number)
        return Line(f"entry {number} of a very long list of entries", "label")

    app = LinesApp([])
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LinesView)
        view.set_lines([Line("above " * 10), LongList(MANY, make), Line("below")])
        above = 2
        assert view.virtual_size.height == above + MANY + 1
        await pilot.press("G")
        await at_row(view, above + MANY + 1 - 10)
        assert view.render_line(8).text.startswith(f"label     entry {MANY - 1} of a very")
        assert view.render_line(8).cell_length == view.size.width
        assert view.render_line(9).text.startswith("below")
        await pilot.press("home", "j")
        await at_row(view, 1)
        assert view.render_line(1).text.startswith("label     entry 0 of a very")
        assert set(made) <= {*range(20), *range(MANY - 20, MANY)}


@pytest.mark.parametrize("text", ["a" * 50, "漢" * 25, "e\u0301" * 45, "a\x1b[31mb", "two words " * 9, ""])
async def test_no_row_is_wider_than_the_view(text: str) -> None:
    app = LinesApp([Line(text, "label")])
    async with app.run_test(size=(40, 10)):
        view = app.query_one(LinesView)
        rows = text_of(view).replace("label", "").split("\n")
        assert "".join(rows).replace(" ", "") == text.replace(" ", "").replace("\x1b", "\N{REPLACEMENT CHARACTER}")
        assert all(view.render_line(y).cell_length == view.size.width for y in range(len(rows)))


@pytest.mark.slow
@pytest.mark.parametrize("keys", [("j", "j", "j", "j"), ("G",)])
async def test_a_bar_that_comes_back_stands_where_its_text_does(keys: tuple[str, ...], tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        before = one.text
        view = one.pane.query_one("#summary", LinesView)
        await one.press("tab", *keys)
        await one.rest()
        assert view.scroll_y > 0
        for size in ((80, 60), (80, 24)):
            await one.pilot.resize_terminal(*size)
            await one.rest()
        assert view.scroll_y == view.vertical_scrollbar.position == 0
        await one.press("escape")
        await one.rest()
        assert one.text == before


async def test_a_view_of_nothing_has_nothing_laid_out_again_and_lines_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    app = LinesApp([])
    async with app.run_test(size=(40, 10)) as pilot:
        view, laid_out = app.query_one(LinesView), list[object]()
        monkeypatch.setattr(LinesView, "watch_virtual_size", lambda _, size: laid_out.append(size), raising=False)
        await pilot.resize_terminal(30, 10)
        await pilot.pause()
        assert view.size.width < 40
        assert laid_out == []
        view.set_lines([Line("one")])
        assert text_of(view) == "one"
        view.set_lines([])
        assert text_of(view) == ""
        assert view.virtual_size.height == 0


class PickApp(App[None]):
    CSS = "PickList { height: 1fr; }"

    def compose(self) -> ComposeResult:
        yield PickList(id="rows")


@pytest.mark.parametrize(("first", "then"), [(range(60, 70), range(70)), (range(110), range(80, 110))])
async def test_the_row_of_the_cursor_stays_seen_whatever_comes_and_goes_above_it(first: range, then: range) -> None:
    app = PickApp()
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(PickList)
        view.set_rows([PickRow(str(number), "row") for number in first])
        await pilot.pause()
        view.move_to(str(first[-5]))
        await pilot.pause()
        view.set_rows([PickRow(str(number), "row") for number in then])
        at = then.index(first[-5])
        await until(lambda: 0 <= at - view.scroll_offset.y < 10, lambda: f"row {at}, from {view.scroll_offset.y}")
        assert view.key == str(first[-5])


@pytest.mark.slow
async def test_screens_that_are_closed_leave_none_of_their_lines(tmp_path: Path) -> None:
    of_other_tests = [cache for cache in gc.get_objects() if isinstance(cache, StylesCache)]
    async with desk(make_cache(tmp_path / "image")) as one:
        for key in ("t", "p", "v", "question_mark"):
            await one.press(key)
            await one.rest()
            await one.press("escape")
            await one.until(lambda: one.top == "MainScreen")
        await one.rest()
        gc.collect()
        living = [node for screen in one.app.screen_stack for node in screen.walk_children()]
        kept = [cache for cache in gc.get_objects() if isinstance(cache, StylesCache)]
        assert len(kept) <= len(of_other_tests) + len(living) + 4, "but for screens and the tooltip"
