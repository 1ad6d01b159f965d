"""`ocitui log` and `ocitui undo`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ocitui.cache import NoSuchTransactionError, PackerCache, Transaction, TransactionState
from ocitui.cache.files import check_directory
from ocitui.cache.lock import whoami
from ocitui.cache.undoing import latest_undoable
from ocitui.text import human_size, timestamp

from .asking import agree
from .exits import ExitCode
from .failures import refuse_read_only
from .options import Settings
from .output import emit, say
from .running import cache_of, run_async
from .tables import Column, lay_out, terminal_width

_COLUMNS = (
    Column("ID"),
    Column("WHEN"),
    Column("KIND"),
    Column("STATE"),
    Column("ENTRIES", right=True),
    Column("TRASH", right=True),
    Column("BY", rank=1),
)
_PENDING_NOTE = "pending: begun and not ended; the next command that writes finishes it or rolls it back"


def show_log(settings: Settings) -> ExitCode:
    """Print the transactions, newest first. Raises CacheDirectoryError, StorageError."""
    check_directory(settings.directory)
    transactions = run_async(cache_of(settings).transactions())
    if settings.as_json:
        emit(settings, transactions=[transaction_json(transaction) for transaction in transactions])
        return ExitCode.CLEAN
    for line in lay_out(_COLUMNS, [_row(transaction) for transaction in transactions], terminal_width()):
        say(line)
    if any(transaction.state is TransactionState.PENDING for transaction in transactions):
        say(_PENDING_NOTE)
    return ExitCode.CLEAN


def undo(settings: Settings, transaction_id: str | None, agreed: bool) -> ExitCode:
    """Reverse a transaction, asking first where it is somebody else's.

    Raises NoSuchTransactionError, ConflictError, NotAskedError, CancelledError, and what writing raises.
    """
    refuse_read_only(settings, "undo a transaction")
    check_directory(settings.directory)
    cache = cache_of(settings)
    target = run_async(_find(cache, transaction_id))
    if _author(target.by) != _author(whoami()):
        agree(settings, agreed, [f"{_describe(target)} was made by {target.by}"], "undo it?")
    done = run_async(cache.undo(target.id))
    if settings.as_json:
        emit(settings, transaction=transaction_json(done))
    else:
        say(f"undone: {_describe(target)}")
        say(f"transaction {done.id}")
    return ExitCode.CLEAN


def transaction_json(transaction: Transaction) -> dict[str, Any]:
    """A transaction as programs read it."""
    return {
        "id": transaction.id,
        "kind": transaction.kind.value,
        "state": transaction.state.value,
        "started": datetime.fromtimestamp(transaction.started, UTC).isoformat(),
        "by": transaction.by,
        "of": transaction.of,
        "removed": [removed.descriptor.as_dict() for removed in transaction.removed],
        "added": [added.descriptor.as_dict() for added in transaction.added],
        "bytes_trashed": transaction.bytes_trashed,
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
    return f"{transaction.kind} of {_count(transaction)}, {timestamp(transaction.started)}, {transaction.id}"


def _count(transaction: Transaction) -> str:
    count = max(len(transaction.removed), len(transaction.added))
    return "1 entry" if count == 1 else f"{count} entries"


def _row(transaction: Transaction) -> list[str]:
    return [
        transaction.id,
        timestamp(transaction.started),
        transaction.kind,
        transaction.state,
        str(max(len(transaction.removed), len(transaction.added))),
        human_size(transaction.bytes_trashed),
        transaction.by,
    ]
