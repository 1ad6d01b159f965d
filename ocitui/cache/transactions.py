"""Changes made as transactions: looked at again, staged, recorded, run; finished or rolled back after a crash.

One flow makes every change. Files that come in are in place before the index names them, files that go leave after it
does, so a crash between any two steps leaves files no entry needs, and never an entry without its files.

What was interrupted is finished where its index was published, else rolled back. An edit by keys shows in the index
itself: the index decides. How far any other change came is said by its record's name (it is ``marked``): the inode of
the new index is noted there before that file takes its place.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from . import records
from .actor import whoami
from .backups import keep_backup, keep_corrupt
from .changes import Change, Discard, Edit, IndexEdit, IndexReplacement, Place, Seen, needed, removals, see_index_in
from .disk import OUTSIDE
from .errors import CacheError, ConflictError, CorruptIndexError, PlanChangedError
from .files import INDEX_NAME, usable_name
from .index import PATIENCE_SECONDS, ImageIndex, IndexFile, examine_index, read_patiently, refuse_link
from .journal import JOURNAL_NAME, PUBLISHED, PUBLISHING, RefusedFile, is_passing, reason_of
from .publish import Marks, gave_back, is_taken_away, keep_displaced, publish_edit, publish_replacement
from .records import ChangeMode, Identity, Moved, Placed, RecordedDescriptor, Swap, Transaction, TransactionKind
from .workspace import Workspace, bring_in, mode_of, move, send_back, set_modes, source_of

_PAUSE = 0.01
_DRAFT = ".index"


def make(
    space: Workspace,
    change: Change,
    kind: TransactionKind,
    *,
    of: str | None = None,
    names: Collection[str] = (),
    digests: Collection[str] = (),
    absent: Collection[Identity] = (),
) -> Transaction:
    """Make a change, as one transaction. Raises PlanChangedError where something it names is not what was seen;
    CorruptIndexError where it edits an index that does not read, or would write one; ConflictError, DocumentError,
    OSError. The cache is then as it was, unless StorageError says that the next writer finishes the transaction."""
    told = partial(Transaction, kind=kind, of=of, names=[*names], digests=[*digests], absent=[*absent])
    try:
        return _make(space, change, told, copy=False)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another mount of the same file system: it can be copied from, not renamed from.
        clear_after_failure(space)
        return _make(space, change, told, copy=True)


def _make(space: Workspace, change: Change, told: Callable[..., Transaction], *, copy: bool) -> Transaction:
    _check_names(change)
    index, base, edit = change.index, None, None
    if isinstance(index, IndexEdit | Edit):
        base = _base(space)
        edit = index.bound(base.index) if isinstance(index, IndexEdit) else index
    sequence = space.next_sequence()
    new = f"{sequence:06d}-{secrets.token_hex(2)}"
    transaction = told(
        version=records.RECORD_VERSION,
        id=new,
        sequence=sequence,
        started=time.time(),
        by=whoami(),
        marked=edit is None or edit.keys is None,
        displaced=_moved(space, new, change.place),
        modes=[_mode(space, one) for one in change.modes],
        discarded=_moved(space, new, change.discard),
    )
    if edit is not None and base is not None:
        transaction = _with_edit(space, transaction, edit, base.contents)
    if isinstance(index, IndexReplacement):
        transaction = msgspec.structs.replace(transaction, swap=_replacement(space, transaction.id, index))
    staged = _staged(space, transaction.id, change.place, copy=copy)
    transaction = msgspec.structs.replace(transaction, placed=[placed for _, placed in staged])
    done = run(space, transaction, base, edit)
    for place, placed in staged:
        if place.take and place.path is not None and placed.path is None:
            # What was copied is in the cache all the same where its source may not be written.
            with suppress(OSError):
                space.disk.unlink(OUTSIDE, str(place.path))
    return done


def _check_names(change: Change) -> None:
    """Raises ConflictError where a name is not one of a file in the cache, or stands there twice."""
    if not change:
        raise ConflictError("the change is none", hint="choose at least one step")
    for name, count in Counter(change.names()).items():
        if not records.is_entry_name(name):
            raise ConflictError(f"{name!r} cannot be changed as a file of the cache")
        if count > 1:
            raise ConflictError(f"{name} stands in the change twice")


def _base(space: Workspace) -> IndexFile:
    """The index that is to be edited."""
    refuse_link(space.directory)
    base = space.read_index()
    if any(not transaction.marked for transaction in space.journal.transactions([records.TransactionState.PENDING])):
        # The index did not read when the others were decided.
        recover(space)
    return base


def _with_edit(space: Workspace, transaction: Transaction, edit: Edit, index: ImageIndex) -> Transaction:
    """The transaction with this edit of the index, and with what its reverse needs to know."""
    removed = list(edit.out) if edit.keys is None else removals(index, index.positions_of(edit.keys))
    added = list(edit.into)
    if edit.appended is not None:
        added.append(RecordedDescriptor(edit.appended.raw.decode(), len(index)))
    return msgspec.structs.replace(
        transaction,
        removed=_with_what_stays(space, transaction, index, removed),
        added=added,
        opening=index.brackets[0].decode(),
        closing=index.brackets[1].decode(),
    )


def _with_what_stays(
    space: Workspace, transaction: Transaction, index: ImageIndex, removed: list[RecordedDescriptor]
) -> list[RecordedDescriptor]:
    """Those that leave, with how many of the same key stay, and what the packed file is where that stays."""
    keys = {one.descriptor.key for one in removed} if transaction.marked else set()
    twins = Counter(descriptor.key for descriptor in index.descriptors if descriptor.key in keys) if keys else Counter()
    twins -= Counter(one.descriptor.key for one in removed)
    moved = {file.name for file in (*transaction.discarded, *transaction.displaced)}
    found: list[RecordedDescriptor] = []
    for one in removed:
        descriptor = one.descriptor
        name = descriptor.packed_file
        there = space.root.lstat(name) if name and name not in moved else None
        if there is not None or twins[descriptor.key]:
            size, modified = (there.st_size, there.st_mtime_ns) if there is not None else (0, 0)
            one = msgspec.structs.replace(one, twins=twins[descriptor.key], packed_size=size, packed_ns=modified)
        found.append(one)
    return found


def _moved(space: Workspace, transaction_id: str, going: Iterable[Discard | Place]) -> list[Moved]:
    """The files that go to the trash, under these names. Raises PlanChangedError where one is not what was seen."""
    moved: list[Moved] = []
    for one in going:
        found = space.root.lstat(one.name)
        if (Seen.of(found) if found else None) != one.seen:
            raise PlanChangedError(f"{one.name} has changed since the plan was shown")
        if found is not None:
            moved.append(Moved.of(found, transaction_id, one.name, one.aside))
    return moved


def _mode(space: Workspace, change: ChangeMode) -> ChangeMode:
    if mode_of(space.root, change.name) != change.old:
        raise PlanChangedError(f"the mode of {change.name} has changed since the plan was shown")
    return ChangeMode(change.name, change.old, change.new & 0o7777)


def _replacement(space: Workspace, transaction_id: str, wanted: IndexReplacement) -> Swap:
    """A new index staged, to take the place of what was seen."""
    verdict, index = examine_index(wanted.data)
    if index is None and wanted.data is not None:
        told = f"the new index would be corrupt: {verdict.place}"
        raise CorruptIndexError(told, verdict=verdict, hint="nothing was changed")
    _await_index(space, wanted)
    old = space.root.lstat(INDEX_NAME)
    moved = Moved.of(old, transaction_id, INDEX_NAME) if old is not None else None
    if index is None:
        new, sha256 = None, ""
        if wanted.trash is not None:
            if (found := space.trash.lstat(wanted.trash)) is None:
                raise ConflictError(f"the trash no longer holds {wanted.trash}")
            new, sha256 = Placed.of(found, INDEX_NAME, trash=wanted.trash), space.trash.sha256(wanted.trash)
        return Swap(moved, new, wanted.seen.sha256, sha256)
    like = old if old is not None and stat.S_ISREG(old.st_mode) else None
    if like is not None:
        data = space.root.read(INDEX_NAME)
        if examine_index(data)[1] is not None:
            raise ConflictError("index.json reads and is not replaced", hint="edit it instead")
        keep_corrupt(space.directory, data, space.disk)
    draft = f"{transaction_id}{_DRAFT}"
    space.disk.write_new(space.staging, draft, index.data, like)
    return Swap(moved, _placed(space, draft, INDEX_NAME), wanted.seen.sha256, index.sha256)


def _await_index(space: Workspace, wanted: IndexReplacement) -> None:
    """Raises PlanChangedError where index.json is not what was seen, nor becomes it again as a torn write does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while see_index_in(space.root) != wanted.seen:
        if time.monotonic() >= deadline:
            raise PlanChangedError("index.json has changed since the plan was shown")
        time.sleep(_PAUSE)


def _staged(
    space: Workspace, transaction_id: str, places: Iterable[Place], *, copy: bool
) -> list[tuple[Place, Placed]]:
    """What is to come in, where it can be renamed from; all that is written here, before the first of it is synced."""
    drafts = [(place, f"{transaction_id}.{number}") for number, place in enumerate(places)]
    written = [(place, draft) for place, draft in drafts if place.data is not None]
    for place, draft in written:
        space.disk.write_new(space.staging, draft, place.data or b"", sync=False)
    for _, draft in written:
        space.disk.sync_file(space.staging, draft)
    return [(place, _staged_one(space, place, draft, copy=copy)) for place, draft in drafts]


def _staged_one(space: Workspace, place: Place, draft: str, *, copy: bool) -> Placed:
    if place.data is not None:
        return _placed(space, draft, place.name)
    if place.trash is not None:
        found = space.trash.lstat(place.trash) if usable_name(place.trash) else None
        return Placed.of(_check_source(place, found, f"{place.trash} in the trash"), place.name, trash=place.trash)
    assert place.path is not None
    path = place.path
    found = _check_source(place, OUTSIDE.lstat(str(path)), str(path))
    if not stat.S_ISREG(found.st_mode) and not (place.take and stat.S_ISREG(os.stat(path).st_mode)):
        raise ConflictError(f"{path} is not a regular file")
    if copy or not _is_movable(space, place, path, found):
        space.disk.copy_in(path, space.staging, draft)
        return _placed(space, draft, place.name)
    space.disk.sync_file(OUTSIDE, str(path))
    # What has to change places with it can do so only inside the cache.
    staging = None if space.root.lstat(place.name) is None else draft
    return Placed.of(found, place.name, path=os.path.abspath(path), staging=staging)


def _is_movable(space: Workspace, place: Place, path: Path, found: os.stat_result) -> bool:
    """Whether a file may leave its place: not one of the cache itself, whose leaving would be no part of the change."""
    root = space.root.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_dev != root.st_dev:
        return False
    return place.take or not os.path.samestat(os.stat(path.parent), root)


def _check_source(place: Place, found: os.stat_result | None, what: str) -> os.stat_result:
    """Raises PlanChangedError where what comes in is not what was seen."""
    if found is None:
        raise PlanChangedError(f"{what} is gone")
    if place.source is not None and Seen.of(found) != place.source:
        raise PlanChangedError(f"{what} has changed since the plan was shown")
    return found


def _placed(space: Workspace, draft: str, name: str) -> Placed:
    return Placed.of(os.stat(draft, dir_fd=space.staging.fd, follow_symlinks=False), name, staging=draft)


def run(space: Workspace, transaction: Transaction, base: IndexFile | None, edit: Edit | None) -> Transaction:
    """Make a transaction durable, then make its steps; rolls back where one fails early. ``base`` is the index that
    ``edit`` is of. Raises StorageError where a later step fails: the next writer finishes the transaction."""
    marks = Marks(space, transaction)
    space.journal.write(transaction)
    index: ImageIndex | None = None
    try:
        bring_in(space, transaction)
        set_modes(space, transaction.modes)
        if base is not None and edit is not None:
            index = publish_edit(space, base, edit, f"{transaction.id}{_DRAFT}", marks)
        elif transaction.swap is not None:
            publish_replacement(space, transaction.swap, marks)
        else:
            marks.published()
            space.journal.sync()
    except (OSError, CacheError) as error:
        if space.index_changed or marks.transaction.stage == PUBLISHED:
            raise records.unfinished(transaction, error) from error
        roll_back(space, marks.transaction, ours=True)
        raise
    try:
        done = finish(space, marks.transaction, index)
    except OSError as error:
        raise records.unfinished(transaction, error) from error
    if transaction.swap is not None:
        # What an index was made of that replaced another, no record tells.
        with suppress(OSError):
            keep_backup(space.directory, space.root.read(INDEX_NAME), transaction.sequence + 1, space.disk)
    if space.notes:
        done = msgspec.structs.replace(done, note="; ".join(dict.fromkeys(space.notes)))
        space.journal.keep_note(done)
    return done


def finish(space: Workspace, transaction: Transaction, index: ImageIndex | None) -> Transaction:
    """Make the steps that follow the index; ``index`` is what it is then, for a transaction that is not marked."""
    _clear_old_index(space, transaction)
    for moved in transaction.discarded:
        # What another program has put there since stays: an entry of it may be about to come.
        wanted = index is not None and not transaction.marked and needed(index, moved.name)
        if not wanted and moved.matches(space.root.lstat(moved.name)):
            move(space, space.root, moved.name, space.trash, moved.trash)
    if transaction.trashed:
        space.disk.sync_folder(space.trash)
    return space.journal.mark_done(transaction)


def _clear_old_index(space: Workspace, transaction: Transaction) -> None:
    """Take away what the new index displaced: to the trash what it replaced whole, to the backups what it edited."""
    swap, draft = transaction.swap, f"{transaction.id}{_DRAFT}"
    if swap is None:
        with suppress(OSError):
            if old := examine_index(space.staging.read(draft))[1]:
                keep_displaced(space, draft, old)
    elif swap.old is not None and swap.new is not None:
        folder, name = source_of(space, swap.new)
        if not swap.new.matches(folder.lstat(name)):
            move(space, folder, name, space.trash, swap.old.trash)
    elif swap.old is not None and space.trash.lstat(swap.old.trash) is not None:
        # Where a disk forgot that it is no longer in its place.
        move(space, space.root, INDEX_NAME, space.trash, swap.old.trash)


def roll_back(space: Workspace, transaction: Transaction, *, ours: bool) -> Transaction:
    """Undo the steps made so far, in reverse; ``ours`` is one of this very call, whose paths outside are known."""
    for moved in reversed(transaction.discarded):
        move(space, space.trash, moved.trash, space.root, moved.name)
    swap = transaction.swap
    if swap is not None and swap.old is not None and swap.new is not None:
        # Where the replacement came no further than to take away what stood there.
        move(space, space.trash, swap.old.trash, space.root, INDEX_NAME)
    set_modes(space, [ChangeMode(mode.name, mode.new, mode.old) for mode in reversed(transaction.modes)])
    send_back(space, transaction, ours=ours)
    for folder in (space.root, space.trash):
        space.disk.sync_folder(folder)
    return space.journal.mark(transaction, records.TransactionState.VOID)


def recover(space: Workspace) -> list[Transaction]:
    """Finish or roll back what a program that died left behind, the oldest first; gives those transactions in their new
    state. One that only the index can decide is left as it is while that does not read, one of a later ocitui in any
    case. A record that may not be acted on is set aside. Raises OSError, a ForeignFileError where one is another's."""
    space.journal.drop_drafts()
    recovered: list[Transaction] = []
    index: ImageIndex | None = None
    left_alone: set[str] = set()
    unsure = False
    for record in space.journal.pending():
        try:
            left = space.journal.load(record)
        except ConflictError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and is_passing(cause):
                raise cause from error
            if isinstance(cause, records.NewerRecordError):
                left_alone.add(record.id)
            else:
                unsure = True
                space.put_aside(RefusedFile(f"{JOURNAL_NAME}/{record.name}", reason_of(cause)))
            continue
        if left.state is not records.TransactionState.PENDING:
            # On a file system that has no locks, another program has just ended it.
            continue
        if not left.marked and index is None:
            seen = read_patiently(space.directory)
            index = seen.contents if seen.verdict.sound else None
        if left.marked:
            published = _is_marked_published(space, left)
        elif index is not None:
            published = _shows(space, left, index)
        else:
            left_alone.add(left.id)
            continue
        recovered.append(finish(space, left, index) if published else roll_back(space, left, ours=False))
    clear_staging(space, left_alone, unsure=unsure)
    return recovered


def _is_marked_published(space: Workspace, left: Transaction) -> bool:
    """Whether the new index took its place: what stands there is the file that was noted, or what changed places with
    it is still where it was. A sound index of another program that was displaced by a replacement is given back."""
    if left.stage == PUBLISHED:
        return True
    swap = left.swap
    if swap is not None and swap.new is None:
        return is_taken_away(space, swap)
    if swap is None and not left.stage.startswith(PUBLISHING):
        return False
    folder, name = source_of(space, swap.new) if swap and swap.new else (space.staging, f"{left.id}{_DRAFT}")
    inode = swap.new.inode if swap and swap.new else int(left.stage.removeprefix(PUBLISHING))
    there, waiting = space.root.lstat(INDEX_NAME), folder.lstat(name)
    if waiting is not None and waiting.st_ino == inode:
        return False
    if there is not None and there.st_ino == inode:
        return swap is None or not gave_back(space, folder, name, swap)
    return waiting is not None


def _shows(space: Workspace, transaction: Transaction, index: ImageIndex) -> bool:
    """Whether the index shows what the transaction made of it."""
    added = Counter(one.descriptor.identity for one in transaction.added)
    removed_too = {one.descriptor.identity for one in transaction.removed}
    gone = removed_too - set(added)
    present = Counter(index.identities())
    if any(present[identity] < count for identity, count in added.items()) or any(present[one] for one in gone):
        return False
    if gone or set(added) - removed_too:
        return True
    # The same entry left and came back: the index cannot tell, so the files do.
    return all(placed.matches(space.root.lstat(placed.name)) for placed in transaction.placed)


def clear_staging(space: Workspace, left_alone: Iterable[str] = (), *, unsure: bool = False) -> None:
    """Empty the staging folder, but of transactions ``left_alone``: copies are removed. What may be the only one of its
    kind goes to the trash: an index, and any file where it is ``unsure`` whose it is."""
    kept = tuple(f"{transaction_id}." for transaction_id in left_alone)
    for name in space.staging.names():
        if kept and name.startswith(kept):
            continue
        if unsure or name.endswith(_DRAFT):
            space.disk.rename(space.staging, name, space.trash, f"{name}~{secrets.token_hex(4)}")
        else:
            space.disk.remove(space.staging, name)


def clear_after_failure(space: Workspace) -> None:
    """Leave no copy behind, which may be what fills the disk; the next writer clears up what is not finished."""
    with suppress(OSError):
        if not space.journal.pending():
            clear_staging(space)
