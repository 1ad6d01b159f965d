"""A power cut at any step: the index is the old or the new one, every byte is there, and what was done stays done.

And it takes every one of our syncs: with any of them left out, the same checks fail.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from msgspec.structs import replace

import ocitui.cache
from ocitui.cache import (
    CacheError,
    Change,
    ConflictError,
    IndexOutcome,
    PackerCache,
    Place,
    Transaction,
    TransactionKind,
    TransactionState,
    judge_index,
    keep_backup,
    list_backups,
)
from ocitui.cache.backups import read_backup
from ocitui.importing.staging import staging_folder
from tests.cache.forgetful import ForgetfulDisk, Luck
from tests.cache.scenes import (
    ACTS,
    Act,
    Scene,
    Stop,
    changed,
    discards,
    key,
    placed_from_trash,
    pointed,
    refusal,
    scene_of,
)
from tests.cache.support import EROFS, OWN, SQUASHFS, make_image, write_cache

pytestmark = pytest.mark.slow

PROBE = "probe"
CASES = [
    "store", "store-replacing", "delete-many", "everything", "place-path", "place-from-trash", "corrupt-with-files",
    "absent", "discard", "modes", "point", "restore", "redo", "reset",
]  # fmt: skip
SCENARIOS = [
    *CASES,
    *(f"undo-{case}" for case in ("store-replacing", "delete-many", "everything", "corrupt", "absent")),
]
SCENARIOS += ["import", "fresh-delete", "fresh-discard", "fresh-kept", "fails", "fails-giving-back", "empty"]


async def by_import(cache: PackerCache, scene: Scene) -> object:
    with staging_folder(scene.directory, cache.disk) as folder, cache.disk.writing(folder / "packed") as write:
        write(b"packed by an import")
        await cache.store(make_image(folder / "packed", "9", name="new:1"), kind=TransactionKind.IMPORT)
    return None


async def emptied(cache: PackerCache, _: Scene) -> object:
    return await cache.empty_trash()


def given_back(scene: Scene) -> Change:
    """A file of the trash in the place of another, and an edit."""
    return replace(pointed(scene), place=placed_from_trash(scene).place)


async def kept_before(cache: PackerCache, scene: Scene) -> object:
    """A check kept a backup before anything was ever changed here."""
    keep_backup(scene.directory, scene.index(), disk=cache.disk)
    return await cache.change(Change(discard=discards(scene, "stray")), TransactionKind.REPAIR)


async def failing(act: Act, cache: PackerCache, scene: Scene) -> object:
    """One that fails once its files are in place, and is rolled back; then the disk is well again."""
    disk = cache.disk
    step, seen = disk.step, Counter[str]()

    def fail(operation: str, name: str) -> None:
        step(operation, name)
        seen[operation] += 1
        if operation == "write" and name.endswith(".index") and seen["failed"] == 0:
            seen["failed"] += 1
            raise OSError(5, "no more", name)

    disk.step = fail  # type: ignore[method-assign]
    assert await refusal(act(cache, scene)) is not None
    return None


async def scenario(name: str, folder: Path) -> tuple[Scene, Act]:
    if name.startswith("fresh-"):
        scene = Scene(folder / "cache", folder / "sources")
        write_cache(scene.directory, range(2), (SQUASHFS, EROFS))
        scene.sources.mkdir()
        (scene.directory / "stray").write_bytes(b"stray")
        if name == "fresh-delete":
            return scene, lambda cache, _: cache.delete([key(0)])
        if name == "fresh-kept":
            return scene, kept_before
        return scene, lambda cache, run: cache.change(Change(discard=discards(run, "stray")), TransactionKind.REPAIR)
    acts: dict[str, Act] = {
        "import": by_import,
        "empty": emptied,
        "fails": partial(failing, ACTS["store-replacing"][1]),
        "fails-giving-back": partial(failing, changed(given_back)),
    }
    scene, act = await scene_of("delete-one" if name in acts else name, folder)
    return scene, acts.get(name, act)


class Trial:
    """One scenario on one kind of file system, cut off again and again."""

    def __init__(self, name: str, folder: Path, *, journaled: bool) -> None:
        self.name = name
        self.folder = folder
        self.journaled = journaled
        self.passes_over: Callable[[], bool] = lambda: False

    async def prepare(self) -> None:
        self.template, self.act = await scenario(self.name, self.folder / "template")
        self.before, self.there = self.template.states(), self.template.everything()
        self.whole = self.template.whole()
        self.index = self._index(self.template)
        scene, disk = self._run(None)
        await self._make(scene, disk)
        self.done_at = self._acted_at
        self.steps = len(disk.steps)
        self.after = scene.states()
        self.after.pop(PROBE)
        self.after_index = self._index(scene)
        # A change may be meant to leave one without its files.
        self.whole -= set(scene.listed()) - scene.whole()

    def _index(self, scene: Scene) -> bytes | None:
        path = scene.directory / "index.json"
        return path.read_bytes() if path.is_file() else None

    def _run(self, at: int | None) -> tuple[Scene, ForgetfulDisk]:
        scene = self.template.copy(self.folder / "run")
        root = scene.directory.parent
        return scene, ForgetfulDisk(root, at, journaled=self.journaled, passes_over=self.passes_over)

    async def _make(self, scene: Scene, disk: ForgetfulDisk) -> None:
        """What is to be done; then something else, whose syncs may make a part of it durable."""
        self._acted_at = 1 << 30
        cache = PackerCache(scene.directory, disk=disk)
        if isinstance(disk, ForgetfulDisk):
            await self.act(cache, scene)
        self._acted_at = len(disk.steps)
        await cache.change(Change(place=(Place(PROBE, data=b"probe"),)), TransactionKind.REPAIR)

    async def cut(self, at: int, luck: Luck) -> None:
        """Cut it off before a step, and look at what is left."""
        scene, disk = self._run(at)
        where = ""
        try:
            await self._make(scene, disk)
        except Stop:
            where = disk.stopped
        left = self.folder / "left"
        disk.survivors(left, luck)
        where = (
            f"{self.name} at {where or 'the end'} ({at}), {luck.value}, {'journaled' if self.journaled else 'plain'}"
        )
        try:
            await self._check(Scene(left / "cache", left / "sources", self.template.target), at >= self.done_at, where)
        finally:
            shutil.rmtree(left)

    async def _check(self, scene: Scene, done: bool, where: str) -> None:
        if self.journaled:
            assert self._index(scene) in (self.index, self.after_index), f"another index, {where}"
        cache = PackerCache(scene.directory)
        await cache.prepare()
        assert self._index(scene) in (self.index, self.after_index), f"another index, {where}"
        lost = self.there - scene.everything()
        if self.name != "empty":
            assert not lost, f"lost {list(lost)[:3]}, {where}"
        scene.check_files(self.whole, where)
        self._check_index(scene, done, where)
        now = scene.states()
        now.pop(PROBE, None)
        transactions = await cache.transactions()
        mine = [one for one in transactions if one.kind != TransactionKind.REPAIR or not _is_probe(one.placed)]
        new = [one for one in mine if one.state is not TransactionState.VOID and one.sequence > self._known]
        assert os.listdir(scene.directory / OWN / "staging") == [], where
        if self.name == "empty":
            self._check_promises(scene, transactions, where)
            return
        assert now == (self.after if new else self.before) or (not self.journaled and _only_more(now, self.after)), (
            f"neither before nor after, {where}"
        )
        assert new or not done or self.name.startswith("fails"), f"what was done is gone, {where}"
        if new:
            with suppress(ConflictError) if not self.journaled else nullcontext():
                # What the disk forgot to take away is there already.
                await cache.undo(new[0].id)
            now = scene.states()
            now.pop(PROBE, None)
            assert now == self.before, f"not undone, {where}"

    @property
    def _known(self) -> int:
        return 1 if not self.name.startswith("fresh") and not self.template.target else 2 if self.template.target else 0

    def _check_index(self, scene: Scene, done: bool, where: str) -> None:
        """A sound index that was displaced is kept whole, as soon as its transaction is done."""
        if self.index is None or not done or judge_index(self.index) is not IndexOutcome.LOADED:
            return
        kept = [read_backup(scene.directory, backup) for backup in list_backups(scene.directory)]
        assert self.index in (*kept, self._index(scene)), f"the old index is gone, {where}"

    def _check_promises(self, scene: Scene, transactions: list[Transaction], where: str) -> None:
        """What can be undone has its files."""
        trash = scene.directory / OWN / "trash"
        for one in transactions:
            if one.state is TransactionState.DONE:
                gone = [moved.trash for moved in one.trashed if not os.path.lexists(trash / moved.trash)]
                assert not gone, f"{gone} is promised, {where}"


def _is_probe(placed: Sequence[object]) -> bool:
    return any(getattr(one, "name", "") == PROBE for one in placed)


def _only_more(now: dict[str, object], after: dict[str, object]) -> bool:
    """Whether there is everything, and a file more that the disk forgot to take away: it is in the trash as well."""
    return all(now.get(name) == state for name, state in after.items())


async def cut_everywhere(trial: Trial, every: int = 1) -> None:
    await trial.prepare()
    for luck in Luck:
        if luck is Luck.LAST_NAME and trial.journaled:
            continue
        for at in range(len(trial.name + luck.value) % every, trial.steps + 1, every):
            await trial.cut(at, luck)


@pytest.fixture(autouse=True)
def nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr("ocitui.cache.publish.PATIENCE_SECONDS", 0.02)


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("journaled", [True, False], ids=["journaled", "plain"])
async def test_a_power_cut_at_a_step(name: str, journaled: bool, every: int, memory_path: Path) -> None:
    """At every step in the long proofs, at every eighth otherwise, which ones differs from scenario to scenario."""
    await cut_everywhere(Trial(name, memory_path, journaled=journaled), every)


PACKAGE = Path(ocitui.cache.__file__).parent


def place_of_sync() -> str:
    """Which of our lines asks for the sync under way: the first of the package that is not the disk's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        code = frame.f_code
        path = Path(code.co_filename)
        if path.is_relative_to(PACKAGE) and path.name != "disk.py" and code.co_name != "sync":
            return f"{path.name} {code.co_qualname} +{frame.f_lineno - code.co_firstlineno}"
        frame = frame.f_back
    return ""


async def places_of_sync(scenarios: Iterable[tuple[str, bool]], folder: Path) -> dict[str, list[tuple[str, bool]]]:
    """Each line that asks for a sync, and the scenarios that reach it, with the kind of file system."""
    found: dict[str, list[tuple[str, bool]]] = {}
    for number, (name, journaled) in enumerate(scenarios):
        trial = Trial(name, folder / str(number), journaled=journaled)

        def note(here: tuple[str, bool] = (name, journaled)) -> bool:
            reached = found.setdefault(place_of_sync(), [])
            if here not in reached:
                reached.append(here)
            return False

        trial.passes_over = note
        await trial.prepare()
    return found


async def is_missed(place: str, scenarios: list[tuple[str, bool]], folder: Path) -> bool:
    """Whether the checks fail somewhere once this line syncs nothing."""
    for number, (name, journaled) in enumerate(scenarios):
        trial = Trial(name, folder / str(number), journaled=journaled)
        trial.passes_over = lambda: place_of_sync() == place
        try:
            await cut_everywhere(trial)
        except (AssertionError, OSError, CacheError):
            return True
    return False


async def test_a_sync_of_a_store_is_missed_when_it_is_left_out(memory_path: Path) -> None:
    places = await places_of_sync([("store", True)], memory_path / "all")
    essential = [
        place for place in places if any(f" {name} " in place for name in ("Journal.write", "_staged", "Backups.take"))
    ]
    assert len(essential) == 4
    for number, place in enumerate(essential):
        assert await is_missed(place, places[place], memory_path / str(number)), place


@pytest.mark.long
async def test_each_sync_is_missed_when_it_is_left_out(memory_path: Path) -> None:
    places = await places_of_sync(product(SCENARIOS, (True, False)), memory_path / "all")
    assert len(places) > 25
    for number, (place, reached) in enumerate(sorted(places.items())):
        assert await is_missed(place, reached, memory_path / str(number)), place
