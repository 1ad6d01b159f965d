"""Backups of the index: each distinct sound one that was seen, and each corrupt one, as long as they have room.

A backup is the very file that a new index was exchanged for, or a copy of one that was seen. Its number is that of the
first transaction that is *not* in it, so that what came since can be told whatever the clock said. They are compressed
when there is time. They are there for what happens to the index elsewhere, such as a daemon that starts on a corrupt
one and overwrites it with an empty one.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from .disk import Disk, Folder, is_trusted
from .errors import CacheError, StorageError
from .files import INDEX_NAME, MOST_INDEX_BYTES, regular_file
from .index import ImageIndex, Key, examine_index
from .journal import RefusedFile
from .own_folder import open_journal, open_own_folder
from .records import Order, Transaction

BACKUPS_NAME, CORRUPT_NAME = "backups", "corrupt"
MOST_BACKUPS, MOST_BACKUP_BYTES = 50, 256 << 20
MOST_CORRUPT, MOST_CORRUPT_BYTES = 20, 64 << 20
MOST_UNCOMPRESSED, MOST_UNCOMPRESSED_BYTES = 8, 128 << 20
"""With more of them a write compresses them once it has let go of the lock."""
BACKUP_VERSION = 2
"""2 since they have a number, and may be as they were, uncompressed; names without a version are of 1."""
LEFT_FREE = 1 << 20
"""Bytes that are left free for the daemon, whose next store else truncates its own index and cannot write it."""
_STALE_SECONDS = 3600.0
_LATEST = 1 << 33  # seconds since the epoch
_PART = ".part"
_MOMENT = "%Y%m%dT%H%M%S%f"
_NAME = re.compile(
    r"(?:(?P<number>\d{6,8})-(?P<ordinal>\d{1,6})-)?(?P<moment>\d{8}T\d{12})-(?P<entries>\d{1,9})-(?P<content>[0-9a-f]{32})(?P<shrunk>\.shrunk)?(?P<stalled>\.stalled)?"
    r"(?P<version>\.v2)?\.json(?P<packed>\.gz)?"
)
_LATER = re.compile(r".*\.v(\d{1,4})\.json(?:\.gz)?")


class Backup(msgspec.Struct, frozen=True):
    """A copy of an index: when it was made in seconds since the epoch, how many entries it has (0 for a corrupt one),
    its size as it is stored, in bytes, and whether it is the last one before a shrink that no transaction explains.
    ``content`` is the beginning of its sha256, 32 hex digits; its file's ``name`` says all but the size.

    ``number`` is that of the first transaction that is not in it (0 in the first version), ``ordinal`` its place among
    equals. ``stalled`` is one that a program still had open to write when it was displaced.
    """

    kept: float
    entries: int
    size: int
    before_shrink: bool
    content: str
    number: int = 0
    ordinal: int = 0
    stalled: bool = False
    compressed: bool = False

    @property
    def name(self) -> str:
        flags = ".shrunk" * self.before_shrink + ".stalled" * self.stalled
        place, version = (f"{self.number:06d}-{self.ordinal}-", f".v{BACKUP_VERSION}") if self.number else ("", "")
        return f"{place}{self._moment}-{self.entries}-{self.content}{flags}{version}.json{'.gz' * self.compressed}"

    @property
    def order(self) -> Order:
        """The place of the first transaction that is not in it, to ask the journal what came since."""
        return self.number, "" if self.number else self._moment

    @property
    def _moment(self) -> str:
        return datetime.fromtimestamp(self.kept, UTC).strftime(_MOMENT)


@lru_cache(1 << 8)
def _parsed(name: str, size: int) -> Backup | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        kept = datetime.fromisoformat(f"{match['moment'][:-6]}.{match['moment'][-6:]}+00:00").timestamp()
    except ValueError:
        return None
    entries, number, ordinal = (int(match[part] or 0) for part in ("entries", "number", "ordinal"))
    shrunk, stalled, packed = (match[part] is not None for part in ("shrunk", "stalled", "packed"))
    found = Backup(kept, entries, size, shrunk, match["content"], number, ordinal, stalled, packed)
    return found if 0 <= kept < _LATEST and found.name == name else None


class Backups:
    """An open folder of copies: the backups, or what is corrupt, of which there is room for less."""

    def __init__(self, folder: Folder, disk: Disk | None = None) -> None:
        self.folder = folder
        self._disk = disk or Disk()
        corrupt = folder.path.name == CORRUPT_NAME
        self._most, self._most_bytes = (
            (MOST_CORRUPT, MOST_CORRUPT_BYTES) if corrupt else (MOST_BACKUPS, MOST_BACKUP_BYTES)
        )
        self._known: list[Backup] | None = None

    def all(self) -> list[Backup]:
        """Every copy, newest first, as the folder was listed since this last changed it."""
        if self._known is None:
            self._known = self.look()
        return self._known

    def look(self) -> list[Backup]:
        """The same as the folder is now."""
        found = []
        for name in self.folder.names():
            there = self.folder.lstat(name) if name.endswith((".json", ".json.gz")) else None
            if there and stat.S_ISREG(there.st_mode) and is_trusted(there) and (one := _parsed(name, there.st_size)):
                found.append(one)
        return _newest_first(found)

    @property
    def crowded(self) -> bool:
        """Whether so many lie as they were that it is time to compress them."""
        loose = [one.size for one in self.all() if not one.compressed and not one.stalled]
        return len(loose) > MOST_UNCOMPRESSED or sum(loose) > MOST_UNCOMPRESSED_BYTES

    def refused(self) -> Iterator[RefusedFile]:
        """What lies here and is no copy of ours, or is another user's, or of a later ocitui."""
        # In this order: a copy that another thread makes meanwhile is known.
        names = sorted(self.folder.names())
        known = {one.name for one in self.look()}
        for name in names:
            found = self.folder.lstat(name)
            if name in known or name.endswith(_PART) or found is None:
                continue
            later = _LATER.fullmatch(name)
            newer = later is not None and int(later[1]) > BACKUP_VERSION
            why = f"it is of version {later[1]}" if newer and later else "it is no backup of ours"
            yield RefusedFile(f"{self.folder.path.name}/{name}", why, newer or not is_trusted(found))

    def read(self, backup: Backup) -> bytes:
        """The bytes that were copied. Raises StorageError where they cannot be read, or are not those any more."""
        try:
            data = self.folder.read(backup.name)
            data = _unpacked(data) if backup.compressed else data
        except (OSError, zlib.error, ValueError) as error:
            raise StorageError(f"the backup {backup.name} cannot be read: {error}", hint="take an older one") from error
        if _content_of(data) != backup.content:
            raise StorageError(f"the backup {backup.name} is damaged", hint="take another one")
        return data

    def placed(self, copy: Backup, number: int) -> Backup:
        """A copy as it is kept now: behind its equals."""
        ordinal = max((one.ordinal for one in self.all() if one.number == number), default=0) + 1
        return replace(copy, number=number, ordinal=ordinal, kept=round(time.time(), 6))

    def new(self, number: int, entries: int, content: str, *, stalled: bool = False) -> Backup:
        """The place of a copy that is made now; it has no file yet."""
        return self.placed(Backup(0.0, entries, 0, False, content, stalled=stalled), number)

    def put(self, backup: Backup, data: bytes, like: os.stat_result | None) -> Backup | None:
        """Make a compressed copy durable, with the mode of ``like``; None where there is no room. Raises OSError."""
        packed = _compressed(data)
        if self.folder.free() < len(packed) + len(data) + LEFT_FREE:
            return None
        backup = replace(backup, compressed=True, size=len(packed))
        part = f"{os.urandom(8).hex()}{_PART}"
        try:
            mode = 0o644 if like is None else stat.S_IMODE(like.st_mode) & 0o666 | stat.S_IRUSR
            self._disk.write_new(self.folder, part, packed, mode=mode)
            self._known = None
            self._disk.replace(self.folder, part, self.folder, backup.name)
            self._disk.sync_folder(self.folder)
        except OSError:
            with suppress(OSError):
                self._disk.unlink(self.folder, part)
            raise
        return backup

    def keep(self, backup: Backup, data: bytes, directory: Path) -> Backup | None:
        """The same, with the mode of the index in a directory; the oldest copies give way."""
        kept = self.put(backup, data, regular_file(directory / INDEX_NAME))
        if kept is not None:
            self.prune()
        return kept

    def take(self, backup: Backup, source: Folder, name: str) -> None:
        """Make a file that lies elsewhere the copy. Raises OSError."""
        known, self._known = self.all(), None
        self._disk.rename(source, name, self.folder, backup.name)
        self._disk.sync_folder(self.folder)
        if found := self.folder.lstat(backup.name):
            self._known = _newest_first([*known, replace(backup, size=found.st_size)])

    def rename(self, backup: Backup, new: Backup) -> Backup | None:
        """Give a copy another place or pin; None where another program has removed or renamed it. Raises OSError."""
        self._known = None
        try:
            self._disk.replace(self.folder, backup.name, self.folder, new.name)
        except FileNotFoundError:
            return None
        return new

    def remove(self, backup: Backup) -> None:
        """Raises OSError."""
        self._known = None
        self._disk.unlink(self.folder, backup.name)

    def prune(self) -> None:
        """Remove the oldest beyond the bounds: never the newest, and never the newest that is pinned."""
        copies = self.all()
        total, count = sum(copy.size for copy in copies), len(copies)
        for copy in self.expendable(copies):
            if count <= self._most and total <= self._most_bytes:
                break
            with suppress(OSError):
                self.remove(copy)
            total, count = total - copy.size, count - 1
        # What a program that died was writing.
        for name in self.folder.names():
            found = self.folder.lstat(name) if name.endswith(_PART) else None
            if found is not None and time.time() - found.st_mtime > _STALE_SECONDS:
                with suppress(OSError):
                    self._disk.unlink(self.folder, name)

    def expendable(self, copies: list[Backup]) -> list[Backup]:
        """What may go, in this order: pinned copies too where they fill half of the folder."""
        pinned = [copy for copy in copies if copy.before_shrink]
        spare = pinned[: max(1, self._most // 2)]
        loose = [copy for copy in copies[1:] if copy not in spare]
        return [*reversed(loose), *(copy for copy in reversed(pinned[1:]) if copy in spare and copy != copies[0])]

    def compress(self) -> None:
        """Compress what lies as it was, as far as there is room. Raises OSError."""
        for backup in self.all():
            if backup.compressed or backup.stalled:
                continue
            try:
                data = self.read(backup)
            except StorageError:
                # Where it is an index all the same, somebody wrote to it after it was displaced: see `late_updates`.
                with suppress(OSError):
                    if examine_index(self.folder.read(backup.name))[1] is not None:
                        self.rename(backup, replace(backup, stalled=True))
                continue
            if self.put(backup, data, self.folder.lstat(backup.name)) is None:
                break
            self.remove(backup)


def _newest_first(copies: list[Backup]) -> list[Backup]:
    return sorted(copies, key=lambda one: (one.order, one.ordinal), reverse=True)


def _content_of(data: bytes) -> str:
    """What the name of a copy says of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def _compressed(data: bytes) -> bytes:
    """Quickly, as a gzip file: 40 MB of an index in a tenth of a second, to a ninth of its size."""
    # Loaded only where something is written.
    from isal import isal_zlib

    packed: bytes = isal_zlib.compress(data, 1, 31)
    return packed


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    found = unpacking.decompress(data, MOST_INDEX_BYTES)
    if not unpacking.eof:
        raise ValueError("it is cut short, or larger than any index")
    return found


def keep_backup(
    directory: Path, index: ImageIndex | bytes, number: int | None = None, disk: Disk | None = None
) -> Backup | None:
    """Keep a sound index that was seen; gives the backup that has it, None where there is no room, the directory may
    not be written, or the daemon loads no such bytes. ``number`` is what `next_number` gave before they were read."""
    found = examine_index(index)[1] if isinstance(index, bytes) else index
    if found is None:
        return None
    with suppress(OSError, CacheError), open_own_folder(directory, BACKUPS_NAME, making=disk or Disk()) as folder:
        number, copies = next_number(directory) if number is None else number, Backups(folder, disk)
        if not number:
            return None
        content = found.sha256[:32]
        there = keep_again(directory, copies, found, content, number, by_entries=True)
        return there or copies.keep(copies.new(number, len(found), content), found.data, directory)
    return None


def keep_corrupt(directory: Path, data: bytes, disk: Disk | None = None) -> Backup | None:
    """Copy aside the bytes of a corrupt index, once; gives the copy, None where it could not be made."""
    content = _content_of(data)
    with suppress(OSError, CacheError), open_own_folder(directory, CORRUPT_NAME, making=disk or Disk()) as folder:
        copies = Backups(folder, disk)
        there = next((copy for copy in copies.all() if copy.content == content), None)
        return there or copies.keep(copies.new(max(1, next_number(directory)), 0, content), data, directory)
    return None


def next_number(directory: Path) -> int:
    """The number under which an index is kept that is read after this: of the first transaction it may lack, as one
    under way may be in it or not. 0 where that is one of the first version, without a number: then none is kept."""
    newest = 0
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        for record in journal.pending():
            return record.order[0]
        newest = journal.newest()
    kept = max((backup.number for backup in list_backups(directory)), default=0)
    return max(newest + 1, kept)


def list_backups(directory: Path) -> list[Backup]:
    """Every backup, newest first. Raises StorageError."""
    return [one for one in _listed(directory) if not one.stalled]


def read_backup(directory: Path, backup: Backup) -> bytes:
    """The very bytes of one of them. Raises StorageError where they cannot be read, or are not what was kept."""
    try:
        with _opened(directory) as copies:
            # It may have been compressed, or renamed, meanwhile.
            there = next((copy for copy in copies.all() if copy.content == backup.content), None)
            if there is not None:
                return copies.read(there)
    except OSError as error:
        raise StorageError(f"cannot read the backup {backup.name}: {error.strerror}") from error
    raise StorageError(f"the backup {backup.name} is gone", hint="take another one")


def late_updates(directory: Path) -> list[tuple[Backup, ImageIndex | None]]:
    """What other programs wrote to an index that they still had open when it was displaced, newest first: as what it
    was kept, and what it holds by now, None where that does not read as an index (yet). Raises StorageError."""
    found = list[tuple[Backup, ImageIndex | None]]()
    for backup in _listed(directory):
        if backup.stalled:
            with suppress(OSError), _opened(directory) as copies:
                data = copies.folder.read(backup.name)
                if _content_of(data) != backup.content:
                    found.append((backup, examine_index(data)[1]))
    return found


def compress_backups(directory: Path, disk: Disk | None = None) -> None:
    """Compress the backups that lie as they were, where there is time and the directory may be written."""
    with suppress(OSError, CacheError), _opened(directory, disk) as copies:
        copies.compress()


def keep_again(
    directory: Path, copies: Backups, index: ImageIndex, content: str, number: int, *, by_entries: bool = False
) -> Backup | None:
    """The backup that has an index already, which is the newest now; None where none has. The one that was is pinned
    where entries of it are gone and no transaction since took them out; ``by_entries`` reads it to see that where their
    number does not tell: too dear for each write. Raises OSError."""
    known = [copy for copy in copies.all() if not copy.stalled]
    if known and known[0].content == content:
        return known[0]
    pinned = not known or known[0].before_shrink
    if not pinned and _is_before_shrink(directory, copies, known[0], index, by_entries=by_entries):
        copies.rename(known[0], replace(known[0], before_shrink=True))
    there = next((copy for copy in known if copy.content == content), None)
    return copies.rename(there, copies.placed(there, number)) if there is not None else None


def _is_before_shrink(directory: Path, copies: Backups, newest: Backup, index: ImageIndex, *, by_entries: bool) -> bool:
    """Whether entries of the newest backup are gone, and no transaction since took them out."""
    if len(index) < newest.entries:
        since = transactions_since(directory, newest)
        return len(index) < newest.entries + sum(len(one.added) - len(one.taken_out) for one in since)
    before: ImageIndex | None = None
    with suppress(StorageError):
        before = examine_index(copies.read(newest), index)[1] if by_entries else None
    if before is None:
        return False
    gone: set[Key] = {*zip(before.digests, before.formats, strict=True)}
    gone -= {*zip(index.digests, index.formats, strict=True)}
    if gone:
        for transaction in transactions_since(directory, newest):
            gone -= {(digest, format_) for digest, format_, _ in transaction.taken_out}
    return bool(gone)


def transactions_since(directory: Path, backup: Backup) -> list[Transaction]:
    """The transactions that are not in a backup, newest first; none where the journal cannot be read."""
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        return journal.since(backup.order)
    return []


def _listed(directory: Path) -> list[Backup]:
    """Every copy, newest first. Raises StorageError."""
    try:
        with _opened(directory) as copies:
            return copies.all()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot list the backups: {error.strerror}") from error


@contextmanager
def _opened(directory: Path, disk: Disk | None = None) -> Iterator[Backups]:
    """The folder of backups, that is there. Raises FileNotFoundError where none is, OSError."""
    with open_own_folder(directory, BACKUPS_NAME) as folder:
        yield Backups(folder, disk)
