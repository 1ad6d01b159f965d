"""Private folders inside the cache's file system, one for each import, so that storing what was made is a rename.

They lie in `.ocitui/import`, each locked by the program that uses it; one whose lock is free was left by a program
that died, and is removed at the next start.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ocitui.cache import (
    INDEX_NAME,
    OWN_NAME,
    Disk,
    Folder,
    check_directory,
    open_own_folder,
    storage_errors,
    wait_for_turn,
)
from ocitui.text import human_size

from .errors import NoRoomError

T = TypeVar("T")
_LEAST_FREE = 16 << 20
# The daemon writes its index anew at each store, and ocitui beside the old one.
_INDEXES = 3
_LONGEST_LOOK, _SHORTEST_LOOK = 0.5, 0.01
# No disk is filled faster than this, in bytes a second.
_FASTEST = 2 << 30


def minimum_free(directory: Path) -> int:
    """The bytes that an import leaves free: room for the daemon's and our own next writes."""
    try:
        return _LEAST_FREE + _INDEXES * os.stat(directory / INDEX_NAME).st_size
    except OSError:
        return _LEAST_FREE


def free_bytes(directory: Path) -> int:
    """What may still be written there. Raises StorageError."""
    with storage_errors("see how much room there is"):
        return shutil.disk_usage(directory).free


def check_room(directory: Path, size: int) -> None:
    """Raises NoRoomError where ``size`` bytes more would leave less than the minimum free, StorageError."""
    free, least = free_bytes(directory), minimum_free(directory)
    if free < size + least:
        raise NoRoomError(
            f"{human_size(size)} are to come in, {human_size(least)} are to stay free, and there are only "
            f"{human_size(free)}"
        )


async def while_there_is_room(directory: Path, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` gives; it is cancelled once less than the minimum is free. Raises NoRoomError, StorageError."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            # The more often, the less there is.
            spare = await asyncio.to_thread(lambda: free_bytes(directory) - minimum_free(directory))
            if spare < 0 and not task.done():
                raise NoRoomError(
                    f"less than {human_size(minimum_free(directory))} were left free, so the import was stopped before "
                    "the disk was full"
                )
            await asyncio.wait([task], timeout=min(max(spare / _FASTEST, _SHORTEST_LOOK), _LONGEST_LOOK))
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


_FOLDER = "import"


@contextmanager
def staging_folder(directory: Path, disk: Disk | None = None) -> Iterator[Path]:
    """An empty folder of this program's own, which is removed at the end with what is still in it. Raises
    CacheDirectoryError, ReadOnlyError, StorageError, LockedError, ConflictError."""
    check_directory(directory)
    disk = disk or Disk()
    with import_folder(directory, disk, _FOLDER) as parent:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        with storage_errors("make a folder to import into"), locked(parent):
            for left in parent.names():
                _remove_unheld(parent, disk, left)
            disk.make_folder(parent, name, 0o700)
            folder = parent.open_folder(name)
            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder.path
        finally:
            with suppress(OSError):
                disk.remove(parent, name)
            folder.close()


def remove_abandoned(directory: Path) -> int:
    """Remove what killed imports left; gives how many. Raises as `staging_folder`."""
    if not (directory / OWN_NAME / _FOLDER).is_dir():
        return 0
    disk = Disk()
    with (
        storage_errors("remove what a killed import left"),
        import_folder(directory, disk, _FOLDER) as parent,
        locked(parent),
    ):
        return sum(_remove_unheld(parent, disk, name) for name in parent.names())


@contextmanager
def import_folder(directory: Path, disk: Disk, name: str) -> Iterator[Folder]:
    """A folder inside `.ocitui`, made where it is not there, with the rights of the cache directory. Raises
    ReadOnlyError, StorageError, ConflictError; what is done in it has errors of its own."""
    with ExitStack() as stack:
        with storage_errors(f"make the folder {OWN_NAME}/{name}"):
            folder = stack.enter_context(open_own_folder(directory, name, making=disk))
        yield folder


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """So that nothing is seen between its making and its locking. Raises LockedError."""
    wait_for_turn(folder.fd, str(folder.path))
    try:
        yield
    finally:
        fcntl.flock(folder.fd, fcntl.LOCK_UN)


def _remove_unheld(parent: Folder, disk: Disk, name: str) -> bool:
    """Whether there was something that nobody holds; only folders are ever held."""
    try:
        with parent.open_folder(name) as folder:
            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):
                disk.remove(parent, name)
    except (FileNotFoundError, BlockingIOError):
        return False  # whoever held it removed it meanwhile, or holds it still
    except NotADirectoryError:
        disk.unlink(parent, name)
    return True
