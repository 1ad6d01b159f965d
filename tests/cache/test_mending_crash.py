"""A mend that dies or fails at any step: nothing lost, and the next writer finishes it or takes it back whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ocitui.cache import Mend, PackerCache, Place, ReadOnlyError, Transaction, TransactionState
from ocitui.cache.disk import Disk
from tests.cache.mends import MENDS, REPLACING, MendScene, mend_scene, states, undo_scene
from tests.cache.steps import FailingDisk, Stop, StoppingDisk
from tests.cache.support import OWN
from tests.cache.test_failing_disk import refusal

pytestmark = pytest.mark.slow

CASES = [*MENDS, *(f"undo-{name}" for name in MENDS)]
PROBE = "probe"
FAILURES = [(errno.ENOSPC, False), (errno.EIO, True)]
KINDS = [(case, *failure) for case in CASES for failure in FAILURES]
KINDS += [(case, errno.EROFS, True) for case in ("corrupt-with-files", "undo-everything")]
# Only what takes another thing's place is done differently without the exchange.
EXCHANGING = [case for case in CASES if MENDS[case.removeprefix("undo-")][1] in REPLACING]


@pytest.fixture(autouse=True)
def nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)


class Trial:
    """One way to do it, again and again on copies of one cache."""

    def __init__(self, case: str, folder: Path) -> None:
        self.case = case
        self.folder = folder
        self.known: set[str] = set()

    async def prepare(self) -> None:
        name = self.case.removeprefix("undo-")
        place = self.folder / "template"
        if name == self.case:
            self.template, self.make = await mend_scene(name, place)
        else:
            self.template, _ = await undo_scene(name, place)
        self.known = {one.id for one in await PackerCache(self.template.directory).transactions()}
        self.before = states(self.template)
        scene = self.copy()
        await self.act(scene, Disk())
        self.after = states(scene)
        assert self.after != self.before

    def copy(self) -> MendScene:
        return self.template.copy(self.folder / "run")

    async def act(self, scene: MendScene, disk: Disk) -> Transaction:
        cache = PackerCache(scene.directory, disk=disk)
        if scene.target:
            return await cache.undo(scene.target)
        return await cache.mend(self.make(scene))

    async def check_recovered(self, scene: MendScene, where: str) -> TransactionState | None:
        """After the next writer: all of it was made or none; gives what became of it."""
        cache = PackerCache(scene.directory)
        await cache.mend(Mend(place=(Place(PROBE, data=b"probe"),)))
        now = states(scene)
        assert now.pop(PROBE)
        transactions = [one for one in await cache.transactions() if one.id not in self.known][1:]
        done = [one for one in transactions if one.state is TransactionState.DONE]
        assert now == (self.after if done else self.before), where
        assert all(one.state in (TransactionState.DONE, TransactionState.VOID) for one in transactions), where
        assert os.listdir(scene.directory / OWN / "staging") == [], where
        if done:
            await cache.undo()
            await cache.undo(done[0].id)
            assert states(scene) == self.before, where
        return transactions[0].state if transactions else None


@pytest.mark.parametrize("case", CASES)
async def test_a_crash_at_every_step(case: str, memory_path: Path) -> None:
    trial = Trial(case, memory_path)
    await trial.prepare()
    outcomes: set[TransactionState | None] = set()
    for at in range(1000):
        scene = trial.copy()
        there, disk = scene.everything(), StoppingDisk(at)
        try:
            await trial.act(scene, disk)
        except Stop:
            assert not there - scene.everything(), disk.stopped
            outcomes.add(await trial.check_recovered(scene, disk.stopped))
            assert not there - scene.everything(), disk.stopped
        else:
            break
    assert at > 5
    assert outcomes >= {TransactionState.VOID, TransactionState.DONE}


class WithoutExchange(StoppingDisk):
    """On a file system where two files cannot change places."""

    def exchange(self, *_: object) -> bool:
        return False


@pytest.mark.parametrize("case", EXCHANGING)
async def test_a_crash_at_every_step_without_the_exchange(case: str, memory_path: Path) -> None:
    trial = Trial(case, memory_path)
    await trial.prepare()
    for at in range(1000):
        scene = trial.copy()
        there, disk = scene.everything(), WithoutExchange(at)
        try:
            await trial.act(scene, disk)
        except Stop:
            assert not there - scene.everything(), disk.stopped
            await trial.check_recovered(scene, disk.stopped)
            assert not there - scene.everything(), disk.stopped
        else:
            break


@pytest.mark.parametrize(("case", "code", "for_good"), KINDS)
async def test_a_failure_at_every_step(case: str, code: int, for_good: bool, memory_path: Path) -> None:
    trial = Trial(case, memory_path)
    await trial.prepare()
    refused = 0
    for at in range(1000):
        scene = trial.copy()
        there, disk = scene.everything(), FailingDisk(at, code, for_good=for_good)
        error = await refusal(trial.act(scene, disk))
        if error is not None:
            refused += 1
            assert str(error), disk.failed
            assert error.hint, disk.failed
            assert isinstance(error, ReadOnlyError) <= (code == errno.EROFS), disk.failed
            newest = (await PackerCache(scene.directory).transactions())[0]
            if newest.id in trial.known or newest.state is TransactionState.VOID:
                assert states(scene) == trial.before, disk.failed
        assert not there - scene.everything(), disk.failed
        await trial.check_recovered(scene, disk.failed)
        assert not there - scene.everything(), disk.failed
        if not disk.failed:
            break
    assert refused > 3
