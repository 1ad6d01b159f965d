"""`ocitui log` and `ocitui undo`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ocitui.cache import NoSuchTransactionError, PackerCache, Transaction, TransactionState
from ocitui.cache.actor import whoami
from ocitui.cache.files import check_directory
from ocitui.cache.undoing import latest_undoable
from ocitui.text import human_size, timestamp

from .asking import agree
from .exits import ExitCode
from .options import Settings
from .output import emit, say
from .prose import counted
from .running import cache_of, run_async, tell_notes, writing_cache
from .tables import Column, lay_out, terminal_width

_COLUMNS = (
    Column("ID"),
    Column("WHEN"),
    Column("KIND"),
    Column("STATE"),
    Column("ENTRIES", right=True),
    Column("FILES", right=True, rank=2),
    Column("TRASH", right=True),
    Column("NAMES", rank=3),
    Column("BY", rank=1),
)
_PENDING_NOTE = "pending: begun and not ended; the next command that writes finishes it or rolls it back"


def show_log(settings: Settings) -> ExitCode:
    """Print the transactions, newest first. Raises CacheDirectoryError, StorageError."""
    check_directory(settings.directory)
    cache = cache_of(settings)
    transactions = run_async(cache.transactions())
    tell_notes([one.note for one in run_async(cache.refused())])
    if settings.as_json:
        emit(settings, transactions=[transaction_json(transaction) for transaction in transactions])
        return ExitCode.CLEAN
    rows = [_row(transaction) for transaction in transactions]
    for line in lay_out(_COLUMNS, rows, terminal_width()) if rows else ["there is no transaction"]:
        say(line)
    if any(transaction.state is TransactionState.PENDING for transaction in transactions):
        say(_PENDING_NOTE)
    return ExitCode.CLEAN


def undo(settings: Settings, transaction_id: str | None, agreed: bool) -> ExitCode:
    """Reverse a transaction, asking first where it is somebody else's.

    Raises NoSuchTransactionError, ConflictError, NotAskedError, CancelledError, and what writing raises.
    """
    cache = writing_cache(settings, "undo a transaction")
    target = run_async(_find(cache, transaction_id))
    if _author(target.by) != _author(whoami()):
        agree(settings, agreed, [f"{_describe(target)} was made by {target.by}"], "undo it?")
    done = run_async(cache.undo(target.id))
    if settings.as_json:
        emit(settings, transaction=transaction_json(done))
    else:
        say(f"undone: {_describe(target)}")
        if done.explanation:
            say(f"note: {done.explanation}")
        say(f"transaction {done.id}")
    return ExitCode.CLEAN


def transaction_json(transaction: Transaction) -> dict[str, Any]:
    """A transaction as programs read it."""
    return {
        "id": transaction.id,
        "kind": str(transaction.kind),
        "state": transaction.state.value,
        "started": datetime.fromtimestamp(transaction.started, UTC).isoformat(),
        "by": transaction.by,
        "of": transaction.of,
        "names": transaction.image_names,
        "digests": transaction.image_digests,
        "removed": [removed.descriptor.as_dict() for removed in transaction.removed],
        "added": [added.descriptor.as_dict() for added in transaction.added],
        "bytes_trashed": transaction.bytes_trashed,
        "files_trashed": [moved.name for moved in transaction.trashed],
        "files_placed": [placed.name for placed in transaction.placed],
        "index_replaced": transaction.swap is not None,
        "modes": [{"name": mode.name, "old": f"{mode.old:o}", "new": f"{mode.new:o}"} for mode in transaction.modes],
        "note": transaction.note or None,
    }


async def _find(cache: PackerCache, transaction_id: str | None) -> Transaction:
    transactions = await cache.transactions()
    if transaction_id is None:
        return latest_undoable(transactions)
    for transaction in transactions:
        if transaction.id == transaction_id:
            return transaction
    raise NoSuchTransactionError(f"there is no transaction {transaction_id}")


def _author(by: str) -> str:
    """The user and host in a transaction's ``by``."""
    return by.rpartition(", ")[2].rstrip(")")


def _describe(transaction: Transaction) -> str:
    names = f" ({transaction.about})" if transaction.about else ""
    return f"{transaction.kind} of {_count(transaction)}{names}, {timestamp(transaction.started)}, {transaction.id}"


def _count(transaction: Transaction) -> str:
    """What it is about: the index as a whole, else entries; else, as of many a mend, only files."""
    if transaction.swap is not None:
        return "index.json as a whole"
    entries, files = _entries(transaction), _files(transaction)
    return counted(entries, "entry", "entries") if entries or not files else counted(files, "file")


def _entries(transaction: Transaction) -> int:
    return max(len(transaction.removed), len(transaction.added))


def _files(transaction: Transaction) -> int:
    """How many files went, came, or changed their mode; index.json is one of them only where it was replaced."""
    moved = [moved.name for moved in transaction.trashed] + [placed.name for placed in transaction.placed]
    return len({*moved, *(mode.name for mode in transaction.modes)})


def _row(transaction: Transaction) -> list[str]:
    return [
        transaction.id,
        timestamp(transaction.started),
        transaction.kind,
        transaction.state,
        "index" if transaction.swap is not None else str(_entries(transaction)),
        str(_files(transaction)),
        human_size(0 if transaction.state is TransactionState.EMPTIED else transaction.bytes_trashed),
        transaction.about,
        transaction.by,
    ]
