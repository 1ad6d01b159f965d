"""A cache's folders, open and locked, for one writer, and the room that is kept for it on a full disk."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from .backups import BACKUPS_NAME, CORRUPT_NAME, LEFT_FREE, Backups
from .disk import NO_ROOM, Disk, Folder, is_trusted
from .errors import ConflictError
from .files import OWN_NAME, check_directory, identity_of
from .index import IndexFile
from .journal import JOURNAL_NAME, Journal, RefusedFile, reason_of
from .own_folder import ASIDE_NAME, LOCK_NAME, enter, hold_lock, open_own_folder
from .records import LARGEST_SEQUENCE, Transaction, order_of

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
            raise ConflictError(
                f"the numbers of transactions are used up: something in .ocitui has {LARGEST_SEQUENCE}",
                hint="find it with ls, and move it out of .ocitui: no cache has had so many transactions",
            )
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
    """Open and lock a cache for writing. Raises LockedError, CacheDirectoryError, OSError, and ConflictError where
    `.ocitui` is not ours."""
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
    sizes = {name: found.get(name, 0) for name in (TRASH_NAME, BACKUPS_NAME, CORRUPT_NAME, ASIDE_NAME)}
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
    """Set aside what may not be acted on, and give what stays all the same: another user's, or a later ocitui's. Large
    records are looked into when they are needed."""
    found = [*_irregular(space.own), *space.journal.refused(_LOOKED_INTO), *space.backups.refused()]
    for refused in found:
        if not refused.stays:
            space.put_aside(refused)
    return [refused for refused in found if refused.stays]
