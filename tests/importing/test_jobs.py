"""The queue of imports: order, cancelling, closing, and whose thread tells what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocitui.cache import CorruptIndexError, PackerCache
from ocitui.importing import jobs
from ocitui.importing.errors import NoRoomError, SourceError
from ocitui.importing.image_import import (
    ImportDesk,
    ImportOutcome,
    ImportResult,
    recorded_import,
    unfinished_imports,
)
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.jobs import ImportJob, ImportQueue, JobState
from ocitui.importing.progress import ImportPhase, ImportProgress, ProgressCall
from ocitui.importing.sources.references import Credentials, Logins
from tests.cache.support import PATIENT_SECONDS, TAR, make_image, until, write_cache
from tests.importing.pipeline import LAYERS, NAME, image_of, layout_of, staged

IMAGE = image_of(*LAYERS)


@pytest.fixture
def cache(tmp_path: Path) -> PackerCache:
    write_cache(tmp_path / "cache", [1])
    return PackerCache(tmp_path / "cache")


class Stage:
    """Stands for `import_image`: each import waits until it is let go, or ends in an error."""

    def __init__(self, result: ImportResult) -> None:
        self.result = result
        self.begun: list[str] = []
        self.free: set[str] = set()
        self.errors: dict[str, Exception] = {}
        self.logins: dict[str, Logins] = {}

    async def import_image(
        self, desk: ImportDesk, request: ImportRequest, progress: ProgressCall, logins: Logins
    ) -> ImportResult:
        self.begun.append(request.source)
        self.logins[request.source] = logins
        progress(ImportProgress(ImportPhase.READ, 1, 2))
        await until(lambda: request.source in self.free)
        if request.source in self.errors:
            raise self.errors[request.source]
        return self.result


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(ImportResult(make_image(tmp_path / "packed"), ImportOutcome.STORED))
    monkeypatch.setattr(jobs, "import_image", made.import_image)
    return made


@pytest.fixture
def heard() -> list[tuple[ImportJob, str]]:
    """Each state that was told, and the thread that told it."""
    return []


@pytest.fixture
def queue(cache: PackerCache, heard: list[tuple[ImportJob, str]]) -> Iterator[ImportQueue]:
    made = ImportQueue(cache, lambda job: heard.append((job, threading.current_thread().name)))
    yield made
    made.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def states(queue: ImportQueue) -> list[JobState]:
    return [job.state for job in queue.jobs]


def asked(name: str) -> ImportRequest:
    return ImportRequest(source=f"docker://{name}")


def test_in_order_and_not_all_at_once(queue: ImportQueue, stage: Stage, heard: list[tuple[ImportJob, str]]) -> None:
    numbers = [queue.submit(asked(name)) for name in "abcd"]
    wait_for(lambda: len(stage.begun) == 2)
    assert states(queue) == [JobState.RUNNING] * 2 + [JobState.WAITING] * 2
    assert [job.id for job in queue.active] == numbers
    stage.free |= {"docker://b"}
    wait_for(lambda: len(stage.begun) == 3)
    stage.free |= {f"docker://{name}" for name in "acd"}
    wait_for(lambda: not queue.active)
    assert stage.begun == [f"docker://{name}" for name in "abcd"]
    assert states(queue) == [JobState.DONE] * 4
    assert {thread for _, thread in heard} == {"ocitui-imports"}
    for job in queue.jobs:
        assert job.result is stage.result
        told = [told.state for told, _ in heard if told.id == job.id]
        assert list(dict.fromkeys(told)) == [JobState.WAITING, JobState.RUNNING, JobState.DONE]
    assert any(told.progress.done == 1 for told, _ in heard)


def test_waiting_and_running_ones_are_cancelled(queue: ImportQueue, stage: Stage, cache: PackerCache) -> None:
    numbers = [queue.submit(asked(name)) for name in "abc"]
    wait_for(lambda: len(stage.begun) == 2)
    for number in (numbers[2], numbers[0], numbers[0], 99):
        queue.cancel(number)
    wait_for(lambda: states(queue) == [JobState.CANCELLED, JobState.RUNNING, JobState.CANCELLED])
    stage.free.add("docker://b")
    wait_for(lambda: not queue.active)
    assert stage.begun == ["docker://a", "docker://b"]
    wait_for(lambda: not list((cache.directory / ".ocitui" / "imports").iterdir()))
    assert unfinished_imports(cache.directory) == []


def test_cancelled_before_its_first_step(queue: ImportQueue, stage: Stage, cache: PackerCache) -> None:
    for _ in range(20):
        queue.cancel(queue.submit(asked("a")))
    wait_for(lambda: not queue.active)
    assert set(states(queue)) == {JobState.CANCELLED}
    assert unfinished_imports(cache.directory) == []


def test_errors_are_told(queue: ImportQueue, stage: Stage, cache: PackerCache) -> None:
    known, unforeseen = NoRoomError("full"), ZeroDivisionError("a fault of ours")
    stage.errors = {"docker://a": known, "docker://b": unforeseen}
    stage.free |= set(stage.errors)
    for name in "ab":
        queue.submit(asked(name))
    wait_for(lambda: not queue.active)
    first, second = queue.jobs
    assert (first.state, first.error) == (JobState.FAILED, known)
    assert second.state is JobState.FAILED
    assert second.error is not None
    assert "a fault of ours" in second.error.message
    assert unfinished_imports(cache.directory) == []


def test_closing_keeps_what_waits_and_what_runs(
    cache: PackerCache, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.importing.jobs._AT_ONCE", 1)
    queue = ImportQueue(cache)
    for name in "abc":
        queue.submit(asked(name))
    wait_for(lambda: len(stage.begun) == 1)
    assert unfinished_imports(cache.directory) == [], "those that are held are not unfinished"
    queue.close()
    queue.close()
    assert states(queue) == [JobState.INTERRUPTED] * 3
    assert [one.request for one in unfinished_imports(cache.directory)] == [asked(name) for name in "abc"]
    assert not any(thread.name == "ocitui-imports" for thread in threading.enumerate())


def test_closing_at_once_keeps_what_was_just_asked_for(
    cache: PackerCache, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.importing.jobs._AT_ONCE", 1)
    queue = ImportQueue(cache)
    for name in "ab":
        queue.submit(asked(name))
    queue.close()
    assert [one.request for one in unfinished_imports(cache.directory)] == [asked(name) for name in "ab"]


def test_after_the_close(cache: PackerCache, stage: Stage) -> None:
    queue = ImportQueue(cache)
    queue.close()
    queue.submit(asked("late"))
    queue.cancel(1)
    assert states(queue) == [JobState.INTERRUPTED]


def test_an_interrupted_import_is_gone_on_with(cache: PackerCache, stage: Stage) -> None:
    with pytest.raises(KeyboardInterrupt), recorded_import(cache.directory, asked("a")) as record:
        raise KeyboardInterrupt
    queue = ImportQueue(cache)
    queue.submit(asked("a"), record)
    wait_for(lambda: bool(stage.begun))
    assert unfinished_imports(cache.directory) == []
    stage.free.add("docker://a")
    wait_for(lambda: not queue.active)
    assert states(queue) == [JobState.DONE]
    queue.close()
    assert unfinished_imports(cache.directory) == []


def test_real_imports(queue: ImportQueue, cache: PackerCache, tmp_path: Path) -> None:
    source = f"oci:{layout_of(tmp_path / 'layout', IMAGE)}:x"
    for _ in range(3):
        queue.submit(ImportRequest(source=source, name=NAME, format=TAR, platform="linux/amd64"))
    wait_for(lambda: not queue.active)
    outcomes = [job.result.outcome for job in queue.jobs if job.result]
    assert sorted(outcomes) == [ImportOutcome.CACHED, ImportOutcome.CACHED, ImportOutcome.STORED]
    assert staged(cache.directory) == []


@pytest.mark.slow
def test_real_imports_are_refused(queue: ImportQueue, cache: PackerCache, tmp_path: Path) -> None:
    queue.submit(ImportRequest(source="oci:/nowhere", name=NAME))
    wait_for(lambda: not queue.active)
    (cache.directory / "index.json").write_bytes(b"{")
    queue.submit(ImportRequest(source=f"oci:{layout_of(tmp_path / 'layout', IMAGE)}:x", name=NAME))
    wait_for(lambda: not queue.active)
    first, second = queue.jobs
    assert isinstance(first.error, SourceError)
    assert isinstance(second.error, CorruptIndexError)


def test_a_login_goes_along_with_its_own_import(queue: ImportQueue, stage: Stage) -> None:
    login = {"registry.example": Credentials("anna", "s3cret")}
    queue.submit(asked("a"), logins=login)
    queue.submit(asked("b"))
    stage.free |= {asked("a").source, asked("b").source}
    wait_for(lambda: not queue.active)
    assert stage.logins == {asked("a").source: login, asked("b").source: {}}
