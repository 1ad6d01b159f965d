"""The entry table with 100,000 rows, beside sorting as many strings in the same run."""

import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ocitui.doctor.entries import Entries
from ocitui.tui.widgets.entry_table import EntryTable
from tests.doctor.entries_support import Made, entries_of
from tests.tui.entry_table_support import become, change

COUNT = 100_000
ROUNDS = 3
# What each step may take, in sorts of as many strings: far more than it does, so that only a wrong way to grow fails.
LOAD, SORT, FILTER, BULK, STEP, COMES = 8, 25, 40, 25, 2, 16


def make_entry(number: int, name: str) -> Made:
    digest = f"sha256:{random.Random(number).getrandbits(256):064x}"
    return Made(digest, f"{name}:1", platform="linux/amd64", size=number * 1024, modified=float(number))


def best(step: Callable[[], object]) -> float:
    """The least CPU seconds of a few runs."""
    taken = []
    for _ in range(ROUNDS):
        before = time.process_time()
        step()
        taken.append(time.process_time() - before)
    return min(taken)


@pytest.fixture(scope="module")
def made() -> list[Made]:
    return [make_entry(number, f"registry.example.com/team/image{number:06}") for number in range(COUNT)]


@pytest.fixture(scope="module")
def entries(made: list[Made]) -> Entries:
    return entries_of(made)


@pytest.fixture(scope="module")
def unit(made: list[Made]) -> float:
    """Sorting 100,000 strings."""
    digests = [one.digest for one in made]
    return best(lambda: sorted(digests))


@pytest.fixture
def table(entries: Entries) -> EntryTable:
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


def test_load(benchmark: BenchmarkFixture, unit: float, entries: Entries, table: EntryTable) -> None:
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
        table.filter_by("")
        table.filter_by(text)

    report(benchmark, unit, FILTER, step)


@pytest.mark.parametrize("column", [None, "name"])
def test_one_row_changes(
    benchmark: BenchmarkFixture, unit: float, made: list[Made], table: EntryTable, column: str | None
) -> None:
    table.sort_by(column)
    sizes = iter(range(COUNT))

    def step() -> None:
        become(table, COUNT // 2, replace(made[COUNT // 2], size=next(sizes)))

    report(benchmark, unit, STEP, step)


@pytest.mark.parametrize("column", [None, "name"])
def test_one_row_comes_and_goes(
    benchmark: BenchmarkFixture, unit: float, made: list[Made], table: EntryTable, column: str | None
) -> None:
    table.sort_by(column)
    more = [entries_of([*made, make_entry(COUNT + number, "new")]) for number in range(ROUNDS + 1)]
    fewer = [entries_of(made) for _ in more]
    steps = iter(zip(more, fewer, strict=True))

    def step() -> None:
        for entries in next(steps):
            table.load(entries)

    report(benchmark, unit, COMES, step)


@pytest.mark.parametrize("count", [499, 500, 10_000])
def test_many_rows_change(
    benchmark: BenchmarkFixture, unit: float, made: list[Made], table: EntryTable, count: int
) -> None:
    table.sort_by("size")
    sizes = iter(range(COUNT))

    def step() -> None:
        size, entries = next(sizes), table.rows.entries
        assert entries is not None
        for position in range(count):
            change(entries, position, replace(made[position], size=size))
        table.update(range(count))

    report(benchmark, unit, BULK, step)
