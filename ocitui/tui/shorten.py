"""Digests as people tell them apart: by their first twelve digits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ocitui.text import counted as counted
from ocitui.text import short_digests as short_digests
from ocitui.words.lines import Line


def short_lines(lines: Iterable[Line]) -> list[Line]:
    """Lines with every digest cut."""
    return [replace(line, text=short_digests(line.text)) for line in lines]
