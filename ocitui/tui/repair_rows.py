"""The rows of a plan of repair: the plan as a whole, which copy is good, the sources, each step, and what stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ocitui.doctor.assessment import Assessment
from ocitui.doctor.finding_texts import entry_text
from ocitui.doctor.repair.plan import RepairPlan, RepairStep
from ocitui.doctor.salvage.sources import JoinedEntry
from ocitui.text import human_size

from .repair_texts import (
    assessment_lines,
    entry_word,
    grouped_left,
    joined_lines,
    left_lines,
    plan_title,
    sources_lines,
    sources_title,
    step_lines,
    step_row,
    takes_name,
)
from .widgets.lines_view import Line
from .widgets.pick_list import PickRow

PLAN = "plan"
Naming = tuple[str, Literal["name", "adopt"]]
DrawLines = Callable[[RepairPlan, int], list[Line]]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """``lines`` draws what there is to say of it, for a plan and a width; ``step`` is the number of a step that can be
    marked. ``naming`` is the digest that a name can be given to here, and how; ``hint`` what it may be called."""

    row: PickRow
    lines: DrawLines
    step: int | None = None
    naming: Naming | None = None
    hint: str = ""


def plan_rows(plan: RepairPlan, assessment: Assessment | None, ascii: bool) -> list[PlanRow]:
    """The rows of a plan, in the order in which they are to be looked at."""
    rows = [PlanRow(PickRow(PLAN, plan_title(plan), kind="heading"), lambda _, __: [])]
    if assessment is not None:
        row = PickRow("copy", "Which copy of the index is good, and what to do in what order", str(assessment.case))
        rows.append(PlanRow(row, _fixed(assessment_lines(assessment))))
    if plan.joined:
        row = PickRow("sources", sources_title(plan.joined), "side by side")
        rows.append(PlanRow(row, lambda shown, width: sources_lines(shown.joined, width)))
    rows += [_step(plan, step, ascii) for step in plan.steps]
    rows += [_nameless(entry) for entry in plan.joined if entry.name is None]
    for number, left in enumerate(grouped_left(plan)):
        first, many = left[0], f" (+{len(left) - 1})" if len(left) > 1 else ""
        text = f"    {first.finding.code}: {entry_text(first.finding)}{many}"
        naming: Naming | None = None
        if takes_name(first):
            naming = first.finding.digest, "adopt" if first.finding.code == "orphan-entry" else "name"
        right = "stays; n names it" if naming else "stays"
        rows.append(
            PlanRow(
                PickRow(f"left {number}", text, right, "muted", start=True), _fixed(left_lines(left)), naming=naming
            )
        )
    return rows


def _step(plan: RepairPlan, step: RepairStep, ascii: bool) -> PlanRow:
    chosen = step.number in plan.chosen
    mark = "x" if ascii else "✱"
    size = step.bytes_trashed or step.bytes_placed
    row = PickRow(
        f"step {step.number}",
        f"[{mark if chosen else ' '}] {step.number} {step_row(step)}",
        human_size(size) if size else "",
        "plain" if chosen else "muted",
        start=True,
    )
    return PlanRow(row, lambda shown, _: step_lines(step, chosen=step.number in shown.chosen), step=step.number)


def _nameless(entry: JoinedEntry) -> PlanRow:
    row = PickRow(f"name {entry.digest} {entry.format}", f"    name lost: {entry_word(entry)}", "n names it", "bad")
    hint = entry.hints[0].text if entry.hints else ""
    return PlanRow(row, _fixed(joined_lines(entry)), naming=(entry.digest, "name"), hint=hint)


def _fixed(lines: list[Line]) -> DrawLines:
    return lambda _, __: lines
