"""Two programs, and many tasks of one: one writer at a time, nothing lost, nobody stuck."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cache import ImageName, LockedError, PackerCache, TransactionState
from ocitui.cache.backups import fold_backups, list_backups
from ocitui.cache.disk import Disk
from tests.cache.scenes import key
from tests.cache.support import SQUASHFS, digests_and_formats, make_image, stored, until, write_cache
from tests.tools import ROOT

HOLD = """
import sys
from pathlib import Path
from ocitui.cache.disk import Disk
from ocitui.cache.workspace import open_workspace
with open_workspace(Path(sys.argv[1]), Disk(), "hold the lock", lambda: None):
    print("held", flush=True)
    sys.stdin.read()
"""
STORE = """
import asyncio, sys
from pathlib import Path
from ocitui.cache import PackerCache
from tests.cache.support import stored
async def main(directory, label):
    cache = await PackerCache.open(directory, wait=120)
    sys.stdin.read(1)
    for number in range(50):
        await stored(cache, Path(directory).parent / label, f"{label}{number}", name=f"{label}:{number}")
asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def program(source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python program, ended at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", source, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_the_holder_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    write_cache(directory, range(2))
    cache = await PackerCache.open(directory)
    with program(HOLD, str(directory)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError) as caught:
            await cache.delete([key(0)])
        assert f"process {holder.pid}" in caught.value.holder
        assert "hold the lock" in str(caught.value)
        assert caught.value.hint
        # A reader does not mind.
        assert len(await cache.list()) == 2
        assert await cache.transactions() == []
    await cache.delete([key(0)])
    assert digests_and_formats(directory) == [key(1)]


async def test_a_writer_waits_for_the_lock(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    write_cache(directory, range(2))
    with program(HOLD, str(directory)) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        waiting = asyncio.create_task(PackerCache(directory, wait=120).delete([key(0)]))
        await asyncio.sleep(0)
        assert not waiting.done()
        holder.stdin.close()
        await waiting


@pytest.mark.slow
def test_two_programs_store_at_once(memory_path: Path) -> None:
    directory = memory_path / "cache"
    directory.mkdir()
    with program(STORE, str(directory), "a") as one, program(STORE, str(directory), "b") as other:
        one.communicate("go", timeout=300)
        other.communicate("go", timeout=300)
        assert (one.returncode, other.returncode) == (0, 0)
    assert len(set(digests_and_formats(directory))) == 100
    assert len(list(directory.glob("*.squashfs"))) == 100


@pytest.mark.slow
async def test_many_lookups_and_stores_at_once(memory_path: Path) -> None:
    directory = memory_path / "cache"
    write_cache(directory, range(5))
    name = ImageName.parse("image1:1")
    async with asyncio.timeout(300), await PackerCache.open(directory) as cache:
        stores = [stored(cache, memory_path / "source", f"new{number}", name=f"new:{number}") for number in range(20)]
        lookups = [cache.resolve(name, SQUASHFS) for _ in range(200)]
        _, *found = await asyncio.gather(asyncio.gather(*stores), *lookups)
        assert all(found)
        assert len(await cache.list()) == 25


async def test_closing_waits_for_the_backups_that_are_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on, ended = threading.Event(), threading.Event(), list[int]()

    def fold(directory: Path, disk: Disk) -> None:
        began.set()
        assert go_on.wait(300)
        fold_backups(directory, disk)
        ended.append(len(list_backups(directory)))

    write_cache(tmp_path, range(3))
    cache = PackerCache(tmp_path)
    await cache.delete([key(0)])
    monkeypatch.setattr("ocitui.cache.backups.MOST_LOOSE", 0)
    monkeypatch.setattr("ocitui.cache.backups.fold_backups", fold)
    await cache.delete([key(1)])
    await until(began.is_set, "the folding")
    closing = asyncio.create_task(cache.close())
    for _ in range(5):
        await asyncio.to_thread(lambda: None)
    too_soon = closing.done()
    go_on.set()
    await closing
    assert not too_soon
    assert ended == [len(list_backups(tmp_path))]
    assert [bool(one.chain) for one in list_backups(tmp_path)] == [False, True]
    await cache.delete([key(2)])
    await cache.close()


async def test_closing_tells_what_went_wrong_with_the_backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(directory: Path, disk: Disk) -> None:
        raise ArithmeticError("a mistake of ours")

    monkeypatch.setattr("ocitui.cache.backups.MOST_LOOSE", -1)
    monkeypatch.setattr("ocitui.cache.backups.fold_backups", fold)
    write_cache(tmp_path, range(2))
    cache = PackerCache(tmp_path)
    await cache.delete([key(0)])
    with pytest.raises(ArithmeticError):
        await cache.close()
    await cache.close()


class GatedDisk(Disk):
    """Waits in its first rename until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.open = threading.Event(), threading.Event()

    def step(self, operation: str, name: str) -> None:
        if operation == "rename":
            self.reached.set()
            assert self.open.wait(300)


@pytest.mark.parametrize("what", ["store", "delete"])
async def test_a_cancelled_call_leaves_a_whole_transaction(what: str, tmp_path: Path) -> None:
    directory, disk = tmp_path / "cache", GatedDisk()
    write_cache(directory, range(2))
    cache = PackerCache(directory, disk=disk)
    image = make_image(tmp_path / "packed")
    task: asyncio.Task[object] = asyncio.create_task(cache.store(image) if what == "store" else cache.delete([key(0)]))
    await until(disk.reached.is_set, "the first rename")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    disk.open.set()
    await cache.close()
    assert [one.state for one in await cache.transactions()] == [TransactionState.DONE]
    assert len(digests_and_formats(directory)) == (3 if what == "store" else 1)
    assert os.listdir(directory / ".ocitui" / "staging") == []


async def test_closing_that_is_given_up_does_not_lock_the_cache(tmp_path: Path) -> None:
    directory, disk = tmp_path / "cache", GatedDisk()
    write_cache(directory, range(2))
    cache = PackerCache(directory, disk=disk)
    writing = asyncio.create_task(cache.delete([key(0)]))
    await until(disk.reached.is_set, "the first rename")
    closing = asyncio.create_task(cache.close())
    await asyncio.sleep(0)
    closing.cancel()
    disk.open.set()
    await writing
    async with asyncio.timeout(300):
        await cache.delete([key(1)])
