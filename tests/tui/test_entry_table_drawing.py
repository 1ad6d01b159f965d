"""What the entry table draws, and how little of it goes over the line."""

from __future__ import annotations

import pytest
from rich.color import ColorType
from textual.pilot import Pilot

from tests.doctor.entries_support import NOT_LOOKED, Made
from tests.tui.entry_table_support import (
    NO_CONFIG,
    TableApp,
    become,
    cursor_line,
    lines,
    load,
    make_entries,
    make_entry,
    traffic_of,
)


async def start(pilot: Pilot[None], app: TableApp, row: int = 50) -> list[Made]:
    entries = make_entries(100)
    load(app.table, entries)
    app.table.move_cursor_to(row)
    await pilot.pause()
    return entries


@pytest.mark.parametrize("column", [None, "name"])
async def test_a_row_out_of_view_costs_no_byte(column: str | None) -> None:
    app = TableApp()
    async with app.run_test(size=(80, 24), headless=False) as pilot:
        entries = await start(pilot, app)
        app.table.sort_by(column)
        new = make_entry(999)
        async with traffic_of(pilot, app) as traffic:
            become(app.table, 99, entries[99].but(state=NO_CONFIG, size=7))
            load(app.table, [*entries, new])
            load(app.table, [*entries[1:-1], new])
            load(app.table, [*entries[1:], new])
        assert (traffic.bytes, traffic.drawn) == (0, [])


async def test_the_same_rows_again_cost_no_byte() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 24), headless=False) as pilot:
        await start(pilot, app)
        async with traffic_of(pilot, app) as traffic:
            load(app.table, make_entries(100))
        assert traffic.bytes == 0


async def test_a_row_in_view_costs_its_line() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 24), headless=False) as pilot:
        entries = await start(pilot, app)
        async with traffic_of(pilot, app) as traffic:
            become(app.table, 52, entries[52].but(state=NO_CONFIG))
        assert traffic.drawn == [52 - app.table.top + 1]
        assert 0 < traffic.bytes < 300


async def test_a_step_of_the_cursor_costs_two_lines() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 24), headless=False) as pilot:
        await start(pilot, app)
        at = cursor_line(app.table) + 1
        for key in ("down", "up", "space"):
            async with traffic_of(pilot, app) as traffic:
                await pilot.press(key)
            assert sorted(traffic.drawn) == [at, at + 1]
            assert 0 < traffic.bytes < 433


async def test_a_plain_row_is_one_segment() -> None:
    app = TableApp([make_entry(0), make_entry(1), make_entry(2, state=NO_CONFIG)])
    async with app.run_test(size=(80, 24)):
        assert [len(app.table.render_line(y)) for y in range(5)] == [1, 1, 1, 2, 1]


async def test_other_sizes_keep_the_cursor_in_view() -> None:
    app = TableApp(make_entries(100))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*["down"] * 20)
        for size in [(80, 10), (40, 5), (120, 40), (80, 24)]:
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert app.table.cursor_row == 20
            assert 0 <= cursor_line(app.table) < app.table.page
            assert lines(app.table)[cursor_line(app.table) + 1].startswith("▸")


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark", "ansi-light"])
async def test_each_theme_colours_the_rows(theme: str) -> None:
    app = TableApp([make_entry(0), make_entry(1), make_entry(2, state=NO_CONFIG), make_entry(3, state=NOT_LOOKED)])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("space")
        app.theme = theme
        await pilot.pause()
        drawn = [[segment.style for segment in app.table.render_line(y)] for y in range(6)]
        marked, cursor, bad = drawn[1][0], drawn[2][0], drawn[3][1]
        assert len({str(style) for style in (marked, cursor, bad, drawn[5][0])}) == 4
        if theme.startswith("ansi"):
            colours = [
                colour
                for styles in drawn
                for style in styles
                if style
                for colour in (style.color, style.bgcolor)
                if colour
            ]
            assert {colour.type for colour in colours} <= {ColorType.DEFAULT, ColorType.STANDARD}
