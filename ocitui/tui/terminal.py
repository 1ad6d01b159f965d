"""What the terminal can show: characters, colours, and the theme that suits it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

THEMES = {"dark": "textual-dark", "light": "textual-light", "ansi": "ansi-dark"}
"""The themes by the names an operator uses; ansi is the terminal's own sixteen colours."""

_COERCED = "C.UTF-8"


@dataclass(frozen=True, slots=True)
class Terminal:
    """``ascii``: nothing beyond ASCII is drawn. ``theme``: what is taken when none was asked for."""

    ascii: bool = False
    theme: str = "dark"

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Terminal:
        """The terminal this program runs in, by its locale and the variables TERM and COLORTERM."""
        many_colours = "256" in environment.get("TERM", "") or bool(environment.get("COLORTERM"))
        # Without colours, only the ansi theme still tells what is chosen from what is not.
        plain = "NO_COLOR" in environment
        return cls(ascii=not _shows_utf8(environment), theme="dark" if many_colours and not plain else "ansi")


def _shows_utf8(environment: Mapping[str, str]) -> bool:
    """Whether the locale is one of UTF-8, by the variables as locale(7) ranks them.

    Not what Python makes of them: it takes UTF-8 for the C locale, whatever the terminal.
    """
    ranked = (environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    chosen = next((value for value in ranked if value), "")
    if chosen == _COERCED and environment.get("LC_CTYPE") == _COERCED:
        # Python sets this one itself where there is no locale (PEP 538); it cannot be told from an operator's own.
        chosen = environment.get("LC_ALL") or environment.get("LANG") or ""
    return "utf8" in chosen.lower().replace("-", "")


_SIGNS = {
    **dict.fromkeys("─━═╌╍┄┅┈┉▔▁", "-"),
    **dict.fromkeys("│┃║╎╏┆┇┊┋▌▐▏▕▎▍▋▊▉", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰┏┓┗┛┣┫┳┻╋╔╗╚╝", "+"),
    **dict.fromkeys("▂▃▄▅▆▇▀", " "),
    **dict.fromkeys("█▓▒░", "#"),
    "·": ".",
    **dict.fromkeys("•●", "*"),
    **dict.fromkeys("↑▴", "^"),
    **dict.fromkeys("↓▾", "v"),
    "←": "<",
    "→": ">",
    "✓": "+",
    **dict.fromkeys("❯▸", ">"),
    "✗": "x",
}
# The mark of what was cut is two cells wide: it takes the sign before it, or the one after it where it stands first.
_CUT = re.compile(".…|….|…")


class AsciiOnly(LineFilter):
    """Puts ASCII signs in place of others, in as many cells."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment if segment.text.isascii() else Segment(to_ascii(segment.text), segment.style, segment.control)
            for segment in segments
        ]


@lru_cache(maxsize=512)
def to_ascii(text: str) -> str:
    """The text in ASCII, as wide as before; ``?`` for what has no likeness."""
    known = {"…": "…", **_SIGNS}
    text = "".join(sign if sign.isascii() else known.get(sign, "?") * cell_len(sign) for sign in text)
    return _CUT.sub(lambda found: "." * len(found[0]), text)
