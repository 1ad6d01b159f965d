"""`ocitui history`: what came and went, by whom, and which image a name stood for when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import NoSuchEntryError, author_of, check_directory, spelled
from ocitui.text import counted, first_of, short_digest, time_json, timestamp

from ..options import ended_by_signals, reading, tell_notes
from ..output import Call, Column, ExitCode, say_lines, table
from ..selectors import complete_entry

if TYPE_CHECKING:
    from ocitui.cache import Descriptor, IndexChange


@click.command("history")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_entry)
@reading
def history_command(call: Call, name: str | None) -> ExitCode:
    """Tell what came and went, when and by whom, and which names then stood for another image; newest first.

    With NAME: which image the daemon found for it, from when to when. What another program did is told of the time
    when it was seen: by the screen, a check, or a command that writes.
    """
    from ocitui.cache import IndexHistory

    check_directory(call.directory)
    with ended_by_signals():
        history = IndexHistory(call.directory)
        tenures = [*history.tenures(spelled(name))] if name else []
        if name and not tenures:
            hint = "ocitui history tells which names there were"
            raise NoSuchEntryError(f"no index that is kept has the name {name}", hint=hint)
        if call.as_json:
            told = (_tenure_json(*one) for one in tenures) if name else map(_change_json, history.changes())
            call.emit_list("changes", told)
        elif name:
            say_lines(table(_TENURES, (_tenure_row(*one) for one in tenures)))
        else:
            say_lines(table(_CHANGES, map(_change_row, history.changes())))
        tell_notes([*history.notes()])
    return ExitCode.CLEAN


_MOST = 3
_DOER = (Column("DONE BY"), Column("WHO", rank=1))
_CHANGES = (Column("WHEN"), *_DOER, Column("CHANGE", shrink=True))
_TENURES = (Column("SINCE"), Column("UNTIL"), Column("DIGEST"), Column("FORMAT", rank=2), *_DOER)


def _change_row(change: IndexChange) -> list[str]:
    from ocitui.words import index_change_text

    told = index_change_text(change.came, change.went, won=change.won)
    if change.oldest:
        told = f"the oldest that is kept, with {counted(len(change.index), 'entry')}"
    return [timestamp(change.when), *_done_by(change), told]


def _tenure_row(one: Descriptor, since: IndexChange, until: IndexChange | None) -> list[str]:
    began, ended = "earlier" if since.oldest else timestamp(since.when), timestamp(until.when) if until else ""
    return [began, ended, short_digest(one.digest), one.format or "", *_done_by(since)]


def _done_by(change: IndexChange) -> tuple[str, str]:
    made = [f"{one.kind} {one.id}" for one in change.transactions]
    made += ["another program"] if change.by_another and not change.oldest else []
    return first_of(made, _MOST), first_of([*{author_of(one.by): None for one in change.transactions}], _MOST)


def _change_json(change: IndexChange) -> dict[str, Any]:
    """An index that was seen, and what it is to the one before it; of the oldest that is kept nobody knows."""
    from ocitui.words import index_change_json

    entries = {"entries": len(change.index)}
    change_json = index_change_json(change.came, change.went, change.won)
    return {"when": time_json(change.when), **_made_json(change), **entries, **change_json}


def _tenure_json(entry: Descriptor, since: IndexChange, until: IndexChange | None) -> dict[str, Any]:
    """An entry that a name stood for; ``since`` is null where it did in the oldest index that is kept."""
    from ocitui.words import key_json

    return {
        **key_json(entry, entry.image_name),
        "since": None if since.oldest else time_json(since.when),
        "until": until and time_json(until.when),
        **_made_json(since),
    }


def _made_json(change: IndexChange) -> dict[str, Any]:
    made = [{"id": one.id, "kind": str(one.kind), "by": one.by} for one in change.transactions]
    return {"transactions": made, "another_program": None if change.oldest else change.by_another}
