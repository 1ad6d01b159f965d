"""Zones and what they need, in words for both front ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ocitui.text import age_of, counted, first_of, human_size, short_digest

from .lines import CommandLine, Line, first_lines

if TYPE_CHECKING:
    from ocitui.doctor import JudgedNeed
    from ocitui.host import Leftover, Zone, Zones

_WHEN = {
    "now": "as it is being created",
    "next-start": "when it is created anew",
    "pinned": "which a loop device holds until it stops",
    "none": "which nobody looks for, as it is",
}
_ANSWERS = {
    "hit": "found",
    "miss": "not found, and not pulled",
    "error": "an error",
    "damaged": "found, and not what was packed",
    "unknown": "nobody knows, as the index does not read",
}


def need_line(one: JudgedNeed) -> Line:
    """A need of a zone: of what, when, and what comes of it."""
    what = f"{one.name or 'no entry'}, {one.need.format} of {short_digest(one.need.digest)}"
    answer = one.need.error or _ANSWERS[one.verdict]
    answer += "; its name gives another image now" if one.overruled else ""
    return Line(f"{what}, {_WHEN[one.need.when]}: {answer}", one.need.role, "bad" if one.fails else "plain")


def zone_lines(zone: Zone, needs: Sequence[JudgedNeed]) -> Iterator[Line]:
    """All there is to know of one zone."""
    yield from map(need_line, needs)
    if not needs and not zone.problem:
        yield Line("nothing of the cache", "needs")
    if zone.error:
        yield Line(zone.error, "failed", "bad")
    if zone.problem:
        yield Line(f"{zone.problem}: kratad leaves the zone out", "row", "bad")
    if zone.domid is not None:
        yield Line(f"domain {zone.domid}", "runs as")
    yield Line(zone.uuid, "uuid", "muted")


def zones_lines(zones: Zones, needs: Sequence[JudgedNeed], left: Sequence[Leftover] = ()) -> Iterator[Line]:
    """What there is to know beside the single zones."""
    failed = [Line(f"{zone.label}: {zone.error}", "failed", "bad") for zone in zones.zones if zone.error]
    yield from first_lines(failed, len(failed), label="failed")
    if zones.rowless:
        named = first_of([domain.label for domain in zones.rowless])
        yield Line(f"domain {named}, which kratad destroys, as krata.db has no row of it", "no zone", "bad")
    stopped = [zone.label for zone in zones.zones if zone.state == "created" and zone.domid is None]
    if zones.domains is not None and stopped:
        yield Line(f"{first_of(stopped)}: created, without a domain, so that kratad makes it anew", "stopped", "warn")
    yield from (Line(f"{text}, and no guest has it", "leaked", "warn") for text in zones.leaks)
    for one in left:
        if one.removal:
            text = f"of a {one.kind} that is no more, {human_size(one.bytes)}, {age_of(one.since)} old"
            yield from (Line(text, "leftover", "warn"), CommandLine(one.removal))
    if zones.note and zones.note not in zones.doubt:
        yield Line(zones.note, "krata.db", "bad" if zones.trouble or zones.makes_anew else "muted")
    if zones.doubt:
        yield Line(f"others may need entries too: {zones.doubt}", "not sure", "bad")
    if failing := {(one.need.digest, one.need.format) for one in needs if one.fails}:
        text = f"{counted(len(failing), 'entry')} that zones need would not be found as packed"
        yield Line(text, "missing", "bad")
