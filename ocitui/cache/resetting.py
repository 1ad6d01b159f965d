"""The daemon's own start on an absent or corrupt index, made without losing its bytes."""

from __future__ import annotations

import msgspec

from .errors import ConflictError
from .files import INDEX_NAME
from .index import EMPTY_INDEX
from .index_file import IndexFile, refuse_link
from .journal import Transaction, TransactionKind, TransactionState, begin
from .moves import moved_to_trash
from .verdict import IndexOutcome, judge_index
from .workspace import Workspace


def reset_index(space: Workspace, seen: IndexFile) -> None:
    """Put an empty index in place; a corrupt one goes to the trash, whole.

    The journal shows it as a transaction that cannot be undone: a corrupt index is never written back. Raises
    ConflictError where another program wrote index.json meanwhile, or it is a link.
    """
    refuse_link(space.directory)
    transaction = begin(TransactionKind.RESET)
    draft = f"{transaction.id}.index"
    space.disk.write_new(space.staging, draft, EMPTY_INDEX, space.root.lstat(INDEX_NAME))
    if seen.exists:
        _replace_corrupt(space, transaction, draft)
        return
    try:
        space.disk.rename(space.staging, draft, space.root, INDEX_NAME)
    except FileExistsError:
        # The daemon was quicker, and its index is as good.
        space.disk.unlink(space.staging, draft)
    space.sync()


def _replace_corrupt(space: Workspace, transaction: Transaction, draft: str) -> None:
    disk, moves = space.disk, moved_to_trash(space.root, transaction.id, [INDEX_NAME])
    transaction = msgspec.structs.replace(transaction, displaced=moves)
    space.journal.write(transaction)
    if disk.exchange(space.staging, draft, space.root, INDEX_NAME):
        if judge_index(space.staging.read(draft)) is IndexOutcome.LOADED:
            disk.exchange(space.staging, draft, space.root, INDEX_NAME)
            space.journal.mark(transaction, TransactionState.VOID)
            raise ConflictError("index.json was written by another program", hint="open the cache again")
        disk.rename(space.staging, draft, space.trash, f"{transaction.id}~{INDEX_NAME}")
    else:
        disk.rename(space.root, INDEX_NAME, space.trash, f"{transaction.id}~{INDEX_NAME}")
        disk.rename(space.staging, draft, space.root, INDEX_NAME)
    space.sync()
    space.journal.mark(transaction, TransactionState.DONE)
