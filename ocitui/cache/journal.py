"""The journal: what each transaction takes out of the index and the directory, and puts in.

A record is durable before anything moves. Its state is the ending of its file's name, so that a change of state is a
rename, which works on a full disk too.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from .descriptors import Descriptor
from .disk import Disk, Folder
from .errors import ConflictError, NoSuchTransactionError
from .lock import whoami


class TransactionKind(StrEnum):
    STORE = "store"
    DELETE = "delete"
    UNDO = "undo"
    RESET = "reset"


class TransactionState(StrEnum):
    """PENDING: begun, and to be finished or rolled back by the next writer. DONE. UNDONE: reversed by a later one.
    VOID: rolled back, as if it had never been."""

    PENDING = "pending"
    DONE = "done"
    UNDONE = "undone"
    VOID = "void"


class Removed(msgspec.Struct, frozen=True):
    """A descriptor taken out of the index: its bytes, its position, the next one that stayed, if any, and the comma
    and white space that went with it."""

    raw: str
    position: int
    before: str | None = None
    gap: str | None = None

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor.parse(self.raw.encode())


class Moved(msgspec.Struct, frozen=True):
    """A file of the cache that goes to the trash, and its size in bytes and mtime then."""

    name: str
    trash: str
    size: int
    modified_ns: int


class Placed(msgspec.Struct, frozen=True):
    """A file that comes into the cache: from the trash or the staging folder by name, or from a path outside; with
    both a path and a staging name, through that folder. Size in bytes, mtime and inode are what it is known by."""

    name: str
    size: int
    modified_ns: int
    inode: int
    trash: str | None = None
    staging: str | None = None
    path: str | None = None


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the cache. ``started`` is in seconds since the epoch; ``of`` is what an undo reverses.

    The steps are made in the order of the fields: ``displaced`` files give way to the trash, ``placed`` ones come in,
    then the index loses ``removed`` and gains ``added``, then ``discarded`` files go to the trash. ``note`` is what
    there is to know of how it was done; the call that did it gives it, the journal does not keep it.
    """

    id: str
    kind: TransactionKind
    started: float
    by: str
    of: str | None = None
    displaced: list[Moved] = []
    placed: list[Placed] = []
    removed: list[Removed] = []
    added: list[Removed] = []
    discarded: list[Moved] = []
    opening: str = ""
    closing: str = ""
    state: TransactionState = TransactionState.PENDING
    note: str = ""

    @property
    def trashed(self) -> list[Moved]:
        return [*self.displaced, *self.discarded]

    @property
    def bytes_trashed(self) -> int:
        return sum(moved.size for moved in self.trashed)


def new_id() -> str:
    """An id that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}"


def begin(kind: TransactionKind, *, of: str | None = None) -> Transaction:
    """An empty transaction of this program, now."""
    return Transaction(id=new_id(), kind=kind, started=datetime.now(UTC).timestamp(), by=whoami(), of=of)


class Journal:
    """The folder of records."""

    def __init__(self, disk: Disk, folder: Folder) -> None:
        self._disk = disk
        self._folder = folder

    def write(self, transaction: Transaction) -> None:
        """Make a pending transaction's record durable."""
        data = msgspec.json.format(msgspec.json.encode(transaction), indent=1)
        draft = f"{transaction.id}.draft"
        self._disk.write_new(self._folder, draft, data)
        self._disk.rename(self._folder, draft, self._folder, _name(transaction.id, TransactionState.PENDING))
        self._disk.sync_folder(self._folder)

    def mark(self, transaction: Transaction, state: TransactionState) -> Transaction:
        """Change a transaction's state. That is durable with the next record; were it lost before, the transaction
        would be finished or rolled back once more, which changes nothing."""
        if transaction.state is not state:
            old, new = _name(transaction.id, transaction.state), _name(transaction.id, state)
            self._disk.replace(self._folder, old, self._folder, new)
        return msgspec.structs.replace(transaction, state=state)

    def read(self, transaction_id: str) -> Transaction:
        """Raises NoSuchTransactionError."""
        for name in self._folder.names():
            parsed = _parse_name(name)
            if parsed is not None and parsed[0] == transaction_id:
                return self._read(*parsed)
        raise NoSuchTransactionError(f"there is no transaction {transaction_id}")

    def list(self, states: Iterable[TransactionState] = tuple(TransactionState)) -> list[Transaction]:
        """The transactions in these states, newest first; a record that is damaged is left out."""
        wanted = set(states)
        found = [parsed for name in self._folder.names() if (parsed := _parse_name(name)) and parsed[1] in wanted]
        records: list[Transaction] = []
        for transaction_id, state in sorted(found, reverse=True):
            with suppress(ConflictError):
                records.append(self._read(transaction_id, state))
        return records

    def has_pending(self) -> bool:
        """Whether there is the record of a pending transaction, readable or not."""
        return any(name.endswith(_name("", TransactionState.PENDING)) for name in self._folder.names())

    def drop_drafts(self) -> None:
        """Remove records that were never finished: nothing had moved for them yet."""
        for name in self._folder.names():
            if name.endswith(".draft"):
                self._disk.unlink(self._folder, name)

    def _read(self, transaction_id: str, state: TransactionState) -> Transaction:
        try:
            record = msgspec.json.decode(self._folder.read(_name(transaction_id, state)), type=Transaction)
        except (ValueError, OSError) as error:
            raise ConflictError(
                f"the record of transaction {transaction_id} cannot be read: {error}",
                hint="its files are in the trash folder, named after it; nothing was lost",
            ) from error
        return msgspec.structs.replace(record, state=state)


def _name(transaction_id: str, state: TransactionState) -> str:
    return f"{transaction_id}.{state}.json"


def _parse_name(name: str) -> tuple[str, TransactionState] | None:
    parts = name.split(".")
    if (
        len(parts) != 3
        or not parts[0]
        or "/" in name
        or "\0" in name
        or parts[2] != "json"
        or parts[1] not in TransactionState.__members__.values()
    ):
        return None
    return parts[0], TransactionState(parts[1])
