"""What the entry table promises."""

from __future__ import annotations

from time import time

import pytest
from rich.cells import cell_len
from textual.events import MouseScrollDown
from textual.message import Message

from ocitui.doctor.findings import Depth, EntryState, Severity
from ocitui.tui.terminal import to_ascii
from ocitui.tui.widgets.entry_rows import BY_NAME, GUTTER, widths_for
from ocitui.tui.widgets.entry_table import EntryTable
from tests.doctor.entries_support import NOT_LOOKED, OK, digest_of, entries_of
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
        assert line(app.table, 0).split()[:2] == ["NAME", "TAG"]
        assert names(app.table) == ["image000000", "image000001", "image000002"]
        assert all(cell_len(text) == size[0] for text in lines(app.table))
        assert line(app.table, 1).startswith("▸  image000000")
        assert {"1016K", "squashfs" if size[0] > 100 else "sq", "✓", "ok", "1.36"} <= set(line(app.table, 1).split())


_ALL = "NAME TAG DIGEST PLATFORM FMT SIZE AGE USED_BY RESOLVES CHECKED STATE"


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize(
    ("width", "labels"),
    [
        (200, _ALL),
        (153, _ALL),
        (116, "NAME TAG FMT SIZE AGE USED_BY RESOLVES CHECKED STATE"),
        (100, "NAME TAG FMT SIZE AGE USED_BY RESOLVES STATE"),
        (80, "NAME TAG FMT SIZE AGE USED_BY STATE"),
        (60, "NAME TAG SIZE USED_BY STATE"),
        (41, "NAME SIZE STATE"),
    ],
)
async def test_columns_drop_in_a_fixed_order(width: int, labels: str, used: bool) -> None:
    app = TableApp(make_entries(1), {f"{digest_of(0)}.squashfs": "loop7, loop9"} if used else None)
    async with app.run_test(size=(width, 24)):
        shown = line(app.table, 0).replace("USED BY", "USED_BY").split()
        wanted = [label for label in labels.split() if used or label != "USED_BY"]
        # The room of what is not in use may go to the next in order.
        assert [label for label in shown if label in labels.split()] == wanted
        assert len(shown) <= len(labels.split())
        assert ("loop7 +1" in line(app.table, 1)) is (used and "USED_BY" in labels)
        assert all(cell_len(text) == width for text in lines(app.table)[:2])


@pytest.mark.parametrize("width", range(40, 201, 7))
@pytest.mark.parametrize("used", [False, True])
def test_a_wider_table_never_shows_fewer_columns_and_fills_its_line(width: int, used: bool) -> None:
    widths = widths_for(width, used)
    assert GUTTER + sum(widths.values()) + len(widths) - 1 == width
    assert set(widths_for(width, used)) <= set(widths_for(width + 40, used))
    assert all(room >= BY_NAME[name].width for name, room in widths.items())


@pytest.mark.parametrize("width", [60, 80, 120])
async def test_widths_do_not_depend_on_what_is_scrolled_to(width: int) -> None:
    long = [make_entry(100 + n, "registry.example.com/" + "x" * 60, reference="y" * 30, size=2**40) for n in range(50)]
    app = TableApp([*make_entries(50), *long])
    async with app.run_test(size=(width, 24)) as pilot:
        before = line(app.table, 0)
        edges = [before.index(label) + len(label) for label in ("SIZE", "AGE")]
        for key, size in (("g", "1016K"), ("G", "1.0T")):
            await pilot.press(key)
            assert line(app.table, 0) == before
            assert all(text[: edges[0]].endswith(f" {size}") for text in lines(app.table)[1:])
            assert all(text[edges[1]] == " " != text[edges[1] - 1] for text in lines(app.table)[1:])


async def test_the_name_carries_the_tag_where_that_has_no_column() -> None:
    app = TableApp([make_entry(1, "busybox", reference="1.35"), make_entry(2, "busybox")])
    async with app.run_test(size=(41, 24)):
        assert names(app.table) == ["busybox:1.35", "busybox:1.36"]


async def test_state_shows_a_glyph_and_a_word() -> None:
    states = {
        NO_CONFIG: "✗ no config",
        NOT_LOOKED: "? not looked",
        EntryState("no packed, no config", Severity.CRITICAL): "✖ no packed, no config",
        EntryState("odd tag", Severity.LOW): "· odd tag",
        EntryState("old mark", Severity.MEDIUM): "! old mark",
        OK: "✓ ok",
    }
    app = TableApp([make_entry(n, state=state, size=None) for n, state in enumerate(states)])
    async with app.run_test(size=(200, 24)):
        for y, shown in enumerate(states.values(), 1):
            assert line(app.table, y).rstrip().endswith(f" {shown}")


async def test_a_sound_row_says_what_that_rests_on_and_where_its_name_leads() -> None:
    deep = EntryState("ok", None, Depth.DEEP, checked=int(time()) - 40 * 86_400)
    same = [make_entry(number, "web", reference="1") for number in (1, 2)]
    app = TableApp([*same, make_entry(3, state=deep), make_entry(4, "", reference="")])
    async with app.run_test(size=(80, 24)) as pilot:
        said = [text.rstrip().split(" ", 1)[-1] for text in lines(app.table)[1:5]]
        for text, state in zip(said, ("▽ overruled", "✓ ok", "✓ deep 5w", "– never hit"), strict=True):
            assert text.endswith(f" {state}")
        await pilot.resize_terminal(130, 24)
        await pilot.pause()
        said = [" ".join(text.split()) for text in lines(app.table)[1:5]]
        for text, state in zip(
            said,
            ("▽ overruled header ✓ ok", "▲ wins header ✓ ok", "▲ wins deep 5w ✓ ok", "– never hit header ✓ ok"),
            strict=True,
        ):
            assert text.endswith(f" {state}")


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
        assert " registry.example…/team/application " in line(app.table, 1)


# Text that comes from the disk


async def test_control_characters_never_reach_the_terminal() -> None:
    evil = "a\x1b]0;b\x07\x9b\u202ec"
    bad = EntryState(evil, Severity.HIGH)
    entry = make_entry(1, evil, reference=evil, format=evil, platform=f"{evil}/{evil}", state=bad)
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
        for shown in ("1016K", "✓ ok"):
            assert cell_len(wide[: wide.index(shown)]) == plain.index(shown)


async def test_every_sign_has_its_like_in_ascii() -> None:
    odd = make_entry(2, "映像" * 30, state=NOT_LOOKED)
    app = TableApp([make_entry(1, "long" * 30), odd, make_entry(3, state=NO_CONFIG)])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("space")
        app.table.sort_by("name")
        shown = [to_ascii(text) for text in lines(app.table)]
        assert "".join(shown).isascii()
        assert "NAME ^" in shown[0]
        assert any(text.startswith(" * longlong") for text in shown)
        assert any("~" in text.split()[1] for text in shown if text.strip())
        assert any(text.startswith(">  ") for text in shown)
        assert any("? not looked" in text for text in shown)
        assert any("x no config" in text for text in shown)
        app.table.sort_by("name", reverse=True)
        assert "NAME v" in to_ascii(line(app.table, 0))


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


@pytest.mark.slow
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
        app.table.filter_by("image000001")
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
        assert "✗ no config" in line(app.table, 3)
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
        size = line(table, 0).index("SIZE")
        for reverse, arrow in [(True, "SIZE▾"), (False, "SIZE▴"), (True, "SIZE▾")]:
            await pilot.click(EntryTable, offset=(size, 0))
            assert (table.rows.sort_column, table.rows.reverse) == ("size", reverse)
            assert arrow in line(table, 0)
        await pilot.click(EntryTable, offset=(5, 0))
        assert (table.rows.sort_column, table.rows.reverse) == ("name", False)
        await pilot.click(EntryTable, offset=(0, 0))
        assert table.rows.sort_column is None


@pytest.mark.slow
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


async def test_how_long_ago_a_row_was_checked_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = 1_700_000_000
    monkeypatch.setattr("ocitui.text.time", lambda: checked + 60.0)
    app = TableApp([make_entry(1, state=EntryState("ok", None, Depth.DEEP, checked))])
    async with app.run_test(size=(80, 24)):
        assert "deep 1m" in line(app.table, 1)
        monkeypatch.setattr("ocitui.text.time", lambda: checked + 40 * 86_400.0)
        assert "deep 5w" in line(app.table, 1)
