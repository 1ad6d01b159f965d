"""Imports of the same image at the same time: one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ocitui.cache import PackedFormat

from .progress import ImportPhase, Tracker

Key = tuple[str, PackedFormat]


class Turn:
    """What those who want one digest and format at the same time have in common."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0
        self.is_fresh = False
        """Whether one of them has brought the image in, which is enough for the others."""


class ImageLocks:
    """One import at a time for a digest and format; who waits finds the image in the cache then."""

    def __init__(self) -> None:
        self._turns: dict[Key, Turn] = {}

    @asynccontextmanager
    async def hold(self, key: Key, tracker: Tracker) -> AsyncIterator[Turn]:
        turn = self._turns.setdefault(key, Turn())
        turn.wanted += 1
        try:
            if turn.lock.locked():
                tracker.enter(ImportPhase.WAIT)
            async with turn.lock:
                yield turn
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[key]
