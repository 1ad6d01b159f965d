"""A system call that fails, at any step: an error of ours; the cache as it was, or one the next writer finishes."""

from __future__ import annotations

import errno
from collections.abc import Awaitable
from pathlib import Path

import pytest

from ocitui.cache import CacheError, PackerCache, ReadOnlyError, TransactionState
from tests.cache.steps import CASES, Before, FailingDisk, prepare
from tests.cache.support import tree

pytestmark = pytest.mark.slow

FAILURES = [(errno.ENOSPC, False), (errno.EIO, True)]
KINDS = [(case, *failure) for case in CASES for failure in FAILURES] + [("store", errno.EROFS, True)]


@pytest.fixture(autouse=True)
def nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)


async def refusal(attempt: Awaitable[object]) -> CacheError | None:
    """The error of ours that an attempt ends in, if any; no other may come out."""
    try:
        await attempt
    except CacheError as error:
        return error
    return None


@pytest.mark.parametrize(("case", "code", "for_good"), KINDS)
async def test_a_failure_at_every_step(case: str, code: int, for_good: bool, memory_path: Path) -> None:
    template, act = await prepare(case, memory_path / "template")
    refused = 0
    for at in range(1000):
        scene = template.copy(memory_path / "run")
        before, disk, stood = Before(scene), FailingDisk(at, code, for_good=for_good), tree(scene.directory)
        cache = PackerCache(scene.directory, disk=disk)
        error = await refusal(act(cache, scene))
        if error is not None:
            refused += 1
            where = disk.failed
            assert str(error), where
            assert error.hint, where
            assert isinstance(error, ReadOnlyError) <= (code == errno.EROFS), where
            before.check(scene, where)
            newest = (await PackerCache(scene.directory).transactions())[0]
            if newest.state is not TransactionState.PENDING and "index was changed" not in str(error):
                assert tree(scene.directory) == stood, where
        before.check(scene, disk.failed)
        await before.check_recovered(scene, disk.failed)
        if not disk.failed:
            break
    assert refused > 3


@pytest.mark.parametrize("case", ["store", "delete-many"])
async def test_the_same_object_goes_on_after_a_failure(case: str, memory_path: Path) -> None:
    template, act = await prepare(case, memory_path / "template")
    for at in range(0, 60, 3):
        scene = template.copy(memory_path / "run")
        before, disk = Before(scene), FailingDisk(at, errno.EIO, for_good=False)
        cache = PackerCache(scene.directory, disk=disk)
        if await refusal(act(cache, scene)):
            listed = await cache.list()
            assert listed == await PackerCache(scene.directory).list()
            await cache.delete([listed[-1].key])
        before.check(scene, disk.failed)
