"""A program that is killed inside a transaction: the next one finds a sound cache and nothing lost."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.cache import LockedError, PackerCache, TransactionState
from tests.cache.scenes import Scene
from tests.cache.support import EROFS, OWN, SQUASHFS, write_cache
from tests.tools import ROOT

pytestmark = pytest.mark.slow

CHURN = """
import asyncio, itertools, sys
from pathlib import Path
from ocitui.cache import PackerCache
from ocitui.cache.disk import Disk
from tests.cache.support import stored

class PausingDisk(Disk):
    left = int(sys.argv[3])
    def step(self, operation, name):
        # It lends from the reserve as long as it holds the lock.
        self.left -= self.lender is not None
        if not self.left:
            print(operation, name, flush=True)
            sys.stdin.read()

async def main(directory, source):
    cache = await PackerCache.open(directory, disk=PausingDisk())
    for number in itertools.count():
        image = await stored(cache, source, f"churn{number % 3}", name=f"churn:{number}")
        await cache.delete([descriptor.key for descriptor in await cache.list()][:4])
        await cache.undo()
        if number % 2:
            await cache.delete([(image.digest, "squashfs")])

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


def killed_at(step: int, scene: Scene) -> str:
    """Let a program store, delete and undo up to a step, and kill it there; gives the step."""
    with subprocess.Popen(
        [sys.executable, "-c", CHURN, str(scene.directory), str(scene.sources), str(step)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        try:
            reached = program.stdout.readline().strip()
            # It is in the midst of a transaction: it has the lock.
            with pytest.raises(LockedError, match=f"process {program.pid}"):
                asyncio.run(PackerCache(scene.directory).prepare())
        finally:
            program.kill()
    return reached


@pytest.mark.parametrize("seed", range(6))
async def test_killed_inside_a_transaction(seed: int, tmp_path: Path) -> None:
    scene = Scene(tmp_path / "cache", tmp_path / "sources")
    write_cache(scene.directory, range(3), (SQUASHFS, EROFS))
    scene.sources.mkdir()
    await PackerCache(scene.directory).prepare()
    there, whole = scene.everything(), scene.whole()
    where = await asyncio.to_thread(killed_at, random.Random(seed).randrange(10, 400), scene)
    assert where
    assert not there - scene.everything(), where
    scene.check_files(whole, where)
    cache = PackerCache(scene.directory)
    await cache.prepare()
    assert not there - scene.everything(), where
    scene.check_files(whole, where)
    assert os.listdir(scene.directory / OWN / "staging") == []
    states = [one.state for one in await cache.transactions()]
    assert TransactionState.PENDING not in states
    await cache.delete(scene.entries()[:1])
