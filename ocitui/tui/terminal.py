"""What the terminal can show: characters, and the colours of each theme by what they are for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.filter import LineFilter
from textual.strip import Strip
from textual.theme import BUILTIN_THEMES, Theme

THEMES = {"dark": "ocitui-dark", "light": "ocitui-light", "ansi": "ocitui-ansi"}
"""The themes by the names an operator uses; ansi is the terminal's own sixteen colours."""

Role = Literal[
    "plain", "strong", "muted", "faint", "key", "good", "warn", "bad", "critical", "mark", "zone", "gauge",
    "host", "host-red", "host-yellow", "host-green", "host-violet", "strip", "banner", "cursor", "blurred",
]  # fmt: skip
"""What a text is drawn for. The last four are surfaces, which the others stand on."""
# In dark, light, ansi and without colours. Text is the terminal's own: it stands out from its ground, whatever that is.
_ROLES: dict[Role, tuple[str, str, str, str]] = {
    "plain": ("", "", "", ""),
    "strong": ("bold", "bold", "bold", "bold"),
    "muted": ("#8b949e", "#5f6872", "dim", "dim"),
    "faint": ("#474f59", "#b4bcc5", "dim", "dim"),
    "key": ("#79c0ff", "#0550ae", "cyan", "bold"),
    "good": ("#7ebd8a", "#116329", "green", ""),
    "warn": ("#e3b341", "#7d4e00", "yellow", ""),
    "bad": ("bold #ff8a80", "bold #b3261e", "bold red", "bold"),
    "critical": ("bold #0d1117 on #ff8a80", "bold #ffffff on #b3261e", "bold black on red", "bold reverse"),
    "mark": ("bold #f2cc60", "bold #7d4e00", "bold yellow", "bold"),
    "zone": ("#c4a7f5", "#6639ba", "magenta", ""),
    "gauge": ("#5b7ea6", "#6a9bd1", "blue", ""),
    "host": ("bold #0d1117 on #79c0ff", "bold #ffffff on #0550ae", "bold reverse", "bold reverse"),
    "host-red": ("bold #0d1117 on #ff8a80", "bold #ffffff on #b3261e", "bold black on red", "bold reverse"),
    "host-yellow": ("bold #0d1117 on #e3b341", "bold #ffffff on #7d4e00", "bold black on yellow", "bold reverse"),
    "host-green": ("bold #0d1117 on #7ebd8a", "bold #ffffff on #116329", "bold black on green", "bold reverse"),
    "host-violet": ("bold #0d1117 on #c4a7f5", "bold #ffffff on #6639ba", "bold black on magenta", "bold reverse"),
    "strip": ("#c9d1d9 on #161c24", "#24292f on #eef1f5", "", ""),
    "banner": ("#f0f6fc on #35191b", "#24292f on #fde7e5", "", ""),
    "cursor": ("#f0f6fc on #1f3450", "#000000 on #cfe3fa", "reverse", "reverse"),
    "blurred": ("#c9d1d9 on #1c222b", "#24292f on #e6eaef", "underline", "underline"),
}
HOST_COLOURS: dict[str, Role] = {
    "blue": "host", "red": "host-red", "yellow": "host-yellow", "green": "host-green", "violet": "host-violet",
}  # fmt: skip
"""What the host's name may stand on, so that the wrong window is seen."""
Palette = Mapping[Role, Style]
_COERCED = "C.UTF-8"


@lru_cache(maxsize=8)
def _palette(look: int) -> Palette:
    return {role: Style.parse(looks[look]) for role, looks in _ROLES.items()}


def palette(app: App[object]) -> Palette:
    """The styles of the theme in force, by what they are for."""
    names = [*THEMES.values()]
    return _palette(3 if app.no_color else names.index(app.theme) if app.theme in names else 0)


def draw_cells(cells: Iterable[tuple[str, Role]], surface: Role, styles: Palette, width: int) -> Strip:
    """A line of these on a surface. Blanks keep a style they look the same in: each change is written out."""
    ground = last = styles[surface]
    segments = list[Segment]()
    for text, role in cells:
        # A colour in reverse would be a patch in the line.
        style = ground + (Style(bold=styles[role].bold) if ground.reverse else styles[role])
        if text.strip() or (style.bgcolor, style.reverse) != (last.bgcolor, last.reverse):
            last = style
        segments.append(Segment(text, last))
    return Strip(segments).adjust_cell_length(width, ground).simplify()


def textual_themes() -> Iterator[Theme]:
    """What Textual is to know of the themes, for what it draws itself: inputs, scroll bars, rules."""
    for look, (name, theme) in enumerate(THEMES.items()):
        if name == "ansi":
            yield replace(BUILTIN_THEMES["ansi-dark"], name=theme)
            continue
        styles = _palette(look)
        ground, rule, muted = _hex(styles["strip"].bgcolor), _hex(styles["faint"].color), _hex(styles["muted"].color)
        yield Theme(
            name=theme,
            dark=name == "dark",
            primary=_hex(styles["key"].color),
            foreground="ansi_default",
            background="ansi_default",
            surface=ground,
            panel=ground,
            variables={
                "rule": rule,
                "text-muted": muted,
                "text-disabled": muted,
                "input-selection-background": _hex(styles["cursor"].bgcolor),
                "scrollbar": rule,
                "scrollbar-background": "ansi_default",
            },
        )


def _hex(color: RichColor | None) -> str:
    assert color is not None
    return color.name


class Terminal(NamedTuple):
    """``ascii``: nothing beyond ASCII is drawn. ``theme``: what is taken when none was asked for."""

    ascii: bool = False
    theme: str = "dark"

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Terminal:
        """The terminal this program runs in, by its locale and the variables TERM and COLORTERM."""
        many_colours = "256" in environment.get("TERM", "") or bool(environment.get("COLORTERM"))
        # Without colours, only the ansi theme still tells what is chosen from what is not.
        plain = "NO_COLOR" in environment
        # Set by some terminals: the numbers of their foreground, and last of their background (7 and 15 are white).
        ground = environment.get("COLORFGBG", "").rpartition(";")[2]
        coloured = "light" if ground in ("7", "15") else "dark"
        return cls(ascii=not _shows_utf8(environment), theme=coloured if many_colours and not plain else "ansi")


def _shows_utf8(environment: Mapping[str, str]) -> bool:
    """Whether the locale is one of UTF-8, by locale(7); Python takes the C locale for it, whatever the terminal."""
    ranked = (environment.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    chosen = next((value for value in ranked if value), "")
    if chosen == _COERCED and environment.get("LC_CTYPE") == _COERCED:
        # Python sets this one itself where there is no locale (PEP 538); it cannot be told from an operator's own.
        chosen = environment.get("LC_ALL") or environment.get("LANG") or ""
    return "utf8" in chosen.lower().replace("-", "")


_SIGNS = {
    **dict.fromkeys("─═╌╍┄┅┈┉▔▁–−", "-"), **dict.fromkeys("│┃║╎╏┆┇┊┋▌▐▏▕▎▍▋▊▉", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰┏┓┗┛┣┫┳┻╋╔╗╚╝", "+"), **dict.fromkeys("▂▃▄▅▆▇▀", " "), **dict.fromkeys("█▓▒░", "#"),
    **dict.fromkeys("•●", "*"), **dict.fromkeys("↑▴▲", "^"), **dict.fromkeys("↓▾▽", "v"), **dict.fromkeys("❯▸›", ">"),
    **dict.fromkeys("✗×", "x"), **dict.fromkeys("↻↪", "r"),
    "━": "=", "·": ".", "○": "o", "←": "<", "→": ">", "✓": "+", "…": "~", "✖": "X", "↩": "u",
}  # fmt: skip


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
