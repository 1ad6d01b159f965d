"""Backups of the index: each distinct sound one that was seen, and each corrupt one, as long as they have room.

They are copies: what they are of stands in the cache or in the trash. They are there for what happens to the index
elsewhere, such as a daemon that starts on a corrupt one and overwrites it with an empty one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .disk import Disk, Folder
from .errors import CacheError, StorageError
from .files import OWN_NAME
from .index import ImageIndex
from .journal import Journal
from .records import Transaction
from .shelf import Copy, Shelf, Step, now
from .verdict import IndexOutcome, examine_index, judge_index

_BACKUPS, _CORRUPT, _JOURNAL = "backups", "corrupt", "journal"
MOST_BACKUPS, MOST_BACKUP_BYTES = 50, 256 << 20
MOST_CORRUPT, MOST_CORRUPT_BYTES = 20, 64 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of an index: its name, when it was made in seconds since the epoch, how many entries it has (0 for a
    corrupt one), its size as it is stored, in bytes, and whether it is the last one before a shrink that no
    transaction explains. ``content`` is the beginning of its sha256, 32 hex digits."""

    name: str
    kept: float
    entries: int
    size: int
    before_shrink: bool
    content: str


def keep_backup(directory: Path, index: ImageIndex | bytes) -> Backup | None:
    """Keep a sound index that was seen; gives the backup that has it, None where it could not be kept.

    That is where there is no room or the directory may not be written, or the bytes are none that the daemon loads.
    """
    found = examine_index(index)[1] if isinstance(index, bytes) else index
    if found is None:
        return None
    try:
        with Folder.open(directory) as root, _made(root, OWN_NAME) as own:
            return keep_in(own, found, now(), by_entries=True)
    except OSError:
        return None


def keep_corrupt(directory: Path, data: bytes) -> Backup | None:
    """Copy aside the bytes of a corrupt index, once; gives the copy, None where it could not be made."""
    if judge_index(data) is IndexOutcome.LOADED:
        return None
    content = hashlib.sha256(data).hexdigest()[:32]
    try:
        with Folder.open(directory) as root, _made(root, OWN_NAME) as own, _made(own, _CORRUPT) as folder:
            shelf = Shelf(folder, MOST_CORRUPT, MOST_CORRUPT_BYTES)
            copies = shelf.copies()
            there = next((copy for copy in copies if copy.content == content), None)
            kept = there or shelf.put(Copy(now(), 0, content, False, 0), data, _no_step)
            if kept is not there:
                shelf.prune()
            return _backup(kept) if kept else None
    except OSError:
        return None


def list_backups(directory: Path) -> list[Backup]:
    """Every backup, newest first. Raises StorageError."""
    return _list(directory, _BACKUPS)


def list_corrupt(directory: Path) -> list[Backup]:
    """Every corrupt index that was copied aside, newest first. Raises StorageError."""
    return _list(directory, _CORRUPT)


def read_backup(directory: Path, backup: Backup) -> bytes:
    """The very bytes of the index. Raises StorageError where they cannot be read, or are not what was kept."""
    return _read(directory, _BACKUPS, backup)


def read_corrupt(directory: Path, backup: Backup) -> bytes:
    """The very bytes of a corrupt index. Raises StorageError where they cannot be read, or are not what was kept."""
    return _read(directory, _CORRUPT, backup)


def keep_in(
    own: Folder, index: ImageIndex, moment: str, step: Step | None = None, *, by_entries: bool = False
) -> Backup | None:
    """Keep an index in a cache's own folder. ``moment`` is when it was seen.

    ``by_entries`` reads the newest backup to see whether entries are gone where their number does not tell: too dear
    for each write. Raises OSError.
    """
    with _made(own, _BACKUPS) as folder:
        shelf = Shelf(folder, MOST_BACKUPS, MOST_BACKUP_BYTES)
        return _keep(own, shelf, index, moment, step or _no_step, by_entries=by_entries)


def _keep(own: Folder, shelf: Shelf, index: ImageIndex, moment: str, step: Step, *, by_entries: bool) -> Backup | None:
    data, copies = index.to_bytes(), shelf.copies()
    content = hashlib.sha256(data).hexdigest()[:32]
    newest = copies[0] if copies else None
    if newest is not None and newest.content == content:
        return _backup(newest)
    if newest is not None and not newest.pinned and _is_before_shrink(own, shelf, newest, index, by_entries=by_entries):
        shelf.rename(newest, newest._replace(pinned=True))
    there = next((copy for copy in copies if copy.content == content), None)
    if there is not None and (again := shelf.rename(there, there._replace(moment=moment))):
        # Seen again: it is the newest now.
        return _backup(again)
    kept = shelf.put(Copy(moment, len(index), content, False, 0), data, step)
    if kept is not None:
        shelf.prune()
    return _backup(kept) if kept else None


def _is_before_shrink(own: Folder, shelf: Shelf, newest: Copy, index: ImageIndex, *, by_entries: bool) -> bool:
    """Whether entries of the newest backup are gone, and no transaction since took them out."""
    if len(index) < newest.entries:
        return len(index) < newest.entries + sum(len(one.added) - len(one.removed) for one in _since(own, newest))
    return by_entries and _lacking(own, shelf, newest, index)


def _lacking(own: Folder, shelf: Shelf, newest: Copy, index: ImageIndex) -> bool:
    """The same where the number of entries tells nothing."""
    try:
        before = examine_index(shelf.read(newest), index)[1]
    except StorageError:
        return False
    if before is None:
        return False
    gone = {one.key for one in before.descriptors} - {one.key for one in index.descriptors}
    if not gone:
        return False
    for transaction in _since(own, newest):
        for removed in transaction.removed:
            with suppress(CacheError):
                gone.discard(removed.descriptor.key)
    return bool(gone)


def _since(own: Folder, copy: Copy) -> list[Transaction]:
    try:
        folder = own.open_folder(_JOURNAL)
    except FileNotFoundError:
        return []
    with folder:
        return list(Journal(Disk(), folder).since(copy.moment))


def _list(directory: Path, name: str) -> list[Backup]:
    try:
        with _opened(directory, name) as shelf:
            return [_backup(copy) for copy in shelf.copies()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot list the backups: {error.strerror}") from error


def _read(directory: Path, name: str, backup: Backup) -> bytes:
    try:
        with _opened(directory, name) as shelf:
            copy = next((copy for copy in shelf.copies() if copy.content == backup.content), None)
            data = shelf.read(copy) if copy else b""
    except OSError as error:
        raise StorageError(f"cannot read the backup {backup.name}: {error.strerror}") from error
    if copy is None:
        raise StorageError(f"the backup {backup.name} is gone", hint="take another one")
    if hashlib.sha256(data).hexdigest()[:32] != backup.content:
        raise StorageError(f"the backup {backup.name} is damaged", hint="take another one")
    return data


@contextmanager
def _opened(directory: Path, name: str) -> Iterator[Shelf]:
    """A shelf for reading only. Raises FileNotFoundError where there is none."""
    with (
        Folder.open(directory) as root,
        root.open_folder(OWN_NAME) as own,
        own.open_folder(name) as folder,
    ):
        yield Shelf(folder, MOST_BACKUPS, MOST_BACKUP_BYTES)


def _made(parent: Folder, name: str) -> Folder:
    """A folder in another, made with the same rights where it is absent; never through a link."""
    if parent.lstat(name) is None:
        try:
            os.mkdir(name, stat.S_IMODE(os.fstat(parent.fd).st_mode) & 0o777, dir_fd=parent.fd)
        except FileExistsError:
            return parent.open_folder(name)
    return parent.open_folder(name)


def _backup(copy: Copy) -> Backup:
    return Backup(copy.name, copy.kept, copy.entries, copy.size, copy.pinned, copy.content)


def _no_step(operation: str, name: str) -> None:
    """Nobody looks on."""
