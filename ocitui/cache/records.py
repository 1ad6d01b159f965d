"""The records of the journal: what a transaction takes out of the index and the directory, and puts in."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from .descriptors import Descriptor
from .errors import CacheError, StorageError


class TransactionKind(StrEnum):
    STORE = "store"
    DELETE = "delete"
    UNDO = "undo"
    RESET = "reset"
    MEND = "mend"


class TransactionState(StrEnum):
    """PENDING: begun, and to be finished or rolled back by the next writer. DONE. UNDONE: reversed by a later one.
    VOID: rolled back, as if it had never been. EMPTIED: done, and its files in the trash removed since, on request."""

    PENDING = "pending"
    DONE = "done"
    UNDONE = "undone"
    VOID = "void"
    EMPTIED = "emptied"


class Removed(msgspec.Struct, frozen=True):
    """A descriptor taken out of the index: its bytes, its position, the next one that stayed, if any, the comma and
    white space that went with it, and how many of the same digest and format stayed."""

    raw: str
    position: int
    before: str | None = None
    gap: str | None = None
    twins: int = 0

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor.parse(self.raw.encode())


class Moved(msgspec.Struct, frozen=True):
    """A file of the cache that goes to the trash, and its size in bytes and mtime then, and its inode where that is
    known (else 0)."""

    name: str
    trash: str
    size: int
    modified_ns: int
    inode: int = 0


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


class Swap(msgspec.Struct, frozen=True):
    """index.json replaced whole: ``old`` goes to the trash, ``new`` comes in; None where it is absent before or after.

    The sha256 are of their bytes, empty for what is no regular file.
    """

    old: Moved | None
    new: Placed | None
    old_sha256: str = ""
    new_sha256: str = ""


class Mode(msgspec.Struct, frozen=True):
    """Permission bits of a name in the cache directory, changed."""

    name: str
    old: int
    new: int


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the cache. ``started`` is in seconds since the epoch; ``of`` is what an undo reverses.

    The steps are made in the order of the fields: ``displaced`` files give way to the trash, ``placed`` ones come in,
    ``modes`` change, then the index loses ``removed`` and gains ``added``, or is replaced (``swap``), then
    ``discarded`` files go to the trash. ``note`` is what there is to know of how it was done.

    ``opening`` and ``closing`` stood inside the index's brackets, and with ``keeps_gaps`` stand there afterwards where
    no old entry stays. ``marked`` is whether the record's own name says how far it came; the index says so of others.
    """

    id: str
    kind: TransactionKind
    started: float
    by: str
    of: str | None = None
    displaced: list[Moved] = []
    placed: list[Placed] = []
    modes: list[Mode] = []
    removed: list[Removed] = []
    added: list[Removed] = []
    swap: Swap | None = None
    discarded: list[Moved] = []
    opening: str = ""
    closing: str = ""
    keeps_gaps: bool = False
    marked: bool = False
    state: TransactionState = TransactionState.PENDING
    stage: str = ""
    note: str = ""

    @property
    def trashed(self) -> list[Moved]:
        index = [self.swap.old] if self.swap and self.swap.old else []
        return [*self.displaced, *index, *self.discarded]

    @property
    def changes_index(self) -> bool:
        return bool(self.removed or self.added or self.swap)

    @property
    def bytes_trashed(self) -> int:
        return sum(moved.size for moved in self.trashed)


def unfinished(transaction: Transaction, error: OSError | CacheError) -> StorageError:
    """What to raise where a step fails when there is no way back any more."""
    reason = error.strerror if isinstance(error, OSError) else error
    done = "the index was changed" if transaction.changes_index else "the first steps were made"
    return StorageError(
        f"{done}, but a step after it failed: {reason}",
        hint=f"transaction {transaction.id} will be finished by the next command that writes",
    )
