"""`ocitui fleet`: many hosts in one table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocitui.text import age_of, counted, human_size

from ..options import json_option as as_json_option
from ..options import run_async, sudo_option, taking
from ..output import Call, Column, ExitCode, UsageProblemError, say, table

if TYPE_CHECKING:
    from ocitui.remote import FleetRow


@click.command("fleet")
@click.argument("hosts", metavar="HOST...", nargs=-1)
@click.option(
    "--inventory",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Hosts from a file: one a line, or an inventory of Ansible's.",
)
@click.option("--watch", metavar="SECONDS", type=click.FloatRange(min=1, max=86_400), help="Ask again, until ended.")
@sudo_option
@taking(as_json_option)
def fleet_command(call: Call, hosts: Sequence[str], inventory: Path | None, watch: float | None, sudo: bool) -> int:
    """Look at the caches of many hosts over ssh, and tell how each is, the worst first.

    HOST is [ssh://][USER@]HOST[:PORT][/DIR], as ssh knows it; nothing is installed or changed there. A host that cannot
    be reached has a row that says why.

    Exits with 1 where a cache has problems, with 4 where a host was not reached.
    """
    from ocitui.remote import FleetStanding, SshPlace, read_inventory, survey

    places = [*map(SshPlace.parse, hosts), *(read_inventory(inventory) if inventory else ())]
    if not places:
        raise UsageProblemError("no host is named", hint="name hosts, or give --inventory FILE")
    while True:
        rows = run_async(survey(places, sudo=sudo))
        if call.as_json:
            call.emit(hosts=[row_json(row) for row in rows])
        else:
            say(*_lines(rows))
        if watch is None:
            break
        time.sleep(watch)
        say("")
    standings = {row.standing for row in rows}
    if FleetStanding.UNREACHED in standings:
        return ExitCode.UNCHECKED
    return ExitCode.PROBLEMS if FleetStanding.PROBLEMS in standings else ExitCode.CLEAN


_COLUMNS = (
    Column("HOST", shrink=True),
    Column("VERDICT", shrink=True),
    Column("ENTRIES", right=True, rank=4),
    Column("DISK", right=True, rank=1),
    Column("TRASH", right=True, rank=3),
    Column("DAEMON", rank=2),
    Column("ZONES", rank=2),
    Column("OCITUI", rank=5),
    Column("SEEN", right=True, rank=6),
)


_SUMS = {"problems": "with problems", "unreached": "not reached", "clean": "without a problem"}


def _lines(rows: Sequence[FleetRow]) -> Iterable[str]:
    from ocitui.remote import FleetStanding

    yield from table(_COLUMNS, [_cells(row) for row in rows])
    counts = [(sum(row.standing is one for row in rows), one) for one in FleetStanding]
    yield ", ".join(f"{counted(count, 'host')} {_SUMS[one]}" for count, one in counts if count)


def _cells(row: FleetRow) -> list[str]:
    if row.code:
        return [row.host, f"{row.code}: {row.message}", *[""] * 6, age_of(row.seen)]
    verdict = ", ".join(f"{count} {severity}" for severity, count in row.problems.items()) or str(row.standing)
    zones = f"{row.failing} of {row.zones} fail" if row.failing else str(row.zones)
    used = "-" if row.used is None else f"{row.used:.0%}"
    daemon = "runs" if row.daemon else "-"
    return [
        *(row.host, verdict, str(row.entries), used, human_size(row.trash), daemon, zones, row.version or "-"),
        age_of(row.seen),
    ]


def row_json(row: FleetRow) -> dict[str, Any]:
    """A host as programs read it."""
    from msgspec.structs import asdict

    from ocitui.text import time_json

    told = {**asdict(row), "standing": str(row.standing), "seen": time_json(row.seen)}
    error = {name: told.pop(name) for name in ("code", "message", "hint")}
    return {**told, "version": row.version or None, "error": error if row.code else None}
