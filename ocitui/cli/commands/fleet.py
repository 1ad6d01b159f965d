"""`ocitui fleet`: many hosts in one table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import json_option as as_json_option
from ..options import look_options, run_async, sudo_option, taking, why_no_screen
from ..output import Call, ExitCode, UsageProblemError, say, table

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
@click.option("--table", "as_table", is_flag=True, help="Print the table, on a terminal too.")
@sudo_option
@look_options
@taking(as_json_option)
def fleet_command(
    call: Call,
    /,
    hosts: Sequence[str],
    inventory: Path | None,
    watch: float | None,
    sudo: bool,
    as_table: bool,
    no_mouse: bool,
    **look: Any,
) -> int:
    """Look at the caches of many hosts over ssh, and tell how each is, the worst first.

    On a terminal that is a screen: enter opens a host's cache there. It is a table with --table, --watch, --json, or
    where there is no terminal.

    HOST is [ssh://][USER@]HOST[:PORT][/DIR], as ssh knows it; nothing is installed or changed there. A host that cannot
    be reached has a row that says why.

    Exits with 1 where a cache has problems, with 4 where a host was not reached.
    """
    from ocitui.remote import FleetStanding, SshPlace, read_inventory, survey

    named = [*map(SshPlace.parse, hosts), *(read_inventory(inventory) if inventory else ())]
    places = [*dict.fromkeys(named)]
    if not places:
        raise UsageProblemError("no host is named", hint="name hosts, or give --inventory FILE")
    if not (as_table or call.as_json or watch) and why_no_screen() is None:
        from ocitui.tui import ScreenOptions, run_screen

        return run_screen(ScreenOptions(call.directory, mouse=not no_mouse, hosts=places, sudo=sudo, **look))
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


def _lines(rows: Sequence[FleetRow]) -> Iterable[str]:
    from ocitui.words import FLEET_COLUMNS, fleet_cells, fleet_sums

    yield from table(FLEET_COLUMNS, map(fleet_cells, rows))
    yield ", ".join(line.text for line in fleet_sums(rows))


def row_json(row: FleetRow) -> dict[str, Any]:
    """A host as programs read it."""
    from msgspec.structs import asdict

    from ocitui.text import time_json

    told = {**asdict(row), "standing": str(row.standing), "seen": time_json(row.seen)}
    error = {name: told.pop(name) for name in ("code", "message", "hint")}
    return {**told, "version": row.version or None, "error": error if row.code else None}
