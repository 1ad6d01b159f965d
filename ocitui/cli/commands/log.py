"""`ocitui log`: the transactions, newest first."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import click

from ocitui.cache import check_directory
from ocitui.text import human_size, timestamp

from ..options import reading, run_async, tell_notes
from ..output import Call, Column, ExitCode, table

if TYPE_CHECKING:
    from ocitui.cache import Transaction


@click.command("log")
@reading
def log_command(call: Call) -> ExitCode:
    """List the transactions, newest first."""
    from ocitui.cache import TransactionState
    from ocitui.words import transaction_json

    check_directory(call.directory)
    cache = call.cache()
    transactions = run_async(cache.transactions())
    tell_notes([one.note for one in run_async(cache.refused())])
    lines = table(_COLUMNS, map(_row, transactions)) if transactions else ["there is no transaction"]
    pending = "pending: begun and not ended; the next command that writes finishes it or rolls it back"
    notes = [pending] if any(one.state is TransactionState.PENDING for one in transactions) else []
    call.answer(lambda: {"transactions": [*map(transaction_json, transactions)]}, chain(lines, notes))
    return ExitCode.CLEAN


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


def _row(transaction: Transaction) -> list[str]:
    return [
        transaction.id,
        timestamp(transaction.started),
        transaction.kind,
        transaction.state,
        "index" if transaction.swap is not None else str(transaction.entry_count),
        str(len(transaction.file_names)),
        human_size(transaction.bytes_in_trash),
        transaction.about,
        transaction.by,
    ]
