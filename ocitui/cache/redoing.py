"""Edits made here that another program's rewrite of the index undid: noticed by comparing it with the journal.

A daemon holds its index in memory and writes it whole at each store, so what was changed on disk meanwhile is gone. The
newest transaction that touched an entry says how it should stand; the order of entries counts where one was moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from .changes import IndexEdit, Insert, Mend, Remove
from .changing import make_mend
from .deleting import delete
from .descriptors import Descriptor
from .disk import storage_errors
from .errors import ConflictError
from .files import file_names, known_format, packed_name, regular_file, usable_digest
from .index import ImageIndex, Key
from .index_file import IndexFile
from .records import Removed, Transaction, TransactionKind, TransactionState
from .undoing import require_done
from .workspace import Workspace, open_journal

_LOOKED_AT = 20
Identity = tuple[str, str | None, str | None]


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


def find_overwritten(directory: Path, index: ImageIndex) -> list[Overwritten]:
    """What the index no longer shows of the newest transactions, newest first. Raises StorageError."""
    with storage_errors("read the journal"), open_journal(directory) as journal:
        newest = journal.newest(_LOOKED_AT) if journal else []
    state, touched, found = _State(directory, index), set[Identity](), list[Overwritten]()
    for transaction in newest:
        if transaction.swap is not None or transaction.kind is TransactionKind.RESET:
            # The index was another one before; what it held says nothing of this one.
            break
        if transaction.state is not TransactionState.UNDONE:
            found.append(state.compare(transaction, touched))
        touched.update(_identity(one) for one in (*transaction.removed, *transaction.added))
    return [one for one in found if one]


def redo(space: Workspace, base: IndexFile, target: Transaction) -> Transaction:
    """Do again what no longer stands of a transaction's edit of the index.

    Raises ConflictError where all of it stands, or the files of an entry are not there any more.
    """
    if target.state is not TransactionState.EMPTIED:
        require_done(target)
    if target.swap is not None or target.kind is TransactionKind.RESET:
        raise ConflictError(f"transaction {target.id} cannot be done again: it replaced the whole index")
    index = base.contents
    lost = _State(space.directory, index).compare(target, ())
    if not lost:
        raise ConflictError(f"transaction {target.id} still stands", hint="there is nothing to do again")
    if target.kind is TransactionKind.DELETE:
        return delete(space, base, list(dict.fromkeys(one.key for one in lost.returned)), None)
    _require_files(space.directory, lost.missing)
    return make_mend(space, Mend(index=_edit(index, target, lost)), index)


class _State:
    """How the entries stand in an index."""

    def __init__(self, directory: Path, index: ImageIndex) -> None:
        self._directory = directory
        identities = [*zip(index.digests, index.formats, index.names, strict=True)]
        self._identities = Counter(identities)
        self._keys = Counter(zip(index.digests, index.formats, strict=True))
        self._last = {identity: at for at, identity in enumerate(identities)}

    def compare(self, transaction: Transaction, touched: Collection[Identity]) -> Overwritten:
        """What no longer stands of a transaction, apart from entries that a later one ``touched``."""
        out = [one for one in transaction.removed if _identity(one) not in touched]
        into = [one for one in transaction.added if _identity(one) not in touched]
        leaving, coming = {_identity(one) for one in out}, {_identity(one) for one in into}
        returned = [one for one in out if _identity(one) not in coming and self._returned(transaction, one)]
        keys = Counter(_key(one) for one in returned)
        return Overwritten(
            transaction,
            tuple(one.descriptor for one in returned),
            tuple(
                one.descriptor
                for one in into
                if _identity(one) not in leaving and self._keys[_key(one)] <= keys[_key(one)]
            ),
            tuple(one.descriptor for one in out if _identity(one) in coming and self._moved_back(transaction, one)),
        )

    def _returned(self, transaction: Transaction, one: Removed) -> bool:
        if not self._identities[_identity(one)] or self._keys[_key(one)] <= one.twins:
            return False
        return not self._stored_again(transaction, one.descriptor)

    def _stored_again(self, transaction: Transaction, descriptor: Descriptor) -> bool:
        """Whether an entry's packed file came into its place after the transaction: the image was pulled anew."""
        format_ = known_format(descriptor.format)
        if format_ is None or not usable_digest(descriptor.digest):
            return False
        name = packed_name(descriptor.digest, format_)
        there = regular_file(self._directory / name)
        if there is None:
            return False
        ours = next((placed for placed in transaction.placed if placed.name == name), None)
        if ours is not None:
            return (there.st_size, there.st_mtime_ns) != (ours.size, ours.modified_ns)
        return there.st_mtime > transaction.started or any(moved.name == name for moved in transaction.trashed)

    def _moved_back(self, transaction: Transaction, one: Removed) -> bool:
        """Whether an entry that was moved stands before its old neighbour again, and neither was stored since."""
        if transaction.kind is TransactionKind.STORE or one.before is None:
            return False
        neighbour = Descriptor.parse(one.before.encode())
        at, other = self._last.get(_identity(one)), self._last.get(_identity_of(neighbour))
        return at is not None and other is not None and at < other and not self._stored_again(transaction, neighbour)


def _edit(index: ImageIndex, target: Transaction, lost: Overwritten) -> IndexEdit:
    """The edit that makes an index what the transaction had made of it."""
    leaving = _positions(index, (*lost.returned, *lost.moved_back))
    moved = {_identity_of(descriptor) for descriptor in lost.moved_back}
    again = [index.descriptors[at].raw for at in leaving if _identity_of(index.descriptors[at]) in moved]
    wanted = {_identity(one): one for one in target.added}
    inserts = [Insert(raw, _position(wanted.get(_identity_of(Descriptor.parse(raw))))) for raw in again]
    inserts += [Insert(one.raw, _position(wanted.get(_identity_of(one)))) for one in lost.missing]
    return IndexEdit(tuple(Remove(at, index.descriptors[at].raw) for at in leaving), tuple(inserts))


def _position(one: Removed | None) -> int | None:
    """Where an entry is to be put: at the end where it stood there."""
    return None if one is None or one.before is None else one.position


def _positions(index: ImageIndex, descriptors: Iterable[Descriptor]) -> list[int]:
    """Where these entries stand; of equal ones the first, which is what an older order has more of."""
    wanted = Counter(_identity_of(descriptor) for descriptor in descriptors)
    found: list[int] = []
    for at, identity in enumerate(zip(index.digests, index.formats, index.names, strict=True)):
        if wanted[identity] > 0:
            wanted[identity] -= 1
            found.append(at)
    return found


def _require_files(directory: Path, descriptors: Iterable[Descriptor]) -> None:
    for descriptor in descriptors:
        format_ = known_format(descriptor.format)
        if format_ is None or not usable_digest(descriptor.digest):
            continue
        for name in file_names(descriptor.digest, format_).values():
            if regular_file(directory / name) is None:
                raise ConflictError(
                    f"{descriptor.image_name or descriptor.digest} cannot come back: {name} is not there any more",
                    hint="import the image again",
                )


def _identity(one: Removed) -> Identity:
    return _identity_of(one.descriptor)


def _identity_of(descriptor: Descriptor) -> Identity:
    return descriptor.digest, descriptor.format, descriptor.image_name


def _key(one: Removed) -> Key:
    return one.descriptor.key
