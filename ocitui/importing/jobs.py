"""Several imports at once, in a thread and an event loop of their own: neither a terminal that is no longer read nor a
busy screen holds them up, and they hold no key up."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import Any

import msgspec

from ocitui.cache import CacheError, PackerCache

from .image_import import ImportDesk, ImportResult, forget_import, import_image, recorded_import
from .inspect import ImportRequest
from .progress import ImportPhase, ImportProgress
from .sources.references import Logins

_AT_ONCE = 2


class JobState(StrEnum):
    """WAITING for its turn. CANCELLED by the operator. INTERRUPTED as the program leaves: it can be gone on with."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class ImportJob(msgspec.Struct, frozen=True):
    """An import as it stands; ``resumes`` is the id of the interrupted one that it goes on with, empty for none."""

    id: int
    request: ImportRequest
    resumes: str = ""
    state: JobState = JobState.WAITING
    progress: ImportProgress = ImportProgress(ImportPhase.WAIT)
    result: ImportResult | None = None
    error: CacheError | None = None
    logins: Logins = {}

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in (JobState.WAITING, JobState.RUNNING)


class ImportQueue:
    """The imports of one program, those that have ended too. ``on_change`` is called with each new state of a job, from
    the queue's own thread. Every method may be called from any thread, and `close` from a signal's handler: what it
    waits for needs no lock that the interrupted thread may hold."""

    def __init__(self, cache: PackerCache, on_change: Callable[[ImportJob], None] = lambda job: None) -> None:
        self._cache = cache
        self._on_change = on_change
        self._numbers = itertools.count(1)
        # Only the queue's own thread changes a job; a dict's single steps are atomic.
        self._jobs: dict[int, ImportJob] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._cancelled: set[int] = set()
        self._starting = threading.Lock()
        self._thread: _LoopThread | None = None
        self._desk = ImportDesk(cache)
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._leaving = False

    @property
    def jobs(self) -> list[ImportJob]:
        """Every import since the start, in the order they were asked for."""
        return list(self._jobs.values())

    @property
    def active(self) -> list[ImportJob]:
        """Those that wait or run."""
        return [job for job in self.jobs if job.active]

    def submit(self, request: ImportRequest, resumes: str = "", logins: Logins | None = None) -> int:
        """Put an import at the end of the queue; gives its id. One that is closed takes it as interrupted."""
        with self._starting:
            if self._thread is None:
                self._thread = _LoopThread(self._end_all)
        number = next(self._numbers)
        state = JobState.INTERRUPTED if self._leaving else JobState.WAITING
        self._jobs[number] = ImportJob(number, request, resumes, state, logins=logins or {})
        if not self._leaving:
            self._thread.call(self._start, number)
        return number

    def cancel(self, number: int) -> None:
        """End an import that waits or runs, and forget it; what was downloaded stays."""
        if self._thread is not None:
            self._thread.call(self._cancel, number)

    def close(self) -> None:
        """End all imports, packers included, and wait for that, in every caller; the next start can go on with them."""
        self._leaving = True
        if self._thread is not None:
            self._thread.end()

    # What follows runs on the queue's own loop.

    def _start(self, number: int) -> None:
        task = self._tasks[number] = asyncio.get_running_loop().create_task(self._run(number))
        task.add_done_callback(lambda ended: self._ended(number, ended))

    def _cancel(self, number: int) -> None:
        task = self._tasks.get(number)
        # A second time would cut short what the first one has to clear away.
        if task is not None and not task.cancelling():
            self._cancelled.add(number)
            task.cancel()

    async def _end_all(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, number: int) -> None:
        job, record = self._jobs[number], ""
        self._change(number)
        try:
            with recorded_import(self._cache.directory, job.request, job.resumes) as record:
                async with self._turn:
                    self._change(number, state=JobState.RUNNING)
                    tell = partial(self._change, number)
                    result = await import_image(self._desk, job.request, lambda now: tell(progress=now), job.logins)
        except asyncio.CancelledError:
            state = self._state_of_cancelled(number)
            if state is JobState.CANCELLED and record:
                with suppress(CacheError):
                    await asyncio.to_thread(forget_import, self._cache.directory, record)
            self._change(number, state=state)
        except CacheError as error:
            self._change(number, state=JobState.FAILED, error=error)
        else:
            self._change(number, state=JobState.DONE, result=result)

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        """Whatever an import ended with, it runs no more: cancelled before its first step, or failed unforeseen."""
        del self._tasks[number]
        if task.cancelled():
            self._change(number, state=self._state_of_cancelled(number))
        elif (error := task.exception()) is not None:
            known = CacheError(f"the import ended unforeseen: {error!r}", hint="the cache is as it was; try again")
            self._change(number, state=JobState.FAILED, error=known)

    def _state_of_cancelled(self, number: int) -> JobState:
        return JobState.CANCELLED if number in self._cancelled else JobState.INTERRUPTED

    def _change(self, number: int, **changes: object) -> None:
        job = self._jobs[number] = msgspec.structs.replace(self._jobs[number], **changes)
        self._on_change(job)


class _LoopThread(threading.Thread):
    """A thread that runs an event loop until it is told to end, and does ``last`` then."""

    def __init__(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(name="ocitui-imports", daemon=True)
        self._loop, self._told, self._last = asyncio.new_event_loop(), asyncio.Event(), last
        self.start()

    def call(self, function: Callable[..., object], *args: object) -> None:
        # One that has ended by now does nothing any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def end(self) -> None:
        """Return once the thread has ended."""
        self.call(self._told.set)
        self.join()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_told())

    async def _until_told(self) -> None:
        await self._told.wait()
        await self._last()
