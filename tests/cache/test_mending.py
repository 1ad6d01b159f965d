"""A mend: one transaction bound to what was seen, and reversed byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cache import PackerCache, TransactionKind, TransactionState
from tests.cache.mends import MENDS, mend_scene, states


@pytest.mark.parametrize("name", MENDS)
async def test_it_is_undone_byte_for_byte(name: str, memory_path: Path) -> None:
    scene, make = await mend_scene(name, memory_path)
    before, there = states(scene), scene.everything()
    done = await PackerCache(scene.directory).mend(make(scene))
    mended = states(scene)
    assert mended != before
    assert not there - scene.everything()
    assert (done.kind, done.state) == (TransactionKind.MEND, TransactionState.DONE)
    cache = PackerCache(scene.directory)
    undone = await cache.undo(done.id)
    assert states(scene) == before
    assert (undone.kind, undone.of) == (TransactionKind.UNDO, done.id)
    redone = await cache.undo(undone.id)
    assert states(scene) == mended
    await PackerCache(scene.directory).undo(redone.id)
    assert states(scene) == before
    assert not there - scene.everything()
    assert [one.state for one in await cache.transactions()][-2:] == [TransactionState.UNDONE, TransactionState.DONE]
