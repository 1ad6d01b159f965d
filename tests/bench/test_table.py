"""The entry table with 100,000 rows, beside sorting as many strings in the same run."""

import random
import time
from collections.abc import Callable

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ocitui.cache.descriptors import Descriptor
from ocitui.cache.entries import OK, Entry
from ocitui.tui.widgets.entry_table import EntryTable

COUNT = 100_000
ROUNDS = 3
# What each step may take, in sorts of as many strings: far more than it does, so that only a wrong way to grow fails.
LOAD, SORT, FILTER, BULK, STEP = 8, 25, 40, 25, 2


def make_entry(number: int, name: str) -> Entry:
    digest = f"sha256:{random.Random(number).getrandbits(256):064x}"
    descriptor = Descriptor(b"{}", digest, 500, "", f"{name}:1", "squashfs", "1")
    key = (digest, "squashfs", f"{name}:1", 0)
    return Entry(key, name, "1", digest, "squashfs", "linux/amd64", number * 1024, float(number), OK, descriptor)


def best(step: Callable[[], object]) -> float:
    """The least CPU seconds of a few runs."""
    taken = []
    for _ in range(ROUNDS):
        before = time.process_time()
        step()
        taken.append(time.process_time() - before)
    return min(taken)


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return [make_entry(number, f"registry.example.com/team/image{number:06}") for number in range(COUNT)]


@pytest.fixture(scope="module")
def unit(entries: list[Entry]) -> float:
    """Sorting 100,000 strings."""
    digests = [entry.digest for entry in entries]
    return best(lambda: sorted(digests))


@pytest.fixture
def table(entries: list[Entry]) -> EntryTable:
    table = EntryTable()
    table.load(entries)
    return table


def report(benchmark: BenchmarkFixture, unit: float, most: float, step: Callable[[], object]) -> None:
    """Note what the step takes in units, and that it is within bounds."""
    ratio = best(step) / unit
    benchmark.pedantic(step, rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["sorts of as many strings"] = round(ratio, 3)
    print(f"{ratio:.3f} sorts of as many strings")
    assert ratio < most


def test_load(benchmark: BenchmarkFixture, unit: float, entries: list[Entry], table: EntryTable) -> None:
    report(benchmark, unit, LOAD, lambda: table.load(entries))


@pytest.mark.parametrize("column", ["name", "size", "digest", "state"])
def test_sort(benchmark: BenchmarkFixture, unit: float, table: EntryTable, column: str) -> None:
    def step() -> None:
        table.sort_by(None)
        table.sort_by(column)

    report(benchmark, unit, SORT, step)


@pytest.mark.parametrize("text", ["99", "name:99", "state:bad", "size>50M"])
def test_filter(benchmark: BenchmarkFixture, unit: float, table: EntryTable, text: str) -> None:
    def step() -> None:
        table.filter_text = ""
        table.filter_text = text

    report(benchmark, unit, FILTER, step)


@pytest.mark.parametrize("column", [None, "name"])
def test_one_row_changes(
    benchmark: BenchmarkFixture, unit: float, entries: list[Entry], table: EntryTable, column: str | None
) -> None:
    table.sort_by(column)
    sizes = iter(range(COUNT))

    def step() -> None:
        entry = msgspec.structs.replace(entries[COUNT // 2], packed_size=next(sizes))
        table.apply({entry.key: entry}, (), None)

    report(benchmark, unit, STEP, step)


@pytest.mark.parametrize("column", [None, "name"])
def test_one_row_comes_and_goes(
    benchmark: BenchmarkFixture, unit: float, entries: list[Entry], table: EntryTable, column: str | None
) -> None:
    table.sort_by(column)
    before = [entry.key for entry in entries]
    new = make_entry(COUNT, "new")
    after = [new.key, *before]

    def step() -> None:
        table.apply({new.key: new}, (), after)
        table.apply({}, [new.key], before)

    report(benchmark, unit, STEP, step)


@pytest.mark.parametrize("count", [499, 500, 10_000])
def test_many_rows_change(
    benchmark: BenchmarkFixture, unit: float, entries: list[Entry], table: EntryTable, count: int
) -> None:
    table.sort_by("size")
    sizes = iter(range(COUNT))

    def step() -> None:
        size = next(sizes)
        changed = {entry.key: msgspec.structs.replace(entry, packed_size=size) for entry in entries[:count]}
        table.apply(changed, (), None)

    report(benchmark, unit, BULK, step)
