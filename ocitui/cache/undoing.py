"""Undo: a transaction's steps reversed, as a transaction of its own."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable

import msgspec

from .changing import with_index_change
from .descriptors import Descriptor
from .edits import needed, placements, positions, removals, removals_at
from .errors import ConflictError, NoSuchTransactionError
from .file_steps import is_moved, is_same, mode_of, moved_to_trash, placed_from
from .files import INDEX_NAME
from .index import ImageIndex, Key
from .index_file import IndexFile, read_patiently, refuse_link
from .journal import Journal, begin
from .records import Mode, Moved, Placed, Removed, Swap, Transaction, TransactionKind, TransactionState
from .transactions import run, run_marked
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
    if not (placed or leaving or returning or index.positions_of(keys)):
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


def undo_marked(space: Workspace, target: Transaction) -> Transaction:
    """Reverse a transaction whose record is marked.

    Raises ConflictError where something stands in the place, or is no longer what the transaction had left;
    CorruptIndexError where it edited an index that does not read now.
    """
    require_done(target)
    base = _base(space) if target.removed or target.added else None
    reversal = begin(TransactionKind.UNDO, of=target.id)
    placed = files_back(space, target)
    leaving = _marked_files_leaving(space, reversal.id, target, {file.name for file in placed})
    returned = {file.name for file in placed}
    reversal = msgspec.structs.replace(
        reversal,
        marked=True,
        placed=placed,
        displaced=[moved for moved in leaving if moved.name in returned],
        modes=_modes_back(space, target),
        discarded=[moved for moved in leaving if moved.name not in returned],
        swap=_swap_back(space, reversal.id, target.swap) if target.swap else None,
    )
    if base is not None:
        reversal = _with_reverse_edit(reversal, target, base.contents)
    if not (reversal.placed or reversal.trashed or reversal.modes or reversal.changes_index):
        raise ConflictError(f"nothing is left of transaction {target.id}", hint="what came of it was deleted since")
    return run_marked(space, reversal, base if reversal.removed or reversal.added else None)


def _base(space: Workspace) -> IndexFile:
    refuse_link(space.directory)
    base = read_patiently(space.directory)
    base.require_sound(space.directory)
    return base


def _with_reverse_edit(reversal: Transaction, target: Transaction, index: ImageIndex) -> Transaction:
    leaving = positions(index, target.added)
    left = index.without_at(leaving)
    returning = _marked_returning(target, left, Counter(map(index.raw, leaving)))
    reversal = with_index_change(reversal, index, removals_at(index, leaving), returning)
    if left.descriptors or (target.opening and not returning):
        return reversal
    return msgspec.structs.replace(reversal, opening=target.opening, closing=target.closing, keeps_gaps=True)


def _marked_returning(target: Transaction, left: ImageIndex, leaving: Counter[bytes]) -> list[Removed]:
    """The descriptors that come back; one that had only moved does not where it was deleted since.

    Raises ConflictError where another stands for the same digest and format.
    """
    moved = Counter(one.raw.encode() for one in target.added) & Counter(one.raw.encode() for one in target.removed)
    twins = Counter(zip(left.digests, left.formats, strict=True))
    returning: list[Removed] = []
    for one in target.removed:
        raw, descriptor = one.raw.encode(), one.descriptor
        if moved[raw] > 0:
            moved[raw] -= 1
            if leaving[raw] == 0:
                continue
            leaving[raw] -= 1
        elif twins[descriptor.key] > one.twins:
            raise ConflictError(
                f"an entry {descriptor.digest} in format {descriptor.format} was stored since",
                hint="delete that entry first, then undo again",
            )
        returning.append(one)
    return returning


def _marked_files_leaving(
    space: Workspace, transaction_id: str, target: Transaction, returning: set[str]
) -> list[Moved]:
    """The files the transaction brought in, as they go to the trash; one that came from there to its old name in it.

    Raises ConflictError where such a file is not the one that was brought in, or an entry stored since needs it.
    """
    leaving: list[Moved] = []
    for placed in target.placed:
        there = space.root.lstat(placed.name)
        if there is None:
            continue
        # Not by its inode: the cache may have been copied to another disk since.
        if (there.st_size, there.st_mtime_ns) != (placed.size, placed.modified_ns):
            raise ConflictError(f"{placed.name} was replaced since")
        if _needed_since(space, target, placed.name):
            if placed.name in returning:
                raise ConflictError(f"an entry stored since needs {placed.name}", hint="delete that entry first")
            continue
        (moved,) = moved_to_trash(space.root, transaction_id, [placed.name])
        free = placed.trash is not None and space.trash.lstat(placed.trash) is None
        leaving.append(msgspec.structs.replace(moved, trash=placed.trash) if free else moved)
    return leaving


def _needed_since(space: Workspace, target: Transaction, name: str) -> bool:
    """Whether a later transaction brought an entry in that has this file."""
    for later in space.journal.since(target.id):
        if later.id == target.id or later.state is not TransactionState.DONE or not later.added:
            continue
        descriptors = [one.descriptor for one in later.added]
        if needed(ImageIndex.empty().inserted([(0, descriptor, None) for descriptor in descriptors]), name):
            return True
    return False


def _modes_back(space: Workspace, target: Transaction) -> list[Mode]:
    """Raises ConflictError where a mode was changed since."""
    for mode in target.modes:
        if mode_of(space.root, mode.name) != mode.new:
            raise ConflictError(f"the mode of {mode.name} was changed since")
    return [Mode(mode.name, mode.new, mode.old) for mode in target.modes]


def _swap_back(space: Workspace, transaction_id: str, swap: Swap) -> Swap:
    """What stood in the place of the index comes back. Raises ConflictError where the index was changed since."""
    if not is_same(space.root, INDEX_NAME, swap.new, swap.new_sha256):
        raise ConflictError("index.json was changed since", hint="undo or delete what came later first")
    going = moved_to_trash(space.root, transaction_id, [INDEX_NAME])
    return Swap(going[0] if going else None, _from_trash(space, swap.old), swap.new_sha256, swap.old_sha256)


def _from_trash(space: Workspace, old: Moved | None) -> Placed | None:
    if old is None:
        return None
    kept = space.trash.lstat(old.trash)
    if kept is None:
        raise ConflictError(f"the trash no longer holds {old.trash}")
    return placed_from(kept, INDEX_NAME, trash=old.trash)
