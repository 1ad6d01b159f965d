"""A plan of repair in words: what would be done, what is only offered, what stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ocitui.doctor.findings import Finding
from ocitui.doctor.repair.plan import Left, RepairPlan, RepairStep, StepFile
from ocitui.text import human_size

from .findings_text import SHORT_ID, entry_text
from .prose import counted, paragraph, shortened
from .side_by_side import source_lines

_ITEM = "    {:<9} "
_MOST_FINDINGS, _MOST_FILES = 4, 8


def plan_lines(plan: RepairPlan) -> Iterator[str]:
    """The whole plan."""
    if plan.joined:
        yield "what index.json held, as each source tells it:"
        yield from source_lines(plan.joined)
        yield ""
    offered = [step for step in plan.steps if step.number not in plan.chosen and not step.futile]
    if plan.made:
        yield "what is to be done:"
        yield from _steps(plan.made)
    if offered:
        yield "offered, and done only when --only names it:"
        yield from _steps(offered)
    if plan.futile:
        yield from paragraph(f"left out, and made only with --even-if-futile: {plan.futile[0].futile}")
        yield from _steps(plan.futile)
    if plan.left:
        yield "what stays as it is:"
        for (code, why), group in groupby(plan.left, key=_reason):
            yield from _left(code, why, list(group))
    for note in plan.notes:
        yield from paragraph(note, "note: ")
    yield from _balance(plan)


def _steps(steps: Sequence[RepairStep]) -> Iterator[str]:
    for step in steps:
        yield from paragraph(step.title, f"{step.number:>3} ")
        yield from _mended(step.findings)
        for file in step.files[:_MOST_FILES]:
            yield _ITEM.format("file") + _file(file)
        if len(step.files) > _MOST_FILES:
            yield _ITEM.format("") + f"and {counted(len(step.files) - _MOST_FILES, 'more file')}"
        for title, text in (
            ("from", step.source),
            ("then", step.then),
            ("may lose", step.loses),
            ("in use", f"by {', '.join(step.used_by)}" if step.used_by else ""),
        ):
            if text:
                yield from paragraph(text, _ITEM.format(title))
    yield ""


def _mended(findings: Sequence[Finding]) -> Iterator[str]:
    for code, group in groupby(findings, key=lambda finding: finding.code):
        same = list(group)
        ids = " ".join(finding.fingerprint[:SHORT_ID] for finding in same[:_MOST_FINDINGS])
        more = f" and {len(same) - _MOST_FINDINGS} more" if len(same) > _MOST_FINDINGS else ""
        yield _ITEM.format("mends") + f"{code}  {ids}{more}"


def _file(file: StepFile) -> str:
    return f"{shortened(file.name)}, {human_size(file.size)}, {file.fate}"


def _reason(left: Left) -> tuple[str, str]:
    return left.finding.code, left.why


def _left(code: str, why: str, same: Sequence[Left]) -> Iterator[str]:
    """Findings that stay for one reason; what would mend all of them is said once."""
    shared = len({left.would for left in same}) == 1
    yield f"  - {code}" + (f"  ({counted(len(same), 'finding')})" if len(same) > 1 else "")
    for left in same[:_MOST_FILES]:
        yield from paragraph(entry_text(left.finding), _ITEM.format(left.finding.fingerprint[:SHORT_ID]))
        if not shared:
            yield from _advice(left.would)
    if len(same) > _MOST_FILES:
        yield _ITEM.format("") + f"and {len(same) - _MOST_FILES} more"
    yield from paragraph(why, _ITEM.format("why"))
    if shared:
        yield from _advice(same[0].would)
    yield ""


def _advice(would: str) -> Iterator[str]:
    if would:
        yield from paragraph(would, _ITEM.format("you can"))


def _balance(plan: RepairPlan) -> Iterator[str]:
    """What the steps cost, in bytes."""
    if not plan.made:
        return
    parts = [f"{human_size(plan.bytes_placed)} come in"] if plan.bytes_placed else []
    if plan.bytes_trashed:
        parts.append(f"{human_size(plan.bytes_trashed)} go to the trash, which frees no room until it is emptied")
    else:
        parts.append("nothing goes to the trash")
    steps = counted(len(plan.made), "step")
    yield from paragraph(f"{steps}, one transaction: {'; '.join(parts)}")
