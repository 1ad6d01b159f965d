"""Resolve: ask for a name and a format, show hit or miss, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Static

from ocitui.cache import CacheError, Explanation, ImageName, PackedFormat
from ocitui.cache.files import known_format

from ..shorten import short_digests
from ..widgets.lines_view import Line, LinesView, heading
from ..widgets.question import Question
from .confirm import error_lines
from .full import FullScreen


class ResolveScreen(FullScreen[None]):
    """Answers while it stands: another name or format is asked with enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "next_format(-1)", "Format", show=False, priority=True),
        Binding("down", "next_format(1)", "Format", show=False, priority=True),
        Binding("pageup", "scroll(-1)", "Page up", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "Page down", show=False, priority=True),
    ]
    AUTO_FOCUS = "Input"
    subject: ClassVar[str] = "resolve"
    keys = (("enter", "Ask"), ("↑ ↓", "Format"), ("PgUp PgDn", "Scroll"), ("esc", "Back"))

    def __init__(self, name: str, format: str) -> None:
        super().__init__()
        self._asked = name
        self._format = known_format(format) or PackedFormat.SQUASHFS

    def compose_body(self) -> Iterable[Widget]:
        with Horizontal(classes="field"):
            yield Static("Name", classes="field-label")
            yield Question(self._asked, id="name")
        with Horizontal(classes="field"):
            yield Static("Format", classes="field-label")
            yield Static(self._format, id="format")
        yield LinesView()

    def begin(self) -> None:
        if self._asked:
            self._ask()

    def action_next_format(self, by: int) -> None:
        formats = list(PackedFormat)
        self._format = formats[(formats.index(self._format) + by) % len(formats)]
        self.query_one("#format", Static).update(self._format)
        self._ask()

    def action_scroll(self, pages: int) -> None:
        self.query_one(LinesView).action_pages(pages)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._ask()

    @work(exclusive=True)
    async def _ask(self) -> None:
        text = self.query_one("#name", Input).value
        try:
            name = ImageName.parse(text)
            explanation = await self.app.cache.explain_resolve(name, self._format)
        except CacheError as error:
            self.show_lines(error_lines(error))
            return
        self.show_lines(explanation_lines(explanation))


def explanation_lines(explanation: Explanation) -> list[Line]:
    """Hit, miss or error, then the reasons."""
    if explanation.image is not None:
        first = Line("HIT", kind="good")
    elif explanation.error:
        first = Line(f"ERROR: {short_digests(explanation.error)}", kind="bad")
    else:
        first = Line("MISS: the daemon would pull the image", kind="bad")
    found = [Line(explanation.descriptor.digest)] if explanation.descriptor else []
    reasons = [
        Line(short_digests(reason.text), "+" if reason.ok else "x", "plain" if reason.ok else "bad")
        for reason in explanation.reasons
    ]
    return [first, *found, Line(), heading("Why"), *reasons]
