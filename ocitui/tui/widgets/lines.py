"""Lines of text, which scroll, a short list with a cursor, and what their cells hold. Lines that differ are drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.segment import Segment
from textual import events, work
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ocitui.text import clean
from ocitui.words import Kind as Kind
from ocitui.words import Line as Line
from ocitui.words import heading as heading

from ..terminal import Role, draw_cells, palette

Cell = tuple[str, Role]
_WIDEST_LABEL, _LABEL_OF_LONG_LIST = 22, 8
# Rows laid out before the loop has its turn again: some 10 ms.
_AT_ONCE = 4_000
_HEAD_LEAST = 3  # cells of a text's beginning that stay when its middle is cut
_EIGHTHS = " ▏▎▍▌▋▊▉"
_SHORT_FORMATS = {"squashfs": "sq", "erofs": "er"}
# The signs of every screen; a terminal that has ASCII only gets others by its filter.
CURSOR, MARK, ASCENDING, DESCENDING, GOOD, BAD, UNKNOWN = "▸●▴▾✓✗?"
SEVERITIES: dict[str, Cell] = {
    "critical": ("✖", "bad"), "high": (BAD, "bad"), "medium": ("!", "warn"), "warning": ("!", "warn"),
    "low": ("·", "muted"), "info": ("i", "muted"),
}  # fmt: skip
"""The sign of each severity, and what it is drawn for."""


def cut(text: str, width: int, ellipsis: str = "…", *, middle: bool = False) -> str:
    """The text in at most ``width`` cells; where it is longer an ellipsis stands for its end, or for its ``middle``: up
    to a slash where one leaves its beginning in sight (``registry.c…/team-beta/web``), else for what is in between."""
    if (len(text) if text.isascii() else cell_len(text)) <= width:
        return text
    room, end = width - len(ellipsis), ""
    if room < 1:
        return ellipsis[: max(width, 0)]
    if middle:
        ends = (text[at:] for at, sign in enumerate(text) if sign == "/")
        end = next((one for one in ends if cell_len(one) <= room - _HEAD_LEAST), "")
        end = end or text[len(text) - (room + 1) // 2 :]
        while cell_len(end) > max(room - _HEAD_LEAST, 0):
            end = end[1:]
    return set_cell_size(text, room - cell_len(end)) + ellipsis + end


def fit(text: str, width: int, ellipsis: str = "…", right: bool = False, *, middle: bool = False) -> str:
    """The text in exactly ``width`` cells, cut where it is longer."""
    text = cut(text, width, ellipsis, middle=middle)
    padding = " " * (width - (len(text) if text.isascii() else cell_len(text)))
    return padding + text if right else text + padding


def name_cells(name: str, room: int, last: Role) -> Iterator[Cell]:
    """A name in exactly ``room`` cells: the registry recedes, the ``last`` part does not."""
    parent, slash, own = fit(clean(name), room, middle=True).rpartition("/")
    yield f"{parent}{slash}", "muted"
    yield own, last


def format_text(name: str, room: int) -> str:
    """A format in exactly ``room`` cells, in full where it fits."""
    return fit(clean(name if room >= 8 else _SHORT_FORMATS.get(name, name)), room)


def devices_text(used: str) -> str:
    """The first loop device, and how many there are besides."""
    first, *others = used.split(", ")
    return f"{first} +{len(others)}" if others else first


def bar_text(part: int, whole: int, cells: int) -> str:
    """A bar of at most so many cells, in eighths of one."""
    eighths = part * cells * 8 // whole if whole else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


@dataclass
class SearchDone(Message):
    """Of what was searched, to the screen: ``current`` counts from 1, and is 0 where nothing matches; ``capped`` says
    that there may be more."""

    count: int
    current: int
    capped: bool = False

    @property
    def told(self) -> str:
        found = f"{self.count}{' or more' if self.capped else ''}"
        return f"match {self.current} of {found}; n and N go on" if self.count else "no match"


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


class _Rows:
    """Lines laid out as rows, and where others are to be the list that makes them, once for each of its rows."""

    def __init__(self, column: int = 0, width: int = 0) -> None:
        self._rows: list[Line | LongList] = []
        self._starts: dict[LongList, int] = {}
        self._column, self._width = column, width

    def extend(self, rows: Iterable[Line | LongList]) -> bool:
        """Gives whether there were any."""
        before = len(self)
        for row in rows:
            if isinstance(row, LongList):
                self._starts[row] = len(self)
                self._rows += repeat(row, row.count)
            else:
                self._rows.append(row)
        return len(self) > before

    def __len__(self) -> int:
        return len(self._rows)

    def at(self, number: int) -> Line | None:
        """A row; None where there is none."""
        row = self._rows[number] if 0 <= number < len(self) else None
        if not isinstance(row, LongList):
            return row
        line = row.make(number - self._starts[row])
        label = _label(line, self._column, self._column + 2) if self._column else ""
        return Line(cut(clean(line.text), max(self._width - cell_len(label), 0)), label, line.kind)


def bound(keys: Mapping[str, str], *, priority: bool = False) -> list[BindingType]:
    """The bindings of a screen or widget: what each key does, or each of several with commas between."""
    return [Binding(key, action, priority=priority) for key, action in keys.items()]


MOVES = {
    "up,k": "step(-1)", "down,j": "step(1)", "home,g": "first", "end,G": "last",
    "ctrl+u": "page(-1, 2)", "ctrl+d": "page(1, 2)", "ctrl+f": "page(1)",
}  # fmt: skip
PAGES = {"pageup": "page(-1)", "pagedown": "page(1)"}
"""The keys that move in every table, list and view: by lines, and by pages or so many parts of one."""


class Scrolling(ScrollView):
    """A view whose bar tells where it stands."""

    ALLOW_SELECT = False

    def repaint(self, rows: Iterable[int]) -> None:
        """Draw these again, as far as they are seen."""
        top, (width, height) = int(self.scroll_offset.y), self.size
        if regions := [Region(0, y - top, width, 1) for y in rows if top <= y < top + height]:
            self.refresh(*regions)

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        """Textual moves no bar that is not shown: it would come back where it was."""
        if shown:
            self.vertical_scrollbar.position = self.scroll_y


class ReadingView(Scrolling, can_focus=True, inherit_bindings=False):
    """A view of lines, here or of a document, that the keys scroll."""

    BINDINGS = bound(MOVES | PAGES)

    @property
    def page(self) -> int:
        """How many rows are seen at once."""
        return self.size.height

    def go(self, x: float | None = None, y: float | None = None) -> None:
        """Scroll there at once; forced, because there may be no scrollbar that would allow it."""
        self.scroll_to(x, y, animate=False, force=True)

    def action_step(self, count: int) -> None:
        self.go(y=self.scroll_offset.y + count)

    def action_page(self, count: int, parts: int = 1) -> None:
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
        height: 1fr; padding: 0 0 0 1; overflow: hidden auto; scrollbar-size: 0 1; scrollbar-gutter: stable;
    }
    """

    def __init__(self, lines: Sequence[Line] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: tuple[Line | LongList, ...] = tuple(lines)
        self._rows = _Rows()

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
        # Another size of nothing would have all of the screen laid out again.
        if width <= 0 or not (self.lines or len(self._rows)):
            return
        top, height = int(self.scroll_offset.y), self.size.height
        column = _label_column(self.lines, width)
        old, self._rows, coming = self._rows, _Rows(column, width), _rows(self.lines, column, width)
        self._rows.extend(islice(coming, max(_AT_ONCE, top + height)))
        self.virtual_size = Size(width, len(self._rows))
        self.repaint(y for y in range(top, top + height) if old.at(y) != self._rows.at(y))
        self.workers.cancel_group(self, "rows")
        if len(self._rows) >= _AT_ONCE:
            self._lay_out_rest(coming, width)

    @work(group="rows")
    async def _lay_out_rest(self, coming: Iterator[Line | LongList], width: int) -> None:
        """Lay out what is below, a part at a time, so that keys are answered meanwhile."""
        while self._rows.extend(islice(coming, _AT_ONCE)):
            # A new size draws the scroll bar again, so it is not told each time.
            if len(self._rows) >= 2 * self.virtual_size.height:
                self.virtual_size = Size(width, len(self._rows))
            await asyncio.sleep(0)
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
    labels = {None if isinstance(line, LongList) else line.label for line in lines}
    cells = (_LABEL_OF_LONG_LIST if label is None else cell_len(clean(label)) for label in labels)
    return min(max(cells, default=0), _WIDEST_LABEL, max(width // 3, 1))


def _rows(lines: Sequence[Line | LongList], column: int, width: int) -> Iterator[Line | LongList]:
    """The lines cut to the width, labels filled up to a column of their own."""
    for line in lines:
        if isinstance(line, LongList):
            yield line
            continue
        indent = _indent(line, column, width)
        room = max(width - indent, 1)
        # Nearly every line, at a tenth of the cost; a character takes two cells at most.
        if len(line.text) <= (room if line.text.isascii() else room // 2) and line.text.isprintable():
            yield Line(line.text, _label(line, column, indent), line.kind)
            continue
        parts = (clean(part.expandtabs()) for part in line.text.split("\n"))
        pieces = [piece for part in parts for piece in (_wrap(part, room) or [""])]
        for number, piece in enumerate(pieces):
            yield Line(piece, " " * indent if number else _label(line, column, indent), line.kind)


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
        """It as it is drawn, as wide as asked, its text cut where it is too long; ``pointed``: the cursor is on it."""
        right = cut(clean(self.right), max(width - 3, 0))
        room = max(width - cell_len(right), 0)
        text = fit(clean(self.text), max(room - 3, 0), middle=not self.start)
        text = set_cell_size(f"{CURSOR if pointed else ' '} {text} ", room)
        return (text, role_of(self.kind)), (right, "muted")


class PickList(Scrolling, can_focus=True, inherit_bindings=False):
    """The cursor stays on its row whatever comes and goes."""

    BINDINGS = bound(MOVES | {"enter": "pick"})
    DEFAULT_CSS = "PickList { height: auto; overflow: hidden auto; scrollbar-size: 0 1; scrollbar-gutter: stable; }"

    class CursorMoved(Message):
        """The cursor is on another row, or on none."""

    class Picked(Message):
        """Enter, or a click, on the row under the cursor."""

    rows: Sequence[PickRow] = ()
    _cursor = 0

    @property
    def row(self) -> PickRow | None:
        """The one under the cursor."""
        return self.rows[self._cursor] if self._cursor < len(self.rows) else None

    @property
    def key(self) -> str | None:
        """That of the row under the cursor."""
        return self.row.key if self.row is not None else None

    def set_rows(self, rows: Sequence[PickRow], cursor: int | None = None) -> None:
        """Show these, which are not to change, with the ``cursor`` there. Without, it stays on its row, and where that
        is gone, near; with it, of rows that are made as they are asked for only those are made that are seen."""
        before, old, was = self.key, self.rows, self._cursor
        top, height = int(self.scroll_offset.y), self.size.height
        seen = 0 <= was - top < height
        self.rows = rows
        if cursor is None:
            cursor = next((at for at, row in enumerate(rows) if row.key == before), was)
        self._cursor = self._allowed(cursor, 1)
        if len(old) != len(self.rows):
            self.virtual_size = Size(self.size.width, len(self.rows))
            self.refresh(layout=True)
        else:
            # A row that the cursor left is another one; one that it came to is not where its own became a rule.
            others = (y for y in range(top, min(top + height, len(rows))) if old[y] != rows[y])
            self.repaint([self._cursor, *others])
        if seen and self._cursor != was:
            self.call_after_refresh(self._show_cursor)
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
        self.repaint((self._cursor, number))
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

    def on_resize(self, _: events.Resize) -> None:
        self.virtual_size = Size(self.size.width, len(self.rows))
        self._show_cursor()

    def render_line(self, y: int) -> Strip:
        number, width = y + int(self.scroll_offset.y), self.size.width
        styles = palette(self.app)
        if number >= len(self.rows):
            return Strip.blank(width, styles["plain"])
        row = self.rows[number]
        pointed = number == self._cursor and not row.rule
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
