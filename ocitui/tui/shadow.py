"""What the terminal shows beside what was drawn for it, and the fewest bytes from the one to the other. The driver
hands on every frame of Textual's, and writes what comes out."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple

from rich.cells import cell_len, split_graphemes


class UnknownSequenceError(ValueError):
    """A frame holds more than frames are known to hold: what the terminal shows after it cannot be told."""


class Style(NamedTuple):
    """How a cell looks, in the terminal's own terms: the numbers of attributes, and the parameters of each colour."""

    attributes: tuple[int, ...] = ()
    foreground: str = ""
    background: str = ""
    link: str = ""


Cell = tuple[str, Style]
"""A grapheme and its style; the second half of a wide one has no text."""
Row = list[Cell | None]
"""The cells of a line, None where nobody knows what stands there."""
Size = tuple[int, int]

_TOKEN = re.compile(
    r"\x1b\[(?:(?P<y>\d+);(?P<x>\d+)H|(?P<style>[\d;]*)m)|\x1b\]8;(?P<link>[^\x00-\x1f\x7f-\x9f]*)\x1b\\"
    r"|(?P<line>\n)|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
)
_PLAIN = Style()
_BLANK: Cell = (" ", _PLAIN)
_OFF = {1: 22, 2: 22, 3: 23, 4: 24, 5: 25, 6: 25, 7: 27, 8: 28, 9: 29, 21: 24, 51: 54, 52: 54, 53: 55}
_SEEN_ON_BLANKS = frozenset({4, 7, 9, 21, 51, 52, 53})
# Those of one cell in every terminal.
_NARROW = re.compile(
    "[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482\u2010-\u2027\u2190-\u21ff\u2500-\u25fc\u2713-\u2718\u2731]*"
)
_LONGEST_BRIDGE = 8
_FEWEST_ERASED, _FEWEST_BLANKED, _FEWEST_SCROLLED = 4, 10, 3
# Characters, margins and style as at the start, whatever was written meanwhile.
_AFRESH = "\x0f\x1b(B\x1b[r"


@lru_cache(maxsize=4096)
def _styled(style: Style, parameters: str) -> Style:
    """A style after one more SGR. Raises UnknownSequenceError."""
    codes = iter(parameters.split(";"))
    for code in codes:
        number = int(code or 0)
        if number == 0:
            style = Style(link=style.link)
        elif number in _OFF:
            style = style._replace(attributes=tuple(sorted({*style.attributes, number})))
        elif number in (38, 48):
            kind = next(codes, "")
            more = [next(codes, "") for _ in range({"5": 1, "2": 3}.get(kind, 0))]
            if not more or "" in more:
                raise UnknownSequenceError(parameters)
            colour = ";".join((code, kind, *more))
            style = style._replace(foreground=colour) if number == 38 else style._replace(background=colour)
        elif 30 <= number <= 39 or 90 <= number <= 97:
            style = style._replace(foreground="" if number == 39 else code)
        elif 40 <= number <= 49 or 100 <= number <= 107:
            style = style._replace(background="" if number == 49 else code)
        else:
            raise UnknownSequenceError(parameters)
    return style


@lru_cache(maxsize=1024)
def _blank(style: Style) -> Cell:
    """A blank of a style, without what cannot be seen of it there."""
    seen = style.link or _SEEN_ON_BLANKS.intersection(style.attributes)
    return (" ", style if seen else Style(background=style.background))


@lru_cache(maxsize=4096)
def _change(old: Style | None, new: Style) -> str:
    """The shortest sequence from one style to another; None is one that nobody knows."""
    if old is None:
        return "\x1b[m" + _change(_PLAIN, new)
    link = f"\x1b]8;{new.link or ';'}\x1b\\" if old.link != new.link else ""
    if old[:3] == new[:3]:
        return link
    off = {_OFF[one] for one in old.attributes if one not in new.attributes}
    kept = {one for one in old.attributes if _OFF[one] not in off}
    codes = [*map(str, sorted(off)), *(str(one) for one in new.attributes if one not in kept)]
    if old.foreground != new.foreground:
        codes.append(new.foreground or "39")
    if old.background != new.background:
        codes.append(new.background or "49")
    afresh = ["", *map(str, new.attributes), *filter(None, (new.foreground, new.background))]
    return f"{link}\x1b[{min(';'.join(afresh), ';'.join(codes), key=len)}m"


@lru_cache(maxsize=4096)
def _towards(pen: Style | None, style: Style, blank: bool) -> Style:
    """The style to write a cell in: a blank takes any that looks the same, that of the cell before if it does."""
    if not blank or style.attributes or pen is None or pen.link != style.link or _blank(pen)[1].attributes:
        return style
    return min(pen._replace(background=style.background), style, key=lambda one: len(_change(pen, one)))


@lru_cache(maxsize=1024)
def _disputed(text: str) -> bool:
    """Whether terminals differ in how many cells a grapheme takes: joined ones, flags, skin tones, marks with room."""
    first = text[:1]
    odd = "\U0001f000" <= first < "\U00020000" or ("\u2300" <= first < "\u2e80" and cell_len(first) == 2)
    return odd or unicodedata.category(first) in ("Mc", "Cf") or not all(map(unicodedata.combining, text[1:]))


def _is_uneven(row: Row) -> bool:
    texts = [cell[0] for cell in row if cell is not None]
    return not _NARROW.fullmatch("".join(texts)) and any(_disputed(text) for text in texts if not text.isascii())


def _width(row: Row, x: int) -> int:
    """How many cells the grapheme at a place takes."""
    return 2 if x + 1 < len(row) and (row[x + 1] or _BLANK)[0] == "" else 1


def _is_erasable(cell: Cell | None, in_colour: bool) -> bool:
    """Whether it looks as an erased cell does, which has the background that is set where a terminal does so."""
    return cell is not None and cell == (" ", Style(background=cell[1].background if in_colour else ""))


def _steps(count: int, letter: str) -> str:
    return "" if count == 0 else f"\x1b[{letter}" if count == 1 else f"\x1b[{count}{letter}"


def _length(text: str) -> int:
    """The bytes on the line: the kernel puts a carriage return before each newline, as Textual counts on too."""
    return len(text.encode()) + text.count("\n")


def _cells(text: str, style: Style) -> tuple[str, list[Cell]]:
    """The cells of a text, and before them the marks it begins with, which belong to the cell before."""
    blank = _blank(style)
    if _NARROW.fullmatch(text):
        return "", [blank if one == " " else (one, style) for one in text]
    marks, cells = "", list[Cell]()
    for start, end, width in split_graphemes(text)[0]:
        grapheme = text[start:end]
        if width == 0:
            marks += grapheme
        else:
            cells += [blank if grapheme == " " else (grapheme, style), *repeat(("", style), width - 1)]
    return marks, cells


class _Output:
    """What is written, and where the terminal stands after it: ``y`` is None where nobody knows, ``x`` the width
    where the cursor is at the margin, which not all terminals count alike."""

    def __init__(self, size: Size, y: int | None = None, x: int = 0, pen: Style | None = None) -> None:
        self.size = self.width, self.height = size
        self.y, self.x, self.pen = y, x, pen
        self.parts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def move(self, y: int, x: int) -> None:
        if (self.y, self.x) != (y, x):
            self.parts.append(self._way(y, x))
            self.y, self.x = y, x

    def _way(self, y: int, x: int) -> str:
        absolute = f"\x1b[{y + 1};{x + 1}H" if x else f"\x1b[{y + 1}H" if y else "\x1b[H"
        if self.y is None:
            return absolute
        ways, down, right, inside = [absolute], y - self.y, x - self.x, self.x < self.width
        if 0 <= down < 3:
            ways.append(("\n" * down or "\r") + _steps(x, "C"))
        if inside and down == 0:
            ways.append(_steps(right, "C") if right > 0 else min(_steps(-right, "D"), "\b" * -right, key=len))
        if inside and right == 0:
            ways.append(_steps(down, "B") if down > 0 else _steps(-down, "A"))
        return min(ways, key=_length)

    def put(self, cell: Cell, cells: int = 1) -> None:
        """Write a grapheme of so many cells where the cursor is."""
        if cell[1] is not self.pen:
            self.set_pen(cell)
        self.parts.append(cell[0])
        self.x += cells

    def set_pen(self, cell: Cell) -> None:
        """Take a style in which the cell looks as it is to look."""
        pen = _towards(self.pen, cell[1], cell[0] == " ")
        if pen != self.pen:
            self.parts.append(_change(self.pen, pen))
            self.pen = pen

    def write_row(self, y: int, new: Row, old: Row, *, erases_in_colour: bool) -> None:
        """Write the cells of a line that are not as they were."""
        changed = [x for x, (one, before) in enumerate(zip(new, old, strict=True)) if one is not None and one != before]
        if not changed:
            return
        if _is_uneven(new) or _is_uneven(old):
            self._write_uneven(y, new)
            return
        erased, done = self._erased_from(new, changed, erases_in_colour), 0
        for x in changed:
            if x < done:
                continue
            if x >= erased:
                self._go_on_at(y, x, new)
                self.set_pen(new[x] or _BLANK)
                self.parts.append("\x1b[K")
                return
            if x != self.x or y != self.y:
                self._go_on_at(y, x, new)
            blanks = self._blanks_at(x, new, changed) if _is_erasable(new[x], erases_in_colour) else 0
            if blanks >= _FEWEST_BLANKED:
                self.set_pen(new[x] or _BLANK)
                self.parts.append(f"\x1b[{blanks}X")
                done = x + blanks
            else:
                self.put(new[x] or _BLANK, _width(new, x))
                done = self.x

    @staticmethod
    def _blanks_at(x: int, row: Row, changed: list[int]) -> int:
        """How many cells from one on are alike, up to the last of them that is to be changed."""
        end = next((at for at in range(x, len(row)) if row[at] != row[x]), len(row))
        return changed[bisect_left(changed, end) - 1] + 1 - x

    def _write_uneven(self, y: int, row: Row) -> None:
        """Write all of a line that terminals measure differently: each disputed grapheme over blanks, so that nothing
        shows beside it, and what follows at its own place."""
        for x, cell in enumerate(row):
            if cell is None or not cell[0]:
                continue
            self.move(y, x)
            if not _disputed(cell[0]):
                self.put(cell, _width(row, x))
                continue
            for _ in range(_width(row, x)):
                self.put((" ", cell[1]))
            self.y = None
            self.move(y, x)
            self.put(cell)
            self.y = None

    def _erased_from(self, row: Row, changed: list[int], erases_in_colour: bool) -> int:
        """From where on the rest of a line is erased, where that is shorter than blanks; the width where it is not."""
        last, first = row[-1], self.width
        if not _is_erasable(last, erases_in_colour):
            return self.width
        while first and row[first - 1] == last:
            first -= 1
        blanks = [x for x in changed if x >= first]
        return first if blanks and blanks[-1] - blanks[0] >= _FEWEST_ERASED else self.width

    def _go_on_at(self, y: int, x: int, row: Row) -> None:
        """Go to a cell, over what stands before it where writing that again is shorter than a move."""
        if y == self.y and 0 < x - self.x <= _LONGEST_BRIDGE:
            between, cell = row[self.x : x], row[x] or _BLANK
            if all(one is not None and one[0] and one[0].isascii() for one in between):
                over, moved = (_Output(self.size, y, self.x, self.pen) for _ in range(2))
                for one in between:
                    over.put(one or _BLANK)
                over.set_pen(cell)
                moved.move(y, x)
                moved.set_pen(cell)
                if len(over.text) <= len(moved.text):
                    self.parts.append(over.text)
                    self.x, self.pen = x, over.pen
                    return
        self.move(y, x)


class Shadow:
    """Takes frames, and gives what makes the terminal show what was drawn. ``erases_in_colour``: erased cells take
    the background that is set, as terminfo's ``bce`` has it. ``lost``: nobody knows any more what the terminal shows;
    it may be set in a signal's handler."""

    def __init__(self, *, erases_in_colour: bool) -> None:
        self.lost = True
        self._erases_in_colour = erases_in_colour
        self._size: Size = (0, 0)
        self._drawn: list[Row] = []
        self._shown: list[Row] = []
        self._output = _Output(self._size)
        self._cursor = (0, 0)

    def resize(self, size: Size) -> None:
        """Be of another size, in columns and lines; nothing is known of it yet."""
        if size != self._size:
            self._size = size
            self.forget()

    def forget(self) -> None:
        """Take what was drawn to be unknown too."""
        self._drawn = self._unknown()
        self.lost = True

    def _unknown(self) -> list[Row]:
        width, height = self._size
        return [[None] * width for _ in range(height)]

    def draw(self, frame: str) -> None:
        """Take in a frame. Raises UnknownSequenceError for what is no part of one, and has drawn a part then."""
        at, (y, x), style = 0, self._cursor, _PLAIN
        while at < len(frame):
            token = _TOKEN.match(frame, at)
            if token is None:
                raise UnknownSequenceError(repr(frame[at : at + 20]))
            at, kind = token.end(), token.lastgroup
            if kind == "text":
                x = self._put(y, x, token[0], style)
            elif kind == "style":
                style = _styled(style, token["style"])
            elif kind == "x":
                y, x = int(token["y"]) - 1, int(token["x"]) - 1
            elif kind == "line":
                y, x = y + 1, 0
            else:
                style = style._replace(link="" if token["link"] == ";" else token["link"])
        width, height = self._size
        self._cursor = min(y, height - 1), min(x, width - 1)

    def _put(self, y: int, x: int, text: str, style: Style) -> int:
        """Put a text into a line, as far as it goes; gives the column behind it."""
        row: Row = self._drawn[y] if y < len(self._drawn) else []
        marks, cells = _cells(text, style)
        end, last = x + len(cells), len(row) - 1
        if marks and 0 < x <= last:
            base = x - 1 if (row[x - 1] or _BLANK)[0] else x - 2
            row[base] = ((row[base] or _BLANK)[0] + marks, (row[base] or _BLANK)[1])
        for half, other in ((x, x - 1), (end, end)):
            # What is left of a wide one is a blank.
            if cells and 0 < half <= last and (cell := row[half]) is not None and not cell[0]:
                row[other] = _blank(cell[1])
        row[x:end] = cells[: max(0, last + 1 - x)]
        if x <= last < end - 1 and not cells[last + 1 - x][0]:
            row[last] = _blank(style)
        return end

    def update(self) -> str:
        """What makes the terminal show what was drawn; it is taken to be written."""
        afresh = ""
        if not self._drawn:
            self.lost = False
            return ""
        if self.lost:
            self.lost, afresh = False, _AFRESH
            self._shown, self._output = self._unknown(), _Output(self._size)
        changed = [y for y, row in enumerate(self._drawn) if row != self._shown[y]]
        output = self._difference(self._output, self._shown)
        if len(changed) >= _FEWEST_SCROLLED and (scrolled := self._scrolled(changed)) is not None:
            output = min(output, self._difference(*scrolled), key=lambda one: _length(one.text))
        self._output = _Output(self._size, output.y, output.x, output.pen)
        for y in changed:
            self._shown[y] = self._drawn[y][:]
        return afresh + output.text if output.parts else ""

    def _difference(self, start: _Output, shown: list[Row]) -> _Output:
        """What is to be written after a start, which leaves the terminal showing this."""
        output = _Output(self._size, start.y, start.x, start.pen)
        output.parts += start.parts
        for y, (new, old) in enumerate(zip(self._drawn, shown, strict=True)):
            if new != old:
                output.write_row(y, new, old, erases_in_colour=self._erases_in_colour)
        # No terminal is left with a colour at rest: what it adds at a resize, or another program writes, would have it.
        output.set_pen(("", _PLAIN))
        output.move(*self._cursor)
        return output

    def _scrolled(self, changed: list[int]) -> tuple[_Output, list[Row]] | None:
        """A start that scrolls the lines which stand elsewhere now; None where they are few."""
        # Half a line will do: beside a table that scrolls there may be a pane that does not.
        half = self._size[0] // 2
        before = {tuple(self._shown[y][:half]): y for y in changed}
        places: dict[int, list[int]] = {}
        for y in changed:
            start = tuple(self._drawn[y][:half])
            was = before.get(start, y)
            if was != y and len({*start}) > 1:
                places.setdefault(y - was, []).extend((y, was))
        down = max(places, key=lambda one: len(places[one]), default=0)
        if len(places.get(down, ())) < 2 * _FEWEST_SCROLLED:
            return None
        top, bottom, by = min(places[down]), max(places[down]) + 1, abs(down)
        output = _Output(self._size, pen=self._output.pen)
        output.parts.append(f"\x1b[{top + 1};{bottom}r\x1b[{top + 1}H\x1b[{by}{'L' if down > 0 else 'M'}\x1b[r")
        blank: list[Row] = [[_BLANK] * self._size[0] for _ in range(by)]
        region = self._shown[top:bottom]
        region = [*blank, *region[:-by]] if down > 0 else [*region[by:], *blank]
        return output, [*self._shown[:top], *region, *self._shown[bottom:]]
