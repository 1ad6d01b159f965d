"""What a repair looks at before it says anything: the findings, a plan, and which copy of the index is good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from ocitui.doctor.assessment import Assessment
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.findings import Depth
from ocitui.doctor.repair.plan import RepairPlan, plan_repair
from ocitui.doctor.report import Report

from .assessment import assess_now, assessment_lines, bears_on
from .check_progress import progress_text
from .checking import keep_index_aside
from .entry_words import keys_of_files
from .options import Settings
from .plan_text import plan_lines
from .progress_line import line_shown
from .repair_options import AskedRepair
from .repair_requests import refuse_idle, repair_request
from .running import cache_of, run_async


@dataclass(frozen=True, slots=True)
class Looked:
    """``assessment`` is None where it has no bearing on what was found."""

    report: Report
    plan: RepairPlan
    assessment: Assessment | None

    def lines(self) -> Iterator[str]:
        """All there is to know before it is done."""
        if self.assessment is not None:
            yield from assessment_lines(self.assessment)
        yield from plan_lines(self.plan)


def look(settings: Settings, asked: AskedRepair) -> Looked:
    """Check, and plan. Corrupt bytes of the index are kept at once, unless nothing may be written.

    Raises CacheDirectoryError, and what `repair_request` raises.
    """

    options = ExamineOptions(Depth(asked.depth), ledger_writes=not settings.read_only)

    async def work() -> Looked:
        report, assessment, _ = await asyncio.gather(
            examine(settings.directory, options, show),
            assess_now(settings.directory, asked.daemon_hangs),
            keep_index_aside(settings),
        )
        plan = await _plan(settings, asked, report, assessment, refusing=True)
        return Looked(report, plan, assessment if bears_on(assessment, report) else None)

    with line_shown(progress_text) as show:
        return run_async(work())


def look_again(settings: Settings, asked: AskedRepair, report: Report) -> Looked:
    """A plan for what a check has found meanwhile."""

    async def work() -> RepairPlan:
        return await _plan(settings, asked, report, await assess_now(settings.directory, asked.daemon_hangs))

    return Looked(report, run_async(work()), None)


async def _plan(
    settings: Settings, asked: AskedRepair, report: Report, assessment: Assessment, *, refusing: bool = False
) -> RepairPlan:
    digests = [finding.digest for finding in report.findings if finding.digest]
    digests += [digest for digest, _ in keys_of_files(settings.directory)]
    options = repair_request(asked, report.findings, digests)
    if refusing:
        refuse_idle(options, report.findings)
    plan = await plan_repair(cache_of(settings), report, options, assessment)
    return plan.narrowed(options.only) if options.only else plan
