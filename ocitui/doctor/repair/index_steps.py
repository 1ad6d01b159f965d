"""An index that the daemon would not load, or that lost entries: replaced whole, or given them back."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from ocitui.cache import Descriptor, DocumentError, ImageIndex, IndexReplacement, new_index
from ocitui.cache.files import INDEX_NAME, valid_digest
from ocitui.cache.listing import CacheFiles
from ocitui.cache.records import some_of
from ocitui.text import counted, short_digest

from ..check.cache_checks import inferred_formats, orphans
from ..check.descriptor_checks import DescriptorChecks
from ..check.entry_checks import check_digest
from ..findings import Finding, Severity, Way
from ..salvage.sources import JoinedEntries, Source
from .snapshot import Snapshot
from .steps import Fate, Left, Outcome, RepairStep, StepChange, StepFile, StepKind, WholeIndex

REPLACED = frozenset(
    {
        "index-missing",
        "index-unparsable",
        "index-not-utf8",
        "index-schema",
        "descriptor-invalid",
        "index-not-a-file",
    }
)
REFILLED = frozenset({"index-emptied", "index-shrunk"})
CODES = REPLACED | REFILLED
_LATER = "it is found only once index.json reads again"
_PLAN_AGAIN = "make a new plan then"


def is_about_index(finding: Finding) -> bool:
    """Whether the index as a whole is to be mended for it."""
    return finding.code in CODES or (finding.code, finding.file) == ("read-error", INDEX_NAME)


def plan_index(
    snapshot: Snapshot, findings: Sequence[Finding], joined: JoinedEntries | None, known: Sequence[Finding]
) -> Outcome:
    """The step for findings about index.json as a whole; ``known`` are all findings of the check."""
    outcome = Outcome()
    broken = tuple(finding for finding in findings if finding.code in REPLACED or finding.file == INDEX_NAME)
    broken = tuple(finding for finding in broken if finding.code not in REFILLED)
    refilled = tuple(finding for finding in findings if finding.code in REFILLED)
    if broken and joined is not None and snapshot.replaced:
        _replace(snapshot, broken, joined, known, outcome)
    elif broken:
        outcome.leave(broken, "the index has changed since it was checked", "check again")
    if refilled and joined is not None and not snapshot.replaced:
        _refill(snapshot, refilled, joined, known, outcome)
    return outcome


def _replace(
    snapshot: Snapshot, findings: tuple[Finding, ...], joined: JoinedEntries, known: Sequence[Finding], outcome: Outcome
) -> None:
    proposed, sources = joined.proposed
    data = _whole_data(snapshot, proposed)
    if snapshot.seen is None:
        outcome.leave(findings, "what cannot be read cannot be kept", f"mv {snapshot.directory / INDEX_NAME} elsewhere")
        return
    if isinstance(data, str):
        outcome.leave(findings, data, "give a good index.json")
        return
    there, index = snapshot.seen_at(INDEX_NAME), ImageIndex.parse(data)
    size = there.size if there is not None else 0
    file = StepFile(INDEX_NAME, Fate.PLACED, len(data)) if there is None else StepFile(INDEX_NAME, Fate.REPLACED, size)
    outcome.steps.append(
        RepairStep(
            StepKind.REPLACE_INDEX,
            f"Write index.json anew, with {counted(len(index), 'entry')}: {_origins(sources)}",
            findings,
            (file,),
            len(data),
            then=f"it loads {counted(len(index), 'entry')} at its next start",
            loses=_lost(joined),
            source=_origins(sources),
            leaves=leaves(snapshot, index, known),
            change=StepChange(
                replacement=IndexReplacement(snapshot.seen, data), whole=WholeIndex(index, (None,) * len(index))
            ),
        )
    )


def _whole_data(snapshot: Snapshot, proposed: Sequence[Descriptor]) -> bytes | str:
    """The new index's bytes, or why there can be none: that of a link which is sound is copied as it is."""
    if snapshot.index is not None and snapshot.data is not None and proposed == snapshot.descriptors:
        return snapshot.data
    try:
        return new_index(descriptor.raw for descriptor in proposed)
    except DocumentError as error:
        return f"no index can be made of what is left: {error.message}"


def _refill(
    snapshot: Snapshot, findings: tuple[Finding, ...], joined: JoinedEntries, known: Sequence[Finding], outcome: Outcome
) -> None:
    index = snapshot.index
    assert index is not None
    proposed, sources = joined.proposed
    added = [source for source in sources if source is not Source.INDEX]
    if not added:
        outcome.leave(findings, "neither a backup nor the files tell what it held", "import the images again")
        return
    position = itertools.count()
    origins = tuple(next(position) if source is Source.INDEX else None for source in sources)
    laid_out = (
        one.raw if source is Source.INDEX else index.laid_out(one.raw)
        for one, source in zip(proposed, sources, strict=True)
    )
    whole = ImageIndex.parse(new_index(laid_out))
    outcome.steps.append(
        RepairStep(
            StepKind.ADD_ENTRIES,
            f"Put {counted(len(added), 'entry')} back into index.json: {_origins(added)}",
            findings,
            (),
            then=f"it loads {counted(len(whole), 'entry')} at its next start",
            loses=_lost(joined),
            source=_origins(added),
            leaves=leaves(snapshot, whole, known),
            change=StepChange(whole=WholeIndex(whole, origins)),
        )
    )


def leaves(snapshot: Snapshot, index: ImageIndex, known: Sequence[Finding]) -> tuple[Left, ...]:
    """What a check would find in the cache with this index, besides what is known already."""
    said = {(finding.code, finding.digest, finding.file) for finding in known}
    found = _found_with(snapshot, index)
    return tuple(
        Left(finding, _LATER, _would(finding))
        for finding in found
        if finding.severity is not Severity.INFO and (finding.code, finding.digest, finding.file) not in said
    )


def _found_with(snapshot: Snapshot, index: ImageIndex) -> list[Finding]:
    """What there is to find once the index reads again: files that are all there were judged without it, or with the
    entries that it has now."""
    listing = snapshot.listing
    judged = None if snapshot.index is None else {one.key for one in snapshot.index.descriptors}
    findings = DescriptorChecks().check(index, inferred_formats(listing, index))
    groups: dict[str, list[tuple[int | None, Descriptor]]] = {}
    for position, (digest, format_) in enumerate(zip(index.digests, index.formats, strict=True)):
        whole = listing.has_documents(digest) and listing.has_packed(digest, format_)
        whole = whole and (judged is None or (digest, format_) in judged)
        if valid_digest(digest) and not whole:
            groups.setdefault(digest, []).append((position, index.descriptors[position]))
    with CacheFiles(snapshot.directory) as files:
        for digest, carriers in groups.items():
            findings += check_digest(files, listing, digest, carriers).findings
    return [*findings, *orphans(listing, zip(index.digests, index.formats, strict=True))]


def _would(finding: Finding) -> str:
    return Way.NAME if finding.code == "name-missing" else _PLAN_AGAIN


def _lost(joined: JoinedEntries) -> str:
    nameless = some_of(map(short_digest, joined.nameless))
    return f"the name of {nameless}, which nothing tells: give it with {Way.NAME}" if nameless else ""


def _origins(sources: Sequence[Source]) -> str:
    counts = Counter(sources)
    return ", ".join(f"{counts[source]} of the {source}" for source in Source if counts[source]) or "empty"
