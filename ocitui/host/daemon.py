"""krata's daemon, as far as /proc tells: proc(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import msgspec

from ocitui.cache import read_kernel_file

DAEMON_NAME = "kratad"
SOCKET_NAME = "daemon.socket"
_START_TIME_FIELD = 19  # starttime, counted from what follows the command's closing parenthesis


class DaemonState(msgspec.Struct, frozen=True):
    """Whether the daemon runs on this host, its process, and since when (seconds since the epoch); ``ours`` is whether
    its socket stands where the daemon of this very cache would have it."""

    process: int | None = None
    since: float | None = None
    ours: bool = False

    @property
    def running(self) -> bool:
        return self.process is not None


def find_daemon(directory: Path, proc: Path = Path("/proc"), *, known: int | None = None) -> DaemonState:
    """The state of the daemon, for the cache in ``directory``; quick where it is still the process ``known``."""
    socket = daemon_socket(directory)
    for process in chain([] if known is None else [known], _processes(proc)):
        if is_daemon(process, proc):
            return DaemonState(process, _started(proc, process), socket.exists())
    return DaemonState(ours=socket.exists())


def daemon_socket(directory: Path) -> Path:
    """Where the daemon of the cache in ``directory`` has its socket."""
    return directory.absolute().parent.parent / SOCKET_NAME


def is_daemon(process: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process is a daemon: one look that takes microseconds."""
    return read_kernel_file(proc / str(process) / "comm").strip() == DAEMON_NAME


def _processes(proc: Path) -> Iterator[int]:
    with suppress(OSError):
        yield from sorted(int(name) for name in os.listdir(proc) if name.isdecimal())


def _started(proc: Path, process: int) -> float | None:
    fields = read_kernel_file(proc / str(process) / "stat").rpartition(")")[2].split()
    lines = read_kernel_file(proc / "stat").splitlines()
    boot = next((line.split()[1] for line in lines if line.startswith("btime ")), None)
    if boot is None or len(fields) <= _START_TIME_FIELD:
        return None
    return int(boot) + int(fields[_START_TIME_FIELD]) / os.sysconf("SC_CLK_TCK")
