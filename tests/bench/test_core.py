"""The cache core, in units of `json.loads` of the same index in the same run; the original's units beside it.

``pytest tests/bench/test_core.py --benchmark-enable -s`` prints the table for 10,000 and 100,000 entries. An ordinary
run makes a quick round and asserts only what no busy machine can upset.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cache import ImageName, PackedFormat, PackerCache
from ocitui.cache.publish import SETTLE_SECONDS
from tests.cache.support import digest_of, documents, entry, index_bytes, make_image

SQUASHFS = PackedFormat.SQUASHFS
ORIGINAL = {"open": "0.75", "resolve": "0.09-0.11", "recall": "0.006-0.018", "store": "0.8-1.0"}
Times = dict[str, float]


def median(measure: Callable[[], float], rounds: int) -> float:
    return statistics.median(measure() for _ in range(rounds))


async def timed(action: Callable[[], Awaitable[object]], rounds: int) -> float:
    times = []
    gc.collect()
    for _ in range(rounds):
        start = time.perf_counter()
        await action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def time_of_loads(data: str) -> float:
    gc.collect()
    start = time.perf_counter()
    json.loads(data)
    return time.perf_counter() - start


def lay_out(directory: Path, count: int) -> None:
    """An index of so many entries, of which one has its files."""
    directory.mkdir()
    manifest, config = documents(str(count // 2))
    for suffix, data in (("manifest.json", manifest), ("config.json", config), ("squashfs", b"packed")):
        (directory / f"{digest_of(manifest)}.{suffix}").write_bytes(data)
    (directory / "index.json").write_bytes(index_bytes(entry(number) for number in range(count)))


async def measure(directory: Path, count: int, rounds: int) -> Times:
    """Seconds for each operation, and for `json.loads` of the index."""
    text = (directory / "index.json").read_text()
    loads = median(lambda: time_of_loads(text), rounds)
    name = ImageName.parse(f"image{count // 2}:1")
    digest = digest_of(documents(str(count // 2))[0])
    cache = await PackerCache.open(directory)
    times = {"json.loads": loads, "open": await timed(lambda: PackerCache.open(directory), rounds)}
    times["resolve"] = await timed(lambda: cache.resolve(name, SQUASHFS), rounds * 20)
    times["recall"] = await timed(lambda: cache.recall(name, digest, SQUASHFS), rounds * 20)
    numbers = itertools.count(count)
    waiting = [make_image(directory / f"waiting{number}", str(number)) for number in range(count, count + rounds + 1)]
    await cache.store(waiting.pop())
    next(numbers)
    times["store"] = await timed(lambda: cache.store(waiting.pop()), rounds) - SETTLE_SECONDS
    return times


@contextmanager
def folder(tmp_path: Path) -> Iterator[Path]:
    """On the disk, as a cache is: what is synced is part of the time."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        yield Path(name) / "cache"


def report(count: int, times: Times) -> None:
    print(f"\n{count:,} entries, json.loads {times['json.loads'] * 1000:.0f} ms")
    for operation, original in ORIGINAL.items():
        seconds = times[operation]
        print(f"  {operation:8} {seconds * 1000:9.2f} ms {seconds / times['json.loads']:8.4f}   original {original}")


async def test_lookups_do_not_grow_with_the_index(tmp_path: Path) -> None:
    found: dict[int, Times] = {}
    for count in (1_000, 10_000):
        with folder(tmp_path) as directory:
            lay_out(directory, count)
            found[count] = await measure(directory, count, rounds=3)
    small, large = found[1_000], found[10_000]
    assert large["resolve"] < 5 * small["resolve"]
    assert large["recall"] < 5 * small["recall"]
    assert large["open"] < 10 * large["json.loads"]
    assert large["resolve"] < large["json.loads"]


@pytest.mark.parametrize("count", [10_000, 100_000])
async def test_in_units_of_json_loads(count: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("only for figures: --benchmark-enable")
    with folder(tmp_path) as directory:
        lay_out(directory, count)
        report(count, await measure(directory, count, rounds=7))
