"""Beside a writer that takes no lock: it reads index.json, adds an entry of its own, and writes the whole."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import ImageName, PackerCache
from ocitui.cache.disk import Disk
from ocitui.cache.files import INDEX_NAME
from tests.cache.steps import Before, Snapshot, prepare
from tests.cache.support import SQUASHFS, digests_and_formats, entry, index_bytes, stored, write_cache
from tests.tools import seeds

Foreign = Callable[[Path, int], None]
CASES = ["store", "store-replacing", "delete-many", "undo-delete-many", "undo-store"]
_numbers = itertools.count(100)


def with_theirs(index: Path, number: int) -> bytes:
    """The index as the other writer would have it after its update."""
    fields: dict[str, Any] = json.loads(index.read_bytes())
    return index_bytes([*fields["manifests"], entry(number)])


def truncate_and_write(index: Path, number: int) -> None:
    index.write_bytes(with_theirs(index, number))


def rename_over(index: Path, number: int) -> None:
    draft = index.with_name(".draft")
    draft.write_bytes(with_theirs(index, number))
    draft.rename(index)


class InvadedDisk(Disk):
    """Before each of these steps, by number, another writer makes an update."""

    def __init__(self, index: Path, foreign: Foreign, *at: int) -> None:
        super().__init__()
        self.index, self.foreign = index, foreign
        self.at = at
        self.steps: list[str] = []
        self.theirs: list[int] = []

    def step(self, operation: str, name: str) -> None:
        if len(self.steps) in self.at:
            number = next(_numbers)
            self.foreign(self.index, number)
            self.theirs.append(number)
        self.steps.append(f"{operation} {name}")


def expect(snapshot: Snapshot, disk: InvadedDisk, expected: set[tuple[str, str]]) -> None:
    """Both the update made here and all of theirs are in the index."""
    theirs = {(str(entry(number)["digest"]), "squashfs") for number in disk.theirs}
    where = [disk.steps[at] for at in disk.at if at < len(disk.steps)]
    assert set(digests_and_formats(snapshot.directory)) == expected | theirs, where


@pytest.fixture
def nobody_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)


@pytest.mark.usefixtures("nobody_is_slow")
@pytest.mark.parametrize("foreign", [truncate_and_write, rename_over])
@pytest.mark.parametrize("case", CASES)
async def test_an_update_at_every_step(case: str, foreign: Foreign, memory_path: Path) -> None:
    template, act = await prepare(case, memory_path / "template")
    snapshot = template.copy(memory_path / "run")
    await act(PackerCache(snapshot.directory), snapshot)
    expected = set(digests_and_formats(snapshot.directory))
    for at in range(1000):
        snapshot = template.copy(memory_path / "run")
        before, disk = Before(snapshot), InvadedDisk(snapshot.directory / "index.json", foreign, at)
        cache = PackerCache(snapshot.directory, disk=disk)
        await act(cache, snapshot)
        if not disk.theirs:
            break
        expect(snapshot, disk, expected)
        before.check(snapshot, disk.steps[at])
        assert [d.key for d in await cache.list()] == digests_and_formats(snapshot.directory)
        assert os.listdir(snapshot.directory / ".ocitui" / "staging") == []


@pytest.mark.usefixtures("nobody_is_slow")
@pytest.mark.parametrize("case", ["store", "delete-many"])
async def test_two_updates_one_at_the_exchange(case: str, memory_path: Path) -> None:
    template, act = await prepare(case, memory_path / "template")
    snapshot = template.copy(memory_path / "run")
    disk = InvadedDisk(snapshot.directory / "index.json", rename_over)
    await act(PackerCache(snapshot.directory, disk=disk), snapshot)
    expected = set(digests_and_formats(snapshot.directory))
    exchange = disk.steps.index("exchange index.json")
    for at in range(exchange + 1, len(disk.steps)):
        snapshot = template.copy(memory_path / "run")
        disk = InvadedDisk(snapshot.directory / "index.json", rename_over, exchange, at)
        await act(PackerCache(snapshot.directory, disk=disk), snapshot)
        assert len(disk.theirs) == 2
        expect(snapshot, disk, expected)


class SlowWriter:
    """Has truncated index.json before the exchange, and writes only after it."""

    def __init__(self) -> None:
        self.number = 0
        self.file: Any = None
        self.data = b""

    def __call__(self, index: Path, number: int) -> None:
        self.data, self.number = with_theirs(index, number), number
        self.file = open(index, "wb", buffering=0)  # noqa: SIM115
        threading.Timer(0.05, self.finish).start()

    def finish(self) -> None:
        with self.file:
            half = len(self.data) // 2
            self.file.write(self.data[:half])
            os.fsync(self.file.fileno())
            self.file.write(self.data[half:])


@pytest.mark.parametrize("case", ["store", "delete-many"])
async def test_a_writer_that_is_slow(case: str, memory_path: Path) -> None:
    template, act = await prepare(case, memory_path / "template")
    snapshot = template.copy(memory_path / "run")
    disk = InvadedDisk(snapshot.directory / "index.json", SlowWriter())
    await act(PackerCache(snapshot.directory, disk=disk), snapshot)
    expected = set(digests_and_formats(snapshot.directory))
    exchange = disk.steps.index("exchange index.json")
    for at in range(exchange - 3, exchange + 1):
        snapshot = template.copy(memory_path / "run")
        disk = InvadedDisk(snapshot.directory / "index.json", SlowWriter(), at)
        await act(PackerCache(snapshot.directory, disk=disk), snapshot)
        expect(snapshot, disk, expected)


class NoExchange(Disk):
    """A file system without RENAME_EXCHANGE."""

    def exchange(self, *_: object) -> bool:
        return False


@pytest.mark.parametrize("case", CASES)
async def test_without_the_exchange(case: str, memory_path: Path) -> None:
    template, act = await prepare(case, memory_path / "template")
    results = []
    for disk in (Disk(), NoExchange()):
        snapshot = template.copy(memory_path / "run")
        before = Before(snapshot)
        await act(PackerCache(snapshot.directory, disk=disk), snapshot)
        before.check(snapshot, "the end")
        results.append(digests_and_formats(snapshot.directory))
    assert results[0] == results[1]


async def test_a_transaction_notes_that_there_was_no_exchange(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    (first, second) = [descriptor.key for descriptor in await PackerCache(directory).list()]
    assert (await PackerCache(directory).delete([first])).note == ""
    done = await PackerCache(directory, disk=NoExchange()).delete([second])
    assert "cannot exchange" in done.note
    # The journal keeps it.
    assert [one.note for one in await PackerCache(directory).transactions()] == [done.note, ""]


class RacedDisk(Disk):
    """Another thread makes an update beside a step of each store; some are waited for, some go on meanwhile."""

    def __init__(self, index: Path, chance: random.Random) -> None:
        super().__init__()
        self.index, self.chance = index, chance
        self.is_due = False
        self.at_the_exchange = 0
        self.theirs: list[Future[int]] = []
        self.writer = ThreadPoolExecutor(1)

    def step(self, operation: str, name: str) -> None:
        exchange = (operation, name) == ("exchange", INDEX_NAME)
        if self.is_due and (exchange or self.chance.random() < 0.02):
            self.is_due = False
            self.theirs.append(self.writer.submit(self._update))
            if self.chance.random() < 0.5:
                self.theirs[-1].result(60)
                self.at_the_exchange += exchange

    def _update(self) -> int:
        number = next(_numbers)
        rename_over(self.index, number)
        return number


@pytest.mark.parametrize("seed", seeds(3, 50))
async def test_races_by_chance(seed: int, memory_path: Path) -> None:
    """Beside a writer that renames now and then, nothing that it adds is ever lost."""
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    disk = RacedDisk(directory / INDEX_NAME, random.Random(seed))
    cache = PackerCache(directory, disk=disk)
    with disk.writer:
        for round_ in range(20):
            disk.is_due = True
            await stored(cache, memory_path / "source", f"ours{round_}", name=f"ours:{round_}")
    assert disk.at_the_exchange > 1, "a race that is not run proves nothing"
    there = {digest for digest, _ in digests_and_formats(directory)}
    assert {str(entry(update.result())["digest"]) for update in disk.theirs} <= there


def rewrite_as_the_daemon(index: Path, stop: threading.Event, errors: list[BaseException]) -> None:
    """Truncate, write, two hundred times a second, always the same entries in another order."""
    numbers = list(range(50))
    try:
        while not stop.wait(0.005):
            numbers.append(numbers.pop(0))
            index.write_bytes(index_bytes(entry(number) for number in numbers))
    except OSError as error:
        errors.append(error)


async def test_reading_beside_a_daemon_that_writes_all_the_time(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(50))
    stop, errors = threading.Event(), list[BaseException]()
    daemon = threading.Thread(target=rewrite_as_the_daemon, args=(directory / "index.json", stop, errors))
    seen: list[str] = []
    cache = await PackerCache.open(directory)
    everything = {descriptor.key for descriptor in await cache.list()}

    async def watch() -> None:
        async for difference in cache.watch():
            seen.append(difference.health.condition)
            assert {d.key for d in difference.descriptors} == everything

    watcher = asyncio.create_task(watch())
    daemon.start()
    try:
        for number in range(300):
            listed = await cache.list()
            assert {d.key for d in listed} == everything
            one = listed[number % 50]
            name = ImageName.parse(one.image_name or "")
            assert await cache.recall(name, one.digest, SQUASHFS) is not None
            assert await cache.resolve(name, SQUASHFS) is not None
            if number % 50 == 0:
                assert len(await (await PackerCache.open(directory)).entries()) == 50
    finally:
        stop.set()
        daemon.join()
        assert not watcher.done(), watcher
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    assert not errors
    assert set(seen) == {"sound"}
