"""What of the host bears on a cache: may it be written, has it room, does the daemon run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ocitui.cache.daemon import find_daemon

from .catalogue import CATALOGUE
from .findings import Finding

LEAST_FREE = 64 << 20
"""Bytes; with less the daemon's next store may fail in the middle of its index."""
_PROC = Path("/proc")


def check_host(directory: Path, proc: Path = _PROC) -> Iterator[Finding]:
    """The findings, all of them for information only."""
    yield from _file_system(directory)
    daemon = find_daemon(directory, proc)
    if daemon.process is not None:
        since = f" since {datetime.fromtimestamp(daemon.since, UTC):%Y-%m-%d %H:%M:%SZ}" if daemon.since else ""
        whose = "" if daemon.ours else ", though its socket is not where that of this cache would be"
        seen = f"kratad runs as process {daemon.process}{since}{whose}"
        yield CATALOGUE["daemon-running"].finding(seen)


def _file_system(directory: Path) -> Iterator[Finding]:
    try:
        found = os.statvfs(directory)
    except OSError:
        return
    if found.f_flag & os.ST_RDONLY:
        yield CATALOGUE["cache-read-only"].finding("its file system is mounted read-only")
    elif not os.access(directory, os.W_OK | os.X_OK):
        yield CATALOGUE["cache-read-only"].finding("this user may not write to it")
    free = found.f_bavail * found.f_frsize
    if free < LEAST_FREE:
        yield CATALOGUE["disk-full"].finding(f"{free} bytes are free")
    elif found.f_files and not found.f_favail:
        yield CATALOGUE["disk-full"].finding("no inode is free")
