"""Backups and journal as the checks compare the index with them; and copies made of the index as it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from ocitui.cache import (
    BACKUPS_NAME,
    INDEX_NAME,
    OWN_NAME,
    Backup,
    CacheError,
    CacheFiles,
    ImageIndex,
    Overwritten,
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
    open_journal,
    read_backup,
    taken_back,
    transactions_since,
)
from ocitui.host import find_daemon

from .index_checks import NO_HISTORY, History, read_index

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


def keep_index(directory: Path, proc: Path = Path("/proc")) -> str:
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
