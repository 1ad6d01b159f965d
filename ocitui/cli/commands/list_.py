"""`ocitui list`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from ocitui.cache.files import INDEX_NAME
from ocitui.text import human_age, human_size

from ..failures import UsageProblemError
from ..json_values import entry_json
from ..options import reading
from ..output import emit_list, say, say_lines
from ..prose import short_digest
from ..settings import ExitCode, Settings
from ..tables import Column, lay_out, terminal_width

if TYPE_CHECKING:
    from ocitui.doctor.check.judge import Judge
    from ocitui.doctor.entries import Entries


@click.command("list")
@click.option("--filter", "filter_text", metavar="TEXT", default="", help="Words of which each must be found.")
@reading
def list_command(settings: Settings, filter_text: str) -> ExitCode:
    """List the entries and the state of their files.

    TEXT is what the screen's filter takes: words joined by AND, !word excludes, name: tag: digest: format: platform:
    state:bad look in one field, size>100M and size<1G compare the packed file; used: is what a loop device holds.
    """
    from ocitui.cache import ImageIndex
    from ocitui.cache.listing import CacheFiles
    from ocitui.doctor.check.index_checks import read_index
    from ocitui.doctor.check.judge import Judge
    from ocitui.doctor.entries import Entries

    judge = Judge(settings.directory)
    with CacheFiles(settings.directory) as files:
        reading = read_index(files)
    reading.require_sound(settings.directory)
    judge.begin(reading)
    index = reading.index or ImageIndex.empty()
    entries = Entries(index, judge, _users(settings, filter_text))
    if misunderstood := entries.misunderstood(filter_text):
        raise UsageProblemError(misunderstood[0], hint=misunderstood[1])
    shown = _passing(judge, entries, filter_text)
    if settings.as_json:
        emit_list(settings, "entries", (entry_json(entries[position]) for position in shown))
        return ExitCode.CLEAN
    width, now = terminal_width(), time.time()
    lines = lay_out(_COLUMNS, (_row(entries, position, now) for position in shown), width, _widest(entries))
    # For who looks at it: to a script an absent index is an empty cache, as it is to the daemon.
    if say_lines(lines) < 2 and width and not os.path.lexists(settings.directory / INDEX_NAME):
        say(f"there is no {INDEX_NAME} in {settings.directory.absolute()}: is that a cache?", err=True)
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
# What any size, age and state but a rare one fit.
_SIZE_WIDTH, _AGE_WIDTH, _STATE_WIDTH = 5, 4, 11


def _passing(judge: Judge, entries: Entries, filter_text: str) -> Iterator[int]:
    """The positions that pass, in order, as far as everything up to them was looked into."""
    passes, waiting, position = entries.test(filter_text), set(judge.pending), 0
    digests, end = entries.index.digests, len(entries)
    for looked in judge.look():
        waiting.difference_update(looked)
        while position < end and digests[position] not in waiting:
            if passes(position):
                yield position
            position += 1
    yield from (rest for rest in range(position, end) if passes(rest))


def _users(settings: Settings, filter_text: str) -> Mapping[str, str]:
    """Which loop devices hold which packed file; nobody pays for a look at them who does not ask for it."""
    if "used:" not in filter_text.lower():
        return {}
    from ocitui.doctor.loop_devices import users_by_name

    return users_by_name(settings.directory)


def _widest(entries: Entries) -> list[int]:
    """How wide each column gets, as far as the index tells; so that the first line need not wait for the last."""
    index = entries.index
    platforms = {id(one): one for one in index.platforms if one is not None}
    return [
        entries.widest_name,
        max((len(tag) for tag in index.references if tag), default=0),
        max((len(format_) for format_ in set(index.formats) if format_), default=0),
        12,
        max((len(str(one)) for one in platforms.values()), default=0),
        _SIZE_WIDTH,
        _AGE_WIDTH,
        _STATE_WIDTH,
    ]


def _row(entries: Entries, position: int, now: float) -> list[str]:
    place = entries.packed(position)
    return [
        entries.name(position),
        entries.references[position] or "",
        entries.formats[position] or "",
        short_digest(entries.digests[position]),
        entries.platform(position),
        "-" if place is None else human_size(entries.listing.sizes[place]),
        "-" if place is None else human_age(max(0.0, now - entries.listing.modified[place] / 1e9)),
        entries.state(position).word,
    ]
