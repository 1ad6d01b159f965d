"""A line to type in."""

from __future__ import annotations

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

    def ask(self, text: str, about: str) -> None:
        """Take the keys, with ``text`` to go on from."""
        with self.prevent(Input.Changed):
            self.value = text
        self.placeholder = about
        self.cursor_position = len(text)
        self.focus()
