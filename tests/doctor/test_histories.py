"""Which copy of the index is good, after random histories: what ocitui says is right or unsure, and never wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ocitui.doctor.assessment import Assessment, Case, Confidence
from tests.doctor.histories import WAYS, Host
from tests.doctor.repair_support import nobody_else_writes
from tests.kratad import make_kratactl
from tests.tools import LONG, in_memory

pytestmark = pytest.mark.slow

CASES = [Case.MEMORY_GOOD, Case.MEMORY_EMPTIED, Case.HUNG, Case.STOPPED]
# Those of every run were found to come upon something that others do not.
TELLING = {
    Case.MEMORY_GOOD: (1, 23, 35, 54, 63, 72, 85, 178),
    Case.MEMORY_EMPTIED: (2, 4, 26, 37, 58, 76, 84, 100),
}
SEEDS = [
    pytest.param(case, seed, marks=[] if seed in TELLING.get(case, range(8)) else pytest.mark.long)
    for case in CASES
    for seed in range(200)
    if LONG or seed in TELLING.get(case, range(8))
]
# Of the steps before the last ones, how often each is made.
USUAL = {"store": 5, "take_in": 4, "delete": 3, "undo": 2, "move_name": 1, "repair": 2, "look": 4, "damage": 3}
USUAL |= {"start": 3, "start_second": 1, "end": 2}
# What leads to each case, more often than not; some of it is made in every second history.
LAST = {
    Case.MEMORY_GOOD: ["start?", "store", "look?", "damage", "look?", "take_in?"],
    Case.MEMORY_EMPTIED: ["store?", "end", "damage", "look?", "start", "look?", "store?", "look?", "damage?"],
    Case.HUNG: ["start", "damage?", "look?", "hang", "damage?", "look?"],
    Case.STOPPED: ["start?", "damage?", "look?", "end", "look?", "damage?"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    nobody_else_writes(monkeypatch)
    make_kratactl(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with in_memory(tmp_path) as path:
        yield path


def judged(host: Host) -> tuple[Assessment, set[Case]]:
    """What is said, and what is right; looks that it agrees."""
    for asked in (False, True):
        found, right = host.judge(asked=asked), host.right(asked=asked)
        told = f"{host}\n{found.case} {found.confidence}: {'. '.join(found.reasons)}\nright is {sorted(right)}"
        assert found.case in right or found.confidence is Confidence.UNSURE, told
    if found.case is Case.STOPPED:
        lost = host.wanted - (host.on_disk or set())
        assert found.headline or not lost & host.noted, f"{told}, and it lacks what was seen in it"
        assert not found.headline or lost or host.on_disk is None, f"{told}, and it is whole"
    return found, right


async def go_through(host: Host, case: Case) -> None:
    """Some steps of any kind, then such as lead to a case."""
    random = host.random
    first = random.choices([*USUAL], [*USUAL.values()], k=random.randrange(3, 12))
    last = [name.removesuffix("?") for name in LAST[case] if not name.endswith("?") or random.random() < 0.5]
    for name in ["start", *first, *last]:
        await host.step(name)


@pytest.mark.parametrize(("case", "seed"), SEEDS)
async def test_what_is_said_is_right_or_unsure(
    case: Case, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come to another end than the case are looked at too."""
    for attempt in range(50):
        with Host(folder / str(attempt), Random(f"{case} {seed} {attempt}"), monkeypatch) as host:
            await go_through(host, case)
            if judged(host)[1] == {case}:
                return
    pytest.fail(f"no history of the case came about\n{host}")


SURE = [
    (Case.IN_STEP, "start store delete store take_in store"),
    (Case.MEMORY_GOOD, "take_in start store store DAMAGE"),
    # It is as it was seen before the start: that it was seen again tells.
    (Case.MEMORY_GOOD, "take_in take_in start DAMAGE"),
    (Case.MEMORY_GOOD, "start store take_in DAMAGE"),
    (Case.MEMORY_EMPTIED, "take_in store end DAMAGE start store"),
    (Case.MEMORY_EMPTIED, "start store store end start store end DAMAGE start store"),
    (Case.HUNG, "start store DAMAGE hang"),
    (Case.STOPPED, "start store end DAMAGE"),
]


FEW = ("cut", "emptied")


@pytest.mark.parametrize("way", [*FEW, *(pytest.param(way, marks=pytest.mark.long) for way in WAYS if way not in FEW)])
@pytest.mark.parametrize(("case", "steps"), SURE)
async def test_who_looks_at_it_all_along_is_sure(
    case: Case, steps: str, way: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case is Case.MEMORY_EMPTIED and way == "no UTF-8":
        way = "zeros"  # on the other no daemon starts
    with Host(folder, Random(way), monkeypatch, watched=True) as host:
        for name in steps.split():
            await (host.step("damage", way) if name == "DAMAGE" else host.step(name))
        found, _ = judged(host)
        told = f"{host}\n{found.case} {found.confidence}: {'. '.join(found.reasons)}"
        assert found.case is case, told
        assert found.confidence is not Confidence.UNSURE, told


@pytest.mark.parametrize(
    "steps",
    [
        # A repair put whole indexes beside a daemon that had none of them.
        "take_in store end DAMAGE start DAMAGE repair look DAMAGE",
        "take_in store end DAMAGE start DAMAGE repair DAMAGE store",
    ],
)
async def test_what_a_repair_put_beside_the_daemon_is_not_in_its_memory(
    steps: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in ("cut", "removed", "emptied"):
        with Host(folder / way, Random(way), monkeypatch, watched=True) as host:
            for name in steps.split():
                await (host.step("damage", way) if name == "DAMAGE" else host.step(name))
            judged(host)
