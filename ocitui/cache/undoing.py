"""Undo: the change that reverses a transaction.

Its files come back first, the index last; what it had brought in goes to the trash.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable

from .changes import Change, ChangeMode, Discard, IndexReplacement, IndexSeen, Place, Seen
from .descriptors import Descriptor
from .edits import Edit, Gaps, needed, positions, removals_at
from .errors import ConflictError, NoSuchTransactionError
from .file_steps import is_half_moved, is_moved, mode_of
from .files import INDEX_NAME
from .index import ImageIndex
from .journal import Journal
from .publish import is_same
from .records import Identity, Moved, RecordedDescriptor, Transaction, TransactionKind, TransactionState, identity_of
from .transactions import About, make
from .workspace import Workspace

_REVERSIBLE = frozenset(TransactionKind) - {TransactionKind.UNDO, TransactionKind.RESET}


def latest_undoable(transactions: Iterable[Transaction]) -> Transaction:
    """The newest of transactions, newest first, that can be undone, undo itself apart.

    Raises NoSuchTransactionError.
    """
    undone = False
    for transaction in transactions:
        if transaction.state is TransactionState.DONE:
            if transaction.kind in _REVERSIBLE:
                return transaction
            undone = True
    hint = "an undo is undone by its ID; ocitui log shows every transaction" if undone else ""
    raise NoSuchTransactionError("there is nothing to undo", hint=hint)


def find_target(journal: Journal, transaction_id: str | None) -> Transaction:
    """The transaction of an id, or the newest that can be undone. Raises NoSuchTransactionError."""
    return latest_undoable(journal.list()) if transaction_id is None else journal.read(transaction_id)


def can_be_undone(transaction: Transaction) -> bool:
    """Whether a transaction is of a kind and in a state that can be undone; what stands in the way may still refuse.

    The first version's resets were no replacement, and their bytes are in the trash.
    """
    return transaction.state is TransactionState.DONE and (
        transaction.marked or transaction.kind != TransactionKind.RESET
    )


def require_done(target: Transaction) -> None:
    """Raises ConflictError where a transaction is not one that can be undone."""
    if target.state is TransactionState.EMPTIED:
        raise ConflictError(
            f"transaction {target.id} cannot be undone: the trash was emptied of its files",
            hint="import the images again to have their entries back",
        )
    if target.state is not TransactionState.DONE:
        raise ConflictError(f"transaction {target.id} cannot be undone: it is {target.state}")
    if not can_be_undone(target):
        raise ConflictError(
            f"transaction {target.id} cannot be undone: a corrupt index is never written back",
            hint="its bytes are in the trash",
        )


def undo(space: Workspace, target: Transaction) -> Transaction:
    """Reverse a transaction.

    Raises ConflictError where something stands in the place, or is no longer what the transaction had left, or the
    trash no longer holds what is to come back; CorruptIndexError where it edited an index that does not read now.
    """
    require_done(target)
    index = space.read_index().contents if target.removed or target.added else None
    edit, left, absent = None, None, list[Identity]()
    if index is not None:
        edit, left, absent = (_edit_by_position if target.marked else _edit_by_key)(target, index)
        edit = edit if _does_something(edit, index) else None
    returning = list(_files_back(space, target))
    names = {place.name for place in returning}
    leaving = {item.name: item for item in _files_leaving(space, target, left, names)}
    change = Change(
        _replacement(space, target) if target.swap else edit,
        discard=tuple(item for item in leaving.values() if item.name not in names),
        place=tuple(_over(place, leaving.get(place.name)) for place in returning),
        modes=tuple(_modes_back(space, target)),
    )
    if not change:
        raise ConflictError(f"nothing is left of transaction {target.id}", hint="what came of it was deleted since")
    about = About(TransactionKind.UNDO, target.id, tuple(target.names), tuple(target.digests), tuple(absent))
    return make(space, change, about)


def _does_something(edit: Edit, index: ImageIndex) -> bool:
    return bool(edit.out or edit.into) or any(index.by_key(*key) is not None for key in edit.keys or ())


def _edit_by_key(target: Transaction, index: ImageIndex) -> tuple[Edit, ImageIndex, list[Identity]]:
    """The edit that takes out the keys that came in, and puts back what left, unless it is there."""
    added = [one.descriptor for one in target.added]
    keys = frozenset(descriptor.key for descriptor in added)
    _check_added(index, added)
    left = index.without(keys)
    returning = []
    for removed in target.removed:
        descriptor = removed.descriptor
        there = left.by_key(*descriptor.key)
        if there is None:
            returning.append(removed)
        elif there.as_dict() != descriptor.as_dict():
            raise _stored_since(descriptor)
    absent = [identity_of(one) for one in added if index.by_key(*one.key) is None]
    return Edit(into=returning, keys=keys, gaps=_gaps(target)), left, absent


def _check_added(index: ImageIndex, added: list[Descriptor]) -> None:
    """Raises ConflictError where another entry stands in the place of one that is to go."""
    for descriptor in added:
        there = index.by_key(*descriptor.key)
        if there is not None and there.image_name != descriptor.image_name:
            raise ConflictError(
                f"{descriptor.digest} in format {descriptor.format} was stored since, as {there.image_name}",
                hint="undo or delete that first",
            )


def _stored_since(descriptor: Descriptor) -> ConflictError:
    return ConflictError(
        f"an entry {descriptor.digest} in format {descriptor.format} was stored since",
        hint="delete that entry first, then undo again",
    )


def _edit_by_position(target: Transaction, index: ImageIndex) -> tuple[Edit, ImageIndex, list[Identity]]:
    """The edit that takes out the very descriptors that came in, and puts back those that left."""
    leaving = positions(index, target.added)
    left = index.without_at(leaving)
    going = Counter(index.descriptors[at].raw for at in leaving)
    absent = [identity_of(one.descriptor) for one in target.added if not going[one.raw.encode()]]
    returning = _returning(target, left, going)
    gaps = None if target.opening and not returning else _gaps(target)
    return Edit(removals_at(index, leaving), returning, gaps=gaps), left, absent


def _returning(target: Transaction, left: ImageIndex, leaving: Counter[bytes]) -> list[RecordedDescriptor]:
    """The descriptors that come back; one that had only moved does not where it was deleted since.

    Raises ConflictError where another stands for the same digest and format.
    """
    moved = Counter(one.raw.encode() for one in target.added) & Counter(one.raw.encode() for one in target.removed)
    leaving = Counter(leaving)
    keys = {one.descriptor.key for one in target.removed}
    twins = Counter(descriptor.key for descriptor in left.descriptors if descriptor.key in keys)
    returning: list[RecordedDescriptor] = []
    for one in target.removed:
        raw, descriptor = one.raw.encode(), one.descriptor
        if moved[raw] > 0:
            moved[raw] -= 1
            if leaving[raw] == 0:
                continue
            leaving[raw] -= 1
        elif twins[descriptor.key] > one.twins:
            raise _stored_since(descriptor)
        returning.append(one)
    return returning


def _gaps(target: Transaction) -> Gaps:
    return target.opening.encode(), target.closing.encode()


def _files_back(space: Workspace, target: Transaction) -> Iterable[Place]:
    """The files that come back from the trash. Raises ConflictError where one cannot."""
    incoming = {file.name for file in target.placed}
    for moved in (*target.displaced, *target.discarded):
        kept = space.trash.lstat(moved.trash)
        there = space.root.lstat(moved.name)
        if there is not None and kept is not None and is_half_moved(there, kept):
            continue
        if there is not None and moved.name not in incoming:
            if _same_bytes(space, moved) if kept is not None else is_moved(there, moved):
                continue
            raise ConflictError(f"{moved.name} stands in the place of the file in the trash")
        if kept is None:
            raise ConflictError(
                f"the trash no longer holds {moved.trash}", hint="import the image again to have its entry back"
            )
        yield Place(moved.name, trash=moved.trash, source=Seen.of(kept))


def _same_bytes(space: Workspace, moved: Moved) -> bool:
    """Whether what stands in the place is the same small file: a document that another entry brought back."""
    there, kept = space.root.lstat(moved.name), space.trash.lstat(moved.trash)
    if there is None or kept is None or not (stat.S_ISREG(there.st_mode) and stat.S_ISREG(kept.st_mode)):
        return False
    if there.st_size != kept.st_size or not moved.name.endswith(".json"):
        return False
    return space.root.read(moved.name) == space.trash.read(moved.trash)


def _files_leaving(
    space: Workspace, target: Transaction, left: ImageIndex | None, returning: set[str]
) -> Iterable[Discard]:
    """The files the transaction brought in that nothing else needs, and those that give way to an older one; what came
    from the trash goes back to its old name in it.

    Raises ConflictError where such a file is not the one that was brought in, or an entry stored since needs it.
    """
    indexes = [left] if left is not None and not target.marked else []
    if target.marked and target.placed:
        indexes = [
            _added(one)
            for one in space.journal.since(target.order)
            if one.id != target.id and one.state is TransactionState.DONE and one.added
        ]
    for placed in target.placed:
        there = space.root.lstat(placed.name)
        if there is None:
            continue
        is_needed = any(needed(index, placed.name) for index in indexes)
        if is_needed and placed.name not in returning:
            continue
        # Not by its inode: the cache may have been copied to another disk since.
        if (there.st_size, there.st_mtime_ns) != (placed.size, placed.modified_ns):
            raise ConflictError(f"{placed.name} was replaced since")
        if is_needed and target.marked:
            raise ConflictError(f"an entry stored since needs {placed.name}", hint="delete that entry first")
        free = placed.trash is not None and space.trash.lstat(placed.trash) is None
        yield Discard(placed.name, Seen.of(there), placed.trash or "" if free else "")


def _added(later: Transaction) -> ImageIndex:
    return ImageIndex.empty().inserted([(0, one.descriptor, None) for one in later.added])


def _over(place: Place, leaving: Discard | None) -> Place:
    """The same, in the place of a file that leaves."""
    if leaving is None:
        return place
    return Place(place.name, leaving.seen, trash=place.trash, source=place.source, aside=leaving.aside)


def _modes_back(space: Workspace, target: Transaction) -> Iterable[ChangeMode]:
    """Raises ConflictError where a mode was changed since."""
    for mode in target.modes:
        if mode_of(space.root, mode.name) != mode.new:
            raise ConflictError(f"the mode of {mode.name} was changed since")
        yield ChangeMode(mode.name, mode.new, mode.old)


def _replacement(space: Workspace, target: Transaction) -> IndexReplacement:
    """What stood in the place of the index comes back. Raises ConflictError where the index was changed since."""
    swap = target.swap
    assert swap is not None
    if not is_same(space.root, INDEX_NAME, swap.new, swap.new_sha256):
        raise ConflictError("index.json was changed since", hint="undo or delete what came later first")
    there = space.root.lstat(INDEX_NAME)
    seen = IndexSeen(swap.new_sha256) if swap.new_sha256 else IndexSeen(other=Seen.of(there) if there else None)
    return IndexReplacement(seen, trash=swap.old.trash if swap.old else None)
