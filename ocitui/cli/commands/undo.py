"""`ocitui undo`: a transaction reversed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ocitui.cache import by_another
from ocitui.text import timestamp

from ..options import changing, run_async, writing_cache
from ..output import Call, ExitCode, say
from ..selectors import complete_transaction

if TYPE_CHECKING:
    from ocitui.cache import Transaction


@click.command("undo")
@click.argument("transaction_id", metavar="[ID]", required=False, shell_complete=complete_transaction)
@changing
def undo_command(call: Call, transaction_id: str | None) -> ExitCode:
    """Reverse a transaction: the newest that can be, or the one named.

    Asks first where somebody else made it, and where a zone needs, or a loop device holds, what goes by it.
    """
    from ocitui.doctor import files_of_undo, indexes_of_undo
    from ocitui.host import check_users, find_users
    from ocitui.words import transaction_json

    cache = writing_cache(call, "undo a transaction")
    target = run_async(cache.undo_target(transaction_id))
    files = files_of_undo(target, *indexes_of_undo(call.directory, target))
    if by_another(target.by):
        call.agree([f"{_describe(target)} was made by {target.by}"], "undo it?")

    def carry_out() -> Transaction:
        users = find_users(call.directory)
        used_by = users.of_files(files)
        if users.doubt:
            say(f"not sure: others may be needed too: {users.doubt}", err=True)
        call.agree_to_drop_used(used_by, "undo it all the same?", lambda: {"used_by": list(used_by)})
        check_users(call.directory, files, users)
        return run_async(cache.undo(target.id))

    done = call.as_agreed(carry_out)
    note = [f"note: {done.explanation}"] if done.explanation else []
    lines = [f"undone: {_describe(target)}", *note, f"transaction {done.id}"]
    call.answer(lambda: {"transaction": transaction_json(done)}, lines)
    return ExitCode.CLEAN


def _describe(transaction: Transaction) -> str:
    from ocitui.words import transaction_extent

    names = f" ({transaction.about})" if transaction.about else ""
    what = f"{transaction.kind} of {transaction_extent(transaction)}{names}"
    return f"{what}, {timestamp(transaction.started)}, {transaction.id}"
