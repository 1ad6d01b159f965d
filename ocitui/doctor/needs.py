"""What the daemon would find of each entry that the zones of a host need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import msgspec

from ocitui.cache import (
    INDEX_NAME,
    MOST_INDEX_BYTES,
    CacheError,
    CacheFiles,
    Descriptor,
    PackedFormat,
    Transaction,
    read_regular,
    read_trashed,
    usable_digest,
)
from ocitui.host import Need, When, Zone, Zones

from .check.index_checks import read_index
from .check.judge import Judge
from .findings import Answer, Severity, is_of_entry
from .salvage.salvage import salvage_entries


class NeedVerdict(StrEnum):
    """What recalling an entry comes to. DAMAGED: a hit of which the guest has not what it was packed from. UNKNOWN:
    the index does not tell."""

    HIT = "hit"
    MISS = "miss"
    ERROR = "error"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"


class JudgedNeed(msgspec.Struct, frozen=True):
    """A zone's need with its verdict, and a name of the image, empty where the index has none; ``overruled`` is whether
    that name gives another image now."""

    zone: Zone
    need: Need
    verdict: NeedVerdict
    name: str = ""
    overruled: bool = False

    @property
    def fails(self) -> bool:
        """Whether the daemon looks for it, and does not get it as it should be."""
        return self.need.when is not When.NONE and self.verdict not in (NeedVerdict.HIT, NeedVerdict.UNKNOWN)

    @property
    def is_open(self) -> bool:
        """Whether the daemon looks for it, and nobody can tell what it finds."""
        return self.need.when is not When.NONE and self.verdict is NeedVerdict.UNKNOWN


def judged_needs(directory: Path, zones: Zones) -> list[JudgedNeed]:
    """Every need of every zone. Raises CacheDirectoryError."""
    judge = Judge(directory)
    with CacheFiles(directory) as files:
        reading = read_index(files)
    needed = dict.fromkeys(need.digest for zone in zones.zones for need in zone.needs if usable_digest(need.digest))
    judge.look_at(reading, needed)
    return [*_judged(judge, zones)]


def indexes_of_undo(directory: Path, target: Transaction) -> tuple[Sequence[Descriptor], Sequence[Descriptor]]:
    """The entries of index.json as an undo would bring it back and as it is, where it is replaced whole: as many as can
    be read."""
    if target.swap is None:
        return (), ()
    old = target.swap.old
    before = _entries(lambda: read_trashed(directory, old.trash, MOST_INDEX_BYTES)) if old else ()
    return before, _entries(lambda: read_regular(directory / INDEX_NAME, MOST_INDEX_BYTES))


def _entries(read: Callable[[], bytes]) -> Sequence[Descriptor]:
    with suppress(CacheError):
        return salvage_entries(read()).descriptors
    return ()


def files_of_undo(target: Transaction, old: Sequence[Descriptor], now: Sequence[Descriptor]) -> list[str]:
    """The packed files that a transaction brought, and its undo takes away or puts others in the place of; with the
    entries that `indexes_of_undo` gives."""
    stays = {one.identity for one in (*old, *(one.descriptor for one in target.removed))}
    going = (one for one in (*now, *(one.descriptor for one in target.added)) if one.identity not in stays)
    return [*(one.packed_file for one in going), *(one.name for one in target.placed)]


def _judged(judge: Judge, zones: Zones) -> Iterator[JudgedNeed]:
    known: dict[tuple[str, PackedFormat], tuple[NeedVerdict, str]] = {}
    winners = judge.reading.index.winners if judge.reading.index is not None else {}
    for zone in zones.zones:
        for need in zone.needs:
            key = need.digest, need.format
            if key not in known:
                known[key] = _verdict(judge, *key)
            verdict, name = known[key]
            overruled = bool(name) and winners.get(name) != need.digest
            yield JudgedNeed(zone, need, NeedVerdict.ERROR if need.error else verdict, name, overruled)


def _verdict(judge: Judge, digest: str, format: PackedFormat) -> tuple[NeedVerdict, str]:
    """Of an entry, as the daemon recalls it: the first of that digest and format."""
    if (index := judge.reading.index) is None:
        return NeedVerdict.UNKNOWN, ""
    if (at := index.position(digest, format)) is None:
        return NeedVerdict.MISS, ""
    name, of_files = index.names[at] or "", [one for one in judge.findings_at(at) if is_of_entry(one)]
    answers = {one.answer for one in of_files}
    if answers & {Answer.ERROR, Answer.HANGS}:
        return NeedVerdict.ERROR, name
    if Answer.MISS in answers:
        return NeedVerdict.MISS, name
    if any(one.severity.rank >= Severity.HIGH.rank for one in of_files):
        return NeedVerdict.DAMAGED, name
    return NeedVerdict.UNKNOWN if judge.state_at(at).depth is None else NeedVerdict.HIT, name
