"""Undo, the change that reverses a transaction; and the edit that makes again what another program's rewrite undid.

An undo's files come back first, the index last; what had been brought in goes to the trash. A daemon holds its index in
memory and writes it whole at each store, so what was changed on disk meanwhile is gone. The newest transaction that
touched an entry says how it should stand; the order of entries counts where one was moved.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from . import records
from .changes import (
    Change,
    Discard,
    Edit,
    IndexEdit,
    IndexReplacement,
    IndexSeen,
    Insert,
    Place,
    Remove,
    Seen,
    needed,
    positions,
    removals,
)
from .descriptors import Descriptor
from .disk import storage_errors
from .errors import ConflictError, NoSuchTransactionError
from .files import INDEX_NAME, Key, regular_file
from .index import ImageIndex
from .journal import Journal
from .own_folder import open_journal
from .publish import is_same
from .records import ChangeMode, Identity, Moved, RecordedDescriptor, Transaction, TransactionKind, TransactionState
from .transactions import make
from .workspace import Workspace, is_half_moved, mode_of

_REVERSIBLE = frozenset(TransactionKind) - {TransactionKind.UNDO, TransactionKind.RESET}
_MENDS = frozenset({TransactionKind.REPAIR, TransactionKind.REDO})


def find_target(journal: Journal, transaction_id: str | None) -> Transaction:
    """The transaction of an id, or the newest to undo, undos apart. Raises NoSuchTransactionError, ConflictError."""
    if transaction_id is not None:
        return journal.read(transaction_id)
    done = journal.transactions([TransactionState.DONE])
    for transaction in done:
        if transaction.kind in _REVERSIBLE:
            return transaction
    hint = "an undo is undone by its ID; ocitui log shows every transaction" if done else ""
    raise NoSuchTransactionError("there is nothing to undo", hint=hint)


def can_be_undone(transaction: Transaction) -> bool:
    """Whether a transaction is of a kind and in a state that can be undone; what stands in the way may still refuse.
    The first version's resets were no replacement, and their bytes are in the trash."""
    return transaction.state is TransactionState.DONE and (
        transaction.marked or transaction.kind != TransactionKind.RESET
    )


def require_done(target: Transaction) -> None:
    """Raises ConflictError where a transaction is not one that can be undone."""
    hint = ""
    if target.state is TransactionState.EMPTIED:
        why, hint = "the trash was emptied of its files", "import the images again to have their entries back"
    elif target.state is not TransactionState.DONE:
        why = f"it is {target.state}"
    elif not can_be_undone(target):
        why, hint = "a corrupt index is never written back", "its bytes are in the trash"
    else:
        return
    raise ConflictError(f"transaction {target.id} cannot be undone: {why}", hint=hint)


def undo(space: Workspace, target: Transaction) -> Transaction:
    """Reverse a transaction. Raises ConflictError where something is not as it had left it, or gone from the trash;
    CorruptIndexError where it edited an index that does not read now."""
    require_done(target)
    index = space.read_index().contents if target.removed or target.added else None
    edit, left, absent = None, None, list[Identity]()
    if index is not None:
        edit, left, absent = (_edit_by_position if target.marked else _edit_by_key)(target, index)
        if not (edit.out or edit.into or any(index.by_key(*key) for key in edit.keys or ())):
            edit = None
    returning = list(_files_back(space, target))
    names = {place.name for place in returning}
    leaving = {item.name: item for item in _files_leaving(space, target, left, names)}
    change = Change(
        _replacement(space, target) if target.swap else edit,
        discard=tuple(item for item in leaving.values() if item.name not in names),
        place=tuple(
            replace(place, seen=gone.seen, aside=gone.aside) if (gone := leaving.get(place.name)) else place
            for place in returning
        ),
        modes=tuple(_modes_back(space, target)),
    )
    if not change:
        raise ConflictError(f"nothing is left of transaction {target.id}", hint="what came of it was deleted since")
    return make(
        space, change, TransactionKind.UNDO, of=target.id, names=target.names, digests=target.digests, absent=absent
    )


def _edit_by_key(target: Transaction, index: ImageIndex) -> tuple[Edit, ImageIndex, list[Identity]]:
    """The edit that takes out the keys that came in, and puts back what left, unless it is there. Raises ConflictError
    where another entry stands in the place of one that is to go, or to come back."""
    keys, absent, returning = set[Key](), list[Identity](), list[RecordedDescriptor]()
    for added in target.added:
        descriptor = added.descriptor
        keys.add(descriptor.key)
        there = index.by_key(*descriptor.key)
        if there is None:
            absent.append(descriptor.identity)
        elif there.image_name != descriptor.image_name:
            told = f"{descriptor.digest} in format {descriptor.format} was stored since, as {there.image_name}"
            raise ConflictError(told, hint="undo or delete that first")
    left = index.without(keys)
    for removed in target.removed:
        descriptor = removed.descriptor
        there = left.by_key(*descriptor.key)
        if there is None:
            returning.append(removed)
        elif there.as_dict() != descriptor.as_dict():
            raise _stored_since(descriptor)
    gaps = target.opening.encode(), target.closing.encode()
    return Edit(into=returning, keys=frozenset(keys), gaps=gaps), left, absent


def _stored_since(descriptor: Descriptor) -> ConflictError:
    told = f"an entry {descriptor.digest} in format {descriptor.format} was stored since"
    return ConflictError(told, hint="delete that entry first, then undo again")


def _edit_by_position(target: Transaction, index: ImageIndex) -> tuple[Edit, ImageIndex, list[Identity]]:
    """The edit that takes out the very descriptors that came in, and puts back those that left."""
    leaving = positions(index, target.added)
    left = index.without_at(leaving)
    going = Counter(index.descriptors[at].raw for at in leaving)
    absent = [one.descriptor.identity for one in target.added if not going[one.raw.encode()]]
    returning = _returning(target, left, going)
    gaps = None if target.opening and not returning else (target.opening.encode(), target.closing.encode())
    return Edit(removals(index, leaving), returning, gaps=gaps), left, absent


def _returning(target: Transaction, left: ImageIndex, leaving: Counter[bytes]) -> list[RecordedDescriptor]:
    """The descriptors that come back, but for what had only moved and was deleted since. Raises ConflictError where
    another stands for the same digest and format."""
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


def _files_back(space: Workspace, target: Transaction) -> Iterable[Place]:
    """The files that come back from the trash. Raises ConflictError where one cannot."""
    incoming = {file.name for file in target.placed}
    for moved in (*target.displaced, *target.discarded):
        kept = space.trash.lstat(moved.trash)
        there = space.root.lstat(moved.name)
        if there is not None and kept is not None and is_half_moved(there, kept):
            continue
        if there is not None and moved.name not in incoming:
            if _same_bytes(space, moved, there, kept) if kept is not None else moved.matches(there):
                continue
            raise ConflictError(f"{moved.name} stands in the place of the file in the trash")
        if kept is None:
            told = f"the trash no longer holds {moved.trash}"
            raise ConflictError(told, hint="import the image again to have its entry back")
        yield Place(moved.name, trash=moved.trash, source=Seen.of(kept))


def _same_bytes(space: Workspace, moved: Moved, there: os.stat_result, kept: os.stat_result) -> bool:
    """Whether what stands in the place is the same small file: a document that another entry brought back."""
    if there.st_size != kept.st_size or not moved.name.endswith(".json"):
        return False
    sha256 = space.root.sha256(moved.name)
    return bool(sha256) and sha256 == space.trash.sha256(moved.trash)


def _files_leaving(
    space: Workspace, target: Transaction, left: ImageIndex | None, returning: set[str]
) -> Iterable[Discard]:
    """The files the transaction brought in that nothing else needs, and those that give way to an older one; what came
    from the trash goes back to its old name in it. Raises ConflictError where such a file is not the one that was
    brought in, or an entry stored since needs it."""
    later: set[str] = set()
    if target.marked and target.placed:
        since = (one for one in space.journal.since(target.order) if one.id != target.id)
        added = (one for newer in since if newer.state is TransactionState.DONE for one in newer.added)
        later = {name for one in added for name in one.descriptor.files.values()}
    for placed in target.placed:
        there = space.root.lstat(placed.name)
        if there is None:
            continue
        is_needed = placed.name in later if target.marked else left is not None and needed(left, placed.name)
        if is_needed and placed.name not in returning:
            continue
        # Not by its inode: the cache may have been copied to another disk since.
        if (there.st_size, there.st_mtime_ns) != (placed.size, placed.modified_ns):
            raise ConflictError(f"{placed.name} was replaced since")
        if is_needed and target.marked:
            raise ConflictError(f"an entry stored since needs {placed.name}", hint="delete that entry first")
        free = placed.trash is not None and space.trash.lstat(placed.trash) is None
        yield Discard(placed.name, Seen.of(there), placed.trash or "" if free else "")


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
    seen = IndexSeen(swap.new_sha256) if swap.new_sha256 else IndexSeen(other=Seen.at(space.root, INDEX_NAME))
    return IndexReplacement(seen, trash=swap.old.trash if swap.old else None)


def taken_back(transactions: Iterable[Transaction]) -> list[list[Transaction]]:
    """The repairs that were undone, each behind its undo and what lies between: an undo, and the undo of that.
    What they brought into the index is missing as it was before; another undo takes entries out on purpose."""
    known, found = {one.id: one for one in transactions}, list[list[Transaction]]()
    for one in known.values():
        chain = [one]
        while chain[-1].kind == TransactionKind.UNDO and (of := known.get(chain[-1].of or "")):
            if of.order >= chain[-1].order:
                break
            chain.append(of)
        if one.state is not TransactionState.UNDONE and len(chain) % 2 == 0 and chain[-1].kind in _MENDS:
            found.append(chain)
    return found


class Overwritten(msgspec.Struct, frozen=True):
    """A transaction of which something no longer stands: descriptors that are in the index again, that are missing
    from it, and that are back where they had been before they were moved."""

    transaction: Transaction
    returned: tuple[Descriptor, ...]
    missing: tuple[Descriptor, ...]
    moved_back: tuple[Descriptor, ...]

    def __bool__(self) -> bool:
        return bool(self.returned or self.missing or self.moved_back)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of these entries, in krata's spelling, each once."""
        entries = (*self.returned, *self.missing, *self.moved_back)
        return tuple(dict.fromkeys(one.image_name for one in entries if one.image_name))


def find_overwritten(directory: Path, index: ImageIndex) -> list[Overwritten]:
    """What the index no longer shows of transactions, newest first; the newest that touched an entry counts."""
    transactions = all_changes(directory)
    if not transactions:
        return []
    state, touched, found = _State(directory, index), set[Identity](), list[Overwritten]()
    mends = {one.id for chain in taken_back(transactions) for one in chain}
    for transaction in transactions:
        if transaction.replaces_index:
            # The index was another one before; what it held says nothing of this one.
            break
        if transaction.state is not TransactionState.UNDONE:
            found.append(state.compare(transaction, touched))
        if transaction.id not in mends:
            touched.update(one.descriptor.identity for one in (*transaction.removed, *transaction.added))
            touched.update(transaction.absent)
    return [one for one in found if one]


def all_changes(directory: Path) -> list[Transaction]:
    """All transactions that changed the cache, newest first. Raises StorageError."""
    with storage_errors("read the journal"), open_journal(directory) as journal:
        return journal.since((0, ""))


class ExpectedEntries(msgspec.Struct, frozen=True):
    """What an index should hold: ``descriptors`` in order, as a backup has them, rolled forward by the transactions
    since. ``removed`` are entries that were taken out on purpose and did not come back, each with the transaction that
    did it; ``noted`` are the newest descriptors of every digest and format that the journal knows."""

    descriptors: tuple[Descriptor, ...] = ()
    removed: Mapping[Identity, Transaction] = {}
    noted: Mapping[Key, Descriptor] = {}


def expect_entries(
    directory: Path, backup: Sequence[Descriptor] = (), since: Iterable[Transaction] = ()
) -> ExpectedEntries:
    """What the journal makes of a backup and the transactions ``since``; without one, of all. Raises StorageError."""
    journal, noted, removed = all_changes(directory)[::-1], dict[Key, Descriptor](), dict[Identity, Transaction]()
    mends = {one.id for chain in taken_back(journal) for one in chain}
    # What was there before an index that was replaced whole is no source of today's order.
    last = max((at for at, one in enumerate(journal) if one.replaces_index), default=-1)
    descriptors = list(backup)
    for transaction in sorted(since, key=lambda one: one.order) if backup else journal[last + 1 :]:
        if transaction.id not in mends:
            descriptors = _rolled_forward(descriptors, transaction)
    for transaction in journal:
        if transaction.id not in mends:
            removed.update(dict.fromkeys(transaction.taken_out, transaction))
            for one in transaction.added:
                removed.pop(one.descriptor.identity, None)
        noted.update((d.key, d) for one in (*transaction.removed, *transaction.added) if (d := one.descriptor))
    for descriptor in descriptors if removed else ():
        removed.pop(descriptor.identity, None)
    return ExpectedEntries(tuple(descriptors), removed, noted)


def _rolled_forward(descriptors: list[Descriptor], transaction: Transaction) -> list[Descriptor]:
    """The descriptors with what a transaction made of them; where they show it already, that comes to the same."""
    leaving = Counter(one.descriptor.identity for one in transaction.removed)
    keys = set() if transaction.marked else {one.descriptor.key for one in (*transaction.removed, *transaction.added)}
    left: list[Descriptor] = []
    for descriptor in descriptors:
        identity = descriptor.identity
        if descriptor.key in keys or leaving[identity] > 0:
            leaving[identity] -= 1
        else:
            left.append(descriptor)
    there = {descriptor.identity for descriptor in left}
    for one in sorted(transaction.added, key=lambda one: one.position):
        if one.descriptor.identity not in there:
            left.insert(one.position, one.descriptor)
    return left


class _State:
    """How the entries stand in an index."""

    def __init__(self, directory: Path, index: ImageIndex) -> None:
        self._directory, self._index = directory, index
        self._keys = Counter(zip(index.digests, index.formats, strict=True))
        self._last = {identity: at for at, identity in enumerate(index.identities())}
        self._neighbours: dict[str, int] = {}

    def compare(self, transaction: Transaction, touched: Collection[Identity]) -> Overwritten:
        """What no longer stands of a transaction, apart from entries that a later one ``touched``."""
        out = [(one, d) for one in transaction.removed if (d := one.descriptor).identity not in touched]
        into = [d for one in transaction.added if (d := one.descriptor).identity not in touched]
        leaving, coming = {d.identity for _, d in out}, {d.identity for d in into}
        returned = [d for one, d in out if d.identity not in coming and self._returned(transaction, one, d)]
        keys = Counter(d.key for d in returned)
        missing = [d for d in into if d.identity not in leaving and self._keys[d.key] <= keys[d.key]]
        moved = [d for one, d in out if d.identity in coming and self._moved_back(transaction, one, d)]
        return Overwritten(transaction, tuple(returned), tuple(missing), tuple(moved))

    def _returned(self, transaction: Transaction, one: RecordedDescriptor, descriptor: Descriptor) -> bool:
        if descriptor.identity not in self._last or self._keys[descriptor.key] <= one.twins:
            return False
        return not self._stored_again(transaction, one, descriptor)

    def _stored_again(self, transaction: Transaction, one: RecordedDescriptor | None, descriptor: Descriptor) -> bool:
        """Whether an entry's packed file came into its place after the transaction: the image was pulled anew."""
        name = descriptor.packed_file
        there = regular_file(self._directory / name) if name else None
        if there is None:
            return False
        ours = next((placed for placed in transaction.placed if placed.name == name), None)
        if ours is not None:
            return (there.st_size, there.st_mtime_ns) != (ours.size, ours.modified_ns)
        if any(moved.name == name for moved in transaction.trashed):
            return True
        if one is not None and one.packed_ns:
            return (there.st_size, there.st_mtime_ns) != (one.packed_size, one.packed_ns)
        return there.st_mtime > transaction.started

    def _moved_back(self, transaction: Transaction, one: RecordedDescriptor, descriptor: Descriptor) -> bool:
        """Whether an entry that was moved stands before its old neighbour again, and neither was stored since."""
        if transaction.kind in (TransactionKind.STORE, TransactionKind.IMPORT) or one.before is None:
            return False
        neighbour = self._neighbour(one.before)
        if neighbour is None:
            return False
        at, other = self._last.get(descriptor.identity), self._last.get(neighbour.identity)
        if at is None or other is None or at >= other:
            return False
        return not self._stored_again(transaction, None, neighbour)

    def _neighbour(self, known: str) -> Descriptor | None:
        """The entry that a record knows as a neighbour: by its identity, or by its bytes as version 1."""
        if not known.startswith("#"):
            return Descriptor.parse(known.encode())
        if not self._neighbours:
            self._neighbours = {records.neighbour_of(identity): at for identity, at in self._last.items()}
        at = self._neighbours.get(known)
        return None if at is None else self._index.descriptors[at]


def edit_again(directory: Path, index: ImageIndex, lost: Overwritten) -> IndexEdit:
    """The edit that makes an index what it was after a transaction. Raises ConflictError where files of it are gone."""
    for descriptor in lost.missing:
        for name in descriptor.files.values():
            if regular_file(directory / name) is None:
                what = descriptor.image_name or descriptor.digest
                told = f"{what} cannot come back: {name} is not there any more"
                raise ConflictError(told, hint="import the image again")
    # Of equal ones the first, which is what an older order has more of.
    going, leaving = Counter(one.identity for one in (*lost.returned, *lost.moved_back)), list[int]()
    for at, identity in enumerate(index.identities()):
        if going[identity] > 0:
            going[identity] -= 1
            leaving.append(at)
    remove = tuple(Remove(at, index.descriptors[at].raw) for at in leaving)
    moved = {descriptor.identity for descriptor in lost.moved_back}
    moving = [one for at in leaving if (one := index.descriptors[at]).identity in moved]
    # What stood at the end comes to the end.
    added = lost.transaction.added
    places = {one.descriptor.identity: None if one.before is None else one.position for one in added}
    return IndexEdit(remove, tuple(Insert(one.raw, places.get(one.identity)) for one in (*moving, *lost.missing)))
