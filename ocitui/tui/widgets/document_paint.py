"""A line of a document, cut to what is seen of it and coloured.

A line of at most LONG_LINE bytes is decoded whole and its columns are cells. In a longer one the columns are bytes:
so any part of megabytes on one line is found without looking at the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from ocitui.cache.documents import structural_quotes
from ocitui.text import REPLACEMENT, clean

from .document_text import DocumentText

Kind = Literal["key", "string", "number", "literal", "punctuation", "plain"]

_REST_OF_STRING = r'(?:[^"\\]++|\\.)*+'
_CONTINUED_KEY = re.compile(_REST_OF_STRING + r'"(?=\s*:)', re.DOTALL)
_CONTINUED_STRING = re.compile(_REST_OF_STRING + r'\\?"?', re.DOTALL)
_TOKEN = re.compile(
    rf"""
      (?P<key> "{_REST_OF_STRING}"(?=\s*:) )
    | (?P<string> "{_REST_OF_STRING}\\?"? )
    | (?P<number> -?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? )
    | (?P<literal> (?:true|false|null)\b )
    | (?P<punctuation> [][{{}},:]+ )
    | (?P<plain> \s+ | \w+ | . )
    """,
    re.DOTALL | re.VERBOSE,
)
_KINDS: dict[str, Kind] = {
    "key": "key", "string": "string", "number": "number", "literal": "literal", "punctuation": "punctuation",
}  # fmt: skip


class Token(NamedTuple):
    """A run of characters of one kind; ``end`` is one past the last."""

    start: int
    end: int
    kind: Kind


def lex(text: str, *, inside_string: bool = False) -> list[Token]:
    """The tokens of ``text``, without gaps, in order. ``inside_string`` says that a string began before it."""
    tokens = [_continued(text)] if inside_string and text else []
    position = tokens[0].end if tokens else 0
    for match in _TOKEN.finditer(text, position):
        tokens.append(Token(match.start(), match.end(), _KINDS.get(match.lastgroup or "", "plain")))
    return tokens


def _continued(text: str) -> Token:
    if key := _CONTINUED_KEY.match(text):
        return Token(0, key.end(), "key")
    string = _CONTINUED_STRING.match(text)
    return Token(0, string.end() if string else 0, "string")


LONG_LINE = 2048
_CUT_MARK = ">"
# UTF-8 takes at most 4 bytes for a character; some more are read so that a key's colon is seen.
_BYTES_PER_CELL, _LOOK_AHEAD = 4, 64
# Further back than this nobody looks for the start of a string.
_LOOK_BACK = 64 << 10
_LONGEST_CHARACTER = 4

Run = tuple[str, str]
Styles = Callable[[str], Style]


class Mark(NamedTuple):
    """Bytes to stand out, by offset in the document; ``name`` is that of their style."""

    start: int
    end: int
    name: str


class Window(NamedTuple):
    """The bytes of a line that are drawn, of which the first ``skipped`` cells lie left of the edge."""

    start: int
    end: int
    skipped: int


def decode(data: bytes) -> str:
    """The text for a terminal: one harmless character for whatever is not text."""
    text = clean(data.decode("utf-8", "replace").replace("\t", " "))
    if text.isprintable():
        return text
    # Of unassigned characters, and of blanks that are not a space, no two terminals agree how wide they are.
    return "".join(character if character.isprintable() else REPLACEMENT for character in text)


def column_of(text: DocumentText, line: int, offset: int) -> int:
    """The column at which the byte at ``offset`` is drawn."""
    start, end = text.bounds(line)
    if end - start > LONG_LINE:
        return offset - start
    return cell_len(decode(text.data[start:offset]))


def window(text: DocumentText, line: int, left: int, width: int) -> Window:
    """What of the line is seen in ``width`` cells from column ``left`` on."""
    start, end = text.bounds(line)
    if end - start <= LONG_LINE:
        return Window(start, end, left)
    edge = min(start + left, end)
    first = _character_start(text.data, start, edge)
    last = min(edge + width * _BYTES_PER_CELL + _LOOK_AHEAD, end)
    return Window(first, last, cell_len(decode(text.data[first:edge])))


def _character_start(data: bytes, start: int, edge: int) -> int:
    """At or before ``edge``, where neither a character nor an escape began earlier."""
    first = max(start, edge - _LONGEST_CHARACTER)
    at = next((at for at in range(edge, first, -1) if at == len(data) or data[at] & 0xC0 != 0x80), edge)
    run = data[max(start, at - LONG_LINE) : at]
    return at - (len(run) - len(run.rstrip(b"\\"))) % 2


def draw(text: DocumentText, line: int, left: int, width: int, marks: Iterable[Mark], styles: Styles) -> Strip:
    """The line from column ``left`` on, exactly ``width`` cells of it."""
    seen = window(text, line, left, width)
    runs = paint(text, line, seen, marks)
    strip = Strip([Segment(part, styles(name)) for part, name in runs])
    cut = seen.end < text.bounds(line)[1] or strip.cell_length - seen.skipped > width
    # Simplified, because every change of style is written to the terminal.
    shown = strip.crop_extend(seen.skipped, seen.skipped + width, styles("plain")).simplify()
    if not cut or not width:
        return shown
    return Strip.join([shown.crop(0, width - 1), Strip([Segment(_CUT_MARK, styles("cut"))], 1)])


def paint(text: DocumentText, line: int, seen: Window, marks: Iterable[Mark]) -> list[Run]:
    """The text of a window in runs of one style each; later marks lie over earlier ones."""
    data = text.data[seen.start : seen.end]
    shown = decode(data)
    inside = _inside_string(text, line, seen.start)
    tokens = [] if inside is None else lex(shown, inside_string=inside)
    ranges = [(_characters(data, mark, seen.start), mark.name) for mark in marks]
    if not ranges:
        return [(shown[token.start : token.end], token.kind) for token in tokens] or [(shown, "plain")]
    names = [name for token in tokens for name in [str(token.kind)] * (token.end - token.start)]
    names = names or ["plain"] * len(shown)
    for (start, end), name in ranges:
        names[start:end] = [name] * (end - start)
    # What is wrong may be that the line ends: then a blank after it stands out.
    return _runs(shown.ljust(len(names)), names)


def _runs(shown: str, names: Sequence[str]) -> list[Run]:
    pairs = groupby(zip(shown, names, strict=True), key=lambda pair: pair[1])
    return [("".join(character for character, _ in pair), name) for name, pair in pairs]


def _characters(data: bytes, mark: Mark, origin: int) -> tuple[int, int]:
    """The characters that the mark covers, wholly or in part."""
    start = _character_at(data, max(mark.start - origin, 0))
    if mark.end <= origin or mark.start - origin > len(data):
        return start, start
    return start, _character_at(data, min(mark.end - origin, len(data) + 1) - 1) + 1


def _character_at(data: bytes, index: int) -> int:
    if index >= len(data):
        return len(data.decode("utf-8", "replace"))
    return len(data[: index + 1].decode("utf-8", "replace")) - 1


def _inside_string(text: DocumentText, line: int, at: int) -> bool | None:
    """Whether a string that began earlier in the line goes on at ``at``; None where it would take long to tell."""
    start, _ = text.bounds(line)
    if at - start > _LOOK_BACK:
        # Laid out over lines, only a string grows so long.
        return None if text.numbered else True
    return structural_quotes(text.data[start:at]) % 2 == 1
