"""Which copy of the index is good, and what to do in what order, in words and for programs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocitui.doctor.report import Report
from ocitui.doctor.timeline import Assessment, Case, assess, gather

from .prose import paragraph

_CASES = {
    Case.IN_STEP: "nothing speaks against the index on disk",
    Case.MEMORY_GOOD: "the daemon's memory is good, the disk is not",
    Case.MEMORY_EMPTIED: "the daemon's memory has lost it too",
    Case.HUNG: "the daemon answers no more",
    Case.STOPPED: "the daemon does not run",
}
_ONE_EDIT = "index-overwritten"
_ITEM = "    {:<9} "


async def assess_now(directory: Path, hangs: bool) -> Assessment:
    """Look and tell. ``hangs``: the operator says that the daemon answers no more. Raises CacheDirectoryError."""
    facts = await asyncio.to_thread(gather, directory, answers=False if hangs else None)
    return assess(facts)


def bears_on(assessment: Assessment, report: Report) -> bool:
    """Whether it matters to what was found: the index is not what it was, or the daemon is in trouble."""
    if assessment.case not in (Case.IN_STEP, Case.STOPPED) or not report.verdict.sound:
        return True
    return any(finding.code.startswith("index-") and finding.code != _ONE_EDIT for finding in report.findings)


def assessment_lines(assessment: Assessment) -> Iterator[str]:
    """The case, what it follows from, what to do and what not."""
    yield from paragraph(f"{_CASES[assessment.case]} ({assessment.confidence})", "which copy is good: ")
    for reason in assessment.reasons:
        yield from paragraph(reason, _ITEM.format("because"))
    for number, command in enumerate(assessment.commands, 1):
        first = _ITEM.format(f"{number}.")
        if command.text:
            yield first + command.text
            yield from paragraph(command.purpose, " " * len(first))
        else:
            yield from paragraph(command.purpose, first)
    for thing in assessment.never:
        yield from paragraph(thing, _ITEM.format("beware"))
    yield ""


def assessment_json(assessment: Assessment) -> dict[str, Any]:
    """The same as programs read it."""
    return {
        "case": assessment.case.value,
        "confidence": assessment.confidence.value,
        "reasons": list(assessment.reasons),
        "commands": [dataclasses.asdict(command) for command in assessment.commands],
        "never": list(assessment.never),
    }
