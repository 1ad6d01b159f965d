"""Which copy of the index is good, and what to do in what order, in words and for programs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from ocitui.doctor.assessment import Assessment, assess, gather
from ocitui.doctor.assessment_texts import CASES

from .prose import paragraph

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
