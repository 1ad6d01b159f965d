"""The trash: what transactions took out of the cache, listed, brought back singly, and emptied only when asked."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from .changes import Change, Place, Seen
from .disk import Folder, storage_errors
from .errors import ConflictError, NoSuchTransactionError
from .own_folder import open_journal, open_own_folder
from .records import TRANSACTION_ID, Transaction, TransactionKind, TransactionState, is_entry_name, order_of
from .transactions import make
from .undoing import can_be_undone
from .workspace import TRASH_NAME, Workspace

_KINDS = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFDIR: "directory", stat.S_IFIFO: "fifo"}

_REPAIRS = (TransactionKind.REPAIR, TransactionKind.MEND)


class TrashedFile(msgspec.Struct, frozen=True):
    """A file in the trash: ``trash`` is its name there, ``name`` the one it had in the cache, empty where no record
    tells; ``transaction`` is the id it came by, empty where its name tells none, and ``undoable`` whether that can be
    undone. ``kind`` is "file", "link", "directory", "fifo" or "other", ``size`` is in bytes, of a directory with all in
    it; ``when`` is in seconds since the epoch. ``recorded`` is whether a readable record names it, ``mended`` whether a
    repair took it out."""

    trash: str
    name: str
    transaction: str
    kind: str
    size: int
    when: float
    undoable: bool
    recorded: bool
    mended: bool


class EmptiedTrash(msgspec.Struct, frozen=True):
    """What was removed: bytes and files, a directory counted as one."""

    bytes: int
    files: int


def list_trash(directory: Path) -> list[TrashedFile]:
    """Every file in the trash, newest first. Raises StorageError."""
    with storage_errors("list the trash"), open_journal(directory) as journal:
        try:
            with open_own_folder(directory, TRASH_NAME) as trash:
                return trashed_files(trash, journal.transactions())
        except FileNotFoundError:
            return []


def read_trashed(directory: Path, name: str, limit: int) -> bytes:
    """A regular file in the trash, by its name there. Raises StorageError where it cannot be read, or is larger than
    that; ConflictError where something else has the folder's name, or it is another user's."""
    with storage_errors(f"read {name} in the trash"), open_own_folder(directory, TRASH_NAME) as trash:
        # What is in it came out of the cache, and is whose it was there.
        trash.guarded = False
        return trash.read(name, limit)


def trashed_files(trash: Folder, transactions: Iterable[Transaction]) -> list[TrashedFile]:
    """The same in an open folder. Raises OSError."""
    known = {one.id: one for one in transactions}
    names = {moved.trash: (one, moved.name) for one in known.values() for moved in one.trashed}
    found: list[TrashedFile] = []
    for file in trash.names():
        if (there := trash.lstat(file)) is None:
            continue
        transaction, name = names.get(file, (None, ""))
        by = transaction.id if transaction else _id_in(file)
        transaction = transaction or known.get(by)
        found.append(
            TrashedFile(
                trash=file,
                name=name or _name_in(file),
                transaction=by,
                kind=_KINDS.get(stat.S_IFMT(there.st_mode), "other"),
                size=trash.size(file),
                when=transaction.started if transaction else there.st_ctime,
                undoable=transaction is not None and can_be_undone(transaction),
                recorded=bool(name),
                mended=transaction is not None and transaction.kind in _REPAIRS,
            )
        )
    return sorted(found, key=lambda one: (order_of(one.transaction), one.trash), reverse=True)


def restore(space: Workspace, files: Collection[str]) -> Transaction:
    """Bring files back, as `PackerCache.restore` says; ConflictError, too, where no place of one is known."""
    transactions = {one.id: one for one in space.journal.transactions()}
    known = {file.trash: file for file in trashed_files(space.trash, transactions.values())}
    places = tuple(_return(space, known.get(name), name) for name in dict.fromkeys(files))
    told = (known[place.trash or ""] for place in places)
    of = [transactions[one] for one in dict.fromkeys(file.transaction for file in told if file.recorded)]
    names = dict.fromkeys(name for one in of for name in one.image_names)
    digests = dict.fromkeys(digest for one in of for digest in one.image_digests)
    return make(space, Change(place=places), TransactionKind.RESTORE, names=names, digests=digests)


def empty(
    space: Workspace, before: float | None, ids: Collection[str] | None, names: Collection[str] | None
) -> EmptiedTrash:
    """Remove files for good, as `PackerCache.empty_trash` says; ConflictError, too, where a later ocitui's transaction
    is pending: nobody here knows what it needs."""
    for record in space.journal.pending():
        space.journal.load(record)
    transactions = {one.id: one for one in space.journal.transactions()}
    files = trashed_files(space.trash, transactions.values())
    chosen = files_that_go(files, transactions, before, ids)
    if names is not None:
        agreed = set(names)
        chosen = [file for file in chosen if file.trash in agreed]
    for transaction_id in {file.transaction for file in chosen}:
        transaction = transactions.get(transaction_id)
        if transaction is not None and transaction.state is TransactionState.DONE:
            space.journal.mark(transaction, TransactionState.EMPTIED)
    # No record may promise an undo by the time that the first file is gone.
    space.journal.sync()
    for file in chosen:
        space.disk.remove(space.trash, file.trash)
    return EmptiedTrash(sum(file.size for file in chosen), len(chosen))


def files_that_go(
    files: Iterable[TrashedFile],
    transactions: Mapping[str, Transaction],
    before: float | None = None,
    ids: Collection[str] | None = None,
) -> list[TrashedFile]:
    """What `PackerCache.empty_trash` removes: nothing that is pending. Raises NoSuchTransactionError."""
    files = list(files)
    for wanted in ids or ():
        if wanted not in transactions and not any(file.transaction == wanted for file in files):
            raise NoSuchTransactionError(f"there is no transaction {wanted}")
    needed = {name for one in transactions.values() if one.state is TransactionState.PENDING for name in one.needs}

    def goes(file: TrashedFile) -> bool:
        transaction = transactions.get(file.transaction)
        if file.trash in needed or (before is not None and file.when >= before):
            return False
        if transaction is None:
            return bool(ids and file.transaction and file.transaction in ids)
        return transaction.state is not TransactionState.PENDING and (ids is None or transaction.id in ids)

    return [file for file in files if goes(file)]


def _return(space: Workspace, file: TrashedFile | None, name: str) -> Place:
    if file is None:
        raise ConflictError(f"the trash does not hold {name}", hint="ocitui trash lists what it holds")
    if not is_entry_name(file.name):
        raise ConflictError(f"{name} cannot be brought back by itself", hint="undo its transaction")
    if space.root.lstat(file.name) is not None:
        raise ConflictError(f"{file.name} stands in the place of the file in the trash")
    return Place(file.name, trash=name, source=Seen.at(space.trash, name))


def _id_in(file: str) -> str:
    """The transaction that a file's name in the trash begins with."""
    head = file.partition("~")[0].partition(".")[0]
    return head if "~" in file and TRANSACTION_ID.fullmatch(head) else ""


def _name_in(file: str) -> str:
    """The name in the cache that a name in the trash tells, where no record does."""
    parts = file.split("~")
    return parts[1] if len(parts) == 2 and _id_in(file) and "." not in parts[0] else ""
