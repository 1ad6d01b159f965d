"""A transaction's files moved into the cache and out of it, index.json replaced whole, modes changed; and all back.

A file that replaces another changes places with it, so that the entry is never without one. Every move looks first at
what is where: it may be made again after a crash, and what another program has put there meanwhile stays.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from .disk import Folder
from .errors import ConflictError
from .files import INDEX_NAME
from .index import judge_index
from .index_file import PATIENCE_SECONDS
from .publish import SETTLE_SECONDS
from .records import Mode, Moved, Placed, Swap, Transaction
from .verdict import IndexOutcome
from .workspace import Workspace

_LONGEST_NAME = 255  # bytes, of a directory entry
_SHORTENED = 180
_CANNOT_RETURN = (
    errno.EEXIST,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EXDEV,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
)


def trash_name(transaction_id: str, name: str) -> str:
    """What a file is called in the trash; the end of a long name gives way to a hash of it."""
    long = f"{transaction_id}~{name}"
    if len(long.encode()) <= _LONGEST_NAME:
        return long
    short = name.encode()[:_SHORTENED].decode(errors="ignore")
    return f"{transaction_id}~{short}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def moved_to_trash(root: Folder, transaction_id: str, names: Collection[str]) -> list[Moved]:
    """The moves of these files to the trash, as they are now."""
    moves = []
    for name in names:
        found = root.lstat(name)
        if found is not None:
            moves.append(Moved(name, trash_name(transaction_id, name), found.st_size, found.st_mtime_ns, found.st_ino))
    return moves


def placed_from(found: os.stat_result, name: str, **source: str | None) -> Placed:
    """The coming of this file under a name of the cache, from the trash, the staging folder or a path."""
    return Placed(name, found.st_size, found.st_mtime_ns, found.st_ino, **source)


def bring_in(space: Workspace, transaction: Transaction) -> None:
    """Put every file in its place; what stood there goes to the trash."""
    giving_way = {moved.name: moved for moved in transaction.displaced}
    for placed in transaction.placed:
        _bring(space, placed, giving_way.get(placed.name))
    if transaction.displaced:
        space.disk.sync_folder(space.trash)
    if transaction.placed:
        space.disk.sync_folder(space.root)


def clear_displaced(space: Workspace, transaction: Transaction) -> None:
    """Take to the trash what changed places with a new file and was left there."""
    giving_way = {moved.name: moved for moved in transaction.displaced}
    for placed in transaction.placed:
        old, (folder, name) = giving_way.get(placed.name), source_of(space, placed)
        if old is not None and folder is not None:
            move(space, folder, name, space.trash, old.trash)


def send_back(space: Workspace, transaction: Transaction) -> None:
    """The reverse of `bring_in`, however far that came."""
    giving_way = {moved.name: moved for moved in transaction.displaced}
    for placed in reversed(transaction.placed):
        old, (folder, name) = giving_way.get(placed.name), source_of(space, placed)
        if old is not None and folder is not None:
            _swap_back(space, placed, old, folder, name)
        elif is_placed(space.root.lstat(placed.name), placed) and not _waiting(folder, name):
            _return(space, transaction, placed, space.root, placed.name)
        if placed.path is not None and placed.staging is not None and space.staging.lstat(placed.staging) is not None:
            _return(space, transaction, placed, space.staging, placed.staging)


def move(space: Workspace, source: Folder, name: str, target: Folder, new_name: str) -> None:
    """Move a file that is there to a place that is free; anything else was done before, or is no longer ours to do."""
    if source.lstat(name) is not None and target.lstat(new_name) is None:
        space.disk.rename(source, name, target, new_name)


def all_in_place(space: Workspace, transaction: Transaction) -> bool:
    return all(is_placed(space.root.lstat(placed.name), placed) for placed in transaction.placed)


def source_of(space: Workspace, placed: Placed) -> tuple[Folder | None, str]:
    """Where a file comes from: a folder of ours and a name in it, or None and a path outside."""
    if placed.trash is not None:
        return space.trash, placed.trash
    if placed.staging is not None:
        return space.staging, placed.staging
    return None, placed.path or ""


def is_placed(found: os.stat_result | None, placed: Placed) -> bool:
    """Whether a file is the one that was to come in."""
    return found is not None and (found.st_size, found.st_mtime_ns, found.st_ino) == (
        placed.size,
        placed.modified_ns,
        placed.inode,
    )


def is_moved(found: os.stat_result | None, moved: Moved) -> bool:
    """Whether a file is the one that was to go."""
    if found is None or (found.st_size, found.st_mtime_ns) != (moved.size, moved.modified_ns):
        return False
    return moved.inode in (0, found.st_ino)


def _bring(space: Workspace, placed: Placed, old: Moved | None) -> None:
    disk, root = space.disk, space.root
    if placed.path is not None and placed.staging is not None:
        disk.move_in(Path(placed.path), space.staging, placed.staging)
    folder, name = source_of(space, placed)
    if folder is None:
        disk.move_in(Path(name), root, placed.name)
    elif old is None or root.lstat(placed.name) is None:
        disk.rename(folder, name, root, placed.name)
    elif disk.exchange(folder, name, root, placed.name):
        disk.rename(folder, name, space.trash, old.trash)
    else:
        disk.rename(root, placed.name, space.trash, old.trash)
        disk.rename(folder, name, root, placed.name)


def _swap_back(space: Workspace, placed: Placed, old: Moved, folder: Folder, name: str) -> None:
    """Give the old file its place again; the new one returns to where it came from."""
    root, trash = space.root, space.trash
    there = root.lstat(placed.name)
    if there is None:
        move(space, trash, old.trash, root, placed.name)
        return
    if not is_placed(there, placed):
        # Not brought in yet, or replaced since by somebody else, whose file stays.
        if folder.lstat(name) is not None and not is_placed(folder.lstat(name), placed):
            move(space, folder, name, trash, old.trash)
        return
    move(space, trash, old.trash, folder, name)
    waiting = folder.lstat(name)
    if waiting is None or is_placed(waiting, placed):
        return
    if not space.disk.exchange(folder, name, root, placed.name):
        space.disk.rename(folder, name, trash, old.trash)
        space.disk.rename(root, placed.name, folder, name)
        space.disk.rename(trash, old.trash, root, placed.name)


def _return(space: Workspace, transaction: Transaction, placed: Placed, folder: Folder, name: str) -> None:
    """Return a file to where it came from; to the trash where something else is there by now."""
    try:
        if placed.path is not None:
            space.disk.move_out(folder, name, Path(placed.path))
        else:
            target, old_name = source_of(space, placed)
            assert target is not None
            space.disk.rename(folder, name, target, old_name)
    except OSError as error:
        if error.errno not in _CANNOT_RETURN:
            raise
        space.disk.rename(folder, name, space.trash, trash_name(transaction.id, f"{placed.name}~back"))


def _waiting(folder: Folder | None, name: str) -> bool:
    """Whether a file is still where it comes from, so that it is not what stands in its place."""
    return os.path.lexists(name) if folder is None else folder.lstat(name) is not None


_PAUSE = 0.005


def swap_in(space: Workspace, swap: Swap) -> None:
    """Replace index.json. Raises OSError, and ConflictError where another program wrote a sound one meanwhile."""
    if swap.new is None:
        _take_away(space, swap)
    elif swap.old is None:
        _put_down(space, swap.new)
    else:
        _exchange(space, swap.old, swap.new, swap.old_sha256)


def swapped(space: Workspace, swap: Swap) -> bool:
    """Whether a replacement that was begun is to be finished; one that displaced a sound index is taken back."""
    if swap.new is None:
        return not _waits(space, swap)
    folder, name = source_of(space, swap.new)
    assert folder is not None
    waiting = folder.lstat(name)
    if is_placed(waiting, swap.new):
        return False
    if waiting is not None and is_placed(space.root.lstat(INDEX_NAME), swap.new):
        return not _given_back(space, folder, name, swap)
    return True


def finish_swap(space: Workspace, swap: Swap) -> None:
    """Take to the trash what changed places with the new index and was left there."""
    if swap.new is not None and swap.old is not None:
        folder, name = source_of(space, swap.new)
        assert folder is not None
        if not is_placed(folder.lstat(name), swap.new):
            move(space, folder, name, space.trash, swap.old.trash)


def swap_back(space: Workspace, swap: Swap) -> None:
    """Give back what stood there, where the replacement came no further than to take it away."""
    if swap.old is not None and swap.new is not None:
        move(space, space.trash, swap.old.trash, space.root, INDEX_NAME)


def is_same(folder: Folder, name: str, was: Moved | Placed | None, sha256: str) -> bool:
    """Whether what has a name is what it was: a file by its bytes, anything else by what a rename leaves as it is."""
    found = folder.lstat(name)
    if found is None or was is None:
        return found is None and was is None
    if sha256:
        return stat.S_ISREG(found.st_mode) and hashlib.sha256(folder.read(name)).hexdigest() == sha256
    return (found.st_size, found.st_mtime_ns, found.st_ino) == (was.size, was.modified_ns, was.inode)


def _exchange(space: Workspace, old: Moved, new: Placed, old_sha256: str) -> None:
    disk, root = space.disk, space.root
    folder, name = source_of(space, new)
    assert folder is not None
    if disk.exchange(folder, name, root, INDEX_NAME):
        space.index_changed = True
        time.sleep(SETTLE_SECONDS)
        if _given_back(space, folder, name, Swap(old, new, old_sha256)):
            raise _beaten()
        disk.rename(folder, name, space.trash, old.trash)
    else:
        space.compared_only = True
        disk.rename(root, INDEX_NAME, space.trash, old.trash)
        _put_down(space, new)


def _put_down(space: Workspace, new: Placed) -> None:
    """Put the new index where none is."""
    folder, name = source_of(space, new)
    assert folder is not None
    try:
        space.disk.rename(folder, name, space.root, INDEX_NAME)
    except FileExistsError:
        raise _beaten() from None
    space.index_changed = True


def _take_away(space: Workspace, swap: Swap) -> None:
    """Leave no index: only to undo what had brought in the first one."""
    assert swap.old is not None
    space.disk.rename(space.root, INDEX_NAME, space.trash, swap.old.trash)
    space.index_changed = True
    if _waits(space, swap):
        space.index_changed = False
        raise _beaten()


def _waits(space: Workspace, swap: Swap) -> bool:
    """Whether the index that is to be taken away still stands there; another program's sound one is given back."""
    assert swap.old is not None
    if space.trash.lstat(swap.old.trash) is None:
        return True
    if not _is_foreign(space.trash, swap.old.trash, swap):
        return False
    move(space, space.trash, swap.old.trash, space.root, INDEX_NAME)
    return space.trash.lstat(swap.old.trash) is None


def _given_back(space: Workspace, folder: Folder, name: str, swap: Swap) -> bool:
    """Give a sound index of another program, which was displaced, its place again; False where there was none."""
    if not _is_foreign(folder, name, swap):
        return False
    space.disk.exchange(folder, name, space.root, INDEX_NAME)
    space.index_changed = False
    return True


def _is_foreign(folder: Folder, name: str, swap: Swap) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_same(folder, name, swap.old, swap.old_sha256):
        data = _bytes_of(folder, name)
        if data is not None and judge_index(data) is IndexOutcome.LOADED:
            return True
        if data is None or time.monotonic() >= deadline:
            # Neither what was seen nor an index: it is kept in the trash like that.
            return False
        time.sleep(_PAUSE)
    return False


def _bytes_of(folder: Folder, name: str) -> bytes | None:
    """A regular file's bytes; None for anything else."""
    found = folder.lstat(name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    try:
        return folder.read(name)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


def _beaten() -> ConflictError:
    return ConflictError("index.json was written by another program", hint="look at it again")


def mode_of(root: Folder, name: str) -> int | None:
    """The permission bits of a regular file or directory; None for anything else."""
    found = root.lstat(name)
    if found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return None
    return stat.S_IMODE(found.st_mode)


def set_modes(space: Workspace, modes: Sequence[Mode]) -> None:
    """Change each that still has its old bits."""
    for mode in modes:
        if mode_of(space.root, mode.name) == mode.old:
            space.disk.change_mode(space.root, mode.name, mode.new)


def unset_modes(space: Workspace, modes: Sequence[Mode]) -> None:
    """Change back each that has its new bits."""
    for mode in reversed(modes):
        if mode.new != mode.old and mode_of(space.root, mode.name) == mode.new:
            space.disk.change_mode(space.root, mode.name, mode.old)
