"""`ocitui pin` and `ocitui unpin`: entries that no rule takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import NoSuchEntryError, check_directory
from ocitui.text import age_of, counted, short_digest

from ..options import keeping, run_async
from ..output import Call, Column, ExitCode, UsageProblemError, table
from ..selectors import chosen_keys, entries_argument, filter_option, need_entries

if TYPE_CHECKING:
    from ocitui.cache import Key, Note


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
    return _pin(call, words, filter_text, reason.strip(), "pinned")


@click.command("unpin")
@entries_argument
@filter_option
@keeping
def unpin_command(call: Call, words: tuple[str, ...], filter_text: str | None) -> ExitCode:
    """Let entries go by a rule again; one that is gone by its digest, as `ocitui pin` lists it."""
    return _pin(call, words, filter_text, "", "no longer pinned")


def _pin(call: Call, words: tuple[str, ...], filter_text: str | None, reason: str, done: str) -> ExitCode:
    from ocitui.cache import Ledger, Topic
    from ocitui.doctor import pin

    call.refuse_read_only("pin entries")
    need_entries(words, filter_text)
    ledger = Ledger.open(call.directory)
    keys: list[Key] = []
    left: list[str] = []
    for word in words:
        # An entry may be gone before its pin is.
        pinned = [] if reason else [file for file in ledger.noted(Topic.PINNED) if _means(word, file)]
        keys += [(digest, format) for digest, _, format in (file.rpartition(".") for file in pinned)]
        left += [] if pinned else [word]
    if left or filter_text is not None:
        keys += [key for key in chosen_keys(call, call.cache(), left, filter_text) if key[1]]
    if not keys:
        raise NoSuchEntryError("these entries have no format", hint="only what the daemon finds can be pinned")
    pin(ledger, keys, reason)
    pins = ledger.noted(Topic.PINNED)
    said = [f"{counted(len(keys), 'entry is', 'entries are')} {done}"]
    call.answer(lambda: {"entries": [_json(f"{key[0]}.{key[1]}", pins) for key in keys]}, said)
    return ExitCode.CLEAN


def _means(word: str, file: str) -> bool:
    """Whether it is the file, its digest, or as many digits of that as a list shows."""
    digest = file.rpartition(".")[0]
    return word in (file, digest, short_digest(digest), digest.partition(":")[2])


def _list(call: Call) -> ExitCode:
    from ocitui.cache import Ledger, Topic

    pins = Ledger.open(call.directory).noted(Topic.PINNED)
    index = run_async(call.cache().index())
    names = {f"{digest}.{format}": name for digest, format, name in index.identities()}
    rows = []
    for file, note in pins.items():
        digest, _, format = file.rpartition(".")
        name = names.get(file) or "not in the index"
        rows.append([name, format, short_digest(digest), age_of(note.when), note.text])
    lines = table(_COLUMNS, rows) if rows else ["nothing is pinned"]
    call.answer(lambda: {"entries": [_json(file, pins, name=names.get(file)) for file in pins]}, lines)
    return ExitCode.CLEAN


def _json(file: str, pins: Mapping[str, Note], **more: str | None) -> dict[str, Any]:
    digest, _, format = file.rpartition(".")
    return {**more, "digest": digest, "format": format, "pinned": pins[file].text if file in pins else None}


_COLUMNS = (
    Column("NAME", shrink=True),
    Column("FORMAT"),
    Column("DIGEST"),
    Column("SINCE", right=True),
    Column("WHY", shrink=True),
)
