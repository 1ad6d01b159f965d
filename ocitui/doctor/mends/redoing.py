"""Edits of ours that another program's rewrite of the index undid: offered again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ocitui.cache import Descriptor
from ocitui.cache.overwriting import Overwritten

from ..findings import Finding
from .outcome import Outcome
from .scene import entry_of
from .steps import Change, RepairStep, StepKind


def plan_redo(findings: Sequence[Finding], overwritten: Iterable[Overwritten]) -> Outcome:
    """A step for each transaction that a finding names; made only when it is chosen, as the daemon may win again."""
    outcome = Outcome()
    by_id = {one.transaction.id: one for one in overwritten}
    for finding in findings:
        lost = next((one for transaction_id, one in by_id.items() if transaction_id in finding.seen), None)
        if lost is None:
            outcome.leave([finding], "the edit stands by now, or its record is gone", "check again")
        else:
            outcome.steps.append(_redo(finding, lost))
    return outcome


def _redo(finding: Finding, lost: Overwritten) -> RepairStep:
    return RepairStep(
        0,
        StepKind.REDO,
        f"Make the {lost.transaction.kind} of transaction {lost.transaction.id} once more: {_what(lost)}",
        (finding,),
        then="while it runs, its memory wins at its next store: stop it first, then start it",
        default=False,
        change=Change(redo=lost.transaction.id),
    )


def _what(lost: Overwritten) -> str:
    parts = (("out", lost.returned), ("in", lost.missing), ("moved", lost.moved_back))
    return "; ".join(f"{_entries(entries)} {word}" for word, entries in parts if entries)


def _entries(descriptors: Sequence[Descriptor]) -> str:
    first = descriptors[0]
    more = f" and {len(descriptors) - 1} more" if len(descriptors) > 1 else ""
    return entry_of(first.digest, first.format or "", first.image_name or "") + more
