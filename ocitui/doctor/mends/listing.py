"""Files that no descriptor names, what interrupted writers left, and modes."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from ocitui.cache import ChangeMode
from ocitui.cache.disk import Folder
from ocitui.cache.files import INDEX_NAME
from ocitui.cache.needs import discardable

from ..findings import Finding, Severity
from ..index_checks import emptied
from .adopting import Adoption
from .outcome import MEND_INDEX_FIRST, UNLOADED, Outcome
from .scene import Scene, short
from .steps import Change, Fate, Left, RepairStep, StepFile, StepKind
from .words import NOTHING, REVERSIBLE

CODES = frozenset({"orphan-entry", "orphan-file", "leftover-temporary", "transaction-pending", "wrong-mode"})
_ORPHANS = ("orphan-entry", "orphan-file")


def plan_orphans(scene: Scene, findings: Sequence[Finding], adoption: Adoption, *, trash: bool) -> Outcome:
    """The steps for files without a descriptor: neither adopted nor moved to the trash unless that is asked for."""
    outcome = Outcome()
    orphans = [finding for finding in findings if finding.code in _ORPHANS]
    if scene.replaced:
        outcome.leave(orphans, UNLOADED, MEND_INDEX_FIRST)
        return outcome
    going: dict[str, list[Finding]] = {}
    for finding in orphans:
        if finding.code == "orphan-entry" and adoption.wants(finding):
            adoption.plan(finding, outcome)
        elif trash:
            going.setdefault(finding.digest, []).append(finding)
        elif finding.code == "orphan-entry":
            outcome.leave([finding], "adopting it or not is for you to say", _would_adopt(finding, adoption))
        else:
            outcome.leave([finding], "removing it or not is for you to say", "--trash-orphans moves it to the trash")
    adopted = {finding.digest for step in outcome.steps for finding in step.findings}
    outcome.steps += [_trash(scene, digest, found, adopted) for digest, found in going.items()]
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


def plan_rest(scene: Scene, findings: Sequence[Finding], *, change_modes: bool) -> Outcome:
    """The steps for temporary files, interrupted transactions and modes."""
    outcome = Outcome()
    inside = tuple(finding for finding in findings if "/" in finding.file and finding.code != "wrong-mode")
    if inside:
        outcome.steps.append(_clean_up(inside))
    for finding in findings:
        if finding.code == "leftover-temporary" and "/" not in finding.file:
            outcome.steps.append(_remove(scene, finding))
        elif finding.code == "wrong-mode":
            _change_mode(scene, finding, outcome, allowed=change_modes)
    return outcome


def finish_first(findings: Sequence[Finding]) -> Outcome:
    """The only step while an interrupted transaction waits: a writer finishes it, or rolls it back, before all else."""
    inside = tuple(finding for finding in findings if finding.code == "transaction-pending")
    outcome = Outcome([_clean_up(inside)])
    others = [finding for finding in findings if finding not in inside and finding.severity is not Severity.INFO]
    outcome.leave(others, "an interrupted transaction comes first", "make a new plan once it is finished")
    return outcome


def _would_adopt(finding: Finding, adoption: Adoption) -> str:
    name = adoption.known_name(finding)
    known = f"--adopt alone, as {name}, or " if name else ""
    return f"{known}--adopt {short(finding.digest)}=NAME; or --trash-orphans"


def _trash(scene: Scene, digest: str, findings: Sequence[Finding], adopted: set[str]) -> RepairStep:
    assert scene.index is not None
    names = [finding.file for finding in findings]
    keys = {(digest, finding.format or None) for finding in findings if finding.code == "orphan-entry"}
    if keys and digest not in adopted:
        with Folder.open(scene.directory) as root:
            names += discardable(root, scene.index, keys)[0]
    discards = scene.discards(names)
    return RepairStep(
        0,
        StepKind.TRASH_ORPHAN,
        f"Move the files of {short(digest)}, which no descriptor names, to the trash",
        tuple(findings),
        scene.trashed(discards),
        sum(item.seen.size for item in discards),
        then=f"{NOTHING}; {REVERSIBLE}",
        change=Change(discard=discards),
    )


def _remove(scene: Scene, finding: Finding) -> RepairStep:
    discards = scene.discards([finding.file])
    return RepairStep(
        0,
        StepKind.CLEAN_UP,
        f"Move the temporary file {finding.file} to the trash",
        (finding,),
        scene.trashed(discards),
        sum(item.seen.size for item in discards),
        then=NOTHING,
        change=Change(discard=discards),
    )


def _clean_up(findings: tuple[Finding, ...]) -> RepairStep:
    """Any writer does this first, so there is nothing to change for it."""
    files = tuple(StepFile(finding.file, Fate.REMOVED, 0) for finding in findings if "leftover" in finding.code)
    return RepairStep(
        0,
        StepKind.CLEAN_UP,
        "Finish or roll back what an interrupted writer left in ocitui's own folder",
        findings,
        files,
        then=NOTHING,
    )


def _change_mode(scene: Scene, finding: Finding, outcome: Outcome, *, allowed: bool) -> None:
    fact = scene.facts.get(finding.file)
    old = stat.S_IMODE(fact.mode) if fact is not None else 0
    new = old | stat.S_IRUSR
    if fact is None or not fact.regular or old == new:
        outcome.leave(
            [finding], "its mode is not what keeps it from being read", "start ocitui as its owner or as root"
        )
    elif finding.file == INDEX_NAME:
        outcome.leave([finding], "the mode of index.json is the daemon's", f"chmod u+r {scene.directory / INDEX_NAME}")
    elif not allowed:
        outcome.leave([finding], "a mode is changed only when asked for", "--change-modes")
    else:
        outcome.steps.append(
            RepairStep(
                0,
                StepKind.CHANGE_MODE,
                f"Let the owner read {finding.file}: mode {old:04o} becomes {new:04o}",
                (finding,),
                (StepFile(finding.file, Fate.MODE, fact.size),),
                then="as root it reads the file all the same",
                change=Change(modes=(ChangeMode(finding.file, old, new),)),
            )
        )
