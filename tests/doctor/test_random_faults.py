"""Random faults, random repairs, whatever interrupts them: every original byte is in the cache or in the trash."""

from __future__ import annotations

import errno
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ocitui.cache import CacheError, PackerCache, TransactionState
from ocitui.cache.disk import Disk
from ocitui.doctor.findings import Depth
from ocitui.doctor.repair.plan import RepairPlan, apply_plan
from ocitui.words import plan_json
from tests.cache.scenes import FailingDisk, Stop, StoppingDisk
from tests.doctor.examine_support import Sample, copied
from tests.doctor.fault_makers import CASES, FaultCase
from tests.doctor.repair_support import nobody_else_writes, planned, standing
from tests.tools import examples, in_memory

pytestmark = pytest.mark.slow

# Records that cannot be read, or that stand for what never was, are told by tests of their own.
MENDABLE = [case for case in CASES if case.code not in ("journal-damaged", "transaction-pending", "leftover-temporary")]
ALL_ALLOWED: dict[str, Any] = {
    **dict.fromkeys(("drop", "trash_orphans", "change_modes", "even_if_gone"), True),
    "come_back": False,
}
FAULTS = st.lists(st.sampled_from(MENDABLE), min_size=1, max_size=5, unique_by=str)
ALLOWED = st.fixed_dictionaries(
    {name: st.booleans() for name in ("drop", "trash_orphans", "change_modes", "even_if_gone")}
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_else_writes(monkeypatch)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as path:
        yield path


def damage(sample: Sample, cases: list[FaultCase]) -> None:
    """Several faults at once, what is no file any more last; one that another stands in the way of is left out."""
    for case in sorted(cases, key=lambda case: case.code in ("index-not-a-file", "file-not-regular")):
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
            case.make(sample)


def originals(directory: Path) -> Counter[bytes]:
    """The bytes of every file that is there, and in the trash, the index apart."""
    found: Counter[bytes] = Counter()
    for folder in (directory, directory / ".ocitui" / "trash", directory / ".ocitui" / "staging"):
        for path in folder.rglob("*") if folder.name in ("trash", "staging") else folder.iterdir():
            if path.is_file() and not path.is_symlink() and path.name != "index.json":
                found[path.read_bytes()] += 1
    return found


def lost(before: Counter[bytes], directory: Path) -> Counter[bytes]:
    return before - originals(directory)


@given(data=st.data())
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_random_repairs_undone(data: st.DataObject, made_sample: Sample, memory: Path) -> None:
    shutil.rmtree(memory / "copy", ignore_errors=True)
    sample = copied(made_sample, memory)
    damage(sample, data.draw(FAULTS))
    before, bytes_before = standing(sample.directory), originals(sample.directory)
    _, plan = await planned(
        sample.directory, data.draw(st.sampled_from([Depth.QUICK, Depth.HEADER])), **data.draw(ALLOWED)
    )
    # Drawn whatever the plan is: a tool that takes too long on a busy machine makes it another one.
    narrowed = data.draw(st.booleans(), label="narrowed")
    chosen = data.draw(st.sets(st.integers(0, 11)), label="chosen")
    if narrowed:
        plan = plan.narrowed([step.number for at, step in enumerate(plan.steps) if at % 12 in chosen])
    cache = PackerCache(sample.directory)
    done = await apply_plan(cache, replace(plan, depth=Depth.QUICK))
    assert not lost(bytes_before, sample.directory)
    again = (await planned(sample.directory))[1]
    await apply_plan(cache, replace(again, depth=Depth.QUICK))
    assert not lost(bytes_before, sample.directory)
    while await undo_newest(cache):
        assert not lost(bytes_before, sample.directory)
    assert standing(sample.directory) == before
    assert done.report.directory == sample.directory


async def undo_newest(cache: PackerCache) -> bool:
    if not any(one.state is TransactionState.DONE and one.of is None for one in await cache.transactions()):
        return False
    await cache.undo()
    return True


def does(plan: RepairPlan) -> tuple[object, ...]:
    """What an operator is told of a plan, and what it changes."""
    whole = plan.whole.index.data if plan.whole is not None else None
    changes = [replace(step.change, whole=None) for step in plan.steps]
    return plan_json(plan), plan.seen, plan.notes, whole, changes


@given(cases=FAULTS)
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_same_cache_gives_the_same_plan(cases: list[FaultCase], made_sample: Sample, memory: Path) -> None:
    shutil.rmtree(memory / "copy", ignore_errors=True)
    sample = copied(made_sample, memory)
    damage(sample, cases)
    before = standing(sample.directory)
    plans = [(await planned(sample.directory, trash_orphans=True))[1] for _ in range(2)]
    assert does(plans[0]) == does(plans[1])
    assert standing(sample.directory) == before


SCENES = {
    "files and descriptors": [
        "packed-truncated-erofs",
        "entry-duplicate-twice",
        "digest-invalid-short",
        "wrong-mode-packed",
        "config-digest-other",
    ],
    "index": ["index-unparsable-truncated", "packed-empty-empty"],
    "no index": ["index-missing-removed", "packed-truncated-tar"],
    "no files": ["index-not-a-file-directory", "file-not-regular-pipe"],
}


async def snapshot(name: str, made: Sample, folder: Path) -> tuple[Sample, RepairPlan]:
    """A damaged cache and its plan, some of it restored from the trash."""
    sample = copied(made, folder)
    by_name = {str(case): case for case in CASES}
    damage(sample, [by_name[case] for case in SCENES[name]])
    _, plan = await planned(sample.directory, **ALL_ALLOWED)
    assert plan.steps
    return sample, plan


DISKS: dict[str, Callable[[int], Disk]] = {
    "crash": StoppingDisk,
    "full": lambda at: FailingDisk(at, errno.ENOSPC, for_good=False),
    "broken": lambda at: FailingDisk(at, errno.EIO, for_good=True),
}


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", DISKS)
@pytest.mark.parametrize("name", SCENES)
async def test_interrupted_at_a_step(name: str, kind: str, every: int, made_sample: Sample, memory: Path) -> None:
    """At every step in the long proofs, at every fourth otherwise, which ones differs from scene to scene."""
    interrupted = 0
    for at in range(len(name + kind) % every, 400, every):
        sample, plan = await snapshot(name, made_sample, memory / str(at))
        before, bytes_before = standing(sample.directory), originals(sample.directory)
        try:
            await apply_plan(PackerCache(sample.directory, disk=DISKS[kind](at)), replace(plan, depth=Depth.QUICK))
            break
        except (Stop, CacheError):
            interrupted += 1
        assert not lost(bytes_before, sample.directory), at
        cache = PackerCache(sample.directory)
        for _ in range(2):  # the first finishes what was interrupted, or rolls it back
            _, again = await planned(sample.directory, **ALL_ALLOWED)
            await apply_plan(cache, replace(again, depth=Depth.QUICK))
            assert not lost(bytes_before, sample.directory), at
        assert all(one.state is not TransactionState.PENDING for one in await cache.transactions())
        while await undo_newest(cache):
            pass
        assert standing(sample.directory) == before, at
        shutil.rmtree(memory / str(at))
    assert interrupted > 1
