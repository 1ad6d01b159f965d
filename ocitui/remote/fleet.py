"""Many hosts side by side: each is asked by its mirror, a few at once, and none holds up the others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path

import msgspec

from ocitui.cache import CacheDirectoryError, CacheError, read_regular
from ocitui.doctor import Severity, examine, judged_needs
from ocitui.host import answer_of, find_daemon, find_program, read_zones

from .mirror import HostMirror
from .ssh import InvalidPlaceError, Patience, SshPlace

AT_ONCE, _THROUGH_ONE = 16, 8  # a server turns away more than ten that have not logged in yet, sshd_config(5)
_MOST_INVENTORY, _INVENTORY_SECONDS, _MOST_SECONDS = 16 << 20, 60.0, 300.0


class FleetStanding(StrEnum):
    """How a host stands, the worst first. UNREACHED: its cache could not be looked at."""

    PROBLEMS = "problems"
    UNREACHED = "unreached"
    CLEAN = "clean"


class FleetRow(msgspec.Struct, frozen=True):
    """A host as it was ``seen``, in seconds since the epoch. ``code``, ``message`` and ``hint`` say why it was not
    reached; ``problems`` are findings by severity, ``failing`` the zones that do not get what they need, of ``zones``;
    ``used`` is the share of the file system, None where it is not known; ``daemon`` whether it runs."""

    host: str
    directory: str
    standing: FleetStanding
    seen: float
    code: str = ""
    message: str = ""
    hint: str = ""
    outcome: str = ""
    entries: int = 0
    problems: dict[str, int] = {}
    used: float | None = None
    free: int | None = None
    trash: int = 0
    daemon: bool | None = None
    zones: int = 0
    failing: int = 0
    version: str = ""

    @property
    def order(self) -> tuple[object, ...]:
        """The worst first: a cache that is not there, then by severity."""
        counts = [-self.problems.get(str(one), 0) for one in sorted(Severity, key=lambda one: -one.rank)]
        return (
            [*FleetStanding].index(self.standing),
            not self.code,
            *counts,
            -self.failing,
            self.host,
        )


async def survey(
    places: Sequence[SshPlace],
    *,
    sudo: bool = False,
    patience: Patience | None = None,
    tell: Callable[[SshPlace, FleetRow], object] = lambda place, row: None,
) -> list[FleetRow]:
    """All hosts, the worst first; ``tell`` is called with each as it is known. Never fails for one of them."""
    gate, jumps = asyncio.Semaphore(AT_ONCE), dict[str, asyncio.Semaphore]()

    async def one(place: SshPlace) -> FleetRow:
        async with gate:
            row = await _row(place, sudo, patience, jumps)
        tell(place, row)
        return row

    # Who ends it waits for each host's end, and so for what is kept of it meanwhile to be gone.
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(one(place)) for place in dict.fromkeys(places)]
    return sorted((task.result() for task in asked), key=lambda row: row.order)


async def _row(place: SshPlace, sudo: bool, patience: Patience | None, jumps: dict[str, asyncio.Semaphore]) -> FleetRow:
    code, message, hint = "", "", ""
    try:
        async with asyncio.timeout(_MOST_SECONDS), HostMirror(place, sudo=sudo, patience=patience) as mirror:
            jump = await mirror.jump()
            async with jumps.setdefault(jump, asyncio.Semaphore(_THROUGH_ONE)) if jump else nullcontext():
                await mirror.ask()
            return await _judged(mirror)
    except CacheError as error:
        code, message, hint = error.code, error.message, error.hint
    except TimeoutError:
        code, message = "host-silent", f"{place.name} has not told all within {_MOST_SECONDS:.0f} seconds"
    standing = FleetStanding.PROBLEMS if code == CacheDirectoryError.code else FleetStanding.UNREACHED
    return FleetRow(place.name, place.there, standing, time.time(), code, message, hint)


async def _judged(mirror: HostMirror) -> FleetRow:
    """What the judge says of a mirror. Raises CacheError."""
    facts = await mirror.ask() if mirror.facts is None else mirror.facts
    report = await examine(mirror.directory)
    zones = await asyncio.to_thread(read_zones, mirror.directory, ask=False)
    needs = await asyncio.to_thread(judged_needs, mirror.directory, zones)
    failing = {one.zone.uuid for one in needs if one.fails}
    problems = Counter(str(one.severity) for one in report.shown() if one.severity is not Severity.INFO)
    blocks, block, free, available = facts.space[2], facts.space[1], facts.space[3], facts.space[4]
    used = blocks - free
    return FleetRow(
        mirror.place.name,
        mirror.there,
        FleetStanding.PROBLEMS if problems or failing else FleetStanding.CLEAN,
        time.time(),
        outcome=str(report.verdict.outcome),
        entries=report.entries or 0,
        problems=dict(problems),
        used=used / (used + available) if used + available else None,
        free=available * block,
        trash=mirror.trash_bytes,
        daemon=find_daemon(mirror.directory).running,
        zones=len(zones.zones),
        failing=len(failing),
        version=facts.version,
    )


class _HostVariables(msgspec.Struct):
    ansible_host: str = ""
    ansible_user: str = ""
    ansible_port: int | str | None = None


class _Meta(msgspec.Struct):
    hostvars: dict[str, _HostVariables] = {}


class _Inventory(msgspec.Struct):
    all: dict[str, object] = {}
    meta: _Meta = msgspec.field(name="_meta", default_factory=_Meta)


_INVENTORIES = msgspec.json.Decoder(_Inventory)


def read_inventory(path: Path) -> list[SshPlace]:
    """The hosts of a file: one a line, or what `ansible-inventory` makes of it. Raises InvalidPlaceError, StorageError
    where it cannot be read."""
    lines = read_regular(path, _MOST_INVENTORY).decode(errors="replace").splitlines()
    words = [line.partition("#")[0].strip() for line in lines]
    try:
        return _places(filter(None, words))
    except InvalidPlaceError as error:
        program = find_program("ansible-inventory")
        if program is None:
            hint = "give one host a line, or install ansible-core to have it read"
            raise InvalidPlaceError(f"{path}: {error.message}", hint=hint) from None
    answer = answer_of([program, "-i", str(path.absolute()), "--list", "--export"], _INVENTORY_SECONDS)
    try:
        inventory = _INVENTORIES.decode(answer or b"")
    except msgspec.MsgspecError as error:
        hint = f"see what this says: ansible-inventory -i {path} --list"
        raise InvalidPlaceError(f"{path}: ansible-inventory cannot read it", hint=hint) from error
    return _places(_named(name, told) for name, told in inventory.meta.hostvars.items())


def _named(name: str, told: _HostVariables) -> str:
    user = f"{told.ansible_user}@" if told.ansible_user else ""
    return f"{user}{told.ansible_host or name}" + (f":{told.ansible_port}" if told.ansible_port else "")


def _places(words: Iterable[str]) -> list[SshPlace]:
    return [SshPlace.parse(word) for word in words]
