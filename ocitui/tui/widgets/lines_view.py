"""Labelled lines of text: summaries, explanations, plans and help. Scrolls; repaints only the lines that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar, overload

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ocitui.text import clean

Kind = Literal["plain", "heading", "good", "bad", "muted"]
_WIDEST_LABEL = 22
# Rows laid out at first: some 10 ms. The plan of a large cache has 400,000; the others follow as they are scrolled to.
_AT_ONCE = 4_000
_MOST_ROWS = 1_000_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """A text with a label before it; a text too long for the width goes on in lines below."""

    text: str = ""
    label: str = ""
    kind: Kind = "plain"


def heading(text: str) -> Line:
    return Line(text, kind="heading")


class _Row(NamedTuple):
    label: str
    text: str
    kind: Kind


class LinesView(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows lines; what comes from the disk is cleaned here."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "lines(-1)", "Line up", show=False),
        Binding("down,j", "lines(1)", "Line down", show=False),
        Binding("pageup", "pages(-1)", "Page up", show=False),
        Binding("pagedown", "pages(1)", "Page down", show=False),
        Binding("home,g", "top", "First line", show=False),
        Binding("end,G", "bottom", "Last line", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "lines-view--plain",
        "lines-view--heading",
        "lines-view--good",
        "lines-view--bad",
        "lines-view--muted",
        "lines-view--label",
    }
    DEFAULT_CSS = """
    LinesView {
        height: 1fr;
        overflow: hidden auto;
        scrollbar-size: 0 1;
        scrollbar-gutter: stable;
        background: $background;
        color: $foreground;
        & > .lines-view--heading { text-style: bold; color: $text-primary; }
        & > .lines-view--good { color: $text-success; }
        & > .lines-view--bad { color: $text-error; text-style: bold; }
        & > .lines-view--muted, & > .lines-view--label { color: $text-muted; }
    }
    """

    def __init__(self, lines: Sequence[Line] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = lines
        self._rows: list[_Row] = []
        self._coming: Iterator[list[_Row]] = iter(())
        self._laid_out = 0

    @property
    def lines(self) -> Sequence[Line]:
        return self._lines

    def set_lines(self, lines: Iterable[Line], *, keep_place: bool = False) -> None:
        """Show other lines, from the top unless ``keep_place``; of a sequence they are made as they come into view."""
        self._lines = lines if isinstance(lines, Sequence) else tuple(lines)
        if not keep_place:
            self.scroll_to(y=0, animate=False, immediate=True)
        self._lay_out()

    def text(self) -> str:
        """All the text as it is laid out, for tests and for copying."""
        self._lay_out_to(_MOST_ROWS * (len(self._lines) + 1))
        return "\n".join(f"{row.label} {row.text}".strip() for row in self._rows)

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        self._lay_out_to(int(new) + 2 * self.size.height)

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width
        if width <= 0:
            return
        top, height = int(self.scroll_offset.y), self.size.height
        old, self._rows = self._rows, []
        self._coming, self._laid_out = _rows(self._lines, width), 0
        self._lay_out_to(max(_AT_ONCE, top + height))
        changed = [y for y in range(top, top + height) if old[y : y + 1] != self._rows[y : y + 1]]
        if changed:
            self.refresh(*(Region(0, y - top, width, 1) for y in changed))

    def _lay_out_to(self, row: int) -> None:
        """Lay out the rows up to this one; a line that has not been laid out yet counts as one of them."""
        while len(self._rows) < row and (pieces := next(self._coming, None)) is not None:
            self._rows += pieces
            self._laid_out += 1
        width = self.scrollable_content_region.width
        size = Size(width, len(self._rows) + len(self._lines) - self._laid_out)
        if width > 0 and size != self.virtual_size:
            self.virtual_size = size

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        row_number = y + int(self.scroll_offset.y)
        blank = self.get_component_rich_style("lines-view--plain")
        if row_number >= len(self._rows):
            return Strip.blank(width, blank)
        row = self._rows[row_number]
        segments = []
        if row.label:
            segments.append(Segment(row.label, self.get_component_rich_style("lines-view--label")))
        style: Style = self.get_component_rich_style(f"lines-view--{row.kind}")
        segments.append(Segment(row.text, style))
        return Strip(segments).adjust_cell_length(width, blank)

    def action_lines(self, count: int) -> None:
        self.scroll_relative(y=count, animate=False)

    def action_pages(self, count: int) -> None:
        self.scroll_relative(y=count * max(self.size.height - 1, 1), animate=False)

    def action_top(self) -> None:
        self.scroll_home(animate=False)

    def action_bottom(self) -> None:
        self.scroll_end(animate=False)


class Lines(Sequence[Line]):
    """The lines of several sequences, one behind the other."""

    def __init__(self, *parts: Sequence[Line]) -> None:
        self._parts = parts
        self._length = sum(len(part) for part in parts)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> Line: ...
    @overload
    def __getitem__(self, at: slice) -> list[Line]: ...
    def __getitem__(self, at: int | slice) -> Line | list[Line]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        for part in self._parts:
            if at < len(part):
                return part[at]
            at -= len(part)
        raise IndexError(at)

    def __iter__(self) -> Iterator[Line]:
        return chain.from_iterable(self._parts)


class LinesOf(Sequence[Line], Generic[T]):
    """A line of each thing in a sequence, made when it is asked for."""

    def __init__(self, things: Sequence[T], line_of: Callable[[T], Line]) -> None:
        self._things = things
        self._line_of = line_of

    def __len__(self) -> int:
        return len(self._things)

    @overload
    def __getitem__(self, at: int) -> Line: ...
    @overload
    def __getitem__(self, at: slice) -> list[Line]: ...
    def __getitem__(self, at: int | slice) -> Line | list[Line]:
        if isinstance(at, slice):
            return [self._line_of(thing) for thing in self._things[at]]
        return self._line_of(self._things[at])


def _rows(lines: Sequence[Line], width: int) -> Iterator[list[_Row]]:
    """The rows of each line, cut to the width; labels have a column of their own, as wide as the first of them are."""
    labels = {line.label for line in islice(lines, _AT_ONCE)}
    column = min(max((cell_len(clean(label)) for label in labels), default=0), _WIDEST_LABEL, max(width // 3, 1))
    return (_rows_of(line, column, width) for line in lines)


def _rows_of(line: Line, column: int, width: int) -> list[_Row]:
    indent = _indent(line, column, width)
    room = max(width - indent, 1)
    # Nearly every line, at a tenth of the cost; a character takes two cells at most.
    if len(line.text) <= (room if line.text.isascii() else room // 2) and line.text.isprintable():
        return [_Row(clean(line.label)[:column].ljust(indent) if indent else "", line.text, line.kind)]
    pieces = [piece for part in clean_lines(line.text) for piece in (_wrap(part, room) or [""])]
    labels = [clean(line.label)[:column], *[""] * (len(pieces) - 1)]
    return [
        _Row(label.ljust(indent) if indent else "", piece, line.kind)
        for label, piece in zip(labels, pieces, strict=True)
    ]


def _indent(line: Line, column: int, width: int) -> int:
    """Where the text begins; a word too long for its column is kept whole, close to its label, where it can be."""
    if not line.label:
        return 0
    if len(line.text) > (width - column - 2) // 2 and " " not in line.text:
        close, length = cell_len(clean(line.label)) + 1, cell_len(line.text)
        if width - column - 2 < length <= width - close:
            return close
    return column + 2


def clean_lines(text: str) -> list[str]:
    """The text's own lines, each one cleaned."""
    return [clean(part.expandtabs()) for part in text.split("\n")]


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
            whole = chop_cells(line, width)
            pieces[-1:] = whole
    return pieces
