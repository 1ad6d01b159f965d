"""Mends beside other programs that write the index, and after one that died."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from ocitui.cache import ConflictError, IndexReplacement, Mend, PackerCache, TransactionState, new_index, see_index
from ocitui.cache.disk import Disk
from tests.cache.mends import MENDS, mend_scene, states
from tests.cache.steps import Stop, StoppingDisk, key
from tests.cache.support import OWN, digests_and_formats, entry, index_bytes, make_image, stored, write_cache
from tests.cache.test_races import Foreign, InvadedDisk, rename_over, truncate_and_write


class Invaded(Disk):
    """Before the index is exchanged, another program writes a sound one."""

    def __init__(self, index: Path) -> None:
        super().__init__()
        self.index = index

    def step(self, operation: str, name: str) -> None:
        if operation in ("exchange", "rename") and name == "index.json":
            draft = self.index.with_name(".draft")
            draft.write_bytes(index_bytes([entry(5)]))
            if self.index.is_dir() and not self.index.is_symlink():
                self.index.rename(self.index.with_name("aside"))
            draft.rename(self.index)


@pytest.mark.parametrize("name", [name for name in MENDS if MENDS[name][1].__name__.startswith("replaced")])
async def test_a_sound_index_of_another_program_wins(name: str, memory_path: Path) -> None:
    snapshot, make = await mend_scene(name, memory_path)
    before, index = states(snapshot), snapshot.directory / "index.json"
    with pytest.raises(ConflictError, match="another program"):
        await PackerCache(snapshot.directory, disk=Invaded(index)).mend(make(snapshot))
    assert index.read_bytes() == index_bytes([entry(5)])
    now = states(snapshot)
    assert {name: now[name] for name in before if name != "index.json"} == {
        name: before[name] for name in before if name != "index.json"
    }
    assert os.listdir(snapshot.directory / OWN / "staging") == []
    assert (await PackerCache(snapshot.directory).transactions())[0].state is TransactionState.VOID


async def test_an_undecided_store_waits_for_the_index(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program died in a store, then the index turned corrupt: the mend comes first, then the store is decided."""
    monkeypatch.setattr("ocitui.cache.index_file.PATIENCE_SECONDS", 0.05)
    directory = memory_path / "cache"
    write_cache(directory, range(2))
    await PackerCache(directory).delete([key(1)])
    for at in range(100):
        with suppress(Stop):
            await PackerCache(directory, disk=StoppingDisk(at)).store(make_image(memory_path / "packed", "new"))
        newest = (await PackerCache(directory).transactions())[0]
        if newest.state is TransactionState.PENDING and newest.placed and not (memory_path / "packed").exists():
            break
    (directory / "index.json").write_bytes(b"corrupt")
    cache = PackerCache(directory)
    done = await cache.mend(Mend(index=IndexReplacement(see_index(directory), new_index([]))))
    assert (await cache.transactions())[1].state is TransactionState.PENDING
    await stored(cache, memory_path / "source", "later")
    assert (await cache.transactions())[2].state is TransactionState.VOID
    assert (memory_path / "packed").exists()
    await cache.undo()
    await cache.undo(done.id)
    assert (directory / "index.json").read_bytes() == b"corrupt"


@pytest.mark.parametrize("foreign", [truncate_and_write, rename_over])
@pytest.mark.parametrize("name", ["point", "duplicate", "adopt", "everything"])
async def test_an_update_of_another_program_at_every_step_survives(
    name: str, foreign: Foreign, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)
    template, make = await mend_scene(name, memory_path / "template")
    snapshot = template.copy(memory_path / "run")
    await PackerCache(snapshot.directory).mend(make(snapshot))
    expected = Counter(digests_and_formats(snapshot.directory))
    for at in range(1000):
        snapshot = template.copy(memory_path / "run")
        disk = InvadedDisk(snapshot.directory / "index.json", foreign, at)
        await PackerCache(snapshot.directory, disk=disk).mend(make(snapshot))
        if not disk.theirs:
            break
        theirs = Counter((str(entry(number)["digest"]), "squashfs") for number in disk.theirs)
        assert Counter(digests_and_formats(snapshot.directory)) == expected + theirs, disk.steps[at]
    assert at > 10
