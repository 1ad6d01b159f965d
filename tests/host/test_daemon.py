"""The daemon is found by its process, and what is not there is said not to be."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ocitui.host.daemon import DaemonState, daemon_seed, find_daemon
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


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "krata"
    (folder / "cache" / "image").mkdir(parents=True)
    (folder / "krata.db").write_bytes(b"ours")
    return folder


def opens(proc: Path, number: int, target: Path | str) -> None:
    folder = proc / str(number) / "fd"
    folder.mkdir(exist_ok=True)
    (folder / "0").symlink_to("/dev/null")
    (folder / str(len(list(folder.iterdir())))).symlink_to(target)


def test_the_daemon_of_this_very_cache_has_its_database_open(proc: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "krata.db").write_bytes(b"other")
    for number, target in ((77, tmp_path / "other" / "krata.db"), (99, store / "krata.db")):
        process(proc, number, "kratad")
        opens(proc, number, target)
    found = find_daemon(store / "cache" / "image", proc)
    assert (found.process, found.ours) == (99, True)
    assert find_daemon(store / "cache" / "image", proc, known=77).process == 99
    assert not find_daemon(tmp_path / "third" / "cache" / "image", proc).running


def test_a_database_that_was_removed_under_it_is_still_the_daemon_s(proc: Path, store: Path) -> None:
    process(proc, 77, "kratad")
    opens(proc, 77, f"{store / 'krata.db'} (deleted)")
    assert find_daemon(store / "cache" / "image", proc).ours


def test_one_that_has_no_database_open_yet_may_be_it(proc: Path, store: Path) -> None:
    process(proc, 77, "kratad")
    opens(proc, 77, "/dev/zero")
    found = find_daemon(store / "cache" / "image", proc)
    assert (found.process, found.ours) == (77, False)


@pytest.mark.parametrize(
    ("config", "seed"),
    [
        ('[oci]\nseed = "/seed.tar"\n', Path("/seed.tar")),
        ("[oci]\nseed = 7\n", None),
        ("oci = 7\n", None),
        ("a = [\n", None),
        (f"a = {'[' * 60_000}\n", None),
    ],
)
def test_the_seed_that_the_daemon_s_configuration_names(config: str, seed: Path | None, store: Path) -> None:
    (store / "config.toml").write_text(config)
    assert daemon_seed(store / "cache" / "image") == seed


def test_who_listens_at_a_socket_whose_process_is_not_seen(proc: Path, store: Path) -> None:
    cache = store / "cache" / "image"
    assert find_daemon(cache, proc).listens is None
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(store / "daemon.socket"))
        assert find_daemon(cache, proc) == DaemonState(ours=True, listens=False)
        listening.listen()
        assert find_daemon(cache, proc) == DaemonState(ours=True, listens=True)
    assert find_daemon(cache, proc) == DaemonState(ours=True, listens=False)


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
