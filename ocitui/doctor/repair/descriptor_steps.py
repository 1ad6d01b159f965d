"""Descriptors of a sound index: what they say is mended, or they leave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    ANNOTATION_REFERENCE,
    Descriptor,
    ImageName,
    InvalidNameError,
    PackedFormat,
)
from ocitui.cache.files import packed_name
from ocitui.text import short_digest

from ..findings import Finding, Way
from .snapshot import Snapshot, entry_of
from .steps import MEND_INDEX_FIRST, UNLOADED, Annotations, Outcome, RepairStep, StepChange, StepKind

CODES = frozenset({"digest-invalid", "format-unknown", "name-missing", "name-not-canonical", "entry-duplicate"})
_KEPT = "its bytes stay in the journal, and undo puts it back"


def plan_descriptors(snapshot: Snapshot, findings: Sequence[Finding], names: Mapping[str, str]) -> Outcome:
    """The steps for findings about single descriptors; ``names`` are what the operator gives, by digest."""
    outcome = Outcome()
    if snapshot.replaced:
        outcome.leave(findings, UNLOADED, MEND_INDEX_FIRST)
        return outcome
    for finding in findings:
        if finding.position is None or finding.position >= len(snapshot.descriptors):
            outcome.leave([finding], "the index has changed since it was checked", "check again")
        elif finding.code == "digest-invalid":
            outcome.steps.append(_take_out(finding, finding.position))
        elif finding.code == "format-unknown":
            _set_format(snapshot, finding, finding.position, outcome)
        elif finding.code != "entry-duplicate":
            _set_name(snapshot, finding, finding.position, names, outcome)
    outcome.steps += _settle_duplicates(finding for finding in findings if finding.code == "entry-duplicate")
    return outcome


def _take_out(finding: Finding, position: int) -> RepairStep:
    return RepairStep(
        StepKind.DROP_ENTRY,
        f"Take entry {position + 1} out of the index: its digest can be none",
        (finding,),
        then=f"a miss, as before; {_KEPT}",
        loses="",
        change=StepChange(remove=(position,)),
    )


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
    outcome.steps.append(
        RepairStep(
            StepKind.EDIT_DESCRIPTOR,
            f"Write the format {form} into {entry_of(descriptor.digest, '', descriptor.image_name or '')}",
            (finding,),
            then="a hit, if the entry's files are good",
            change=StepChange(annotate=((position, ((ANNOTATION_PACKED_FORMAT, form.value),)),)),
        )
    )


def _set_name(snapshot: Snapshot, finding: Finding, position: int, names: Mapping[str, str], outcome: Outcome) -> None:
    descriptor = snapshot.descriptors[position]
    given = names.get(descriptor.digest)
    wanted = given if given is not None else descriptor.image_name
    if wanted is None:
        outcome.leave([finding], "nothing tells its name", f"give it one: {Way.NAME}")
        return
    try:
        name = ImageName.parse(wanted)
    except InvalidNameError as error:
        outcome.leave([finding], error.message, f"give it another: {Way.NAME}")
        return
    winner = snapshot.index.by_name(str(name)) if snapshot.index is not None else None
    outcome.steps.append(
        RepairStep(
            StepKind.EDIT_DESCRIPTOR,
            f"Name {entry_of(descriptor.digest, descriptor.format or '')} {name}",
            (finding,),
            then=_then_named(str(name), winner, descriptor),
            loses="" if descriptor.image_name is None else f"the spelling {descriptor.image_name!r}",
            # Without a word from the operator it is only offered.
            default=given is not None,
            change=StepChange(annotate=((position, name_annotations(name)),)),
        )
    )


def name_annotations(name: ImageName) -> Annotations:
    """The annotations by which the daemon stores a name."""
    spelled = ((ANNOTATION_IMAGE_NAME, str(name)),)
    return spelled if name.reference is None else (*spelled, (ANNOTATION_REFERENCE, name.reference))


def _then_named(name: str, winner: Descriptor | None, descriptor: Descriptor) -> str:
    if winner is not None and winner.digest != descriptor.digest:
        return f"{name} is carried by {short_digest(winner.digest)} too: the last of them in the index wins"
    return f"{name} resolves to it"


def _settle_duplicates(findings: Iterable[Finding]) -> list[RepairStep]:
    def identity(finding: Finding) -> tuple[str, str, str]:
        return finding.digest, finding.format, finding.name

    steps = []
    for (digest, form, name), group in groupby(sorted(findings, key=identity), identity):
        same = tuple(group)
        positions = tuple(finding.position for finding in same if finding.position is not None)
        count = "an entry that repeats" if len(same) == 1 else f"{len(same)} entries that repeat"
        steps.append(
            RepairStep(
                StepKind.DROP_ENTRY,
                f"Take out {count} {entry_of(digest, form, name)}; the last one stays",
                same,
                then=f"the same answers as before; {_KEPT}",
                change=StepChange(remove=positions),
            )
        )
    return steps
