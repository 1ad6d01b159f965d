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
_ASKS_FOR_NAME = "after the path and a colon"


@asynccontextmanager
async def received(
    text: str, directory: Path | None, heard: Callable[[int, int], None], most: int | None = None
) -> AsyncIterator[str]:
    """What standard input gives, as a source that can be opened until the end; ``text`` is how it was written,
    ``directory`` the cache in which it is kept. ``heard`` is told the bytes that came, and how many there are (0: not
    known). Errors from inside name standard input in the file's place. Raises SourceError, also where no archive comes,
    or more than ``most`` bytes; NoRoomError, and what `staging_folder` raises."""
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
            name_in(error, path)
            raise


def name_in(error: CacheError, path: Path | str) -> None:
    """Have an error name standard input for the file that it is kept in."""
    error.message = named_so(error.message, path)
    if _ASKS_FOR_NAME in error.hint:
        error.hint = f"name one of them, as {SourceKind.DOCKER_ARCHIVE}:-:NAME"
    elif error.hint == UnreadableSourceError.default_hint:
        error.hint = "see what the command before the pipe says"
    else:
        error.hint = named_so(error.hint, path)


def named_so(text: str, path: Path | str) -> str:
    """A text in which standard input stands for the file that it is kept in."""
    return re.sub(rf"(?:[a-z-]+:)?{re.escape(str(path))}", STANDARD_INPUT_NAME, text)


def _keep(path: Path, most: int, told: Callable[[int, int], None], stop: Stop) -> None:
    """Write what comes into a file. Raises SourceError, StorageError, AbandonedError."""
    source, start, done, known = sys.stdin.fileno(), b"", 0, False
    ready = select.poll()
    ready.register(source, select.POLLIN)
    size = os.fstat(source).st_size
    with storage_errors(f"keep what {STANDARD_INPUT_NAME} gives"), Disk().writing(path) as write:
        while True:
            stop.check()
            # One that gives nothing for long is still left at once.
            if not ready.poll(_LOOK_MILLISECONDS):
                continue
            chunk = _read(source)
            if len(start) < LONGEST_START:
                start += chunk[: LONGEST_START - len(start)]
            if not known and (len(start) == LONGEST_START or not chunk):
                known = _check_start(start)
            if not chunk:
                return
            done += len(chunk)
            if done > most:
                hint = "keep it in a file, and name that"
                raise UnreadableSourceError(f"{STANDARD_INPUT_NAME} gives more than {human_size(most)}", hint=hint)
            write(chunk)
            told(done, max(size, done) if size else 0)


def _read(source: int) -> bytes:
    try:
        return os.read(source, _CHUNK)
    except OSError as error:
        raise UnreadableSourceError(f"cannot read {STANDARD_INPUT_NAME}: {error.strerror}", hint=_PIPE) from error


def _check_start(start: bytes) -> bool:
    """True. Raises UnreadableSourceError, UnsupportedSourceError for what begins as no archive does."""
    if not start:
        raise UnreadableSourceError(f"{STANDARD_INPUT_NAME} gave nothing")
    if kind_of_bytes(start, STANDARD_INPUT_NAME, "FILE") is not SourceKind.DOCKER_ARCHIVE:
        hint = f"{_PIPE}; a packed file is kept beside its documents, and named packed:FILE"
        raise UnsupportedSourceError(f"{STANDARD_INPUT_NAME} gives no archive", hint=hint)
    return True
