"""Plans of repair: every step, and what it costs, before anything is done; bound to what was seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ocitui.cache import ImageIndex, IndexSeen, Mend, PackerCache

from .findings import Finding
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

SHORTEST_DIGEST = 12


class Examined(Protocol):
    """What a plan is made of: `examine.Report` is one."""

    @property
    def findings(self) -> Sequence[Finding]: ...


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """``steps`` are all that can be done, ``chosen`` the numbers of those that will be; ``left`` is what stays.

    ``seen`` is the index that the plan is bound to. Two plans are equal where they would do the same to the same files.
    """

    steps: tuple[RepairStep, ...]
    left: tuple[Left, ...]
    seen: IndexSeen
    chosen: frozenset[int]
    index: ImageIndex | None = field(default=None, repr=False, compare=False)

    @property
    def made(self) -> tuple[RepairStep, ...]:
        """The steps that will be made."""
        return tuple(step for step in self.steps if step.number in self.chosen)

    @property
    def bytes_trashed(self) -> int:
        return sum(step.bytes_trashed for step in self.made)

    @property
    def bytes_placed(self) -> int:
        return sum(step.bytes_placed for step in self.made)

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
        return replace(self, chosen=frozenset(step.number for step in self.steps if selects(wanted, step)))

    def mend(self, staged: Mapping[str, Path] | None = None) -> Mend:
        """The steps as one change of the cache; ``staged`` are the files that were fetched, by their name.

        Raises ConflictError where two steps want the same file.
        """
        raise NotImplementedError


def selects(wanted: Collection[int | str], step: RepairStep) -> bool:
    """Whether a step is among these."""
    return step.number in wanted or any(concerns(wanted, finding) for finding in step.findings)


def concerns(wanted: Collection[int | str], finding: Finding) -> bool:
    """Whether a finding has one of these codes, digests or fingerprints."""
    if finding.code in wanted or finding.fingerprint in wanted:
        return True
    digest, short = finding.digest, finding.digest.partition(":")[2]
    return bool(digest) and any(
        len(one) >= SHORTEST_DIGEST and (digest.startswith(one) or short.startswith(one))
        for one in wanted
        if isinstance(one, str)
    )


async def plan_repair(cache: PackerCache, report: Examined, options: RepairOptions | None = None) -> RepairPlan:
    """What would mend these findings; nothing is written. Raises CacheDirectoryError where the directory is gone."""
    raise NotImplementedError
