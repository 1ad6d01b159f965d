"""A viewer for manifests and configs: JSON laid out and coloured, anything else as it is stored; searched, too."""

from __future__ import annotations

import asyncio
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from textwrap import wrap
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.geometry import Offset, Region, Size
from textual.strip import Strip
from textual.worker import get_current_worker

from ocitui.cache import DocumentError
from ocitui.text import clean, human_size
from ocitui.words import DOCUMENT_CHUNK, Alive, SupersededError, check_wanted

from ..terminal import Role, palette
from .document_text import DocumentText, Mark, column_of, draw, plain_text, prepare, window
from .lines import ReadingView, SearchDone, bound

# Up to here preparing takes a few milliseconds: less than the flicker of a placeholder would cost.
_PREPARED_AT_ONCE = 64 << 10
_BANNER_ROWS = 3
# What the parts of a document are drawn for, and how beyond that.
_ROLES: dict[str, tuple[Role, str]] = {
    "key": ("key", ""), "number": ("good", ""), "literal": ("zone", ""), "punctuation": ("muted", ""),
    "gutter": ("muted", ""), "cut": ("muted", ""), "placeholder": ("muted", ""), "banner": ("bad", ""),
    "match": ("mark", "underline"), "current-match": ("mark", "reverse"), "wrong": ("bad", "reverse"),
}  # fmt: skip


class DocumentView(ReadingView):
    """Shows one document of any size, read-only; it scrolls, and it can be searched."""

    BINDINGS = bound({"left": "sideways(-1)", "right": "sideways(1)", "n": "match(1)", "N": "match(-1)"})
    DEFAULT_CSS = "DocumentView { overflow: auto auto; scrollbar-size: 0 1; }"

    def __init__(self, message: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._generation = 0
        self._source: tuple[bytes, tuple[str, int, int] | None] | None = None
        self._text: DocumentText | None = None
        self._placeholder = clean(message)
        self._banner_rows: list[str] = []
        self._matches: Matches | None = None
        self._awaiting_reveal: tuple[int, int] | None = None
        self._at_error: Offset | None = None

    @property
    def line_count(self) -> int:
        """The lines of the document shown; 0 where there is none."""
        return self._text.line_count if self._text else 0

    async def show_text(self, raw: bytes, banner: str = "") -> None:
        """Show a text as it is stored, whatever it is in; the ``banner`` says what is wrong with it."""
        alive = self._supersede()
        self._show_placeholder("preparing" if raw else banner or "empty file (0 bytes)")
        if raw and (text := await self._in_thread(lambda: plain_text(raw, banner, alive), alive)) is not None:
            self._show(text)

    async def show_document(self, raw: bytes, *, error: DocumentError | None = None) -> None:
        """Show ``raw``, and ``error`` where the daemon refuses it; returns once it is shown or another has come. The
        same given again changes nothing, so that what is read from the disk anew does not jump."""
        source = (raw, (error.message, error.line, error.column) if error else None)
        alive = self._supersede()
        if source != self._source:
            if not raw:
                reason = f": {error.message}" if error else ""
                self._show_placeholder(f"empty document (0 bytes){reason}")
            elif (text := await self._prepare(raw, error, alive)) is None:
                return
            else:
                self._show(text)
                if text.place is not None:
                    self._show_error(text.place)
            self._source = source

    def clear(self, message: str) -> None:
        """Show one line instead of a document."""
        self._supersede()
        if self._text or self._placeholder != clean(message):
            self._show_placeholder(message)

    def search(self, text: str) -> None:
        """Look for ``text`` whatever its case, from the top of what is seen; SearchDone tells. Empty text ends it."""
        self.workers.cancel_group(self, "search")
        if not text or not self._text:
            if self._matches:
                self._matches = None
                self.refresh()
            self.post_message(SearchDone(0, 0))
            return
        self._search(self._text, Needle(text))

    def action_sideways(self, count: int) -> None:
        self.go(x=self.scroll_offset.x + count * max(self._columns // 2, 1))

    def on_resize(self, _event: events.Resize) -> None:
        self._measure()
        if self._awaiting_reveal and self.page:
            self._reveal(*self._awaiting_reveal)
        elif self._text and self._text.place is not None and self.scroll_offset == self._at_error:
            # Nobody moved since: the place of the error stays in sight while the screen is laid out.
            self._show_error(self._text.place)

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        """One that comes takes a column from the view's end."""
        super().watch_show_vertical_scrollbar(shown)
        if shown and self.scroll_offset.x:
            at_error = self.scroll_offset == self._at_error
            self.go(x=self.scroll_offset.x + self.scrollbar_size_vertical)
            self._at_error = self.scroll_offset if at_error else None

    def on_unmount(self) -> None:
        self._supersede()

    def render_line(self, y: int) -> Strip:
        # The scroll bar stands beside the text, where there is one.
        return self._draw(y, self.scrollable_content_region.width).extend_cell_length(self.size.width)

    def _draw(self, y: int, width: int) -> Strip:
        if not self._text:
            return self._note(self._placeholder if y == 0 else "", "placeholder", width)
        if y < len(self._banner_rows):
            return self._note(self._banner_rows[y], "banner", width)
        scroll_x, scroll_y = self.scroll_offset
        line = y - len(self._banner_rows) + scroll_y
        if line >= self._text.line_count:
            return Strip.blank(width, self.style_of("plain"))
        gutter = f"{line + 1:>{self._gutter_width - 1}} " if self._gutter_width else ""
        marks = list(self._marks(self._text, line, scroll_x))
        strip = draw(self._text, line, scroll_x, max(width - len(gutter), 0), marks, self.style_of)
        return Strip.join([Strip([Segment(gutter, self.style_of("gutter"))]), strip]) if gutter else strip

    def _note(self, message: str, name: str, width: int) -> Strip:
        style = self.style_of(name)
        return Strip([Segment(message, style)]).adjust_cell_length(width, style)

    def style_of(self, name: str) -> Style:
        """How a part of a document is drawn, by its kind or that of its mark."""
        role, more = _ROLES.get(name, ("plain", ""))
        return palette(self.app)[role] + Style.parse(more)

    def _marks(self, text: DocumentText, line: int, left: int) -> Iterator[Mark]:
        if self._matches:
            yield from self._matches.marks(text, line, left, self._columns)
        start, end = text.bounds(line)
        if text.place is not None and start <= text.place <= end and text.line_at(text.place) == line:
            yield Mark(text.place, text.place + 1, "wrong")

    def _supersede(self) -> Alive:
        self._generation += 1
        generation = self._generation
        return lambda: generation == self._generation

    async def _prepare(self, raw: bytes, error: DocumentError | None, alive: Alive) -> DocumentText | None:
        if len(raw) <= _PREPARED_AT_ONCE:
            return prepare(raw, error, alive)
        self._show_placeholder(f"preparing {human_size(len(raw))}")
        return await self._in_thread(lambda: prepare(raw, error, alive), alive)

    async def _in_thread(self, work: Callable[[], DocumentText], alive: Alive) -> DocumentText | None:
        try:
            text = await asyncio.to_thread(work)
        except SupersededError:
            return None
        return text if alive() else None

    def _show_placeholder(self, message: str) -> None:
        self._placeholder = clean(message)
        self._show(None)

    def _show_error(self, place: int) -> None:
        self._reveal(place, place + 1)
        self._at_error = self.scroll_offset

    def _show(self, text: DocumentText | None) -> None:
        self.workers.cancel_group(self, "search")
        self._source = None
        self._text = text
        self._matches = None
        self._awaiting_reveal = self._at_error = None
        self._measure()
        self.go(x=0, y=0)
        self.refresh()

    def _measure(self) -> None:
        text = self._text
        if not text:
            self._banner_rows, self.virtual_size = [], Size(0, 0)
            return
        width = max(self.scrollable_content_region.width, 1)
        rows = wrap(text.banner, width, max_lines=_BANNER_ROWS, placeholder="..." if width > 3 else "")
        self._banner_rows = rows
        self.virtual_size = Size(self._gutter_width + text.width, len(rows) + text.line_count)

    @property
    def _gutter_width(self) -> int:
        return len(str(self.line_count)) + 1 if self._text and self._text.numbered else 0

    @property
    def page(self) -> int:
        return max(self.size.height - len(self._banner_rows), 0)

    @property
    def _columns(self) -> int:
        return max(self.scrollable_content_region.width - self._gutter_width, 0)

    def _reveal(self, start: int, end: int) -> None:
        """Scroll only as far as it takes to see these bytes; wait for a size if there is none yet."""
        self._awaiting_reveal = None if self.page else (start, end)
        text = self._text
        if not text or not self.page:
            return
        line = text.line_at(start)
        left, top = self.scroll_offset
        column = column_of(text, line, start)
        last = min(column_of(text, line, end), column + self._columns // 2)
        y = None if top <= line < top + self.page else max(line - self.page // 3, 0)
        x = 0 if last < self._columns else max(last - self._columns * 2 // 3, 0)
        self.go(None if left <= column and last < left + self._columns else x, y)

    @work(group="search", exclusive=True)
    async def _search(self, text: DocumentText, needle: Needle) -> None:
        worker = get_current_worker()
        found = await asyncio.to_thread(find_all, text.data, needle, lambda: not worker.is_cancelled)
        anchor = self._matches.start if self._matches and self._matches.found else text.starts[self.scroll_offset.y]
        self._matches = Matches(needle, found, bisect_left(found, anchor))
        self.refresh()
        self._show_match()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a search its keys are the screen's."""
        return action != "match" or self._matches is not None

    def action_match(self, step: int) -> None:
        """Go to the next match or the one before; past either end it goes on at the other."""
        if self._matches:
            self._refresh_match()
            self._matches = self._matches._replace(at=self._matches.at + step)
            self._show_match()

    def _show_match(self) -> None:
        matches = self._matches
        if not matches or not self._text:
            return
        if matches.found:
            self._reveal(*matches.range(self._text))
            self._refresh_match()
        self.post_message(SearchDone(len(matches.found), matches.current, capped=matches.capped))

    def _refresh_match(self) -> None:
        if self._matches and self._text:
            row = self._text.line_at(self._matches.start) - self.scroll_offset.y
            if 0 <= row < self.page:
                self.refresh(Region(0, row + len(self._banner_rows), self.size.width, 1))


MOST_MATCHES = 100_000


class Needle:
    """What is looked for."""

    __slots__ = ("_pattern", "reach")

    def __init__(self, text: str) -> None:
        variants = [_variants(character) for character in text]
        self.reach = sum(max(map(len, alternatives)) for alternatives in variants)
        self._pattern = re.compile(b"".join(b"(?:%b)" % b"|".join(map(re.escape, some)) for some in variants))

    def find(self, data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where it begins and ends, each time, within ``data[start:end]``."""
        # Lowering touches ASCII only; the pattern has both cases of everything else.
        for match in self._pattern.finditer(data[start:end].lower()):
            yield start + match.start(), start + match.end()


def _variants(character: str) -> list[bytes]:
    cases = {character, character.lower(), character.upper()}
    return sorted({case.encode("utf-8", "replace").lower() for case in cases})


def find_all(data: bytes, needle: Needle, alive: Alive) -> array[int]:
    """The offsets of the first MOST_MATCHES matches, none within another. Raises SupersededError."""
    found = array("Q")
    resume = 0
    for at in range(0, len(data), DOCUMENT_CHUNK):
        check_wanted(alive)
        for start, end in needle.find(data, max(at, resume), at + DOCUMENT_CHUNK + needle.reach - 1):
            if start >= at + DOCUMENT_CHUNK or len(found) == MOST_MATCHES:
                break
            found.append(start)
            resume = end
        if len(found) == MOST_MATCHES:
            break
    return found


class Matches(NamedTuple):
    """Where a needle was found, by offset; past either end the current match, the one ``at``, goes on at the other."""

    needle: Needle
    found: array[int]
    at: int

    @property
    def capped(self) -> bool:
        """Whether there may be more than were looked for."""
        return len(self.found) >= MOST_MATCHES

    @property
    def current(self) -> int:
        """The number of the current match, from 1; 0 where nothing matches."""
        return self.at % len(self.found) + 1 if self.found else 0

    @property
    def start(self) -> int:
        """Where the current match begins; 0 where nothing matches."""
        return self.found[self.current - 1] if self.found else 0

    def range(self, text: DocumentText) -> tuple[int, int]:
        """Where the current match begins and ends."""
        return next(self.needle.find(text.data, self.start, self.start + self.needle.reach), (self.start, self.start))

    def marks(self, text: DocumentText, line: int, left: int, width: int) -> Iterator[Mark]:
        """Every match seen on the line, the current one last."""
        seen = window(text, line, left, width)
        start, end = text.bounds(line)
        nearby = max(start, seen.start - self.needle.reach), min(end, seen.end + self.needle.reach)
        for match in self.needle.find(text.data, *nearby):
            if match[1] > seen.start and match[0] < seen.end:
                yield Mark(*match, "match")
        if self.found and nearby[0] <= self.start < nearby[1]:
            yield Mark(*self.range(text), "current-match")
