"""The daemon is found by its process, and what is not there is said not to be."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ocitui.host.daemon import DaemonState, find_daemon
from tests.tools import wait_for


def process(proc: Path, number: int, command: str, started_ticks: int = 100) -> None:
    folder = proc / str(number)
    folder.mkdir(parents=True)
    (folder / "comm").write_text(command + "\n")
    fields = " ".join(["S", *["0"] * 18, str(started_ticks), "0"])
    (folder / "stat").write_text(f"{number} ({command}) {fields}\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    process(folder, 1, "init")
    process(folder, 30, "odd) name (")
    (folder / "self").mkdir()
    (folder / "stat").write_text("cpu 0 0\nbtime 1000\n")
    return folder


def test_no_daemon(proc: Path, tmp_path: Path) -> None:
    assert find_daemon(tmp_path, proc) == DaemonState()


def test_a_daemon_and_since_when(proc: Path, tmp_path: Path) -> None:
    process(proc, 77, "kratad", started_ticks=5 * os.sysconf("SC_CLK_TCK"))
    assert find_daemon(tmp_path, proc) == DaemonState(77, 1005.0)


def test_a_known_process_is_asked_first_and_another_found_when_it_is_gone(proc: Path, tmp_path: Path) -> None:
    process(proc, 77, "kratad")
    process(proc, 99, "kratad")
    assert find_daemon(tmp_path, proc, known=99).process == 99
    assert find_daemon(tmp_path, proc, known=500).process == 77


def test_a_process_that_ends_meanwhile_is_no_daemon(proc: Path, tmp_path: Path) -> None:
    (proc / "88").mkdir()
    assert not find_daemon(tmp_path, proc).running


def test_a_proc_that_cannot_be_read(tmp_path: Path) -> None:
    assert not find_daemon(tmp_path, tmp_path / "nowhere").running


def test_the_daemon_of_this_very_cache_has_its_socket_two_directories_above(proc: Path, tmp_path: Path) -> None:
    cache = tmp_path / "krata" / "cache" / "image"
    cache.mkdir(parents=True)
    assert not find_daemon(cache, proc).ours
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "krata" / "daemon.socket"))
        assert find_daemon(cache, proc).ours


def test_a_real_process_of_that_name(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    program = shutil.copy(sleep, tmp_path / "kratad")
    with subprocess.Popen([program, "60"]) as running:
        try:
            # It is started a moment before it has its name, and another may run here.
            comm = Path(f"/proc/{running.pid}/comm")
            wait_for(lambda: comm.read_text() == "kratad\n", "the name of the process")
            state = find_daemon(tmp_path, known=running.pid)
            assert state.process == running.pid
            assert state.since is not None
            assert abs(state.since - time.time()) < 3600
        finally:
            running.kill()
