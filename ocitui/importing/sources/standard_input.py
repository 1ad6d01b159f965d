"""An archive from standard input, kept in a private file while it is looked at or imported: both read it twice."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ocitui.cache import CacheError, Disk, storage_errors
from ocitui.text import human_size
from ocitui.threads import Stop, in_thread, on_loop

from ..errors import UnreadableSourceError, UnsupportedSourceError
from ..layers.layers import LayerLimits
from ..staging import staging_folder, while_there_is_room
from .images import SourceKind
from .opening import LONGEST_START, STANDARD_INPUT_NAME, kind_of_bytes, standard_input

_CHUNK, _LOOK_MILLISECONDS = 1 << 20, 200
_PIPE = "pipe an archive into it, as `docker save NAME | ocitui import -` does"


@asynccontextmanager
async def received(
    text: str, directory: Path | None, heard: Callable[[int, int], None], most: int | None = None
) -> AsyncIterator[str]:
    """What standard input gives, as a source that can be opened until the end; ``text`` is how it was written,
    ``directory`` the cache in which it is kept. ``heard`` is told the bytes that came, and how many there are (0: not
    known). Raises SourceError, also where no archive comes, or more than ``most`` bytes; NoRoomError, and what
    `staging_folder` raises."""
    kind, rest = standard_input(text) or ("", "")
    if directory is None or sys.stdin is None or sys.stdin.isatty():
        there = "a terminal" if sys.stdin is not None and sys.stdin.isatty() else "not to be read here"
        raise UnreadableSourceError(f"{STANDARD_INPUT_NAME} is {there}", hint=_PIPE)
    limit, told = most or LayerLimits().unpacked_bytes, on_loop(heard)
    with staging_folder(directory) as folder:
        path = folder / "standard-input"
        try:
            await while_there_is_room(directory, in_thread(lambda stop: _keep(path, limit, told, stop)))
            yield f"{kind or f'{SourceKind.DOCKER_ARCHIVE}:'}{path}{rest}"
        except CacheError as error:
            name_in(error, str(path))
            raise


def name_in(error: CacheError, path: str) -> None:
    """Have an error name standard input for the file that it is kept in, which is gone then."""
    error.message = re.sub(rf"(?:[a-z-]+:)?{re.escape(path)}", STANDARD_INPUT_NAME, error.message)
    if "after the path and a colon" in error.hint:
        error.hint = f"name one of them, as {SourceKind.DOCKER_ARCHIVE}:-:NAME"
    elif error.hint == UnreadableSourceError.default_hint:
        error.hint = "see what the command before the pipe says"


def _keep(path: Path, most: int, told: Callable[[int, int], None], stop: Stop) -> None:
    """Write what comes into a file. Raises SourceError, StorageError, AbandonedError."""
    source, start, done = sys.stdin.fileno(), b"", 0
    ready = select.poll()
    ready.register(source, select.POLLIN)
    with storage_errors(f"keep what {STANDARD_INPUT_NAME} gives"), Disk().writing(path) as write:
        size = os.fstat(source).st_size
        while True:
            stop.check()
            told(done, max(size, done) if size else 0)
            # One that gives nothing for long is still left at once.
            if not ready.poll(_LOOK_MILLISECONDS):
                continue
            chunk = os.read(source, _CHUNK)
            start += chunk[: LONGEST_START - len(start)]
            whole = len(start) == LONGEST_START or not chunk
            if whole and kind_of_bytes(start, STANDARD_INPUT_NAME, "FILE") is not SourceKind.DOCKER_ARCHIVE:
                hint = f"{_PIPE}; a packed file is kept beside its documents, and named packed:FILE"
                raise UnsupportedSourceError(f"{STANDARD_INPUT_NAME} gives no archive", hint=hint)
            if not chunk:
                return
            done += len(chunk)
            if done > most:
                hint = "keep it in a file, and name that"
                raise UnreadableSourceError(f"{STANDARD_INPUT_NAME} gives more than {human_size(most)}", hint=hint)
            write(chunk)
