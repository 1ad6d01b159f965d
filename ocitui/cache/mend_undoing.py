"""A mend reversed: everything gets back the bytes and the place it had, also an index that does not read."""

from __future__ import annotations

from collections import Counter

import msgspec

from .edits import positions
from .errors import ConflictError
from .files import INDEX_NAME
from .index import ImageIndex
from .index_file import IndexFile, read_patiently, refuse_link
from .journal import begin
from .marked import run_marked
from .mend_making import with_index_change
from .modes import mode_of
from .moves import moved_to_trash, placed_from
from .needs import needed, removals_at
from .records import Mode, Moved, Placed, Removed, Swap, Transaction, TransactionKind, TransactionState
from .swaps import is_same
from .undoing import files_back, require_done
from .workspace import Workspace


def undo_marked(space: Workspace, target: Transaction) -> Transaction:
    """Reverse a transaction whose record is marked.

    Raises ConflictError where something stands in the place, or is no longer what the transaction had left;
    CorruptIndexError where it edited an index that does not read now.
    """
    require_done(target)
    base = _base(space) if target.removed or target.added else None
    reversal = begin(TransactionKind.UNDO, of=target.id)
    placed = files_back(space, target)
    leaving = _files_leaving(space, reversal.id, target, {file.name for file in placed})
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
    returning = _returning(target, left, Counter(index.descriptors[at].raw for at in leaving))
    reversal = with_index_change(reversal, index, removals_at(index, leaving), returning)
    if left.descriptors or (target.opening and not returning):
        return reversal
    return msgspec.structs.replace(reversal, opening=target.opening, closing=target.closing, keeps_gaps=True)


def _returning(target: Transaction, left: ImageIndex, leaving: Counter[bytes]) -> list[Removed]:
    """The descriptors that come back; one that had only moved does not where it was deleted since.

    Raises ConflictError where another stands for the same digest and format.
    """
    moved = Counter(one.raw.encode() for one in target.added) & Counter(one.raw.encode() for one in target.removed)
    twins = Counter(descriptor.key for descriptor in left.descriptors)
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


def _files_leaving(space: Workspace, transaction_id: str, target: Transaction, returning: set[str]) -> list[Moved]:
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
