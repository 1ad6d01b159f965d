"""Descriptors that the index once had, of entries that it has no more: from the backups and the journal."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from ocitui.cache import CacheError, Descriptor, ImageIndex, list_backups, read_backup
from ocitui.cache.workspace import open_journal

from .adopting import Known


def remembered(directory: Path, wanted: Collection[tuple[str, str]]) -> Known:
    """The newest descriptor that is known of each of these digests and formats; what cannot be read tells nothing."""
    found: dict[tuple[str, str], Descriptor] = {}
    left = set(wanted)
    for descriptor in _all(directory) if left else ():
        key = (descriptor.digest, descriptor.format or "")
        if key in left and descriptor.image_name:
            found[key] = descriptor
            left.remove(key)
            if not left:
                break
    return found


def _all(directory: Path) -> Iterator[Descriptor]:
    """Those of the backups, the newest first, then what transactions took out."""
    with suppress(CacheError):
        for backup in list_backups(directory):
            with suppress(CacheError):
                yield from reversed(ImageIndex.parse(read_backup(directory, backup)).descriptors)
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        for transaction in journal.list() if journal is not None else ():
            with suppress(CacheError):
                yield from [one.descriptor for one in transaction.removed]
