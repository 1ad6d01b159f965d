"""Help: the table of actions, searchable."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from ..actions import ACTIONS, Group, key_label
from ..widgets.lines_view import Line, LinesView, heading
from ..widgets.question import Question
from .full import FullScreen


class HelpScreen(FullScreen[None]):
    """What is typed narrows the list; the arrows scroll it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll(-1)", "Up", show=False, priority=True),
        Binding("down", "scroll(1)", "Down", show=False, priority=True),
        Binding("pageup", "scroll(-10)", "Page up", show=False, priority=True),
        Binding("pagedown", "scroll(10)", "Page down", show=False, priority=True),
    ]
    AUTO_FOCUS = "Input"
    subject: ClassVar[str] = "help"
    keys = (("type", "Search"), ("↑ ↓", "Scroll"), ("esc", "Back"))

    def compose_body(self) -> Iterable[Widget]:
        yield Question(placeholder="search the keys")
        yield LinesView()

    def begin(self) -> None:
        self.show_lines(help_lines(""))

    @on(Input.Changed)
    def _narrowed(self, event: Input.Changed) -> None:
        self.show_lines(help_lines(event.value))

    def action_scroll(self, by: int) -> None:
        self.query_one(LinesView).action_lines(by)

    def action_show_help(self) -> None:
        """It is shown already."""


def help_lines(wanted: str) -> list[Line]:
    """The actions that mention every word, by group."""
    words = wanted.lower().split()
    lines: list[Line] = []
    for group in Group:
        found = []
        for action in ACTIONS:
            keys = " ".join(key_label(key) for key in action.keys)
            text = f"{keys} {action.label} {action.help}".lower()
            if action.group is group and all(word in text for word in words):
                found.append(Line(f"{action.label}. {action.help}", keys))
        if found:
            lines += [*([Line()] if lines else []), heading(group), *found]
    return lines or [Line("no key is about that", kind="muted")]
