"""A program that is killed at any moment: the next one finds a sound cache and nothing lost."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ocitui.cache import PackerCache, TransactionState
from tests.cache.steps import Before, Snapshot, entries
from tests.cache.support import EROFS, OWN, SQUASHFS, make_image, write_cache
from tests.tools import ROOT

CHURN = """
import asyncio, itertools, sys
from pathlib import Path
from ocitui.cache import PackerCache
from tests.cache.support import stored
async def main(directory, source):
    cache = await PackerCache.open(directory)
    print("open", flush=True)
    for number in itertools.count():
        image = await stored(cache, source, f"churn{number % 3}", name=f"churn:{number}")
        await cache.delete([descriptor.key for descriptor in await cache.list()][:4])
        await cache.undo()
        if number % 2:
            await cache.delete([(image.digest, "squashfs")])
asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


def churn_and_kill(snapshot: Snapshot, seconds: float) -> None:
    """Let a program store, delete and undo for so long."""
    with subprocess.Popen(
        [sys.executable, "-c", CHURN, str(snapshot.directory), str(snapshot.sources)], cwd=ROOT, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        killer = threading.Timer(seconds, program.kill)
        killer.start()
        killer.join()


@pytest.mark.parametrize("seed", range(6))
async def test_killed_at_a_random_moment(seed: int, tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "cache", tmp_path / "sources")
    write_cache(snapshot.directory, range(3), (SQUASHFS, EROFS))
    snapshot.sources.mkdir()
    before = Before(snapshot)
    churn_and_kill(snapshot, random.Random(seed).uniform(0.01, 0.6))
    before.check(snapshot, "the kill")
    left = entries(snapshot)
    assert [d.key for d in await PackerCache(snapshot.directory).list()] == left
    cache = PackerCache(snapshot.directory)
    await cache.store(make_image(tmp_path / "later", "later", name="later:1"))
    before.check(snapshot, "the recovery")
    assert os.listdir(snapshot.directory / OWN / "staging") == []
    assert all(one.state is not TransactionState.PENDING for one in await cache.transactions())
    shutil.rmtree(snapshot.directory)
