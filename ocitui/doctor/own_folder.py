"""`.ocitui`, for the records that the doctor keeps in it beside the cache's journal."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocitui.cache.disk import Disk, Folder
from ocitui.cache.files import OWN_NAME


@contextmanager
def own_folder(directory: Path) -> Iterator[Folder]:
    """The folder, made where it is not there, with the rights of the cache directory. Raises OSError."""
    with Folder.open(directory) as root:
        # Another program may make it in the same moment.
        with suppress(FileExistsError):
            Disk().make_folder(root, OWN_NAME, stat.S_IMODE(os.fstat(root.fd).st_mode) & 0o777)
        with root.open_folder(OWN_NAME) as own:
            yield own


@contextmanager
def taking_turns(own: Folder, name: str) -> Iterator[None]:
    """Be the only one, of all programs, that holds the lock of that name: for the moment that a write takes."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o644, dir_fd=own.fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
