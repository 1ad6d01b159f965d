"""What is drawn, in ASCII: for a terminal that has no UTF-8."""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_SIGNS = {
    **dict.fromkeys("─━═╌╍┄┅┈┉▔▁", "-"),
    **dict.fromkeys("│┃║╎╏┆┇┊┋▌▐▏▕▎▍▋▊▉", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰┏┓┗┛┣┫┳┻╋╔╗╚╝", "+"),
    **dict.fromkeys("▂▃▄▅▆▇▀", " "),
    **dict.fromkeys("█▓▒░", "#"),
    **dict.fromkeys("…·", "."),
    **dict.fromkeys("•●✱", "*"),
    "↑": "^",
    "↓": "v",
    "←": "<",
    "→": ">",
    "✓": "+",
    "❯": ">",
}


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
    return "".join(sign if sign.isascii() else _SIGNS.get(sign, "?") * cell_len(sign) for sign in text)
