"""What the journal says of the index: edits made here that another program's rewrite undid, and what it should hold.

A daemon holds its index in memory and writes it whole at each store, so what was changed on disk meanwhile is gone. The
newest transaction that touched an entry says how it should stand; the order of entries counts where one was moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .changes import Change, IndexEdit, Insert, Remove
from .deleting import deletion
from .descriptors import Descriptor
from .disk import storage_errors
from .entries import names_of, packed_file
from .errors import ConflictError
from .files import regular_file
from .index import ImageIndex, Key
from .own_folder import open_journal
from .records import (
    LARGEST_SEQUENCE,
    Identity,
    RecordedDescriptor,
    Transaction,
    TransactionKind,
    TransactionState,
    identity_of,
    neighbour_of,
)
from .transactions import About, make
from .undoing import require_done
from .workspace import Workspace


@dataclass(frozen=True, slots=True)
class Overwritten:
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


def find_overwritten(directory: Path, index: ImageIndex, since: float | None = None) -> list[Overwritten]:
    """What the index no longer shows of the transactions begun ``since``, in seconds since the epoch, or of all.

    Newest first; an entry counts for the newest that touched it alone. Raises StorageError.
    """
    transactions = _changes(directory)
    if not transactions:
        return []
    begun = [one.order for one in transactions if since is None or one.started >= since]
    # Whatever the clock said later on: what has a greater number came later.
    first = min(begun, default=(LARGEST_SEQUENCE + 1, ""))
    state, touched, found = _State(directory, index), set[Identity](), list[Overwritten]()
    for transaction in transactions:
        if transaction.replaces_index or transaction.order < first:
            # The index was another one before; what it held says nothing of this one.
            break
        if transaction.state is not TransactionState.UNDONE:
            found.append(state.compare(transaction, touched))
        touched.update(identity_of(one.descriptor) for one in (*transaction.removed, *transaction.added))
        touched.update(transaction.absent)
    return [one for one in found if one]


def _changes(directory: Path) -> list[Transaction]:
    """All transactions that changed the cache, newest first. Raises StorageError."""
    with storage_errors("read the journal"), open_journal(directory) as journal:
        return journal.since((0, "")) if journal is not None else []


@dataclass(frozen=True, slots=True)
class ExpectedEntries:
    """What an index should hold: ``descriptors`` in order, as a backup has them, rolled forward by the transactions
    since. ``removed`` are entries that were taken out on purpose and did not come back, each with the transaction that
    did it; ``noted`` are the newest descriptors of every digest and format that the journal knows."""

    descriptors: tuple[Descriptor, ...] = ()
    removed: Mapping[Identity, Transaction] = field(default_factory=dict)
    noted: Mapping[Key, Descriptor] = field(default_factory=dict)


def expect_entries(
    directory: Path, backup: Sequence[Descriptor] = (), since: Iterable[Transaction] = ()
) -> ExpectedEntries:
    """What the journal makes of a backup and the transactions ``since``; of the whole journal where there is none.

    Raises StorageError.
    """
    journal, noted, removed = _changes(directory)[::-1], dict[Key, Descriptor](), dict[Identity, Transaction]()
    # What was there before an index that was replaced whole is no source of today's order.
    last = max((at for at, one in enumerate(journal) if one.replaces_index), default=-1)
    descriptors = list(backup)
    for transaction in sorted(since, key=lambda one: one.order) if backup else journal[last + 1 :]:
        descriptors = _rolled_forward(descriptors, transaction)
    for transaction in journal:
        removed.update(dict.fromkeys(transaction.taken_out, transaction))
        for one in transaction.added:
            removed.pop(identity_of(one.descriptor), None)
        noted.update((d.key, d) for one in (*transaction.removed, *transaction.added) if (d := one.descriptor))
    for descriptor in descriptors if removed else ():
        removed.pop(identity_of(descriptor), None)
    return ExpectedEntries(tuple(descriptors), removed, noted)


def _rolled_forward(descriptors: list[Descriptor], transaction: Transaction) -> list[Descriptor]:
    """The descriptors with what a transaction made of them; where they show it already, that comes to the same."""
    leaving = Counter(identity_of(one.descriptor) for one in transaction.removed)
    keys = set() if transaction.marked else {one.descriptor.key for one in (*transaction.removed, *transaction.added)}
    left: list[Descriptor] = []
    for descriptor in descriptors:
        identity = identity_of(descriptor)
        if descriptor.key in keys or leaving[identity] > 0:
            leaving[identity] -= 1
        else:
            left.append(descriptor)
    there = {identity_of(descriptor) for descriptor in left}
    for one in sorted(transaction.added, key=lambda one: one.position):
        if identity_of(one.descriptor) not in there:
            left.insert(one.position, one.descriptor)
    return left


def redo(space: Workspace, target: Transaction) -> Transaction:
    """Do again what no longer stands of a transaction's edit of the index.

    Raises ConflictError where all of it stands, or the files of an entry are not there any more.
    """
    if target.state is not TransactionState.EMPTIED:
        require_done(target)
    if target.replaces_index:
        raise ConflictError(f"transaction {target.id} cannot be done again: it replaced the whole index")
    index = space.read_index().contents
    lost = _State(space.directory, index).compare(target, ())
    if not lost:
        raise ConflictError(f"transaction {target.id} still stands", hint="there is nothing to do again")
    if target.kind == TransactionKind.DELETE:
        change = deletion(space.root, index, list(dict.fromkeys(one.key for one in lost.returned)))
    else:
        change = Change(edit_again(space.directory, index, lost))
    return make(space, change, About(TransactionKind.REDO, target.id))


class _State:
    """How the entries stand in an index."""

    def __init__(self, directory: Path, index: ImageIndex) -> None:
        self._directory = directory
        identities = [*zip(index.digests, index.formats, index.names, strict=True)]
        self._identities = Counter(identities)
        self._in_order = identities
        self._keys = Counter(zip(index.digests, index.formats, strict=True))
        self._last = {identity: at for at, identity in enumerate(identities)}
        self._index = index
        self._neighbours: dict[str, int] = {}

    def compare(self, transaction: Transaction, touched: Collection[Identity]) -> Overwritten:
        """What no longer stands of a transaction, apart from entries that a later one ``touched``."""
        out = [(one, d) for one in transaction.removed if identity_of(d := one.descriptor) not in touched]
        into = [d for one in transaction.added if identity_of(d := one.descriptor) not in touched]
        leaving, coming = {identity_of(d) for _, d in out}, {identity_of(d) for d in into}
        returned = [d for one, d in out if identity_of(d) not in coming and self._returned(transaction, one, d)]
        keys = Counter(d.key for d in returned)
        missing = [d for d in into if identity_of(d) not in leaving and self._keys[d.key] <= keys[d.key]]
        moved = [d for one, d in out if identity_of(d) in coming and self._moved_back(transaction, one, d)]
        return Overwritten(transaction, tuple(returned), tuple(missing), tuple(moved))

    def _returned(self, transaction: Transaction, one: RecordedDescriptor, descriptor: Descriptor) -> bool:
        if not self._identities[identity_of(descriptor)] or self._keys[descriptor.key] <= one.twins:
            return False
        return not self._stored_again(transaction, one, descriptor)

    def _stored_again(self, transaction: Transaction, one: RecordedDescriptor | None, descriptor: Descriptor) -> bool:
        """Whether an entry's packed file came into its place after the transaction: the image was pulled anew."""
        name = packed_file(descriptor)
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
        at, other = self._last.get(identity_of(descriptor)), self._last.get(identity_of(neighbour))
        if at is None or other is None or at >= other:
            return False
        return not self._stored_again(transaction, None, neighbour)

    def _neighbour(self, known: str) -> Descriptor | None:
        """The entry that a record knows as a neighbour: by its identity, or by its bytes as version 1."""
        if not known.startswith("#"):
            return Descriptor.parse(known.encode())
        if not self._neighbours:
            self._neighbours = {neighbour_of(identity): at for at, identity in enumerate(self._in_order)}
        at = self._neighbours.get(known)
        return None if at is None else self._index.descriptors[at]


def edit_again(directory: Path, index: ImageIndex, lost: Overwritten) -> IndexEdit:
    """The edit that makes an index what a transaction had made of it.

    Raises ConflictError where the files of an entry that is to come back are not there any more.
    """
    _require_files(directory, lost.missing)
    target = lost.transaction
    leaving = _positions(index, (*lost.returned, *lost.moved_back))
    moved = {identity_of(descriptor) for descriptor in lost.moved_back}
    again = [index.descriptors[at].raw for at in leaving if identity_of(index.descriptors[at]) in moved]
    wanted = {identity_of(one.descriptor): one for one in target.added}
    inserts = [Insert(raw, _position(wanted.get(identity_of(Descriptor.parse(raw))))) for raw in again]
    inserts += [Insert(one.raw, _position(wanted.get(identity_of(one)))) for one in lost.missing]
    return IndexEdit(tuple(Remove(at, index.descriptors[at].raw) for at in leaving), tuple(inserts))


def _position(one: RecordedDescriptor | None) -> int | None:
    """Where an entry is to be put: at the end where it stood there."""
    return None if one is None or one.before is None else one.position


def _positions(index: ImageIndex, descriptors: Iterable[Descriptor]) -> list[int]:
    """Where these entries stand; of equal ones the first, which is what an older order has more of."""
    wanted = Counter(identity_of(descriptor) for descriptor in descriptors)
    found: list[int] = []
    for at, identity in enumerate(zip(index.digests, index.formats, index.names, strict=True)):
        if wanted[identity] > 0:
            wanted[identity] -= 1
            found.append(at)
    return found


def _require_files(directory: Path, descriptors: Iterable[Descriptor]) -> None:
    for descriptor in descriptors:
        for name in names_of(descriptor).values():
            if regular_file(directory / name) is None:
                raise ConflictError(
                    f"{descriptor.image_name or descriptor.digest} cannot come back: {name} is not there any more",
                    hint="import the image again",
                )
