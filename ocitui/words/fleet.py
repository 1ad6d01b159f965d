"""The hosts of a fleet in words, for both front ends: a row of texts for each, and all that is known of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ocitui.directory import DEFAULT_DIRECTORY
from ocitui.text import Column, age_of, counted, human_size, timestamp

from .lines import Kind, Line, heading, with_text

if TYPE_CHECKING:
    from ocitui.remote import FleetRow

FLEET_COLUMNS = (
    Column("HOST", shrink=True),
    Column("VERDICT", shrink=True),
    Column("ENTRIES", right=True, rank=5),
    Column("DISK", right=True, rank=1),
    Column("TRASH", right=True, rank=4),
    Column("DAEMON", rank=3),
    Column("ZONES", rank=3),
    Column("OCITUI", rank=6),
    Column("SEEN", right=True, rank=2),
)
_SUMS = {"problems": "with problems", "unreached": "not reached", "clean": "without a problem"}
_KINDS: dict[str, Kind] = {"problems": "bad", "unreached": "warn", "clean": "good"}


def fleet_cells(row: FleetRow) -> list[str]:
    """What the columns say of a host; of one that was not reached only why."""
    if row.code:
        return [_name(row), _verdict(row), *[""] * 6, age_of(row.seen)]
    used = "-" if row.used is None else f"{row.used:.0%}"
    daemon = "runs" if row.daemon else "-"
    return [
        *(_name(row), _verdict(row), str(row.entries), used, human_size(row.trash), daemon, _zones(row)),
        *(row.version or "-", age_of(row.seen)),
    ]


def _name(row: FleetRow) -> str:
    """A host's cache as it is named to `ocitui fleet`: of one host there may be several."""
    return row.host if row.directory == str(DEFAULT_DIRECTORY) else f"{row.host}{row.directory}"


def _verdict(row: FleetRow) -> str:
    if row.code:
        return f"{row.code}: {row.message}"
    return ", ".join(f"{count} {severity}" for severity, count in row.problems.items()) or str(row.standing)


def _zones(row: FleetRow) -> str:
    return f"{row.failing} of {row.zones} fail" if row.failing else str(row.zones)


def fleet_sums(rows: Iterable[FleetRow]) -> Iterator[Line]:
    """How many hosts stand so, the worst first."""
    standings = [str(row.standing) for row in rows]
    for standing, said in _SUMS.items():
        if count := standings.count(standing):
            yield Line(f"{counted(count, 'host')} {said}", kind=_KINDS[standing])


def fleet_lines(row: FleetRow) -> Iterator[Line]:
    """All that is known of a host."""
    yield heading(row.host)
    yield Line(row.directory, "cache")
    yield from with_text(Line(_verdict(row), "verdict", _KINDS[row.standing]), Line(row.hint, "do", "muted"))
    if not row.code:
        free = "" if row.free is None else f", {human_size(row.free)} free"
        yield Line(f"{row.outcome}, {counted(row.entries, 'entry')}", "index")
        yield Line(f"{'not known' if row.used is None else f'{row.used:.0%} used'}{free}", "disk")
        yield Line(human_size(row.trash), "trash")
        yield Line("runs" if row.daemon else "is not seen", "daemon")
        yield Line(_zones(row), "zones", "bad" if row.failing else "plain")
        yield Line(row.version or "not installed there", "ocitui")
    yield Line(f"{age_of(row.seen)} ago, {timestamp(row.seen)}", "asked", "muted")
