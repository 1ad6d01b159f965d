"""The zones of the host: who needs which entry, and whether it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on, work

from ocitui.host import Zone, Zones, read_zones
from ocitui.text import counted
from ocitui.words import Kind, zone_lines, zones_lines

from ..widgets.lines import Line, PickList, PickRow, bound
from .base import DRAW_SECONDS, ListScreen, Throttle

if TYPE_CHECKING:
    from ocitui.doctor import JudgedNeed

    from ..live import LiveChange

_ALL = "all"


class ZonesScreen(ListScreen["tuple[str, str, str] | None", PickRow]):
    """Dismissed with the digest, format and name of an entry that is to be shown, or None."""

    BINDINGS = bound({"r": "read"})
    subject = "zones"
    shown_as = "the zone"

    def __init__(self) -> None:
        super().__init__()
        self._zones: Zones | None = None
        self._needs: dict[str, list[JudgedNeed]] = {}
        # What the daemon says is asked for once, and by key.
        self._throttle = Throttle(self, DRAW_SECONDS, lambda: self._read(ask=False))

    def begin(self) -> None:
        self.stand("reading krata.db, and asking the daemon")
        self.action_read()

    def live_changed(self, change: LiveChange) -> None:
        """An entry, a file or a zone came or went."""
        self.draw_header()
        if change.another or change.rows:
            self._throttle.ask()

    def action_read(self) -> None:
        self._read(ask=True)

    @work(group="read", exclusive=True)
    async def _read(self, *, ask: bool) -> None:
        from ocitui.doctor import judged_needs

        directory = self.session.directory
        with self.saying_errors():
            zones = await asyncio.to_thread(lambda: read_zones(directory, ask=ask))
            needs = await asyncio.to_thread(judged_needs, directory, zones)
            # Database and daemon may tell of one zone otherwise.
            keys = {id(zone): f"{number} {zone.uuid}" for number, zone in enumerate(zones.zones)}
            self._zones, self._needs = zones, {key: [] for key in keys.values()}
            for one in needs:
                self._needs[keys[id(one.zone)]].append(one)
            title = f"{counted(len(zones.zones), 'zone')}{'' if zones.sure else ', and perhaps others'}"
            rows = [_row(keys[id(zone)], zone, self._needs[keys[id(zone)]]) for zone in zones.zones]
            self.show_rows([PickRow(_ALL, title, "sure" if zones.sure else "not sure", "heading"), *rows])
            self.stand("" if zones.zones else "no zone is known")

    def draw_detail(self) -> None:
        zones, key = self._zones, self.key
        if zones is None:
            return
        zone = zones.zones[int(key.partition(" ")[0])] if key in self._needs else None
        every = [need for needs in self._needs.values() for need in needs]
        lines = [*zones_lines(zones, every)] if zone is None else [*zone_lines(zone, self._needs[key])]
        self.show_lines(lines or [Line("every entry that a zone needs is there", kind="good")])
        self.show_keys([("r", "Read again"), *([("enter", "Go to")] if self._needs.get(key) else [])])

    @on(PickList.Picked)
    def _picked(self) -> None:
        # Of several one that is not there as it should be.
        if needs := sorted(self._needs.get(self.key, ()), key=lambda one: not one.fails):
            self.dismiss((needs[0].need.digest, needs[0].need.format, needs[0].name))


def _row(key: str, zone: Zone, needs: Sequence[JudgedNeed]) -> PickRow:
    said = "  ".join(f"{one.need.role} {one.verdict}" for one in needs)
    failing = any(one.fails for one in needs)
    kind: Kind = "bad" if failing or zone.problem else "muted" if zone.state not in ("created", "creating") else "plain"
    return PickRow(key, f"{zone.label}  {zone.state}", zone.problem or said, kind)
