"""Finding text in a document's bytes whatever its case, in steps that leave the event loop its turn."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator

from .json_indent import CHUNK, Alive, check

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
