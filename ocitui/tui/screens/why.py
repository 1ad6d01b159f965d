"""Why: one chain from what is typed, by krata's spelling and the index, to what the daemon would answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from ocitui.cache.ledger import Ledger
from ocitui.doctor.findings import Answer
from ocitui.doctor.why import Chain, Link, LinkState, why

from ..elsewhere import elsewhere
from ..shorten import short_digests
from ..widgets.lines_view import Kind, Line, heading
from .answer import AnswerScreen

_MARKS = {LinkState.OK: "+", LinkState.BAD: "x", LinkState.UNKNOWN: "?"}
_KINDS: dict[LinkState, Kind] = {LinkState.OK: "plain", LinkState.BAD: "bad", LinkState.UNKNOWN: "muted"}


class WhyScreen(AnswerScreen):
    """Follows a name or digest to the daemon's answer."""

    subject: ClassVar[str] = "why"
    keys = (("enter", "Ask"), ("PgUp PgDn", "Scroll"), ("esc", "Back"))
    label = "Name, digest"

    async def answer(self, asked: str) -> list[Line]:
        directory = self.app.options.directory

        async def ask() -> Chain:
            return await why(directory, asked.strip(), ledger=Ledger.open(directory), salvage_index=True)

        return chain_lines(await elsewhere(ask))


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
