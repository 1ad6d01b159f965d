"""A line as both front ends lay it out, and what each of them calls what an operator can ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Literal

import msgspec

from ocitui.doctor import Way
from ocitui.text import short_digests

_MARKS = re.compile(r"[\\`*<\[]")
Kind = Literal["plain", "heading", "good", "warn", "bad", "muted"]


class Line(msgspec.Struct, frozen=True):
    """A text with a label before it; a text too long for the width goes on in lines below."""

    text: str = ""
    label: str = ""
    kind: Kind = "plain"


class CommandLine(Line, frozen=True):
    """A command, to be copied as it stands: neither broken nor shortened."""


def heading(text: str) -> Line:
    return Line(text, kind="heading")


def short_lines(lines: Iterable[Line]) -> list[Line]:
    """Lines with every digest cut."""
    return [msgspec.structs.replace(line, text=short_digests(line.text)) for line in lines]


def with_text(*lines: Line) -> Iterator[Line]:
    """Those of these lines that have anything to say."""
    return (line for line in lines if line.text)


def first_lines(lines: Iterable[Line], count: int, most: int = 10, label: str = "") -> Iterator[Line]:
    """The first of so many lines, and how many there are besides."""
    yield from islice(lines, most)
    if count > most:
        yield Line(f"and {count - most} more", label, "muted")


def markdown(lines: Iterable[Line]) -> Iterator[str]:
    """The lines for a ticket: headings, labels in bold, commands as code."""
    for line in lines:
        text = _MARKS.sub(r"\\\g<0>", line.text)
        if isinstance(line, CommandLine):
            yield f"    {line.text}"
        elif line.kind == "heading":
            yield from (f"### {text}", "")
        else:
            yield f"- **{line.label}**: {text}" if line.label else f"- {text}" if text else ""


def capital(text: str) -> str:
    """The text as a sentence begins: with a capital, unless that is the name of a program, which has none."""
    return text if text.startswith("kratad") else text[:1].upper() + text[1:]


Ways = Mapping[str, str]
_WAYS = {
    Way.FROM: ("--from", "name a source (o, s):"),
    Way.REGISTRY: ("--registry", "ask registries (o)"),
    Way.DROP: ("--drop", "drop (o)"),
    Way.TRASH_ORPHANS: ("--trash-orphans", "trash orphans (o)"),
    Way.ADOPT_KNOWN: ("--adopt alone", "adopt orphans (o)"),
    Way.ADOPT: ("--adopt {}=NAME", "n"),
    Way.NAME: ("--name {}=NAME", "n"),
    Way.CHANGE_MODES: ("--change-modes", "change modes (o)"),
    Way.EVEN_IF_FUTILE: ("--even-if-futile", "space"),
    Way.EVEN_IF_GONE: ("--even-if-gone", "take it away (o)"),
    Way.CHOOSE: ("--only names it", "it is marked"),
    Way.CHOOSE_FUTILE: ("with --even-if-futile", "when it is marked"),
}
OPTIONS: Ways = {way: option for way, (option, _) in _WAYS.items()}
"""What the command line calls each; ``{}`` is where a digest goes."""
KEYS: Ways = {way: key for way, (_, key) in _WAYS.items()}
"""The keys of the repair's screen."""


def said(text: str, ways: Ways, digest: str = "") -> str:
    """The doctor's advice, or an error's hint with options in it, as a front end gives it; about a short ``digest``."""
    if "<" in text or "--" in text:
        # A command is to be typed as it stands.
        parts = text.split("`")
        for way, word in ways.items():
            parts[::2] = [part.replace(way, word.replace("{}", digest or "DIGEST")) for part in parts[::2]]
        text = "`".join(parts)
    return text


def memory_warning(may: str, since: str = "") -> str:
    """What a running daemon can do to an edit of the index; ``may`` ends the sentence, ``since`` is when it started."""
    runs = f"kratad {f'runs here since {since}' if since else 'is running'}"
    return f"{runs}: it keeps the index in memory, and its next store may {may}"
