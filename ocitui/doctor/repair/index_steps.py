"""An index that the daemon would not load, or that lost entries: replaced whole, or given them back. Descriptors of a
sound one, mended or taken out; edits that were undone, made again; and what several steps come to."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter

from msgspec.structs import replace

from ocitui.cache import (
    ANNOTATION_PACKED_FORMAT,
    INDEX_NAME,
    CacheError,
    CacheFiles,
    Descriptor,
    DocumentError,
    ImageIndex,
    ImageName,
    IndexEdit,
    IndexReplacement,
    IndexSeen,
    Insert,
    InvalidNameError,
    Overwritten,
    PackedFormat,
    Remove,
    TransactionKind,
    edit_again,
    find_overwritten,
    name_annotations,
    new_index,
    packed_name,
    some_of,
    valid_digest,
)
from ocitui.host import Users
from ocitui.text import counted, short_digest

from ..check.cache_checks import orphans
from ..check.entry_checks import DigestCheck
from ..check.index_checks import DescriptorChecks, inferred_formats, overwritten_finding
from ..findings import Answer, Finding, Severity, StepKind, Way, mended_by
from ..salvage.sources import IndexSource, JoinedEntries
from .file_steps import drop_step
from .steps import Fate, Left, Outcome, RepairStep, Snapshot, StepChange, StepFile, WholeIndex, entry_of

REFILLED = mended_by(StepKind.ADD_ENTRIES)
INDEX_CODES = mended_by(StepKind.REPLACE_INDEX) | REFILLED
_LATER = "it is found only once index.json reads again"


def is_about_index(finding: Finding) -> bool:
    """Whether the index as a whole is to be mended for it."""
    return finding.code in INDEX_CODES or (finding.code, finding.file) == ("read-error", INDEX_NAME)


def plan_index(
    snapshot: Snapshot, findings: Sequence[Finding], joined: JoinedEntries, known: Sequence[Finding]
) -> Outcome:
    """The step for findings about index.json as a whole; ``known`` are all findings of the check."""
    outcome, step = Outcome(), None
    broken = tuple(finding for finding in findings if finding.code not in REFILLED)
    refilled = tuple(finding for finding in findings if finding.code in REFILLED)
    if broken and snapshot.replaced:
        step = _replace(snapshot, broken, joined, outcome)
    elif broken:
        outcome.leave(broken, "the index has changed since it was checked", "check again")
    if refilled and not snapshot.replaced:
        step = _refill(snapshot, refilled, joined, outcome)
    if step is not None and step.change.whole is not None:
        index = step.change.whole.index
        then, later = f"it loads {counted(len(index), 'entry')} at its next start", leaves(snapshot, index, known)
        outcome.steps.append(replace(step, then=then, loses=_lost(joined), leaves=later))
    return outcome


def _replace(
    snapshot: Snapshot, findings: tuple[Finding, ...], joined: JoinedEntries, outcome: Outcome
) -> RepairStep | None:
    proposed, sources = joined.proposed
    if snapshot.seen is None:
        outcome.leave(findings, "what cannot be read cannot be kept", f"mv {snapshot.directory / INDEX_NAME} elsewhere")
        return None
    try:
        # That of a link which is sound is copied as it is.
        same = snapshot.index is not None and list(proposed) == list(snapshot.descriptors)
        index = snapshot.index if same and snapshot.index is not None else new_index(one.raw for one in proposed)
    except DocumentError as error:
        outcome.leave(findings, f"no index can be made of what is left: {error.message}", "give a good index.json")
        return None
    there, data = snapshot.seen_at(INDEX_NAME), index.data
    fate, size = (Fate.PLACED, len(data)) if there is None else (Fate.REPLACED, there.size)
    whole = WholeIndex(index, (None,) * len(index))
    return RepairStep(
        StepKind.REPLACE_INDEX,
        f"Write index.json anew, with {counted(len(index), 'entry')}: {_origins(sources)}",
        findings,
        (StepFile(INDEX_NAME, fate, size),),
        len(data),
        source=_origins(sources),
        change=StepChange(replacement=IndexReplacement(snapshot.seen, data), whole=whole),
    )


def _refill(
    snapshot: Snapshot, findings: tuple[Finding, ...], joined: JoinedEntries, outcome: Outcome
) -> RepairStep | None:
    index = snapshot.index
    assert index is not None
    proposed, sources = joined.proposed
    added = [source for source in sources if source is not IndexSource.INDEX]
    if not added:
        outcome.leave(findings, "neither a backup nor the files tell what it held", "import the images again")
        return None
    position = itertools.count()
    origins = tuple(next(position) if source is IndexSource.INDEX else None for source in sources)
    pairs = zip(proposed, sources, strict=True)
    raws = (one.raw if source is IndexSource.INDEX else index.laid_out(one.raw) for one, source in pairs)
    return RepairStep(
        StepKind.ADD_ENTRIES,
        f"Put {counted(len(added), 'entry')} back into index.json: {_origins(added)}",
        findings,
        source=_origins(added),
        change=StepChange(whole=WholeIndex(new_index(raws), origins)),
    )


def leaves(snapshot: Snapshot, index: ImageIndex, known: Sequence[Finding]) -> tuple[Left, ...]:
    """What a check would find in the cache with this index, besides what is known already: files that are all there
    were judged without it, or with the entries that it has now."""
    listing = snapshot.listing
    keys = [*zip(index.digests, index.formats, strict=True)]
    found = DescriptorChecks().check(index, inferred_formats(listing, index))
    looked_at = {*listing.incomplete(keys)}
    if snapshot.index is not None:
        judged = {*zip(snapshot.index.digests, snapshot.index.formats, strict=True)}
        looked_at.update(position for position, key in enumerate(keys) if key not in judged)
    groups: dict[str, list[tuple[int | None, Descriptor]]] = {}
    for position in sorted(looked_at):
        if valid_digest(digest := index.digests[position]):
            groups.setdefault(digest, []).append((position, index.descriptors[position]))
    with CacheFiles(snapshot.directory) as files:
        for digest, carriers in groups.items():
            found += DigestCheck(files, listing, digest, carriers).findings
    said = {(finding.code, finding.digest, finding.file) for finding in known}
    return tuple(
        Left(finding, _LATER, Way.NAME if finding.code == "name-missing" else "make a new plan then")
        for finding in (*found, *orphans(listing, keys))
        if finding.severity is not Severity.INFO and (finding.code, finding.digest, finding.file) not in said
    )


def _lost(joined: JoinedEntries) -> str:
    nameless = some_of(map(short_digest, joined.nameless))
    return f"the name of {nameless}, which nothing tells: give it with {Way.NAME}" if nameless else ""


def _origins(sources: Sequence[IndexSource]) -> str:
    counts = Counter(sources)
    return ", ".join(f"{counts[source]} of the {source}" for source in IndexSource if counts[source]) or "empty"


DESCRIPTOR_CODES = mended_by(StepKind.EDIT_DESCRIPTOR, StepKind.DROP_ENTRY)
_KEPT = "its bytes stay in the journal, and undo puts it back"


def plan_descriptors(
    snapshot: Snapshot, findings: Sequence[Finding], names: Mapping[str, str], *, even_if_gone: bool = False
) -> Outcome:
    """The steps for findings about single descriptors; ``names`` are by digest; ``even_if_gone``: hits may go too."""
    outcome = Outcome()
    if snapshot.replaced:
        outcome.leave_for_now(findings)
        return outcome
    count, name_it = len(snapshot.descriptors), f"give it one: {Way.NAME}"
    for finding in findings:
        if finding.position is None or finding.position >= count:
            outcome.leave([finding], "the index has changed since it was checked", "check again")
        elif finding.code == "digest-invalid" and finding.answer is Answer.HIT and not even_if_gone:
            why = "the daemon finds it, outside the cache, and it could not come back"
            outcome.leave([finding], why, f"import the image; or {Way.EVEN_IF_GONE}")
        elif finding.code == "digest-invalid":
            title = f"Take entry {finding.position + 1} out of the index: its digest can be none"
            then, change = f"a miss, as before; {_KEPT}", StepChange(remove=(finding.position,))
            outcome.steps.append(RepairStep(StepKind.DROP_ENTRY, title, (finding,), then=then, change=change))
        elif finding.code == "format-unknown":
            _set_format(snapshot, finding, finding.position, outcome)
        elif finding.code == "name-missing" and finding.digest not in names:
            # Not by its descriptor: there may be one for each of 100,000 files.
            outcome.leave([finding], "nothing tells its name", name_it)
        elif finding.code != "entry-duplicate":
            _set_name(snapshot, finding, finding.position, names, outcome)
    outcome.steps += _settle_duplicates(finding for finding in findings if finding.code == "entry-duplicate")
    return outcome


def _set_format(snapshot: Snapshot, finding: Finding, position: int, outcome: Outcome) -> None:
    descriptor = snapshot.descriptors[position]
    formats = [form for form in PackedFormat if packed_name(descriptor.digest, form) in snapshot.listing]
    if len(formats) != 1:
        why = "there is no packed file of it" if not formats else f"it has packed files as {', '.join(formats)}"
        outcome.leave([finding], why, "import the image again under its name, then drop this entry")
        return
    form = formats[0]
    same_digest = snapshot.carrying(descriptor.digest)
    if any((other.format, other.image_name) == (form, descriptor.image_name) for other in same_digest):
        outcome.leave([finding], f"another entry stands for it as {form} already", "delete this entry")
        return
    title = f"Write the format {form} into {entry_of(descriptor.digest, '', descriptor.image_name or '')}"
    then = "a hit, if the entry's files are good"
    change = StepChange(annotate={position: {ANNOTATION_PACKED_FORMAT: form.value}})
    outcome.steps.append(RepairStep(StepKind.EDIT_DESCRIPTOR, title, (finding,), then=then, change=change))


def _set_name(snapshot: Snapshot, finding: Finding, position: int, names: Mapping[str, str], outcome: Outcome) -> None:
    descriptor = snapshot.descriptors[position]
    given = names.get(descriptor.digest)
    try:
        name = ImageName.parse(given if given is not None else descriptor.image_name or "")
    except InvalidNameError as error:
        outcome.leave([finding], error.message, f"give it another: {Way.NAME}")
        return
    winner, then = snapshot.index.by_name(str(name)) if snapshot.index is not None else None, f"{name} resolves to it"
    if winner is not None and winner.digest != descriptor.digest:
        then = f"{name} is carried by {short_digest(winner.digest)} too: the last of them in the index wins"
    step = RepairStep(
        StepKind.EDIT_DESCRIPTOR,
        f"Name {entry_of(descriptor.digest, descriptor.format or '')} {name}",
        (finding,),
        then=then,
        loses="" if descriptor.image_name is None else f"the spelling {descriptor.image_name!r}",
        # Without a word from the operator it is only offered.
        default=given is not None,
        change=StepChange(annotate={position: name_annotations(name)}),
    )
    outcome.steps.append(step)


def _settle_duplicates(findings: Iterable[Finding]) -> list[RepairStep]:
    steps, identity = list[RepairStep](), attrgetter("digest", "format", "name")
    for (digest, form, name), group in itertools.groupby(sorted(findings, key=identity), identity):
        same = tuple(group)
        positions = tuple(finding.position for finding in same if finding.position is not None)
        count = "an entry that repeats" if len(same) == 1 else f"{len(same)} entries that repeat"
        title = f"Take out {count} {entry_of(digest, form, name)}; the last one stays"
        then, change = f"the same answers as before; {_KEPT}", StepChange(remove=positions)
        steps.append(RepairStep(StepKind.DROP_ENTRY, title, same, then=then, change=change))
    return steps


_DONE_AGAIN = (
    "it reads this at its next start; while it runs, its next store undoes it once more: restart it once this is done"
)


def plan_redo(snapshot: Snapshot, findings: Sequence[Finding], users: Users) -> Outcome:
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
            outcome.steps.append(_redo(snapshot, snapshot.index, finding, lost, users))
        except CacheError as error:
            outcome.leave([finding], error.message, error.hint)
    return outcome


def _redo(snapshot: Snapshot, index: ImageIndex, finding: Finding, lost: Overwritten, users: Users) -> RepairStep:
    """Raises ConflictError where the files of an entry that is to come back are gone."""
    transaction = lost.transaction
    title = f"Make the {transaction.kind} of transaction {transaction.id} once more: {_what(lost)}"
    if transaction.kind == TransactionKind.DELETE:
        step = drop_step(snapshot, {one.key for one in lost.returned}, (finding,), users)
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


def annotated(index: ImageIndex, position: int, annotations: Mapping[str, str]) -> bytes:
    """The descriptor at a position with these annotations, laid out as the index is."""
    return index.laid_out(index.descriptors[position].with_annotations(dict(annotations)).raw)


def index_change(
    index: ImageIndex | None, seen: IndexSeen | None, changes: Sequence[StepChange]
) -> IndexEdit | IndexReplacement | None:
    """What these steps come to, bound to the index as it was ``seen``; None where none edits it."""
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
