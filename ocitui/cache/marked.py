"""Transactions whose record says by its own name how far they came: those whose index could not.

A mend may leave the index as it is, replace one that does not read, or move an entry only. So its record is renamed
just before the index is published and just after: before the first it is rolled back, after the second finished, and
between them the draft tells, which an exchange gives another inode.
"""

from __future__ import annotations

import msgspec

from .edits import Edit
from .errors import CacheError
from .index_file import IndexFile
from .journal import PUBLISHED, PUBLISHING
from .modes import set_modes, unset_modes
from .moves import bring_in, clear_displaced, is_moved, move, send_back
from .publish import COMPARED_ONLY, publish
from .records import Transaction, TransactionState, unfinished
from .swaps import finish_swap, swap_back, swap_in, swapped
from .workspace import Workspace


class Marks:
    """What `publish` tells of its steps, kept in the record's name."""

    def __init__(self, space: Workspace, transaction: Transaction) -> None:
        self._journal = space.journal
        self.transaction = transaction

    def ready(self, inode: int) -> None:
        """The index is written, as the file with this inode, and changes places next."""
        self._advance(f"{PUBLISHING}{inode}")

    def withdrawn(self) -> None:
        """It did not."""
        self._advance("")

    def published(self) -> None:
        """It did: there is no way back."""
        self._advance(PUBLISHED)

    def _advance(self, stage: str) -> None:
        if self.transaction.stage != PUBLISHED:
            self.transaction = self._journal.advance(self.transaction, stage)
            self._journal.sync()


def run_marked(space: Workspace, transaction: Transaction, base: IndexFile | None = None) -> Transaction:
    """Make a transaction durable, then make its steps; rolls back where one fails before there is no way back.

    ``base`` is the index it edits, None where it edits none. Raises StorageError where a step fails later: the next
    writer then finishes the transaction.
    """
    marks = Marks(space, transaction)
    space.journal.write(transaction)
    try:
        bring_in(space, transaction)
        set_modes(space, transaction.modes)
        _change_index(space, transaction, base, marks)
    except (OSError, CacheError) as error:
        if space.index_changed or marks.transaction.stage == PUBLISHED:
            raise unfinished(transaction, error) from error
        roll_back_marked(space, marks.transaction)
        raise
    try:
        done = finish_marked(space, marks.transaction)
    except OSError as error:
        raise unfinished(transaction, error) from error
    if space.compared_only:
        done = msgspec.structs.replace(done, note=COMPARED_ONLY)
        space.journal.keep_note(done)
    return done


def _change_index(space: Workspace, transaction: Transaction, base: IndexFile | None, marks: Marks) -> None:
    if transaction.swap is not None:
        swap_in(space, transaction.swap)
        space.disk.sync_folder(space.root)
    elif base is not None:
        publish(space, base, edit_of(transaction).on(base.contents), f"{transaction.id}.index", marks)
    marks.published()


def edit_of(transaction: Transaction) -> Edit:
    """A transaction's edit of the index."""
    gaps = (transaction.opening.encode(), transaction.closing.encode()) if transaction.keeps_gaps else None
    return Edit(transaction.removed, transaction.added, gaps)


def recover_marked(space: Workspace, left: Transaction) -> Transaction:
    """Finish or roll back one that a program that died left behind."""
    if left.stage == PUBLISHED or _is_published(space, left):
        return finish_marked(space, left)
    return roll_back_marked(space, left)


def _is_published(space: Workspace, left: Transaction) -> bool:
    if left.swap is not None:
        return swapped(space, left.swap)
    if not left.stage.startswith(PUBLISHING):
        return False
    draft = space.staging.lstat(f"{left.id}.index")
    return draft is None or str(draft.st_ino) != left.stage.removeprefix(PUBLISHING)


def finish_marked(space: Workspace, transaction: Transaction) -> Transaction:
    """Make the steps that follow the index."""
    clear_displaced(space, transaction)
    if transaction.swap is not None:
        finish_swap(space, transaction.swap)
    for moved in transaction.discarded:
        # What another program has put there since stays.
        if is_moved(space.root.lstat(moved.name), moved):
            move(space, space.root, moved.name, space.trash, moved.trash)
    space.sync()
    return space.journal.mark_done(transaction)


def roll_back_marked(space: Workspace, transaction: Transaction) -> Transaction:
    """Undo the steps made so far, in reverse."""
    if transaction.swap is not None:
        swap_back(space, transaction.swap)
    unset_modes(space, transaction.modes)
    send_back(space, transaction)
    space.sync()
    return space.journal.mark(transaction, TransactionState.VOID)
