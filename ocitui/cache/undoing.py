"""Undo: a transaction's steps reversed, as a transaction of its own."""

from __future__ import annotations

import stat
from collections.abc import Callable

import msgspec

from .descriptors import Descriptor
from .edits import placements
from .errors import ConflictError, NoSuchTransactionError
from .index import ImageIndex, Key
from .index_file import IndexFile
from .journal import Journal, begin
from .moves import is_moved, moved_to_trash, placed_from
from .needs import needed, removals
from .records import Moved, Placed, Removed, Transaction, TransactionKind, TransactionState
from .transactions import run
from .workspace import Workspace

_REVERSIBLE = (TransactionKind.STORE, TransactionKind.DELETE, TransactionKind.MEND)


def latest_undoable(transactions: list[Transaction]) -> Transaction:
    """The newest transaction that can be undone, undo itself apart. Raises NoSuchTransactionError."""
    for transaction in transactions:
        if transaction.state is TransactionState.DONE and transaction.kind in _REVERSIBLE:
            return transaction
    undone = any(transaction.state is TransactionState.DONE for transaction in transactions)
    hint = "an undo is undone by its ID; ocitui log shows every transaction" if undone else ""
    raise NoSuchTransactionError("there is nothing to undo", hint=hint)


def find_target(journal: Journal, transaction_id: str | None) -> Transaction:
    """The transaction of an id, or the newest that can be undone. Raises NoSuchTransactionError."""
    return latest_undoable(journal.list()) if transaction_id is None else journal.read(transaction_id)


def undo(space: Workspace, base: IndexFile, target: Transaction) -> Transaction:
    """Reverse a transaction: its files come back first, the index last; what it had brought in goes to the trash.

    Raises ConflictError where something stands in the place, or the trash no longer holds what is to come back.
    """
    require_done(target)
    if target.kind is TransactionKind.RESET:
        raise ConflictError(
            f"transaction {target.id} cannot be undone: a corrupt index is never written back",
            hint="its bytes are in the trash",
        )
    index = base.contents
    added = [one.descriptor for one in target.added]
    keys = {descriptor.key for descriptor in added}
    left = index.without(keys)
    _check_added(index, added)
    returning = _returning(left, target)
    reversal = begin(TransactionKind.UNDO, of=target.id)
    placed = files_back(space, target)
    leaving = _files_leaving(space, target, left)
    if not (placed or leaving or returning or any(index.by_key(*one) for one in keys)):
        raise ConflictError(f"nothing is left of transaction {target.id}", hint="what came of it was deleted since")
    returned = {file.name for file in placed}
    reversal = msgspec.structs.replace(
        reversal,
        displaced=moved_to_trash(space.root, reversal.id, [name for name in leaving if name in returned]),
        placed=placed,
        removed=removals(index, keys) if keys else [],
        added=returning,
        discarded=moved_to_trash(space.root, reversal.id, [name for name in leaving if name not in returned]),
        opening=index.layout.opening.decode(),
        closing=index.layout.closing.decode(),
    )
    return run(space, reversal, base, _reinsertion(target, returning, keys))


def require_done(target: Transaction) -> None:
    """Raises ConflictError where a transaction is not one that can be undone."""
    if target.state is TransactionState.EMPTIED:
        raise ConflictError(
            f"transaction {target.id} cannot be undone: the trash was emptied of its files",
            hint="import the images again to have their entries back",
        )
    if target.state is not TransactionState.DONE:
        raise ConflictError(f"transaction {target.id} cannot be undone: it is {target.state}")


def _check_added(index: ImageIndex, added: list[Descriptor]) -> None:
    """Raises ConflictError where another entry stands in the place of one that is to go."""
    for descriptor in added:
        there = index.by_key(*descriptor.key)
        if there is not None and there.image_name != descriptor.image_name:
            raise ConflictError(
                f"{descriptor.digest} in format {descriptor.format} was stored since, as {there.image_name}",
                hint="undo or delete that first",
            )


def _returning(left: ImageIndex, target: Transaction) -> list[Removed]:
    """The descriptors that come back. Raises ConflictError where another stands for the same digest and format."""
    returning = []
    for removed in target.removed:
        descriptor = removed.descriptor
        there = left.by_key(*descriptor.key)
        if there is None:
            returning.append(removed)
        elif there.as_dict() != descriptor.as_dict():
            raise ConflictError(
                f"an entry {descriptor.digest} in format {descriptor.format} was stored since",
                hint="delete that entry first, then undo again",
            )
    return returning


def files_back(space: Workspace, target: Transaction) -> list[Placed]:
    """The files that come back from the trash. Raises ConflictError where one cannot."""
    incoming = {file.name for file in target.placed}
    placed = []
    for moved in (*target.displaced, *target.discarded):
        kept = space.trash.lstat(moved.trash)
        there = space.root.lstat(moved.name)
        if there is not None and moved.name not in incoming:
            if _same_bytes(space, moved) if kept is not None else is_moved(there, moved):
                continue
            raise ConflictError(f"{moved.name} stands in the place of the file in the trash")
        if kept is None:
            raise ConflictError(
                f"the trash no longer holds {moved.trash}", hint="import the image again to have its entry back"
            )
        placed.append(placed_from(kept, moved.name, trash=moved.trash))
    return placed


def _same_bytes(space: Workspace, moved: Moved) -> bool:
    """Whether what stands in the place is the same small file: a document that another entry brought back."""
    there, kept = space.root.lstat(moved.name), space.trash.lstat(moved.trash)
    if there is None or kept is None or not (stat.S_ISREG(there.st_mode) and stat.S_ISREG(kept.st_mode)):
        return False
    if there.st_size != kept.st_size or not moved.name.endswith(".json"):
        return False
    return space.root.read(moved.name) == space.trash.read(moved.trash)


def _files_leaving(space: Workspace, target: Transaction, left: ImageIndex) -> list[str]:
    """The files the transaction brought in that nothing else needs; those that give way to an older one too.

    Raises ConflictError where such a file is not the one that was brought in.
    """
    back = {moved.name for moved in target.trashed}
    leaving = []
    for placed in target.placed:
        if placed.name not in back and needed(left, placed.name):
            continue
        there = space.root.lstat(placed.name)
        if there is None:
            continue
        if (there.st_size, there.st_mtime_ns) != (placed.size, placed.modified_ns):
            raise ConflictError(f"{placed.name} was replaced since")
        leaving.append(placed.name)
    return leaving


def _reinsertion(target: Transaction, returning: list[Removed], keys: set[Key]) -> Callable[[ImageIndex], ImageIndex]:
    """The edit of the index: out with ``keys``, and the ``returning`` back where they were."""

    def edit(current: ImageIndex) -> ImageIndex:
        left = current.without(keys)
        placed = placements(left, [one for one in returning if left.by_key(*one.descriptor.key) is None])
        restored = left.inserted(placed) if placed else left
        # Empty brackets have nothing before what they close with, however it was written.
        if not left.descriptors and (placed or not target.opening):
            return restored.with_gaps(target.opening.encode(), target.closing.encode())
        return restored

    return edit
