"""The whole program on caches whose files are all there: commands, plans and the screen, a line for each figure.

``pytest tests/bench/test_speed.py --benchmark-enable -s`` prints them for 10, 10,000 and 100,000 entries. Each is the
least CPU of some rounds of a process of its own, beside a yardstick of the same run: a bare Python for what only
starts, or the bare system calls and hashing of every file for what looks at all of them. An ordinary run takes few
entries, to see that each figure can be had; nothing is asserted on time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.cache import keep_backup
from tests.bench.terminal import TerminalRun, python
from tests.bench.test_doctor import SOUND_SQUASHFS, make_cache
from tests.tools import ROOT

_BARE_LOOK = """
import os, sys
from hashlib import sha256
root = os.open(sys.argv[1], os.O_RDONLY)
for item in [*os.scandir(root)]:
    item.stat(follow_symlinks=False)
    if item.is_file():
        file = os.open(item.name, os.O_RDONLY, dir_fd=root)
        if item.name.endswith(".json"):
            sha256(os.read(file, 1 << 30)).hexdigest()
        else:
            os.pread(file, 2048, 0)
        os.close(file)
"""
_DELETE_PLAN = """
import asyncio, sys
from pathlib import Path
from ocitui.cache import PackerCache

async def main():
    cache = PackerCache(Path(sys.argv[1]))
    index = await cache.index()
    await cache.plan_delete([*zip(index.digests, index.formats)])

asyncio.run(main())
"""
_SCREEN = "import sys; from ocitui.__main__ import main; sys.argv[1:] = [sys.argv[1]]; main()"
_QUIET_SECONDS = 5


@pytest.fixture
def many(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--benchmark-enable"))


def least(rounds: int, *command: str | Path) -> tuple[float, float]:
    """The least CPU seconds of some runs of a Python command, and the peak of its memory in MiB; what is less than this
    process had cannot be seen."""
    taken, peak = [], 0
    for _ in range(rounds):
        with open(os.devnull, "wb") as nowhere:
            running = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=nowhere, stderr=nowhere)
            _, _, used = os.wait4(running.pid, 0)
            running.returncode = 0
        taken.append(used.ru_utime + used.ru_stime)
        peak = max(peak, used.ru_maxrss)
    return min(taken), peak / 1024


def show(what: str, found: tuple[float, float], yardstick: float) -> None:
    seconds, peak = found
    print(f"  {what:28} {seconds * 1000:8.0f} ms CPU {seconds / yardstick:6.2f} of it {peak:5.0f} MiB at most")


def cache_of(directory: Path, count: int) -> Path:
    return make_cache(directory, count, lambda _: SOUND_SQUASHFS, "squashfs")


def test_what_only_starts(many: bool, tmp_path: Path) -> None:
    cache, rounds = cache_of(tmp_path / "cache", 10), 15 if many else 1
    bare, _ = least(rounds, "-c", "pass")
    print(f"\n10 entries, beside a bare Python of {bare * 1000:.0f} ms")
    show("only what click, msgspec need", least(rounds, "-c", "import click, msgspec, hashlib"), bare)
    for words in (["list"], ["resolve", "team/app3:1.3"], ["verdict"]):
        show(words[0], least(rounds, "-m", "ocitui", *words, "-C", cache), bare)


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_what_a_shell_waits_for(count: int, many: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tab behind these lines, with a sound index and one that is cut off."""
    count, rounds = (count, 7) if many else (count // 1000, 1)
    cache = cache_of(tmp_path / "cache", count)
    bare, _ = least(rounds, "-c", "pass")
    print(f"\n{count:,} entries, beside a bare Python of {bare * 1000:.0f} ms")
    for name, value in (("_OCITUI_COMPLETE", "bash_complete"), ("_OCITUI_WORD", ""), ("OCITUI_CACHE", str(cache))):
        monkeypatch.setenv(name, value)
    for line in ("show ", "delete 5fec", "delete beef0", "undo ", "list --filter state:", "repair --only "):
        monkeypatch.setenv("_OCITUI_LINE", f"ocitui {line}")
        show(f"ocitui {line}", least(rounds, "-m", "ocitui"), bare)
    os.truncate(cache / "index.json", (cache / "index.json").stat().st_size * 9 // 10)
    monkeypatch.setenv("_OCITUI_LINE", "ocitui show ")
    show("of a corrupt index: show", least(rounds, "-m", "ocitui"), bare)


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_what_looks_at_all_files(count: int, many: bool, tmp_path: Path) -> None:
    """The repair's index is cut in the middle: its second half is to be told from the files, then from a backup."""
    count, rounds = (count, 3) if many else (count // 1000, 1)
    cache = cache_of(tmp_path / "cache", count)
    bare, _ = least(rounds, "-c", _BARE_LOOK, cache)
    print(f"\n{count:,} entries, beside bare system calls and hashing of {bare * 1000:.0f} ms")
    for words in (["list"], ["check", "--depth", "header"]):
        show(" ".join(words), least(rounds, "-m", "ocitui", *words, "-C", cache), bare)
    show("delete plan of all", least(rounds, "-c", _DELETE_PLAN, cache), bare)
    index = cache / "index.json"
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2])
    show("check of half an index", least(rounds, "-m", "ocitui", "check", "-C", cache), bare)
    show("repair plan of half an index", least(rounds, "-m", "ocitui", "repair", "-C", cache), bare)
    assert keep_backup(cache, whole)
    show("repair plan with a backup", least(rounds, "-m", "ocitui", "repair", "-C", cache), bare)


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_the_screen_until_every_state_stands(count: int, many: bool, tmp_path: Path) -> None:
    count, idle = (count, 60) if many else (count // 1000, 1)
    cache = cache_of(tmp_path / "cache", count)
    bare, _ = least(1, "-c", _BARE_LOOK, cache)
    with TerminalRun(python("-c", _SCREEN, str(cache))) as run:
        first = run.wait_for(b"app0")
        before, quiet = run.cpu_seconds(), 0
        while quiet < (_QUIET_SECONDS if many else 1):
            run.settle(1.0)
            quiet = quiet + 1 if run.cpu_seconds() - before < 0.05 else 0
            before = run.cpu_seconds()
        print(f"\n{count:,} entries, first rows after {first:.2f} s")
        show("every state", (before, run.resident_bytes() / 2**20), bare)
        for _ in range(idle):
            run.settle(1.0)
        print(f"  idle: {(run.cpu_seconds() - before) / idle:.2%} of a core")
