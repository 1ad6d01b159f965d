"""The screen in a real terminal, measured: start, update, keys, idling, memory.

Nothing is asserted on wall time. `pytest tests/bench/test_screen.py -s --benchmark-enable` prints the figures; the
ordinary run looks once whether each of them can be had at all, and checks the bytes.
"""

from __future__ import annotations

import os
import socket
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.big_cache import index_bytes, make_big_cache
from tests.bench.terminal import TerminalRun, python

_BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("bare-is-ready")
Bare().run()
"""
_SCREEN = "import sys; from ocitui.__main__ import main; sys.argv[1:] = [sys.argv[1]]; main()"
# Whose disk is neither filled nor emptied by others.
_ALONE = f"import os; disk = os.statvfs('/'); os.statvfs = lambda _: disk; {_SCREEN}"
_HOST = socket.gethostname().encode()

Figures = Callable[[str, float], None]


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often each figure is taken: more when figures are wanted."""
    return 9 if request.config.getoption("--benchmark-enable") else 1


@pytest.fixture
def figure(capsys: pytest.CaptureFixture[str]) -> Figures:
    """Print one figure past pytest's capture."""

    def show(name: str, value: float) -> None:
        with capsys.disabled():
            print(f"\n    {name}: {value:.3g}", end="")

    return show


def screen(directory: Path, program: str = _SCREEN) -> list[str]:
    return python("-c", program, str(directory))


def first_paint(command: list[str], text: bytes) -> float:
    with TerminalRun(command) as run:
        return run.wait_for(text)


@pytest.mark.parametrize("entries", [10, 100_000])
def test_the_first_frame_beside_a_bare_application(tmp_path: Path, entries: int, rounds: int, figure: Figures) -> None:
    cache = make_big_cache(tmp_path / "cache", entries)
    ratios = []
    for _ in range(rounds):
        bare = first_paint(python("-c", _BARE), b"bare-is-ready")
        ratios.append(first_paint(screen(cache), _HOST) / bare)
    figure(f"first frame with {entries} entries / bare application's", statistics.median(ratios))


def test_rename_of_the_index_to_the_changed_row(tmp_path: Path, rounds: int, figure: Figures) -> None:
    cache = make_big_cache(tmp_path / "cache", 10_000)
    seconds = []
    with TerminalRun(screen(cache)) as run:
        run.wait_for(b"10000 entries")
        run.settle()
        for number in range(rounds):
            changed = index_bytes(10_000).replace(b"team/app3:", f"team/new{number}:".encode())
            draft = cache / "draft"
            draft.write_bytes(changed)
            start = len(run.output)
            os.rename(draft, cache / "index.json")
            seconds.append(run.wait_for(f"new{number}".encode(), start))
            run.settle()
    figure("milliseconds from rename to changed row, 10,000 entries", statistics.median(seconds) * 1000)


def test_an_update_out_of_view_writes_nothing(tmp_path: Path) -> None:
    cache = make_big_cache(tmp_path / "cache", 1_000)
    with TerminalRun(screen(cache, _ALONE)) as run:
        run.wait_for(b"1000 entries")
        run.settle(2.0)
        start = len(run.output)
        draft = cache / "draft"
        draft.write_bytes(index_bytes(1_000).replace(b"team/app900:", b"team/new900:"))
        os.rename(draft, cache / "index.json")
        run.settle(2.0)
        assert run.output[start:] == b""


def test_an_idle_screen(tmp_path: Path, rounds: int, figure: Figures) -> None:
    cache = make_big_cache(tmp_path / "cache", 10_000)
    seconds = 2.0 if rounds == 1 else 20.0
    with TerminalRun(screen(cache, _ALONE)) as run:
        run.wait_for(b"10000 entries")
        run.settle(2.0)
        start, before = len(run.output), run.cpu_seconds()
        run.settle(seconds)
        assert run.output[start:] == b""
        figure("share of a core when idle", (run.cpu_seconds() - before) / seconds)


def test_keys_in_a_hundred_thousand_rows(tmp_path: Path, rounds: int, figure: Figures) -> None:
    cache = make_big_cache(tmp_path / "cache", 100_000)
    with TerminalRun(screen(cache)) as run:
        run.wait_for(b"100000 entries")
        run.settle(2.0)
        figure("peak memory with 100,000 entries, MB", run.resident_bytes() / 2**20)
        for name, keys in (("in the page", [b"j"] * 3), ("at the edge", [b"j"] * 9)):
            times, sizes = [], []
            for key in keys:
                start = len(run.output)
                run.press(key)
                times.append(run.wait_for(b"\x1b[", start))
                while run.read(0.04):
                    continue
                sizes.append(len(run.output) - start)
            figure(f"bytes of a key {name}, most", max(sizes))
            figure(f"milliseconds of a key {name}, median", statistics.median(times) * 1000)
