"""A difference ends where the whole does: the rows of the entry table, without a screen."""

from __future__ import annotations

from dataclasses import dataclass
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache.entries import OK, Entry, EntryKey
from ocitui.tui.widgets import entry_rows
from ocitui.tui.widgets.entry_columns import BY_NAME
from ocitui.tui.widgets.entry_rows import EntryRows
from ocitui.tui.widgets.entry_table import EntryTable
from tests.tui.entry_table_support import NO_CONFIG, make_entry

FILTERS = ("", "state:bad", "size>3", "!1", "e 1")


@dataclass(frozen=True)
class Change:
    """One call of apply: entries by number with their sizes, numbers to remove, and where the order is cut anew."""

    sizes: dict[int, int]
    removed: set[int]
    cut: int | None


numbers = st.integers(0, 15)
changes = st.builds(
    Change, st.dictionaries(numbers, st.integers(0, 6)), st.sets(numbers), st.none() | st.integers(0, 9)
)
columns = st.none() | st.sampled_from(sorted(BY_NAME))
filters = st.sampled_from(FILTERS)
many = st.sampled_from([2, 8, 500])


def entry(number: int, size: int) -> Entry:
    """An entry whose key depends on its number alone."""
    return make_entry(number, f"e{number}", size=size, state=NO_CONFIG if size % 2 else OK)


def apply(rows: EntryRows | EntryTable, current: dict[EntryKey, Entry], change: Change) -> dict[EntryKey, Entry]:
    """Make the change, and give all entries after it in index order."""
    changed = {new.key: new for new in (entry(*pair) for pair in change.sizes.items())}
    removed = {entry(number, 0).key for number in change.removed} - changed.keys()
    after = {key: value for key, value in {**current, **changed}.items() if key not in removed}
    order = list(after)
    if change.cut is not None:
        order = order[change.cut :] + order[: change.cut]
    rows.apply(changed, removed, None if change.cut is None else order)
    return {key: after[key] for key in order}


@given(st.lists(changes, max_size=6), columns, st.booleans(), filters, many)
def test_changes_end_in_the_view_a_load_gives(
    steps: list[Change], column: str | None, reverse: bool, text: str, many: int
) -> None:
    rows, current = EntryRows(), dict[EntryKey, Entry]()
    rows.sort_by(column, reverse)
    rows.set_filter(text)
    with patch.object(entry_rows, "MANY", many):
        for step in steps:
            current = apply(rows, current, step)
    fresh = EntryRows()
    fresh.load(current.values())
    fresh.set_filter(text)
    fresh.sort_by(column, reverse)
    assert rows.entries == fresh.entries
    assert list(rows.view) == list(fresh.view)
    rows.set_filter("")
    fresh.set_filter("")
    assert list(rows.view) == list(fresh.view)


@given(st.lists(st.tuples(changes, columns, filters), max_size=6), st.data())
def test_every_row_is_found_and_marks_are_counted(
    steps: list[tuple[Change, str | None, str]], data: st.DataObject
) -> None:
    rows, current = EntryRows(), dict[EntryKey, Entry]()
    for change, column, text in steps:
        current = apply(rows, current, change)
        rows.marks.update(data.draw(st.sets(st.sampled_from(list(current)))) if current else ())
        rows.sort_by(column, reverse=data.draw(st.booleans()))
        rows.set_filter(text)
        shown = list(rows.view)
        assert [rows.index_of(key) for key in shown] == list(range(len(shown)))
        assert {key for key in current if rows.index_of(key) is None} == current.keys() - set(shown)
        assert set(rows.marked) == rows.marks <= current.keys()
        assert rows.hidden_marks == len(rows.marks - set(shown))


@given(st.lists(changes, min_size=1, max_size=6), columns, filters, st.integers(0, 9))
def test_the_cursor_stays_on_its_entry(steps: list[Change], column: str | None, text: str, row: int) -> None:
    table, current = EntryTable(), {made.key: made for made in (entry(n, n % 7) for n in range(10))}
    table.sort_by(column)
    table.load(current.values())
    table.move_cursor_to(entry(row, 0).key)
    table.filter_text = text
    for change in steps:
        key = table.cursor_key
        current = apply(table, current, change)
        if key is not None and table._rows.index_of(key) is not None:
            assert table.cursor_key == key
        assert (table.cursor_key is None) == (table.shown == 0)
