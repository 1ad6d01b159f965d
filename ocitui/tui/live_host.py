"""The host around a cache, as every screen shows it: the daemon, who holds packed files, the disk's room, the trash."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ocitui.cache import CacheError, identity_of
from ocitui.host import DaemonState, daemon_socket, find_daemon, is_daemon
from ocitui.stand_in import fact_of, file_system
from ocitui.text import human_size

if TYPE_CHECKING:
    from ocitui.host import Users, Zones
    from ocitui.remote import HostMirror

_COARSE_SECONDS = 1.0
_WALK_SECONDS = 30.0  # between two looks through all processes, or at what runs
_ASK_SECONDS, _TICK_SECONDS = 3.0, 1.0


class LiveHost:
    """A look costs microseconds where nothing changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.daemon = DaemonState()
        self.users: Mapping[str, str] = {}
        """Who needs packed files, zones and loop devices, by the file's name."""
        self.doubt = ""
        """Why others may be needed too; empty where they are not."""
        self.disk: tuple[int, int] | None = None
        """The bytes of the file system, and how many are free to others than root; None where it does not tell."""
        self.trash = 0
        """The bytes of what lies in the trash."""
        self._walked, self._socket, self._trash_seen = float("-inf"), object(), object()
        self._zones_due, self._database = float("-inf"), object()
        self.zones: Zones | None = None
        self.found: Users | None = None
        self.unanswered = ""
        """Why the host of a mirror told nothing when it was asked last; empty where it did."""

    def look(self) -> tuple[bool, bool]:
        """Gives whether the daemon came or went, and whether another room is to be shown. Not on the event loop."""
        self.find_users()
        return self.daemon_changed(), self.room_changed()

    def daemon_changed(self) -> bool:
        """Look whether the daemon came or went."""
        seen, now, known = identity_of(daemon_socket(self._directory)), time.monotonic(), self.daemon.process
        if seen == self._socket and now <= self._walked + _WALK_SECONDS and (known is None or is_daemon(known)):
            return False
        self._socket, self._walked = seen, now
        before, self.daemon = self.daemon, self.find_daemon()
        return self.daemon != before

    def find_daemon(self) -> DaemonState:
        """The daemon as it is now, most likely still the process that is known."""
        return find_daemon(self._directory, known=self.daemon.process)

    def find_users(self) -> None:
        """Look which zones need packed files, where that may have changed, and which loop devices hold any."""
        from ocitui.host import database_identity, find_users, read_zones

        seen, now = database_identity(self._directory), time.monotonic()
        if seen != self._database or now >= self._zones_due:
            # It is the database as it was seen before it was read, or a newer one.
            self._database, self.zones = seen, read_zones(self._directory, ask=False)
            # Another change need not show in what was written just now.
            is_fresh = seen is not None and time.time() - seen[3] / 1e9 < _COARSE_SECONDS
            self._zones_due = now if is_fresh else now + _WALK_SECONDS
        self.found = find_users(self._directory, self.zones)
        self.users, self.doubt = self.found.names, self.found.doubt

    def room_changed(self) -> bool:
        """Look how much room the disk has, and how much the trash takes; gives whether that shows."""
        from ocitui.cache import TRASH_NAME, sizes_in_own_folder, trash_identity

        before = self._shown
        try:
            now = file_system(self._directory)
        except OSError:
            self.disk = None
        else:
            self.disk = (now.f_blocks - now.f_bfree + now.f_bavail) * now.f_frsize, now.f_bavail * now.f_frsize
            if (trash := trash_identity(self._directory)) != self._trash_seen:
                self._trash_seen = trash
                self.trash = sum(sizes_in_own_folder(self._directory, TRASH_NAME).values())
        return self._shown != before

    @property
    def _shown(self) -> tuple[object, ...]:
        total, free = self.disk or (0, 0)
        return self.disk is None, human_size(free), round(100 * free / (total or 1)), human_size(self.trash)

    @property
    def asked(self) -> float | None:
        """When the host of a mirror was asked, in seconds since the epoch; None of what is none."""
        asked: float | None = fact_of(self._directory, "asked")
        return asked


async def ask_again(mirror: HostMirror, host: LiveHost, tell: Callable[[], object]) -> None:
    """Have a host tell what changed there, as long after its answer as that took; ``tell`` is called every second,
    whether it is waited for or not. Has no end."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_ask_on(mirror, host))
        while True:
            tell()
            await asyncio.sleep(_TICK_SECONDS)


async def _ask_on(mirror: HostMirror, host: LiveHost) -> None:
    pause = _ASK_SECONDS
    async with mirror:
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            try:
                await mirror.ask()
                host.unanswered = ""
            except CacheError as error:
                host.unanswered = error.message
            pause = max(_ASK_SECONDS, time.monotonic() - began)
