"""File system events of one directory, for as long as there is one."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .files import INDEX_NAME

if TYPE_CHECKING:
    from watchfiles import Change

# How long watchfiles sleeps, and how long it gathers, in milliseconds.
_STEP_MS, _DEBOUNCE_MS = 20, 50
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0


class DirectoryEvents:
    """Names that changed in a directory, while its parent is watched for the directory's own coming and going.

    ``trouble`` says why events cannot be relied on; empty while they can.
    """

    def __init__(self, directory: Path) -> None:
        # Names are told by their paths, which come back absolute.
        self._directory = Path(os.path.abspath(directory))
        self._names: set[str] = set()
        self._everything = False
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._inode: tuple[int, int] | None = None
        self._task = asyncio.create_task(self._follow(), name="directory events")
        self.trouble = ""

    async def wait(self, seconds: float) -> frozenset[str] | None:
        """The names that changed, after at most ``seconds``; None when any may have."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()
        if self._identity() != self._inode:
            # Removed, or made again: the old watch stays silent for ever.
            self._stop.set()
        names, everything = frozenset(self._names), self._everything
        self._names.clear()
        self._everything = False
        return None if everything else names - {INDEX_NAME}

    async def close(self) -> None:
        self._stop.set()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._directory)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    async def _follow(self) -> None:
        """Watch, and again after every end; with a growing pause while it fails."""
        pause = _FIRST_PAUSE
        while True:
            self._stop = asyncio.Event()
            self._inode = self._identity()
            if self._inode is None:
                await asyncio.sleep(_FIRST_PAUSE)
                continue
            try:
                await self._watch()
                pause = _FIRST_PAUSE
            except (OSError, RuntimeError, ValueError, ExceptionGroup) as error:
                self.trouble = f"events failed ({_cause(error)}); looking once a second"
                pause = min(pause * 2, _LONGEST_PAUSE)
            self._everything = True
            self._wake.set()
            await asyncio.sleep(pause)

    async def _watch(self) -> None:
        # It brings anyio along: a headless command does without both, and a screen paints before them.
        from watchfiles import awatch

        # What happened before the watch began is looked for once more.
        self._everything = True
        self._wake.set()
        own, inside = str(self._directory), f"{self._directory}{os.sep}"

        def concerns_us(_: Change, path: str) -> bool:
            return path == own or (path.startswith(inside) and os.sep not in path[len(inside) :])

        paths = dict.fromkeys([self._directory, self._directory.parent])
        async for changes in awatch(
            *paths,
            watch_filter=concerns_us,
            recursive=False,
            step=_STEP_MS,
            debounce=_DEBOUNCE_MS,
            stop_event=self._stop,
        ):
            self.trouble = ""
            self._names.update(path[len(inside) :] for _, path in changes if path != own)
            self._wake.set()


def _cause(error: BaseException) -> str:
    """The first error inside a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
