"""The index as a stream of differences: quick, and never mistaken about a file that is being written."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from ocitui.cache import Condition, Difference, PackerCache
from ocitui.cache.index import Signature, index_signature
from ocitui.cache.watch import DirectoryEvents, to_the_second
from tests.cache.scenes import key
from tests.cache.support import PATIENT_SECONDS, entry, index_bytes, stored, until, write_cache

SOUND, STALE, CORRUPT = Condition.SOUND, Condition.STALE, Condition.CORRUPT


class Stream:
    """All differences of one watch so far."""

    def __init__(self, directory: Path) -> None:
        self.differences: list[Difference] = []
        self.watch = PackerCache(directory).watch()

    async def follow(self) -> None:
        async for difference in self.watch:
            self.differences.append(difference)

    async def wait(self, condition: Callable[[Difference], bool], what: str) -> Difference:
        """The first difference from now on, or the last one so far, for which the condition holds."""
        start = max(len(self.differences) - 1, 0)
        await until(lambda: any(condition(one) for one in self.differences[start:]), what)
        return next(one for one in self.differences[start:] if condition(one))

    async def has(self, *numbers: int) -> Difference:
        expected = [key(number) for number in numbers]
        return await self.wait(lambda one: [d.key for d in one.descriptors] == expected, f"entries {numbers}")

    async def condition(self, condition: Condition) -> Difference:
        return await self.wait(lambda one: one.health.condition is condition, condition)

    @property
    def conditions(self) -> list[Condition]:
        """The conditions in the order in which they came."""
        found: list[Condition] = []
        for one in self.differences:
            if found[-1:] != [one.health.condition]:
                found.append(one.health.condition)
        return found


@asynccontextmanager
async def watching(directory: Path) -> AsyncIterator[Stream]:
    stream = Stream(directory)
    task = asyncio.create_task(stream.follow())
    try:
        await until(lambda: bool(stream.differences) or task.done(), "a first difference")
        yield stream
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    write_cache(folder, range(2))
    return folder


@pytest.fixture
def events_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seen is seen by events."""
    monkeypatch.setattr("ocitui.cache.watch.POLL_SECONDS", 3600.0)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows with each look at index.json."""
    made: list[Path] = []

    def counted(directory: Path) -> Signature | None:
        made.append(directory)
        return index_signature(directory)

    monkeypatch.setattr("ocitui.cache.watch.index_signature", counted)
    return made


async def looked(looks: list[Path], times: int) -> None:
    """Wait until it has looked this often from now on."""
    goal = len(looks) + times
    await until(lambda: len(looks) >= goal, "another look")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.watch.POLL_SECONDS", 0.05)
    monkeypatch.setattr("ocitui.cache.watch.PATIENCE_SECONDS", 0.3)


def index_of(*numbers: int) -> bytes:
    return index_bytes(entry(number) for number in numbers)


def rename_over(index: Path, data: bytes) -> None:
    draft = index.with_name("draft")
    draft.write_bytes(data)
    draft.rename(index)


def truncate_and_write(index: Path, data: bytes) -> None:
    index.write_bytes(data)


def write_in_place(index: Path, data: bytes) -> None:
    with open(index, "r+b") as file:
        file.write(data)
        file.truncate()


WRITERS = [rename_over, truncate_and_write, write_in_place]


@pytest.mark.usefixtures("events_only")
@pytest.mark.parametrize("write", WRITERS)
async def test_every_way_of_writing(write: Callable[[Path, bytes], None], directory: Path) -> None:
    async with watching(directory) as stream:
        first = stream.differences[0]
        assert [one.key for one in first.added.values()] == [key(0), key(1)]
        write(directory / "index.json", index_of(0, 1, 2))
        grown = await stream.has(0, 1, 2)
        assert ([d.key for d in grown.added.values()], grown.removed, grown.changed) == ([key(2)], {}, {})
        changed = {**entry(1), "size": 5}
        write(directory / "index.json", index_bytes([changed, entry(2)]))
        now = await stream.has(1, 2)
        assert ([d.key for d in now.removed.values()], now.added) == ([key(0)], {})
        assert [d.size for d in now.changed.values()] == [5]
        assert now.index is not None
        assert now.index.keys() == [*now.changed, *grown.added]
        assert stream.conditions == [SOUND]


@pytest.mark.usefixtures("events_only")
@pytest.mark.parametrize("how", ["relative", "dot", "parent link", "link", "slash"])
async def test_however_the_directory_is_named(
    how: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory if how == "dot" else tmp_path)
    (tmp_path / "link").symlink_to(directory)
    (tmp_path / "up").symlink_to(tmp_path)
    named = {
        "relative": Path("cache"),
        "dot": Path(),
        "parent link": tmp_path / "up" / "cache",
        "link": tmp_path / "link",
        "slash": Path(f"{tmp_path}/../{tmp_path.name}//cache/"),
    }
    async with watching(named[how]) as stream:
        await stream.has(0, 1)
        rename_over(directory / "index.json", index_of(1))
        await stream.has(1)
        (directory / "something").write_bytes(b"")
        await stream.wait(lambda one: "something" in (one.files or ()), "the file")


@pytest.mark.usefixtures("events_only")
async def test_files_that_come_and_go_are_named(directory: Path) -> None:
    packed = directory / f"{key(0)[0]}.squashfs"
    async with watching(directory) as stream:
        packed.unlink()
        gone = await stream.wait(lambda one: packed.name in (one.files or ()), "the file gone")
        assert (gone.added, gone.removed, gone.changed) == ({}, {}, {})
        assert [d.key for d in gone.descriptors] == [key(0), key(1)]
        seen = len(stream.differences)
        packed.write_bytes(b"again")
        await until(lambda: any(packed.name in (one.files or ()) for one in stream.differences[seen:]))


@pytest.mark.slow
@pytest.mark.usefixtures("events_only")
async def test_our_own_transactions(directory: Path, tmp_path: Path) -> None:
    cache = PackerCache(directory)
    async with watching(directory) as stream:
        await stored(cache, tmp_path / "source", "2", name="image2:1")
        await stream.has(0, 1, 2)
        await cache.delete([key(0)])
        await stream.has(1, 2)
        await cache.undo()
        await stream.has(0, 1, 2)
        assert stream.conditions == [SOUND]


@pytest.mark.slow
async def test_a_torn_file_is_never_shown(directory: Path, looks: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.watch.PATIENCE_SECONDS", 3600.0)
    index, data = directory / "index.json", index_of(0, 1, 2)
    async with watching(directory) as stream:
        await stream.has(0, 1)
        for length in (0, len(data) // 2, len(data)):
            index.write_bytes(data[:length])
            await looked(looks, 3)
        await stream.has(0, 1, 2)
        assert stream.conditions == [SOUND]


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_stale_then_corrupt_then_sound(directory: Path, looks: list[Path]) -> None:
    index = directory / "index.json"
    async with watching(directory) as stream:
        await stream.has(0, 1)
        for number in range(1000):
            index.write_bytes(b"[" * (number + 1))
            if STALE in stream.conditions:
                break
            await looked(looks, 1)
        corrupt = await stream.condition(CORRUPT)
        assert [d.key for d in corrupt.descriptors] == [key(0), key(1)]
        assert corrupt.health.verdict is not None
        assert corrupt.health.verdict.outcome == "reset"
        assert corrupt.health.message
        index.write_bytes(index_of(1))
        sound = await stream.has(1)
        assert sound.health.condition is SOUND
        assert stream.conditions == [SOUND, STALE, CORRUPT, SOUND]


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_missing_and_back(directory: Path) -> None:
    index = directory / "index.json"
    async with watching(directory) as stream:
        data = index.read_bytes()
        index.unlink()
        missing = await stream.condition(Condition.MISSING)
        assert len(missing.descriptors) == 2
        index.write_bytes(data)
        await stream.condition(SOUND)
        assert stream.conditions == [SOUND, Condition.MISSING, SOUND]


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 3])
async def test_a_directory_removed_and_made_again(times: int, directory: Path) -> None:
    async with watching(directory) as stream:
        for round_ in range(times):
            shutil.rmtree(directory)
            gone = await stream.condition(Condition.GONE)
            assert gone.descriptors
            write_cache(directory, [round_ + 2])
            await stream.has(round_ + 2)
            # The new directory is watched as the old one was.
            rename_over(directory / "index.json", index_of(round_ + 2, 0))
            await stream.has(round_ + 2, 0)


@pytest.mark.slow
async def test_a_directory_made_again_with_the_same_inode(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(events: DirectoryEvents) -> tuple[int, int] | None:
        return (1, 1) if directory.is_dir() else None

    monkeypatch.setattr(DirectoryEvents, "_identity", identity)
    events = DirectoryEvents(directory)

    async def told_of(name: str) -> None:
        """Once it watches, it tells of a file by name."""
        async with asyncio.timeout(PATIENT_SECONDS):
            while True:
                (directory / name).touch()
                if name in (await events.wait(0.2) or ()):
                    return

    await told_of("before")
    shutil.rmtree(directory)
    directory.mkdir()
    async with asyncio.timeout(PATIENT_SECONDS):
        while await events.wait(0.2) is not None:
            """Until any file may have changed."""
    await told_of("afterwards")
    await events.close()


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_a_directory_that_comes_later(tmp_path: Path, looks: list[Path]) -> None:
    directory = tmp_path / "later"
    async with watching(directory) as stream:
        assert stream.differences[0].health.condition is Condition.GONE
        write_cache(tmp_path / "other", range(2))
        # Nothing is said twice while nothing happens.
        await looked(looks, 20)
        assert len(stream.differences) == 1
        (tmp_path / "other").rename(directory)
        await stream.has(0, 1)
        assert stream.conditions == [Condition.GONE, SOUND]


async def test_an_empty_directory_is_an_empty_cache(tmp_path: Path) -> None:
    async with watching(tmp_path) as stream:
        assert stream.differences[0].health.condition is SOUND
        assert stream.differences[0].descriptors == []
        (tmp_path / "index.json").write_bytes(index_of(4))
        await stream.has(4)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_a_file_name_that_is_not_utf_8(directory: Path) -> None:
    async with watching(directory) as stream:
        for number in range(3):
            (directory / os.fsdecode(b"\xff\xfe" + bytes([48 + number]))).write_bytes(b"")
            rename_over(directory / "index.json", index_of(number))
            await stream.has(number)
        assert stream.conditions == [SOUND]


@pytest.mark.usefixtures("events_only")
async def test_a_busy_sibling_does_not_wake_it(directory: Path, tmp_path: Path) -> None:
    async with watching(directory) as stream:
        rename_over(directory / "index.json", index_of(0))
        await stream.has(0)
        before = len(stream.differences)
        for number in range(300):
            (tmp_path / "sibling").write_bytes(b"%d" % number)
            (tmp_path / "cache-of-another").mkdir(exist_ok=True)
            (tmp_path / "cache-of-another" / "file").write_bytes(b"%d" % number)
            await asyncio.sleep(0)
        rename_over(directory / "index.json", index_of(1))
        await stream.has(1)
        assert len(stream.differences) - before <= 3
        assert not any("file" in (one.files or ()) for one in stream.differences)


def watched(directory: Path) -> list[int]:
    """The masks of this process's inotify watches of a directory, by proc(5)."""
    masks = list[int]()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            text = Path(f"/proc/self/fdinfo/{fd}").read_text()
            masks += [int(one, 16) for one in re.findall(rf"ino:{os.stat(directory).st_ino:x} .* mask:(\w+) ", text)]
    return masks


async def test_the_kernel_tells_nothing_of_files_that_are_opened(directory: Path) -> None:
    opened, written = 0x20, 0x2
    async with watching(directory) as stream:
        await until(lambda: bool(watched(directory)), "a watch of the directory")
        await until(lambda: not any(mask & opened for mask in watched(directory)), "the end of what nobody asked for")
        assert all(mask & written for mask in watched(directory))
        rename_over(directory / "index.json", index_of(1))
        await stream.has(1)


@pytest.mark.usefixtures("hasty")
async def test_without_events_it_looks_by_itself(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("watchfiles.awatch", fails)
    async with watching(directory) as stream:
        await stream.wait(lambda one: "inotify watch limit reached" in one.health.polling, "the reason")
        rename_over(directory / "index.json", index_of(1))
        await stream.has(1)
        assert stream.conditions == [SOUND]


async def test_a_watch_that_is_closed_leaves_nothing_behind(directory: Path) -> None:
    before = asyncio.all_tasks()
    for _ in range(3):
        stream = PackerCache(directory).watch()
        async for _difference in stream:
            break
        await stream.aclose()
    assert asyncio.all_tasks() == before


async def test_a_cancelled_wait_loses_nothing(directory: Path) -> None:
    async with PackerCache(directory).watch() as stream:
        first = await anext(stream)
        assert first.health.sound
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (directory / "unknown").touch()
        assert (await anext(stream)).health.sound


@pytest.mark.parametrize(("now", "seconds", "end"), [(7.1, 1.0, 8), (7.6, 1.0, 9), (7.999, 1.0, 9), (7.2, 2.0, 9)])
def test_what_looks_each_second_does_so_at_a_full_one(
    now: float, seconds: float, end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.watch.time.monotonic", lambda: now)
    assert now + to_the_second(seconds) == pytest.approx(end)
    assert to_the_second(0.05) == 0.05
