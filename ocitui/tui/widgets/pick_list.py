"""A short list with a cursor. Repaints only the rows that differ, as what it lists may change often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ocitui.text import clean

from .lines_view import Kind


@dataclass(frozen=True, slots=True)
class PickRow:
    """``key`` tells it from the others; ``right`` stands at the right end, and the text gives way to it: at its
    beginning, or at its end where its ``start`` says more."""

    key: str
    text: str
    right: str = ""
    kind: Kind = "plain"
    start: bool = False


class PickList(ScrollView, can_focus=True, inherit_bindings=False):
    """The cursor stays on its row whatever comes and goes."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Up", show=False),
        Binding("down,j", "step(1)", "Down", show=False),
        Binding("home", "first", "First", show=False),
        Binding("end", "last", "Last", show=False),
        Binding("enter", "pick", "Pick", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "pick-list--plain",
        "pick-list--good",
        "pick-list--bad",
        "pick-list--muted",
        "pick-list--heading",
        "pick-list--cursor",
    }
    DEFAULT_CSS = """
    PickList {
        height: auto;
        overflow: hidden auto;
        scrollbar-size: 0 1;
        background: $background;
        color: $foreground;
        & > .pick-list--good { color: $text-success; }
        & > .pick-list--bad { color: $text-error; }
        & > .pick-list--muted { color: $text-muted; }
        & > .pick-list--heading { text-style: bold; }
        & > .pick-list--cursor { background: $panel; text-style: bold; }
        &:focus > .pick-list--cursor { background: $primary; color: $text; text-style: bold; }
        &:focus:ansi > .pick-list--cursor { background: ansi_blue; color: ansi_bright_white; }
        &:nocolor > .pick-list--cursor { text-style: bold reverse; }
    }
    """

    class Moved(Message):
        """The cursor is on another row, or on none."""

        def __init__(self, key: str | None) -> None:
            super().__init__()
            self.key = key

    class Picked(Message):
        """Enter on a row, or a click on the one under the cursor."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: tuple[PickRow, ...] = ()
        self._cursor = 0

    @property
    def key(self) -> str | None:
        """The row under the cursor."""
        return self.rows[self._cursor].key if self._cursor < len(self.rows) else None

    def set_rows(self, rows: Sequence[PickRow]) -> None:
        """Show these; where the cursor's row is gone, it stays near."""
        before, old, was = self.key, self.rows, self._cursor
        self.rows = tuple(rows)
        keys = [row.key for row in self.rows]
        self._cursor = keys.index(before) if before in keys else max(min(self._cursor, len(keys) - 1), 0)
        if len(old) != len(self.rows):
            self.virtual_size = Size(self.size.width, len(self.rows))
            self.refresh(layout=True)
        else:
            pairs = zip(old, self.rows, strict=True)
            self._repaint({y for y, (one, other) in enumerate(pairs) if one != other} | ({was, self._cursor} - {was}))
        if self.key != before:
            self.post_message(self.Moved(self.key))

    def move_to(self, key: str) -> None:
        """Put the cursor on a row."""
        keys = [row.key for row in self.rows]
        if key in keys:
            self._go(keys.index(key))

    def _go(self, number: int) -> None:
        number = max(min(number, len(self.rows) - 1), 0)
        if number == self._cursor or not self.rows:
            return
        self._repaint({self._cursor, number})
        self._cursor = number
        self._show_cursor()
        self.post_message(self.Moved(self.key))

    def _show_cursor(self) -> None:
        top, height = int(self.scroll_offset.y), max(self.size.height, 1)
        if not top <= self._cursor < top + height:
            y = self._cursor if self._cursor < top else self._cursor - height + 1
            self.scroll_to(y=y, animate=False, immediate=True)

    def _repaint(self, numbers: set[int]) -> None:
        top = int(self.scroll_offset.y)
        regions = [Region(0, y - top, self.size.width, 1) for y in numbers if top <= y < top + self.size.height]
        if regions:
            self.refresh(*regions)

    def on_resize(self, _: events.Resize) -> None:
        self.virtual_size = Size(self.size.width, len(self.rows))
        self._show_cursor()

    def render_line(self, y: int) -> Strip:
        number, width = y + int(self.scroll_offset.y), self.size.width
        if number >= len(self.rows):
            return Strip.blank(width, self.get_component_rich_style("pick-list--plain"))
        row = self.rows[number]
        kind = "cursor" if number == self._cursor else row.kind
        text = row_text(row, width, pointed=number == self._cursor)
        return Strip([Segment(text, self.get_component_rich_style(f"pick-list--{kind}"))])

    def action_step(self, by: int) -> None:
        self._go(self._cursor + by)

    def action_first(self) -> None:
        self._go(0)

    def action_last(self) -> None:
        self._go(len(self.rows) - 1)

    def action_pick(self) -> None:
        if self.key is not None:
            self.post_message(self.Picked(self.key))

    def on_click(self, event: events.Click) -> None:
        number = event.y + int(self.scroll_offset.y)
        if number == self._cursor:
            self.action_pick()
        elif number < len(self.rows):
            self._go(number)


def row_text(row: PickRow, width: int, *, pointed: bool) -> str:
    """A row as it is drawn: as wide as asked, its text cut where it is too long."""
    right = clean(row.right)[:width]
    room = max(width - cell_len(right) - 3, 0)
    text = clean(row.text)
    if cell_len(text) > room and row.start:
        text = f"{set_cell_size(text, room - 1)}…" if room > 1 else ""
    elif cell_len(text) > room:
        text = f"…{text[len(text) - room + 1 :]}" if room > 1 else ""
    line = f"{'>' if pointed else ' '} {set_cell_size(text, room)} {right}"
    return set_cell_size(line, width)
