"""Help: the keys and every topic, searchable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from textual import on
from textual.widget import Widget
from textual.widgets import Input

from ocitui.help import TOPICS, paragraphs, topic_text

from ..actions import GROUPS, key_label
from ..widgets.bars import Question
from ..widgets.lines import Line, LinesView, bound, heading
from .base import FullScreen


class HelpScreen(FullScreen[None]):
    """What is typed narrows the list; the arrows scroll it."""

    BINDINGS = bound(
        {"up": "scroll(-1)", "down": "scroll(1)"} | {"pageup": "scroll(-10)", "pagedown": "scroll(10)"}, priority=True
    )
    AUTO_FOCUS = "Input"
    subject = "help"
    always = (("esc", "back"),)
    keys = (("type", "Search"), ("↑ ↓", "Scroll"))

    def compose_body(self) -> Iterable[Widget]:
        yield Question(placeholder="search the keys and the topics")
        yield LinesView()

    def begin(self) -> None:
        self.show_lines(help_lines(""))

    @on(Input.Changed)
    def _narrowed(self, event: Input.Changed) -> None:
        self.show_lines(help_lines(event.value))

    def action_scroll(self, by: int) -> None:
        self.query_one(LinesView).action_step(by)


def help_lines(wanted: str) -> list[Line]:
    """The actions, then what the topics say, as far as they mention every word."""
    words = wanted.lower().split()
    lines: list[Line] = []

    def show(title: str, found: Sequence[Line]) -> None:
        if found:
            lines.extend([*([Line()] if lines else []), heading(title), *found])

    for title, actions in GROUPS.items():
        keys = ((" ".join(map(key_label, action.keys)), f"{action.label}. {action.help}") for action in actions)
        show(title, [Line(text, label) for label, text in keys if _says(f"{label} {text}", words)])
    for topic, title in TOPICS.items():
        if topic != "keys":
            pieces = [piece for piece in paragraphs(topic_text(topic)) if _says(f"{title} {piece}", words)]
            show(f"{topic}: {title}", [line for piece in pieces for line in (Line(), *_lines(piece))])
    return lines or [Line("nothing is said about that", kind="muted")]


def _says(text: str, words: Iterable[str]) -> bool:
    return all(word in text.lower() for word in words)


def _lines(piece: str) -> Iterator[Line]:
    """A piece of a topic; its title stands above them all."""
    if piece.startswith("# "):
        return
    if piece.startswith("#"):
        yield heading(piece.lstrip("# "))
    else:
        yield from (Line(line) for line in piece.splitlines())
