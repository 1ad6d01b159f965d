"""The table of entries: one line each, good for 100,000, frugal over a slow link."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from textual import events, on
from textual.geometry import Region, Size, clamp
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from ocitui.text import clean

from ..terminal import Role, draw_cells, palette
from .entry_rows import LARGEST_FIRST, EntryRows, Positions, ages, column_at, header_cells, row_cells
from .lines import CURSOR, MARK, MOVES, PAGES, Cell, bound

if TYPE_CHECKING:
    from ocitui.doctor import Entries, JudgedEntry, Moves


HEADER = 1  # lines above the rows

Line = tuple[object, ...]
"""What a line of the screen shows, to compare with what it should show."""


class _Place(NamedTuple):
    """The position of an entry, and the line of the page it was on."""

    position: int
    line: int


class EntryTable(ScrollView, can_focus=True, inherit_bindings=False):
    """Entries in rows, sorted, filtered and marked, as its ``rows`` tell; cursor, marks and scroll position stay on
    their entries. Whatever changes, ``_sync`` compares lines with those asked for last, and repaints what differs."""

    ALLOW_SELECT = False
    # No scroll bar: it would be repainted with every row that comes or goes.
    DEFAULT_CSS = "EntryTable { height: 1fr; overflow: hidden hidden; }"

    # The application's table of actions describes the keys.
    BINDINGS = bound(MOVES | PAGES | {"space": "toggle_mark", "enter": "open"})

    class Highlighted(Message):
        """The cursor is on another entry, or on none."""

    class Opened(Message):
        """The operator asked for the entry under the cursor, by enter or by mouse."""

    class CountsChanged(Message):
        """There are more or fewer entries, rows or marks."""

    _told_position: int | None = None
    _told_counts = (0, 0, 0, 0)
    _before_filter: _Place | None = None  # where to return to, until the operator moves
    _opened_by_click = False

    stale: var[str] = var("")
    """Of when the rows are, where the index on disk is another; empty where they are of that."""
    placeholder: var[str] = var("")
    """The hint shown in place of the rows where there are none."""

    def __init__(self, *, placeholder: str = "") -> None:
        super().__init__()
        self.rows = EntryRows()
        self.cursor_row: int | None = None
        """The cursor's row, counted from 0 at the top of the view."""
        self._painted: list[Line] = []
        self.set_reactive(EntryTable.placeholder, placeholder)

    # What is on screen

    @property
    def page(self) -> int:
        """How many rows fit the screen."""
        return max(1, self.size.height - HEADER)

    @property
    def top(self) -> int:
        """The first row in view."""
        return round(self.scroll_y)

    @property
    def cursor_position(self) -> int | None:
        """The position of the entry under the cursor, None while no row is shown."""
        return None if self.cursor_row is None else self.rows.view[self.cursor_row]

    @property
    def _place(self) -> _Place | None:
        """Where the cursor is; None while it is out of view."""
        if self.cursor_row is None or not self._in_view(self.cursor_row):
            return None
        return _Place(self.rows.view[self.cursor_row], self.cursor_row - self.top)

    def _in_view(self, index: int) -> bool:
        return self.top <= index < self.top + self.page

    def _set_top(self, top: int) -> None:
        """Scroll without repainting: the lines that come out different are found by ``_sync``."""
        rows = len(self.rows.view)
        # Set past the layout: rows that come and go below the screen are no reason to lay it out anew.
        self.set_reactive(Widget.virtual_size, Size(self.size.width, rows + HEADER))
        top = clamp(top, 0, max(0, rows - self.page))
        self.set_scroll(None, top)
        self.set_reactive(Widget.scroll_target_y, float(top))

    def cover(self, lines: int) -> None:
        """Keep rows where they are on the screen, where so many lines were taken from above; less than none: given."""
        if self.cursor_row is not None and self.cursor_row >= self.top + lines:
            self._set_top(self.top + lines)
            self._sync()

    def _show_cursor(self) -> None:
        """Bring the cursor into view, in the middle: a line at a time would repaint all rows at each step."""
        if self.cursor_row is not None and not self._in_view(self.cursor_row):
            self._set_top(self.cursor_row - self.page // 2)

    @contextmanager
    def _in_place(self, wanted: _Place | None = None) -> Iterator[None]:
        """Change the rows; cursor and view stay on their entries, or the cursor goes to a ``wanted`` one."""
        before, cursor, top = self.rows.view, self.cursor_row, self.top
        yield
        if self.rows.view is not before:
            self._keep_place(before, cursor, top, None, wanted)

    def _keep_place(
        self, before: Positions, cursor: int | None, top: int, moves: Moves | None, wanted: _Place | None = None
    ) -> None:
        """Put cursor and scroll position where their entries are shown now, or what took their places. ``before`` was
        the view, with the cursor and the first row in view at these rows."""
        line = None if cursor is None or not top <= cursor < top + self.page else cursor - top
        self.cursor_row = None if wanted is None else self.rows.row_of(wanted.position)
        if wanted is not None and self.cursor_row is not None:
            line = wanted.line
        else:
            self.cursor_row = self.rows.survivor(before, cursor or 0, moves)
        if line is None:
            self._set_top(self.rows.survivor(before, top, moves) or 0)
        else:
            self._set_top((self.cursor_row or 0) - line)

    # Repainting

    def _sync(self) -> None:
        """Repaint the lines that show something else now."""
        painted, self._painted = self._painted, self._lines()
        if len(painted) != len(self._painted):
            self.refresh()
        elif changed := [y for y, line in enumerate(self._painted) if line != painted[y]]:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _lines(self) -> list[Line]:
        height = self.size.height
        return [(*self._header(),), *(self._row_line(y) for y in range(height - HEADER))] if height else []

    def _row_line(self, y: int) -> Line:
        index = self.top + y
        if index >= self.shown:
            return (self.placeholder if not index else "",)
        entry, marked = self._entry(index), self.rows.is_marked(self.rows.view[index])
        return entry, ages(entry), self._used, index == self.cursor_row, marked

    def render_line(self, y: int) -> Strip:
        ground: Role = "plain"
        if y < HEADER:
            cells = self._header()
        elif self.top + y - HEADER >= len(self.rows.view):
            cells = [(f" {clean(self.placeholder)}" if y == HEADER else "", "muted")]
        else:
            ground, cells = self._row_cells(self.top + y - HEADER)
            if self.stale:
                # Nothing is told to be well there.
                cells = [(text, role if role in ("key", "mark", "bad") else "muted") for text, role in cells]
        return draw_cells(cells, ground, palette(self.app), self.size.width)

    def _row_cells(self, index: int) -> tuple[Role, list[Cell]]:
        """The surface a row stands on, and its cells."""
        pointed, marked = index == self.cursor_row, self.rows.is_marked(self.rows.view[index])
        cells: list[Cell] = [(CURSOR if pointed else " ", "key"), (f"{MARK if marked else ' '} ", "mark")]
        cells += row_cells(self._entry(index), self.size.width, self._used)
        if marked:
            cells = [(text, "mark" if role in ("plain", "muted", "strong") else role) for text, role in cells]
        if not pointed:
            return "plain", cells
        # What recedes elsewhere is read here.
        cells = [(text, "plain" if role == "muted" else role) for text, role in cells]
        return "cursor" if self.has_focus else "blurred", cells

    @property
    def _used(self) -> bool:
        """Whether anything is in use, or may be, so that there is a column of it."""
        return self.rows.entries is not None and bool(self.rows.entries.users or self.rows.entries.doubt)

    def _entry(self, index: int) -> JudgedEntry:
        assert self.rows.entries is not None
        return self.rows.entries[self.rows.view[index]]

    def _header(self) -> list[Cell]:
        return header_cells(self.size.width, self.rows.sort_column, self.rows.reverse, self._used, self.stale)

    # What Textual tells

    def watch_placeholder(self) -> None:
        self._sync()

    def watch_stale(self) -> None:
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        self._sync()

    def on_resize(self, event: events.Resize) -> None:
        self._set_top(self.top)
        self._show_cursor()
        self._painted = self._lines()
        self.refresh()

    # Rows

    def load(self, entries: Entries, moves: Moves | None = None) -> None:
        """Show the entries of another index; cursor and marks stay on their entries. ``moves`` are as for the rows."""
        before, cursor, top = self.rows.view, self.cursor_row, self.top
        moves = self.rows.load(entries, moves)
        if moves is not None:
            self._told_position = None if self._told_position is None else moves.to(self._told_position)
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
    def shown(self) -> int:
        return len(self.rows.view)

    @property
    def total(self) -> int:
        return 0 if self.rows.entries is None else len(self.rows.entries)

    # Filter and sort

    def filter_by(self, text: str) -> None:
        """Show what matches a filter."""
        if text == self.rows.filter_text:
            return
        self._before_filter = self._before_filter or self._place
        with self._in_place(self._before_filter):
            self.rows.set_filter(text)
        if not text.strip():
            self._before_filter = None
        self._settle()

    def choose_sort(self, column: str | None, *, other_way: bool = False) -> None:
        """Sort by a column as is mostly wanted, or the other way; that in force is reversed. None is index order."""
        again = column is not None and column == self.rows.sort_column
        way = not self.rows.reverse if again else other_way ^ (column in LARGEST_FIRST)
        self.sort_by(column, way)

    def sort_by(self, column: str | None, reverse: bool = False) -> None:
        """Sort by a column, or as the index has it."""
        if (column, reverse) == (self.rows.sort_column, self.rows.reverse):
            return
        with self._in_place():
            self.rows.sort_by(column, reverse)
        self._settle()

    # Cursor

    @property
    def cursor_entry(self) -> JudgedEntry | None:
        """The entry under the cursor, None while no row is shown."""
        return None if self.cursor_row is None else self._entry(self.cursor_row)

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
        self.cursor_row = clamp(index, 0, self.shown - 1)
        self._show_cursor()
        self._settle()

    def action_step(self, step: int) -> None:
        self._move_to((self.cursor_row or 0) + step)

    def action_first(self) -> None:
        self._move_to(0)

    def action_last(self) -> None:
        self._move_to(self.shown - 1)

    def to_bad_row(self, step: int) -> bool:
        """Move to the next bad row, with -1 to the one before; past an end from the other. False: none is shown."""
        row = self.rows.next_bad(self.cursor_row or 0, step)
        if row is not None:
            self._move_to(row)
        return row is not None

    def action_page(self, direction: int, parts: int = 1) -> None:
        """Move by a page, or by half of one with two ``parts``."""
        step = direction * max(self.page // parts, 1)
        self._set_top(self.top + step)
        self._move_to((self.cursor_row or 0) + step)

    def action_open(self) -> None:
        if self.cursor_position is not None:
            self.post_message(self.Opened())

    # Marks

    def mark_all_shown(self) -> None:
        """Mark every row the filter lets through."""
        self.rows.mark_shown()
        self._settle()

    def clear_marks(self) -> None:
        """Take all marks away, from hidden entries too."""
        self.rows.clear_marks()
        self._settle()

    def action_toggle_mark(self) -> None:
        """Mark the entry under the cursor, or take its mark away, and go on to the next."""
        if self.cursor_position is not None:
            self.rows.toggle_mark(self.cursor_position)
            self.action_step(1)

    # Mouse

    def on_click(self, event: events.Click) -> None:
        event.stop()
        at = event.get_content_offset(self)
        if at is None:
            return
        if at.y < HEADER:
            self.choose_sort(column_at(at.x, self.size.width, self._used))
        elif (index := self.top + at.y - HEADER) < self.shown:
            self._click_row(index, event.chain)

    def _click_row(self, index: int, chain: int) -> None:
        """A click on the cursor's row opens it, so a double click does anywhere; it does not open twice."""
        if chain == 1:
            self._opened_by_click = False
        if index != self.cursor_row:
            self._move_to(index)
        elif not self._opened_by_click:
            self._opened_by_click = True
            self.action_open()

    @on(events.MouseScrollDown)
    @on(events.MouseScrollUp)
    def _wheel(self, event: events.MouseScrollDown | events.MouseScrollUp) -> None:
        event.stop()
        event.prevent_default()
        self._before_filter = None
        lines = max(1, round(self.app.scroll_sensitivity_y))
        self._set_top(self.top + (lines if isinstance(event, events.MouseScrollDown) else -lines))
        self._sync()

    # After any change

    def _settle(self) -> None:
        self._sync()
        counts = (self.shown, self.total, self.rows.marks, self.rows.hidden_marks)
        if counts != self._told_counts:
            self._told_counts = counts
            self.post_message(self.CountsChanged())
        if self.cursor_position != self._told_position:
            self._told_position = self.cursor_position
            self.post_message(self.Highlighted())
