"""What is laid out for a terminal: rows of text in columns that fit, and sentences, wrapped, with digests short enough
to be read."""

from __future__ import annotations

import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from ocitui.text import clean, short_digest

from .output import is_terminal

if TYPE_CHECKING:
    from ocitui.words.lines import Line

_GAP = "  "
_NARROWEST = 8
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """``right`` aligns numbers. A column with a ``rank`` is left out where room is short, the highest rank first;
    before the last are left out, those that ``shrink`` do so."""

    title: str
    right: bool = False
    rank: int = 0
    shrink: bool = False


def terminal_width() -> int | None:
    """The columns of the terminal on standard output; None where it is not one, and nothing is to be cut."""
    if not is_terminal(sys.stdout):
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def lay_out(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None, widest: Sequence[int] | None = None
) -> Iterator[str]:
    """The title line and a line for each row, at most ``width`` cells wide.

    With ``widest``, how wide the texts of each column get at most, each line comes as soon as its row does.
    """
    titles = [column.title for column in columns]
    if widest is None:
        rows = cells = [[clean(text) for text in row] for row in rows]
        widest = [max((cell_width(row[at]) for row in cells), default=0) for at in range(len(columns))]
    widths = [max(cell_width(title), wide) for title, wide in zip(titles, widest, strict=True)]
    shown = _fit(columns, widths, width)
    plain = _GAP.join(f"%{'' if columns[at].right else '-'}{widths[at]}s" for at in shown)
    whole = sum(widths[at] + len(_GAP) for at in shown) - len(_GAP)
    for row in chain((titles,), rows):
        line = plain % tuple([row[at] or "-" for at in shown])
        # What fits and has a cell for each character, as nearly every row.
        if len(line) != whole or not line.isascii() or not line.isprintable():
            line = _GAP.join(_pad(clean(row[at]) or "-", widths[at], columns[at].right) for at in shown)
        yield line.rstrip()


def _fit(columns: Sequence[Column], widths: list[int], width: int | None) -> list[int]:
    """Which columns are shown; ``widths`` are narrowed in place."""
    shown = list(range(len(columns)))
    if width is None:
        return shown

    def excess() -> int:
        return sum(widths[at] for at in shown) + len(_GAP) * (len(shown) - 1) - width

    for least in sorted((at for at in shown if columns[at].rank), key=lambda at: -columns[at].rank):
        if excess() <= sum(max(0, widths[at] - 2 * _NARROWEST) for at in shown if columns[at].shrink):
            break
        shown.remove(least)
    for at in shown:
        if columns[at].shrink:
            widths[at] -= max(0, min(excess(), widths[at] - _NARROWEST))
    for at in reversed(shown):
        widths[at] -= max(0, min(excess(), widths[at] - 1))
    return shown


def cell_width(text: str) -> int:
    """How many cells a terminal takes for it."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _pad(text: str, width: int, right: bool) -> str:
    wide = cell_width(text)
    if wide > width:
        text = cut(text, width)
        wide = cell_width(text)
    filling = " " * (width - wide)
    return filling + text if right else text + filling


def cut(text: str, width: int) -> str:
    """The beginning that fits, with an ellipsis."""
    kept, room = "", width - 1
    for character in text:
        room -= _character_width(character)
        if room < 0:
            break
        kept += character
    return kept + ELLIPSIS


_DIGEST = re.compile(r"\b(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})(\.[a-z][.a-z]*[a-z])?")
_USUAL_WIDTH, _WIDEST = 80, 100


def text_width() -> int:
    """The cells of a line of prose: as many as the terminal has, 80 where there is none, 100 at most."""
    return min(terminal_width() or _USUAL_WIDTH, _WIDEST)


def shortened(text: str) -> str:
    """The text with every digest cut to twelve digits; of a file's name the ending is kept."""
    return _DIGEST.sub(_short, text)


def paragraph(text: str, first: str = "", rest: str | None = None) -> list[str]:
    """The text in lines of at most `text_width`; ``first`` begins the first one and ``rest`` the others, which are set
    in as far as the first where it is None. A word that is longer than a line is left whole."""
    lines = textwrap.wrap(
        clean(shortened(text)),
        max(text_width(), len(first) + 20),
        initial_indent=first,
        subsequent_indent=" " * len(first) if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [first.rstrip()]


def laid_out(lines: Iterable[Line]) -> Iterator[str]:
    """Lines with their labels before them, set in beneath a title."""
    from ocitui.words.lines import CommandLine

    for line in lines:
        if isinstance(line, CommandLine):
            yield f"    {line.label:<9} {line.text}"
        elif line.kind == "heading":
            yield from paragraph(line.text, "  ")
        elif line.text or line.label:
            yield from paragraph(line.text, f"    {line.label:<9} ")


def _short(match: re.Match[str]) -> str:
    digits = short_digest(match[0].partition(".")[0])
    return f"{digits}{ELLIPSIS}{match[1]}" if match[1] else digits
