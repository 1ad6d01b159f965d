"""A line to type in."""

from __future__ import annotations

from typing import Protocol

from textual import events
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input


class Question(Input):
    """An input that writes nothing while nothing is typed: its cursor does not blink."""

    DEFAULT_CSS = """
    Question {
        border: none;
        height: 1;
        padding: 0;
        background: $surface;
        &:focus { border: none; }
    }
    """

    def __init__(
        self, value: str = "", *, placeholder: str = "", suggester: Suggester | None = None, id: str | None = None
    ) -> None:
        super().__init__(value, placeholder=placeholder, suggester=suggester, id=id, select_on_focus=False)
        self.cursor_blink = False


class Ended(Protocol):
    """What is called at the end of a question; ``keep`` is whether it is answered."""

    def __call__(self, *, keep: bool) -> None: ...


class OneLineQuestion(Question):
    """A question that is open for a while; enter and escape end it at once, before the next key is looked at."""

    open = False

    class Left(Message):
        """Something else has the keys now."""

    def __init__(self, ended: Ended, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ended = ended

    def ask(self, text: str, about: str) -> None:
        """Begin, with ``text`` to go on from."""
        with self.prevent(Input.Changed):
            self.value = text
        self.placeholder = about
        self.cursor_position = len(text)
        self.open = True

    def on_key(self, event: events.Key) -> None:
        if not self.open:
            # Typed ahead, and meant for what has the keys now.
            event.prevent_default()
        elif event.key in ("enter", "escape"):
            event.stop()
            event.prevent_default()
            self._ended(keep=event.key == "enter")

    def on_blur(self) -> None:
        self.post_message(self.Left())
