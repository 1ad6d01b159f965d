"""A cache's folders, open and locked, for one writer."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .disk import Disk, Folder, storage_errors
from .errors import ConflictError
from .files import OWN_NAME, check_directory
from .index_file import IndexFile
from .journal import Journal
from .lock import hold_lock
from .reserve import Reserve

_JOURNAL, _TRASH, _STAGING = "journal", "trash", "staging"


@dataclass(slots=True)
class Workspace:
    """``root`` is the cache directory; the others are ours, in `.ocitui` inside it.

    ``index_changed`` is whether an index was written here; ``published`` is the last one, with the signature by which
    its file is known again, None where somebody else is in it. ``compared_only`` is whether the file system could not
    exchange two files, so that the index was compared and replaced.
    """

    directory: Path
    root: Folder
    own: Folder
    trash: Folder
    staging: Folder
    journal: Journal
    disk: Disk
    reserve: Reserve
    published: IndexFile | None = None
    index_changed: bool = False
    compared_only: bool = False

    def sync(self) -> None:
        """Make every file's arrival in the trash or in the cache durable."""
        for folder in (self.trash, self.root):
            self.disk.sync_folder(folder)


@contextmanager
def open_workspace(directory: Path, disk: Disk, doing: str) -> Iterator[Workspace]:
    """Open and lock a cache for writing. Raises LockedError, CacheDirectoryError, ReadOnlyError, StorageError."""
    check_directory(directory)
    with ExitStack() as stack:
        with storage_errors(doing):
            root = stack.enter_context(Folder.open(directory))
            own = stack.enter_context(_own_folder(root, disk))
            stack.enter_context(hold_lock(own, doing))
            disk.lender = reserve = Reserve(disk, own)
            stack.callback(setattr, disk, "lender", None)
            journal, trash, staging = (
                stack.enter_context(_subfolder(own, name, disk)) for name in (_JOURNAL, _TRASH, _STAGING)
            )
        yield Workspace(directory, root, own, trash, staging, Journal(disk, journal), disk, reserve)


@contextmanager
def open_journal(directory: Path) -> Iterator[Journal | None]:
    """The journal for reading only, without the lock; None where there is none yet."""
    with ExitStack() as stack:
        try:
            root = stack.enter_context(Folder.open(directory))
            own = stack.enter_context(root.open_folder(OWN_NAME))
            folder = stack.enter_context(own.open_folder(_JOURNAL))
        except FileNotFoundError:
            yield None
            return
        yield Journal(Disk(), folder)


def _own_folder(root: Folder, disk: Disk) -> Folder:
    """Open `.ocitui`, made with the rights of the cache directory itself."""
    return _subfolder(root, OWN_NAME, disk)


def _subfolder(parent: Folder, name: str, disk: Disk) -> Folder:
    disk.make_folder(parent, name, stat.S_IMODE(os.fstat(parent.fd).st_mode) & 0o777)
    try:
        return parent.open_folder(name)
    except NotADirectoryError:
        raise ConflictError(
            f"{parent.path / name} is not a directory of its own",
            hint="it belongs to ocitui; move what stands there aside",
        ) from None
