"""What the entry table promises."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.events import MouseScrollDown
from textual.message import Message

from ocitui.doctor.findings import EntryState
from ocitui.tui.terminal import to_ascii
from ocitui.tui.widgets.entry_table import EntryTable
from tests.doctor.entries_support import NOT_LOOKED, entries_of
from tests.tui.entry_table_support import (
    NO_CONFIG,
    TableApp,
    become,
    cursor_line,
    line,
    lines,
    load,
    make_entries,
    make_entry,
    marked_names,
    names,
    traffic_of,
)

SIZES = [(80, 24), (120, 40)]


# Layout


@pytest.mark.parametrize("size", SIZES)
async def test_a_row_for_each_entry_below_the_labels(size: tuple[int, int]) -> None:
    app = TableApp(make_entries(3))
    async with app.run_test(size=size):
        assert line(app.table, 0).split()[:2] == ["Name", "Tag"]
        assert names(app.table) == ["image000000", "image000001", "image000002"]
        assert all(cell_len(text) == size[0] for text in lines(app.table))
        assert line(app.table, 1).startswith("▸  image000000")
        assert {"1016K", "squashfs", "✓", "ok", "1.36"} <= set(line(app.table, 1).split())


@pytest.mark.parametrize(
    ("width", "labels"),
    [
        (120, "Name Tag Format Digest Platform Size Age State"),
        (90, "Name Tag Format Digest Size Age State"),
        (80, "Name Tag Format Digest Size State"),
        (74, "Name Format Digest Size State"),
        (64, "Name Format Digest State"),
        (50, "Name Digest State"),
        (40, "Name Digest State"),
    ],
)
async def test_columns_drop_in_a_fixed_order(width: int, labels: str) -> None:
    app = TableApp(make_entries(1))
    async with app.run_test(size=(width, 24)):
        assert line(app.table, 0).split() == labels.split()
        assert cell_len(line(app.table, 1)) == width


async def test_the_name_carries_the_tag_where_that_has_no_column() -> None:
    app = TableApp([make_entry(1, "busybox", reference="1.35"), make_entry(2, "busybox")])
    async with app.run_test(size=(60, 24)):
        assert names(app.table) == ["busybox:1.35", "busybox:1.36"]


async def test_state_shows_a_glyph_and_a_word() -> None:
    states = [NO_CONFIG, NOT_LOOKED, EntryState("no packed, no config", Severity.HIGH)]
    app = TableApp([make_entry(n, state=state, size=None) for n, state in enumerate(states)])
    async with app.run_test(size=(140, 24)):
        assert "! no config" in line(app.table, 1)
        assert "? -" in line(app.table, 2)
        assert "! no packed, no config" in line(app.table, 3)


async def test_an_empty_table_shows_its_placeholder() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 24)) as pilot:
        assert line(app.table, 1).strip() == "No entries."
        app.table.placeholder = "Reading \x1b[31m…"
        await pilot.pause()
        assert line(app.table, 1).strip() == "Reading \N{REPLACEMENT CHARACTER}[31m…"
        assert (app.table.cursor_position, app.table.cursor_entry, app.table.shown) == (None, None, 0)
        await pilot.press("down", "up", "space", "enter", "g", "G", "pagedown", "pageup")
        assert app.messages == []


async def test_long_names_are_cut_in_their_middle() -> None:
    app = TableApp([make_entry(1, "registry.example.com:5000/team/application")])
    async with app.run_test(size=(80, 24)):
        assert " registry…/team/application " in line(app.table, 1)


# Text that comes from the disk


async def test_control_characters_never_reach_the_terminal() -> None:
    evil = "a\x1b]0;b\x07\x9b\u202ec"
    entry = make_entry(
        1, evil, reference=evil, format=evil, platform=f"{evil}/{evil}", state=EntryState(evil, Severity.HIGH)
    )
    app = TableApp([entry.but(digest=f"sha256:{evil}")])
    async with app.run_test(size=(200, 24), headless=False) as pilot:
        assert not set("\x1b\x07\x9b\u202e") & set(line(app.table, 1))
        async with traffic_of(pilot, app) as traffic:
            app.table.refresh()
        assert traffic.bytes
        assert "]0;b\x07" not in traffic.text
        assert "\u202e" not in traffic.text


@pytest.mark.parametrize("name", ["映像" * 3, "映像" * 30, "a" + "映像" * 30, "e\u0301tude" * 9, "ünïcode"])
@pytest.mark.parametrize("width", [80, 120, 41])
async def test_wide_characters_keep_the_columns_aligned(name: str, width: int) -> None:
    app = TableApp([make_entry(1, "plain", reference=""), make_entry(2, name, reference="")])
    async with app.run_test(size=(width, 24)):
        plain, wide = line(app.table, 1), line(app.table, 2)
        assert cell_len(wide) == width
        digests = [make_entry(number).digest[7:19] for number in (1, 2)]
        assert cell_len(wide[: wide.index(digests[1])]) == plain.index(digests[0])


async def test_every_sign_has_its_like_in_ascii() -> None:
    odd = make_entry(2, "映像" * 30, state=NOT_LOOKED)
    app = TableApp([make_entry(1, "long" * 30), odd, make_entry(3, state=NO_CONFIG)])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("space")
        app.table.sort_by("name")
        assert to_ascii("".join(lines(app.table))).isascii()
        assert "Name^" in to_ascii(line(app.table, 0))
        assert any(text.startswith(" * longlong") for text in map(to_ascii, lines(app.table)))
        assert any(".." in text.split()[1] for text in map(to_ascii, lines(app.table)))
        assert any(text.startswith(">  ") for text in map(to_ascii, lines(app.table)))
        assert any("? -" in text for text in map(to_ascii, lines(app.table)))
        app.table.sort_by("name", reverse=True)
        assert "Namev" in to_ascii(line(app.table, 0))


# Keys


async def test_keys_move_the_cursor() -> None:
    app = TableApp(make_entries(100))
    async with app.run_test(size=(80, 24)) as pilot:
        steps = {"down": 1, "j": 2, "up": 1, "k": 0, "G": 99, "g": 0, "end": 99, "home": 0}
        for key, row in {**steps, "pagedown": 23, "pageup": 0}.items():
            await pilot.press(key)
            assert app.table.cursor_row == row, key
        await pilot.press("up")
        assert app.table.cursor_row == 0


async def test_the_edge_recentres_by_half_a_page() -> None:
    app = TableApp(make_entries(100))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*["down"] * 22)
        assert app.table.top == 0
        assert cursor_line(app.table) == 22
        await pilot.press("down")
        assert app.table.cursor_row == 23
        assert cursor_line(app.table) == 11
        await pilot.press(*["up"] * 12)
        assert app.table.cursor_row == 11
        assert app.table.top == 0


async def test_a_page_keeps_the_cursor_on_its_line() -> None:
    app = TableApp(make_entries(100))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "down", "pagedown")
        assert (app.table.cursor_row, cursor_line(app.table)) == (25, 2)
        await pilot.press("pageup")
        assert (app.table.cursor_row, cursor_line(app.table)) == (2, 2)


async def test_messages_say_what_happened() -> None:
    app = TableApp(make_entries(3))
    async with app.run_test(size=(80, 24)) as pilot:
        assert told(app) == [EntryTable.CountsChanged, EntryTable.Highlighted]
        await pilot.press("down")
        assert told(app) == [EntryTable.Highlighted]
        await pilot.press("space")
        assert told(app) == [EntryTable.CountsChanged, EntryTable.Highlighted]
        await pilot.press("enter")
        assert told(app) == [EntryTable.Opened]
        app.table.sort_by("digest", reverse=True)
        await pilot.pause()
        assert told(app) == []
        app.table.filter_text = "image000001"
        await pilot.pause()
        assert told(app) == [EntryTable.CountsChanged, EntryTable.Highlighted]


def told(app: TableApp) -> list[type[Message]]:
    """What the table told since this was asked last."""
    messages, app.messages = app.messages, []
    return [type(message) for message in messages]


# Rows that come and go


@pytest.mark.parametrize("size", SIZES)
async def test_rows_above_come_and_go_and_nothing_moves(size: tuple[int, int]) -> None:
    entries = make_entries(200)
    app = TableApp(entries)
    async with app.run_test(size=size) as pilot:
        table = app.table
        table.move_cursor_to(100)
        await pilot.press("down", "down", "space")
        await pilot.pause()
        app.messages.clear()
        before, marked = lines(table), marked_names(table)
        new = [make_entry(n) for n in (900, 901)]
        for rows in ([*new, *entries], [*new, *entries[50:]], entries[60:]):
            load(table, rows)
            assert lines(table) == before
            assert marked_names(table) == marked
        await pilot.pause()
        assert not any(isinstance(message, EntryTable.Highlighted) for message in app.messages)


@pytest.mark.parametrize("many", [1, 600])
@pytest.mark.parametrize("known", [True, False])
async def test_few_or_many_rows_come_and_nothing_moves(many: int, known: bool) -> None:
    entries = make_entries(1000)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)) as pilot:
        app.table.sort_by("name", reverse=True)
        app.table.move_cursor_to(800)
        await pilot.pause()
        before = lines(app.table)
        assert app.table.rows.entries is not None
        more = entries_of([*(make_entry(2000 + n) for n in range(many)), *entries])
        app.table.load(more, more.moves_from(app.table.rows.entries) if known else None)
        assert lines(app.table) == before
        assert app.table.total == 1000 + many


async def test_the_cursor_of_a_removed_entry_goes_to_the_next_else_the_one_before() -> None:
    entries = make_entries(4)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)):
        table = app.table
        table.move_cursor_to(1)
        for rows, under in (
            ([entries[0], entries[3]], "image000003"),
            (entries[:1], "image000000"),
            ([], None),
            (entries, "image000000"),
        ):
            load(table, rows)
            assert (table.cursor_entry.name if table.cursor_entry else None) == under
            assert table.shown == len(rows)


async def test_marks_go_with_their_entries() -> None:
    entries = make_entries(4)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)):
        app.table.mark_all_shown()
        for rows in (entries[1:], entries[2:], [*entries[2:], make_entry(9)]):
            load(app.table, rows)
            assert marked_names(app.table) == [one.name for one in rows if one in entries]


async def test_what_is_known_of_an_entry_is_shown_at_once() -> None:
    entries = make_entries(4)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)):
        become(app.table, 2, entries[2].but(state=NO_CONFIG, size=5000))
        assert "! no config" in line(app.table, 3)
        assert "4.9K" in line(app.table, 3)
        assert app.table.cursor_row == 0


# Mouse


async def test_a_click_selects_and_another_opens() -> None:
    app = TableApp(make_entries(9))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.click(EntryTable, offset=(10, 4))
        assert app.table.cursor_position == 3
        assert opened(app) == []
        await pilot.click(EntryTable, offset=(10, 4))
        assert opened(app) == [3]
        await pilot.click(EntryTable, offset=(10, 20))
        assert app.table.cursor_position == 3


@pytest.mark.parametrize("row", [0, 5])
async def test_a_double_click_opens_once(row: int) -> None:
    app = TableApp(make_entries(9))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.double_click(EntryTable, offset=(10, row + 1))
        assert opened(app) == [row]


def opened(app: TableApp) -> list[int | None]:
    """The entry under the cursor, once for each time it was opened."""
    return [app.table.cursor_position for message in app.messages if isinstance(message, EntryTable.Opened)]


async def test_a_click_on_a_label_sorts_and_another_reverses() -> None:
    app = TableApp(make_entries(9))
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.table
        size = line(table, 0).index("Size")
        for reverse, arrow in [(True, "Size▾"), (False, "Size▴"), (True, "Size▾")]:
            await pilot.click(EntryTable, offset=(size, 0))
            assert (table.rows.sort_column, table.rows.view.reverse) == ("size", reverse)
            assert arrow in line(table, 0)
        await pilot.click(EntryTable, offset=(5, 0))
        assert (table.rows.sort_column, table.rows.view.reverse) == ("name", False)
        await pilot.click(EntryTable, offset=(0, 0))
        assert table.rows.sort_column is None


async def test_the_wheel_scrolls_and_leaves_the_cursor() -> None:
    entries = make_entries(100)
    app = TableApp(entries)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.table
        for _ in range(60):
            await pilot._post_mouse_events([MouseScrollDown], EntryTable, offset=(5, 5))
        assert table.cursor_row == 0
        assert table.top == 100 - table.page
        top = names(table)
        load(table, entries[9:])
        assert names(table) == top
        await pilot.press("down")
        assert names(table)[1] == "image000010"
