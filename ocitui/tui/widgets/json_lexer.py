"""A lexer for a line of JSON, or a part of one: what to colour, never whether it is right."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["key", "string", "number", "literal", "punctuation", "plain"]

_REST_OF_STRING = r'(?:[^"\\]++|\\.)*+'
_CONTINUED_KEY = re.compile(_REST_OF_STRING + r'"(?=\s*:)', re.DOTALL)
_CONTINUED_STRING = re.compile(_REST_OF_STRING + r'\\?"?', re.DOTALL)
_TOKEN = re.compile(
    rf"""
      (?P<key> "{_REST_OF_STRING}"(?=\s*:) )
    | (?P<string> "{_REST_OF_STRING}\\?"? )
    | (?P<number> -?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? )
    | (?P<literal> (?:true|false|null)\b )
    | (?P<punctuation> [][{{}},:]+ )
    | (?P<plain> \s+ | \w+ | . )
    """,
    re.DOTALL | re.VERBOSE,
)
_KINDS: dict[str, Kind] = {
    "key": "key", "string": "string", "number": "number", "literal": "literal", "punctuation": "punctuation",
}  # fmt: skip


class Token(NamedTuple):
    """A run of characters of one kind; ``end`` is one past the last."""

    start: int
    end: int
    kind: Kind


def lex(text: str, *, inside_string: bool = False) -> list[Token]:
    """The tokens of ``text``, without gaps, in order. ``inside_string`` says that a string began before it."""
    tokens = [_continued(text)] if inside_string and text else []
    position = tokens[0].end if tokens else 0
    for match in _TOKEN.finditer(text, position):
        tokens.append(Token(match.start(), match.end(), _KINDS.get(match.lastgroup or "", "plain")))
    return tokens


def _continued(text: str) -> Token:
    if key := _CONTINUED_KEY.match(text):
        return Token(0, key.end(), "key")
    string = _CONTINUED_STRING.match(text)
    return Token(0, string.end() if string else 0, "string")
