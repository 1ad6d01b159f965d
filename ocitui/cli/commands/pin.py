"""`ocitui pin` and `ocitui unpin`: entries that no rule takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import check_directory
from ocitui.text import counted

from ..options import keeping, run_async
from ..output import Call, Column, ExitCode, UsageProblemError, table
from ..selectors import chosen_keys, entries_argument, filter_option, need_entries

if TYPE_CHECKING:
    from ocitui.cache import Key, Ledger, Note


@click.command("pin")
@entries_argument
@filter_option
@click.option("--reason", metavar="TEXT", default="by hand", show_default=True, help="Why it is kept.")
@keeping
def pin_command(call: Call, words: tuple[str, ...], filter_text: str | None, reason: str) -> ExitCode:
    """Keep entries out of prune, and out of a deletion by a filter; without an ENTRY list those that are.

    It is the image that the name stands for now, in all its formats or in that of .FORMAT, that is pinned.
    """
    check_directory(call.directory)
    if not words and filter_text is None:
        return _list(call)
    if not reason.strip():
        raise UsageProblemError("the reason is empty", hint="say why, with --reason TEXT")
    return _note(call, words, filter_text, reason.strip(), "pinned")


@click.command("unpin")
@entries_argument
@filter_option
@keeping
def unpin_command(call: Call, words: tuple[str, ...], filter_text: str | None) -> ExitCode:
    """Let entries go by a rule again."""
    return _note(call, words, filter_text, "", "no longer pinned")


def _note(call: Call, words: tuple[str, ...], filter_text: str | None, reason: str, done: str) -> ExitCode:
    from ocitui.cache import Ledger
    from ocitui.doctor import pin

    call.refuse_read_only("pin entries")
    need_entries(words, filter_text)
    keys = [key for key in chosen_keys(call, call.cache(), words, filter_text) if key[1]]
    ledger = Ledger.open(call.directory)
    pin(ledger, keys, reason)
    said = [f"{counted(len(keys), 'entry')} {'is' if len(keys) == 1 else 'are'} {done}"]
    call.answer(lambda: {"entries": [_json(key, ledger) for key in keys]}, said)
    return ExitCode.CLEAN


def _json(key: Key, ledger: Ledger) -> dict[str, Any]:
    from ocitui.cache import Topic

    note = ledger.noted(Topic.PINNED).get(f"{key[0]}.{key[1]}")
    return {"digest": key[0], "format": key[1], "pinned": note.text if note else None}


def _list(call: Call) -> ExitCode:
    from ocitui.cache import Ledger, Topic

    pins = Ledger.open(call.directory).noted(Topic.PINNED)
    index = run_async(call.cache().index())
    names = {f"{digest}.{format}": name for digest, format, name in index.identities()}

    def told() -> dict[str, Any]:
        return {"entries": [_pin_json(file, note, names.get(file)) for file, note in pins.items()]}

    call.answer(told, _lines(pins, names))
    return ExitCode.CLEAN


def _pin_json(file: str, note: Note, name: str | None) -> dict[str, Any]:
    digest, _, format = file.rpartition(".")
    return {"name": name, "digest": digest, "format": format, "pinned": note.text}


_COLUMNS = (
    Column("NAME", shrink=True),
    Column("FORMAT"),
    Column("DIGEST"),
    Column("SINCE", right=True),
    Column("WHY", shrink=True),
)


def _lines(pins: dict[str, Note], names: dict[str, str | None]) -> Iterator[str]:
    from ocitui.text import age_of, short_digest

    if not pins:
        yield "nothing is pinned"
        return
    rows = ((file.rpartition("."), note) for file, note in pins.items())
    yield from table(
        _COLUMNS,
        [
            [names.get(f"{digest}.{format}") or "not in the index", format, short_digest(digest), age_of(note.when),
             note.text]
            for (digest, _, format), note in rows
        ],
    )  # fmt: skip
