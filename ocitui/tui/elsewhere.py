"""Work in a thread and an event loop of its own: what it waits for and what the terminal waits for never meet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def elsewhere(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
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
