"""Files of a source, opened without waiting: a pipe that nobody writes to would hold an import up for ever."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from ocitui.cache.files import open_bounded

from .source_errors import UnreadableSourceError

_ANY_SIZE = 1 << 62


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. Raises OSError, UnreadableSourceError for a pipe, device or socket."""
    try:
        return BufferedReader(open_bounded(path, _ANY_SIZE))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _irregular(path) from error


def refuse_irregular(path: Path) -> None:
    """Raises UnreadableSourceError where something is there that is neither a file nor a directory."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise _irregular(path)


def _irregular(path: Path) -> UnreadableSourceError:
    return UnreadableSourceError(f"{path} is no regular file", hint="copy what it gives into a file, and name that")
