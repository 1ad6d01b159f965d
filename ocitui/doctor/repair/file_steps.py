"""Files of entries: a good copy is put in their place; else a bad one goes aside, or the entry goes, if asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ocitui.cache import Document, DocumentError, FileKind
from ocitui.cache.deleting import discardable
from ocitui.cache.disk import Folder
from ocitui.cache.files import config_name, known_format, manifest_name
from ocitui.cache.index import Key
from ocitui.cache.ledger import Ledger

from ..catalogue import CATALOGUE
from ..check.deep import program_of
from ..check.index_checks import Where
from ..findings import Finding, Way
from .copies import Copy, OtherFormats, Restorer, WantedFile, right_document
from .steps import HIT, MISS, REVERSIBLE, Fate, Left, Outcome, RepairStep, Snapshot, StepFile, StepKind, entry_of

T = TypeVar("T")
Found = tuple[WantedFile, tuple[Finding, ...], Copy | None]
Holders = Mapping[str, tuple[str, ...]]
"""The loop devices that hold packed files, by the file's name."""

_STRICTLY = frozenset({"packed-incomplete", "packed-changed"})


def _read(parse: Callable[[bytes], Document[T]], raw: bytes | None) -> T | None:
    """What a document says, where the daemon would read it."""
    try:
        return None if raw is None else parse(raw).value
    except DocumentError:
        return None


def drop_step(snapshot: Snapshot, keys: Collection[Key], findings: tuple[Finding, ...], holders: Holders) -> RepairStep:
    """The step that takes the entries of these keys, all of one digest, out of the index. Raises OSError."""
    assert snapshot.index is not None
    wanted = set(keys)
    positions = tuple(snapshot.index.positions_of(wanted))
    going = [snapshot.descriptors[at] for at in positions]
    left = snapshot.index.without(wanted)
    with Folder.open(snapshot.directory) as root:
        present, _ = discardable(root, left, wanted)
    files, change = snapshot.trashing(present)
    names = dict.fromkeys(descriptor.image_name for descriptor in going if descriptor.image_name)
    gone = [name for name in names if left.by_name(name) is None]
    formats = ", ".join(dict.fromkeys(descriptor.format or "no format" for descriptor in going))
    return RepairStep(
        StepKind.DROP_ENTRY,
        f"Drop {entry_of(going[0].digest, '', next(iter(names), ''))} in {formats}",
        findings,
        files,
        then=MISS,
        loses=f"the name {', '.join(gone)}; {REVERSIBLE}" if gone else "",
        used_by=tuple(dict.fromkeys(user for descriptor in going for user in holders.get(descriptor.packed_file, ()))),
        change=replace(change, remove=positions),
    )


_STAY = frozenset({"config-no-history", "packed-incomplete", "packed-changed"})
"""What is no worse for being left where it is, while nothing better is there."""


@dataclass(frozen=True, slots=True)
class FileMends:
    """Mends for the files of one digest after the other. ``ledger`` is the cache's; ``drop``: entries may go whose
    files are gone or bad."""

    snapshot: Snapshot
    restorer: Restorer
    holders: Holders
    ledger: Ledger
    drop: bool = False

    async def plan(self, findings: Sequence[Finding]) -> Outcome:
        """The steps for findings about files of entries, by digest in the order of the findings."""
        outcome = Outcome()
        by_digest: dict[str, list[Finding]] = {}
        for finding in findings:
            by_digest.setdefault(finding.digest, []).append(finding)
        for digest, found in by_digest.items():
            outcome += await self._plan_digest(digest, found)
        return outcome

    async def _plan_digest(self, digest: str, findings: Sequence[Finding]) -> Outcome:
        outcome, lost = Outcome(), list[tuple[WantedFile, tuple[Finding, ...]]]()
        async for wanted, concerned, copy in self._find(digest, findings):
            if copy is not None:
                outcome.steps.append(self._restore(wanted, concerned, copy))
            else:
                lost.append((wanted, concerned))
        bad = [(wanted, concerned) for wanted, concerned in lost if not _may_stay(concerned)]
        if bad and self.drop and not self.snapshot.replaced:
            return self._drop(digest, findings, [wanted for wanted, _ in bad], outcome)
        for wanted, concerned in lost:
            self._without_copy(wanted, concerned, outcome)
        return outcome

    async def _find(self, digest: str, findings: Sequence[Finding]) -> AsyncIterator[Found]:
        """Each file of a digest that is missing or bad, the findings about it, and the good copy of it, if there is
        one.

        The manifest comes first: it says which config is the right one.
        """
        about, carriers = self._by_file(digest, findings), tuple(self.snapshot.carrying(digest))
        wanted = WantedFile(manifest_name(digest), digest, FileKind.MANIFEST, content=digest, carriers=carriers)
        if wanted.name in about:
            copy = await self._copy_of(wanted)
            manifest = _read(Document.manifest, copy.data if copy is not None else None)
            yield wanted, about.pop(wanted.name), copy
        else:
            manifest = _read(Document.manifest, await self._right(wanted))
        wanted, raw = WantedFile(config_name(digest), digest, FileKind.CONFIG, carriers=carriers), None
        if manifest is not None:
            wanted = replace(wanted, content=manifest.config.digest, size=manifest.config.size)
        if wanted.name in about:
            copy = await self._copy_of(wanted) if wanted.content else None
            raw = copy.data if copy is not None else None
            yield wanted, about.pop(wanted.name), copy
        if about and not raw:
            raw = await self._right(wanted)
        config = _read(Document.config, raw) if about else None
        for name, concerned in about.items():
            record, format = self.ledger.sound.get(name), known_format(os.path.splitext(name)[1][1:])
            wanted = WantedFile(
                name,
                digest,
                FileKind.PACKED,
                format,
                f"sha256:{record.sha256}" if record is not None else "",
                strictly=any(finding.code in _STRICTLY for finding in concerned),
                program=program_of(config) if config is not None else "",
                carriers=carriers,
                others=OtherFormats(self.snapshot.directory, digest, format, self.ledger),
            )
            yield wanted, concerned, await self.restorer.find(wanted) if format else None

    def _by_file(self, digest: str, findings: Sequence[Finding]) -> dict[str, tuple[Finding, ...]]:
        about: dict[str, tuple[Finding, ...]] = {}
        for finding in findings:
            about[finding.file] = (*about.get(finding.file, ()), finding)
            if finding.code == "file-missing" and finding.kind is FileKind.PACKED:
                for name in (manifest_name(digest), config_name(digest)):
                    if name not in self.snapshot.listing:
                        # Where nothing is there at all, one finding stands for the three files.
                        about.setdefault(name, (finding,))
        return about

    async def _copy_of(self, wanted: WantedFile) -> Copy | None:
        """None too where the document has the right bytes already: no copy would be any better."""
        return await self.restorer.find(wanted) if await self._right(wanted) is None else None

    async def _right(self, wanted: WantedFile) -> bytes | None:
        return await asyncio.to_thread(right_document, self.snapshot.directory / wanted.name, wanted.content)

    def _restore(self, wanted: WantedFile, findings: tuple[Finding, ...], copy: Copy) -> RepairStep:
        there = self.snapshot.seen_at(wanted.name)
        return RepairStep(
            StepKind.RESTORE_FILE,
            f"Restore the {wanted.kind} file of {_entry(wanted, findings)} from {copy.where}",
            findings,
            (StepFile(wanted.name, Fate.REPLACED if there else Fate.PLACED, there.size if there else copy.size),),
            copy.size,
            then=HIT,
            source=copy.where,
            # What somebody may have written on purpose is replaced only when it is chosen.
            default=not any(finding.code == "packed-changed" for finding in findings),
            used_by=self.holders.get(wanted.name, ()),
            change=copy.change(wanted, there),
        )

    def _drop(self, digest: str, findings: Sequence[Finding], lost: Sequence[WantedFile], outcome: Outcome) -> Outcome:
        """The entries that lack a file go; what could be restored for those that stay is restored."""
        formats = {wanted.format for wanted in lost}
        keys = {
            descriptor.key
            for descriptor in self.snapshot.carrying(digest)
            if None in formats or known_format(descriptor.format) in formats
        }
        gone = tuple(f".{known}" for _, form in keys if (known := known_format(form)))
        staying = [d for d in self.snapshot.carrying(digest) if d.key not in keys]
        # Of the files that a step restores, a packed one goes with its entry.
        kept = [step for step in outcome.steps if staying and not step.files[0].name.endswith(gone)]
        covered = {finding for step in kept for finding in step.findings}
        concerned = tuple(finding for finding in findings if finding not in covered)
        if not keys:
            outcome.leave(concerned, "no descriptor names these files")
            return outcome
        return Outcome([*kept, drop_step(self.snapshot, keys, concerned, self.holders)])

    def _without_copy(self, wanted: WantedFile, findings: tuple[Finding, ...], outcome: Outcome) -> None:
        why, would = f"no good copy is in {self.restorer.labels}", _would(wanted)
        there = self.snapshot.seen_at(wanted.name)
        if there is None or _may_stay(findings):
            outcome.leave(findings, why, would)
            return
        files, change = self.snapshot.trashing([wanted.name])
        # What a check will find once the file went aside.
        seen, like = f"the {wanted.kind} file is not there", findings[0]
        entry = Where(digest=like.digest, format=like.format, name=like.name, position=like.position)
        missing = CATALOGUE["file-missing"].finding(seen, file=wanted.name, kind=wanted.kind, **entry)
        outcome.steps.append(
            RepairStep(
                StepKind.MOVE_ASIDE,
                f"Move the {wanted.kind} file of {_entry(wanted, findings)} aside",
                findings,
                files,
                then=MISS,
                used_by=self.holders.get(wanted.name, ()),
                leaves=(Left(missing, why, would),),
                change=change,
            )
        )


def _may_stay(findings: Sequence[Finding]) -> bool:
    return all(finding.code in _STAY for finding in findings)


def _entry(wanted: WantedFile, findings: Sequence[Finding]) -> str:
    name = next((finding.name for finding in findings if finding.name), "")
    return entry_of(wanted.digest, wanted.format or "", name)


def _would(wanted: WantedFile) -> str:
    """What the operator can still do."""
    name = next((descriptor.image_name for descriptor in wanted.carriers if descriptor.image_name), "")
    registry = f", or {Way.REGISTRY} for {name} by its digest" if name else ""
    again = f"; import {name} again" if name else ""
    what = "an image with the same digest" if wanted.kind is FileKind.PACKED else "the document with its digest"
    return (
        f"{Way.FROM} a layout, an archive or another cache that holds {what}{registry}{again}; or {Way.DROP} the entry"
    )
