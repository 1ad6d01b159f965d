"""`examine`: what is wrong with a cache, to the depth that is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path

from ocitui.importing.threads import Stop, in_thread

from .examination import Examination, ExamineOptions
from .files import CacheFiles
from .findings import Finding
from .pacing import Progress
from .report import Report

__all__ = ["ExamineOptions", "examine", "examining"]

_QUICK = ExamineOptions()


async def examine(
    directory: Path,
    options: ExamineOptions = _QUICK,
    progress: Callable[[Progress], object] | None = None,
    on_findings: Callable[[list[Finding]], object] | None = None,
    *,
    open_files: Callable[[Path], CacheFiles] = CacheFiles,
) -> Report:
    """Examine the cache in a directory; nothing of it is changed.

    ``progress`` and ``on_findings`` are called on the event loop, the latter with findings as they are made. Cancelled,
    it ends once its threads have. Raises CacheDirectoryError where the directory is not there or cannot be listed, and
    for nothing else that the disk holds.
    """
    loop = asyncio.get_running_loop()

    def tell(call: Callable[[Progress], object] | Callable[[list[Finding]], object] | None) -> Callable[..., object]:
        return (lambda what: None) if call is None else (lambda what: loop.call_soon_threadsafe(call, what))

    def work(stop: Stop) -> Report:
        with open_files(directory) as files:
            return Examination(files, options, stop, tell(progress), tell(on_findings)).run()

    return await in_thread(work)


async def examining(
    directory: Path, options: ExamineOptions = _QUICK
) -> AsyncGenerator[Progress | list[Finding] | Report]:
    """The same as a stream: progress and findings as they come, at last the report. Raises as `examine` does."""
    coming: asyncio.Queue[Progress | list[Finding] | None] = asyncio.Queue()
    running = asyncio.ensure_future(examine(directory, options, coming.put_nowait, coming.put_nowait))
    running.add_done_callback(lambda _: coming.put_nowait(None))
    try:
        while (news := await coming.get()) is not None:
            yield news
        yield running.result()
    finally:
        if not running.done():
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
