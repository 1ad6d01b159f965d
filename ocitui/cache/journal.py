"""The journal: the records of what each transaction takes out of the index and the directory, and puts in.

A record is durable before anything moves. Its state is the ending of its file's name, so that a change of state is a
rename, which works on a full disk too. So is how far a pending one came, where the index cannot tell. Transactions are
told in the order of their numbers, never of a clock.
"""

from __future__ import annotations

import errno
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import NamedTuple

import msgspec

from . import records
from .actor import log_to_host
from .disk import Disk, Folder
from .errors import ConflictError, NoSuchTransactionError
from .records import Order, Transaction, TransactionKind, TransactionState, order_of

JOURNAL_NAME = "journal"
PUBLISHING = "publishing-"
"""The stage of a marked transaction whose index is written and about to be published; the new file's inode follows."""
PUBLISHED = "published"
"""The stage of a marked transaction that is to be finished, whatever the index says."""
MOST_RECORD_BYTES = 1 << 29
"""The largest record that is read: of the first version's, of a deletion of 150,000 entries."""
_DRAFT = ".draft"
_OF_THE_FILE = frozenset(
    (errno.EIO, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EFBIG, errno.EBADMSG, errno.EUCLEAN, errno.ENXIO)
)
_ENDED = (TransactionState.VOID, TransactionState.DONE)
_CHANGED_NOTHING = {TransactionState.PENDING, TransactionState.VOID}


class RecordName(NamedTuple):
    """What the name of a record's file says."""

    order: Order
    name: str
    state: TransactionState
    stage: str = ""

    @property
    def id(self) -> str:
        return self.order[1]

    @property
    def progress(self) -> int:
        """How far the transaction came by this name."""
        if self.state is TransactionState.PENDING:
            return 2 if self.stage == PUBLISHED else 1 if self.stage else 0
        return _ENDED.index(self.state) + 3 if self.state in _ENDED else 5


class RefusedFile(msgspec.Struct, frozen=True):
    """What lies in `.ocitui` and is not acted on: its path in there, and the reason. What a later ocitui may know to
    read, or is another user's, ``stays``; the rest is set aside by the next writer."""

    path: str
    reason: str
    stays: bool = False

    @property
    def note(self) -> str:
        """As an operator is told of it."""
        return f"{f'.ocitui/{self.path}' if self.path else '.ocitui'} is not acted on: {self.reason}"


class Journal:
    """The folder of records; ``names`` are those in it, where that is known: they may be many, and are listed once."""

    def __init__(self, disk: Disk, folder: Folder, names: list[RecordName] | None = None) -> None:
        self._disk, self.folder, self._names = disk, folder, names
        # Drafts, and what records were called before.
        self._left: list[str] = []

    def write(self, transaction: Transaction) -> None:
        """Make a pending transaction's record durable."""
        draft, name = f"{transaction.id}{_DRAFT}", _name(transaction.id, TransactionState.PENDING)
        with self._changing(transaction.id, name):
            self._disk.write_new(self.folder, draft, records.encode_record(transaction))
            self._disk.rename(self.folder, draft, self.folder, name)
        self.sync()

    def mark(self, transaction: Transaction, state: TransactionState) -> Transaction:
        """Change a transaction's state. That is durable with the next record; were it lost before, the transaction
        would be finished or rolled back once more, which changes nothing."""
        if transaction.state is not state:
            self._rename(transaction, state)
        return msgspec.structs.replace(transaction, state=state, stage="")

    def mark_done(self, transaction: Transaction) -> Transaction:
        """Change a transaction's state to done, and that of the one it reverses to undone."""
        if transaction.of is not None and transaction.kind == TransactionKind.UNDO:
            # What it reverses may be gone or unreadable by now; the reversal is made all the same.
            with suppress(NoSuchTransactionError, ConflictError):
                undone = self.read(transaction.of)
                if undone.state is TransactionState.DONE:
                    self.mark(undone, TransactionState.UNDONE)
        done = self.mark(transaction, TransactionState.DONE)
        log_to_host(_told(done))
        return done

    def advance(self, transaction: Transaction, stage: str) -> Transaction:
        """Note how far a pending transaction came; `sync` makes that durable."""
        if transaction.stage != stage:
            self._rename(transaction, stage or transaction.state)
        return msgspec.structs.replace(transaction, stage=stage)

    def sync(self) -> None:
        self._disk.sync_folder(self.folder)

    def keep_note(self, transaction: Transaction) -> None:
        """Keep the note of a transaction that is done, as far as there is room for it."""
        name, draft = _name(transaction.id, transaction.state), f"{transaction.id}{_DRAFT}"
        with suppress(OSError):
            self._disk.write_new(self.folder, draft, records.encode_record(transaction))
            self._disk.replace(self.folder, draft, self.folder, name)

    def read(self, transaction_id: str) -> Transaction:
        """Raises NoSuchTransactionError, and ConflictError where the record may not be acted on."""
        for record in self.names():
            if record.id == transaction_id:
                return self.load(record)
        raise NoSuchTransactionError(f"there is no transaction {transaction_id}")

    def transactions(
        self, states: Iterable[TransactionState] = TransactionState, since: Order = (0, "")
    ) -> list[Transaction]:
        """Transactions in these states, of this place in the order or later, newest first, that may be acted on."""
        wanted, readable = set(states), list[Transaction]()
        for record in self.names():
            if record.state in wanted and record.order >= since:
                with suppress(ConflictError):
                    readable.append(self.load(record))
        return [one for one in readable if one.state in wanted]

    def since(self, moment: Order) -> list[Transaction]:
        """The transactions of this place in the order, or later, that changed the cache; newest first."""
        return self.transactions(set(TransactionState) - _CHANGED_NOTHING, moment)

    def refused(self, largest: int = MOST_RECORD_BYTES) -> list[RefusedFile]:
        """The records that may not be acted on, up to ``largest`` bytes, newest first, then what bears no such name."""
        refused: list[RefusedFile] = []
        for record in self.names():
            found = self.folder.lstat(record.name)
            if found is None or (stat.S_ISREG(found.st_mode) and largest < found.st_size <= MOST_RECORD_BYTES):
                continue
            try:
                self.load(record)
            except ConflictError as error:
                cause = error.__cause__
                stays = isinstance(cause, records.NewerRecordError) or is_passing(cause)
                refused.append(RefusedFile(f"{JOURNAL_NAME}/{record.name}", reason_of(cause), stays))
        strange = [name for name in self.folder.names() if _parse_name(name) is None and not name.endswith(_DRAFT)]
        return refused + [RefusedFile(f"{JOURNAL_NAME}/{name}", "it is no record's name") for name in sorted(strange)]

    def pending(self) -> list[RecordName]:
        """The names of records of pending transactions, readable or not, oldest first."""
        return [record for record in self.names() if record.state is TransactionState.PENDING][::-1]

    def newest(self) -> int:
        """The number of the newest transaction; 0 where none has one."""
        return next((record.order[0] for record in self.names()), 0)

    def drop_drafts(self) -> None:
        """Remove records never finished, for which nothing had moved yet, and old names that a power cut left."""
        self.names()
        for name in self._left:
            self._disk.unlink(self.folder, name)
        self._left = []

    def names(self) -> list[RecordName]:
        """One for each transaction, newest first, as the folder was listed, with what this changed since."""
        if self._names is None:
            found: dict[Order, RecordName] = {}
            self._left = []
            for name in self.folder.names():
                if (record := _parse_name(name)) is not None:
                    other = found.setdefault(record.order, record)
                    # A power cut may have left both names of a rename.
                    if record is other:
                        continue
                    if record.progress > other.progress:
                        found[record.order] = record
                        self._left.append(other.name)
                    elif record.progress < other.progress:
                        self._left.append(record.name)
                elif name.endswith(_DRAFT):
                    self._left.append(name)
            self._names = sorted(found.values(), reverse=True)
        return self._names

    def look_again(self) -> None:
        """List the folder anew: another has changed it."""
        self._names = None

    def _rename(self, transaction: Transaction, label: str) -> None:
        old, new = _name(transaction.id, transaction.stage or transaction.state), _name(transaction.id, label)
        with self._changing(transaction.id, new):
            self._disk.replace(self.folder, old, self.folder, new)

    @contextmanager
    def _changing(self, transaction_id: str, name: str) -> Iterator[None]:
        """Note the name that a record has then; where it fails, the folder is to be listed anew."""
        before, self._names = self._names, None
        yield
        record = _parse_name(name)
        if before is not None and record is not None:
            at = _place(before, record.order)
            same = at < len(before) and before[at].order == record.order
            self._names = [*before[:at], record, *before[at + same :]]

    def load(self, record: RecordName) -> Transaction:
        """The transaction in its state of now. Raises ConflictError, caused by an OSError or ValueError, where its
        record may not be acted on."""
        try:
            record, data = self._read(record)
            found = records.decode_record(data, record.id)
        except (ValueError, OSError) as error:
            told = f"the record of transaction {record.id} is not acted on: {reason_of(error)}"
            hint = "its files are in the trash folder, named after it; nothing was lost"
            raise ConflictError(told, hint=hint) from error
        return msgspec.structs.replace(found, state=record.state, stage=record.stage)

    def _read(self, record: RecordName) -> tuple[RecordName, bytes]:
        """The bytes of a record, under the name that it has where another program has renamed it since the folder was
        listed. Raises OSError."""
        for _ in TransactionState:
            with suppress(FileNotFoundError):
                return record, self.folder.read(record.name, MOST_RECORD_BYTES)
            # Once for all that have another name by now: they are thousands where the trash was emptied.
            if self._named(record.order) in (record, None):
                self.look_again()
            if (now := self._named(record.order)) is None:
                break
            record = now
        return record, self.folder.read(record.name, MOST_RECORD_BYTES)

    def _named(self, order: Order) -> RecordName | None:
        names = self.names()
        at = _place(names, order)
        return names[at] if at < len(names) and names[at].order == order else None


def _place(names: Sequence[RecordName], order: Order) -> int:
    """Where a transaction's name is, or belongs, among those of others, newest first."""
    return bisect_left(names, True, key=lambda one: one.order <= order)


def is_passing(error: BaseException | None) -> bool:
    """Whether an error says nothing of the file that was read: one more try may have another end."""
    return isinstance(error, OSError) and error.errno not in _OF_THE_FILE


def reason_of(error: BaseException | None) -> str:
    """Why something cannot be read, in words."""
    return (error.strerror if isinstance(error, OSError) else str(error)) or "it cannot be read"


def _told(done: Transaction) -> str:
    """A transaction as one line for the host's log."""
    of = f"of {done.of}" if done.of else ""
    words = [done.kind, done.id, of, done.about, records.some_of(done.image_digests)]
    return f"{' '.join(filter(None, words))}, by {done.by}"


def _name(transaction_id: str, label: str) -> str:
    return f"{transaction_id}.{label}.json"


@lru_cache(1 << 15)
def _parse_name(name: str) -> RecordName | None:
    parts = name.split(".")
    if len(parts) != 3 or parts[2] != "json" or not records.TRANSACTION_ID.fullmatch(parts[0]):
        return None
    transaction_id, label, _ = parts
    if label == PUBLISHED or (label.startswith(PUBLISHING) and label.removeprefix(PUBLISHING).isdecimal()):
        return RecordName(order_of(transaction_id), name, TransactionState.PENDING, label)
    if label not in TransactionState.__members__.values():
        return None
    return RecordName(order_of(transaction_id), name, TransactionState(label))
