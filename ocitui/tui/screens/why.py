"""Why: one chain from what is typed, by krata's spelling and the index, to what the daemon would answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Static

from ocitui.cache import CacheError
from ocitui.doctor.findings import Answer
from ocitui.doctor.ledger import Ledger
from ocitui.doctor.why import Chain, Link, Standing, why

from ..elsewhere import elsewhere
from ..shorten import short_digests
from ..widgets.lines_view import Kind, Line, LinesView, heading
from ..widgets.question import Question
from .confirm import error_lines
from .full import FullScreen

_MARKS = {Standing.OK: "+", Standing.BAD: "x", Standing.UNKNOWN: "?"}
_KINDS: dict[Standing, Kind] = {Standing.OK: "plain", Standing.BAD: "bad", Standing.UNKNOWN: "muted"}


class WhyScreen(FullScreen[None]):
    """Answers while it stands: another name or digest is asked with enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "scroll(-1)", "Page up", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "Page down", show=False, priority=True),
    ]
    AUTO_FOCUS = "Input"
    subject: ClassVar[str] = "why"
    keys = (("enter", "Ask"), ("PgUp PgDn", "Scroll"), ("esc", "Back"))

    def __init__(self, asked: str) -> None:
        super().__init__()
        self._asked = asked

    def compose_body(self) -> Iterable[Widget]:
        with Horizontal(classes="field"):
            yield Static("Name, digest", classes="field-label")
            yield Question(self._asked, id="name")
        yield LinesView()

    def begin(self) -> None:
        if self._asked:
            self._ask()

    def action_scroll(self, pages: int) -> None:
        self.query_one(LinesView).action_pages(pages)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._ask()

    @work(exclusive=True)
    async def _ask(self) -> None:
        text = self.query_one("#name", Input).value.strip()
        directory = self.app.options.directory

        async def ask() -> Chain:
            return await why(directory, text, ledger=Ledger.open(directory), salvage_index=True)

        try:
            chain = await elsewhere(ask)
        except CacheError as error:
            self.show_lines(error_lines(error))
            return
        self.show_lines(chain_lines(chain))


def chain_lines(chain: Chain) -> list[Line]:
    """A line or more for each link, and in each format the answer."""
    lines = [*_links(chain.links)]
    if chain.assumed:
        lines.append(Line("from here on as it would be once index.json is mended", kind="muted"))
    for one in chain.formats:
        kind: Kind = "good" if one.answer is Answer.HIT else "bad"
        lines += [Line(), heading(f"In {one.format}"), *_links(one.links)]
        lines.append(Line(short_digests(one.text), "= daemon", kind))
    return lines


def _links(links: Sequence[Link]) -> Iterable[Line]:
    for link in links:
        yield Line(short_digests(link.text), f"{_MARKS[link.standing]} {link.title}", _KINDS[link.standing])
        if link.advice:
            # A command is to be typed as it stands.
            yield Line(link.advice, "  do", "muted")
