"""What is wrong beside single entries: files nobody names, odd names, our own folder, the host; and what the index held
before. No listing of entries loads this, as it loads what changes the cache."""

from __future__ import annotations

import os
import time
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from ocitui.cache import (
    BACKUPS_NAME,
    FILE_SUFFIXES,
    FIRST_PACKED,
    INDEX_NAME,
    JOURNAL_NAME,
    LOCK_NAME,
    MOST_INDEX_BYTES,
    OWN_NAME,
    PLACE_OF_SUFFIX,
    ROW_WIDTH,
    STAGING_NAME,
    Backup,
    CacheError,
    CacheFiles,
    FileKind,
    ImageIndex,
    Key,
    Listing,
    Overwritten,
    PackedFormat,
    Transaction,
    TransactionState,
    examine_index,
    find_overwritten,
    hash_file,
    keep_backup,
    keep_corrupt,
    late_updates,
    list_backups,
    next_number,
    open_bounded,
    open_journal,
    open_own_folder,
    packed_name,
    read_backup,
    read_kernel_file,
    refused_files,
    taken_back,
    transactions_since,
    usable_digest,
)
from ocitui.contents import ContentsError, taken_file_problem
from ocitui.host import NeedRole, find_daemon, read_zones
from ocitui.stand_in import fact_of, file_system, may_write
from ocitui.text import first_of, human_size, timestamp
from ocitui.threads import Stop

from ..findings import CATALOGUE, NEARLY_FULL, NEEDED_ORPHAN, Finding
from .entry_checks import oddities
from .index_checks import NO_HISTORY, History, read_index

_OURS = frozenset((INDEX_NAME, OWN_NAME))
_ALL_FORMATS = sum(1 << PLACE_OF_SUFFIX[format_] for format_ in PackedFormat)
_BITS: dict[str | None, int] = {str(format_): 1 << PLACE_OF_SUFFIX[format_] for format_ in PackedFormat}


def orphans(listing: Listing, keys: Iterable[Key]) -> Iterator[Finding]:
    """Files that no descriptor names, by the descriptors' ``keys``; a format that is not known stands for all."""
    named, rows, bits = array("B", bytes(len(listing.digests))), listing.rows, _BITS
    for digest, format_ in keys:
        if (row := rows.get(digest)) is not None:
            named[row] |= bits.get(format_, _ALL_FORMATS) | 1
    there, unnamed = listing.there(), {row: list[int]() for row, by in enumerate(named) if not by}
    for place in range(FIRST_PACKED, ROW_WIDTH):
        for row, (is_there, by) in enumerate(zip(there[place::ROW_WIDTH], named, strict=False)):
            if is_there and not by >> place & 1:
                unnamed.setdefault(row, []).append(place)
    for row, places in sorted(unnamed.items()):
        yield from _orphans_of(listing, listing.digests[row], named=bool(named[row]), unnamed=places)


def _orphans_of(listing: Listing, digest: str, *, named: bool, unnamed: Sequence[int]) -> Iterator[Finding]:
    documents = listing.documents(digest)
    whole = len(documents) == 2
    formats = {PLACE_OF_SUFFIX[format_]: format_ for format_ in listing.formats(digest)}
    for place in unnamed:
        yield _orphan(digest, formats[place], FileKind.PACKED, whole=whole)
    if not named:
        if not (whole and unnamed):
            for kind in documents:
                yield _orphan(digest, "", kind, whole=False)
        yield from oddities(listing, digest)


def _orphan(digest: str, format: str, kind: FileKind, *, whole: bool) -> Finding:
    whole_seen = "a packed file with both documents, which no descriptor names"
    code, seen = ("orphan-entry", whole_seen) if whole else ("orphan-file", "no descriptor names this file")
    return CATALOGUE[code].finding(seen, digest=digest, format=str(format), kind=kind)


def strangers(listing: Listing) -> Iterator[Finding]:
    """What is neither an entry's file nor the index."""
    for name in sorted(listing.others.keys() - _OURS):
        if name.startswith(OWN_NAME):
            yield CATALOGUE["leftover-temporary"].finding("a temporary file of ocitui", path=name)
        else:
            seen = f"{listing.others[name].word} that belongs to no entry"
            yield CATALOGUE["unknown-file"].finding(seen, path=name)


def collisions(listing: Listing) -> Iterator[Finding]:
    """Names that are equal but for case."""
    first: dict[str, str] = {}
    names = [name for name in listing.others if not name.islower()]
    for digest in (one for one in listing.digests if not one.islower()):
        names += [name for suffix in FILE_SUFFIXES if (name := f"{digest}.{suffix}") in listing]
    for name in sorted(names):
        folded = name.lower()
        if folded == name:
            continue
        other = folded if folded in listing else first.setdefault(folded, name)
        if other != name:
            yield CATALOGUE["case-collision"].finding(f"{other!r} differs from it only in case", path=name)


_OLD_SECONDS = 600.0

_DRAFT, _TEMPORARY = ".draft", ".temporary"


def check_own(directory: Path) -> Iterator[Finding]:
    """Nothing where there is no such folder."""
    then: bool | None = fact_of(directory, "locked")
    busy = locked(directory / OWN_NAME) if then is None else then
    if not busy:
        for ending, *names in ("", STAGING_NAME), (_DRAFT, JOURNAL_NAME), (_TEMPORARY,):
            for name in _leftovers(directory, ending, *names):
                seen = "a temporary file that an interrupted writer left"
                yield CATALOGUE["leftover-temporary"].finding(seen, path="/".join((OWN_NAME, *names, name)))
    for refused in refused_files(directory):
        seen = f"it is not acted on: {refused.reason}"
        yield CATALOGUE["journal-damaged"].finding(seen, path=str(Path(OWN_NAME, refused.path)))
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        for record in () if busy else journal.pending():
            file = f"{OWN_NAME}/{JOURNAL_NAME}/{record.name}"
            yield CATALOGUE["transaction-pending"].finding(f"transaction {record.id} was interrupted", path=file)


def locked(own: Path) -> bool:
    """Whether a writer of ours is at work, as /proc/locks tells: taking the lock to see could make a writer fail."""
    try:
        found = os.lstat(own / LOCK_NAME)
    except OSError:
        return False
    lines = read_kernel_file(Path("/proc/locks")).splitlines()
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return any(" FLOCK " in line and place in line.split() for line in lines)


def _leftovers(directory: Path, ending: str, *names: str) -> Iterator[str]:
    """Old files of such names in a folder of ours; none where it cannot be read, of which there is another finding."""
    oldest = (fact_of(directory, "when") or time.time()) - _OLD_SECONDS
    with suppress(OSError, CacheError), open_own_folder(directory, *names) as folder:
        for name in sorted(folder.names()):
            found = folder.lstat(name) if name.endswith(ending) else None
            if found is not None and found.st_mtime < oldest:
                yield name


def check_zones(directory: Path, index: ImageIndex | None, listing: Listing, stop: Stop | None) -> Iterator[Finding]:
    """What zones need and no entry of the index is; whether the daemon would start on its database, and keep guests."""
    zones = read_zones(directory, ask=False)
    if zones.makes_anew:
        yield CATALOGUE["database-lost"].finding(f"krata.db: {zones.note}")
    elif zones.trouble:
        yield CATALOGUE["database-damaged"].finding(f"krata.db: {zones.trouble}")
    if zones.rowless:
        seen = f"krata.db has no row of what runs as domain {first_of([domain.label for domain in zones.rowless])}"
        yield CATALOGUE["domain-without-row"].finding(seen)
    if index is None:
        return
    needing, taking = (
        defaultdict[tuple[str, PackedFormat], list[str]](list),
        defaultdict[tuple[str, NeedRole], list[str]](list),
    )
    for zone, need in zones.needs():
        if not need.error and index.position(need.digest, need.format) is None:
            needing[need.digest, need.format].append(f"{zone.label} as its {need.role}")
        elif not need.error and need.role.path:
            taking[need.digest, need.role].append(zone.label)
    for (digest, format_), users in needing.items():
        orphan = format_ in listing.formats(digest)
        fault, what = (NEEDED_ORPHAN, "its files have no entry") if orphan else (_MISSING, "no entry is of it")
        seen = f"{what}, and it is needed by zone {first_of(users)}"
        yield fault.finding(seen, digest=digest, format=format_)
    for (digest, role), labels in taking.items():
        if problem := taken_file_missing(directory, digest, role, stop):
            seen = f"{problem}, and zone {first_of(labels)} takes its {role} from it"
            yield CATALOGUE["zone-file-missing"].finding(seen, digest=digest, format=PackedFormat.TAR)


def taken_file_missing(directory: Path, digest: str, role: NeedRole, stop: Stop | None = None) -> str:
    """Why the daemon does not find in a digest's tar the file that a zone takes it for; empty where it does, and where
    the tar cannot be read so far, which is told as what it is. Raises AbandonedError once ``stop`` is set."""
    if (taken := fact_of(directory, "taken")) is not None:
        return str(taken.get(f"{role} {digest}", ""))
    if role.path and usable_digest(digest):
        with suppress(OSError, ContentsError), open_bounded(directory / packed_name(digest, PackedFormat.TAR)) as file:
            return taken_file_problem(file, role.path, stop or Stop())
    return ""


_MISSING = CATALOGUE["zone-needs-missing"]
_INDEX_SLACK = 1 << 16  # what another entry, and the file system's own records, add to the index
_NEARLY_FULL = 0.9


def room_for_index(found: os.statvfs_result, index_size: int) -> tuple[bool, int]:
    """Whether the daemon's next store has room for its index, which it truncates and writes anew, as root, beside the
    files that it stores; and how many bytes are free to it."""
    free = found.f_bfree * found.f_frsize
    return free >= index_size + _INDEX_SLACK and (not found.f_files or found.f_ffree > 0), free


def check_host(directory: Path, index_size: int, proc: Path | None = None) -> Iterator[Finding]:
    """What bears on the cache from outside: its file system, and the daemon."""
    daemon = find_daemon(directory, proc)
    if daemon.process is not None:
        since = f" since {timestamp(daemon.since)}" if daemon.since else ""
        whose = "" if daemon.ours else ", though its socket is not where that of this cache would be"
        yield CATALOGUE["daemon-running"].finding(f"kratad runs as process {daemon.process}{since}{whose}")
    index_size = min(index_size, MOST_INDEX_BYTES)
    try:
        found = file_system(directory)
    except OSError:
        return
    if found.f_flag & os.ST_RDONLY:
        yield CATALOGUE["cache-read-only"].finding("its file system is mounted read-only")
    elif not may_write(directory):
        yield CATALOGUE["cache-read-only"].finding("this user may not write to it")
    has_room, free = room_for_index(found, index_size)
    used = found.f_blocks - found.f_bfree
    share = used / (used + found.f_bavail) if used + found.f_bavail else 0.0
    if not has_room:
        what = "no inode is free" if found.f_files and not found.f_ffree else f"{human_size(free)} are free"
        yield CATALOGUE["disk-full"].finding(f"{what}, and the index has {human_size(index_size)}")
    elif share >= _NEARLY_FULL or (found.f_files and found.f_ffree / found.f_files <= 1 - _NEARLY_FULL):
        seen = f"{share:.0%} of its file system are used, {human_size(found.f_bavail * found.f_frsize)} are free"
        if share < _NEARLY_FULL:
            seen = f"{found.f_ffree} of {found.f_files} inodes of its file system are free"
        yield NEARLY_FULL.finding(seen)


# Backups and journal, as the index is compared with them; and copies made of it as it is seen

Repairs = list[list[Transaction]]


def known_history(directory: Path, index: ImageIndex | None) -> History:
    """What is known, as far as it can be read. ``index`` is today's, None where it is not sound. Of the newest backup
    and the last before a shrink it is that which holds what today's lacks: the newest may be of the shrunken index."""
    undone = _undone_repairs(directory)
    histories = list(_histories(directory, index, undone))
    if index is None:
        return histories[0] if histories else NO_HISTORY
    overwritten, late = list[Overwritten](), _late(directory, undone)
    with suppress(CacheError):
        overwritten = find_overwritten(directory, index)
    known = (msgspec.structs.replace(history, overwritten=overwritten, late=late) for history in histories)
    return next((one for one in known if one.gone_from(index)), History(overwritten=overwritten, late=late))


def index_in(directory: Path, backup: Backup | None, today: ImageIndex | None = None) -> ImageIndex | None:
    """The index that a backup holds, read quicker where it is much like today's; None where it tells nothing."""
    with suppress(CacheError):
        return examine_index(read_backup(directory, backup), today)[1] if backup else None
    return None


def _late(directory: Path, undone: Repairs) -> dict[str, History]:
    found: dict[str, History] = {}
    with suppress(CacheError):
        for backup, index in late_updates(directory):
            if index is not None:
                file = f"{OWN_NAME}/{BACKUPS_NAME}/{backup.name}"
                found[file] = History(list(index.descriptors), _since(directory, backup, undone))
    return found


def _histories(directory: Path, index: ImageIndex | None, undone: Repairs) -> Iterator[History]:
    try:
        kept = [b for b in list_backups(directory) if not any(_is_of(b, *chain) for chain in undone)]
    except CacheError:
        return
    for backup in [*kept[:1], *(one for one in kept[1:] if one.before_shrink)][:2]:
        with suppress(CacheError):
            if index is not None and len(index) == backup.entries and index.sha256.startswith(backup.content):
                continue  # nothing of it is gone
            if found := index_in(directory, backup, index):
                yield History(list(found.descriptors), _since(directory, backup, undone), backup)


def _since(directory: Path, backup: Backup, undone: Repairs) -> list[Transaction]:
    """What was done since a backup, less the repairs that were undone, and their undos: these explain nothing."""
    passed = {one.id for chain in undone for one in chain}
    return [one for one in transactions_since(directory, backup) if one.id not in passed]


def _undone_repairs(directory: Path) -> Repairs:
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        if journal.transactions([TransactionState.UNDONE]):
            return taken_back(journal.since((0, "")))
    return []


def _is_of(backup: Backup, undo: Transaction, *others: Transaction) -> bool:
    """Whether a backup is of the index as a repair made it, that was undone: it has what was adopted, or lacks what was
    given up. A pinned one was made before, and may have a later place as the repair made the same of the index."""
    repair = others[-1]
    differs = bool(repair.absent) if repair.swap is not None else not backup.before_shrink
    return differs and repair.sequence < backup.number <= undo.sequence


def keep_index(directory: Path, proc: Path | None = None) -> str:
    """Keep a backup of a sound index, or copy a corrupt one aside; where that cannot be done nothing is kept. Gives
    what there is to say of a corrupt one, empty for a sound one or none."""
    since = find_daemon(directory, proc).read_index_by
    try:
        # Asked before the index is read: a transaction under way may be in it or not.
        number = next_number(directory)
        with CacheFiles(directory) as files:
            if _is_kept(files, since):
                return ""
            reading = read_index(files)
    except CacheError:
        return ""
    if reading.index is not None:
        if reading.fact is not None:
            keep_backup(directory, reading.index, number, since=since)
        return ""
    if reading.data is None:
        return ""
    copy = keep_corrupt(directory, reading.data)
    kept = f"are copied aside, as .ocitui/corrupt/{copy.name}" if copy else "could not be copied aside"
    return f"the bytes of index.json {kept}"


def _is_kept(files: CacheFiles, since: float) -> bool:
    """Whether the newest backup is of the very bytes that index.json has, and was seen since the daemon's start, which
    tells what that has in its memory; told without reading it as an index."""
    with suppress(OSError), files.open(INDEX_NAME) as file:
        newest = next(iter(list_backups(files.directory)), None)
        if newest is None or newest.kept <= since:
            return False
        return hash_file(file, lambda _: None).startswith(newest.content)
    return False
