"""`ocitui zones`: who needs what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from ocitui.text import short_digest

from ..options import looking
from ..output import Call, Column, ExitCode, laid_out, table

if TYPE_CHECKING:
    from ocitui.doctor import JudgedNeed
    from ocitui.host import Leftover, Zones


@click.command("zones")
@looking
def zones_command(call: Call) -> ExitCode:
    """List the zones of this host, and the entries that each of them needs: its image, its kernel, its initrd.

    They are read from krata.db, two directories above the cache, and from the daemon where kratactl can ask it; which
    of them run, from xenstore. What a created zone has on a loop device is pinned until it stops; at its next start it
    is looked for again, as its kernel and initrd are at each.

    Exits with 1 where a zone needs what is not there, or is damaged, or the index does not read.
    """
    from ocitui.doctor import judged_needs
    from ocitui.host import daemon_leftovers, read_zones
    from ocitui.words import zones_lines

    zones, left = read_zones(call.directory), daemon_leftovers(call.directory)
    needs = judged_needs(call.directory, zones)
    lines = chain(_lines(zones, needs), laid_out(zones_lines(zones, needs, left)))
    call.answer(lambda: zones_json(zones, needs, left), lines)
    return ExitCode.PROBLEMS if any(one.fails or one.is_open for one in needs) else ExitCode.CLEAN


_COLUMNS = (
    Column("ZONE", shrink=True),
    Column("STATE"),
    Column("NEEDS"),
    Column("IMAGE", shrink=True),
    Column("FORMAT", rank=1),
    Column("DIGEST", rank=2),
    Column("WHEN"),
    Column("ANSWER"),
)


def _lines(zones: Zones, needs: Sequence[JudgedNeed]) -> Iterable[str]:
    rows = [
        [one.zone.label, one.zone.state, one.need.role, one.name, one.need.format, short_digest(one.need.digest),
         one.need.when, f"{one.verdict}, overruled" if one.overruled else one.verdict]
        for one in needs
    ]  # fmt: skip
    needing = {one.zone.uuid for one in needs}
    rows += [[zone.label, zone.state, "", "", "", "", "", ""] for zone in zones.zones if zone.uuid not in needing]
    return table(_COLUMNS, rows) if zones.zones else ["no zone is known"]


def zones_json(zones: Zones, needs: Sequence[JudgedNeed], left: Sequence[Leftover]) -> dict[str, Any]:
    """The zones as programs read them, those that do not read among them."""
    from msgspec.structs import asdict

    xenstore = "unknown" if zones.domains is None else "read"
    # By the objects, as database and daemon may tell of one zone otherwise.
    of_zone: dict[int, list[dict[str, Any]]] = {id(zone): [] for zone in zones.zones}
    for one in needs:
        need = one.need
        of_zone[id(one.zone)].append(
            {
                "role": need.role,
                "digest": need.digest,
                "format": need.format,
                "name": one.name,
                "when": need.when,
                "verdict": one.verdict,
                "overruled": one.overruled,
                "error": need.error,
            }
        )
    return {
        "sure": zones.sure,
        "doubt": zones.doubt,
        "source": {"database": zones.database, "daemon": zones.daemon, "xenstore": xenstore, "note": zones.note},
        "zones": [
            {
                "uuid": zone.uuid,
                "name": zone.name,
                "state": zone.state,
                "domid": zone.domid,
                "needs": of_zone[id(zone)],
                "error": zone.problem or zone.error,
            }
            for zone in zones.zones
        ],
        "rowless": [{"domid": one.domid, "uuid": one.uuid, "name": one.name} for one in zones.rowless],
        "leaks": list(zones.leaks),
        "leftovers": [{**asdict(one), "path": str(one.path), "removal": one.removal or None} for one in left],
    }
