"""The table of entries: one line each, good for 100,000, frugal over a slow link."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import clamp
from textual.message import Message

from .entry_canvas import HEADER, EntryCanvas, Place

if TYPE_CHECKING:
    from ocitui.doctor.entries import Entries, JudgedEntry, Moves


class EntryTable(EntryCanvas, can_focus=True, inherit_bindings=False):
    """Entries in rows, sorted, filtered and marked; cursor, marks and scroll position stay on their entries.

    What is shown, sorted and marked can be asked of its ``rows``.
    """

    # The application's table of actions describes the keys.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move_cursor(-1)", "Up", show=False),
        Binding("down,j", "move_cursor(1)", "Down", show=False),
        Binding("home,g", "first", "First", show=False),
        Binding("end,G", "last", "Last", show=False),
        Binding("pageup", "move_page(-1)", "Page up", show=False),
        Binding("pagedown", "move_page(1)", "Page down", show=False),
        Binding("space", "toggle_mark", "Mark", show=False),
        Binding("enter", "open", "Open", show=False),
    ]

    class Highlighted(Message):
        """The cursor is on another entry, which has this position; None where no row is shown."""

        def __init__(self, position: int | None) -> None:
            super().__init__()
            self.position = position

    class Opened(Message):
        """The operator asked for the entry at a position, by enter or by mouse."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    class MarksChanged(Message):
        """So many entries are marked now, and so many of those the filter hides."""

        def __init__(self, count: int, hidden: int) -> None:
            super().__init__()
            self.count = count
            self.hidden = hidden

    class ViewChanged(Message):
        """So many rows are shown now, of so many entries."""

        def __init__(self, shown: int, total: int) -> None:
            super().__init__()
            self.shown = shown
            self.total = total

    _told_position: int | None = None
    _told_counts = (0, 0)
    _told_marks = (0, 0)
    _before_filter: Place | None = None  # where to return to, until the operator moves
    _opened_by_click = False

    # Rows

    def load(self, entries: Entries, moves: Moves | None = None) -> None:
        """Show the entries of another index; what the cursor and marks were on stays so.

        ``moves`` say where those before stand in it, if that is known already; nothing else has changed then.
        """
        before, cursor, top = self.rows.view, self._cursor, self.top
        moves = self.rows.load(entries, moves)
        if moves is not None:
            told = None if self._told_position is None else moves.to(self._told_position)
            self._told_position = told
            if self._before_filter is not None:
                position = moves.to(self._before_filter.position)
                self._before_filter = None if position is None else self._before_filter._replace(position=position)
        self._keep_place(before, cursor, top, moves)
        self._settle()

    def update(self, positions: Collection[int]) -> None:
        """Show what is known by now of the entries at these positions."""
        with self._in_place():
            self.rows.update(positions)
        self._settle()

    @property
    def entries(self) -> Entries | None:
        """What it shows; None before anything was loaded."""
        return self.rows.entries

    @property
    def shown(self) -> int:
        """How many rows the filter lets through."""
        return len(self.rows.view)

    @property
    def total(self) -> int:
        """How many entries there are."""
        return 0 if self.rows.entries is None else len(self.rows.entries)

    # Filter and sort

    @property
    def filter_text(self) -> str:
        """The filter in force; setting it shows what matches."""
        return self.rows.filter_text

    @filter_text.setter
    def filter_text(self, text: str) -> None:
        if text == self.rows.filter_text:
            return
        self._before_filter = self._before_filter or self._place
        with self._in_place(self._before_filter):
            self.rows.set_filter(text)
        if not text.strip():
            self._before_filter = None
        self._settle()

    def sort_by(self, column: str | None, reverse: bool = False) -> None:
        """Sort by a column, or as the index has it. Raises ValueError for an unknown column."""
        if (column, reverse) == (self.rows.sort_column, self.rows.view.reverse):
            return
        with self._in_place():
            self.rows.sort_by(column, reverse)
        self._settle()

    # Cursor

    @property
    def cursor_entry(self) -> JudgedEntry | None:
        """The entry under the cursor, None while no row is shown."""
        if self.cursor_position is None or self.rows.entries is None:
            return None
        return self.rows.entries[self.cursor_position]

    @property
    def cursor_row(self) -> int | None:
        """The cursor's row, counted from 0 at the top of the view."""
        return self._cursor

    def move_cursor_to(self, position: int) -> bool:
        """Put the cursor on the entry at a position; False where it is not shown."""
        index = self.rows.row_of(position)
        if index is None:
            return False
        self._move_to(index)
        return True

    def _move_to(self, index: int) -> None:
        if not self.shown:
            return
        self._before_filter = None
        self._cursor = clamp(index, 0, self.shown - 1)
        self._show_cursor()
        self._settle()

    def action_move_cursor(self, step: int) -> None:
        self._move_to((self._cursor or 0) + step)

    def action_first(self) -> None:
        self._move_to(0)

    def action_last(self) -> None:
        self._move_to(self.shown - 1)

    def action_move_page(self, direction: int) -> None:
        step = direction * self.page
        self._set_top(self.top + step)
        self._move_to((self._cursor or 0) + step)

    def action_open(self) -> None:
        if self.cursor_position is not None:
            self.post_message(self.Opened(self.cursor_position))

    # Marks

    def toggle_mark(self) -> None:
        """Mark the entry under the cursor, or take its mark away."""
        if self.cursor_position is not None:
            self.rows.toggle_mark(self.cursor_position)
            self._settle()

    def mark_all_shown(self) -> None:
        """Mark every row the filter lets through."""
        self.rows.mark_shown()
        self._settle()

    def clear_marks(self) -> None:
        """Take all marks away, from hidden entries too."""
        self.rows.clear_marks()
        self._settle()

    def action_toggle_mark(self) -> None:
        self.toggle_mark()
        self.action_move_cursor(1)

    # Mouse

    def on_click(self, event: events.Click) -> None:
        event.stop()
        at = event.get_content_offset(self)
        if at is None:
            return
        if at.y < HEADER:
            self._sort_by_click(at.x)
        elif (index := self.top + at.y - HEADER) < self.shown:
            self._click_row(index, event.chain)

    def _sort_by_click(self, x: int) -> None:
        column = self._layout.column_at(x)
        self.sort_by(column, reverse=column == self.rows.sort_column and not self.rows.view.reverse)

    def _click_row(self, index: int, chain: int) -> None:
        """A click on the cursor's row opens it, so a double click does anywhere; it does not open twice."""
        if chain == 1:
            self._opened_by_click = False
        if index != self._cursor:
            self._move_to(index)
        elif not self._opened_by_click:
            self._opened_by_click = True
            self.action_open()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, -1)

    def _wheel(self, event: events.MouseEvent, direction: int) -> None:
        event.stop()
        event.prevent_default()
        self._before_filter = None
        self._set_top(self.top + direction * max(1, round(self.app.scroll_sensitivity_y)))
        self._sync()

    # After any change

    def _settle(self) -> None:
        """Repaint what changed, and tell what changed."""
        self._sync()
        counts, marks = (self.shown, self.total), (self.rows.marks, self.rows.hidden_marks)
        if counts != self._told_counts:
            self._told_counts = counts
            self.post_message(self.ViewChanged(*counts))
        if marks != self._told_marks:
            self._told_marks = marks
            self.post_message(self.MarksChanged(*marks))
        if self.cursor_position != self._told_position:
            self._told_position = self.cursor_position
            self.post_message(self.Highlighted(self.cursor_position))
