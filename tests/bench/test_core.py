"""The cache core, in units of `json.loads` of the same index in the same run; the original's units beside it.

``pytest tests/bench/test_core.py --benchmark-enable -s`` prints the table for indexes of 10,000 and 100,000 entries of
all shapes. Times are of the CPU, and the unit's is taken with the garbage collector off, which would double it. An
ordinary run makes a quick round and asserts only what no busy machine can upset.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import ImageIndex, ImageName, PackedFormat, PackerCache, examine_index
from tests.bench.big_cache import descriptor
from tests.cache.support import digest_of, documents, entry, index_bytes, make_image
from tests.tools import ROOT

SQUASHFS = PackedFormat.SQUASHFS
ORIGINAL = {"open": 0.75, "resolve": 0.1, "recall": 0.01, "store": 0.9}
Fields = dict[str, Any]
Times = dict[str, float]


def with_platform(fields: Fields) -> Fields:
    return {**fields, "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}}


def with_annotation(fields: Fields, key: str, value: str) -> Fields:
    return {**fields, "annotations": {**fields["annotations"], key: value}}


def with_ten(fields: Fields) -> Fields:
    for number in range(7):
        fields = with_annotation(fields, f"org.example.label{number}", f"value {number} of {fields['digest']}")
    return with_platform(fields)


def one_odd(count: int, odd: Callable[[Fields], Fields]) -> Callable[[int], Fields]:
    """The descriptors, of which the middle one is odd."""
    return lambda number: odd(descriptor(number)) if number == count // 2 else descriptor(number)


def written(make: Callable[[int], Fields], count: int, **how: Any) -> bytes:
    fields = {"schemaVersion": 2, "manifests": [make(number) for number in range(count)]}
    return json.dumps(fields, ensure_ascii=False, **{"indent": 2, **how}).encode()


SHAPES: dict[str, tuple[float, Callable[[int], bytes]]] = {
    "three annotations": (0.58, lambda count: written(descriptor, count)),
    "platform": (0.64, lambda count: written(lambda number: with_platform(descriptor(number)), count)),
    "platform, ten annotations": (1.45, lambda count: written(lambda number: with_ten(descriptor(number)), count)),
    "compact": (0.85, lambda count: written(descriptor, count, indent=None, separators=(",", ":"))),
    "one escaped quote": (
        0.83,
        lambda count: written(one_odd(count, lambda one: with_annotation(one, "a", 'a "quoted" word')), count),
    ),
    "one unknown field": (0.87, lambda count: written(one_odd(count, lambda one: {**one, "x": {"a": [1]}}), count)),
    "one umlaut": (0.73, lambda count: written(one_odd(count, lambda one: with_annotation(one, "a", "Jörg")), count)),
}
"""What the original's open costs, and the index."""


def cpu_of(action: Callable[[], object], rounds: int) -> float:
    """CPU seconds, the median of some rounds."""
    times = []
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        result = action()
        times.append(time.process_time() - start)
        del result
    return statistics.median(times)


def unit_of(data: bytes, rounds: int) -> float:
    text = data.decode()
    gc.disable()
    try:
        return cpu_of(lambda: json.loads(text), rounds)
    finally:
        gc.enable()


def measure_reading(data: bytes, count: int, rounds: int) -> Times:
    """What reading an index costs, in units of `json.loads` of it."""
    index = ImageIndex.parse(data)
    middle = index.descriptors[count // 2]
    changed = index.without_at({count // 3}).data

    def look_up() -> None:
        fresh = ImageIndex.parse(data)
        assert fresh.by_key(middle.digest, middle.format) == middle == fresh.by_name(middle.image_name or "")

    unit = unit_of(data, rounds)
    return {
        "unit": unit,
        "open": cpu_of(lambda: examine_index(data), rounds) / unit,
        "open and look up": cpu_of(look_up, rounds) / unit,
        "read again": cpu_of(lambda: examine_index(changed, index), rounds) / unit,
    }


async def timed(action: Callable[[], Awaitable[object]], rounds: int) -> float:
    times = []
    gc.collect()
    for _ in range(rounds):
        start = time.process_time()
        await action()
        times.append(time.process_time() - start)
    return statistics.median(times)


def lay_out(directory: Path, count: int) -> None:
    """An index of so many entries, of which one has its files."""
    directory.mkdir()
    manifest, config = documents(str(count // 2))
    for suffix, data in (("manifest.json", manifest), ("config.json", config), ("squashfs", b"packed")):
        (directory / f"{digest_of(manifest)}.{suffix}").write_bytes(data)
    (directory / "index.json").write_bytes(index_bytes(entry(number) for number in range(count)))


async def measure(directory: Path, count: int, rounds: int) -> Times:
    """CPU seconds for each operation, and for `json.loads` of the index."""
    lay_out(directory, count)
    unit = unit_of((directory / "index.json").read_bytes(), rounds)
    name = ImageName.parse(f"image{count // 2}:1")
    digest = digest_of(documents(str(count // 2))[0])
    cache = await PackerCache.open(directory)
    times = {"unit": unit, "open": await timed(lambda: PackerCache.open(directory), rounds)}
    times["resolve"] = await timed(lambda: cache.resolve(name, SQUASHFS), rounds * 20)
    times["recall"] = await timed(lambda: cache.recall(name, digest, SQUASHFS), rounds * 20)
    numbers = itertools.count(count)
    waiting = [make_image(directory / f"waiting{number}", str(number)) for number in range(count, count + rounds + 1)]
    await cache.store(waiting.pop())
    next(numbers)
    times["store"] = await timed(lambda: cache.store(waiting.pop()), rounds)
    return times


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("only for figures: --benchmark-enable")


async def test_lookups_do_not_grow_with_the_index(tmp_path: Path) -> None:
    small = await measure(tmp_path / "small", 1_000, rounds=3)
    large = await measure(tmp_path / "large", 10_000, rounds=3)
    assert large["resolve"] < 5 * small["resolve"]
    assert large["recall"] < 5 * small["recall"]
    assert large["resolve"] < large["unit"]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_is_read_much_slower_than_another(shape: str) -> None:
    found = measure_reading(SHAPES[shape][1](5_000), 5_000, rounds=5)
    assert found["open and look up"] < 3
    assert found["read again"] < found["open"]


def test_an_index_is_held_in_little_more_than_its_text() -> None:
    data = written(descriptor, 10_000)
    ImageIndex.parse(data)
    gc.collect()
    tracemalloc.start()
    try:
        copy = bytes(bytearray(data))
        tracemalloc.reset_peak()
        index = ImageIndex.parse(copy)
        del copy
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == 10_000
    assert held < 1.95 * len(data)
    assert peak < held + 0.1 * len(data)


def test_an_entry_is_appended_without_a_copy_of_the_text() -> None:
    data = written(descriptor, 10_000)
    index = ImageIndex.parse(data)
    new = index.appended(index.descriptors[0])
    tracemalloc.start()
    try:
        newer = new.appended(index.descriptors[1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(newer) == 10_002
    assert peak < 0.3 * len(data)


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_reading_in_units_of_json_loads(count: int, figures: None) -> None:
    print(f"\n{count:,} entries{'':19} {'u':>8} {'open':>6} {'original':>8} {'and look up':>12} {'read again':>10}")
    for shape, (original, make) in SHAPES.items():
        found = measure_reading(make(count), count, rounds=9)
        print(
            f"  {shape:28} {found['unit'] * 1000:5.0f} ms {found['open']:6.2f} {original:8.2f}"
            f" {found['open and look up']:12.2f} {found['read again']:10.2f}"
        )


@pytest.mark.parametrize("count", [10_000, 100_000])
async def test_operations_in_units_of_json_loads(count: int, tmp_path: Path, figures: None) -> None:
    found = await measure(tmp_path / "cache", count, rounds=7)
    print(f"\n{count:,} entries, json.loads {found['unit'] * 1000:.0f} ms")
    for operation, original in ORIGINAL.items():
        seconds = found[operation]
        print(f"  {operation:8} {seconds * 1000:9.2f} ms {seconds / found['unit']:8.4f}   original {original}")


MEMORY = """
import gc, sys, tracemalloc
from pathlib import Path
from ocitui.cache import ImageIndex
from ocitui.cache.index import read_once

def resident(of):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(of))

ImageIndex.empty(), gc.collect()
before = resident("VmRSS")
if sys.argv[2:]:
    tracemalloc.start()
seen = read_once(Path(sys.argv[1]))
gc.collect()
traced = [size / 2**20 for size in tracemalloc.get_traced_memory()]
print(resident("VmRSS") - before, resident("VmHWM") - before, *traced)
"""


def test_the_memory_of_100_000_entries(tmp_path: Path, figures: None) -> None:
    data = written(descriptor, 100_000)
    (tmp_path / "index.json").write_bytes(data)
    found = [
        subprocess.run(
            [sys.executable, "-c", MEMORY, str(tmp_path), *traced], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for traced in ([], ["traced"])
    ]
    resident, peak = map(float, found[0].stdout.split()[:2])
    held, most = map(float, found[1].stdout.split()[2:])
    print(f"\n100,000 entries, {len(data) / 2**20:.0f} MiB: resident {resident:.0f} MiB, at most {peak:.0f}")
    print(f"  traced {held:.0f} MiB, at most {most:.0f}")
