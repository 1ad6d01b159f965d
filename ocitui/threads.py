"""Work in threads: reading ends when nobody waits for it any more, clearing up goes on; several at once, at a rate.

asyncio is imported where there is a loop: a process that has none, as the one that flattens, is 7 MB smaller without.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import asyncio

_SWITCH_SECONDS, _USUAL_SECONDS = 0.0005, sys.getswitchinterval()
_NAP_SECONDS = 0.05
_MOST_PROCESSORS = 16
T = TypeVar("T")
P = ParamSpec("P")


class AbandonedError(Exception):
    """Raised in the thread, where it is told to end."""


class Stop(threading.Event):
    """What the thread looks at between two steps."""

    def check(self) -> None:
        """Raises AbandonedError once the work is to end."""
        if self.is_set():
            raise AbandonedError


async def in_thread(work: Callable[[Stop], T]) -> T:
    """What ``work`` gives. A cancelled caller stops it, and goes on only once it has ended: then its files are free."""
    import asyncio

    stop = Stop()
    # No task, which a loop that ends would cancel before the thread has ended.
    running = asyncio.get_running_loop().run_in_executor(None, copy_context().run, work, stop)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        with suppress(Exception):
            await settled(running)
        raise


async def settled(work: Awaitable[T]) -> T:
    """Wait for work that has to be done even where the caller is cancelled meanwhile; then the cancellation goes on."""
    import asyncio

    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # so that nobody is told that it was never looked at
        raise cancelled
    return task.result()


def on_loop(progress: Callable[P, object] | None) -> Callable[P, None]:
    """The same progress, to be called from a thread. Call this on the event loop."""
    import asyncio

    loop = asyncio.get_running_loop()

    def report(*args: P.args, **named: P.kwargs) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(partial(progress, *args, **named))

    return report


def look_up_apart(loop: asyncio.AbstractEventLoop) -> None:
    """Have a loop look hosts up in threads that it does not wait for at its end: a resolver may be silent for long."""
    import asyncio

    def getaddrinfo(*place: Any, **hints: Any) -> Awaitable[Any]:
        found: Future[Any] = Future()
        found.set_running_or_notify_cancel()

        def look_up() -> None:
            try:
                found.set_result(socket.getaddrinfo(*place, **hints))
            except Exception as error:  # noqa: BLE001  whoever asked is told
                found.set_exception(error)

        threading.Thread(target=look_up, name="ocitui-look-up", daemon=True).start()
        return asyncio.wrap_future(found)

    vars(loop)["getaddrinfo"] = getaddrinfo


@contextmanager
def giving_way() -> Iterator[None]:
    """Let the thread that draws take over at once: it would wait for 5 ms each time that a key is pressed."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        # Not what it was before: two that overlap would leave it so for good.
        sys.setswitchinterval(_USUAL_SECONDS)


class Brake:
    """Holds all readers together to so many bytes a second; None does not."""

    def __init__(self, rate: float | None, stop: Stop) -> None:
        self._rate, self._stop = rate, stop
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, size: int) -> None:
        """Wait until so many bytes may be read. Raises AbandonedError when the work is to end."""
        self._stop.check()
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            start = self._free_at = max(self._free_at, now)
            self._free_at += size / self._rate
        while (left := start - time.monotonic()) > 0:
            self._stop.check()
            time.sleep(min(left, _NAP_SECONDS))


def in_parallel(items: Iterable[T], work: Callable[[T], object], jobs: int, stop: Stop) -> None:
    """Do ``work`` for each, ``jobs`` at once. An error ends all of it and is raised, as is AbandonedError."""
    waiting, lock, failed = iter(items), threading.Lock(), threading.Event()

    def serve() -> None:
        try:
            while not failed.is_set():
                with lock:
                    item = next(waiting, None)
                if item is None:
                    return
                stop.check()
                work(item)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(jobs, thread_name_prefix="ocitui-check") as pool:
        for serving in [pool.submit(serve) for _ in range(jobs)]:
            serving.result()


def processors() -> int:
    """How many this process may use; of many, as many as are worth their memory."""
    return min(len(os.sched_getaffinity(0)), _MOST_PROCESSORS)


@contextmanager
def made_ahead(steps: Iterable[Callable[[], T]], jobs: int, most: int) -> Iterator[Iterator[T]]:
    """What each of these gives, in their order, made ahead in ``jobs`` threads, which are gone at the end; ``most`` may
    wait. The steps are taken in this thread; what one raises comes in its place."""
    pool, coming = ThreadPoolExecutor(jobs, "made-ahead"), deque[Future[T]]()

    def made() -> Iterator[T]:
        for step in steps:
            coming.append(pool.submit(step))
            if len(coming) > most:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()

    try:
        yield made()
    finally:
        pool.shutdown(cancel_futures=True)


# ioprio_set(2) has no wrapper in the C library; its number differs by machine.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "i686": 289, "ppc64le": 273, "s390x": 282}
_WHO_PROCESS, _CLASS_IDLE, _CLASS_SHIFT = 1, 3, 13


def be_idle() -> bool:
    """Let this thread, and what it starts, read only when nobody else does; False where that is not to be had."""
    # It takes long to load.
    from ctypes import CDLL

    number = _IOPRIO_SET.get(platform.machine())
    if number is None:
        return False
    idle = _CLASS_IDLE << _CLASS_SHIFT
    return bool(CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, 0, idle) == 0)
