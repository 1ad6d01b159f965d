"""A plan put together: what was seen, the places that copies come from, and each family's steps in their order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ocitui.cache import (
    CacheError,
    Change,
    ConflictError,
    Descriptor,
    Identity,
    ImageIndex,
    IndexEdit,
    IndexReplacement,
    IndexSeen,
    Insert,
    Ledger,
    Overwritten,
    PackerCache,
    Place,
    Remove,
    TransactionKind,
    TransactionState,
    edit_again,
    find_overwritten,
    list_backups,
    new_index,
    open_journal,
    see,
)
from ocitui.host import find_users, users_of
from ocitui.importing import SourceOptions
from ocitui.threads import on_loop

from ..assessment import Assessment
from ..check.cache_checks import index_in, known_history
from ..check.index_checks import overwritten_finding
from ..findings import FILE_FAULTS, Depth, Finding, Severity, StepKind, Way, mended_by
from ..report import Report
from ..salvage.sources import JoinedEntries, join_sources
from . import file_steps, index_steps
from .copies import Restorer, places
from .file_steps import Adoption, FileMends, Holders, Known, once_emptied
from .steps import (
    Fetch,
    Left,
    Outcome,
    ProgressCall,
    RepairOptions,
    RepairStep,
    Snapshot,
    StepChange,
    WholeIndex,
    entry_of,
    take_snapshot,
)


def remembered(directory: Path, wanted: set[tuple[str, str]]) -> Known:
    """The newest descriptor that is known of each of these digests and formats; what cannot be read tells nothing."""
    found: dict[tuple[str, str], Descriptor] = {}
    for descriptor in _all(directory) if wanted else ():
        if (key := (descriptor.digest, descriptor.format or "")) in wanted and descriptor.image_name:
            found.setdefault(key, descriptor)
            if len(found) == len(wanted):
                break
    return found


def _all(directory: Path) -> Iterator[Descriptor]:
    """Those of the backups, the newest first, then what transactions took out."""
    with suppress(CacheError):
        for backup in list_backups(directory):
            if index := index_in(directory, backup):
                yield from reversed(index.descriptors)
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        for transaction in journal.transactions():
            with suppress(CacheError):
                yield from [one.descriptor for one in transaction.removed]


_DONE_AGAIN = (
    "it reads this at its next start; while it runs, its next store undoes it once more: restart it once this is done"
)


def plan_redo(snapshot: Snapshot, findings: Sequence[Finding], holders: Holders) -> Outcome:
    """A step for each edit of ours that a finding says was undone: what the operator did last is done again."""
    outcome, known = Outcome(), dict[str, Overwritten]()
    if findings and snapshot.index is not None:
        with suppress(CacheError):
            overwritten = find_overwritten(snapshot.directory, snapshot.index)
            known = {overwritten_finding(one).fingerprint: one for one in overwritten}
    for finding in findings:
        lost = known.get(finding.fingerprint)
        if lost is None or snapshot.index is None:
            outcome.leave([finding], "the edit stands by now, or its record is gone", "check again")
            continue
        try:
            outcome.steps.append(_redo(snapshot, snapshot.index, finding, lost, holders))
        except CacheError as error:
            outcome.leave([finding], error.message, error.hint)
    return outcome


def _redo(snapshot: Snapshot, index: ImageIndex, finding: Finding, lost: Overwritten, holders: Holders) -> RepairStep:
    """Raises ConflictError where the files of an entry that is to come back are gone."""
    transaction = lost.transaction
    title = f"Make the {transaction.kind} of transaction {transaction.id} once more: {_what(lost)}"
    if transaction.kind == TransactionKind.DELETE:
        step = file_steps.drop_step(snapshot, {one.key for one in lost.returned}, (finding,), holders)
        return replace(step, kind=StepKind.REDO, title=title, then=_DONE_AGAIN, loses="")
    edit = edit_again(snapshot.directory, index, lost)
    change = StepChange(remove=tuple(one.position for one in edit.remove), insert=edit.insert)
    return RepairStep(StepKind.REDO, title, (finding,), then=_DONE_AGAIN, change=change)


def _what(lost: Overwritten) -> str:
    said = []
    for descriptors, word in ((lost.returned, "out"), (lost.missing, "in"), (lost.moved_back, "moved")):
        if descriptors:
            first, more = descriptors[0], len(descriptors) - 1
            entry = entry_of(first.digest, first.format or "", first.image_name or "")
            said.append(f"{entry}{f' and {more} more' if more else ''} {word}")
    return "; ".join(said)


SHORTEST_DIGEST = 12


def concerns(wanted: Collection[int | str], finding: Finding) -> bool:
    """Whether a finding has one of these codes, digests (also the beginning of one) or fingerprints."""
    if finding.code in wanted or finding.fingerprint in wanted:
        return True
    beginnings = tuple(one for one in wanted if isinstance(one, str) and len(one) >= SHORTEST_DIGEST)
    return finding.digest.startswith(beginnings) or finding.digest.partition(":")[2].startswith(beginnings)


async def _planned(
    snapshot: Snapshot, report: Report, options: RepairOptions, progress: ProgressCall | None, notes: list[str]
) -> tuple[Outcome, JoinedEntries]:
    """The steps, and the sources of an index that is given entries back. Raises CacheDirectoryError, SourceError."""
    findings = [finding for finding in snapshot.findings if _is_wanted(finding, options)]
    if await asyncio.to_thread(_is_pending, snapshot.directory):
        return file_steps.finish_first(findings), JoinedEntries()
    users = await asyncio.to_thread(users_of, snapshot.directory)
    restorer = Restorer(await asyncio.to_thread(places, snapshot, options, users), notes, on_loop(progress))
    ledger = await asyncio.to_thread(Ledger.open, snapshot.directory)
    needing = await asyncio.to_thread(find_users, snapshot.directory, loops=users)
    notes += [f"not sure who needs what: {needing.doubt}"] if needing.doubt else []
    holders = needing.by_file
    names = dict(options.names)
    about_index = [finding for finding in findings if index_steps.is_about_index(finding)]
    joined, outcome = JoinedEntries(), Outcome()
    no_more = (one for one in snapshot.gone if one.severity is not Severity.INFO and _is_wanted(one, options))
    outcome.leave(no_more, "it is no longer so", "check again")
    if about_index:
        history = snapshot.judge.history
        if history is None:
            history = await asyncio.to_thread(known_history, snapshot.directory, snapshot.index)
        joined = await asyncio.to_thread(join_sources, snapshot, history, names)
        outcome += await asyncio.to_thread(index_steps.plan_index, snapshot, about_index, joined, report.findings)
    # What is to be mended of entries is planned on the index as it will be, so that it is one transaction.
    later, found_later = _on_whole_index(snapshot, outcome, options)
    findings += found_later
    mends = FileMends(later, restorer, holders, ledger, options)
    orphans = {(one.digest, one.format) for one in findings if one.code == "orphan-entry"}
    known = await asyncio.to_thread(remembered, snapshot.directory, orphans)
    adoption = Adoption(later, dict(options.adopt), known, options.adopt_known)
    descriptors = _of(findings, index_steps.DESCRIPTOR_CODES)
    outcome += index_steps.plan_descriptors(later, descriptors, names, even_if_gone=options.even_if_gone)
    outcome += await mends.plan([one for one in _of(findings, FILE_FAULTS) if not index_steps.is_about_index(one)])
    rest = _of(findings, file_steps.LISTING_CODES)
    outcome += await asyncio.to_thread(file_steps.plan_orphans, later, rest, adoption, trash=options.trash_orphans)
    outcome += file_steps.plan_rest(later, rest, change_modes=options.change_modes)
    outcome += await asyncio.to_thread(plan_redo, later, _of(findings, mended_by(StepKind.REDO)), holders)
    if later is not snapshot:
        edits = ((step, step.change) for step in outcome.steps)
        outcome.steps = [replace(step, after=edit.edits_index and edit.whole is None) for step, edit in edits]
    _leave_the_rest(findings, outcome)
    return outcome, joined


def _is_pending(directory: Path) -> bool:
    """Whether an interrupted transaction waits for a writer, which changes the cache before anything else is done."""
    with suppress(OSError, CacheError), open_journal(directory) as journal:
        return bool(journal.transactions([TransactionState.PENDING]))
    return False


def _on_whole_index(snapshot: Snapshot, outcome: Outcome, options: RepairOptions) -> tuple[Snapshot, list[Finding]]:
    """The cache as it will be once entries have come back, and what there is to mend of it then."""
    for at, step in enumerate(outcome.steps):
        if step.change.whole is not None:
            found = [left.finding for left in step.leaves if _is_wanted(left.finding, options)]
            leaves = tuple(left for left in step.leaves if not _is_wanted(left.finding, options))
            outcome.steps[at] = replace(step, leaves=leaves)
            return replace(snapshot, index=step.change.whole.index, replaced=False), found
    return snapshot, []


def _is_wanted(finding: Finding, options: RepairOptions) -> bool:
    if options.only:
        return concerns(options.only, finding)
    return not finding.acknowledged


def _of(findings: Iterable[Finding], codes: Collection[str]) -> list[Finding]:
    return [finding for finding in findings if finding.code in codes]


def _leave_the_rest(findings: Iterable[Finding], outcome: Outcome) -> None:
    """What no step is about and no family has spoken of; what is only worth knowing is not said again."""
    covered = {finding for step in outcome.steps for finding in step.findings}
    covered |= outcome.left.keys()
    for finding in findings:
        if finding not in covered and finding.severity is not Severity.INFO:
            outcome.leave([finding], "there is no safe mend for it", finding.fault.mend)


def annotated(index: ImageIndex, position: int, annotations: Mapping[str, str]) -> bytes:
    """The descriptor at a position with these annotations, laid out as the index is."""
    return index.laid_out(index.descriptors[position].with_annotations(dict(annotations)).raw)


def _index_change(
    index: ImageIndex | None, seen: IndexSeen | None, changes: Sequence[StepChange]
) -> IndexEdit | IndexReplacement | None:
    bringing = next((change for change in changes if change.whole is not None), None)
    changes = [change for change in changes if change.whole is None and change.edits_index]
    if bringing is not None and bringing.whole is not None:
        rows, replacement = _edited(bringing.whole, changes), bringing.replacement
        if replacement is None:
            assert index is not None
            return _difference(index, seen, rows)
        return IndexReplacement(replacement.seen, new_index(raw for raw, _ in rows).data) if changes else replacement
    if index is None or not changes:
        return None
    removed = {position for change in changes for position in change.remove}
    edited = _annotations(changes, removed)
    inserts = [Insert(annotated(index, at, new), at) for at, new in sorted(edited.items())]
    inserts += [insert for change in changes for insert in change.insert]
    gone = [Remove(position, index.descriptors[position].raw) for position in sorted(removed | set(edited))]
    # Positions mean something in the index that was seen only; what is put at the end fits any.
    bound = any(insert.position is not None for change in changes for insert in change.insert)
    return IndexEdit(tuple(gone), tuple(inserts), seen if bound else None)


def _edited(whole: WholeIndex, changes: Sequence[StepChange]) -> list[tuple[bytes, int | None]]:
    """The descriptors of a whole index as steps edit it, each with its position in today's (None: it comes in)."""
    index, removed = whole.index, {position for change in changes for position in change.remove}
    edited = _annotations(changes, removed)
    coming: dict[int, list[bytes]] = {}
    for insert in (insert for change in changes for insert in change.insert):
        coming.setdefault(len(index) if insert.position is None else insert.position, []).append(insert.raw)
    rows: list[tuple[bytes, int | None]] = []
    for at, descriptor in enumerate(index.descriptors):
        rows += [(raw, None) for raw in coming.pop(at, [])]
        if at in edited:
            rows.append((annotated(index, at, edited[at]), None))
        elif at not in removed:
            rows.append((descriptor.raw, whole.origins[at]))
    return rows + [(raw, None) for _, some in sorted(coming.items()) for raw in some]


def _difference(index: ImageIndex, seen: IndexSeen | None, rows: Sequence[tuple[bytes, int | None]]) -> IndexEdit:
    """The edit that makes these descriptors of an index."""
    kept = {origin for _, origin in rows if origin is not None}
    gone = [Remove(at, one.raw) for at, one in enumerate(index.descriptors) if at not in kept]
    inserts: list[Insert] = []
    following: int | None = None
    for raw, origin in reversed(rows):
        if origin is None:
            inserts.append(Insert(raw, following))
        else:
            following = origin
    return IndexEdit(tuple(gone), tuple(reversed(inserts)), seen)


def _annotations(changes: Iterable[StepChange], removed: set[int]) -> dict[int, dict[str, str]]:
    edited: dict[int, dict[str, str]] = {}
    for change in changes:
        for position, changed in change.annotate.items():
            if position not in removed:
                edited.setdefault(position, {}).update(changed)
    return edited


class RepairPlan(msgspec.Struct, frozen=True):
    """``steps`` are all that can be done, ``chosen`` the numbers of those that will be; none mends ``unmended``.
    ``notes`` say where could not be looked for copies, and why. ``seen`` is the index that the plan is bound to, None
    where it cannot be read, and ``depth`` how far the check looked that it was made of. ``joined`` are the four
    sources of an index that is to be given entries back, side by side."""

    steps: tuple[RepairStep, ...]
    unmended: tuple[Left, ...]
    seen: IndexSeen | None
    chosen: frozenset[int]
    notes: tuple[str, ...] = ()
    depth: Depth = Depth.QUICK
    joined: JoinedEntries = msgspec.field(default_factory=JoinedEntries)
    index: ImageIndex | None = None
    access: SourceOptions = msgspec.field(default_factory=SourceOptions)

    @property
    def whole(self) -> WholeIndex | None:
        """The index once entries have come back; None where that is not chosen."""
        chosen = (step.change.whole for step in self.steps if step.number in self.chosen)
        return next((whole for whole in chosen if whole is not None), None)

    @property
    def made(self) -> tuple[RepairStep, ...]:
        """The steps that will be made."""
        brought = self.whole is not None
        return tuple(step for step in self.steps if step.number in self.chosen and (brought or not step.after))

    @property
    def left(self) -> tuple[Left, ...]:
        """All findings that will be there afterwards, also those of steps that are not made."""
        made = {step.number for step in self.made}
        passed = [step for step in self.steps if step.number not in made]
        return (
            *(left for step in self.made for left in step.leaves),
            *(once_emptied(self.unmended) if self._empties_index else self.unmended),
            *(_passed_over(step, finding) for step in passed for finding in step.findings),
        )

    @property
    def _empties_index(self) -> bool:
        """Whether every entry goes, and none comes."""
        changes = [step.change for step in self.made]
        gone = {position for change in changes for position in change.remove}
        if not gone or self.index is None or any(change.insert or change.whole for change in changes):
            return False
        return len(gone) == len(self.index)

    @property
    def given_up(self) -> list[Identity]:
        """The entries that could come back, and are dropped in the same plan."""
        whole = self.whole
        if whole is None:
            return []
        gone = {at for step in self.made for at in step.change.remove}
        identities = list(whole.index.identities())
        kept = {one for at, one in enumerate(identities) if at not in gone}
        return [one for at in sorted(gone) if whole.origins[at] is None and (one := identities[at]) not in kept]

    @property
    def bytes_trashed(self) -> int:
        return sum(step.bytes_trashed for step in self.made)

    @property
    def bytes_placed(self) -> int:
        return sum(step.bytes_placed for step in self.made)

    @property
    def used_by(self) -> tuple[str, ...]:
        """The loop devices that hold files of entries which are dropped: who does that is asked twice."""
        dropped = (step for step in self.made if step.kind in (StepKind.DROP_ENTRY, StepKind.REDO))
        return tuple(dict.fromkeys(user for step in dropped for user in step.used_by))

    @property
    def fetches(self) -> tuple[Fetch, ...]:
        """What has to be brought into the staging folder first."""
        return tuple(fetch for step in self.made for fetch in step.change.fetch)

    @property
    def futile(self) -> tuple[RepairStep, ...]:
        """The steps that are left out as the daemon would overwrite what they do."""
        return tuple(step for step in self.steps if step.futile and step.number not in self.chosen)

    def narrowed(self, wanted: Collection[int | str]) -> RepairPlan:
        """The same plan with only these steps made: by number, or by a code, a digest or a fingerprint of findings, and
        then none that would be futile and was not chosen."""
        chosen = {step.number for step in self.steps if step.number in wanted}
        lasting = (step for step in self.steps if not step.futile or step.number in self.chosen)
        chosen |= {one.number for one in lasting if any(concerns(wanted, finding) for finding in one.findings)}
        return replace(self, chosen=frozenset(chosen))

    def composed(self, staged: Mapping[str, Path] | None = None) -> Change:
        """The chosen steps as one change of the cache; ``staged`` are the files that were fetched, by their name.
        Raises ConflictError where two steps want the same file, or one was not fetched."""
        changes, paths = [step.change for step in self.made], staged or {}
        fetches = dict.fromkeys(self.fetches)
        if missing := next((fetch.name for fetch in fetches if fetch.name not in paths), ""):
            raise ConflictError(f"{missing} was not fetched")
        fetched = (Place(one.name, one.seen, path=paths[one.name], source=see(paths[one.name])) for one in fetches)
        places = [*dict.fromkeys(place for change in changes for place in change.place), *fetched]
        discarded = dict.fromkeys(item for change in changes for item in change.discard)
        names = Counter([*(place.name for place in places), *(item.name for item in discarded)])
        if twice := next((name for name, count in names.items() if count > 1), ""):
            raise ConflictError(f"two steps want {twice}", hint="choose one of them")
        # The mode of what goes anyway stays, so that it comes back with it.
        modes = dict.fromkeys(mode for change in changes for mode in change.modes if mode.name not in names)
        return Change(_index_change(self.index, self.seen, changes), tuple(discarded), tuple(places), tuple(modes))


def _passed_over(step: RepairStep, finding: Finding) -> Left:
    if step.futile:
        return Left(finding, step.futile, f"then repair again; or {Way.EVEN_IF_FUTILE}: {step.title}")
    why = "it is mended with the step that brings entries back only" if step.after else "its step is not chosen"
    return Left(finding, why, step.title)


async def plan_repair(
    cache: PackerCache,
    report: Report,
    options: RepairOptions | None = None,
    assessment: Assessment | None = None,
    progress: ProgressCall | None = None,
) -> RepairPlan:
    """What would mend these findings; nothing is written. Edits of the index that by the ``assessment`` would not last
    are no defaults. ``progress`` is told of the copies that are read, on the event loop. Raises CacheDirectoryError
    where the directory is gone, SourceError for a source that is none."""
    options = options or RepairOptions()
    snapshot = await asyncio.to_thread(take_snapshot, cache.directory, report)
    notes: list[str] = []
    outcome, joined = await _planned(snapshot, report, options, progress, notes)
    futile = assessment.futile if assessment is not None else ""
    steps = tuple(
        replace(
            step,
            number=number,
            futile=futile if step.change.edits_index else "",
            default=step.default and (options.even_if_futile or not futile or not step.change.edits_index),
        )
        for number, step in enumerate(outcome.steps, 1)
    )
    return RepairPlan(
        steps,
        tuple(outcome.left.values()),
        snapshot.seen,
        frozenset(step.number for step in steps if step.default),
        tuple(notes),
        report.depth,
        joined,
        None if snapshot.replaced else snapshot.index,
        options.access,
    )
