"""`ocitui list`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from ocitui.cache import INDEX_NAME
from ocitui.text import human_age, human_size, short_digest

from ..options import ended_by_signals, looking, moment
from ..output import Call, Column, ExitCode, cell_width, lay_out, say, say_lines, terminal_width
from ..selectors import filter_option, judged_entries

if TYPE_CHECKING:
    from ocitui.doctor import Entries


@click.command("list")
@filter_option
@click.option("--at", metavar="TIME", type=moment, help="As it was: 2d ago, or at 2026-01-31T12:00:00Z.")
@looking
def list_command(call: Call, filter_text: str | None, at: float | None) -> ExitCode:
    """List the entries and the state of their files.

    TEXT is what the screen's filter takes: words joined by AND, !word excludes, name: tag: digest: format: platform:
    state:bad look in one field, size>100M and size<1G compare the packed file; used: is what zones need.

    TIME is RFC 3339, or an age: the index as it was last seen then, of whose files nothing is known.
    """
    with ended_by_signals():
        entries, shown, judge = judged_entries(call, filter_text or "", at)
        if call.as_json:
            from ocitui.words import entry_json

            known = judge.remembered
            call.emit_list("entries", (entry_json(entries[position], call.directory, known) for position in shown))
            return ExitCode.CLEAN
        width, now = terminal_width(), time.time()
        lines = lay_out(_COLUMNS, (_row(entries, position, now) for position in shown), width, _widest(entries))
        # For who looks at it: to a script an absent index is an empty cache, as it is to the daemon.
        if say_lines(lines) < 2 and width and at is None and not os.path.lexists(call.directory / INDEX_NAME):
            say(f"there is no {INDEX_NAME} in {call.directory.absolute()}: is that a cache?", err=True)
        return ExitCode.CLEAN


_COLUMNS = (
    Column("NAME", shrink=True),
    Column("TAG", shrink=True),
    Column("FORMAT"),
    Column("DIGEST", rank=1),
    Column("PLATFORM", rank=4),
    Column("SIZE", right=True, rank=2),
    Column("AGE", right=True, rank=3),
    Column("STATE"),
)


def _widest(entries: Entries) -> list[int]:
    """How wide each column gets, as far as the index tells; so that the first line need not wait for the last."""
    index = entries.index
    platforms = {id(one): str(one) for one in index.platforms if one is not None}
    names = map(entries.name, range(len(entries)))
    texts = names, filter(None, index.references), filter(None, set(index.formats)), platforms.values()
    name, tag, format_, platform = (max(map(cell_width, some), default=0) for some in texts)
    # What a digest, and any size, age and state but a rare one fit.
    return [name, tag, format_, 12, platform, 5, 4, 11]


def _row(entries: Entries, position: int, now: float) -> list[str]:
    place = entries.packed(position)
    return [
        entries.name(position),
        entries.references[position] or "",
        entries.formats[position] or "",
        short_digest(entries.digests[position]),
        entries.platform(position),
        "-" if place is None else human_size(entries.listing.sizes[place]),
        "-" if place is None else human_age(max(0.0, now - entries.listing.stat_at(place)[1] / 1e9)),
        entries.state(position).word,
    ]
