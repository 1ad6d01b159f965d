"""The daemon's own start on an absent or corrupt index, made without losing its bytes."""

from __future__ import annotations

import msgspec

from .files import INDEX_NAME
from .index import EMPTY_INDEX
from .journal import Transaction, TransactionKind, TransactionState, begin
from .transactions import moved_to_trash
from .workspace import Workspace


def reset_index(space: Workspace) -> Transaction | None:
    """Put an empty index in place; a corrupt one goes to the trash, whole. None where there was none to keep.

    The journal shows it as a transaction that cannot be undone: a corrupt index is never written back.
    """
    disk = space.disk
    transaction = begin(TransactionKind.RESET)
    moves = moved_to_trash(space.root, transaction.id, [INDEX_NAME])
    draft = f"{transaction.id}.index"
    disk.write_new(space.staging, draft, EMPTY_INDEX, space.root.lstat(INDEX_NAME))
    if not moves:
        disk.rename(space.staging, draft, space.root, INDEX_NAME)
        space.sync()
        return None
    transaction = msgspec.structs.replace(transaction, displaced=moves)
    space.journal.write(transaction)
    if disk.exchange(space.staging, draft, space.root, INDEX_NAME):
        disk.rename(space.staging, draft, space.trash, moves[0].trash)
    else:
        disk.rename(space.root, INDEX_NAME, space.trash, moves[0].trash)
        disk.rename(space.staging, draft, space.root, INDEX_NAME)
    space.sync()
    return space.journal.mark(transaction, TransactionState.DONE)
