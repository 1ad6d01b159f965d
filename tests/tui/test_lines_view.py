"""Lines of text: however many there are, the first are there at once, and keys are answered."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from ocitui.tui.widgets.lines_view import Line, LinesView
from tests.tui.screen_support import until

MANY = 50_000


class LinesApp(App[None]):
    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__()
        self._shown = lines

    def compose(self) -> ComposeResult:
        yield LinesView(self._shown)


async def whole(pilot: Pilot[None], view: LinesView, rows: int) -> None:
    """Wait until so many rows are laid out."""
    await until(pilot, lambda: view.virtual_size.height == rows, f"{rows} rows")


async def test_the_rows_of_many_lines_follow_the_first_ones() -> None:
    app = LinesApp([])
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LinesView)
        view.set_lines(Line(f"line {number}", "label") for number in range(MANY))
        # What is not laid out yet counts as one row a line.
        assert view.virtual_size.height == MANY
        await pilot.press("j")
        assert view.scroll_offset.y == 1
        await whole(pilot, view, MANY)
        await pilot.press("G")
        await until(pilot, lambda: view.scroll_offset.y == MANY - 10, "the end")
        assert view.text().splitlines() == [f"label   line {number}" for number in range(MANY)]


async def test_the_place_far_down_is_kept_when_the_size_changes() -> None:
    app = LinesApp([Line(f"line {number}") for number in range(MANY)])
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LinesView)
        await whole(pilot, view, MANY)
        view.scroll_to(y=MANY // 2, animate=False, immediate=True)
        await pilot.resize_terminal(60, 12)
        await until(pilot, lambda: view.size.width == 60 and view.scroll_offset.y == MANY // 2, "the place")
        await whole(pilot, view, MANY)


async def test_other_lines_end_the_layout_of_those_before() -> None:
    app = LinesApp([])
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(LinesView)
        view.set_lines(Line(f"line {number}") for number in range(MANY))
        view.set_lines([Line("one"), Line("two")])
        await pilot.pause()
        await whole(pilot, view, 2)
        assert view.text() == "one\ntwo"


@pytest.mark.parametrize("text", ["a" * 50, "漢" * 25, "e\u0301" * 45, "a\x1b[31mb", "two words " * 9, ""])
async def test_no_row_is_wider_than_the_view(text: str) -> None:
    app = LinesApp([Line(text, "label")])
    async with app.run_test(size=(40, 10)):
        view = app.query_one(LinesView)
        rows = view.text().replace("label", "").split("\n")
        assert "".join(rows).replace(" ", "") == text.replace(" ", "").replace("\x1b", "\N{REPLACEMENT CHARACTER}")
        assert all(view.render_line(y).cell_length == view.size.width for y in range(len(rows)))
