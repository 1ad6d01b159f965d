"""What is told of an import's progress: true totals, never backwards, not too often, a rate that can be believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.importing.progress import ImportPhase, ImportProgress, RecentRate, Tracker
from tests.cache.support import SQUASHFS
from tests.importing.image_makers import put
from tests.importing.layer_support import Item, layer
from tests.importing.pipeline import Run, image_of, layout_of
from tests.importing.registry_server import FaultyRegistry

A, B = {"a": 1000}, {"b": 1000}
NOISE = image_of(layer(Item("noise", data=bytes(range(256)) * 8000)), layer(Item("b", data=b"b" * 9000)))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> list[ImportProgress]:
    return []


@pytest.fixture
def tracker(clock: Clock, heard: list[ImportProgress]) -> Tracker:
    return Tracker(heard.append, clock)


def reading(done: int, total: int = 1000, phase: ImportPhase = ImportPhase.READ) -> ImportProgress:
    return ImportProgress(phase, done, total, 3, 4, layer=1, layers_total=2)


@pytest.mark.parametrize("kind", ["docker", "oci"])
async def test_a_real_import(
    kind: str, importing: Run, registry: FaultyRegistry, quick: None, tmp_path: object
) -> None:
    put(registry, NOISE, "v1")
    source = f"docker://{registry.host}/team/app:v1"
    if kind == "oci":
        source = f"oci:{layout_of(importing.directory.parent / 'layout', NOISE)}:x"
    await importing(source, format=SQUASHFS)
    steps = [ImportPhase.INSPECT, ImportPhase.DOWNLOAD, ImportPhase.READ, ImportPhase.WRITE, ImportPhase.FINISH]
    wanted = [*steps, ImportPhase.STORE]
    assert importing.phases == [phase for phase in wanted if kind == "docker" or phase is not ImportPhase.DOWNLOAD]
    size = sum(map(len, NOISE.layers))
    for phase in importing.phases:
        told = [now for now in importing.heard if now.phase is phase]
        assert [now.done for now in told] == sorted(now.done for now in told)
        assert len({now.total for now in told if now.total}) <= 1, "the total does not change"
        assert all(now.done <= now.total for now in told)
        if phase in (ImportPhase.DOWNLOAD, ImportPhase.READ, ImportPhase.WRITE):
            assert told[-1].done == told[-1].total > 0
        if phase in (ImportPhase.DOWNLOAD, ImportPhase.READ):
            assert told[-1].total == size
    for now in importing.heard:
        assert now.layer <= now.layers_total or not now.layers_total
        assert now.done == sum(layer.done for layer in now.layers) or not now.layers


def test_at_most_ten_times_a_second(tracker: Tracker, clock: Clock, heard: list[ImportProgress]) -> None:
    tracker.expect_layers(A | B)
    for step in range(1000):
        clock.now += 0.001
        tracker.downloaded("a", step, 1000)
    assert len(heard) <= 11
    tracker.downloaded("a", 1000, 1000)
    tracker.downloaded("b", 1000, 1000)
    assert (heard[-1].done, heard[-1].total) == (2000, 2000)
    count = len(heard)
    for _ in range(50):
        tracker.downloaded("b", 1000, 1000)
    assert len(heard) == count, "the end is told once"


def test_each_step_is_told_at_once(tracker: Tracker, heard: list[ImportProgress]) -> None:
    for phase in ImportPhase:
        tracker.enter(phase)
    assert [now.phase for now in heard] == list(ImportPhase)
    assert {(now.total, now.rate, now.left) for now in heard} == {(0, None, None)}


def test_a_layer_that_begins_anew_stands_still(tracker: Tracker, clock: Clock, heard: list[ImportProgress]) -> None:
    tracker.expect_layers(A | B)
    for done in (500, 0, 200, 600):
        clock.now += 1
        tracker.downloaded("a", done, 1000)
    assert [now.done for now in heard] == [500, 500, 500, 600]
    assert {now.total for now in heard} == {2000}


def test_rate_and_time_left(tracker: Tracker, clock: Clock, heard: list[ImportProgress]) -> None:
    for second in range(11):
        tracker.flattened(reading(second * 50))
        clock.now += 1
    assert heard[0].rate is None, "it is too early to say"
    assert heard[0].left is None
    assert heard[-1].rate == pytest.approx(50)
    assert heard[-1].left == pytest.approx(10)


def test_the_rate_is_of_the_last_seconds(tracker: Tracker, clock: Clock, heard: list[ImportProgress]) -> None:
    for done in (0, 900, *range(901, 921)):
        tracker.flattened(reading(done))
        clock.now += 1
    assert heard[-1].rate == pytest.approx(1)
    assert heard[-1].left == pytest.approx(80)


def test_what_was_there_at_the_start_is_no_rate(tracker: Tracker, clock: Clock, heard: list[ImportProgress]) -> None:
    tracker.expect_layers(A)
    tracker.downloaded("a", 900, 1000)
    clock.now += 1
    tracker.downloaded("a", 910, 1000)
    assert heard[-1].rate == pytest.approx(10)


def test_a_stalled_step_has_no_time_left(tracker: Tracker, clock: Clock, heard: list[ImportProgress]) -> None:
    for _ in range(10):
        tracker.flattened(reading(500))
        clock.now += 1
    assert heard[-1].rate == 0
    assert heard[-1].left is None


def test_nobody_knows_how_long_a_packer_finishes(tracker: Tracker, heard: list[ImportProgress]) -> None:
    tracker.flattened(reading(1000, phase=ImportPhase.FINISH))
    assert (heard[0].phase, heard[0].total, heard[0].left, heard[0].files) == (ImportPhase.FINISH, 0, None, 3)


def test_why_a_registry_keeps_it_waiting(tracker: Tracker, clock: Clock, heard: list[ImportProgress]) -> None:
    tracker.enter(ImportPhase.INSPECT)
    tracker.note("busy; trying again in 4 s")
    tracker.expect_layers(A)
    tracker.downloaded("a", 10, 1000)
    tracker.note("broke off")
    clock.now += 1
    tracker.downloaded("a", 20, 1000)
    told = [(now.phase, now.note) for now in heard]
    assert told == [
        (ImportPhase.INSPECT, ""),
        (ImportPhase.INSPECT, "busy; trying again in 4 s"),
        (ImportPhase.DOWNLOAD, ""),
        (ImportPhase.DOWNLOAD, "broke off"),
        (ImportPhase.DOWNLOAD, ""),
    ]


def test_nobody_listens() -> None:
    tracker = Tracker(None)
    tracker.enter(ImportPhase.STORE)
    tracker.copied(1, 2)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 1 << 40)), min_size=1, max_size=50))
def test_no_rate_is_below_nothing(steps: list[tuple[float, int]]) -> None:
    clock, done = Clock(), 0
    meter = RecentRate(clock)
    for seconds, more in steps:
        clock.now += seconds
        done += more
        meter.add(done)
        rate = meter.rate()
        assert rate is None or rate >= 0
