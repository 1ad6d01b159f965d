"""Lines of text, which scroll, and a short list with a cursor. Both repaint only the lines that differ."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.segment import Segment
from textual import events, work
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ocitui.text import clean
from ocitui.words.lines import Kind as Kind
from ocitui.words.lines import Line as Line
from ocitui.words.lines import heading as heading

from ..terminal import Role, draw_cells, palette
from .entry_columns import CURSOR, Cell
from .entry_columns import MARK as MARK
from .entry_columns import cut as cut
from .entry_columns import fit as fit

_WIDEST_LABEL, _LABEL_OF_LONG_LIST = 22, 8
# Rows laid out before the loop has its turn again: some 10 ms.
_AT_ONCE = 4_000


@dataclass(frozen=True, slots=True)
class LongList:
    """As many lines as a cache has entries, each made when it shows. They are a row each: what is too long is cut."""

    count: int
    make: Callable[[int], Line]


def every_line(lines: Iterable[Line | LongList]) -> Iterator[Line]:
    """The lines, those of long lists one by one."""
    for line in lines:
        if isinstance(line, LongList):
            yield from map(line.make, range(line.count))
        else:
            yield line


class _Row(NamedTuple):
    label: str
    text: str
    kind: Kind


class _Rows:
    """Rows that were laid out, and between them those of long lists, which are laid out when asked for."""

    def __init__(self, column: int = 0, width: int = 0) -> None:
        self._parts: list[list[_Row] | LongList] = []
        self._starts: list[int] = []
        self._count, self._column, self._width = 0, column, width

    def extend(self, rows: Iterable[_Row | LongList]) -> bool:
        """Gives whether there were any."""
        before = self._count
        for row in rows:
            part = self._parts[-1] if self._parts else None
            if isinstance(row, LongList) or not isinstance(part, list):
                self._starts.append(self._count)
                self._parts.append(row if isinstance(row, LongList) else [row])
                self._count += row.count if isinstance(row, LongList) else 1
            else:
                part.append(row)
                self._count += 1
        return self._count > before

    def __len__(self) -> int:
        return self._count

    def at(self, number: int) -> _Row | None:
        """A row; None where there is none."""
        if not 0 <= number < self._count:
            return None
        part = bisect_right(self._starts, number) - 1
        rows, number = self._parts[part], number - self._starts[part]
        if not isinstance(rows, LongList):
            return rows[number]
        line = rows.make(number)
        label = _label(line, self._column, self._column + 2) if self._column else ""
        return _Row(label, cut(clean(line.text), max(self._width - cell_len(label), 0)), line.kind)


def moving(by_line: str, by_page: str) -> Iterator[Binding]:
    """The keys that move in every table, list and view; the actions by line and by page take a count, that by page also
    into how many parts it cuts it."""
    keys = {"up,k": f"{by_line}(-1)", "down,j": f"{by_line}(1)", "home,g": "first", "end,G": "last"}
    keys |= {"ctrl+u": f"{by_page}(-1, 2)", "ctrl+d": f"{by_page}(1, 2)", "ctrl+f": f"{by_page}(1)"}
    return (Binding(key, action, "Move", show=False) for key, action in keys.items())


class _Scrolling(ScrollView):
    """A view whose bar tells where it stands."""

    ALLOW_SELECT = False

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        """Textual moves no bar that is not shown: it would come back where it was."""
        if shown:
            self.vertical_scrollbar.position = self.scroll_y


class ReadingView(_Scrolling, can_focus=True, inherit_bindings=False):
    """A view of lines, here or of a document, that the keys scroll."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *moving("lines", "pages"),
        Binding("pageup", "pages(-1)", "Page up", show=False),
        Binding("pagedown", "pages(1)", "Page down", show=False),
    ]

    @property
    def page(self) -> int:
        """How many rows are seen at once."""
        return self.size.height

    def go(self, x: float | None = None, y: float | None = None) -> None:
        """Scroll there at once; forced, because there may be no scrollbar that would allow it."""
        self.scroll_to(x, y, animate=False, force=True)

    def action_lines(self, count: int) -> None:
        self.go(y=self.scroll_offset.y + count)

    def action_pages(self, count: int, parts: int = 1) -> None:
        """Scroll by pages, or by a half of one with two ``parts``."""
        # One line stays in view, to read on from.
        self.go(y=self.scroll_offset.y + count * max((self.page - 1) // parts, 1))

    def action_first(self) -> None:
        self.go(x=0, y=0)

    def action_last(self) -> None:
        self.go(x=0, y=self.max_scroll_y)


class LinesView(ReadingView):
    """Shows lines; what comes from the disk is cleaned here."""

    DEFAULT_CSS = """
    LinesView {
        height: 1fr;
        padding: 0 0 0 1;
        overflow: hidden auto;
        scrollbar-size: 0 1;
        scrollbar-gutter: stable;
    }
    """

    def __init__(self, lines: Sequence[Line] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: tuple[Line | LongList, ...] = tuple(lines)
        self._rows = _Rows()
        self._coming: Iterator[_Row | LongList] = iter(())

    def set_lines(self, lines: Iterable[Line | LongList], *, keep_place: bool = False) -> None:
        """Show other lines, from the top unless ``keep_place``."""
        self.lines = tuple(lines)
        if not keep_place:
            self.go(y=0)
        self._lay_out()

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width
        if width <= 0:
            return
        top, height = int(self.scroll_offset.y), self.size.height
        column = _label_column(self.lines, width)
        old, self._rows, self._coming = self._rows, _Rows(column, width), _rows(self.lines, column, width)
        self._rows.extend(islice(self._coming, max(_AT_ONCE, top + height)))
        self.virtual_size = Size(width, len(self._rows))
        changed = [y for y in range(top, top + height) if old.at(y) != self._rows.at(y)]
        if changed:
            self.refresh(*(Region(0, y - top, width, 1) for y in changed))
        if len(self._rows) >= _AT_ONCE:
            self._lay_out_rest(self._coming, width)

    @work(group="rows", exclusive=True)
    async def _lay_out_rest(self, coming: Iterator[_Row | LongList], width: int) -> None:
        """Lay out what is below, a part at a time, so that keys are answered meanwhile."""
        while coming is self._coming and self._rows.extend(islice(coming, _AT_ONCE)):
            # A new size draws the scroll bar again, so it is not told each time.
            if len(self._rows) >= 2 * self.virtual_size.height:
                self.virtual_size = Size(width, len(self._rows))
            await asyncio.sleep(0)
        if coming is self._coming:
            self.virtual_size = Size(width, len(self._rows))

    def render_line(self, y: int) -> Strip:
        width, styles = self.size.width, palette(self.app)
        row = self._rows.at(y + int(self.scroll_offset.y))
        if row is None:
            return Strip.blank(width, styles["plain"])
        text = Segment(row.text, styles[role_of(row.kind)])
        parts = [Segment(row.label, styles["muted"]), text] if row.label else [text]
        return Strip(parts).adjust_cell_length(width, styles["plain"])


def role_of(kind: Kind) -> Role:
    """What a line of a kind is drawn for."""
    return "strong" if kind == "heading" else kind


def _label_column(lines: Sequence[Line | LongList], width: int) -> int:
    """How wide the column of the labels is."""
    labels = {None if isinstance(line, LongList) else line.label for line in lines}
    cells = (_LABEL_OF_LONG_LIST if label is None else cell_len(clean(label)) for label in labels)
    return min(max(cells, default=0), _WIDEST_LABEL, max(width // 3, 1))


def _rows(lines: Sequence[Line | LongList], column: int, width: int) -> Iterator[_Row | LongList]:
    """The lines cut to the width, labels in a column of their own."""
    for line in lines:
        if isinstance(line, LongList):
            yield line
            continue
        indent = _indent(line, column, width)
        room = max(width - indent, 1)
        # Nearly every line, at a tenth of the cost; a character takes two cells at most.
        if len(line.text) <= (room if line.text.isascii() else room // 2) and line.text.isprintable():
            yield _Row(_label(line, column, indent), line.text, line.kind)
            continue
        parts = (clean(part.expandtabs()) for part in line.text.split("\n"))
        pieces = [piece for part in parts for piece in (_wrap(part, room) or [""])]
        for number, piece in enumerate(pieces):
            yield _Row(" " * indent if number else _label(line, column, indent), piece, line.kind)


def _label(line: Line, column: int, indent: int) -> str:
    return set_cell_size(cut(clean(line.label), min(column, indent), middle=True), indent)


def _indent(line: Line, column: int, width: int) -> int:
    """Where the text begins; a word too long for its column is kept whole, close to its label, where it can be."""
    if not line.label:
        return 0
    if len(line.text) > (width - column - 2) // 2 and " " not in line.text:
        close, length = cell_len(clean(line.label)) + 1, cell_len(line.text)
        if width - column - 2 < length <= width - close:
            return close
    return column + 2


def _wrap(text: str, width: int) -> list[str]:
    """Cut at blanks, and within a word only where a line cannot hold it."""
    if cell_len(text) <= width:
        return [text]
    pieces = [""]
    for word in text.split(" "):
        line = f"{pieces[-1]} {word}" if pieces[-1] else word
        if cell_len(line) <= width:
            pieces[-1] = line
        elif cell_len(word) <= width:
            pieces.append(word)
        else:
            pieces[-1:] = chop_cells(line, width)
    return pieces


@dataclass(frozen=True, slots=True)
class PickRow:
    """``key`` tells it from the others; ``right`` stands at the right end, and the text gives way to it: in its middle,
    or at its end where its ``start`` says more. The cursor passes over a ``rule``."""

    key: str
    text: str
    right: str = ""
    kind: Kind = "plain"
    start: bool = False
    rule: bool = False

    def cells(self, width: int, pointed: bool) -> Sequence[Cell]:
        """It as it is drawn; ``pointed``: the cursor is on it."""
        text, right = row_text(self, width, pointed=pointed)
        return (text, role_of(self.kind)), (right, "muted")


class PickList(_Scrolling, can_focus=True, inherit_bindings=False):
    """The cursor stays on its row whatever comes and goes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *moving("step", "page"),
        Binding("enter", "pick", "Pick", show=False),
    ]
    DEFAULT_CSS = """
    PickList {
        height: auto;
        overflow: hidden auto;
        scrollbar-size: 0 1;
        scrollbar-gutter: stable;
    }
    """

    class CursorMoved(Message):
        """The cursor is on another row, or on none."""

    class Picked(Message):
        """Enter, or a click, on the row under the cursor."""

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
        self._cursor = keys.index(before) if before in keys else self._allowed(self._cursor, 1)
        if len(old) != len(self.rows):
            self.virtual_size = Size(self.size.width, len(self.rows))
            self.refresh(layout=True)
        else:
            pairs = zip(old, self.rows, strict=True)
            self._repaint(
                {y for y, (one, other) in enumerate(pairs) if one is not other and one != other}
                | ({was, self._cursor} - {was})
            )
        if self.key != before:
            self.post_message(self.CursorMoved())

    def move_to(self, key: str) -> None:
        keys = [row.key for row in self.rows]
        if key in keys:
            self._go(keys.index(key))

    def _allowed(self, number: int, step: int) -> int:
        """The row nearest to a number that is no rule, first of all a step further."""
        last = len(self.rows) - 1
        number = max(min(number, last), 0)
        ways = range(number, last + 1), range(min(number, last), -1, -1)
        return next((at for at in chain(*ways[::step]) if not self.rows[at].rule), number)

    def _go(self, number: int) -> None:
        number = self._allowed(number, 1 if number >= self._cursor else -1)
        if number == self._cursor or not self.rows:
            return
        self._repaint({self._cursor, number})
        self._cursor = number
        self._show_cursor()
        self.post_message(self.CursorMoved())

    def _show_cursor(self) -> None:
        top, height, first = int(self.scroll_offset.y), max(self.size.height, 1), self._cursor
        if first and height > 1 and self.rows[first - 1].rule:
            # What stands over it is seen with it.
            first -= 1
        if not top <= first <= self._cursor < top + height:
            self.scroll_to(y=first if first < top else self._cursor - height + 1, animate=False)

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
        styles = palette(self.app)
        if number >= len(self.rows):
            return Strip.blank(width, styles["plain"])
        row, pointed = self.rows[number], number == self._cursor
        # The scroll bar stands beside it.
        cells = row.cells(self.scrollable_content_region.width, pointed)
        if not pointed:
            return draw_cells(cells, "plain", styles, width)
        ground: Role = "cursor" if self.has_focus else "blurred"
        return draw_cells(((text, "plain" if role == "muted" else role) for text, role in cells), ground, styles, width)

    def action_step(self, by: int) -> None:
        self._go(self._cursor + by)

    def action_page(self, count: int, parts: int = 1) -> None:
        self._go(self._cursor + count * max(self.size.height // parts, 1))

    def action_first(self) -> None:
        self._go(0)

    def action_last(self) -> None:
        self._go(len(self.rows) - 1)

    def action_pick(self) -> None:
        if self.key is not None:
            self.post_message(self.Picked())

    def on_click(self, event: events.Click) -> None:
        number = event.y + int(self.scroll_offset.y)
        if number == self._cursor:
            self.action_pick()
        elif number < len(self.rows) and not self.rows[number].rule:
            self._go(number)


def row_text(row: PickRow, width: int, *, pointed: bool) -> tuple[str, str]:
    """A row as it is drawn, and what stands at its right end: as wide as asked, its text cut where it is too long."""
    right = cut(clean(row.right), max(width - 3, 0))
    text = fit(clean(row.text), max(width - cell_len(right) - 3, 0), middle=not row.start)
    return set_cell_size(f"{CURSOR if pointed else ' '} {text} ", max(width - cell_len(right), 0)), right
