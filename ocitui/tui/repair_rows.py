"""A plan of repair on its screen: the plan as a whole, which copy is good, the sources, each step, and what stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ocitui.doctor.assessment import Assessment
from ocitui.doctor.assessment_texts import memory_warning
from ocitui.doctor.finding_texts import entry_text, tally
from ocitui.doctor.repair.apply import Repaired
from ocitui.doctor.repair.plan import Left, RepairPlan, RepairStep
from ocitui.doctor.salvage.sources import JoinedEntries, JoinedEntry, sources_shown
from ocitui.text import human_size
from ocitui.words.findings import remaining_lines, title
from ocitui.words.lines import KEYS, Line, capital, heading
from ocitui.words.plans import (
    assessment_lines,
    balance,
    entry_word,
    grouped_left,
    joined_lines,
    left_lines,
    remarks,
    sections,
    source_cells,
    sources_tally,
    sources_title,
    step_lines,
    takes_name,
)

from .shorten import short_digests, short_lines
from .widgets.pick_list import PickRow

PLAN = "plan"
_MOST = 100
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
    rows = [PlanRow(PickRow(PLAN, balance(plan), kind="heading"), lambda _, __: [])]
    if assessment is not None:
        row = PickRow("copy", "Which copy of the index is good, and what to do in what order", str(assessment.case))
        rows.append(PlanRow(row, _fixed(assessment_lines(assessment))))
    if plan.joined:
        row = PickRow("sources", sources_title(plan.joined), "side by side")
        rows.append(PlanRow(row, lambda shown, width: _sources(shown.joined, width)))
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
            PlanRow(PickRow(f"left {number}", text, right, "muted", start=True), _fixed(_left(left)), naming=naming)
        )
    return rows


def _step(plan: RepairPlan, step: RepairStep, ascii: bool) -> PlanRow:
    chosen = step.number in plan.chosen
    mark = "x" if ascii else "✱"
    size = step.bytes_trashed or step.bytes_placed
    row = PickRow(
        f"step {step.number}",
        f"[{mark if chosen else ' '}] {step.number} {short_digests(step.title)}",
        human_size(size) if size else "",
        "plain" if chosen else "muted",
        start=True,
    )
    return PlanRow(row, lambda shown, _: _step_lines(step, chosen=step.number in shown.chosen), step=step.number)


def _nameless(entry: JoinedEntry) -> PlanRow:
    row = PickRow(f"name {entry.digest} {entry.format}", f"    name lost: {entry_word(entry)}", "n names it", "bad")
    hint = entry.hints[0].text if entry.hints else ""
    return PlanRow(row, _fixed(joined_lines(entry, KEYS)), naming=(entry.digest, "name"), hint=hint)


def _fixed(lines: list[Line]) -> DrawLines:
    return lambda _, __: lines


def plan_lines(plan: RepairPlan, host: str, assessment: Assessment | None, *, kratad_runs: bool) -> list[Line]:
    """The plan as a whole: what matters most stands first."""
    lines = [heading(f"On {host}: {balance(plan)}")]
    if assessment is not None and assessment.headline:
        lines.append(Line(f"{assessment.headline}.", kind="bad"))
    elif kratad_runs and any(step.change.edits_index for step in plan.made):
        lines.append(Line(f"{memory_warning('overwrite what is changed in it')}.", kind="bad"))
    if plan.used_by:
        devices = ", ".join(plan.used_by)
        lines.append(Line(f"{devices}: something runs on packed files of entries that are dropped", "in use", "bad"))
    if not plan.made:
        lines.append(Line("The rows above say what stays, and what you can do about it; o offers more."))
    for step in plan.made:
        lines += [Line(), *_step_lines(step, chosen=True)]
    for name, steps in sections(plan, KEYS):
        if steps[0].number in plan.chosen:
            continue
        lines += [Line(), heading(capital(name)), *([Line(steps[0].futile)] if steps[0].futile else [])]
        lines += [Line(short_digests(step.title), str(step.number)) for step in steps]
    if plan.left:
        lines += [Line(), heading(f"What stays: {tally([left.finding for left in plan.left])}")]
    return [*lines, *(Line(note, "note") for note in plan.notes)]


def _step_lines(step: RepairStep, *, chosen: bool) -> list[Line]:
    """All there is to know of one step."""
    lines = [heading(f"{step.number}. {step.title}")]
    lines += [] if chosen else [Line("not marked: it will not be made; space marks it", "step", "bad")]
    return short_lines([*lines, *step_lines(step, KEYS, _MOST)])


def _left(left: Sequence[Left]) -> list[Line]:
    """Findings that stay for one reason."""
    return short_lines([heading(title([one.finding for one in left])), *left_lines(left, KEYS, _MOST)])


def _sources(entries: JoinedEntries, width: int) -> list[Line]:
    """The sources side by side, an entry a line in the order of the new index, and remarks below."""
    sources = sources_shown(entries)
    room = max(width - len(" ".join(sources)) - 37, 16)

    def row(name: str, digest: str, format_: str, *told: str) -> str:
        name = name if len(name) <= room else f"…{name[len(name) - room + 1 :]}"
        told_of = " ".join(f"{text:{len(source)}}" for text, source in zip(told, sources, strict=False))
        return f"{name:{room}} {digest:12} {format_:8} {told_of} {told[-1]}"

    titles = row("Name", "Digest", "Format", *(source.capitalize() for source in sources), "From")
    lines = [heading(sources_title(entries)), Line(sources_tally(entries)), Line(), heading(titles)]
    for entry in entries:
        lost = entry.name is None or (entry.descriptor is None and not entry.removed_by)
        lines.append(Line(row(*source_cells(entry, sources)), kind="bad" if lost else "plain"))
    told = [Line(text, entry_word(entry), "bad") for entry in entries for text in remarks(entry, KEYS)]
    return [*lines, *([Line(), heading("To be known of them"), *told] if told else [])]


def repaired_lines(repaired: Repaired) -> list[Line]:
    """What was done, and what the check found afterwards."""
    lines: list[Line] = []
    for done in repaired.transactions:
        lines += [heading(f"Mended in transaction {done.id}"), Line("u on the first screen takes it all back", "undo")]
        lines += [Line(done.note, "note")] if done.note else []
    return [*lines, Line(), heading("Checked again"), *short_lines(remaining_lines(repaired.report, _MOST))]
