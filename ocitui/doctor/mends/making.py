"""A plan put together: what was seen, the shelves to restore from, and each family's steps in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ocitui.cache import CacheError, PackerCache, TransactionState
from ocitui.cache.overwriting import Overwritten
from ocitui.cache.workspace import open_journal

from ..findings import Finding, Severity
from ..known_history import known_history
from ..ledger import Ledger
from ..loop_devices import users_of
from ..report import Report
from ..restore import Restorer, Shelf
from . import descriptors, files, indexes, listing
from .adopting import Adoption
from .device_copies import DeviceShelf, Users
from .files import FileMends, Holders
from .joining import Joined, join_sources
from .near_copies import SiblingShelf, TrashShelf
from .outcome import Outcome
from .redoing import plan_redo
from .remembered import remembered
from .scene import Scene, look_at
from .source_copies import RegistryShelf, shelf_for
from .steps import RepairOptions

SHORTEST_DIGEST = 12
_NONE = "there is no safe mend for it"


@dataclass(frozen=True, slots=True)
class Made:
    """The parts of a plan."""

    scene: Scene
    outcome: Outcome
    notes: tuple[str, ...]
    joined: Joined | None


def concerns(wanted: Collection[int | str], finding: Finding) -> bool:
    """Whether a finding has one of these codes, digests (also the beginning of one) or fingerprints."""
    if finding.code in wanted or finding.fingerprint in wanted:
        return True
    digest, short = finding.digest, finding.digest.partition(":")[2]
    return bool(digest) and any(
        len(one) >= SHORTEST_DIGEST and (digest.startswith(one) or short.startswith(one))
        for one in wanted
        if isinstance(one, str)
    )


async def make_plan(cache: PackerCache, report: Report, options: RepairOptions) -> Made:
    """Raises CacheDirectoryError."""
    scene = await asyncio.to_thread(look_at, cache.directory)
    findings = [finding for finding in report.findings if _is_wanted(finding, options)]
    if await asyncio.to_thread(_is_pending, scene.directory):
        return Made(scene, listing.finish_first(findings), (), None)
    notes: list[str] = []
    users = await asyncio.to_thread(users_of, scene.directory)
    restorer = Restorer(await asyncio.to_thread(_shelves, scene, options, users, notes), notes)
    ledger = await asyncio.to_thread(Ledger.open, scene.directory)
    holders = Holders({name: tuple(str(use.device) for use in uses) for name, uses in users.items()})
    mends = FileMends(scene, restorer, holders, partial(_content, ledger), options.drop)
    names = dict(options.names)
    about_index = [finding for finding in findings if indexes.is_about_index(finding)]
    orphans = {(one.digest, one.format) for one in findings if one.code == "orphan-entry"}
    known = await asyncio.to_thread(remembered, scene.directory, orphans)
    adoption = Adoption(scene, dict(options.adopt), known, options.adopt_known)
    joined: Joined | None = None
    try:
        outcome = Outcome()
        if about_index:
            history = await asyncio.to_thread(known_history, scene.directory, scene.index)
            joined = await asyncio.to_thread(join_sources, scene, history, names)
            outcome += await asyncio.to_thread(indexes.plan_index, scene, about_index, joined, report.findings)
        outcome += descriptors.plan_descriptors(scene, _of(findings, descriptors.CODES), names)
        outcome += await mends.plan([f for f in findings if f.code in files.CODES and f not in about_index])
        rest = _of(findings, listing.CODES)
        outcome += await asyncio.to_thread(listing.plan_orphans, scene, rest, adoption, trash=options.trash_orphans)
        outcome += listing.plan_rest(scene, rest, change_modes=options.change_modes)
        outcome += plan_redo(_of(findings, {"index-overwritten"}), await _overwritten(cache, scene))
    finally:
        await restorer.close()
    _leave_the_rest(findings, outcome)
    return Made(scene, outcome, tuple(restorer.notes), joined)


def _is_pending(directory: Path) -> bool:
    """Whether an interrupted transaction waits for a writer, which changes the cache before anything else is done."""
    with suppress(OSError), open_journal(directory) as journal:
        return journal is not None and bool(journal.list([TransactionState.PENDING]))
    return False


async def _overwritten(cache: PackerCache, scene: Scene) -> list[Overwritten]:
    try:
        return [] if scene.replaced else await cache.overwritten()
    except CacheError:
        return []


def _is_wanted(finding: Finding, options: RepairOptions) -> bool:
    if options.only:
        return concerns(options.only, finding)
    return not finding.acknowledged


def _of(findings: Iterable[Finding], codes: Collection[str]) -> list[Finding]:
    return [finding for finding in findings if finding.code in codes]


def _shelves(scene: Scene, options: RepairOptions, users: Users, notes: list[str]) -> list[Shelf]:
    shelves: list[Shelf] = [TrashShelf(scene.directory), DeviceShelf(users), SiblingShelf(scene)]
    for text in options.sources:
        try:
            shelves.append(shelf_for(text, options.access))
        except CacheError as error:
            notes.append(f"{text}: {error.message}")
    return [*shelves, RegistryShelf(options.access)] if options.registry else shelves


def _content(ledger: Ledger, name: str) -> str:
    """The digest that a packed file should have; empty where nobody recorded it."""
    record = ledger.look(name)
    return f"sha256:{record.sha256}" if record is not None else ""


def _leave_the_rest(findings: Iterable[Finding], outcome: Outcome) -> None:
    """What no step is about and no family has spoken of; what is only worth knowing is not said again."""
    covered = {finding for step in outcome.steps for finding in step.findings}
    covered |= {left.finding for left in outcome.left}
    for finding in findings:
        if finding not in covered and finding.severity is not Severity.INFO:
            outcome.leave([finding], _NONE, finding.mend)
