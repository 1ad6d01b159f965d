"""Drawing of the entry table: a header line and the rows in view, with as few lines repainted as can be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size, clamp
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from .entry_columns import (
    ASCII,
    UNICODE,
    Glyphs,
    Layout,
    RowText,
    age_text,
    fit,
    header_text,
    layout_for,
    row_text,
    row_values,
)
from .entry_rows import EntryRows, View

if TYPE_CHECKING:
    from ocitui.doctor.entries import Moves


HEADER = 1  # lines above the rows

Line = tuple[object, ...]
"""What a line of the screen shows, to compare with what it should show."""


class Place(NamedTuple):
    """The position of an entry, and the line of the page it was on."""

    position: int
    line: int


class EntryCanvas(ScrollView):
    """The rows of an EntryRows on screen: where the cursor is, which rows are in view, and how they look.

    Whatever changes, ``_sync`` compares the lines with those last asked for, and repaints the ones that differ.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "entry-table--header",
        "entry-table--cursor",
        "entry-table--marked",
        "entry-table--bad",
        "entry-table--unknown",
        "entry-table--placeholder",
    }
    # No scroll bar: it would be repainted with every row that comes or goes.
    DEFAULT_CSS = """
    EntryCanvas {
        height: 1fr;
        overflow: hidden hidden;
        background: $background;
        color: $foreground;
        & > .entry-table--header {
            background: $panel;
            color: $foreground;
            text-style: bold;
        }
        & > .entry-table--cursor {
            background: $block-cursor-blurred-background;
            color: $block-cursor-blurred-foreground;
            text-style: $block-cursor-blurred-text-style;
        }
        &:focus > .entry-table--cursor {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
            text-style: $block-cursor-text-style;
        }
        &:nocolor > .entry-table--cursor {
            text-style: bold reverse;
        }
        & > .entry-table--marked {
            color: $text-accent;
            text-style: bold;
        }
        & > .entry-table--bad {
            color: $text-error;
            text-style: bold;
        }
        & > .entry-table--unknown, & > .entry-table--placeholder {
            color: $text-muted;
        }
    }
    """

    ascii: var[bool] = var(False)
    """Draw with ASCII signs only, for terminals without UTF-8."""
    placeholder: var[str] = var("")
    """The hint shown in place of the rows where there are none."""

    def __init__(self, *, ascii: bool = False, placeholder: str = "") -> None:
        super().__init__()
        self.rows = EntryRows()
        self._cursor: int | None = None
        self._painted: list[Line] = []
        self._styles_by_class: dict[str, Style] = {}
        self.set_reactive(EntryCanvas.ascii, ascii)
        self.set_reactive(EntryCanvas.placeholder, placeholder)

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
        return None if self._cursor is None else self.rows.view.at(self._cursor)

    @property
    def _place(self) -> Place | None:
        """Where the cursor is; None while it is out of view."""
        if self._cursor is None or not self._in_view(self._cursor):
            return None
        return Place(self.rows.view.at(self._cursor), self._cursor - self.top)

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

    def _show_cursor(self) -> None:
        """Bring the cursor into view, in the middle: a line at a time would repaint all rows at each step."""
        if self._cursor is not None and not self._in_view(self._cursor):
            self._set_top(self._cursor - self.page // 2)

    @contextmanager
    def _in_place(self, wanted: Place | None = None) -> Iterator[None]:
        """Change the rows, and keep the cursor and what is in view on their entries.

        Where the wanted place is given and its entry shown, the cursor goes there.
        """
        before, cursor, top = self.rows.view, self._cursor, self.top
        yield
        if self.rows.view is not before:
            self._keep_place(before, cursor, top, None, wanted)

    def _keep_place(
        self, before: View, cursor: int | None, top: int, moves: Moves | None, wanted: Place | None = None
    ) -> None:
        """Put cursor and scroll position where their entries are shown now, or what took their places.

        ``before`` was the view, with the cursor and the first row in view at these rows.
        """
        line = None if cursor is None or not top <= cursor < top + self.page else cursor - top
        self._cursor = None if wanted is None else self.rows.row_of(wanted.position)
        if wanted is not None and self._cursor is not None:
            line = wanted.line
        else:
            self._cursor = self.rows.survivor(before, cursor or 0, moves)
        if line is None:
            self._set_top(self.rows.survivor(before, top, moves) or 0)
        else:
            self._set_top((self._cursor or 0) - line)

    # Repainting

    def _sync(self) -> None:
        """Repaint the lines that show something else now."""
        lines = self._lines()
        painted, self._painted = self._painted, lines
        if len(painted) != len(lines):
            self.refresh()
            return
        changed = [y for y, line in enumerate(lines) if line != painted[y]]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _lines(self) -> list[Line]:
        height = self.size.height
        if not height:
            return []
        return [(self._header(),), *(self._row_line(y) for y in range(height - HEADER))]

    def _row_line(self, y: int) -> Line:
        index = self.top + y
        view = self.rows.view
        if index >= len(view):
            return (self.placeholder if not index else "",)
        position = view.at(index)
        return (
            self._text(position),
            self._modified(position),
            index == self._cursor,
            self.rows.is_marked(position),
        )

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        segments = self._header_segments() if y < HEADER else self._row_segments(self.top + y - HEADER)
        return Strip(segments).adjust_cell_length(width, self._style())

    def _header_segments(self) -> list[Segment]:
        text = fit(self._header(), self.size.width, "")
        return [Segment(text, self._style("entry-table--header"))]

    def _row_segments(self, index: int) -> list[Segment]:
        view, width = self.rows.view, self.size.width
        if index >= len(view):
            hint = "" if index else f" {self._glyphs.text(self.placeholder)}"
            style = self._style("entry-table--placeholder") if hint else self._style()
            return [Segment(fit(hint, width, self._glyphs.ellipsis), style)]
        position = view.at(index)
        marked, text = self.rows.is_marked(position), self._text(position)
        if index == self._cursor:
            style, tone = self._style("entry-table--cursor"), ""
        else:
            style, tone = self._style("entry-table--marked" if marked else ""), text.tone
        glyphs = self._glyphs
        signs = (glyphs.cursor if index == self._cursor else " ") + (glyphs.mark if marked else " ")
        start = f"{signs} {text.before_age} {age_text(self._modified(position), time(), self._layout)}"
        if not tone:
            return [Segment(fit(start + text.state, width, ""), style)]
        return [Segment(start, style), Segment(text.state, self._style(f"entry-table--{tone}"))]

    def _text(self, position: int) -> RowText:
        assert self.rows.entries is not None
        return row_text(row_values(self.rows.entries, position), self.size.width, self._glyphs)

    def _modified(self, position: int) -> int | None:
        return None if self.rows.entries is None else self.rows.entries.modified(position)

    def _header(self) -> str:
        return header_text(self._layout, self._glyphs, self.rows.sort_column, self.rows.view.reverse)

    @property
    def _layout(self) -> Layout:
        return layout_for(self.size.width)

    @property
    def _glyphs(self) -> Glyphs:
        return ASCII if self.ascii else UNICODE

    def _style(self, component: str = "") -> Style:
        style = self._styles_by_class.get(component)
        if style is None:
            style = self.get_component_rich_style(component) if component else self.rich_style
            self._styles_by_class[component] = style
        return style

    # What Textual tells

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles_by_class.clear()

    def watch_ascii(self) -> None:
        self._sync()

    def watch_placeholder(self) -> None:
        self._sync()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        self._sync()

    def on_resize(self, event: events.Resize) -> None:
        self._set_top(self.top)
        self._show_cursor()
        self._painted = self._lines()
        self.refresh()
