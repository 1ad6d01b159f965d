"""Transactions made, finished and rolled back.

The index decides: a transaction whose change stands in the index is finished, any other is rolled back. Files that come
in are in place before the index names them, files that go leave after it does, so a crash between any two steps leaves
files no entry needs, and never an entry without its files.
"""

from __future__ import annotations

import secrets
from collections import Counter
from contextlib import suppress

import msgspec

from .edits import Edit, needed
from .errors import CacheError
from .file_steps import (
    all_in_place,
    bring_in,
    clear_displaced,
    finish_swap,
    is_moved,
    move,
    send_back,
    set_modes,
    swap_back,
    swap_in,
    swapped,
    unset_modes,
)
from .index import ImageIndex
from .index_file import IndexFile, read_patiently
from .journal import PUBLISHED, PUBLISHING
from .publish import COMPARED_ONLY, EditCall, publish
from .records import Removed, Transaction, TransactionState, unfinished
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


Identity = tuple[str, str | None, str | None]


def run(space: Workspace, transaction: Transaction, base: IndexFile, edit: EditCall) -> Transaction:
    """Make a transaction durable, then make its steps; rolls back where one fails before the index is changed.

    Raises StorageError where one fails later: the next writer then finishes the transaction.
    """
    space.journal.write(transaction)
    try:
        bring_in(space, transaction)
        index = publish(space, base, edit, _draft(transaction))
    except (OSError, CacheError) as error:
        if space.index_changed:
            raise unfinished(transaction, error) from error
        roll_back(space, transaction)
        raise
    try:
        done = finish(space, transaction, index)
    except OSError as error:
        raise unfinished(transaction, error) from error
    if space.compared_only:
        done = msgspec.structs.replace(done, note=COMPARED_ONLY)
        space.journal.keep_note(done)
    return done


def recover(space: Workspace, *, index_needed: bool = True) -> list[Transaction]:
    """Finish or roll back what a program that died left behind; gives those transactions in their new state.

    Raises CorruptIndexError where only the index can decide and it does not read; unless it is ``index_needed``, such a
    transaction is left as it is.
    """
    space.journal.drop_drafts()
    pending = space.journal.list([TransactionState.PENDING])[::-1]
    recovered = [recover_marked(space, left) for left in pending if left.marked]
    undecided = [left for left in pending if not left.marked]
    if undecided:
        seen = read_patiently(space.directory)
        if not index_needed and not seen.verdict.sound:
            return recovered
        seen.require_sound(space.directory)
        recovered += [_recover(space, left, seen.contents) for left in undecided]
    clear_staging(space)
    return recovered


def _recover(space: Workspace, left: Transaction, index: ImageIndex) -> Transaction:
    return finish(space, left, index) if _published(space, left, index) else roll_back(space, left)


def finish(space: Workspace, transaction: Transaction, index: ImageIndex) -> Transaction:
    """Make the steps that follow the index."""
    clear_displaced(space, transaction)
    for moved in transaction.discarded:
        # What another program has put there since stays: an entry of it may be about to come.
        if not needed(index, moved.name) and is_moved(space.root.lstat(moved.name), moved):
            move(space, space.root, moved.name, space.trash, moved.trash)
    if transaction.trashed:
        space.sync()
    return space.journal.mark_done(transaction)


def roll_back(space: Workspace, transaction: Transaction) -> Transaction:
    """Undo the steps made so far, in reverse."""
    for moved in reversed(transaction.discarded):
        move(space, space.trash, moved.trash, space.root, moved.name)
    send_back(space, transaction)
    space.sync()
    return space.journal.mark(transaction, TransactionState.VOID)


def _published(space: Workspace, transaction: Transaction, index: ImageIndex) -> bool:
    """Whether the index shows what the transaction made of it."""
    added = Counter(_identity(removed) for removed in transaction.added)
    removed_too = {_identity(removed) for removed in transaction.removed}
    gone = removed_too - set(added)
    present = Counter(zip(index.digests, index.formats, index.names, strict=True))
    if any(present[identity] < count for identity, count in added.items()) or any(present[one] for one in gone):
        return False
    if gone or set(added) - removed_too:
        return True
    # The same entry left and came back: the index cannot tell, so the files do.
    return all_in_place(space, transaction)


def _identity(removed: Removed) -> Identity:
    descriptor = removed.descriptor
    return descriptor.digest, descriptor.format, descriptor.image_name


def _draft(transaction: Transaction) -> str:
    return f"{transaction.id}.index"


def clear_staging(space: Workspace) -> None:
    """Empty the staging folder: copies are removed, and what may be the only one of its kind goes to the trash.

    That is an index, which may have been displaced, and any file while there is a transaction that could not be read.
    """
    unsure = space.journal.has_pending()
    for name in space.staging.names():
        if unsure or name.endswith(".index"):
            space.disk.rename(space.staging, name, space.trash, f"{name}~{secrets.token_hex(4)}")
        else:
            space.disk.unlink(space.staging, name)


def clear_after_failure(space: Workspace) -> None:
    """Leave no copy behind, which may be what fills the disk; the next writer clears up what is not finished."""
    with suppress(OSError):
        if not space.journal.has_pending():
            clear_staging(space)
