"""A document made ready to be shown: its bytes, where its lines begin, and what is wrong with it."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, count, islice
from operator import add

import msgspec

from ocitui.cache.errors import DocumentError
from ocitui.cache.strict_json import Scanner
from ocitui.text import clean
from ocitui.words.documents import CHUNK, Alive, NotIndentedError, check, indent

_BYTE = re.compile(r" \(byte (\d+)\)$")
_LONGEST_BANNER = 1000
# The daemon's words for what is wrong come from a scanner in Python: half a second for this much.
_SCANNED = 4 << 20


@dataclass(frozen=True, slots=True)
class DocumentText:
    """``starts`` holds the offset of every line and, last, where one more would begin; offsets count bytes.

    ``place`` is the offset of the byte that is wrong, None where nothing is or where it is not known.
    """

    data: bytes
    starts: array[int]
    width: int
    banner: str = ""
    place: int | None = None
    numbered: bool = False

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
    """Lay out what is JSON, keep the rest as stored; slow for large documents, so meant for a thread.

    Raises SupersededError soon after ``alive`` says False.
    """
    try:
        pretty = indent(raw, alive)
    except NotIndentedError as reason:
        return _as_stored(raw, error, f"shown as stored: {reason}", alive)
    except msgspec.DecodeError as refusal:
        note = "shown as stored: the daemon can read this, but it cannot be laid out over lines"
        return _as_stored(raw, error or diagnose(raw, str(refusal)), note, alive)
    starts, width = index_lines(pretty, alive)
    return DocumentText(pretty, starts, width, _banner(error, laid_out=True))


def _as_stored(raw: bytes, error: DocumentError | None, note: str, alive: Alive) -> DocumentText:
    starts, width = index_lines(raw, alive)
    if error and error.line == len(starts) and raw.endswith(b"\n"):
        starts.append(len(raw) + 1)  # The error lies on the empty line after the last line break.
    banner = _banner(error, laid_out=False) or note
    text = DocumentText(raw, starts, width, banner, None, numbered=True)
    if not error or not 0 < error.line <= text.line_count:
        return text
    start, end = text.bounds(error.line - 1)
    place = min(start + max(error.column - 1, 0), end)
    return DocumentText(raw, starts, width, banner, place, numbered=True)


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
    for at in range(0, len(data), CHUNK):
        check(alive)
        lengths = list(map(len, data[at : at + CHUNK].split(b"\n")))
        begun = at - starts[-1]
        # All in C: the n-th break lies after n line lengths and n breaks.
        starts.extend(islice(map(add, accumulate(lengths), count(at + 1)), len(lengths) - 1))
        width = max(width, begun + lengths[0], *lengths[1:])
    if starts[-1] < len(data) or len(starts) == 1:
        starts.append(len(data) + 1)
    return starts, width
