"""Room on the cache's file system: checked before an import, and watched during it.

A full disk is the daemon's worst: its next store truncates its own index.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from ocitui.cache.disk import storage_errors
from ocitui.cache.files import INDEX_NAME
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
        found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def check_room(directory: Path, size: int) -> None:
    """Raises NoRoomError where ``size`` bytes more would leave less than the minimum free, StorageError."""
    free, least = free_bytes(directory), minimum_free(directory)
    if free < size + least:
        raise NoRoomError(
            f"{human_size(size)} are to come in, {human_size(least)} are to stay free, and there are only "
            f"{human_size(free)}"
        )


async def while_there_is_room(directory: Path, work: Coroutine[Any, Any, T]) -> T:
    """The outcome of ``work``, which is cancelled once less than the minimum is free, whoever took it.

    Raises NoRoomError then, StorageError where nobody can tell.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_until_full(directory))
    try:
        await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        watch.result()
        raise NoRoomError(
            f"less than {human_size(minimum_free(directory))} were left free, so the import was stopped before the "
            "disk was full"
        )
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _until_full(directory: Path) -> None:
    """Look the more often, the less there is."""
    while True:
        spare = await asyncio.to_thread(lambda: free_bytes(directory) - minimum_free(directory))
        if spare < 0:
            return
        await asyncio.sleep(min(max(spare / _FASTEST, _SHORTEST_LOOK), _LONGEST_LOOK))
