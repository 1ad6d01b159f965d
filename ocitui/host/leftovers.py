"""What the daemon has outside of the cache, in its folder for temporary files: `oci-assemble-UUID` while it pulls an
image (`crates/oci/src/assemble.rs`), `krata-cfg-UUID` as long as that zone is there (`crates/runtime/src/cfgblk.rs`).
If it is killed they stay. They are only told: nothing outside of the cache is ever removed.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ocitui.cache import Folder

from .daemon import find_daemon, held_in, temporary_folder
from .loop_devices import users_of
from .redb import DatabaseState
from .xenstore import UUID_FORM
from .zones import read_zones

_NAME = re.compile(rf"(?:(oci-assemble)|krata-cfg)-{UUID_FORM}")
_CLOCK_SECONDS = 2.0  # by which the start of a process is known


class Leftover(msgspec.Struct, frozen=True):
    """A folder that a daemon made for a ``kind``, pull or zone: the bytes in it, and since when it is as it is, in
    seconds since the epoch. ``live``: it may be needed still, or nobody can tell."""

    path: Path
    bytes: int
    since: float
    kind: str
    live: bool = True

    @property
    def removal(self) -> str:
        """The command that removes it; empty where it may be needed."""
        return "" if self.live else shlex.join(["rm", "-r", str(self.path)])


def daemon_leftovers(directory: Path, proc: Path = Path("/proc")) -> list[Leftover]:
    """By their names, for the cache in ``directory``. Only root can tell that one is not needed. Never raises."""
    daemon, found = find_daemon(directory, proc), list[Leftover]()
    place = temporary_folder(daemon.process, proc)
    with suppress(OSError), Folder.open(place) as folder:
        for named in filter(None, map(_NAME.fullmatch, sorted(folder.names()))):
            there = folder.lstat(named[0])
            if there is not None and stat.S_ISDIR(there.st_mode) and there.st_uid in (0, os.geteuid()):
                kind = "pull" if named[1] else "zone"
                found.append(Leftover(place / named[0], folder.size(named[0]), there.st_ctime, kind))
    held = held_in(place, daemon.process if daemon.ours else None, proc) if found else None
    if held is None:
        return found
    held |= {name.partition("/")[0] for name in users_of(place)}
    # After the folders: the row of a zone is there first.
    zones = read_zones(directory, ask=False)
    known = {zone.uuid for zone in zones.zones} | {domain.uuid for domain in zones.domains or ()}
    knows_zones = zones.sure and zones.database is not DatabaseState.ABSENT
    until = (daemon.since or 0.0) - _CLOCK_SECONDS if daemon.running else float("inf")

    def is_over(one: Leftover) -> bool:
        is_of_none = knows_zones and one.path.name[-36:] not in known
        return one.path.name not in held and (is_of_none if one.kind == "zone" else one.since < until)

    return [replace(one, live=not is_over(one)) for one in found]
