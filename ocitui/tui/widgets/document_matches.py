"""The matches of a search, and the one that the reader is at."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from .document_paint import Mark, window
from .document_search import MOST_MATCHES, Needle
from .document_text import DocumentText


class Matches:
    """Where a needle was found, by offset, and which match is the current one."""

    __slots__ = ("_index", "found", "needle")

    def __init__(self, needle: Needle, found: array[int], index: int) -> None:
        self.needle = needle
        self.found = found
        self._index = index % len(found) if found else 0

    @property
    def capped(self) -> bool:
        """Whether there may be more than were looked for."""
        return len(self.found) >= MOST_MATCHES

    @property
    def current(self) -> int:
        """The number of the current match, from 1; 0 where nothing matches."""
        return self._index + 1 if self.found else 0

    @property
    def start(self) -> int:
        """Where the current match begins; 0 where nothing matches."""
        return self.found[self._index] if self.found else 0

    def moved(self, step: int) -> Matches:
        """The same matches, ``step`` further on; past either end it goes on at the other."""
        return Matches(self.needle, self.found, self._index + step)

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
