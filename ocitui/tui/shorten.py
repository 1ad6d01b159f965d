"""Digests as people tell them apart: by their first twelve digits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from ocitui.words.lines import Line

_DIGEST = re.compile(r"\b([a-z0-9]+:[0-9a-f]{12})[0-9a-f]{20,116}\b")


def short_digests(text: str) -> str:
    """The text with every digest cut; for what stands beside the whole digest, or beneath it."""
    return _DIGEST.sub(r"\1…", text)


def short_lines(lines: Iterable[Line]) -> list[Line]:
    """The same of lines."""
    return [replace(line, text=short_digests(line.text)) for line in lines]


def counted(number: int, one: str, more: str) -> str:
    """``1 entry``, ``2 entries``."""
    return f"{number} {one if number == 1 else more}"
