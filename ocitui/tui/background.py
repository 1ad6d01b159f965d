"""Work beside the screen: a thread and loop of its own, drawing as often as a slow line bears, memory given back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from textual.message_pump import MessagePump
from textual.timer import Timer

T = TypeVar("T")
DRAW_SECONDS, STATUS_SECONDS = 0.25, 1.0
"""How often a screen of its own is drawn while something goes on, and the main screen's status line."""


async def run_beside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What ``work`` gives. A cancelled caller cancels it, and does not wait for its end."""
    outcome: Future[T] = Future()

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work())

        def give_up(outcome: Future[T]) -> None:
            # By the one that asked; it may come before the work began, or once it is over.
            if outcome.cancelled() and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        outcome.add_done_callback(give_up)
        await asyncio.wait([task])
        if outcome.cancelled() or not outcome.set_running_or_notify_cancel():
            task.cancelled() or task.exception()
        elif task.cancelled():
            outcome.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    threading.Thread(target=lambda: asyncio.run(run()), name="ocitui-look", daemon=True).start()
    return await asyncio.wrap_future(outcome)


_M_MMAP_THRESHOLD, _LARGE = -3, 1 << 18  # mallopt(3), bytes


def give_memory_back() -> None:
    """From here on, what is large goes back to the system as soon as it is freed. Left alone, the C library keeps more
    the larger it was, for each thread: 14 MB of a screen with 100,000 entries."""
    from ctypes import CDLL

    with suppress(OSError, AttributeError):
        CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


class Throttle:
    """Calls at most once in ``seconds``, and always once after the last time it was asked; no timer runs at rest."""

    def __init__(self, pump: MessagePump, seconds: float, call: Callable[[], object]) -> None:
        self._pump, self._seconds, self._call = pump, seconds, call
        self._last = float("-inf")
        self._timer: Timer | None = None

    def ask(self) -> None:
        """Call now, or as soon as it is time."""
        if self._timer is not None:
            return
        wait = self._last + self._seconds - monotonic()
        if wait <= 0:
            self._now()
        else:
            self._timer = self._pump.set_timer(wait, self._now)

    def _now(self) -> None:
        self._timer = None
        self._last = monotonic()
        self._call()
