"""Which copy of the index is good, and what to do in what order, in words and for programs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocitui.doctor.assessment import Assessment, assess, gather
from ocitui.doctor.assessment_texts import CASES, bears_on

from .prose import paragraph

__all__ = ["assess_now", "assessment_json", "assessment_lines", "bears_on"]

_ITEM = "    {:<9} "


async def assess_now(directory: Path, hangs: bool) -> Assessment:
    """Look and tell. ``hangs``: the operator says that the daemon answers no more. Raises CacheDirectoryError."""
    facts = await asyncio.to_thread(gather, directory, answers=False if hangs else None)
    return assess(facts)


def assessment_lines(assessment: Assessment) -> Iterator[str]:
    """The case, what it follows from, what to do and what not."""
    yield from paragraph(f"{CASES[assessment.case]} ({assessment.confidence})", "which copy is good: ")
    if assessment.headline:
        yield from paragraph(assessment.headline, _ITEM.format("do"))
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
        "headline": assessment.headline or None,
        "reasons": list(assessment.reasons),
        "commands": [dataclasses.asdict(command) for command in assessment.commands],
        "never": list(assessment.never),
    }
