"""Files of a source, opened without waiting: a pipe that nobody writes to would hold an import up for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from .source_errors import UnreadableSourceError

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. Raises OSError, UnreadableSourceError for a pipe, device or socket."""
    fd = os.open(path, _READ)
    try:
        _check_regular(path, os.fstat(fd).st_mode)
        return open(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def refuse_irregular(path: Path) -> None:
    """Raises UnreadableSourceError where something is there that is neither a file nor a directory."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISDIR(mode):
        _check_regular(path, mode)


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise UnreadableSourceError(f"{path} is no regular file", hint="copy what it gives into a file, and name that")
