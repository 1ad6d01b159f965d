"""A transaction in words: how much it is about, and what is said once it is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ocitui.text import counted
from ocitui.words.json_values import transaction_json

from .output import Told, answer
from .settings import Settings

if TYPE_CHECKING:
    from ocitui.cache import Transaction


def tell_done(settings: Settings, done: Transaction, undoing: str, said: Iterable[str], told: Told) -> None:
    """Say what was done, and what ``undoing`` it would do; programs are ``told`` of it and of the transaction."""
    lines = [*said, f"transaction {done.id} (ocitui undo {done.id} {undoing})"]
    lines += [f"note: {done.note}"] if done.note else []
    answer(settings, lambda: {**told(), "transaction": transaction_json(done)}, lines)


def extent(transaction: Transaction) -> str:
    """What it is about: the index as a whole, else entries; else, as of many a mend, only files."""
    if transaction.swap is not None:
        return "index.json as a whole"
    entries, files = entry_count(transaction), file_count(transaction)
    return counted(entries, "entry", "entries") if entries or not files else counted(files, "file")


def entry_count(transaction: Transaction) -> int:
    """How many entries went or came."""
    return max(len(transaction.removed), len(transaction.added))


def file_count(transaction: Transaction) -> int:
    """How many files went, came, or changed their mode; index.json is one of them only where it was replaced."""
    moved = [moved.name for moved in transaction.trashed] + [placed.name for placed in transaction.placed]
    return len({*moved, *(mode.name for mode in transaction.modes)})
