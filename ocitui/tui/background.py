"""Work beside the screen: a thread and event loop of its own, and drawing no more often than a slow line bears."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from textual.message_pump import MessagePump
from textual.timer import Timer

T = TypeVar("T")


async def run_beside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What ``work`` gives. A cancelled caller cancels it, and does not wait for its end."""
    errand = _Errand(work)
    threading.Thread(target=errand.run, name="ocitui-look", daemon=True).start()
    return await asyncio.wrap_future(errand.outcome)


class _Errand(Generic[T]):
    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self.outcome: Future[T] = Future()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(self._work())

        def give_up(outcome: Future[T]) -> None:
            # By the one that asked; it may come before the work began, or once it is over.
            if outcome.cancelled() and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        self.outcome.add_done_callback(give_up)
        await asyncio.wait([task])
        if self.outcome.cancelled() or not self.outcome.set_running_or_notify_cancel():
            task.cancelled() or task.exception()
        elif task.cancelled():
            self.outcome.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


class Throttle:
    """Calls at most once in ``seconds``, and always once after the last time it was asked; no timer runs at rest."""

    def __init__(
        self, pump: MessagePump, seconds: float, call: Callable[[], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pump = pump
        self._seconds = seconds
        self._call = call
        self._clock = clock
        self._last = float("-inf")
        self._timer: Timer | None = None

    def ask(self) -> None:
        """Call now, or as soon as it is time."""
        if self._timer is not None:
            return
        wait = self._last + self._seconds - self._clock()
        if wait <= 0:
            self._now()
        else:
            self._timer = self._pump.set_timer(wait, self._now)

    def _now(self) -> None:
        self._timer = None
        self._last = self._clock()
        self._call()
