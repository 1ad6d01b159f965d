"""Backups of the index: each distinct sound one that was seen, and each corrupt one, as long as they have room.

They are copies: what they are of stands in the cache or in the trash. They are there for what happens to the index
elsewhere, such as a daemon that starts on a corrupt one and overwrites it with an empty one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from .disk import Disk, Folder
from .errors import CacheError, StorageError
from .files import OWN_NAME
from .index import ImageIndex, examine_index, judge_index
from .journal import Journal
from .records import Transaction
from .verdict import IndexOutcome

Step = Callable[[str, str], None]

# Left free for the daemon, whose next store else truncates its own index and cannot write it.
_LEFT_FREE = 1 << 20
_STALE_SECONDS = 3600.0
_NAME = re.compile(r"(\d{8}T\d{12})-(\d+)-([0-9a-f]{32})(\.shrunk)?\.json\.gz")


class Copy(NamedTuple):
    """``moment`` sorts by time, ``entries`` is how many an index has, ``content`` 32 hex digits of its sha256;
    ``pinned`` is whether it is the last one before a shrink. ``size`` is compressed, in bytes."""

    moment: str
    entries: int
    content: str
    pinned: bool
    size: int

    @property
    def name(self) -> str:
        return f"{self.moment}-{self.entries}-{self.content}{'.shrunk' if self.pinned else ''}.json.gz"

    @property
    def kept(self) -> float:
        """When it was made, in seconds since the epoch."""
        return datetime.strptime(self.moment, "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC).timestamp()


def now() -> str:
    """This moment, as it begins a transaction's id too."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """An open folder that holds at most ``most`` copies of at most ``most_bytes`` in all."""

    folder: Folder
    most: int
    most_bytes: int

    def copies(self) -> list[Copy]:
        """Every copy, newest first."""
        found = []
        for name in self.folder.names():
            match, there = _NAME.fullmatch(name), self.folder.lstat(name)
            if match and there and stat.S_ISREG(there.st_mode):
                moment, entries, content, pinned = match.groups()
                found.append(Copy(moment, int(entries), content, bool(pinned), there.st_size))
        return sorted(found, reverse=True)

    def read(self, copy: Copy) -> bytes:
        """The bytes that were copied. Raises StorageError where they cannot be read."""
        try:
            return zlib.decompress(self.folder.read(copy.name), wbits=31)
        except (OSError, zlib.error) as error:
            raise StorageError(f"the copy {copy.name} cannot be read: {error}", hint="take an older one") from error

    def put(self, copy: Copy, data: bytes, step: Step) -> Copy | None:
        """Make a copy durable; None where that leaves too little room. Raises OSError."""
        packed = compress(data)
        if self._free() < len(packed) + len(data) + _LEFT_FREE:
            return None
        copy = copy._replace(size=len(packed))
        part = f"{secrets.token_hex(8)}.part"
        try:
            self._write(part, packed, step)
            step("rename", copy.name)
            os.rename(part, copy.name, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        except OSError:
            with suppress(OSError):
                os.unlink(part, dir_fd=self.folder.fd)
            raise
        return copy

    def rename(self, copy: Copy, new: Copy) -> Copy | None:
        """Give a copy another time or pin; None where another program has removed or renamed it. Raises OSError."""
        try:
            os.rename(copy.name, new.name, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        except FileNotFoundError:
            return None
        return new

    def prune(self) -> None:
        """Remove the oldest beyond the bounds: never the newest, and never the newest that is pinned."""
        copies = self.copies()
        total, count = sum(copy.size for copy in copies), len(copies)
        for copy in self._expendable(copies):
            if count <= self.most and total <= self.most_bytes:
                break
            with suppress(OSError):
                os.unlink(copy.name, dir_fd=self.folder.fd)
            total, count = total - copy.size, count - 1
        self._clear_parts()

    def _expendable(self, copies: list[Copy]) -> list[Copy]:
        """What may go, in this order: pinned copies too where they fill half of the folder."""
        pinned = [copy for copy in copies if copy.pinned]
        spare = set(pinned[: max(1, self.most // 2)])
        loose = [copy for copy in copies[1:] if copy not in spare]
        return [*reversed(loose), *(copy for copy in reversed(pinned[1:]) if copy in spare and copy != copies[0])]

    def _write(self, name: str, data: bytes, step: Step) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        step("create", name)
        with open(os.open(name, flags, 0o644, dir_fd=self.folder.fd), "wb", buffering=0) as file:
            step("write", name)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            step("fsync", name)
            os.fsync(file.fileno())

    def _free(self) -> int:
        found = os.fstatvfs(self.folder.fd)
        return found.f_bavail * found.f_frsize

    def _clear_parts(self) -> None:
        """Remove what a program that died was writing."""
        for name in self.folder.names():
            found = self.folder.lstat(name) if name.endswith(".part") else None
            if found is not None and time.time() - found.st_mtime > _STALE_SECONDS:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self.folder.fd)


def compress(data: bytes) -> bytes:
    """Quickly, as a gzip file: 40 MB of an index in a tenth of a second, to a ninth of its size."""
    # Loaded only where something is written.
    from isal import isal_zlib

    packed: bytes = isal_zlib.compress(data, 1, 31)
    return packed


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
    gone = {*zip(before.digests, before.formats, strict=True)} - {*zip(index.digests, index.formats, strict=True)}
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
