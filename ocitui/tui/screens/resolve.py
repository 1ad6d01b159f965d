"""Resolve: ask for a name and a format, show hit or miss, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

from ocitui.cache import Explanation, ImageName, PackedFormat
from ocitui.cache.files import known_format

from ..shorten import short_digests
from ..widgets.lines_view import Line, heading
from .answer import AnswerScreen


class ResolveScreen(AnswerScreen):
    """Tells hit or miss of a name in a format, and why."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "next_format(-1)", "Format", show=False, priority=True),
        Binding("down", "next_format(1)", "Format", show=False, priority=True),
    ]
    subject: ClassVar[str] = "resolve"
    keys = (("enter", "Ask"), ("↑ ↓", "Format"), ("PgUp PgDn", "Scroll"), ("esc", "Back"))

    def __init__(self, name: str, format: str) -> None:
        super().__init__(name)
        self._format = known_format(format) or PackedFormat.SQUASHFS

    def compose_choice(self) -> Iterable[Widget]:
        with Horizontal(classes="field"):
            yield Static("Format", classes="field-label")
            yield Static(self._format, id="format")

    def action_next_format(self, by: int) -> None:
        formats = list(PackedFormat)
        self._format = formats[(formats.index(self._format) + by) % len(formats)]
        self.query_one("#format", Static).update(self._format)
        self.ask()

    async def answer(self, asked: str) -> list[Line]:
        return explanation_lines(await self.app.cache.explain_resolve(ImageName.parse(asked), self._format))


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
