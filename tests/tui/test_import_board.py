"""The queue behind the screen: whatever an import is told, it ends, and says so once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from ocitui.cache import PackerCache
from ocitui.importing import jobs
from ocitui.importing.image_import import unfinished_imports
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.jobs import ImportJob, ImportQueue, JobState
from ocitui.tui.session import Imports, leaves_of_imports
from tests.tui.cache_support import make_cache
from tests.tui.import_support import ALPINE, layout_with_names, leave_interrupted

_LIMIT = 30.0


class _Watched:
    """A queue, and what it said."""

    def __init__(self, cache: Path) -> None:
        self.states: list[JobState] = []
        self._ended = threading.Semaphore(0)
        self.queue = ImportQueue(PackerCache(cache), self._changed)

    def _changed(self, job: ImportJob) -> None:
        self.states.append(job.state)
        if not job.active:
            self._ended.release()

    def wait(self) -> ImportJob:
        assert self._ended.acquire(timeout=_LIMIT)
        return self.queue.jobs[-1]


@pytest.fixture
def request_(tmp_path: Path) -> ImportRequest:
    return ImportRequest(source=f"oci:{layout_with_names(tmp_path / 'layout', ALPINE)}")


def test_an_import_is_cancelled_before_its_first_step(tmp_path: Path, request_: ImportRequest) -> None:
    watched = _Watched(make_cache(tmp_path / "image"))
    number = watched.queue.submit(request_)
    watched.queue.cancel(number)
    watched.queue.cancel(number)
    assert watched.wait().state is JobState.CANCELLED
    watched.queue.close()
    assert unfinished_imports(tmp_path / "image") == []


def test_what_nobody_foresaw_fails_the_import(
    tmp_path: Path, request_: ImportRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(jobs, "import_image", broken)
    watched = _Watched(make_cache(tmp_path / "image"))
    watched.queue.submit(request_)
    job = watched.wait()
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert "the disk is gone" in job.error.message
    watched.queue.close()


def test_all_who_close_it_wait(tmp_path: Path, request_: ImportRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    async def endless(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(jobs, "import_image", endless)
    watched = _Watched(make_cache(tmp_path / "image"))
    watched.queue.submit(request_)
    assert begun.wait(_LIMIT)
    seen: list[JobState] = []

    def close() -> None:
        watched.queue.close()
        seen.extend(job.state for job in watched.queue.jobs)

    closers = [threading.Thread(target=close) for _ in range(3)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
    assert seen == [JobState.INTERRUPTED] * 3
    assert len(unfinished_imports(tmp_path / "image")) == 1
    number = watched.queue.submit(request_)
    assert watched.queue.jobs[number - 1].state is JobState.INTERRUPTED


def test_news_is_told_once_until_it_is_taken(tmp_path: Path, request_: ImportRequest) -> None:
    told = threading.Semaphore(0)
    board = Imports(PackerCache(make_cache(tmp_path / "image")), told.release)
    board.queue.submit(request_)
    board.queue.close()
    assert told.acquire(timeout=_LIMIT)
    assert not told.acquire(blocking=False)


def test_what_imports_left_is_seen_without_loading_them(tmp_path: Path, request_: ImportRequest) -> None:
    cache = make_cache(tmp_path / "image")
    assert not leaves_of_imports(cache)
    leave_interrupted(cache, request_)
    assert leaves_of_imports(cache)
