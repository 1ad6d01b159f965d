"""Keys while a large image is imported, beside the same keys at rest; and how long an import's own threads keep another
of the program from going on, whatever else the machine does.

Nothing is asserted on time. `pytest tests/bench/test_import_keys.py -s --benchmark-enable` prints the figures, by
an image of 200 MB; the ordinary run looks whether they can be had, by a small one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ocitui.cache import PackedFormat, PackerCache
from ocitui.importing.image_import import unfinished_imports
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.jobs import ImportQueue
from ocitui.threads import giving_way
from tests.bench.big_cache import make_big_cache
from tests.bench.terminal import TerminalRun, python
from tests.tools import need
from tests.tui.import_support import large_layout

_MOST_KEYS = 5_000
_SCREEN = "import sys; from ocitui.__main__ import main; sys.argv[1:] = [sys.argv[1]]; main()"


def _answers(run: TerminalRun, enough: Callable[[int], bool]) -> list[float]:
    """Seconds from a key to the first byte that is its answer: the cursor's row, not what an import draws."""
    seconds: list[float] = []
    row = 1
    while not enough(len(seconds)):
        assert len(seconds) < _MOST_KEYS, "the import does not end"
        down = row < 8
        row += 1 if down else -7
        start = len(run.output)
        run.press(b"j" if down else b"g")
        seconds.append(run.wait_for(b"\x1b[", start))
        run.settle(0.03)
    return seconds


def _percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)]


def _begin(run: TerminalRun, layout: Path) -> None:
    run.press(b"i")
    run.wait_for(b"FOUND")
    run.press(f"oci:{layout}\r".encode())
    run.wait_for(b"says no name")
    run.press(b"a:1\r")
    run.wait_for(b"nothing is changed before y")
    run.press(b"y")
    run.wait_for(b"in the queue")


def test_keys_during_an_import(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    need("mksquashfs")
    wanted = request.config.getoption("--benchmark-enable")
    cache = make_big_cache(tmp_path / "cache", 1_000)
    layout = large_layout(tmp_path / "layout", 200 if wanted else 48)
    with TerminalRun(python("-c", _SCREEN, str(cache))) as run:
        run.wait_for(b"1000 entries")
        run.settle(1.0)
        at_rest = _answers(run, lambda count: count >= (200 if wanted else 20))
        _begin(run, layout)
        begun = len(run.output)
        during = _answers(run, lambda count: count > 5 and b"imported" in run.output[begun:])
    assert not unfinished_imports(cache)
    with capsys.disabled():
        for name, seconds in (("at rest", at_rest), ("during an import", during)):
            middle, worst = statistics.median(seconds) * 1000, _percentile(seconds, 0.99) * 1000
            print(f"\n    keys {name}: {len(seconds)}, median {middle:.1f} ms, 99th percentile {worst:.1f} ms", end="")
        print(f"\n    ratio of the medians: {statistics.median(during) / statistics.median(at_rest):.2f}", end="")


def test_what_an_import_keeps_from_the_screen(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread that wants to go on each millisecond: how much CPU the others take in one of its waits, at the most."""
    layout = large_layout(tmp_path / "layout", 200 if request.config.getoption("--benchmark-enable") else 8)
    (tmp_path / "cache").mkdir()
    queue, waits = ImportQueue(PackerCache(tmp_path / "cache")), list[tuple[float, float]]()
    with giving_way(), closing(queue):
        queue.submit(ImportRequest(source=f"oci:{layout}", name="a:1", format=PackedFormat.TAR))
        while queue.active:
            before = time.perf_counter(), time.process_time() - time.thread_time()
            time.sleep(0.001)
            waits.append((time.process_time() - time.thread_time() - before[1], time.perf_counter() - before[0]))
        (job,) = queue.jobs
        assert job.result is not None, job.error
    with capsys.disabled():
        others, whole = (max(seconds) * 1000 for seconds in zip(*waits, strict=True))
        print(
            f"\n    of {len(waits)} waits the longest was {whole:.1f} ms, the import's CPU in one {others:.1f} ms",
            end="",
        )
