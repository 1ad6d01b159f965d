"""A writer that dies, or fails, at any step: nothing lost, and the next one finishes what it did or takes it back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocitui.cache import (
    Change,
    ImageIndex,
    IndexEdit,
    PackerCache,
    ReadOnlyError,
    Remove,
    TransactionKind,
    TransactionState,
    list_backups,
)
from ocitui.cache.backups import read_backup
from ocitui.cache.disk import Disk, Folder
from tests.cache.scenes import (
    CASES,
    EXCHANGING,
    Act,
    FailingDisk,
    Scene,
    Stop,
    StoppingDisk,
    WithoutExchange,
    interrupted_delete,
    key,
    refusal,
    replaced,
    scene_of,
    store,
)
from tests.cache.support import OWN, write_cache

pytestmark = pytest.mark.slow

FAILURES = [(case, errno.EIO, True) for case in CASES] + [(case, errno.ENOSPC, False) for case in CASES]
TWICE = ["store-replacing", "place-path", "undo-corrupt"]
FAILURES += [(case, errno.EROFS, True) for case in ("store", "corrupt-with-files", "undo-everything")]


@pytest.fixture(autouse=True)
def nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.02)


class Trial:
    """One change, made again and again on copies of one cache."""

    def __init__(self, case: str, folder: Path) -> None:
        self.case = case
        self.folder = folder
        self.known: set[str] = set()

    async def prepare(self) -> None:
        self.template, self.act = await scene_of(self.case, self.folder / "template")
        self.known = {one.id for one in await PackerCache(self.template.directory).transactions()}
        self.before, self.there = self.template.states(), self.template.everything()
        scene = self.copy()
        await self.make(scene, Disk())
        self.after = scene.states()
        # A change may be meant to leave one without its files.
        self.whole = self.template.whole() - (set(scene.listed()) - scene.whole())
        assert self.after != self.before

    def copy(self) -> Scene:
        return self.template.copy(self.folder / "run")

    async def make(self, scene: Scene, disk: Disk) -> object:
        return await self.act(PackerCache(scene.directory, disk=disk), scene)

    async def check_recovered(self, scene: Scene, where: str) -> TransactionState | None:
        """After the next writer: all of it was made or none; gives what became of it."""
        cache = PackerCache(scene.directory)
        await cache.prepare()
        now = scene.states()
        transactions = [one for one in await cache.transactions() if one.id not in self.known]
        done = [one for one in transactions if one.state is TransactionState.DONE]
        assert now == (self.after if done else self.before), where
        assert all(one.state in (TransactionState.DONE, TransactionState.VOID) for one in transactions), where
        assert os.listdir(scene.directory / OWN / "staging") == [], where
        if done:
            await cache.undo(done[0].id)
            assert scene.states() == self.before, where
        return transactions[0].state if transactions else None


async def stopped_at_every_step(trial: Trial, kind: type[StoppingDisk], every: int = 1) -> set[TransactionState | None]:
    """Die at each step in turn, or at every so manieth, then recover; gives what became of the transactions."""
    await trial.prepare()
    outcomes: set[TransactionState | None] = set()
    for at in range(len(trial.case) % every, 1000, every):
        scene, disk = trial.copy(), kind(at)
        try:
            await trial.make(scene, disk)
        except Stop:
            assert not trial.there - scene.everything(), disk.stopped
            if kind is StoppingDisk:
                scene.check_files(trial.whole, disk.stopped)
            outcomes.add(await trial.check_recovered(scene, disk.stopped))
            assert not trial.there - scene.everything(), disk.stopped
        else:
            break
    assert at > 5
    return outcomes


@pytest.mark.parametrize("case", CASES)
async def test_a_crash_at_every_step(case: str, memory_path: Path) -> None:
    outcomes = await stopped_at_every_step(Trial(case, memory_path), StoppingDisk)
    # Some were rolled back, some finished.
    assert outcomes >= {TransactionState.VOID, TransactionState.DONE}


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("case", EXCHANGING)
async def test_a_crash_at_every_step_without_the_exchange(case: str, every: int, memory_path: Path) -> None:
    assert TransactionState.DONE in await stopped_at_every_step(Trial(case, memory_path), WithoutExchange, every)


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(("case", "code", "for_good"), FAILURES)
async def test_a_failure_at_every_step(case: str, code: int, for_good: bool, every: int, memory_path: Path) -> None:
    """An error of ours; the cache as it was, or one the next writer finishes. At every step in the long proofs, at
    every third otherwise, which ones differs from case to case."""
    trial = Trial(case, memory_path)
    await trial.prepare()
    refused = 0
    for at in range(len(case) % every, 1000, every):
        scene = trial.copy()
        disk = FailingDisk(at, code, for_good=for_good)
        error = await refusal(trial.make(scene, disk))
        if error is not None:
            refused += 1
            assert str(error), disk.failed
            assert error.hint, disk.failed
            assert isinstance(error, ReadOnlyError) <= (code == errno.EROFS), disk.failed
            newest = (await PackerCache(scene.directory).transactions())[0]
            if newest.id in trial.known or newest.state is TransactionState.VOID:
                assert scene.states() == trial.before, disk.failed
            if not for_good and "will be finished by the next command" not in error.hint:
                assert scene.states() == trial.before, disk.failed
        assert not trial.there - scene.everything(), disk.failed
        await trial.check_recovered(scene, disk.failed)
        assert not trial.there - scene.everything(), disk.failed
        if not disk.failed:
            break
    # On a full disk the reserve makes up for most.
    if for_good or every == 1:
        assert refused > (3 // every if for_good else 0)


@pytest.mark.parametrize("case", TWICE)
async def test_a_crash_of_the_recovery(case: str, memory_path: Path) -> None:
    """Whatever the second program that died had done of it, the third does the rest."""
    trial = Trial(case, memory_path)
    await trial.prepare()
    at = later = 0
    while True:
        scene = trial.copy()
        first, second = StoppingDisk(at), StoppingDisk(later)
        try:
            await trial.make(scene, first)
            break
        except Stop:
            pass
        try:
            await PackerCache(scene.directory, disk=second).prepare()
            at, later = at + 1, 0
        except Stop:
            later += 1
        where = f"{first.stopped}, then {second.stopped}"
        assert not trial.there - scene.everything(), where
        await trial.check_recovered(scene, where)
        assert not trial.there - scene.everything(), where
    assert at > 5


class FailingThenStopping(FailingDisk):
    """Fails at a step, and dies some steps after that."""

    def __init__(self, at: int, later: int) -> None:
        super().__init__(at, errno.EIO, for_good=False)
        self.later = later

    def step(self, operation: str, name: str) -> None:
        if self.failed:
            if self.later == 0:
                raise Stop(f"{self.failed}, then {operation} {name}")
            self.later -= 1
        super().step(operation, name)


@pytest.mark.parametrize("case", TWICE)
async def test_a_crash_after_a_failure(case: str, memory_path: Path) -> None:
    """It dies while it takes back what it did, or while it goes on where the failure is none for it."""
    trial = Trial(case, memory_path)
    await trial.prepare()
    at = later = 0
    while True:
        scene = trial.copy()
        disk, where = FailingThenStopping(at, later), ""
        try:
            await refusal(trial.make(scene, disk))
            if not disk.failed:
                break
            at, later = at + 1, 0
        except Stop as stopped:
            where, later = str(stopped), later + 1
        assert not trial.there - scene.everything(), where
        await trial.check_recovered(scene, where)
        assert not trial.there - scene.everything(), where
    assert at > 5


@pytest.mark.parametrize("case", ["store", "delete-many"])
async def test_the_same_object_goes_on_after_a_failure(case: str, memory_path: Path) -> None:
    template, act = await scene_of(case, memory_path / "template")
    there = template.everything()
    for at in range(0, 60, 3):
        scene, disk = template.copy(memory_path / "run"), FailingDisk(at, errno.EIO, for_good=False)
        cache = PackerCache(scene.directory, disk=disk)
        if await refusal(act(cache, scene)):
            listed = await cache.list()
            assert listed == await PackerCache(scene.directory).list()
            await cache.delete([listed[-1].key])
        assert not there - scene.everything(), disk.failed


async def test_what_a_dead_writer_left_is_only_reported_by_a_reader(memory_path: Path) -> None:
    template, act = await scene_of("delete-many", memory_path / "template")
    before, at = template.entries(), 0
    while True:
        scene = template.copy(memory_path / "run")
        with pytest.raises(Stop):
            await act(PackerCache(scene.directory, disk=StoppingDisk(at)), scene)
        if scene.entries() != before:
            break
        at += 1
    cache = PackerCache(scene.directory, read_only=True)
    assert (await cache.transactions())[0].state is TransactionState.PENDING
    await cache.list()
    assert (await cache.transactions())[0].state is TransactionState.PENDING
    prepared = await PackerCache(scene.directory).prepare()
    assert [one.state for one in prepared.recovered] == [TransactionState.DONE]
    await PackerCache(scene.directory).undo()
    assert scene.entries() == before


async def test_what_only_the_index_can_decide_waits_for_it(memory_path: Path) -> None:
    """A program died in a store, then the index turned corrupt: that is mended first, then the store is decided."""
    template = Scene(memory_path / "template" / "cache", memory_path / "template" / "sources")
    write_cache(template.directory, range(2))
    template.sources.mkdir()
    (template.sources / "packed").write_bytes(b"packed")
    await PackerCache(template.directory).delete([key(1)])
    for at in range(100):
        scene = template.copy(memory_path / "run")
        with pytest.raises(Stop):
            await store(9)(PackerCache(scene.directory, disk=StoppingDisk(at)), scene)
        newest = (await PackerCache(scene.directory).transactions())[0]
        if newest.state is TransactionState.PENDING and not (scene.sources / "packed").exists():
            break
    (scene.directory / "index.json").write_bytes(b"corrupt")
    cache = PackerCache(scene.directory)
    done = await cache.change(replaced(scene), TransactionKind.REPAIR)
    assert [one.state for one in await cache.transactions()][:2] == [TransactionState.DONE, TransactionState.PENDING]
    await cache.delete([key(0)])
    assert [one.state for one in await cache.transactions()][2] is TransactionState.VOID
    # Where it came from only the program knew that died.
    assert [file.name for file in await cache.trash() if file.transaction == newest.id] == [f"{key(9)[0]}.squashfs"]
    await cache.undo()
    await cache.undo(done.id)
    assert (scene.directory / "index.json").read_bytes() == b"corrupt"


async def test_what_is_pending_is_decided_before_an_index_that_reads_again_is_edited(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index did not read when the next writer began, and does when that edits it."""
    directory = memory_path / "cache"
    write_cache(directory, range(3))
    index, sound = directory / "index.json", (directory / "index.json").read_bytes()
    left = await interrupted_delete(directory)
    index.write_bytes(b"corrupt")

    def mended(_: Path) -> None:
        index.write_bytes(sound)

    monkeypatch.setattr("ocitui.cache.transactions.refuse_link", mended)
    raw = ImageIndex.parse(sound).descriptors[2].raw
    cache = PackerCache(directory)
    await cache.change(Change(IndexEdit((Remove(2, raw),))), TransactionKind.REPAIR)
    assert [(one.id == left, one.state) for one in await cache.transactions()] == [
        (False, TransactionState.DONE),
        (True, TransactionState.VOID),
    ]
    assert await cache.list() == list(ImageIndex.parse(sound).descriptors[:2])


async def died_in(scene: Scene, act: Act, folder: Path, reached: Callable[[Scene], bool]) -> Scene:
    """A copy of the scene in which a program died in what it did, as soon as that had ``reached`` what is asked for."""
    for at in range(1000):
        run = scene.copy(folder)
        with pytest.raises(Stop):
            await act(PackerCache(run.directory, disk=StoppingDisk(at)), run)
        if (await PackerCache(run.directory).transactions())[0].state is TransactionState.PENDING and reached(run):
            return run
    raise AssertionError("never reached")


async def test_files_come_back_where_the_daemon_wrote_its_memory_over_an_unfinished_deletion(memory_path: Path) -> None:
    template, act = await scene_of("delete-many", memory_path / "template")
    before, index = template.states(), template.index().data
    gone = f"{key(1)[0]}.manifest.json"
    scene = await died_in(template, act, memory_path / "run", lambda run: not (run.directory / gone).exists())
    (scene.directory / "index.json").write_bytes(index)
    (recovered,) = (await PackerCache(scene.directory).prepare()).recovered
    assert recovered.state is TransactionState.VOID
    assert scene.states() == before


@pytest.mark.parametrize("case", ["delete-many", "point"])
async def test_what_an_edit_displaced_becomes_a_backup_though_the_program_died(case: str, memory_path: Path) -> None:
    template, act = await scene_of(case, memory_path / "template")
    index = template.index().data
    scene = await died_in(
        template, act, memory_path / "run", lambda run: (run.directory / "index.json").read_bytes() != index
    )
    (recovered,) = (await PackerCache(scene.directory).prepare()).recovered
    assert recovered.state is TransactionState.DONE
    backups = list_backups(scene.directory)
    assert index in [read_backup(scene.directory, backup) for backup in backups]


def exchanged(run: Scene) -> bool:
    """Whether a file that replaces another has changed places with it, and no more."""
    waiting = [path.read_bytes() for path in (run.directory / OWN / "staging").iterdir()]
    return not (run.sources / "packed").exists() and b"packed 1 squashfs" in waiting


async def test_what_gave_way_comes_back_where_the_new_file_is_gone_by_then(memory_path: Path) -> None:
    """A program died in a store whose file had changed places with an older one; then another removed it."""
    template, act = await scene_of("store-replacing", memory_path / "template")
    before = template.states()
    scene = await died_in(template, act, memory_path / "run", exchanged)
    (scene.directory / f"{key(1)[0]}.squashfs").unlink()
    (recovered,) = (await PackerCache(scene.directory).prepare()).recovered
    assert recovered.state is TransactionState.VOID
    assert scene.states() == before


async def test_what_gave_way_stays_until_the_index_decides(memory_path: Path) -> None:
    """A program died in a store whose file had changed places with an older one; then the index turned corrupt."""
    template, act = await scene_of("store-replacing", memory_path / "template")
    before, there = template.states(), template.everything()
    scene = await died_in(template, act, memory_path / "run", exchanged)
    (scene.directory / "index.json").write_bytes(b"corrupt")
    for _ in range(2):
        assert (await PackerCache(scene.directory).prepare()).recovered == ()
    (scene.directory / "index.json").write_bytes(template.index().data)
    (recovered,) = (await PackerCache(scene.directory).prepare()).recovered
    assert recovered.state is TransactionState.VOID
    assert scene.states() == before
    assert not there - scene.everything()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda record: record.write_bytes(b"{")], ids=["gone", "damaged"])
async def test_an_undo_is_finished_though_nobody_can_read_what_it_reverses(
    spoil: Callable[[Path], object], memory_path: Path
) -> None:
    template, act = await scene_of("undo-delete-many", memory_path / "template")
    index = template.index().data
    scene = await died_in(
        template, act, memory_path / "run", lambda run: (run.directory / "index.json").read_bytes() != index
    )
    spoil(scene.directory / OWN / "journal" / f"{template.target}.done.json")
    (recovered,) = (await PackerCache(scene.directory).prepare()).recovered
    assert recovered.state is TransactionState.DONE


async def test_an_index_that_came_since_stays_where_one_had_been_taken_away(memory_path: Path) -> None:
    """And where somebody has taken the old one out of the trash by then."""
    template, act = await scene_of("undo-absent", memory_path / "template")
    scene = await died_in(
        template, act, memory_path / "run", lambda run: any(run.directory.glob(f"{OWN}/journal/*.published.json"))
    )
    for path in (scene.directory / OWN / "trash").glob("*~index.json"):
        path.unlink()
    (scene.directory / "index.json").write_bytes(template.index().data)
    (recovered,) = (await PackerCache(scene.directory).prepare()).recovered
    assert recovered.state is TransactionState.DONE
    assert (scene.directory / "index.json").read_bytes() == template.index().data


async def test_of_an_index_that_was_taken_away_the_name_a_disk_forgot_to_take_goes(memory_path: Path) -> None:
    template, act = await scene_of("undo-absent", memory_path / "template")
    scene = await died_in(template, act, memory_path / "run", lambda run: not (run.directory / "index.json").exists())
    (taken,) = (scene.directory / OWN / "trash").glob("*~index.json")
    os.link(taken, scene.directory / "index.json")
    (recovered,) = (await PackerCache(scene.directory).prepare()).recovered
    assert recovered.state is TransactionState.DONE
    assert not (scene.directory / "index.json").exists()
    await PackerCache(scene.directory).undo(recovered.id)
    assert scene.states() == template.states()


async def test_what_is_left_to_decide_where_the_index_is_gone_by_then(memory_path: Path) -> None:
    template, act = await scene_of("point", memory_path / "template")
    index = template.index().data
    scene = await died_in(
        template, act, memory_path / "run", lambda run: (run.directory / "index.json").read_bytes() != index
    )
    (scene.directory / "index.json").unlink()
    (recovered,) = (await PackerCache(scene.directory).prepare()).recovered
    assert recovered.state is TransactionState.DONE
    assert index in [read_backup(scene.directory, backup) for backup in list_backups(scene.directory)]


async def test_a_transaction_that_another_program_has_just_ended_is_left_as_it_is(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As may be where the file system has no locks; and the index is by then not as the transaction left it."""
    scene, act = await scene_of("delete-many", memory_path)
    index, read = (scene.directory / "index.json").read_bytes(), Folder.read
    await act(PackerCache(scene.directory), scene)
    done = max((scene.directory / OWN / "journal").iterdir())
    pending = done.rename(done.with_name(done.name.replace(".done.", ".pending.")))
    (scene.directory / "index.json").write_bytes(index)

    def end_and_read(of: Folder, name: str, *bound: int) -> bytes:
        if name == pending.name and pending.exists():
            pending.rename(done)
        return read(of, name, *bound)

    monkeypatch.setattr(Folder, "read", end_and_read)
    assert (await PackerCache(scene.directory).prepare()).recovered == ()
    assert done.exists()
