"""The texts of `ocitui help`, of the screen's `?` and of the man page: Markdown, a file a topic, 80 columns at most."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files

TOPICS = {
    "night": "Three in the morning: five commands.",
    "concepts": "The cache, and the words for it: a glossary.",
    "corrupt": "What to do about a corrupt cache.",
    "daemon": "What the daemon does, and working beside it.",
    "depths": "How deep a check looks, and what it cannot find.",
    "room": "Making room: rules, pins, what never goes.",
    "fleet": "Other hosts over ssh, one, many, or hundreds.",
    "contents": "Inside packed files: list, read, extract, prove.",
    "import": "Bringing images in: sources, formats, limits.",
    "keys": "The keys of the screen.",
    "safety": "What is done so that nothing is lost.",
    "report": "An incident in one file: what is in it, opening it.",
    "files": "What lies in .ocitui.",
    "json": "What --json prints.",
    "metrics": "What --prometheus writes, and what to be alarmed by.",
    "exit-statuses": "What the exit status means.",
}
"""Each topic, with its line in a list of them. The keys come from the screen's table of actions."""


_MARKED = re.compile(r"\*\*([^*]+)\*\*|`([^`]+)`")


@cache
def topic_text(topic: str) -> str:
    """A topic's Markdown. Raises FileNotFoundError for one that has no file."""
    return (files(__name__) / f"{topic}.md").read_text(encoding="utf-8")


def styled(markdown: str, bold: Callable[[str], str]) -> Iterator[str]:
    """The lines of a topic for a terminal: no marks, headings and terms as ``bold`` makes them."""
    for line in markdown.splitlines():
        if line.startswith("#"):
            yield bold(line.lstrip("# "))
        elif line.startswith("    "):
            yield line
        else:
            yield _MARKED.sub(lambda found: bold(found[1] or found[2]), line)


def paragraphs(markdown: str) -> Iterator[str]:
    """A topic in pieces: headings with marks, indented blocks as they stand, all else a line each, without marks."""
    for piece in markdown.strip("\n").split("\n\n"):
        if piece.startswith(("#", "    ")):
            yield piece
            continue
        for item in re.split(r"\n(?=- )", piece):
            yield _MARKED.sub(lambda found: found[1] or found[2], " ".join(item.split()))
