"""Backups and journal as the checks compare the index with them; and copies made of the index as it is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from ocitui.cache import (
    Backup,
    CacheError,
    Descriptor,
    ImageIndex,
    TransactionState,
    examine_index,
    keep_backup,
    keep_corrupt,
    late_updates,
    list_backups,
    next_number,
    read_backup,
    transactions_since,
)
from ocitui.cache.backups import BACKUPS_NAME
from ocitui.cache.files import INDEX_NAME, OWN_NAME
from ocitui.cache.ledger import hash_file
from ocitui.cache.listing import CacheFiles
from ocitui.cache.own_folder import open_journal
from ocitui.cache.undoing import Overwritten, find_overwritten

from .index_checks import NO_HISTORY, History, read_index, shrunk


def known_history(directory: Path, index: ImageIndex | None) -> History:
    """What is known; nothing where it cannot be read. ``index`` is today's, None where it is not sound.

    Of the newest backup and the last one before a shrink it is that which holds an entry that today's index lacks: the
    newest may be of the shrunken index itself.
    """
    histories = list(_histories(directory, index))
    if index is None:
        return histories[0] if histories else NO_HISTORY
    overwritten, late = _overwritten(directory, index), _late(directory)
    known = (msgspec.structs.replace(history, overwritten=overwritten, late=late) for history in histories)
    return next((one for one in known if shrunk(index, one)), History(overwritten=overwritten, late=late))


def _late(directory: Path) -> dict[str, History]:
    found: dict[str, History] = {}
    with suppress(CacheError):
        for one in late_updates(directory):
            if one.index is not None:
                file = f"{OWN_NAME}/{BACKUPS_NAME}/{one.backup.name}"
                found[file] = History(list(one.index.descriptors), transactions_since(directory, one.backup))
    return found


def _histories(directory: Path, index: ImageIndex | None) -> Iterator[History]:
    try:
        undone = _undone_replacements(directory)
        backups = [b for b in list_backups(directory) if not any(first < b.number <= last for first, last in undone)]
    except CacheError:
        return
    newest = backups[:1]
    for backup in [*newest, *(one for one in backups[1:] if one.before_shrink)][:2]:
        with suppress(CacheError):
            if (
                index is not None
                and len(index) == backup.entries
                and sha256(index.to_bytes()).hexdigest().startswith(backup.content)
            ):
                continue  # nothing of it is gone
            descriptors = _descriptors(directory, backup, index)
            if descriptors:
                yield History(descriptors, transactions_since(directory, backup), backup)


def _undone_replacements(directory: Path) -> list[tuple[int, int]]:
    """From which transaction to which an index stood that had replaced another, with entries dropped on purpose, and
    was taken back: its backups lack these, which are to come back again."""
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        undone = journal.list([TransactionState.UNDONE]) if journal is not None else []
        dropping = {one.id: one.sequence for one in undone if one.swap is not None and one.absent}
        if journal is not None and dropping:
            done = journal.list([TransactionState.DONE])
            return [(dropping[one.of], one.sequence) for one in done if one.of in dropping]
    return []


def _descriptors(directory: Path, backup: Backup, index: ImageIndex | None) -> Sequence[Descriptor]:
    data = read_backup(directory, backup)
    found = examine_index(data, index)[1]
    return list(found.descriptors) if found is not None else ()


def _overwritten(directory: Path, index: ImageIndex) -> list[Overwritten]:
    with suppress(CacheError):
        return find_overwritten(directory, index)
    return []


def keep_index(directory: Path) -> str:
    """Keep a backup of a sound index, or copy a corrupt one aside; where that cannot be done nothing is kept.

    Gives what there is to say of a corrupt one, empty for a sound one or none.
    """
    try:
        # Asked before the index is read: a transaction under way may be in it or not.
        number = next_number(directory)
        with CacheFiles(directory) as files:
            if _is_kept(files):
                return ""
            reading = read_index(files)
    except CacheError:
        return ""
    if reading.index is not None:
        if reading.fact is not None:
            keep_backup(directory, reading.index, number)
        return ""
    if reading.data is None:
        return ""
    copy = keep_corrupt(directory, reading.data, examined=True)
    kept = f"are copied aside, as .ocitui/corrupt/{copy.name}" if copy else "could not be copied aside"
    return f"the bytes of index.json {kept}"


def _is_kept(files: CacheFiles) -> bool:
    """Whether the newest backup is of the very bytes that index.json has; told without reading it as an index."""
    with suppress(OSError), files.open(INDEX_NAME) as file:
        newest = next(iter(list_backups(files.directory)), None)
        return newest is not None and hash_file(file, lambda _: None).startswith(newest.content)
    return False
