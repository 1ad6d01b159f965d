"""A document made ready to be shown: where its lines begin and what is wrong with it, and a line, cut and coloured.

A line of at most LONG_LINE bytes is decoded whole and its columns are cells. In a longer one the columns are bytes:
so any part of megabytes on one line is found without looking at the rest.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate, chain, count, groupby, islice
from operator import add
from typing import NamedTuple

import msgspec
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from ocitui.cache import DocumentError, Scanner, structural_quotes
from ocitui.text import REPLACEMENT, clean
from ocitui.words import DOCUMENT_CHUNK, Alive, NotIndentedError, check_wanted, indent_document

_BYTE = re.compile(r" \(byte (\d+)\)$")
_LONGEST_BANNER = 1000
# The daemon's words for what is wrong come from a scanner in Python: half a second for this much.
_SCANNED = 4 << 20


class DocumentText(msgspec.Struct, frozen=True):
    """``starts`` holds the offset of every line and, last, where one more would begin; ``place`` is that of the byte
    that is wrong, None where nothing is or where it is not known. Offsets count bytes.
    What is no JSON has one colour."""

    data: bytes
    starts: array[int]
    width: int
    banner: str = ""
    place: int | None = None
    numbered: bool = False
    is_json: bool = True

    @property
    def line_count(self) -> int:
        return len(self.starts) - 1

    def bounds(self, line: int) -> tuple[int, int]:
        """Where the line begins and ends, its line break left out."""
        start, end = self.starts[line], self.starts[line + 1] - 1
        return start, end - self.data.endswith(b"\r", start, end)

    def line_at(self, offset: int) -> int:
        """The line that holds the byte at ``offset``."""
        return min(max(bisect_right(self.starts, offset) - 1, 0), self.line_count - 1)


def prepare(raw: bytes, error: DocumentError | None, alive: Alive) -> DocumentText:
    """Lay out what is JSON, keep the rest as stored; slow for large documents, so meant for a thread. Raises
    SupersededError soon after ``alive`` says False."""
    try:
        pretty = indent_document(raw, alive)
    except NotIndentedError as reason:
        return _as_stored(raw, error, f"shown as stored: {reason}", alive)
    except msgspec.DecodeError as refusal:
        note = "shown as stored: the daemon can read this, but it cannot be laid out over lines"
        return _as_stored(raw, error or diagnose(raw, str(refusal)), note, alive)
    starts, width = index_lines(pretty, alive)
    return DocumentText(pretty, starts, width, _banner(error, laid_out=True))


def plain_text(raw: bytes, banner: str, alive: Alive) -> DocumentText:
    """A text as it is stored. Raises SupersededError soon after ``alive`` says False."""
    starts, width = index_lines(raw, alive)
    return DocumentText(raw, starts, width, banner, numbered=True, is_json=False)


def _as_stored(raw: bytes, error: DocumentError | None, note: str, alive: Alive) -> DocumentText:
    starts, width = index_lines(raw, alive)
    if error and error.line == len(starts) and raw.endswith(b"\n"):
        starts.append(len(raw) + 1)  # The error lies on the empty line after the last line break.
    text = DocumentText(raw, starts, width, _banner(error, laid_out=False) or note, numbered=True)
    if not error or not 0 < error.line <= text.line_count:
        return text
    start, end = text.bounds(error.line - 1)
    return msgspec.structs.replace(text, place=min(start + max(error.column - 1, 0), end))


def _banner(error: DocumentError | None, *, laid_out: bool) -> str:
    if not error:
        return ""
    message, place = clean(error.message[:_LONGEST_BANNER]), f"line {error.line} column {error.column}"
    if not error.line:
        return message
    # The lines that are laid out are not those of the file, so the place must not look like one of them.
    return f"{message} (in the file as stored: {place})" if laid_out else f"{place}: {message}"


def diagnose(raw: bytes, refusal: str) -> DocumentError | None:
    """What the daemon would say of ``raw``, which msgspec refused; None where it would read it."""
    if len(raw) > _SCANNED:
        return _translate(raw, refusal)
    scanner = Scanner(raw)
    try:
        scanner.ignore_value()
        scanner.end()
    except DocumentError as error:
        return error
    return None


def _translate(raw: bytes, refusal: str) -> DocumentError:
    """msgspec counts bytes from 0, and names none where the document ends too early."""
    byte = _BYTE.search(refusal)
    offset = min(int(byte[1]) if byte else len(raw), len(raw) - 1)
    line_start = raw.rfind(b"\n", 0, offset) + 1
    message = _BYTE.sub("", refusal)
    return DocumentError(message, line=raw.count(b"\n", 0, offset) + 1, column=offset - line_start + 1)


def index_lines(data: bytes, alive: Alive) -> tuple[array[int], int]:
    """The offset of every line and where one more would begin; and the bytes of the longest, so at most its cells."""
    starts = array("I" if len(data) < 2**32 - 1 else "Q", [0])
    width = 0
    for at in range(0, len(data), DOCUMENT_CHUNK):
        check_wanted(alive)
        lengths = list(map(len, data[at : at + DOCUMENT_CHUNK].split(b"\n")))
        begun = at - starts[-1]
        # All in C: the n-th break lies after n line lengths and n breaks.
        starts.extend(islice(map(add, accumulate(lengths), count(at + 1)), len(lengths) - 1))
        width = max(width, begun + lengths[0], *lengths[1:])
    if starts[-1] < len(data) or len(starts) == 1:
        starts.append(len(data) + 1)
    return starts, width


_REST_OF_STRING = r'(?:[^"\\]++|\\.)*+'
_CONTINUED = re.compile(rf'(?P<key>{_REST_OF_STRING}"(?=\s*:))|(?P<string>{_REST_OF_STRING}\\?"?)', re.DOTALL)
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


Run = tuple[str, str]
"""Characters of one style, and its name: for a token the pattern's."""


def lex(text: str, *, inside_string: bool = False) -> list[Run]:
    """The tokens of ``text``, without gaps, in order. ``inside_string`` says that a string began before it."""
    begun = _CONTINUED.match(text) if inside_string and text else None
    matches = chain([begun] if begun else [], _TOKEN.finditer(text, begun.end() if begun else 0))
    return [(match[0], match.lastgroup or "plain") for match in matches]


LONG_LINE = 2048
_CUT_MARK = ">"
# UTF-8 takes at most 4 bytes for a character; some more are read so that a key's colon is seen.
_BYTES_PER_CELL, _LOOK_AHEAD = 4, 64
# Further back than this nobody looks for the start of a string.
_LOOK_BACK = 64 << 10
_LONGEST_CHARACTER = 4

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
    inside = _inside_string(text, line, seen.start) if text.is_json else None
    runs = ([] if inside is None else lex(shown, inside_string=inside)) or [(shown, "plain")]
    ranges = [(_characters(data, mark, seen.start), mark.name) for mark in marks]
    if not ranges:
        return runs
    names = [kind for part, kind in runs for _ in part]
    for (start, end), name in ranges:
        names[start:end] = [name] * (end - start)
    # What is wrong may be that the line ends: then a blank after it stands out.
    pairs = groupby(zip(shown.ljust(len(names)), names, strict=True), key=lambda pair: pair[1])
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
