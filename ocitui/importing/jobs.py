"""Several imports at once, in a thread and an event loop of their own.

Neither a terminal that is no longer read nor a busy screen holds them up, and they hold no key up.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ocitui.cache import CacheError, PackerCache

from .image_import import ImportDesk, ImportResult, import_image
from .progress import ImportPhase, ImportProgress
from .requests import ImportRequest
from .unfinished import forget, recorded

_AT_ONCE = 2


class JobState(StrEnum):
    """WAITING for its turn. CANCELLED by the operator. INTERRUPTED as the program leaves: it can be gone on with."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class ImportJob:
    """An import as it stands; ``began`` and ``ended`` are seconds since the epoch, None where it has not."""

    id: int
    request: ImportRequest
    state: JobState = JobState.WAITING
    progress: ImportProgress = field(default_factory=lambda: ImportProgress(ImportPhase.WAIT))
    result: ImportResult | None = None
    error: CacheError | None = None
    began: float | None = None
    ended: float | None = None

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in (JobState.WAITING, JobState.RUNNING)


JobCall = Callable[[ImportJob], None]


class ImportQueue:
    """The imports of one program, those that have ended too. ``on_change`` is called with each new state of a job,
    from the queue's own thread.

    Every method may be called from any thread.
    """

    def __init__(self, cache: PackerCache, on_change: JobCall = lambda job: None, *, at_once: int = _AT_ONCE) -> None:
        self._cache = cache
        self._on_change = on_change
        self._at_once = at_once
        self._lock = threading.Lock()
        self._jobs: dict[int, ImportJob] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._thread: _LoopThread | None = None
        self._desk: ImportDesk | None = None
        self._turn = asyncio.Semaphore(at_once)
        self._leaving = False

    @property
    def jobs(self) -> list[ImportJob]:
        """Every import since the start, in the order they were asked for."""
        with self._lock:
            return list(self._jobs.values())

    @property
    def active(self) -> list[ImportJob]:
        """Those that wait or run."""
        return [job for job in self.jobs if job.active]

    def submit(self, request: ImportRequest) -> int:
        """Put an import at the end of the queue; gives its id."""
        with self._lock:
            if self._thread is None:
                self._thread = _LoopThread()
            number = len(self._jobs) + 1
            self._jobs[number] = ImportJob(number, request)
        self._thread.call(self._start, number)
        return number

    def cancel(self, number: int) -> None:
        """End an import that waits or runs, and forget it; what was downloaded stays."""
        if self._thread is not None:
            self._thread.call(self._cancel, number)

    def close(self) -> None:
        """End all imports, packers included, and wait for that; the next start can go on with them."""
        thread = self._thread
        if thread is None or self._leaving:
            return
        self._leaving = True
        thread.run(self._end_all())
        thread.stop()

    # What follows runs on the queue's own loop.

    def _start(self, number: int) -> None:
        self._tasks[number] = asyncio.get_running_loop().create_task(self._run(number))

    def _cancel(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    async def _end_all(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, number: int) -> None:
        record: list[str] = []
        self._change(number)
        try:
            result = await self._import(number, record)
        except asyncio.CancelledError:
            await self._end_cancelled(number, record)
        except CacheError as error:
            self._change(number, state=JobState.FAILED, error=error, ended=time.time())
        else:
            self._change(number, state=JobState.DONE, result=result, ended=time.time())
        finally:
            del self._tasks[number]

    async def _import(self, number: int, record: list[str]) -> ImportResult:
        if self._desk is None:
            self._desk = ImportDesk.of(self._cache)
        request = self._jobs[number].request
        with recorded(self._cache.directory, request) as import_id:
            record.append(import_id)
            async with self._turn:
                self._change(number, state=JobState.RUNNING, began=time.time())
                return await import_image(self._desk, request, lambda now: self._change(number, progress=now))

    async def _end_cancelled(self, number: int, record: list[str]) -> None:
        state = JobState.INTERRUPTED if self._leaving else JobState.CANCELLED
        if state is JobState.CANCELLED and record:
            with suppress(CacheError):
                await asyncio.to_thread(forget, self._cache.directory, record[0])
        self._change(number, state=state, ended=time.time())

    def _change(self, number: int, **changes: object) -> None:
        with self._lock:
            job = self._jobs[number] = replace(self._jobs[number], **changes)  # type: ignore[arg-type]
        self._on_change(job)


class _LoopThread:
    """A thread that runs an event loop until it is told to stop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ocitui-imports", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[int], None], number: int) -> None:
        self._loop.call_soon_threadsafe(function, number)

    def run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()  # type: ignore[arg-type]

    def stop(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
