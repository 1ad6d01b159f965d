"""The records of the journal: what a transaction takes out of the index and the directory, and puts in.

A record is input: it may have come from another host or another hand. `decode_record` gives one that may be acted on:
its names are of files directly in their directory, its numbers in range, its texts such as an index may hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated

import msgspec

from .descriptors import Descriptor
from .errors import CacheError, StorageError
from .files import INDEX_NAME, OWN_NAME, usable_name

RECORD_VERSION = 2
"""2 since transactions have a number, and neighbours in the index are known by a hash; those without one are of 1."""
Order = tuple[int, str]
"""Sorts transactions: by their number, those of the first version, which have none, before all others by their id."""
Identity = tuple[str, str | None, str | None]
"""What tells an entry from others: digest, format and name."""
LARGEST_SEQUENCE = 99_999_999
"""The last number there is; a name with a greater one is none of ours, so that no file can use the numbers up."""
TRANSACTION_ID = re.compile(r"(?:(?P<sequence>\d{6,8})|\d{8}T\d{12})-[0-9a-f]{4}")
_TOLD = 3
_LARGEST, _LARGEST_INODE = (1 << 63) - 1, (1 << 64) - 1

# What of a record must be so, or it is not read; `_problems` says the rest.
Size = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
Inode = Annotated[int, msgspec.Meta(ge=0)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]
ModeBits = Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
Text = Annotated[str, msgspec.Meta(max_length=8192)]
Gap = Annotated[str, msgspec.Meta(pattern=r"\A[ \t\r\n]*,[ \t\r\n]*\Z")]
Space = Annotated[str, msgspec.Meta(pattern=r"\A[ \t\r\n]*\Z")]
Many = msgspec.Meta(max_length=2_000_000)
Moment = Annotated[float, msgspec.Meta(ge=0, lt=1 << 33)]
"""Seconds since the epoch, before the year 2242."""


class TransactionKind(StrEnum):
    """What was done. MEND is what the first version called a repair, a restore, and the pointing of a name."""

    STORE = "store"
    IMPORT = "import"
    DELETE = "delete"
    UNDO = "undo"
    REDO = "redo"
    RESTORE = "restore"
    REPAIR = "repair"
    ADOPT = "adopt"
    POINT = "point"
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


class RecordedDescriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """A descriptor that left the index or came in: its bytes, its position, and what stood before it and after.

    ``before`` is the next one that stayed, None where there was none: its bytes in records of version 1, else what
    `neighbour_of` gives. ``gap`` is the comma and white space that went with it, ``twins`` how many of the same digest
    and format stayed. ``packed_size`` and ``packed_ns``, size and mtime of a packed file that stayed in its place, tell
    later whether that was stored anew (0: not known).
    """

    raw: str
    position: Size
    before: str | None = None
    gap: Gap | None = None
    twins: Size = 0
    packed_size: Size = 0
    packed_ns: int = 0

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor.parse(self.raw.encode())


def some_of(names: Iterable[str]) -> str:
    """The first names, each once, and how many there are besides: ``a, b, c and 3 more``."""
    known = list(dict.fromkeys(names))
    more = f" and {len(known) - _TOLD} more" if len(known) > _TOLD else ""
    return ", ".join(known[:_TOLD]) + more


def neighbour_of(identity: Identity) -> str:
    """What a record knows an entry by that stood beside another: a hash of its identity."""
    joined = "\0".join(part or "" for part in identity)
    return "#" + blake2b(joined.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class RecordedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file by its name in the cache, and what it is known by: size in bytes, mtime, and inode (0: not known)."""

    name: str
    size: Size
    modified_ns: Nanoseconds
    inode: Inode = 0

    def matches(self, found: os.stat_result | None) -> bool:
        """Whether a file is still this one."""
        if found is None or (found.st_size, found.st_mtime_ns) != (self.size, self.modified_ns):
            return False
        return self.inode in (0, found.st_ino)


class Moved(RecordedFile, frozen=True, omit_defaults=True):
    """A file of the cache that goes to the trash; ``trash`` is its name there, in a record only where it is unusual."""

    trash: str = ""

    @classmethod
    def of(cls, found: os.stat_result, transaction_id: str, name: str, aside: str = "") -> Moved:
        """The move of this file, under its usual name there unless another is given."""
        trash = aside or trash_name(transaction_id, name)
        return cls(name, found.st_size, found.st_mtime_ns, found.st_ino, trash)


class Placed(RecordedFile, frozen=True, omit_defaults=True):
    """A file that comes into the cache: from the trash or the staging folder by name, or from a path outside; with
    both a path and a staging name, through that folder. Only the program that made the transaction acts on ``path``."""

    trash: str | None = None
    staging: str | None = None
    path: str | None = None

    @classmethod
    def of(cls, found: os.stat_result, name: str, **source: str | None) -> Placed:
        """The coming of this file under a name of the cache."""
        return cls(name, found.st_size, found.st_mtime_ns, found.st_ino, **source)


class Swap(msgspec.Struct, frozen=True, omit_defaults=True):
    """index.json replaced whole: ``old`` goes to the trash, ``new`` comes in; None where it is absent before or after.
    The sha256 are of their bytes, empty for what is no regular file."""

    old: Moved | None
    new: Placed | None
    old_sha256: str = ""
    new_sha256: str = ""


class ChangeMode(msgspec.Struct, frozen=True):
    """A regular file or directory of the cache whose permission bits change from ``old`` to ``new``."""

    name: str
    old: ModeBits
    new: ModeBits


class Transaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of the cache. ``sequence`` is its number, 0 in the first version; ``started`` is in seconds since the
    epoch, for people; ``of`` is what an undo reverses, or what is done again.

    The steps are made in the order of the fields: ``displaced`` files give way to the trash, ``placed`` ones come in,
    ``modes`` change, then the index loses ``removed`` and gains ``added``, or is replaced (``swap``), then
    ``discarded`` files go to the trash. ``note`` is what there is to know of how it was done.

    ``opening`` and ``closing`` stood inside the index's brackets. ``marked`` is whether the record's own name says how
    far it came; the index says so of others.

    ``names`` and ``digests`` are what it is about where no descriptor tells. ``absent`` are digests and formats, and
    names, of entries that it was to take out of the index and that were gone already.
    """

    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    id: str
    sequence: int = 0
    kind: Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z-]{0,31}\Z")]
    started: Moment
    by: Text
    of: str | None = None
    names: list[Text] = []
    digests: list[Text] = []
    displaced: Annotated[list[Moved], Many] = []
    placed: Annotated[list[Placed], Many] = []
    modes: Annotated[list[ChangeMode], Many] = []
    removed: Annotated[list[RecordedDescriptor], Many] = []
    added: Annotated[list[RecordedDescriptor], Many] = []
    absent: Annotated[list[tuple[Text, Text | None, Text | None]], Many] = []
    swap: Swap | None = None
    discarded: Annotated[list[Moved], Many] = []
    opening: Space = ""
    closing: Space = ""
    marked: bool = False
    state: TransactionState = TransactionState.PENDING
    stage: str = ""
    note: Text = ""

    @property
    def order(self) -> Order:
        """Sorts transactions, whatever the clock said."""
        return self.sequence, self.id

    @property
    def trashed(self) -> list[Moved]:
        index = [self.swap.old] if self.swap and self.swap.old else []
        return [*self.displaced, *index, *self.discarded]

    @property
    def bytes_in_trash(self) -> int:
        """What of it lies in the trash: nothing once it was undone or rolled back, or the trash emptied."""
        return self.bytes_trashed if self.state in (TransactionState.DONE, TransactionState.PENDING) else 0

    @property
    def needs(self) -> set[str]:
        """The names in the trash of what it took out, or brings in again."""
        new = [self.swap.new] if self.swap and self.swap.new else []
        return {moved.trash for moved in self.trashed} | {placed.trash or "" for placed in (*self.placed, *new)}

    @property
    def changes_index(self) -> bool:
        return bool(self.removed or self.added or self.swap)

    @property
    def replaces_index(self) -> bool:
        """Whether the index is another one after it, of which what was there before says nothing."""
        return self.swap is not None or self.kind == TransactionKind.RESET

    @property
    def bytes_trashed(self) -> int:
        return sum(moved.size for moved in self.trashed)

    @property
    def entry_count(self) -> int:
        """How many entries went or came."""
        return max(len(self.removed), len(self.added))

    @property
    def file_names(self) -> list[str]:
        """The files that came, went, or changed their mode, each once; index.json only where it was replaced."""
        moved = [placed.name for placed in self.placed] + [moved.name for moved in self.trashed]
        return list(dict.fromkeys((*moved, *(mode.name for mode in self.modes))))

    @property
    def image_names(self) -> list[str]:
        """The names of the images it is about, in krata's spelling, each once."""
        told = (one.descriptor.image_name for one in (*self.removed, *self.added))
        return list(dict.fromkeys(name for name in (*told, *(one[2] for one in self.absent), *self.names) if name))

    @property
    def about(self) -> str:
        """These names for people: the first, and how many there are besides; empty where nobody knows one."""
        return some_of(self.image_names)

    @property
    def image_digests(self) -> list[str]:
        """Their digests, each once."""
        told = (one.descriptor.digest for one in (*self.removed, *self.added))
        return list(dict.fromkeys((*told, *(one[0] for one in self.absent), *self.digests)))

    @property
    def explanation(self) -> str:
        """What there is to say of the entries that it was to take out and that were gone already; empty for none."""
        names = some_of(name or digest for digest, _, name in self.absent)
        return f"gone from the index already: {names}" if names else ""

    @property
    def taken_out(self) -> list[Identity]:
        """The entries that it took out of the index, or found gone: what it explains where a later index lacks them."""
        if self.swap is not None and self.state is TransactionState.UNDONE:
            return []
        return [*(one.descriptor.identity for one in self.removed), *self.absent]


def order_of(transaction_id: str) -> Order:
    """The place of an id among all; of the beginning of an old one too."""
    match = TRANSACTION_ID.fullmatch(transaction_id)
    return int(match["sequence"]) if match and match["sequence"] else 0, transaction_id


def unfinished(transaction: Transaction, error: OSError | CacheError) -> StorageError:
    """What to raise where a step fails when there is no way back any more."""
    reason = error.strerror if isinstance(error, OSError) else error
    done = "the index was changed" if transaction.changes_index else "the first steps were made"
    return StorageError(
        f"{done}, but a step after it failed: {reason}",
        hint=f"transaction {transaction.id} will be finished by the next command that writes",
    )


class NewerRecordError(ValueError):
    """A record of a later ocitui, which is left alone."""


class _Version(msgspec.Struct):
    version: int = 1


_decode, _decode_version = msgspec.json.Decoder(Transaction).decode, msgspec.json.Decoder(_Version).decode
_encode = msgspec.json.Encoder().encode


def encode_record(transaction: Transaction) -> bytes:
    """One line of JSON; names in the trash only where they are not the usual ones."""

    def recorded(moved: Moved) -> Moved:
        usual = moved.trash == trash_name(transaction.id, moved.name)
        return msgspec.structs.replace(moved, trash="") if usual else moved

    return _encode(_with_moves(transaction, recorded)) + b"\n"


def decode_record(data: bytes, transaction_id: str) -> Transaction:
    """The transaction of a record. Raises ValueError where it may not be acted on, NewerRecordError for a later one."""
    try:
        version = _decode_version(data).version
        found = _decode(data) if version <= RECORD_VERSION else None
    except (ValueError, RecursionError) as error:
        raise ValueError(str(error) or "it is nested too deep") from error
    if found is None:
        raise NewerRecordError(f"it is of version {version}; this ocitui knows {RECORD_VERSION}")
    if found.id != transaction_id:
        raise ValueError(f"it is of another transaction: {found.id[:80]!r}")

    def named(moved: Moved) -> Moved:
        return moved if moved.trash else msgspec.structs.replace(moved, trash=trash_name(transaction_id, moved.name))

    found = _with_moves(found, named)
    for problem in _problems(found):
        raise ValueError(problem)
    return found


def trash_name(transaction_id: str, name: str) -> str:
    """What a file is called in the trash; the end of a long name gives way to a hash of it."""
    long = f"{transaction_id}~{name}"
    if usable_name(long):
        return long
    data = name.encode(errors="surrogateescape")
    short = data[:180].decode(errors="ignore")
    return f"{transaction_id}~{short}~{blake2b(data, digest_size=8).hexdigest()}"


def _with_moves(found: Transaction, change: Callable[[Moved], Moved]) -> Transaction:
    """The same with each of its files that go to the trash changed."""
    swap = found.swap
    if swap is not None and swap.old is not None:
        swap = msgspec.structs.replace(swap, old=change(swap.old))
    displaced, discarded = [change(one) for one in found.displaced], [change(one) for one in found.discarded]
    return msgspec.structs.replace(found, displaced=displaced, discarded=discarded, swap=swap)


def _problems(found: Transaction) -> Iterator[str]:
    """Why a record must not be acted on."""
    if order_of(found.id)[0] != found.sequence:
        yield f"its number {found.sequence} is none"
    if found.of is not None and not TRANSACTION_ID.fullmatch(found.of):
        yield f"it reverses no transaction: {found.of[:80]!r}"
    moved, swap = [*found.displaced, *found.discarded], found.swap or Swap(None, None)
    for name in (*(one.name for one in moved), *(one.name for one in found.placed), *(one.name for one in found.modes)):
        if not is_entry_name(name):
            yield f"it changes {name[:80]!r}"
    if any(part is not None and part.name != INDEX_NAME for part in (swap.old, swap.new)):
        yield "it replaces another file than the index"
    come = [*found.placed, *filter(None, [swap.new])]
    sources = (part for one in come for part in (one.trash, one.staging) if part is not None)
    for name in (*(one.trash for one in found.trashed), *sources):
        if not usable_name(name):
            yield f"something in it has the name {name[:80]!r} in the trash or the staging folder"
    for placed in come:
        if placed.trash is None and placed.staging is None and (placed is swap.new or placed.path is None):
            yield f"it brings {placed.name} in from nowhere"
    if max((*(one.inode for one in found.trashed), *(one.inode for one in come)), default=0) > _LARGEST_INODE:
        yield "an inode in it is out of range"
    for added in (*found.removed, *found.added):
        try:
            Descriptor.parse(added.raw.encode())
        except (CacheError, ValueError) as error:
            yield f"a descriptor in it is none: {error}"


def is_entry_name(name: str) -> bool:
    """Whether a file of the cache directory may have this name, index.json and what is ocitui's apart."""
    return usable_name(name) and name not in (INDEX_NAME, OWN_NAME)
