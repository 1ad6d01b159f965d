"""Backups of the index: each sound one that was seen, and each corrupt one, as long as they have room.

A backup is the very file that a new index was exchanged for, or a copy of one that was seen. Its number is that of the
first transaction that is *not* in it, so that what came since can be told whatever the clock said. They are there for
what happens to the index elsewhere, such as a daemon that starts on a corrupt one and overwrites it with an empty one.

The newest stays whole, as do the last ones before a shrink. When there is time the others are folded into chains (see
`differences`): a chain with them in it is durable before they go, so that a power cut leaves both, which count once.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from zlib import error as ZlibError

import msgspec
from msgspec.structs import replace

from .differences import IndexChain, compressed, linked, unpacked
from .disk import Disk, Folder, is_trusted
from .errors import CacheError, StorageError
from .files import INDEX_NAME, Key, regular_file
from .index import ImageIndex, examine_index
from .journal import RefusedFile
from .own_folder import enter, open_journal, open_own_folder, taking_turns
from .records import LARGEST_SEQUENCE, Order, Transaction

BACKUPS_NAME, CORRUPT_NAME = "backups", "corrupt"
MOST_BACKUPS, MOST_BACKUP_BYTES = 50, 256 << 20
"""How many files there are of one each, should they not be folded; and what all take, those of chains included."""
MOST_CORRUPT, MOST_CORRUPT_BYTES = 20, 64 << 20
MOST_LOOSE, MOST_LOOSE_BYTES, MOST_PINNED = 8, 128 << 20, 8
"""With more loose ones a write folds them once it has let go of the lock; of pinned ones so many are never loose."""
MOST_CHAINED, MOST_CHAIN_BYTES = 256, 16 << 20
"""A chain of fewer, and smaller, takes more: it is written anew for that."""
BACKUP_VERSION, CHAIN_VERSION = 2, 3
"""2 since they have a number, and may be as they were, uncompressed; names without a version are of 1. 3 are chains."""
LEFT_FREE = 1 << 20
"""Bytes that are left free for the daemon, whose next store else truncates its own index and cannot write it."""
_STALE_SECONDS = 3600.0
_LATEST = 1 << 33  # seconds since the epoch
_PART = ".part"
_MOST_LOOKS = 8
_MOMENT = "%Y%m%dT%H%M%S%f"
_NAME = re.compile(
    r"(?:(?P<number>\d{6,8})-(?P<ordinal>\d{1,6})-)?(?P<moment>\d{8}T\d{12})-(?P<entries>\d{1,9})-(?P<content>[0-9a-f]{32})(?P<shrunk>\.shrunk)?(?P<stalled>\.stalled)?"
    r"(?P<version>\.v[23])?\.json(?P<packed>\.gz)?"
)
_LATER = re.compile(r".*\.v(\d{1,4})\.json(?:\.gz)?")


class Backup(msgspec.Struct, frozen=True):
    """A copy of an index: when that was seen in seconds since the epoch, how many entries it has (0 for a corrupt one),
    its size as it is stored, in bytes, and whether it is the last one before a shrink that no transaction explains.
    ``content`` is the beginning of its sha256, 32 hex digits; its file's ``name`` says all but the size.

    ``number`` is that of the first transaction that is not in it (0 in the first version), ``ordinal`` its place among
    equals. ``stalled`` is one that a program still had open to write when it was displaced. ``chain`` is the file that
    has it as a difference, ``at`` its place in there; empty where it is a file of its own. What is ``chained`` is such
    a file: the number is one among chains, the ordinal how many it has, and all else that of the one it began with.
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
    chained: bool = False
    chain: str = ""
    at: int = 0

    @property
    def name(self) -> str:
        flags = ".shrunk" * self.before_shrink + ".stalled" * self.stalled
        version = f".v{CHAIN_VERSION if self.chained else BACKUP_VERSION}" * bool(self.number)
        place = f"{self.number:06d}-{self.ordinal}-" * bool(self.number)
        return f"{place}{self._moment}-{self.entries}-{self.content}{flags}{version}.json{'.gz' * self.compressed}"

    @property
    def order(self) -> Order:
        """The place of the first transaction that is not in it, to ask the journal what came since."""
        return self.number, "" if self.number else self._moment

    @property
    def _moment(self) -> str:
        return datetime.fromtimestamp(self.kept, UTC).strftime(_MOMENT)


@lru_cache(1 << 14)
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
    chained = match["version"] == f".v{CHAIN_VERSION}"
    found = Backup(kept, entries, size, shrunk, match["content"], number, ordinal, stalled, packed, chained)
    return found if 0 <= kept < _LATEST and found.name == name else None


class Backups:
    """An open folder of copies: the backups, or what is corrupt, of which there is room for less, and no chain."""

    def __init__(self, folder: Folder, disk: Disk | None = None) -> None:
        self.folder = folder
        self._disk = disk or Disk()
        bounds = {CORRUPT_NAME: (MOST_CORRUPT, MOST_CORRUPT_BYTES)}
        self._most, self._most_bytes = bounds.get(folder.path.name, (MOST_BACKUPS, MOST_BACKUP_BYTES))
        self._known: list[Backup] | None = None
        self._chain: IndexChain | None = None
        self.lost = 0
        """How many backups chains had that cannot be told any more, as `everything` found it."""

    def all(self) -> list[Backup]:
        """Every copy that is a file of its own, newest first, as the folder was listed since this last changed it."""
        return [one for one in self._listed() if not one.chained]

    def chains(self) -> list[Backup]:
        """The chains, newest first."""
        return [one for one in self._listed() if one.chained]

    def _listed(self) -> list[Backup]:
        if self._known is None:
            self._known = self.look()
        return self._known

    def everything(self, least: int = 1 << 62) -> list[Backup]:
        """Every copy and all that chains have, newest first; of these at ``least`` the newest, where there are more."""
        found, self.lost = [*self.all()], 0
        for file in self.chains():
            if len(found) >= least:
                break
            try:
                links = IndexChain(self.folder, file.name).links
            except FileNotFoundError:
                # Another program made a longer one of it.
                self._known = None
                return self.everything(least)
            except OSError:
                links = []
            told = [(at, _parsed(link.name, link.length)) for at, link in enumerate(links)]
            found += [replace(one, chain=file.name, at=at) for at, one in told if one]
            self.lost += max(0, file.ordinal - len(links))
        once = {(one.kept, one.number, one.ordinal, one.content): one for one in reversed(found)}
        return _newest_first([*once.values()])

    def look(self) -> list[Backup]:
        """The copies and the chains as the folder is now."""
        stats = dict[str, os.stat_result | None]()
        for _ in range(_MOST_LOOKS):
            names = self.folder.names()
            stats = {name: self.folder.lstat(name) for name in names if name.endswith((".json", ".json.gz"))}
            if None not in stats.values():
                break
            # Another program folded or renamed one meanwhile: what it is in by now may be none of these names.
        found = list[Backup]()
        for name, there in stats.items():
            if there and stat.S_ISREG(there.st_mode) and is_trusted(there) and (one := _parsed(name, there.st_size)):
                found.append(one)
        return _newest_first(found)

    def _apart(self) -> tuple[list[Backup], list[Backup]]:
        """The copies that are pinned, and the others but the newest that is sound, newest first."""
        pinned = [one for one in self.all() if one.before_shrink][:MOST_PINNED]
        newest = next((one for one in self.all() if not one.stalled), None)
        return pinned, [one for one in self.all() if one not in (newest, *pinned)]

    @property
    def crowded(self) -> bool:
        """Whether there are so many that it is time to fold them."""
        loose = [one.size for one in self._apart()[1] if not one.stalled]
        return len(loose) > MOST_LOOSE or sum(loose) > MOST_LOOSE_BYTES

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
            newer = later is not None and int(later[1]) > CHAIN_VERSION
            why = f"it is of version {later[1]}" if newer and later else "it is no backup of ours"
            yield RefusedFile(f"{self.folder.path.name}/{name}", why, newer or not is_trusted(found))

    def read(self, backup: Backup) -> bytes:
        """The bytes that were copied. Raises StorageError where they cannot be read, or are not those any more."""
        try:
            data = self._bytes(backup)
        except FileNotFoundError:
            # It was compressed, renamed or folded meanwhile, if it is not gone.
            self._known = None
            for there in self.everything():
                if there.content == backup.content:
                    return self.read(there)
            raise StorageError(f"the backup {backup.name} is gone", hint="take another one") from None
        except (OSError, ZlibError, ValueError) as error:
            raise StorageError(f"the backup {backup.name} cannot be read: {error}", hint="take an older one") from error
        if _content_of(data) != backup.content:
            raise StorageError(f"the backup {backup.name} is damaged", hint="take another one")
        return data

    def _bytes(self, backup: Backup) -> bytes:
        if not backup.chain:
            data = self.folder.read(backup.name)
            return unpacked(data) if backup.compressed else data
        if self._chain is None or self._chain.name != backup.chain:
            self._chain = IndexChain(self.folder, backup.chain)
        return self._chain.data(backup.at)

    def new(self, number: int, entries: int, content: str, *, stalled: bool = False) -> Backup:
        """The place of a copy that is made now, behind its equals; it has no file yet."""
        ordinal = max((one.ordinal for one in self.all() if one.number == number), default=0) + 1
        return Backup(round(time.time(), 6), entries, 0, False, content, number, ordinal, stalled)

    def put(self, backup: Backup, data: bytes, like: os.stat_result | None) -> Backup | None:
        """Make a compressed copy durable, with the mode of ``like``; None where there is no room. Raises OSError."""
        packed = compressed(data)
        backup = replace(backup, compressed=True, size=len(packed))
        mode = 0o644 if like is None else like.st_mode
        return backup if self._written(backup.name, packed, mode, len(data)) else None

    def _written(self, name: str, packed: bytes, mode: int, index_size: int) -> bool:
        """Make a file durable; False where the daemon would then have no room to store its index. Raises OSError."""
        if self.folder.free() < len(packed) + index_size + LEFT_FREE:
            return False
        part = f"{os.urandom(8).hex()}{_PART}"
        try:
            self._disk.write_new(self.folder, part, packed, mode=stat.S_IMODE(mode) & 0o666 | stat.S_IRUSR)
            self._known = None
            self._disk.replace(self.folder, part, self.folder, name)
            self._disk.sync_folder(self.folder)
        except OSError:
            with suppress(OSError):
                self._disk.unlink(self.folder, part)
            raise
        return True

    def keep(self, backup: Backup, data: bytes, directory: Path) -> Backup | None:
        """The same, with the mode of the index in a directory; the oldest copies give way."""
        kept = self.put(backup, data, regular_file(directory / INDEX_NAME))
        if kept is not None:
            self.prune()
        return kept

    def take(self, backup: Backup, source: Folder, name: str) -> None:
        """Make a file that lies elsewhere the copy. Raises OSError."""
        known, self._known = self._listed(), None
        self._disk.rename(source, name, self.folder, backup.name)
        self._disk.sync_folder(self.folder)
        if found := self.folder.lstat(backup.name):
            self._known = _newest_first([*known, replace(backup, size=found.st_size)])

    def rename(self, backup: Backup, new: Backup) -> None:
        """Pin a copy, or note that it is stalled, unless another program has removed or renamed it. Raises OSError."""
        self._known = None
        with suppress(FileNotFoundError):
            self._disk.replace(self.folder, backup.name, self.folder, new.name)

    def remove(self, backup: Backup) -> None:
        """Raises OSError."""
        self._known = None
        self._disk.unlink(self.folder, backup.name)

    def prune(self) -> None:
        """Remove the oldest beyond the bounds: never the newest, and never the newest that is pinned."""
        total, count = sum(one.size for one in self._listed()), len(self.all())
        for one in self.expendable():
            if total > self._most_bytes or (count > self._most and not one.chained):
                with suppress(OSError):
                    self.remove(one)
                total, count = total - one.size, count - (not one.chained)
        # What a program that died was writing.
        for name in self.folder.names():
            found = self.folder.lstat(name) if name.endswith(_PART) else None
            if found is not None and time.time() - found.st_mtime > _STALE_SECONDS:
                with suppress(OSError):
                    self._disk.unlink(self.folder, name)

    def expendable(self) -> list[Backup]:
        """What may go, in this order: the chains, copies that are not pinned, then all of them but the newest."""
        pinned, loose = self._apart()
        return [*reversed(self.chains()), *reversed(loose), *reversed(pinned[1:])]

    def fold(self) -> None:
        """Put copies into a chain as far as there is room, and compress the others; in turn. Raises OSError."""
        going, parts, before = list[Backup](), list[bytes](), b""
        for backup in self._apart()[1]:
            if (data := self._sound(backup)) is not None:
                going.append(backup)
                parts.append(linked(replace(backup, compressed=False).name, data, before))
                before = data
        if going:
            last = next(iter(self.chains()), Backup(0.0, 0, 0, False, ""))
            number = min(last.number + 1, LARGEST_SEQUENCE)
            new = replace(going[-1], number=number, ordinal=len(going), chained=True)
            if rest := self._rest(last, before):
                new = replace(last, ordinal=last.ordinal + len(going))
                going.append(last)
                parts += rest
            mode = 0o666
            for one in going:
                mode &= found.st_mode if (found := self.folder.lstat(one.name)) else 0
            if not self._written(new.name, b"".join(parts), mode, len(before)):
                return
            for one in going:
                with suppress(OSError):
                    self.remove(one)
        for backup in self.all()[1:]:
            if not backup.compressed and (data := self._sound(backup)) is not None:
                if self.put(backup, data, self.folder.lstat(backup.name)) is None:
                    break
                self.remove(backup)
        self.prune()

    def _rest(self, last: Backup, before: bytes) -> list[bytes]:
        """What is in a chain, as it stands behind another index; none where it is full, or that cannot be told."""
        with suppress(OSError, StorageError, ValueError):
            if 0 < last.ordinal < MOST_CHAINED and last.size < MOST_CHAIN_BYTES:
                first, *others = IndexChain(self.folder, last.name).links
                if len(others) == last.ordinal - 1 and (newest := _parsed(first.name, 0)):
                    whole = linked(first.name, self.read(replace(newest, chain=last.name)), before)
                    return [whole, self.folder.read(last.name)[first.start + first.length :]]
        return []

    def _sound(self, backup: Backup) -> bytes | None:
        """The bytes of a copy; None where they are others by now."""
        with suppress(StorageError):
            return None if backup.stalled else self.read(backup)
        # Where it is an index all the same, somebody wrote to it after it was displaced: see `late_updates`.
        with suppress(OSError):
            if not backup.compressed and examine_index(self.folder.read(backup.name))[1] is not None:
                self.rename(backup, replace(backup, stalled=True))
        return None


def _newest_first(copies: list[Backup]) -> list[Backup]:
    return sorted(copies, key=lambda one: (one.order, one.ordinal), reverse=True)


def _content_of(data: bytes) -> str:
    """What the name of a copy says of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def keep_backup(
    directory: Path,
    index: ImageIndex | bytes,
    number: int | None = None,
    disk: Disk | None = None,
    *,
    since: float = 0.0,
) -> Backup | None:
    """Keep a sound index that was seen; gives the backup that has it, None where none could be made. ``number`` is what
    `next_number` gave before it was read. What was seen before ``since``, in seconds since the epoch, is kept once
    more. Who has the lock gives a ``disk``, and folds later."""
    found = examine_index(index)[1] if isinstance(index, bytes) else index
    if found is None:
        return None
    with suppress(OSError, CacheError), open_own_folder(directory, BACKUPS_NAME, making=disk or Disk()) as folder:
        number, copies = next_number(directory) if number is None else number, Backups(folder, disk)
        if not number:
            return None
        content = found.sha256[:32]
        there = newest_with(directory, copies, found, content, by_entries=True)
        there = there if there is not None and there.kept > since else None
        kept = there or copies.keep(copies.new(number, len(found), content), found.data, directory)
        if disk is None and copies.crowded:
            fold_backups(directory)
        return kept
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
    """The last backups, newest first, and those before that are files of their own. Raises StorageError."""
    last = enumerate(one for one in _listed(directory) if not one.stalled)
    return [one for at, one in last if at < MOST_BACKUPS or not one.chain]


def read_backup(directory: Path, backup: Backup) -> bytes:
    """The very bytes of one of them. Raises StorageError where they cannot be read, or are not what was kept."""
    try:
        with open_backups(directory) as copies:
            return copies.read(backup)
    except FileNotFoundError:
        raise StorageError(f"the backup {backup.name} is gone", hint="take another one") from None
    except OSError as error:
        raise StorageError(f"cannot read the backup {backup.name}: {error.strerror}") from error


def read_backups(directory: Path, backups: Iterable[Backup]) -> Iterator[ImageIndex | None]:
    """The indexes of these in turn, each read quicker where it is much like the last; None where one cannot be read."""
    last: ImageIndex | None = None
    with suppress(OSError), open_backups(directory) as copies:
        for backup in backups:
            found: ImageIndex | None = None
            with suppress(StorageError):
                last = found = examine_index(copies.read(backup), last)[1]
            yield found


def late_updates(directory: Path) -> list[tuple[Backup, ImageIndex | None]]:
    """What other programs wrote to an index that they still had open when it was displaced, newest first: as what it
    was kept, and what it holds by now, None where that does not read as an index (yet). Raises StorageError."""
    found = list[tuple[Backup, ImageIndex | None]]()
    for backup in _listed(directory):
        if backup.stalled:
            with suppress(OSError), open_backups(directory) as copies:
                if _content_of(data := copies.folder.read(backup.name)) != backup.content:
                    found.append((backup, examine_index(data)[1]))
    return found


def fold_backups(directory: Path, disk: Disk | None = None) -> None:
    """Fold the backups that need not be files of their own, where there is time and the directory may be written."""
    disk, turn = disk or Disk(), f"{BACKUPS_NAME}.lock"
    with (
        suppress(OSError, CacheError),
        open_own_folder(directory) as own,
        taking_turns(own, disk, turn),
        enter(own, BACKUPS_NAME) as folder,
    ):
        Backups(folder, disk).fold()


def newest_with(
    directory: Path, copies: Backups, index: ImageIndex, content: str, *, by_entries: bool = False
) -> Backup | None:
    """The newest backup where that has an index already, else None, as it is to be kept. The one that was newest is
    pinned where entries of it are gone and no transaction since took them out; ``by_entries`` reads it to see that
    where their number does not tell: too dear for each write. Raises OSError."""
    newest = next((copy for copy in copies.all() if not copy.stalled), None)
    if newest is None or newest.content == content:
        return newest
    if not newest.before_shrink and _is_before_shrink(directory, copies, newest, index, by_entries=by_entries):
        copies.rename(newest, replace(newest, before_shrink=True))
    return None


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
    """The last copies, newest first. Raises StorageError."""
    try:
        with open_backups(directory) as copies:
            return copies.everything(MOST_BACKUPS)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot list the backups: {error.strerror}") from error


@contextmanager
def open_backups(directory: Path) -> Iterator[Backups]:
    """The folder of backups to be read, that is there. Raises FileNotFoundError where none is, OSError."""
    with open_own_folder(directory, BACKUPS_NAME) as folder:
        yield Backups(folder)
