"""Plans of repair: every step, and what it costs, before anything is done; bound to what was seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ocitui.cache import ImageIndex, IndexSeen, Mend, PackerCache
from ocitui.importing.opening import SourceOptions

from .findings import Depth
from .mends.compose import compose
from .mends.listing import once_emptied
from .mends.making import concerns, make_plan
from .mends.steps import (
    Fate,
    Fetch,
    FetchKind,
    Left,
    RepairOptions,
    RepairStep,
    StepFile,
    StepKind,
)
from .report import Report
from .sources import JoinedEntry

__all__ = [
    "Fate",
    "Fetch",
    "FetchKind",
    "Left",
    "RepairOptions",
    "RepairPlan",
    "RepairStep",
    "StepFile",
    "StepKind",
    "plan_repair",
]


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """``steps`` are all that can be done, ``chosen`` the numbers of those that will be; none mends ``unmended``.

    ``notes`` say where could not be looked for copies, and why. ``seen`` is the index that the plan is bound to, None
    where it cannot be read, and ``depth`` how far the check looked that it was made of. ``joined`` are the three
    sources of an index that is to be given entries back, side by side. Two plans are equal where they would do the
    same.
    """

    steps: tuple[RepairStep, ...]
    unmended: tuple[Left, ...]
    seen: IndexSeen | None
    chosen: frozenset[int]
    notes: tuple[str, ...] = ()
    depth: Depth = Depth.QUICK
    joined: tuple[JoinedEntry, ...] = field(default=(), repr=False)
    index: ImageIndex | None = field(default=None, repr=False, compare=False)
    access: SourceOptions = field(default_factory=SourceOptions, repr=False, compare=False)

    @property
    def made(self) -> tuple[RepairStep, ...]:
        """The steps that will be made."""
        return tuple(step for step in self.steps if step.number in self.chosen)

    @property
    def left(self) -> tuple[Left, ...]:
        """All findings that will be there afterwards, also those of steps that are not made."""
        passed = [step for step in self.steps if step.number not in self.chosen]
        return (
            *(left for step in self.made for left in step.leaves),
            *(once_emptied(self.unmended) if self._empties_index else self.unmended),
            *(Left(finding, "its step is not chosen", step.title) for step in passed for finding in step.findings),
        )

    @property
    def _empties_index(self) -> bool:
        """Whether every entry goes, and none comes."""
        changes = [step.change for step in self.made]
        gone = {position for change in changes for position in change.remove}
        if not gone or self.index is None or any(change.insert or change.replacement for change in changes):
            return False
        return len(gone) == len(self.index)

    @property
    def bytes_trashed(self) -> int:
        return sum(step.bytes_trashed for step in self.made)

    @property
    def bytes_placed(self) -> int:
        return sum(step.bytes_placed for step in self.made)

    @property
    def used_by(self) -> tuple[str, ...]:
        """The loop devices that hold files of entries which are dropped: who does that is asked twice."""
        dropped = (step for step in self.made if step.kind is StepKind.DROP_ENTRY)
        return tuple(dict.fromkeys(user for step in dropped for user in step.used_by))

    @property
    def fetches(self) -> tuple[Fetch, ...]:
        """What has to be brought into the staging folder first."""
        return tuple(fetch for step in self.made for fetch in step.change.fetch)

    @property
    def redone(self) -> tuple[str, ...]:
        """Transactions of ours whose edit is made once more, each as one of its own."""
        return tuple(step.change.redo for step in self.made if step.change.redo)

    def narrowed(self, wanted: Collection[int | str]) -> RepairPlan:
        """The same plan with only these steps made: by number, or by a code, a digest or a fingerprint of findings."""
        chosen = (step.number for step in self.steps if _selects(wanted, step))
        return replace(self, chosen=frozenset(chosen))

    def mend(self, staged: Mapping[str, Path] | None = None) -> Mend:
        """The chosen steps as one change of the cache; ``staged`` are the files that were fetched, by their name.

        Raises ConflictError where two steps want the same file, or one was not fetched.
        """
        return compose(self.index, self.seen, [step.change for step in self.made], staged)


def _selects(wanted: Collection[int | str], step: RepairStep) -> bool:
    return step.number in wanted or any(concerns(wanted, finding) for finding in step.findings)


async def plan_repair(cache: PackerCache, report: Report, options: RepairOptions | None = None) -> RepairPlan:
    """What would mend these findings; nothing is written. Raises CacheDirectoryError where the directory is gone."""
    options = options or RepairOptions()
    made = await make_plan(cache, report, options)
    steps = tuple(replace(step, number=number) for number, step in enumerate(made.outcome.steps, 1))
    return RepairPlan(
        steps,
        tuple(made.outcome.left),
        made.scene.seen,
        frozenset(step.number for step in steps if step.default),
        made.notes,
        report.depth,
        made.joined.entries if made.joined is not None else (),
        None if made.scene.replaced else made.scene.index,
        options.access,
    )
