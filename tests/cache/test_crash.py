"""A writer that dies between any two steps loses nothing, and the next one puts things right."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cache import PackerCache, TransactionState
from tests.cache.steps import CASES, Before, Stop, StoppingDisk, bytes_of, entries, prepare


@pytest.fixture(autouse=True)
def nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)


@pytest.mark.parametrize("case", CASES)
async def test_a_crash_at_every_step(case: str, memory_path: Path) -> None:
    template, act = await prepare(case, memory_path / "template")
    known = {one.id for one in await PackerCache(template.directory).transactions()}
    outcomes: set[TransactionState] = set()
    for at in range(1000):
        snapshot = template.copy(memory_path / "run")
        before, disk = Before(snapshot), StoppingDisk(at)
        try:
            await act(PackerCache(snapshot.directory, disk=disk), snapshot)
        except Stop:
            before.check(snapshot, disk.stopped)
            later, *rest = await before.check_recovered(snapshot, disk.stopped)
            assert later.state is TransactionState.DONE
            outcomes.update(one.state for one in rest if one.id not in known)
        else:
            before.check(snapshot, "the end")
            break
    assert at > 10
    # Some were rolled back, some finished.
    assert outcomes >= {TransactionState.VOID, TransactionState.DONE}


class StoppingWithoutExchange(StoppingDisk):
    """On a file system where two files cannot change places."""

    def exchange(self, *_: object) -> bool:
        return False


@pytest.mark.parametrize("case", [case for case in CASES if "replacing" in case])
async def test_a_crash_at_every_step_without_the_exchange(case: str, memory_path: Path) -> None:
    template, act = await prepare(case, memory_path / "template")
    for at in range(1000):
        snapshot = template.copy(memory_path / "run")
        before, disk = Before(snapshot), StoppingWithoutExchange(at)
        try:
            await act(PackerCache(snapshot.directory, disk=disk), snapshot)
        except Stop:
            assert not before.bytes - bytes_of(snapshot), disk.stopped
            await before.check_recovered(snapshot, disk.stopped)
        else:
            break


async def test_what_a_dead_writer_left_is_only_reported_by_a_reader(memory_path: Path) -> None:
    snapshot, act = await prepare("delete-many", memory_path)
    before, at = entries(snapshot), 0
    while entries(snapshot) == before:
        with pytest.raises(Stop):
            await act(PackerCache(snapshot.directory, disk=StoppingDisk(at)), snapshot)
        at += 1
    cache = PackerCache(snapshot.directory, read_only=True)
    assert (await cache.transactions())[0].state is TransactionState.PENDING
    await cache.list()
    assert (await cache.transactions())[0].state is TransactionState.PENDING
    await PackerCache(snapshot.directory).undo()
    assert entries(snapshot) == before
