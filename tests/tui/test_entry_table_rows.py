"""A difference ends where the whole does: the rows of the entry table, without a screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.doctor.entries import Entries, Moves
from ocitui.tui.widgets import entry_rows
from ocitui.tui.widgets.entry_rows import BY_NAME, EntryRows
from ocitui.tui.widgets.entry_table import EntryTable
from tests.doctor.entries_support import OK, Made, entries_of
from tests.tui.entry_table_support import NO_CONFIG, change, make_entry

pytestmark = pytest.mark.slow

FILTERS = ("", "state:bad", "size>3", "!1", "e 1")
numbers = st.integers(0, 15)


@dataclass(frozen=True)
class Step:
    """Another index, of these numbers; where it is None, other sizes and states of the entries at some positions."""

    index: list[int] | None
    sizes: dict[int, int]
    known: bool


steps = st.builds(
    Step,
    st.none() | st.lists(numbers, max_size=12),
    st.dictionaries(st.integers(0, 11), st.integers(0, 6), max_size=6),
    st.booleans(),
)
columns = st.none() | st.sampled_from(sorted(BY_NAME))
filters = st.sampled_from(FILTERS)
many = st.sampled_from([2, 8, 500])


def entry(number: int, size: int) -> Made:
    """An entry that is known again by its number."""
    return make_entry(number, f"e{number}", size=size, state=NO_CONFIG if size % 2 else OK)


class Disk:
    """What there is, and a table's rows kept in step with it."""

    def __init__(self, rows: EntryRows | EntryTable) -> None:
        self.rows = rows
        self.made: list[Made] = []
        self.entries = entries_of(())
        rows.load(self.entries)

    def make(self, step: Step) -> Moves | None:
        """One change; gives where the entries before stand in another index."""
        if step.index is None:
            self.know({at: size for at, size in step.sizes.items() if at < len(self.made)})
            return None
        # An entry that stays is known as it was.
        known = {one.digest: one for one in self.made}
        self.made = [known.get(entry(number, 0).digest) or entry(number, number % 5) for number in step.index]
        before, self.entries = self.entries, entries_of(self.made)
        moves = self.entries.moves_from(before)
        self.rows.load(self.entries, moves if step.known else None)
        return moves

    def know(self, sizes: dict[int, int]) -> None:
        digests = {self.made[at].digest: size for at, size in sizes.items()}
        changed = [at for at, one in enumerate(self.made) if one.digest in digests]
        for at in changed:
            one, size = self.made[at], digests[self.made[at].digest]
            self.made[at] = one.but(size=size, state=NO_CONFIG if size % 2 else OK)
            change(self.entries, at, self.made[at])
        self.rows.update(changed)


def shown(rows: EntryRows) -> list[str | None]:
    assert rows.entries is not None
    return [rows.entries.names[position] for position in rows.view]


def fresh(entries: Entries, text: str, column: str | None, reverse: bool) -> EntryRows:
    rows = EntryRows()
    rows.load(entries)
    rows.set_filter(text)
    rows.sort_by(column, reverse)
    return rows


@given(st.lists(steps, max_size=6), columns, st.booleans(), filters, many)
def test_changes_end_in_the_view_a_load_gives(
    some: list[Step], column: str | None, reverse: bool, text: str, many: int
) -> None:
    disk = Disk(rows := EntryRows())
    rows.sort_by(column, reverse)
    rows.set_filter(text)
    with patch.object(entry_rows, "MANY", many):
        for step in some:
            disk.make(step)
    other = fresh(disk.entries, text, column, reverse)
    assert list(rows.view) == list(other.view)
    for each in (rows, other):
        each.set_filter("")
    assert list(rows.view) == list(other.view)


@given(st.lists(st.tuples(steps, columns, filters), max_size=6), st.data())
def test_every_row_is_found_and_marks_are_counted(
    some: list[tuple[Step, str | None, str]], data: st.DataObject
) -> None:
    disk = Disk(rows := EntryRows())
    for step, column, text in some:
        disk.make(step)
        for position in data.draw(st.sets(st.sampled_from(range(len(disk.made))))) if disk.made else ():
            rows.toggle_mark(position)
        rows.sort_by(column, reverse=data.draw(st.booleans()))
        rows.set_filter(text)
        view = list(rows.view)
        assert [rows.row_of(position) for position in view] == list(range(len(view)))
        assert {at for at in range(len(disk.made)) if rows.row_of(at) is None} == set(range(len(disk.made))) - set(view)
        assert len(rows.marked) == rows.marks
        assert all(rows.is_marked(position) for position in rows.marked)
        assert rows.hidden_marks == len(set(rows.marked) - set(view))


@given(st.lists(steps, min_size=1, max_size=6), columns, filters, st.integers(0, 9), many)
def test_cursor_and_marks_stay_on_their_entries(
    some: list[Step], column: str | None, text: str, row: int, many: int
) -> None:
    disk = Disk(table := EntryTable())
    table.sort_by(column)
    disk.make(Step([*range(10)], {}, False))
    table.move_cursor_to(row)
    table.action_toggle_mark()
    table.move_cursor_to(row)
    table.filter_by(text)
    with patch.object(entry_rows, "MANY", many):
        for step in some:
            at, marked = table.cursor_position, table.rows.marked
            moves = disk.make(step)
            assert set(table.rows.marked) == _moved(marked, moves)
            expected = _moved([] if at is None else [at], moves)
            if any(table.rows.row_of(position) is not None for position in expected):
                assert table.cursor_position in expected
            assert (table.cursor_position is None) == (table.shown == 0)


def _moved(positions: Iterable[int], moves: Moves | None) -> set[int]:
    to = (position if moves is None else moves.to(position) for position in positions)
    return {position for position in to if position is not None}
