"""A search in a document: where its text is found, and the match that the reader is at."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator

from .document_paint import Mark, window
from .document_text import CHUNK, Alive, DocumentText, check

MOST_MATCHES = 100_000


class Needle:
    """What is looked for."""

    __slots__ = ("_pattern", "reach", "text")

    def __init__(self, text: str) -> None:
        variants = [_variants(character) for character in text]
        self.text = text
        self.reach = sum(max(map(len, alternatives)) for alternatives in variants)
        self._pattern = re.compile(b"".join(map(_either, variants)))

    def find(self, data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where it begins and ends, each time, within ``data[start:end]``."""
        # Lowering touches ASCII only; the pattern has both cases of everything else.
        for match in self._pattern.finditer(data[start:end].lower()):
            yield start + match.start(), start + match.end()


def _variants(character: str) -> list[bytes]:
    cases = {character, character.lower(), character.upper()}
    return sorted({case.encode("utf-8", "replace").lower() for case in cases})


def _either(alternatives: list[bytes]) -> bytes:
    escaped = b"|".join(map(re.escape, alternatives))
    return escaped if len(alternatives) == 1 else b"(?:" + escaped + b")"


def find_all(data: bytes, needle: Needle, alive: Alive) -> array[int]:
    """The offsets of the first MOST_MATCHES matches, none within another. Raises SupersededError."""
    found = array("Q")
    resume = 0
    for at in range(0, len(data), CHUNK):
        check(alive)
        for start, end in needle.find(data, max(at, resume), at + CHUNK + needle.reach - 1):
            if start >= at + CHUNK or len(found) == MOST_MATCHES:
                break
            found.append(start)
            resume = end
        if len(found) == MOST_MATCHES:
            break
    return found


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
