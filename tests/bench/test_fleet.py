"""Many hosts by the gatherer, over a real sshd on loopback: CPU on this side, beside as many times `ssh HOST true`; and
what a host with many entries tells, as it lands, beside the gatherer that reads it there.

``pytest tests/bench/test_fleet.py --benchmark-enable -s`` prints them for 200 hosts and 10,000 entries; one machine
carries both ends. Nothing is asserted on time; an ordinary run takes 4 and 20.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ocitui.remote import HostMirror, SshPlace
from tests.bench.big_cache import make_big_cache
from tests.remote.support import hosts_in, near_ssh, use_ssh
from tests.sshd import QUICK_EXCHANGE


def test_many_hosts(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 200 if request.config.getoption("--benchmark-enable") else 4
    cache = make_big_cache(tmp_path / "image", 10, with_files=10)
    (tmp_path / "ssh").mkdir()
    # As ssh has it by itself.
    with hosts_in(tmp_path / "ssh", f"+{QUICK_EXCHANGE}") as hosts:
        monkeypatch.setenv("PATH", use_ssh(tmp_path / "bin", hosts.config))
        names = [f"host{number}" for number in range(count)]
        for name in names:
            hosts.alias(name, hosts.ports["good"])
        plain = sum(_cpu_of(["ssh", name, "true"])[0] for name in names[: count // 10 or 1]) / (count // 10 or 1)
        began, fleet = time.perf_counter(), [sys.executable, "-m", "ocitui", "fleet", "--json"]
        cpu, told = _cpu_of([*fleet, *(f"{name}{cache}" for name in names)])
        wall = time.perf_counter() - began
        rows = json.loads(told)["hosts"]
        assert [row["error"] for row in rows] == [None] * count
        assert {row["entries"] for row in rows} == {10}
        print(f"\n{count} hosts: {wall:.1f} s; CPU s a host here {cpu / count:.3f}, of `ssh HOST true` {plain:.3f}")


async def test_landing(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 10_000 if request.config.getoption("--benchmark-enable") else 20
    monkeypatch.setenv("PATH", near_ssh(tmp_path / "near"))
    cache = make_big_cache(tmp_path / "image", count, with_files=count)
    before = _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
    async with HostMirror(SshPlace.parse(f"ssh://near{cache}")) as mirror:
        await mirror.ask()
        here, there = _cpu(resource.RUSAGE_SELF) - before[0], _cpu(resource.RUSAGE_CHILDREN) - before[1]
        assert len(list(mirror.directory.iterdir())) == 3 * count + 1
    print(f"\n{count:,} entries land in {here:.2f} CPU s, which the gatherer read in {there:.2f}: {here / there:.2f}")


def _cpu_of(command: Sequence[str]) -> tuple[float, bytes]:
    """The CPU of a command and of all that it waited for, and what it printed."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        told = running.stdout.read()
        _, _, used = os.wait4(running.pid, 0)
        running.returncode = 0
    return used.ru_utime + used.ru_stime, told


def _cpu(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime
