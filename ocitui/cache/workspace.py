"""A cache's folders, open and locked, for one writer; the room that is kept for it on a full disk; and a transaction's
files moved into the cache and out of it, modes changed, and all back.

A file that replaces another changes places with it, so that the entry is never without one. Every move looks first at
what is where: it may be made again after a crash, and what another program has put there meanwhile stays.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from .backups import BACKUPS_NAME, CORRUPT_NAME, LEFT_FREE, Backups
from .disk import NO_ROOM, OUTSIDE, Disk, Folder, is_trusted
from .errors import ConflictError
from .files import OWN_NAME, check_directory, identity_of
from .index import IndexFile
from .journal import JOURNAL_NAME, Journal, RefusedFile, reason_of
from .own_folder import ASIDE_NAME, LINES_NAME, LOCK_NAME, enter, hold_lock, open_own_folder
from .records import LARGEST_SEQUENCE, ChangeMode, Moved, Placed, Transaction, order_of, trash_name

TRASH_NAME, STAGING_NAME, RESERVE_NAME = "trash", "staging", "reserve"
_INDEX, _RECORD = "index", "record"
_SMALL = tuple(f"{number:02}" for number in range(32))
_SMALL_SIZE = 1 << 13
_SLACK = 1 << 16
_IMPORTS = "imports"
_LARGEST_RECORD = 1 << 24
_LOOKED_INTO = 1 << 22
_KEPT_OF_NAME = 60  # signs, of four bytes at the most
# The first version's, which may be an index of somebody else and is not written any more.
_OLD_RESERVE = "reserve-"


class Reserve:
    """Files of ours that keep room for a full disk; it is what `Disk` borrows from, and from the backups in the end.
    The folder is None where there was no room for so much as that: what makes room has to work all the same."""

    def __init__(self, disk: Disk, folder: Folder | None, backups: Backups) -> None:
        self._disk = disk
        self._folder = folder
        self._backups = backups

    def lend_file(self, size: int) -> tuple[Folder, str] | None:
        """The smallest file kept aside that can hold ``size`` bytes; the caller moves it away and writes in place."""
        kept = [(self._room(name), name) for name in (*_SMALL, _INDEX, _RECORD)]
        fitting = min((pair for pair in kept if pair[0] >= size), default=None)
        return (self._folder, fitting[1]) if fitting and self._folder else None

    def lend_room(self) -> bool:
        """Free a small file's blocks, or the oldest backup's; False when all that may go is given up."""
        for name in _SMALL:
            if self._folder is not None and self._folder.lstat(name) is not None:
                self._disk.unlink(self._folder, name)
                return True
        for oldest in self._backups.expendable():
            self._backups.remove(oldest)
            return True
        return False

    def refill(self, index_size: int) -> bool:
        """Make the files as large as they should be, as far as there is room; gives whether they all are."""
        record = min(2 * index_size + _SLACK, _LARGEST_RECORD)
        wanted = [(name, _SMALL_SIZE) for name in _SMALL] + [(_INDEX, index_size + _SLACK), (_RECORD, record)]
        whole = True
        for name, size in wanted:
            missing = size - self._room(name)
            # As the index grows the reserve follows from time to time, not at each store.
            if missing > min(_SLACK, size) // 2:
                whole &= self._allocate(name, size, missing + LEFT_FREE + index_size)
        return whole

    def _room(self, name: str) -> int:
        """How many bytes can be written to a file without a new block; none of a file that is not ours alone."""
        found = self._folder.lstat(name) if self._folder else None
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or not is_trusted(found):
            return 0
        return min(found.st_size, found.st_blocks * 512)

    def _allocate(self, name: str, size: int, least_free: int) -> bool:
        """Whether it could be had; that it could not is no reason to fail what was asked for."""
        if self._folder is None or self._folder.free() <= least_free:
            return False
        try:
            if self._folder.lstat(name) is not None and not self._room(name):
                self._disk.remove(self._folder, name)
            self._disk.allocate(self._folder, name, size)
        except OSError:
            return False
        return True


class Workspace(msgspec.Struct):
    """``root`` is the cache directory; the others are ours, in `.ocitui` inside it.

    ``read_index`` gives the index as it is now, and raises CorruptIndexError where the daemon would not load it.
    ``index_changed`` is whether an index was written here; ``published`` is the last one, with the signature by which
    its file is known again, None where somebody else is in it. ``notes`` are what there is to know of how it was done,
    ``recovered`` what a program that died had left, ``set_aside`` what lay in `.ocitui` and may not be acted on.
    """

    directory: Path
    root: Folder
    own: Folder
    trash: Folder
    staging: Folder
    backups: Backups
    journal: Journal
    disk: Disk
    reserve: Reserve
    read_index: Callable[[], IndexFile]
    published: IndexFile | None = None
    index_changed: bool = False
    notes: list[str] = []
    recovered: list[Transaction] = []
    set_aside: list[RefusedFile] = []

    def next_sequence(self) -> int:
        """The number of a new transaction: greater than any that is known here. Raises ConflictError."""
        newest = self.journal.newest()
        if not newest:
            # The journal may have been lost; names in the trash begin with the ids of their transactions.
            trashed = (order_of(name.partition("~")[0].partition(".")[0])[0] for name in self.trash.names())
            newest = max(trashed, default=0)
        with suppress(FileNotFoundError, ConflictError), enter(self.own, ASIDE_NAME) as folder:
            newest = max([newest, *(order_of(name.partition(".")[0])[0] for name in folder.names())])
        kept = max((backup.number for backup in self.backups.all()), default=0)
        following = max(newest + 1, kept)
        if following > LARGEST_SEQUENCE:
            told = f"the numbers of transactions are used up: something in .ocitui has {LARGEST_SEQUENCE}"
            hint = "find it with ls, and move it out of .ocitui: no cache has had so many transactions"
            raise ConflictError(told, hint=hint)
        return following

    def put_aside(self, refused: RefusedFile) -> None:
        """Move what may not be acted on out of a folder of ours; it is told once."""
        _put_aside(self.own, self.disk, refused)
        self.journal.look_again()
        self.set_aside.append(refused)


def _put_aside(own: Folder, disk: Disk, refused: RefusedFile) -> None:
    place, _, name = refused.path.rpartition("/")
    with enter(own, ASIDE_NAME, disk) as aside, enter(own, place or ".") as folder:
        try:
            disk.rename(folder, name, aside, name)
        except FileExistsError:
            disk.rename(folder, name, aside, f"{name[:_KEPT_OF_NAME]}~{secrets.token_hex(4)}")


@contextmanager
def open_workspace(directory: Path, disk: Disk, doing: str, read_index: Callable[[], IndexFile]) -> Iterator[Workspace]:
    """Open and lock a cache for writing. Raises LockedError, CacheDirectoryError, OSError, ConflictError."""
    check_directory(directory)
    with ExitStack() as stack:
        root = stack.enter_context(Folder.open(directory))
        own = stack.enter_context(enter(root, OWN_NAME, disk))
        stack.enter_context(hold_lock(own, disk, doing))
        for name in own.names():
            if name.startswith(_OLD_RESERVE):
                disk.unlink(own, name)
        names = (JOURNAL_NAME, TRASH_NAME, STAGING_NAME, BACKUPS_NAME)
        in_the_way = [one for one in _irregular(own) if one.path in (*names, RESERVE_NAME) and not one.stays]
        for refused in in_the_way:
            _put_aside(own, disk, refused)
        if sum([*(disk.make_folder(own, name) for name in names), _make_reserve(own, disk)]):
            disk.sync_folder(own)
        journal, trash, staging, backups = (stack.enter_context(enter(own, name)) for name in names)
        kept = stack.enter_context(enter(own, RESERVE_NAME)) if own.lstat(RESERVE_NAME) is not None else None
        copies = Backups(backups, disk)
        disk.lender = reserve = Reserve(disk, kept, copies)
        stack.callback(setattr, disk, "lender", None)
        # What is in these came out of the cache, and is whose it was there.
        trash.guarded = staging.guarded = False
        records = Journal(disk, journal)
        yield Workspace(
            directory, root, own, trash, staging, copies, records, disk, reserve, read_index, set_aside=in_the_way
        )


def _make_reserve(own: Folder, disk: Disk) -> bool:
    """The reserve's folder, as far as there is room for it; gives whether it was made."""
    try:
        return disk.make_folder(own, RESERVE_NAME)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return False


def what_frees(directory: Path) -> str:
    """What to remove first where the disk is full: the most of what is ocitui's that may go, and how."""
    own, found = directory / OWN_NAME, sizes_in_own_folder(directory)
    sizes = {name: found.get(name, 0) for name in (TRASH_NAME, BACKUPS_NAME, CORRUPT_NAME, ASIDE_NAME, LINES_NAME)}
    sizes[_IMPORTS] = sum(found.get(name, 0) for name in ("import", "blobs"))
    name, size = max(sizes.items(), key=lambda one: one[1])
    if size < _SLACK:
        return f"remove something else from this file system: what ocitui keeps there are {size} bytes at the most"
    return {
        TRASH_NAME: f"the trash holds {size} bytes: `ocitui trash empty` removes them for good",
        _IMPORTS: f"imports keep {size} bytes that they downloaded: `ocitui imports --clear` removes them",
    }.get(name, f"{own / name} holds {size} bytes: remove the oldest of what lies there")


def trash_identity(directory: Path) -> object:
    """Changes with what lies in the trash. Costs microseconds."""
    return tuple(identity_of(directory / OWN_NAME / name) for name in (TRASH_NAME, JOURNAL_NAME))


def sizes_in_own_folder(directory: Path, *names: str) -> dict[str, int]:
    """The bytes of what lies in `.ocitui`, or of these folders in it, by name; of what cannot be read, nothing."""
    with suppress(OSError, ConflictError), open_own_folder(directory) as own:
        return {name: own.size(name) for name in names or own.names()}
    return {}


def refused_files(directory: Path) -> list[RefusedFile]:
    """What lies in `.ocitui` and is not acted on, and why; what cannot be read too."""
    refused: list[RefusedFile] = []
    with _telling(refused, ""), open_own_folder(directory) as own:
        refused += _irregular(own)
        for name in (JOURNAL_NAME, BACKUPS_NAME, CORRUPT_NAME):
            with _telling(refused, name), enter(own, name) as folder:
                refused += Journal(Disk(), folder).refused() if name == JOURNAL_NAME else Backups(folder).refused()
    return refused


@contextmanager
def _telling(refused: list[RefusedFile], name: str) -> Iterator[None]:
    """Tell of a folder that is there and cannot be read."""
    try:
        yield
    except FileNotFoundError:
        pass
    except (OSError, ConflictError) as error:
        refused.append(RefusedFile(name, reason_of(error), True))


def _irregular(own: Folder) -> Iterator[RefusedFile]:
    """What stands directly in `.ocitui` where there can only be files of ours."""
    for name in sorted(own.names()):
        found = own.lstat(name)
        if found is None or stat.S_ISDIR(found.st_mode):
            continue
        if not is_trusted(found):
            yield RefusedFile(name, "it is another user's", True)
        elif not stat.S_ISREG(found.st_mode):
            yield RefusedFile(name, "it is not a regular file", name == LOCK_NAME)


def set_aside_refused(space: Workspace) -> list[RefusedFile]:
    """Set aside what may not be acted on; gives what stays: another user's, a later ocitui's. Large records wait."""
    found = [*_irregular(space.own), *space.journal.refused(_LOOKED_INTO), *space.backups.refused()]
    for refused in found:
        if not refused.stays:
            space.put_aside(refused)
    return [refused for refused in found if refused.stays]


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
    """Return a file to where it came from, durably, before anything takes its place; to the trash if it cannot."""
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
