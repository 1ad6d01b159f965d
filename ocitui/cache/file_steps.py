"""A transaction's files moved into the cache and out of it, modes changed; and all back.

A file that replaces another changes places with it, so that the entry is never without one. Every move looks first at
what is where: it may be made again after a crash, and what another program has put there meanwhile stays.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from .disk import OUTSIDE, Folder
from .records import ChangeMode, Moved, Placed, Transaction, trash_name
from .workspace import Workspace

_CANNOT_RETURN = (errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)


def bring_in(space: Workspace, transaction: Transaction) -> None:
    """Put every file in its place; what stood there goes to the trash."""
    giving_way = {moved.name: moved for moved in transaction.displaced}
    for placed in transaction.placed:
        _bring(space, placed, giving_way.get(placed.name))
    if transaction.placed:
        space.disk.sync_folder(space.root)
    if transaction.displaced:
        space.disk.sync_folder(space.trash)


def send_back(space: Workspace, transaction: Transaction, *, ours: bool) -> None:
    """The reverse of `bring_in`, however far that came. What came from a path outside returns there only where the
    transaction is ``ours``, of this very call: a record's path is not acted on, and such a file goes to the trash."""
    giving_way = {moved.name: moved for moved in transaction.displaced}
    for placed in reversed(transaction.placed):
        old, (folder, name) = giving_way.get(placed.name), source_of(space, placed)
        if old is not None and folder is not OUTSIDE:
            _swap_back(space, placed, old, folder, name)
        else:
            there, waiting = space.root.lstat(placed.name), folder.lstat(name) if folder is not OUTSIDE else None
            if waiting is None and placed.matches(there):
                _return(space, transaction, placed, space.root, placed.name, ours=ours)
            elif there is not None and waiting is not None and is_half_moved(there, waiting):
                space.disk.unlink(space.root, placed.name)
        if placed.path is not None and placed.staging is not None and space.staging.lstat(placed.staging) is not None:
            _return(space, transaction, placed, space.staging, placed.staging, ours=ours)


def move(space: Workspace, source: Folder, name: str, target: Folder, new_name: str) -> None:
    """Move a file that is there to a place that is free; anything else was done before, or is no longer ours to do."""
    found, there = source.lstat(name), target.lstat(new_name)
    if found is None:
        return
    if there is None:
        space.disk.rename(source, name, target, new_name)
    elif is_half_moved(found, there):
        space.disk.unlink(source, name)


def is_half_moved(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two names are of one file: of a move that a disk forgot the half of."""
    return os.path.samestat(one, other) and one.st_nlink > 1


def source_of(space: Workspace, placed: Placed) -> tuple[Folder, str]:
    """The folder that a file comes from, and its name there."""
    if placed.trash is not None:
        return space.trash, placed.trash
    return (OUTSIDE, placed.path or "") if placed.staging is None else (space.staging, placed.staging)


def _bring(space: Workspace, placed: Placed, old: Moved | None) -> None:
    disk, root = space.disk, space.root
    if placed.path is not None and placed.staging is not None:
        disk.rename(OUTSIDE, placed.path, space.staging, placed.staging)
    folder, name = source_of(space, placed)
    if old is None or folder is OUTSIDE or root.lstat(placed.name) is None:
        disk.rename(folder, name, root, placed.name)
    elif disk.exchange(folder, name, root, placed.name):
        disk.rename(folder, name, space.trash, old.trash)
    else:
        disk.rename(root, placed.name, space.trash, old.trash)
        # Such a file system may also forget one half of a move.
        disk.sync_folder(space.trash)
        disk.rename(folder, name, root, placed.name)


def _swap_back(space: Workspace, placed: Placed, old: Moved, folder: Folder, name: str) -> None:
    """Give the old file its place again; the new one returns to where it came from."""
    root, trash = space.root, space.trash
    there, waiting = root.lstat(placed.name), folder.lstat(name)
    if there is not None and waiting is not None and is_half_moved(there, waiting):
        space.disk.unlink(root, placed.name)
        there = None
    if there is None:
        if not placed.matches(waiting):
            # They had changed places, and the new one is gone since: the staging folder is emptied after this.
            move(space, folder, name, root, placed.name)
        move(space, trash, old.trash, root, placed.name)
        return
    if not placed.matches(there):
        # Not brought in yet, or replaced since by somebody else, whose file stays.
        if not placed.matches(waiting):
            move(space, folder, name, trash, old.trash)
        return
    move(space, trash, old.trash, folder, name)
    waiting = folder.lstat(name)
    if waiting is None or placed.matches(waiting):
        return
    if not space.disk.exchange(folder, name, root, placed.name):
        space.disk.rename(folder, name, trash, old.trash)
        space.disk.rename(root, placed.name, folder, name)
        space.disk.sync_folder(folder)
        space.disk.rename(trash, old.trash, root, placed.name)


def _return(
    space: Workspace, transaction: Transaction, placed: Placed, folder: Folder, name: str, *, ours: bool
) -> None:
    """Return a file to where it came from, durably before anything takes its place; to the trash where something else
    is there by now, or that is outside."""
    disk = space.disk
    try:
        if placed.path is None:
            target, old_name = source_of(space, placed)
            disk.rename(folder, name, target, old_name)
            return disk.sync_folder(target)
        if ours:
            disk.rename(folder, name, OUTSIDE, placed.path)
            with Folder.open(Path(placed.path).parent) as outside:
                return disk.sync_folder(outside)
    except OSError as error:
        if error.errno not in _CANNOT_RETURN:
            raise
    usual = trash_name(transaction.id, placed.name)
    taken = space.trash.lstat(usual) is not None
    disk.rename(folder, name, space.trash, trash_name(transaction.id, f"{placed.name}~back") if taken else usual)
    return disk.sync_folder(space.trash)


def mode_of(root: Folder, name: str) -> int | None:
    """The permission bits of a regular file or directory; None for anything else."""
    found = root.lstat(name)
    if found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return None
    return stat.S_IMODE(found.st_mode)


def set_modes(space: Workspace, modes: Iterable[ChangeMode]) -> None:
    """Change each that still has its old bits."""
    for mode in modes:
        if mode.new != mode.old and mode_of(space.root, mode.name) == mode.old:
            space.disk.change_mode(space.root, mode.name, mode.new)
