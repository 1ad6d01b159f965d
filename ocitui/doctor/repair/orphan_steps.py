"""Files that no descriptor names, what interrupted writers left, and modes."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocitui.cache import ANNOTATION_PACKED_FORMAT, CacheError, ChangeMode, Descriptor, Document, ImageName, Insert
from ocitui.cache.deleting import discardable
from ocitui.cache.disk import Folder
from ocitui.cache.files import INDEX_NAME, config_name, known_format, manifest_name, packed_name
from ocitui.cache.packed_file import check_packed
from ocitui.importing.sources.images import describe_image
from ocitui.text import short_digest

from ..check.entry_checks import has_digest
from ..check.index_checks import emptied
from ..findings import Finding, Severity, Way
from .copies import read_document
from .index_steps import name_annotations
from .steps import (
    MEND_INDEX_FIRST,
    NOTHING,
    REVERSIBLE,
    UNLOADED,
    Fate,
    Left,
    Outcome,
    RepairStep,
    Snapshot,
    StepChange,
    StepFile,
    StepKind,
    entry_of,
)

Known = Mapping[tuple[str, str], Descriptor]
"""Descriptors with a name that the index once had, by digest and format."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """``names`` are what the operator gives, by digest; ``known`` descriptors are taken where ``take_known``."""

    snapshot: Snapshot
    names: Mapping[str, str]
    known: Known
    take_known: bool = False

    def wants(self, finding: Finding) -> bool:
        """Whether an orphan is to be adopted."""
        return finding.digest in self.names or (self.take_known and _key(finding) in self.known)

    def plan(self, finding: Finding, outcome: Outcome) -> None:
        """The step that adopts an orphan, or why it cannot be done."""
        try:
            descriptor = self._descriptor(finding)
        except (CacheError, OSError) as error:
            reason = error.message if isinstance(error, CacheError) else error.strerror or str(error)
            outcome.leave([finding], f"it cannot be adopted: {reason}", f"move it to the trash: {Way.TRASH_ORPHANS}")
            return
        assert self.snapshot.index is not None
        name = descriptor.image_name or ""
        winner = self.snapshot.index.by_name(name)
        taken = winner is not None and winner.digest != descriptor.digest
        outcome.steps.append(
            RepairStep(
                StepKind.ADOPT,
                f"Adopt {entry_of(finding.digest, finding.format)} as {name}",
                (finding,),
                then=f"recall by digest hits; {name} stays with {short_digest(winner.digest)}, by `point` it would win"
                if taken and winner
                else f"a hit, and {name} resolves to it",
                source="its manifest and config" if finding.digest in self.names else "the index as it once was",
                # First in the index, it takes no name from an entry that has it now.
                change=StepChange(insert=(Insert(self.snapshot.index.laid_out(descriptor.raw), 0 if taken else None),)),
            )
        )

    def _descriptor(self, finding: Finding) -> Descriptor:
        """Raises CacheError and OSError where the files are not what they have to be."""
        directory, digest, form = self.snapshot.directory, finding.digest, known_format(finding.format)
        if form is None:
            raise CacheError(f"{finding.format!r} is no format")
        raw_manifest = read_document(directory / manifest_name(digest))
        raw_config = read_document(directory / config_name(digest))
        manifest, config = Document.manifest(raw_manifest), Document.config(raw_config)
        if not has_digest(raw_manifest, digest):
            raise CacheError("its manifest is not the one of its digest")
        if not has_digest(raw_config, manifest.value.config.digest):
            raise CacheError("its config is not the one that its manifest names")
        check = check_packed(directory / packed_name(digest, form))
        if check.problem or check.found is not form:
            raise CacheError(f"its packed file is no whole {form}")
        if digest not in self.names:
            return self.known[_key(finding)]
        name = name_annotations(ImageName.parse(self.names[digest]))
        annotations = {ANNOTATION_PACKED_FORMAT: form.value, **dict(name)}
        return describe_image(digest, manifest, config.value, annotations)


def _key(finding: Finding) -> tuple[str, str]:
    return finding.digest, finding.format


CODES = frozenset({"orphan-entry", "orphan-file", "leftover-temporary", "transaction-pending", "wrong-mode"})
_ORPHANS = ("orphan-entry", "orphan-file")


def plan_orphans(snapshot: Snapshot, findings: Sequence[Finding], adoption: Adoption, *, trash: bool) -> Outcome:
    """The steps for files without a descriptor: neither adopted nor moved to the trash unless that is asked for."""
    outcome = Outcome()
    orphans = [finding for finding in findings if finding.code in _ORPHANS]
    if snapshot.replaced:
        outcome.leave(orphans, UNLOADED, MEND_INDEX_FIRST)
        return outcome
    going: dict[str, list[Finding]] = {}
    for finding in orphans:
        if finding.code == "orphan-entry" and adoption.wants(finding):
            adoption.plan(finding, outcome)
        elif trash:
            going.setdefault(finding.digest, []).append(finding)
        elif finding.code == "orphan-entry":
            once = adoption.known.get(_key(finding))
            known = f"{Way.ADOPT_KNOWN}, as {once.image_name}, or " if once is not None else ""
            would = f"{known}{Way.ADOPT}; or {Way.TRASH_ORPHANS}"
            outcome.leave([finding], "adopting it or not is for you to say", would)
        else:
            outcome.leave(
                [finding], "removing it or not is for you to say", f"{Way.TRASH_ORPHANS} moves it to the trash"
            )
    adopted = {finding.digest for step in outcome.steps for finding in step.findings}
    outcome.steps += [_trash(snapshot, digest, found, adopted) for digest, found in going.items()]
    return outcome


def once_emptied(left: Sequence[Left]) -> list[Left]:
    """What stays once the last entry left the index: beside none, complete files are no orphans but entries lost."""
    complete = sum(one.finding.code == "orphan-entry" for one in left)
    if not complete:
        return list(left)
    others = [one for one in left if one.finding.code not in _ORPHANS]
    return [
        Left(emptied(complete), "the last entry leaves the index", "repair again: these files make entries then"),
        *others,
    ]


def plan_rest(snapshot: Snapshot, findings: Sequence[Finding], *, change_modes: bool) -> Outcome:
    """The steps for temporary files, interrupted transactions and modes."""
    outcome = Outcome()
    inside = tuple(finding for finding in findings if "/" in finding.file and finding.code != "wrong-mode")
    if inside:
        outcome.steps.append(_clean_up(inside))
    for finding in findings:
        if finding.code == "leftover-temporary" and "/" not in finding.file:
            files, change = snapshot.trashing([finding.file])
            title = f"Move the temporary file {finding.file} to the trash"
            outcome.steps.append(RepairStep(StepKind.CLEAN_UP, title, (finding,), files, then=NOTHING, change=change))
        elif finding.code == "wrong-mode":
            _change_mode(snapshot, finding, outcome, allowed=change_modes)
    return outcome


def finish_first(findings: Sequence[Finding]) -> Outcome:
    """The only step while an interrupted transaction waits: a writer finishes it, or rolls it back, before all else."""
    inside = tuple(finding for finding in findings if finding.code == "transaction-pending")
    outcome = Outcome([_clean_up(inside)])
    others = [finding for finding in findings if finding not in inside and finding.severity is not Severity.INFO]
    outcome.leave(others, "an interrupted transaction comes first", "make a new plan once it is finished")
    return outcome


def _trash(snapshot: Snapshot, digest: str, findings: Sequence[Finding], adopted: set[str]) -> RepairStep:
    assert snapshot.index is not None
    names = [finding.file for finding in findings]
    keys = {(digest, finding.format or None) for finding in findings if finding.code == "orphan-entry"}
    if keys and digest not in adopted:
        with Folder.open(snapshot.directory) as root:
            names += discardable(root, snapshot.index, keys)[0]
    files, change = snapshot.trashing(names)
    return RepairStep(
        StepKind.TRASH_ORPHAN,
        f"Move the files of {short_digest(digest)}, which no descriptor names, to the trash",
        tuple(findings),
        files,
        then=f"{NOTHING}; {REVERSIBLE}",
        change=change,
    )


def _clean_up(findings: tuple[Finding, ...]) -> RepairStep:
    """Any writer does this first, so there is nothing to change for it."""
    files = tuple(StepFile(finding.file, Fate.REMOVED, 0) for finding in findings if "leftover" in finding.code)
    return RepairStep(
        StepKind.CLEAN_UP,
        "Finish or roll back what an interrupted writer left in ocitui's own folder",
        findings,
        files,
        then=NOTHING,
    )


def _change_mode(snapshot: Snapshot, finding: Finding, outcome: Outcome, *, allowed: bool) -> None:
    fact = snapshot.listing.get(finding.file)
    old = stat.S_IMODE(fact.mode) if fact is not None else 0
    new = old | stat.S_IRUSR
    if fact is None or not fact.regular or old == new:
        outcome.leave(
            [finding], "its mode is not what keeps it from being read", "start ocitui as its owner or as root"
        )
    elif finding.file == INDEX_NAME:
        outcome.leave(
            [finding], "the mode of index.json is the daemon's", f"chmod u+r {snapshot.directory / INDEX_NAME}"
        )
    elif not allowed:
        outcome.leave([finding], "a mode is changed only when asked for", Way.CHANGE_MODES)
    else:
        outcome.steps.append(
            RepairStep(
                StepKind.CHANGE_MODE,
                f"Let the owner read {finding.file}: mode {old:04o} becomes {new:04o}",
                (finding,),
                (StepFile(finding.file, Fate.MODE, fact.size),),
                then="as root it reads the file all the same",
                change=StepChange(modes=(ChangeMode(finding.file, old, new),)),
            )
        )
