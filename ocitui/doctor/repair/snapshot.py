"""What a plan is made from: the index, the directory and what holds its files open, as they were at one moment."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ocitui.cache import Descriptor, Discard, ImageIndex, IndexSeen, PackedFormat, Seen, see_index
from ocitui.cache.files import INDEX_NAME
from ocitui.cache.index_file import look
from ocitui.cache.listing import Listing
from ocitui.text import short_digest

from ..check.judge import Judge
from ..findings import Finding
from ..report import Report
from .steps import Fate, StepChange, StepFile


@dataclass(frozen=True)
class Snapshot:
    """``index`` is None where the daemon would not load it; ``data`` are its bytes then, where it is a file at all.

    ``seen`` is None where index.json cannot be read. ``findings`` are those of the report that are still so, and
    ``gone`` the others. ``replaced``: index.json has to be replaced whole, so that no descriptor of it can be edited
    yet. ``mended``: the index is the one that there will be.
    """

    directory: Path
    judge: Judge
    listing: Listing
    index: ImageIndex | None
    data: bytes | None
    seen: IndexSeen | None
    findings: list[Finding]
    gone: list[Finding]
    mended: bool = False

    @property
    def replaced(self) -> bool:
        if self.mended:
            return False
        fact = self.listing.get(INDEX_NAME)
        return self.index is None or fact is None or not fact.regular

    def with_index(self, index: ImageIndex) -> Snapshot:
        """The same, as it will be once this is the index."""
        return replace(self, index=index, mended=True)

    @property
    def descriptors(self) -> Sequence[Descriptor]:
        """Each is made when it is asked for; none where the index does not read."""
        return () if self.index is None else self.index.descriptors

    def carrying(self, digest: str) -> Iterable[Descriptor]:
        """The descriptors of a digest, in order."""
        return () if self.index is None else self.index.descriptors.at(self.index.positions(digest))

    def seen_at(self, name: str) -> Seen | None:
        """What a name is, for a mend to be bound to."""
        fact = self.listing.get(name)
        if fact is None:
            return None
        return Seen(stat.S_IFMT(fact.mode), fact.size, fact.modified_ns, fact.inode)

    def trashing(self, names: Iterable[str]) -> tuple[tuple[StepFile, ...], StepChange]:
        """Those of these names that are there, as what a step moves to the trash."""
        found = ((name, self.seen_at(name)) for name in dict.fromkeys(names))
        discards = tuple(Discard(name, seen) for name, seen in found if seen is not None)
        return tuple(StepFile(one.name, Fate.TRASHED, one.seen.size) for one in discards), StepChange(discard=discards)


def take_snapshot(directory: Path, report: Report) -> Snapshot:
    """What the report's judge saw, as far as index.json is still the same; else the cache is looked at anew.

    Raises CacheDirectoryError.
    """
    judge = report.judge or Judge(directory)
    before = judge.listing
    if not judge.complete or look(directory) != judge.reading.signature:
        judge.read()
        for _ in judge.look():
            continue
        judge.look_at_cache()
    with judge.turn:
        # A copy, as a screen's judge goes on taking what changes, which these findings are not about.
        reading, listing, known = judge.reading, judge.listing.copy(), judge.findings()
    # The findings of the report that are still so, each with its place in the index as it is, and the others.
    places: dict[tuple[str, ...], list[int | None]] = {}
    for one in known:
        places.setdefault(_about(one), []).append(one.position)
    findings, gone = list[Finding](), list[Finding]()
    for one in report.findings:
        at = places.get(_about(one), [])
        if one.position in at:
            findings.append(one)
        elif at:
            findings.append(msgspec.structs.replace(one, position=at.pop(0)))
        elif one.fingerprint in report.deep_only and before.get(one.file) == listing.get(one.file):
            findings.append(one)
        else:
            gone.append(one)
    data = reading.data if reading.index is None else reading.index.to_bytes()
    found = listing.get(INDEX_NAME)
    try:
        in_place = found is not None and found.regular and data is not None
        seen = IndexSeen.of_bytes(data) if in_place and data is not None else see_index(directory)
    except OSError:
        seen = None
    return Snapshot(directory, judge, listing, reading.index, data, seen, findings, gone)


def _about(finding: Finding) -> tuple[str, ...]:
    return finding.code, finding.digest, finding.format, finding.name, finding.file


def entry_of(digest: str, format: str, name: str = "") -> str:
    """An entry in words."""
    form = f" as {format}" if format in tuple(PackedFormat) else ""
    return f"{name} ({short_digest(digest)}{form})" if name else f"{short_digest(digest)}{form}"
