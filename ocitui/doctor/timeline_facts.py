"""What is known of a cache's recent past: the daemon's start, the index's time, backups, journal, free space."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import CacheError, IndexOutcome, Transaction, Verdict
from ocitui.cache.backups import Backup, list_backups
from ocitui.cache.daemon import DaemonState, find_daemon
from ocitui.cache.disk import storage_errors
from ocitui.cache.index_file import read_patiently
from ocitui.cache.workspace import open_journal

from .files import CacheFiles
from .holdings import Holdings

_TRANSACTIONS = 20
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """How the daemon's process stands: the letter of its state and the kernel function its first thread waits in.

    A letter of D (it waits for a disk), T (stopped), X or Z (dead) is telling. Threads that wait for each other's locks
    sleep like idle ones, so that a deadlock cannot be told from outside: empty is what cannot be read.
    """

    letter: str = ""
    waits_in: str = ""

    @property
    def trouble(self) -> str:
        """What is wrong with it as far as can be seen; empty where nothing shows."""
        kinds = {"D": "waits for a disk", "T": "is stopped", "t": "is being traced", "Z": "is dead", "X": "is dead"}
        kind = kinds.get(self.letter, "")
        inside = f" in {self.waits_in}" if self.letter == "D" and self.waits_in not in ("", "0") else ""
        return f"its process {kind}{inside}" if kind else ""


@dataclass(frozen=True, slots=True)
class TimelineFacts:
    """``verdict`` is of the index as it is now, ``modified`` its mtime (None: there is no file); ``backups`` and
    ``transactions`` are newest first; ``complete`` is how many packed files have both documents beside them; ``free``
    is in bytes, None where it cannot be had. Times are in seconds since the epoch.

    ``answers`` is whether ``kratactl`` gets answers, which only the operator can tell: None where nobody did.
    """

    directory: Path
    daemon: DaemonState
    verdict: Verdict
    modified: float | None = None
    backups: tuple[Backup, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    complete: int = 0
    free: int | None = None
    process: ProcessState = ProcessState()
    answers: bool | None = None
    now: float = 0.0

    @property
    def missing(self) -> bool:
        """Whether there is no index at all."""
        return self.verdict.outcome is IndexOutcome.CREATED


def gather(directory: Path, *, answers: bool | None = None, proc: Path = _PROC) -> TimelineFacts:
    """Read the facts; takes a second where the index is corrupt, because it may be being written.

    Raises CacheDirectoryError; a backup or a journal that cannot be read is as none.
    """
    seen = read_patiently(directory)
    daemon = find_daemon(directory, proc)
    return TimelineFacts(
        directory,
        daemon,
        seen.verdict,
        seen.signature.modified_ns / 1e9 if seen.signature else None,
        _backups(directory),
        _transactions(directory),
        _complete(directory),
        _free(directory),
        process_state(daemon.process, proc),
        answers,
        time.time(),
    )


def process_state(process: int | None, proc: Path = _PROC) -> ProcessState:
    """How a process stands, by /proc/PID/status and /proc/PID/wchan: proc(5)."""
    if process is None:
        return ProcessState()
    lines = _read(proc / str(process) / "status").splitlines()
    letter = next((line.split()[1] for line in lines if line.startswith("State:") and len(line.split()) > 1), "")
    return ProcessState(letter, _read(proc / str(process) / "wchan").strip())


def _backups(directory: Path) -> tuple[Backup, ...]:
    try:
        return tuple(list_backups(directory))
    except CacheError:
        return ()


def _transactions(directory: Path) -> tuple[Transaction, ...]:
    try:
        with storage_errors("read the journal"), open_journal(directory) as journal:
            return tuple(journal.newest(_TRANSACTIONS)) if journal else ()
    except CacheError:
        return ()


def _complete(directory: Path) -> int:
    with CacheFiles(directory) as files:
        return Holdings(files.survey()).complete


def _free(directory: Path) -> int | None:
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
