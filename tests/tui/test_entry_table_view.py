"""How the entry table sorts and filters, and what stays where it was."""

from __future__ import annotations

import pytest

from tests.doctor.entries_support import NOT_LOOKED
from tests.tui.entry_table_support import (
    NO_CONFIG,
    TableApp,
    become,
    cursor_line,
    lines,
    make_entries,
    make_entry,
    names,
)


async def test_sorting_keeps_the_cursor_on_its_entry_and_line() -> None:
    entries = make_entries(200)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)) as pilot:
        app.table.move_cursor_to(100)
        await pilot.press("down")
        key, at = app.table.cursor_position, cursor_line(app.table)
        for column, reverse in [("digest", False), ("digest", True), ("size", False), (None, False)]:
            app.table.sort_by(column, reverse)
            assert app.table.cursor_position == key
            assert cursor_line(app.table) == at


async def test_each_column_sorts_and_ties_go_by_digest() -> None:
    entries = [
        make_entry(1, "b", size=5, modified=0.5, state=NO_CONFIG),
        make_entry(2, "A", size=None, modified=2.0, format="erofs"),
        make_entry(3, "c", size=900, modified=1.0, reference="0"),
        make_entry(4, "c", size=10, modified=3.0, state=NOT_LOOKED, platform=""),
    ]
    app = TableApp(entries)
    async with app.run_test(size=(120, 24)):
        orders: dict[str | None, str] = {"name": "2134", "size": "2143", "age": "2431", "state": "1423"}
        orders |= {"tag": "3124", "format": "2134", "platform": "4123", "digest": "1234", None: "1234"}
        for column, order in orders.items():
            app.table.sort_by(column)
            app.table.mark_all_shown()
            assert app.table.rows.marked == [int(n) - 1 for n in order], column
            app.table.sort_by(column, reverse=True)
            assert app.table.rows.marked == [int(n) - 1 for n in reversed(order)], column


async def test_a_filter_keeps_the_cursor_and_says_how_many_marks_it_hides() -> None:
    entries = make_entries(200)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.table
        table.move_cursor_to(150)
        await pilot.press("space", "space", "up", "up")
        table.filter_by("image000150")
        assert (table.shown, table.total, table.rows.hidden_marks) == (1, 200, 1)
        assert table.rows.marked == [150, 151]
        assert table.cursor_position == 150
        table.filter_by("")
        assert (table.shown, table.rows.hidden_marks, table.cursor_position) == (200, 0, 150)
        table.filter_by("image0000")
        table.clear_marks()
        assert (table.rows.marked, table.rows.hidden_marks) == ([], 0)


async def test_the_line_of_the_cursor_returns_with_the_rows_around_it() -> None:
    app = TableApp(make_entries(200))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("pagedown", "down")
        before = lines(app.table)
        for text in ("2", "24", "24 !5", ""):
            app.table.filter_by(text)
        assert lines(app.table) == before


async def test_the_cursor_returns_when_the_filter_that_hid_its_entry_goes() -> None:
    entries = make_entries(200)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.table
        table.move_cursor_to(20)
        await pilot.pause()
        at = cursor_line(table)
        for text in ("image00010", "image000105"):
            table.filter_by(text)
        assert table.cursor_position == 105
        table.filter_by("")
        assert (table.cursor_position, cursor_line(table)) == (20, at)
        table.filter_by("image00010")
        await pilot.press("down")
        table.filter_by("")
        assert table.cursor_position == 101


@pytest.mark.parametrize(
    "texts", [["!im", "!image1"], ["name", "name:5"], ["size<1", "size<1000000000"], ["a", "a b", ""]]
)
async def test_typing_on_filters_as_the_whole_text_does(texts: list[str]) -> None:
    entries = [make_entry(n, f"{word}{n}", size=n * 1000) for n, word in enumerate(["a", "name", "ab", "image", "b"])]
    app, fresh = TableApp(entries), TableApp(entries)
    async with app.run_test(size=(80, 24)), fresh.run_test(size=(80, 24)):
        for text in texts:
            app.table.filter_by(text)
        fresh.table.filter_by(texts[-1])
        assert names(app.table) == names(fresh.table)


async def test_changes_pass_the_filter_in_force() -> None:
    entries = make_entries(9)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)):
        table = app.table
        table.filter_by("state:bad")
        assert table.cursor_position is None
        for position in (3, 4):
            become(table, position, entries[position].but(state=NO_CONFIG))
        assert names(table) == ["image000003", "image000004"]
        become(table, 3, entries[3])
        assert names(table) == ["image000004"]
