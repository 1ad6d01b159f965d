"""What the terminal can show: characters, colours, and the theme that suits it."""

from __future__ import annotations

import locale
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

THEMES = {"dark": "textual-dark", "light": "textual-light", "ansi": "ansi-dark"}
"""The themes by the names an operator uses; ansi is the terminal's own sixteen colours."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """``ascii``: nothing beyond ASCII is drawn. ``theme``: what is taken when none was asked for."""

    ascii: bool = False
    theme: str = "dark"

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Terminal:
        """The terminal this program runs in, by its locale and the variables TERM and COLORTERM."""
        encoding = sys.stdout.encoding if sys.stdout is not None else None
        name = (encoding or locale.getpreferredencoding(do_setlocale=False)).lower().replace("-", "")
        many_colours = "256" in environment.get("TERM", "") or bool(environment.get("COLORTERM"))
        # Without colours, only the ansi theme still tells what is chosen from what is not.
        plain = "NO_COLOR" in environment
        return cls(ascii=name != "utf8", theme="dark" if many_colours and not plain else "ansi")
