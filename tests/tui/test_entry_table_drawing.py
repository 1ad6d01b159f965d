"""What the entry table draws, and how little of it goes over the line."""

from __future__ import annotations

import pytest
from rich.color import ColorType
from textual.pilot import Pilot
from textual.widgets import Static

from ocitui.doctor import Depth, EntryState
from ocitui.tui.terminal import THEMES, palette, to_ascii
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

_NOW = 1_700_000_000.0


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


async def test_rows_whose_age_goes_on_are_drawn_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.text.time", lambda: _NOW)
    made = [make_entry(number, modified=_NOW - 60 * number) for number in range(3)]
    deep = EntryState("ok", None, Depth.DEEP, int(_NOW) - 60)
    app = TableApp([*made, make_entry(3, modified=_NOW - 86_400, state=deep), make_entry(4, modified=_NOW - 86_400)])
    async with app.run_test(size=(80, 24), headless=False) as pilot:
        async with traffic_of(pilot, app) as traffic:
            monkeypatch.setattr("ocitui.text.time", lambda: _NOW + 120)
            await pilot.press("down")
        assert sorted(traffic.drawn) == [1, 2, 3, 4]


async def test_a_row_changes_its_style_only_where_that_is_seen() -> None:
    app = TableApp([make_entry(0), make_entry(1), make_entry(2, state=NO_CONFIG), make_entry(3, size=2**31)])
    async with app.run_test(size=(80, 24)):
        # Name and format, size and age, sign, state; the cursor's row needs a sign of its own.
        assert [len(app.table.render_line(y)) for y in range(6)] == [2, 4, 4, 5, 5, 1]


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


@pytest.mark.parametrize("theme", THEMES.values())
async def test_each_theme_tells_the_rows_apart(theme: str) -> None:
    app = TableApp([make_entry(0), make_entry(1), make_entry(2, state=NO_CONFIG), make_entry(3, state=NOT_LOOKED)])
    async with app.run_test(size=(80, 24)) as pilot:
        app.theme = theme
        await pilot.press("space")
        await pilot.pause()
        drawn = [[segment.style for segment in app.table.render_line(y)] for y in range(6)]
        assert len({str(styles) for styles in drawn[1:]}) == 5
        if theme == THEMES["ansi"]:
            styles = [style for styles in drawn for style in styles if style]
            colours = {colour.type for style in styles for colour in (style.color, style.bgcolor) if colour}
            assert colours <= {ColorType.DEFAULT, ColorType.STANDARD}


@pytest.mark.parametrize("colours", ["ansi", "none"])
async def test_without_colours_and_in_ascii_each_row_says_what_it_is(
    colours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colours == "none":
        monkeypatch.setenv("NO_COLOR", "1")
    app = TableApp([make_entry(0), make_entry(1), make_entry(2, state=NO_CONFIG), make_entry(3)])
    async with app.run_test(size=(80, 24)) as pilot:
        app.theme = THEMES["ansi"]
        await pilot.press("space")
        await pilot.pause()
        marked, cursor, bad, sound = ([*app.table.render_line(y)] for y in range(1, 5))
        said = [to_ascii("".join(segment.text for segment in row)) for row in (marked, cursor, bad, sound)]
        assert [text[:3] for text in said] == [" * ", ">  ", "   ", "   "]
        assert [text.split("K", 1)[1].split(maxsplit=1)[1].strip() for text in said] == [
            "+ ok", "+ ok", "x no config", "+ ok"
        ]  # fmt: skip
        assert all(segment.style and segment.style.reverse for segment in cursor)
        assert not any(segment.style and segment.style.reverse for row in (marked, bad, sound) for segment in row)
        assert any(segment.style and segment.style.bold for segment in marked)
        assert any(segment.style and segment.style.bold for segment in bad)
        assert not any(segment.style and segment.style.bold for segment in sound)
        if colours == "none":
            styles = [segment.style for row in (marked, cursor, bad, sound) for segment in row if segment.style]
            assert not any(style.color or style.bgcolor for style in styles)
        app.table.blur()
        await pilot.pause()
        assert all(segment.style and segment.style.underline for segment in app.table.render_line(2))


async def test_rows_of_before_show_nothing_as_good_and_keep_their_columns() -> None:
    app = TableApp([make_entry(0), make_entry(1), make_entry(2, state=NO_CONFIG), make_entry(3, size=2**31)])
    async with app.run_test(size=(80, 24)) as pilot:
        app.table.sort_by("name")
        before, good = lines(app.table), palette(app.table.app)["good"].color
        assert any(segment.style and segment.style.color == good for segment in app.table.render_line(2))
        app.table.stale = "AS OF 13:47Z"
        await pilot.pause()
        assert "NAME ▴ AS OF 13:47Z " in lines(app.table)[0]
        assert lines(app.table)[0].split("AS OF 13:47Z")[1].split() == before[0].split()[2:]
        assert [lines(app.table)[0].index(label) for label in ("TAG", "SIZE", "STATE")] == [
            before[0].index(label) for label in ("TAG", "SIZE", "STATE")
        ]
        assert lines(app.table)[1:] == before[1:]
        muted, bad = palette(app.table.app)["muted"], palette(app.table.app)["bad"]
        assert {segment.style for y in (2, 4) for segment in app.table.render_line(y) if segment.text.strip()} == {
            muted
        }
        assert bad in {segment.style for segment in app.table.render_line(3)}
        assert not any(
            segment.style and segment.style.color == good for y in range(6) for segment in app.table.render_line(y)
        )


@pytest.mark.parametrize("width", [40, 42, 54, 55, 80])
async def test_of_when_the_rows_are_is_shown_whole(width: int) -> None:
    app = TableApp(make_entries(3))
    async with app.run_test(size=(width, 24)) as pilot:
        app.table.stale = "AS OF 13:47Z"
        await pilot.pause()
        assert " AS OF 13:47Z " in lines(app.table)[0]
        assert "SIZE" in lines(app.table)[0]


@pytest.mark.parametrize(("row", "top"), [(50, 40), (5, 0)])
async def test_what_covers_the_table_leaves_every_row_on_its_line(row: int, top: int) -> None:
    app = TableApp(make_entries(100))
    async with app.run_test(size=(80, 24)) as pilot:
        banner = Static("\n\n")
        banner.styles.height, banner.display = 3, False
        await app.mount(banner, before=app.table)
        app.table.action_page(0)
        app.table.move_cursor_to(row)
        app.table._set_top(top)
        await pilot.pause()
        there = dict(on_screen(app))
        banner.display = True
        await pilot.pause()
        app.table.cover(3)
        await pilot.pause()
        covered = on_screen(app)
        assert len(covered) == len(there) - 3
        assert all(there[y] == name for y, name in covered.items())
        banner.display = False
        await pilot.pause()
        app.table.cover(-3)
        await pilot.pause()
        assert on_screen(app) == there


def on_screen(app: TableApp) -> dict[int, str]:
    """The rows by the lines of the screen they stand on."""
    return {app.table.region.y + y: text[3:20] for y, text in enumerate(lines(app.table)) if y}
