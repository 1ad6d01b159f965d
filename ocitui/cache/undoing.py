"""Undo: a transaction's steps reversed, as a transaction of its own."""

from __future__ import annotations

import stat
from collections.abc import Callable

import msgspec

from .descriptors import Descriptor
from .errors import ConflictError, NoSuchTransactionError
from .index import ImageIndex
from .index_file import IndexFile
from .journal import Moved, Placed, Removed, Transaction, TransactionKind, TransactionState, begin
from .transactions import moved_to_trash, needed, removals, run
from .workspace import Workspace


def latest_undoable(transactions: list[Transaction]) -> Transaction:
    """The newest transaction that can be undone, undo itself apart. Raises NoSuchTransactionError."""
    for transaction in transactions:
        if transaction.state is TransactionState.DONE and transaction.kind is not TransactionKind.UNDO:
            return transaction
    raise NoSuchTransactionError("there is nothing to undo")


def undo(space: Workspace, base: IndexFile, target: Transaction) -> Transaction:
    """Reverse a transaction: its files come back first, the index last; what it had brought in goes to the trash.

    Raises ConflictError where something stands in the place, or the trash no longer holds what is to come back.
    """
    if target.state is not TransactionState.DONE:
        raise ConflictError(f"transaction {target.id} cannot be undone: it is {target.state}")
    index = base.index or ImageIndex.empty()
    added = [one.descriptor for one in target.added]
    keys = {descriptor.key for descriptor in added}
    left = index.without(keys)
    returning = _returning(index, left, target)
    reversal = begin(TransactionKind.UNDO, of=target.id)
    placed = _files_back(space, target)
    leaving = _files_leaving(space, target, left, [*returning])
    displaced = [name for name in leaving if name in {file.name for file in placed}]
    reversal = msgspec.structs.replace(
        reversal,
        displaced=moved_to_trash(space.root, reversal.id, displaced),
        placed=placed,
        removed=removals(index, keys) if keys else [],
        added=[one for one in target.removed if one.descriptor in returning],
        discarded=moved_to_trash(space.root, reversal.id, [name for name in leaving if name not in displaced]),
        opening=target.opening,
        closing=target.closing,
    )
    return run(space, reversal, base, _reinsertion(reversal, keys))


def _returning(index: ImageIndex, left: ImageIndex, target: Transaction) -> list[Descriptor]:
    """The descriptors that come back. Raises ConflictError where another stands for the same digest and format."""
    returning = []
    for removed in target.removed:
        descriptor = removed.descriptor
        there = left.by_key(*descriptor.key)
        if there is None:
            returning.append(descriptor)
        elif there.as_dict() != descriptor.as_dict():
            raise ConflictError(
                f"an entry {descriptor.digest} in format {descriptor.format} was stored since",
                hint="delete that entry first, then undo again",
            )
    return returning


def _files_back(space: Workspace, target: Transaction) -> list[Placed]:
    """The files that come back from the trash. Raises ConflictError where one cannot."""
    incoming = {file.name for file in target.placed}
    placed = []
    for moved in target.trashed:
        kept = space.trash.lstat(moved.trash)
        there = space.root.lstat(moved.name)
        if there is not None and moved.name not in incoming:
            if kept is not None and _same_bytes(space, moved):
                continue
            raise ConflictError(f"{moved.name} stands in the place of the file in the trash")
        if kept is None:
            raise ConflictError(
                f"the trash no longer holds {moved.trash}", hint="import the image again to have its entry back"
            )
        placed.append(Placed(moved.name, kept.st_size, kept.st_mtime_ns, trash=moved.trash))
    return placed


def _same_bytes(space: Workspace, moved: Moved) -> bool:
    """Whether what stands in the place is the same small file: a document that another entry brought back."""
    there, kept = space.root.lstat(moved.name), space.trash.lstat(moved.trash)
    if there is None or kept is None or not (stat.S_ISREG(there.st_mode) and stat.S_ISREG(kept.st_mode)):
        return False
    if there.st_size != kept.st_size or not moved.name.endswith(".json"):
        return False
    return space.root.read(moved.name) == space.trash.read(moved.trash)


def _files_leaving(space: Workspace, target: Transaction, left: ImageIndex, returning: list[Descriptor]) -> list[str]:
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


def _reinsertion(reversal: Transaction, keys: set[tuple[str, str | None]]) -> Callable[[ImageIndex], ImageIndex]:
    """The edit of the index: out with ``keys``, and the removed descriptors back where they were."""

    def edit(current: ImageIndex) -> ImageIndex:
        left = current.without(keys)
        placed = [
            (_position(left, removed, reversal.added), removed.descriptor)
            for removed in reversal.added
            if left.by_key(*removed.descriptor.key) is None
        ]
        if not placed:
            return left
        restored = left.inserted(placed)
        if not left.descriptors:
            restored = restored.with_gaps(reversal.opening.encode(), reversal.closing.encode())
        return restored

    return edit


def _position(index: ImageIndex, removed: Removed, all_removed: list[Removed]) -> int:
    """Where a descriptor goes back: before its old neighbour, or where it was when that one is gone."""
    earlier = sum(other.position < removed.position for other in all_removed)
    expected = removed.position - earlier
    if removed.before is None:
        return len(index)
    neighbour = removed.before.encode()
    places = [at for at, descriptor in enumerate(index.descriptors) if descriptor.raw == neighbour]
    return min(places, key=lambda at: abs(at - expected)) if places else min(expected, len(index))
