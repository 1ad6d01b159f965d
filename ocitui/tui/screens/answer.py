"""A screen that answers what is typed into its first field, again and again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Static

from ocitui.cache import CacheError

from ..widgets.lines_view import Line, LinesView
from ..widgets.question import Question
from .confirm import error_lines
from .full import FullScreen


class AnswerScreen(FullScreen[None]):
    """Answers while it stands: enter asks again. What is ``asked`` at first is answered at once, unless it is empty."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "scroll(-1)", "Page up", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "Page down", show=False, priority=True),
    ]
    AUTO_FOCUS = "Input"
    label: ClassVar[str] = "Name"

    def __init__(self, asked: str) -> None:
        super().__init__()
        self._asked = asked

    def compose_body(self) -> Iterable[Widget]:
        with Horizontal(classes="field"):
            yield Static(self.label, classes="field-label")
            yield Question(self._asked, id="name")
        yield from self.compose_choice()
        yield LinesView()

    def compose_choice(self) -> Iterable[Widget]:
        """What else the answer depends on."""
        return ()

    async def answer(self, asked: str) -> list[Line]:
        """The answer. Raises CacheError where there is none."""
        raise AssertionError("a screen of its own says this")

    def begin(self) -> None:
        if self._asked:
            self.ask()

    def action_scroll(self, pages: int) -> None:
        self.query_one(LinesView).action_pages(pages)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.ask()

    @work(exclusive=True)
    async def ask(self) -> None:
        """Show the answer to what stands in the field."""
        try:
            lines = await self.answer(self.query_one("#name", Input).value)
        except CacheError as error:
            lines = error_lines(error)
        self.show_lines(lines)
