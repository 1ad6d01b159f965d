"""`.ocitui`, ocitui's own folder inside a cache, and the folders in it: opened without following a link, and only where
they belong to root or to whoever runs the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .disk import Disk, Folder, ForeignFileError, require_trusted
from .errors import ConflictError
from .files import OWN_NAME

if TYPE_CHECKING:
    from .journal import Journal

ASIDE_NAME = "aside"
"""Where a writer puts what may not be acted on."""


@contextmanager
def make_own_folder(directory: Path, disk: Disk, *names: str) -> Iterator[Folder]:
    """`.ocitui`, or the folder of these names in it, made where it is absent, with the rights of the cache directory.

    Raises OSError: ForeignFileError where it is another user's; ConflictError where something else has its name.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(Folder.open(directory))
        for name in (OWN_NAME, *names):
            if disk.make_folder(folder, name):
                disk.sync_folder(folder)
            folder = stack.enter_context(enter(folder, name))
        yield folder


@contextmanager
def open_own_folder(directory: Path, *names: str) -> Iterator[Folder]:
    """The same to read in. Raises FileNotFoundError where there is none."""
    with ExitStack() as stack:
        folder = stack.enter_context(Folder.open(directory))
        for name in (OWN_NAME, *names):
            folder = stack.enter_context(enter(folder, name))
        yield folder


@contextmanager
def open_journal(directory: Path) -> Iterator[Journal | None]:
    """The journal for reading only, without the lock; None where there is none yet, or it is another user's.

    Raises OSError, ConflictError.
    """
    # The records' types are many, and whoever only reads a file of ours needs none.
    from .journal import JOURNAL_NAME, Journal

    with ExitStack() as stack:
        try:
            folder = stack.enter_context(open_own_folder(directory, JOURNAL_NAME))
        except (FileNotFoundError, ForeignFileError):
            yield None
            return
        yield Journal(Disk(), folder)


def enter(parent: Folder, name: str) -> Folder:
    """Open a folder of ours, in which files of other users are not read. Raises OSError, ConflictError."""
    try:
        folder = parent.open_folder(name, guarded=True)
    except NotADirectoryError:
        raise ConflictError(
            f"{parent.path / name} is not a directory of its own",
            hint="it belongs to ocitui; move what stands there aside",
        ) from None
    try:
        require_trusted(folder.stat(), folder.path)
    except ForeignFileError:
        folder.close()
        raise
    return folder
