"""How much a transaction is about, for `ocitui log` and `ocitui undo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocitui.text import counted

if TYPE_CHECKING:
    from ocitui.cache import Transaction


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
