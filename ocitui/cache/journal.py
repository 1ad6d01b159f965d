"""The journal: the records of what each transaction takes out of the index and the directory, and puts in.

A record is durable before anything moves. Its state is the ending of its file's name, so that a change of state is a
rename, which works on a full disk too. So is how far a pending one came, where the index cannot tell.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from .disk import Disk, Folder
from .errors import ConflictError, NoSuchTransactionError
from .lock import whoami
from .records import Transaction, TransactionKind, TransactionState

PUBLISHING = "publishing-"
"""The stage of a marked transaction whose index is written and about to be published; the draft's inode follows."""
PUBLISHED = "published"
"""The stage of a marked transaction that is to be finished, whatever the index says."""

# Built here, before there are threads: msgspec crashes when two of them decode a type for the first time together.
decode_transaction = msgspec.json.Decoder(Transaction).decode

_CHANGED_NOTHING = (TransactionState.PENDING, TransactionState.VOID)


class RecordName(NamedTuple):
    """What the name of a record's file says."""

    id: str
    name: str
    state: TransactionState
    stage: str = ""


@dataclass(frozen=True, slots=True)
class DamagedRecord:
    """A record that cannot be read: the transaction's id and state, the file in the journal, and the reason."""

    id: str
    name: str
    state: TransactionState
    reason: str


def new_id() -> str:
    """An id that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}"


def begin(kind: TransactionKind, *, of: str | None = None) -> Transaction:
    """An empty transaction of this program, now."""
    return Transaction(id=new_id(), kind=kind, started=datetime.now(UTC).timestamp(), by=whoami(), of=of)


# `Journal.list` hides the builtin from annotations inside the class.
Transactions = list[Transaction]
DamagedRecords = list[DamagedRecord]
RecordNames = list[RecordName]


class Journal:
    """The folder of records."""

    def __init__(self, disk: Disk, folder: Folder) -> None:
        self._disk = disk
        self._folder = folder

    def write(self, transaction: Transaction) -> None:
        """Make a pending transaction's record durable."""
        draft = f"{transaction.id}.draft"
        self._disk.write_new(self._folder, draft, _encoded(transaction))
        self._disk.rename(self._folder, draft, self._folder, _name(transaction.id, TransactionState.PENDING))
        self._disk.sync_folder(self._folder)

    def mark(self, transaction: Transaction, state: TransactionState) -> Transaction:
        """Change a transaction's state. That is durable with the next record; were it lost before, the transaction
        would be finished or rolled back once more, which changes nothing."""
        if transaction.state is not state:
            self._rename(transaction, state)
        return msgspec.structs.replace(transaction, state=state, stage="")

    def mark_done(self, transaction: Transaction) -> Transaction:
        """Change a transaction's state to done, and that of the one it reverses to undone."""
        if transaction.of is not None:
            # What it reverses may be gone or unreadable by now; the reversal is made all the same.
            with suppress(NoSuchTransactionError, ConflictError):
                undone = self.read(transaction.of)
                if undone.state is TransactionState.DONE:
                    self.mark(undone, TransactionState.UNDONE)
        return self.mark(transaction, TransactionState.DONE)

    def advance(self, transaction: Transaction, stage: str) -> Transaction:
        """Note how far a pending transaction came; `sync` makes that durable."""
        if transaction.stage != stage:
            self._rename(transaction, stage or transaction.state)
        return msgspec.structs.replace(transaction, stage=stage)

    def sync(self) -> None:
        self._disk.sync_folder(self._folder)

    def keep_note(self, transaction: Transaction) -> None:
        """Keep the note of a transaction that is done, as far as there is room for it."""
        name, draft = _name(transaction.id, transaction.state), f"{transaction.id}.draft"
        with suppress(OSError):
            self._disk.write_new(self._folder, draft, _encoded(transaction))
            self._disk.replace(self._folder, draft, self._folder, name)

    def read(self, transaction_id: str) -> Transaction:
        """Raises NoSuchTransactionError, and ConflictError where the record is damaged."""
        for name in self._folder.names():
            parsed = _parse_name(name)
            if parsed is not None and parsed.id == transaction_id:
                return self._read(parsed)
        raise NoSuchTransactionError(f"there is no transaction {transaction_id}")

    def list(self, states: Iterable[TransactionState] = tuple(TransactionState)) -> Transactions:
        """The transactions in these states, newest first; a record that is damaged is left out."""
        wanted = set(states)
        return self._readable([record for record in self._records() if record.state in wanted])

    def damaged(self) -> DamagedRecords:
        """The records that cannot be read, newest first."""
        damaged: DamagedRecords = []
        for record in self._records():
            try:
                self._read(record)
            except ConflictError as error:
                damaged.append(DamagedRecord(record.id, record.name, record.state, error.message))
        return damaged

    def since(self, moment: str) -> Transactions:
        """The transactions begun at a moment (the beginning of an id) or later that changed the cache, newest first."""
        return self._readable([one for one in self._changes() if one.id >= moment])

    def newest(self, count: int) -> Transactions:
        """The newest transactions that changed the cache, newest first."""
        return self._readable(self._changes()[:count])

    def _changes(self) -> RecordNames:
        return [record for record in self._records() if record.state not in _CHANGED_NOTHING]

    def _readable(self, wanted: RecordNames) -> Transactions:
        records: Transactions = []
        for record in wanted:
            with suppress(ConflictError):
                records.append(self._read(record))
        return records

    def has_pending(self) -> bool:
        """Whether there is the record of a pending transaction, readable or not."""
        return any(record.state is TransactionState.PENDING for record in self._records())

    def drop_drafts(self) -> None:
        """Remove records that were never finished: nothing had moved for them yet."""
        for name in self._folder.names():
            if name.endswith(".draft"):
                self._disk.unlink(self._folder, name)

    def _records(self) -> RecordNames:
        found = [parsed for name in self._folder.names() if (parsed := _parse_name(name))]
        return sorted(found, reverse=True)

    def _rename(self, transaction: Transaction, label: str) -> None:
        old = _name(transaction.id, transaction.stage or transaction.state)
        self._disk.replace(self._folder, old, self._folder, _name(transaction.id, label))

    def _read(self, record: RecordName) -> Transaction:
        try:
            found = decode_transaction(self._folder.read(record.name))
        except (ValueError, OSError) as error:
            raise ConflictError(
                f"the record of transaction {record.id} cannot be read: {error}",
                hint="its files are in the trash folder, named after it; nothing was lost",
            ) from error
        return msgspec.structs.replace(found, state=record.state, stage=record.stage)


def _encoded(transaction: Transaction) -> bytes:
    return msgspec.json.format(msgspec.json.encode(transaction), indent=1)


def _name(transaction_id: str, label: str) -> str:
    return f"{transaction_id}.{label}.json"


def _parse_name(name: str) -> RecordName | None:
    parts = name.split(".")
    if len(parts) != 3 or not parts[0] or "\0" in name or parts[2] != "json":
        return None
    transaction_id, label, _ = parts
    if label == PUBLISHED or label.startswith(PUBLISHING):
        return RecordName(transaction_id, name, TransactionState.PENDING, label)
    if label not in TransactionState.__members__.values():
        return None
    return RecordName(transaction_id, name, TransactionState(label))
