"""Sentences for people: wrapped to the terminal, with digests short enough to be read."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ocitui.text import clean, short_digest

from .tables import ELLIPSIS, terminal_width

if TYPE_CHECKING:
    from ocitui.words.lines import Line

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
