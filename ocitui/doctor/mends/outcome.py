"""What a family of mends gives: steps, in order, and the findings that none of them mends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..findings import Finding
from .steps import Left, RepairStep


@dataclass(slots=True)
class Outcome:
    """Steps have no number yet."""

    steps: list[RepairStep] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def leave(self, findings: Iterable[Finding], why: str, would: str = "") -> None:
        """Each finding once, as it was left first."""
        there = {left.finding for left in self.left}
        self.left += [Left(finding, why, would) for finding in dict.fromkeys(findings) if finding not in there]

    def __iadd__(self, other: Outcome) -> Outcome:
        self.steps += other.steps
        self.left += other.left
        return self


UNLOADED = "the daemon would not load index.json as it is"
MEND_INDEX_FIRST = "mend index.json first, then make a new plan"
