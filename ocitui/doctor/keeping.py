"""Copies of the index, made as it is seen: a daemon that starts on a corrupt one overwrites it."""

from __future__ import annotations

from pathlib import Path

from ocitui.cache import CacheDirectoryError, keep_backup, keep_corrupt

from .files import CacheFiles
from .index_reading import read_index


def keep_index(directory: Path) -> str:
    """Keep a backup of a sound index, or copy a corrupt one aside; where that cannot be done nothing is kept.

    Gives what there is to say of a corrupt one, empty for a sound one or none.
    """
    try:
        with CacheFiles(directory) as files:
            reading = read_index(files)
    except CacheDirectoryError:
        return ""
    if reading.index is not None:
        if reading.fact is not None:
            keep_backup(directory, reading.index)
        return ""
    if reading.data is None:
        return ""
    copy = keep_corrupt(directory, reading.data)
    kept = f"are copied aside, as .ocitui/corrupt/{copy.name}" if copy else "could not be copied aside"
    return f"the bytes of index.json {kept}"
