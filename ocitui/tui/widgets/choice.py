"""One of a few words, chosen with the arrows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widget import Widget


class Choice(Widget, can_focus=True):
    """The chosen word stands in brackets. ``notes`` stand behind a word, for what is to be known before it is taken."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Previous", show=False),
        Binding("right,space", "step(1)", "Next", show=False),
        Binding("enter", "submit", "Look", show=False),
    ]
    DEFAULT_CSS = """
    Choice {
        height: 1;
        width: 1fr;
        background: $surface;
        &:focus { text-style: bold; background: $primary; color: $text; }
        &:focus:ansi { background: ansi_blue; color: ansi_bright_white; }
        &:focus:nocolor { text-style: bold reverse; }
    }
    """

    class Changed(Message):
        """Another word is chosen."""

        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

        @property
        def control(self) -> Choice:
            return self.choice

    class Submitted(Message):
        """Enter was pressed."""

    def __init__(self, words: Sequence[str], *, chosen: str | None = None, id: str | None = None) -> None:
        super().__init__(id=id)
        self.words = tuple(words)
        self._chosen = self.words.index(chosen) if chosen in self.words else 0
        self._notes: dict[str, str] = {}

    @property
    def value(self) -> str:
        return self.words[self._chosen]

    @value.setter
    def value(self, word: str) -> None:
        if word != self.value:
            self._chosen = self.words.index(word)
            self.refresh()
            self.post_message(self.Changed(self))

    def note(self, notes: dict[str, str]) -> None:
        """Show these behind their words."""
        self._notes = notes
        self.refresh()

    def render(self) -> Content:
        parts = [f"[{word}]" if word == self.value else f" {word} " for word in self.words]
        notes = [f"({self._notes[word]})" if word in self._notes else "" for word in self.words]
        noted = [f"{part}{note}" for part, note in zip(parts, notes, strict=True)]
        return Content(" ".join(noted)).truncate(max(self.size.width, 1), ellipsis=True)

    def action_step(self, by: int) -> None:
        self.value = self.words[(self._chosen + by) % len(self.words)]

    def action_submit(self) -> None:
        self.post_message(self.Submitted())

    def on_click(self, event: Click) -> None:
        self.action_step(1)
