"""krata's daemon, as far as /proc tells: proc(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import msgspec

from ocitui.cache import read_bounded, read_kernel_file
from ocitui.stand_in import fact_of

DAEMON_NAME = "kratad"
SOCKET_NAME, DATABASE_NAME, CONFIG_NAME = "daemon.socket", "krata.db", "config.toml"
START_SECONDS = 5.0
"""How near to the daemon's start a time may be of before or after it: it has read the index a moment later, and times
in /proc are good to a hundredth of a second, the boot that they count from to a second."""
PROC = Path("/proc")
_MOST_CONFIG = 1 << 20
_DELETED = " (deleted)"
_TMPDIR = re.compile(r"(?:^|\0)TMPDIR=(/[^\0]*)")
_HOST_PROCESSES = "pid:[4026531836]"  # the namespace of all, linux/proc_ns.h
_START_TIME_FIELD = 19  # starttime, counted from what follows the command's closing parenthesis


class DaemonState(msgspec.Struct, frozen=True):
    """Whether the daemon runs on this host, its process, and since when (seconds since the epoch). ``ours`` is whether
    it is that of this very cache: it has the database beside it open; where that may not be seen, its socket stands
    where it would. ``listens`` is whether anybody does there while no process is seen, None: nobody can tell."""

    process: int | None = None
    since: float | None = None
    ours: bool = False
    listens: bool | None = None

    @property
    def running(self) -> bool:
        return self.process is not None

    @property
    def read_index_by(self) -> float:
        """What is seen of the index after this time tells what it has in its memory; 0 where that cannot be told."""
        return 0.0 if self.since is None else self.since + START_SECONDS


def find_daemon(directory: Path, proc: Path | None = None, *, known: int | None = None) -> DaemonState:
    """The state of the daemon, if it serves no other cache; quick where it is still the process ``known``. What is told
    of another host's is that, unless it is to be looked for in a ``proc``."""
    there: DaemonState | None = None if proc else fact_of(directory, "daemon")
    if there is not None:
        return there
    proc = proc or PROC
    socket, found = daemon_socket(directory), None
    for process in chain([] if known is None else [known], _processes(proc)):
        serves = _serves(process, socket.with_name(DATABASE_NAME), proc) if is_daemon(process, proc) else False
        if serves:
            return DaemonState(process, _started(proc, process), True)
        if serves is None:
            found = process if found is None else found
            if found == known:
                break
    if found is not None:
        return DaemonState(found, _started(proc, found), socket.exists())
    exists = socket.exists()
    return DaemonState(ours=exists, listens=_listens(socket) if exists else None)


def _serves(process: int, database: Path, proc: Path) -> bool | None:
    """Whether a daemon has this database open; None where it has none, as at its start, or that may not be seen."""
    other: bool | None = None
    for fd in _names(proc / str(process) / "fd"):
        with suppress(OSError):
            target = os.readlink(fd)
            path = target.removesuffix(_DELETED)
            if os.path.basename(path) != DATABASE_NAME:
                continue
            other = False
            # One that was removed or replaced is the daemon's all the same; else a path may be of another mount.
            if (path != target and path == str(database)) or os.path.samefile(fd, database):
                return True
    return other


def is_served(directory: Path, proc: Path = PROC) -> bool:
    """Whether a daemon is seen to have the database of the cache in ``directory`` open."""
    database = daemon_socket(directory).with_name(DATABASE_NAME)
    return any(is_daemon(process, proc) and _serves(process, database, proc) for process in _processes(proc))


def temporary_folder(process: int | None, proc: Path) -> Path:
    """Where a daemon makes its temporary files; `/tmp` where none runs, or it is not to be had."""
    found = _TMPDIR.search(read_kernel_file(proc / f"{process}" / "environ", "surrogateescape"))
    return Path(found[1] if found else "/tmp")


def held_in(folder: Path, daemon: int | None, proc: Path) -> set[str] | None:
    """The names in a folder that any process has open; None where not all can be asked, or another daemon runs."""
    held, processes, prefix = set[str](), [*_processes(proc)], f"{os.path.realpath(folder)}/"
    try:
        if 1 not in processes or os.readlink(proc / "self" / "ns" / "pid") != _HOST_PROCESSES:
            return None
        for process in processes:
            if process != daemon and is_daemon(process, proc):
                return None
            with suppress(FileNotFoundError, ProcessLookupError):
                for fd in os.listdir(place := proc / f"{process}" / "fd"):
                    with suppress(FileNotFoundError):
                        held.add(os.readlink(place / fd).removeprefix(prefix).partition("/")[0])
    except OSError:
        return None
    return held


def _names(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [folder / name for name in os.listdir(folder)]
    return []


def _listens(path: Path) -> bool | None:
    """Whether anybody accepts connections at a socket, unix(7); None where that cannot be tried."""
    import socket  # no listing has a need of it

    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            # More are waiting already than it takes.
            return True
        return True
    return None


def daemon_socket(directory: Path) -> Path:
    """Where the daemon of the cache in ``directory`` has its socket."""
    return Path(os.path.realpath(directory)).parent.parent / SOCKET_NAME


def daemon_seed(directory: Path) -> Path | None:
    """The archive that the daemon of a cache looks into before it asks any registry (`[oci] seed` of its config.toml);
    None where it has none, or that cannot be read."""
    import tomllib  # who only looks for the daemon has no need of it

    with suppress(OSError, ValueError, AttributeError, RecursionError):
        config = tomllib.loads(read_bounded(daemon_socket(directory).with_name(CONFIG_NAME), _MOST_CONFIG).decode())
        seed = config.get("oci", {}).get("seed")
        return Path(seed) if isinstance(seed, str) and seed else None
    return None


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
