"""Transactions made, finished and rolled back.

The index decides: a transaction whose change stands in the index is finished, any other is rolled back. Files that come
in are in place before the index names them, files that go leave after it does, so a crash between any two steps leaves
files no entry needs, and never an entry without its files.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from .descriptors import Descriptor
from .disk import Folder
from .errors import CacheError, ConflictError, NoSuchTransactionError, StorageError
from .files import INDEX_NAME, config_name, file_names, known_format, manifest_name, usable_digest
from .formats import PackedFormat
from .index import ImageIndex, Key
from .index_file import IndexFile, read_patiently
from .journal import Moved, Placed, Removed, Transaction, TransactionState
from .publish import Edit, publish
from .workspace import Workspace

Identity = tuple[str, str | None, str | None]


def run(space: Workspace, transaction: Transaction, base: IndexFile, edit: Edit) -> Transaction:
    """Make a transaction durable, then make its steps; rolls back where one fails before the index is changed.

    Raises StorageError where one fails later: the next writer then finishes the transaction.
    """
    space.journal.write(transaction)
    try:
        _bring_in(space, transaction)
        index = publish(space, base, edit, _draft(transaction))
    except (OSError, CacheError) as error:
        if space.index_changed:
            raise _unfinished(transaction, error) from error
        roll_back(space, transaction)
        raise
    try:
        return finish(space, transaction, index)
    except OSError as error:
        raise _unfinished(transaction, error) from error


def _unfinished(transaction: Transaction, error: OSError | CacheError) -> StorageError:
    reason = error.strerror if isinstance(error, OSError) else error
    return StorageError(
        f"the index was changed, but a step after it failed: {reason}",
        hint=f"transaction {transaction.id} will be finished by the next command that writes",
    )


def recover(space: Workspace) -> list[Transaction]:
    """Finish or roll back what a program that died left behind; gives those transactions in their new state."""
    space.journal.drop_drafts()
    pending = space.journal.list([TransactionState.PENDING])
    if pending:
        seen = read_patiently(space.directory)
        seen.require_sound(space.directory)
        index = seen.contents
        pending = [
            finish(space, left, index) if _published(space, left, index) else roll_back(space, left)
            for left in reversed(pending)
        ]
    clear_staging(space)
    return pending


def finish(space: Workspace, transaction: Transaction, index: ImageIndex) -> Transaction:
    """Make the steps that follow the index."""
    for moved in transaction.discarded:
        if not needed(index, moved.name):
            _move(space, space.root, moved.name, space.trash, moved.trash)
    space.sync()
    if transaction.of is not None:
        with suppress(NoSuchTransactionError, ConflictError):
            undone = space.journal.read(transaction.of)
            if undone.state is TransactionState.DONE:
                space.journal.mark(undone, TransactionState.UNDONE)
    return space.journal.mark(transaction, TransactionState.DONE)


def roll_back(space: Workspace, transaction: Transaction) -> Transaction:
    """Undo the steps made so far, in reverse."""
    for moved in reversed(transaction.discarded):
        _move(space, space.trash, moved.trash, space.root, moved.name)
    for placed in reversed(transaction.placed):
        if _is(space.root.lstat(placed.name), placed) and not _waiting(space, placed):
            _give_back(space, transaction, placed)
    for moved in reversed(transaction.displaced):
        _move(space, space.trash, moved.trash, space.root, moved.name)
    space.sync()
    return space.journal.mark(transaction, TransactionState.VOID)


def needed(index: ImageIndex, name: str) -> bool:
    """Whether an entry of the index has this file."""
    for format_ in PackedFormat:
        for digest in {name.removesuffix(f".{format_}")} - {name}:
            if index.by_key(digest, format_) is not None:
                return True
    for suffix in (manifest_name(""), config_name("")):
        digest = name.removesuffix(suffix)
        if digest != name and any(index.by_key(digest, format_) for format_ in PackedFormat):
            return True
    return False


def discardable(root: Folder, index: ImageIndex, keys: Collection[Key]) -> tuple[list[str], list[str]]:
    """The files that nothing needs once entries of these keys are gone, and those that stay for other formats.

    ``index`` is the one without them. A packed file that no entry names keeps its documents too.
    """
    gone: dict[str, None] = {}
    kept: dict[str, None] = {}
    for digest, format_annotation in keys:
        format_ = known_format(format_annotation)
        if format_ is None or not usable_digest(digest):
            continue
        packed, *documents = file_names(digest, format_).values()
        gone[packed] = None
        others = [other for other in PackedFormat if (digest, other) not in keys and other is not format_]
        shared = any(index.by_key(digest, other) or root.lstat(f"{digest}.{other}") is not None for other in others)
        (kept if shared else gone).update(dict.fromkeys(documents))
    present = [name for name in gone if name not in kept and root.lstat(name) is not None]
    return present, [name for name in kept if root.lstat(name) is not None]


def moved_to_trash(root: Folder, transaction_id: str, names: Collection[str]) -> list[Moved]:
    """The moves of these files to the trash, as they are now."""
    moves = []
    for name in names:
        found = root.lstat(name)
        if found is not None:
            moves.append(Moved(name, f"{transaction_id}~{name}", found.st_size, found.st_mtime_ns))
    return moves


def removals(index: ImageIndex, keys: Collection[Key]) -> list[Removed]:
    """The entries of these keys, each with the next entry that stays and the gap that goes with it."""
    removed: list[Removed] = []
    descriptors = index.descriptors
    first_kept = next((at for at, d in enumerate(descriptors) if d.key not in keys), len(descriptors))
    before: Descriptor | None = None
    for position in range(len(descriptors) - 1, -1, -1):
        descriptor = descriptors[position]
        if descriptor.key in keys:
            gap = index.gap(position if position < first_kept else position - 1)
            neighbour = None if before is None else before.raw.decode()
            removed.append(Removed(descriptor.raw.decode(), position, neighbour, gap.decode() if gap else None))
        else:
            before = descriptor
    return removed[::-1]


def _bring_in(space: Workspace, transaction: Transaction) -> None:
    for moved in transaction.displaced:
        _move(space, space.root, moved.name, space.trash, moved.trash)
    for placed in transaction.placed:
        folder, name = _source(space, placed)
        if folder is None:
            space.disk.move_in(Path(name), space.root, placed.name)
        else:
            space.disk.rename(folder, name, space.root, placed.name)
    if transaction.displaced or transaction.placed:
        space.sync()


def _waiting(space: Workspace, placed: Placed) -> bool:
    """Whether a file is still where it comes from, so that it is not what stands in its place."""
    folder, name = _source(space, placed)
    return os.path.lexists(name) if folder is None else folder.lstat(name) is not None


def _source(space: Workspace, placed: Placed) -> tuple[Folder | None, str]:
    """Where a file comes from: a folder of ours and a name in it, or None and a path outside."""
    if placed.trash is not None:
        return space.trash, placed.trash
    if placed.staging is not None:
        return space.staging, placed.staging
    return None, placed.path or ""


def _give_back(space: Workspace, transaction: Transaction, placed: Placed) -> None:
    """Return a file to where it came from; to the trash where something else is there by now."""
    folder, name = _source(space, placed)
    try:
        if folder is None:
            space.disk.move_out(space.root, placed.name, Path(name))
        else:
            space.disk.rename(space.root, placed.name, folder, name)
    except OSError as error:
        if error.errno not in (
            errno.EEXIST,
            errno.ENOENT,
            errno.EXDEV,
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
        ):
            raise
        space.disk.rename(space.root, placed.name, space.trash, f"{transaction.id}~{placed.name}~back")


def _move(space: Workspace, source: Folder, name: str, target: Folder, new_name: str) -> None:
    """Move a file that is there to a place that is free; anything else was done before, or is no longer ours to do."""
    if source.lstat(name) is not None and target.lstat(new_name) is None:
        space.disk.rename(source, name, target, new_name)


def _is(found: os.stat_result | None, placed: Placed) -> bool:
    return found is not None and (found.st_size, found.st_mtime_ns) == (placed.size, placed.modified_ns)


def _published(space: Workspace, transaction: Transaction, index: ImageIndex) -> bool:
    """Whether the index shows what the transaction made of it."""
    added = Counter(_identity(removed) for removed in transaction.added)
    removed_too = {_identity(removed) for removed in transaction.removed}
    gone = removed_too - set(added)
    present = Counter((d.digest, d.format, d.image_name) for d in index.descriptors)
    if any(present[identity] < count for identity, count in added.items()) or any(present[one] for one in gone):
        return False
    if gone or set(added) - removed_too:
        return True
    # The same entry left and came back: the index cannot tell, so the files do.
    return all(_is(space.root.lstat(placed.name), placed) for placed in transaction.placed)


def _identity(removed: Removed) -> Identity:
    descriptor = removed.descriptor
    return descriptor.digest, descriptor.format, descriptor.image_name


def _draft(transaction: Transaction) -> str:
    return f"{transaction.id}.index"


def clear_staging(space: Workspace) -> None:
    """Nothing is under way: an index left here may be one that was displaced and is kept, the rest are copies."""
    for name in space.staging.names():
        if name.endswith(".index"):
            space.disk.rename(space.staging, name, space.trash, f"{name}~{INDEX_NAME}")
        else:
            space.disk.unlink(space.staging, name)
