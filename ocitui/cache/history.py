"""The history of an index: each that was seen, what came and went from one to the next, and who did it.

Backups tell the indexes, the newest is index.json itself, and their numbers which transactions were made in between.
What these do not explain, another program did: the daemon, or somebody else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec

from .backups import MOST_BACKUP_BYTES, Backup, next_number, open_backups, read_backups
from .descriptors import Descriptor
from .disk import storage_errors
from .errors import NoSuchEntryError, StorageError
from .index import ImageIndex, Winners, read_patiently
from .own_folder import open_journal
from .records import Transaction, TransactionState


class IndexChange(msgspec.Struct, frozen=True, eq=False):
    """An index that was seen, and what it is to the one before it; of the ``oldest`` nobody knows. ``when`` is in
    seconds since the epoch: since when it was so, or was seen to be where that is ``by_another`` program. ``won`` are
    names that stand for another entry than before, or none: now, and before. ``transactions`` are oldest first."""

    when: float
    index: ImageIndex
    came: Sequence[Descriptor] = ()
    went: Sequence[Descriptor] = ()
    won: Winners = {}
    transactions: Sequence[Transaction] = ()
    by_another: bool = True
    oldest: bool = False


class IndexHistory:
    """The indexes of a cache that are kept: ``instants``, newest first. Raises CacheDirectoryError, StorageError."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._unreadable, self.instants = directory, 0, list[Backup]()
        # Asked before the index is read: a transaction under way may be in it or not.
        number, self._seen = next_number(directory), read_patiently(directory)
        with storage_errors("read the journal"), open_journal(directory) as journal:
            found = journal.transactions({*TransactionState} - {TransactionState.VOID})
        with storage_errors("list the backups"), suppress(FileNotFoundError), open_backups(directory) as copies:
            self.instants, self._unreadable = copies.everything(), copies.lost
        self._places = {(one.number, one.ordinal) for one in self.instants}
        self.instants = [one for one in self.instants if not one.stalled]
        self._made = [one for one in reversed(found) if one.changes_index]
        self._orders = [one.order for one in self._made]
        pairs = pairwise(self.instants)
        self.instants = [one for one, older in pairs if not self._seen_again(older, one)] + self.instants[-1:]
        now, signature = self._seen.index, self._seen.signature
        if now is not None and signature and not any(now.sha256.startswith(one.content) for one in self.instants[:1]):
            self.instants.insert(0, Backup(signature.modified_ns / 1e9, len(now), 0, False, "", number))

    def notes(self) -> Iterator[str]:
        """What there is to say of those that are not told, as far as they were asked for."""
        if self._seen.index is None:
            yield f"index.json as it is now is left out: {self._seen.verdict.place or 'there is none'}"
        if self._unreadable:
            yield f"of what was kept {self._unreadable} cannot be read any more"
        # A transaction keeps the index that it is an edit of, and equals are counted.
        gone = any(ordinal > 1 and (number, ordinal - 1) not in self._places for number, ordinal in self._places)
        if gone or any(order < one.order for one in self.instants[-1:] for order in self._orders[:1]):
            yield f"older ones are not kept any more: all together take {MOST_BACKUP_BYTES >> 20} MiB at most"

    def changes(self, start: int = 0) -> Iterator[IndexChange]:
        """What each is to the one before it, newest first; those that cannot be read are passed over."""
        newer, told = None, set[str]()
        kept = read_backups(self._directory, (one for one in self.instants[start:] if one.content))
        for instant in self.instants[start:]:
            index = next(kept, None) if instant.content else self._seen.index
            if index is None:
                self._unreadable += 1
                continue
            if newer is not None:
                # Each transaction made one change, and the later one where it may be either.
                made = [one for one in self._between(instant, newer[0]) if one.id not in told]
                yield (change := _change(*newer, instant, index, made))
                told.update(one.id for one in change.transactions)
            newer = instant, index
        if newer is not None:
            yield IndexChange(newer[0].kept, newer[1], oldest=True)

    def at(self, moment: float) -> IndexChange:
        """The newest seen by a time, in seconds since the epoch. Raises NoSuchEntryError for none, StorageError."""
        for at, instant in enumerate(self.instants):
            ours = [one for older in self.instants[at + 1 : at + 2] for one in self._between(older, instant)]
            if instant.kept <= moment or any(one.started <= moment for one in ours):
                change = next(self.changes(at), None)
                if change is None or not change.index.sha256.startswith(instant.content):
                    raise StorageError("the index of then is kept, but damaged", hint="ask for another time")
                if min(change.when, instant.kept) <= moment:
                    return change
        raise NoSuchEntryError("no index so old is kept", hint="ocitui history tells of each that is")

    def tenures(self, name: str) -> Iterator[tuple[Descriptor, IndexChange, IndexChange | None]]:
        """The entries that a name stood for, newest first: since which change, and until which; None: it still does."""
        until: IndexChange | None = None
        for change in self.changes():
            if name in change.won or change.oldest:
                if (now := change.index.by_name(name)) is not None:
                    yield now, change, until
                until = change

    def _seen_again(self, older: Backup, newer: Backup) -> bool:
        """Whether nothing was made of an index in between, nor seen to be."""
        first, end = bisect_left(self._orders, older.order), bisect_left(self._orders, newer.order)
        return older.content == newer.content and first == end

    def _between(self, older: Backup, newer: Backup) -> Sequence[Transaction]:
        """The transactions that may have had a part in what is between two of them, oldest first."""
        end = (newer.number + 1, "") if newer.number else newer.order
        return self._made[bisect_left(self._orders, older.order) : bisect_left(self._orders, end)]


def _change(
    instant: Backup, index: ImageIndex, older: Backup, before: ImageIndex, made: Sequence[Transaction]
) -> IndexChange:
    """What an index is to the one before it; ``made`` may have had a part in that."""
    same = index.difference(before)
    came, went = [index.descriptors[at] for at in same.added], [before.descriptors[at] for at in same.removed]
    change = IndexChange(instant.kept, index, came, went, won := index.won(before, same))
    # An index that was replaced by one like that before it was corrupt in between.
    made = [one for one in made if one.swap is None or one.swap.new_sha256 != before.sha256]
    usual = [one for one in made if one.order < instant.order]
    # What was under way when an index was seen has its number, and may be in it already.
    for some in (usual, [one for one in made if one.order < instant.order or one.started <= instant.kept]):
        for ours in (some, [one for one in some if one.sequence != older.number]):
            if ours and _explain(ours, change):
                return msgspec.structs.replace(change, when=ours[-1].started, transactions=ours, by_another=False)
    seen = {*won, *(one.identity for one in (*came, *went))}
    usual = [one for one in usual if one.replaces_index or not seen.isdisjoint(_touched(one))]
    return msgspec.structs.replace(change, transactions=usual)


def _explain(made: Sequence[Transaction], change: IndexChange) -> bool:
    """Whether these transactions alone make an index of the one before."""
    if any(one.replaces_index for one in made):
        swap = made[-1].swap
        return swap is not None and swap.new_sha256 == change.index.sha256
    net = Counter(added.descriptor.identity for one in made for added in one.added)
    net.subtract(removed.descriptor.identity for one in made for removed in one.removed)
    net.subtract(one.identity for one in change.came)
    net.update(one.identity for one in change.went)
    return not any(net.values()) and set[object]().union(*map(_touched, made)).issuperset(change.won)


def _touched(transaction: Transaction) -> set[object]:
    """The entries, and their names, that a transaction took out of the index or put in."""
    entries = {one.descriptor.identity for one in (*transaction.removed, *transaction.added)}
    return {*entries, *(name for _, _, name in entries)}
