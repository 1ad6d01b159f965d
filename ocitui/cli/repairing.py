"""`ocitui repair`: a plan; with --apply a question, one transaction, and the check once more."""

from __future__ import annotations

import asyncio

from ocitui.cache import PlanChangedError
from ocitui.doctor.examine import ExamineOptions, examine
from ocitui.doctor.findings import Depth, Severity
from ocitui.doctor.plan import RepairPlan, StepKind, plan_repair
from ocitui.doctor.repair import Repaired, apply_plan
from ocitui.doctor.report import Report

from .asking import NotAskedError, agree
from .check_progress import progress_text, repair_text
from .checking import keep_index
from .entry_words import keys_of_files
from .exits import ExitCode
from .failures import refuse_read_only
from .options import Settings
from .output import fail, say
from .plan_text import plan_lines
from .progress_line import line_shown
from .repair_options import AskedRepair
from .repair_output import RepairOutput
from .repair_requests import repair_request
from .running import cache_of, run_async

_TRIES = 3


def repair(settings: Settings, asked: AskedRepair, agreed: bool) -> ExitCode:
    """Show what would mend the cache; with --apply do it, as agreed to.

    Raises CacheDirectoryError, NoSuchFindingError, CancelledError, and what writing raises.
    """
    if asked.apply:
        refuse_read_only(settings, "repair the cache")
    output = RepairOutput(settings)
    report, plan = _look(settings, asked)
    if not asked.apply:
        output.would(report, plan)
        return ExitCode.PROBLEMS if report.fails(Severity.LOW) else ExitCode.CLEAN
    try:
        report = _repair(settings, asked, agreed, report, plan, output)
    except NotAskedError as error:
        fail(settings, error.code, error.message, error.hint, **output.so_far())
        return ExitCode.USAGE
    output.done(report)
    return ExitCode.REMAINING if report.fails(Severity.LOW) else ExitCode.CLEAN


def _look(settings: Settings, asked: AskedRepair) -> tuple[Report, RepairPlan]:
    """A check, and a plan made of it."""

    async def work() -> tuple[Report, RepairPlan]:
        keeping = None if settings.read_only else asyncio.create_task(asyncio.to_thread(keep_index, settings.directory))
        report = await examine(settings.directory, ExamineOptions(Depth(asked.depth)), show)
        if keeping is not None:
            await keeping
        return report, await _plan(settings, asked, report)

    with line_shown(progress_text) as show:
        return run_async(work())


async def _plan(settings: Settings, asked: AskedRepair, report: Report) -> RepairPlan:
    digests = [finding.digest for finding in report.findings if finding.digest]
    digests += [digest for digest, _ in keys_of_files(settings.directory)]
    options = repair_request(asked, report.findings, digests)
    plan = await plan_repair(cache_of(settings), report, options)
    return plan.narrowed(options.only) if options.only else plan


def _repair(
    settings: Settings, asked: AskedRepair, agreed: bool, report: Report, plan: RepairPlan, output: RepairOutput
) -> Report:
    """Carry the plan out; a new one where that one no longer holds, and one more once the index is replaced."""
    tries = 0
    if not plan.made:
        output.unplanned(plan)
    while plan.made:
        output.planned(plan)
        try:
            _agree(settings, agreed, plan)
            repaired = _apply(settings, plan)
        except PlanChangedError as error:
            tries += 1
            if agreed and tries == _TRIES:
                raise
            say(f"{error.message}: here is what would be done now", err=True)
            output.forget()
            report, plan = _look(settings, asked)
            continue
        output.made(repaired)
        report = repaired.report
        if not _replaces_index(plan):
            break
        plan = run_async(_plan(settings, asked, report))
    return report


def _agree(settings: Settings, agreed: bool, plan: RepairPlan) -> None:
    """Ask; twice before what is in use goes. Raises NotAskedError, CancelledError."""
    agree(settings, agreed, list(plan_lines(plan)), "repair?")
    if plan.used_by:
        devices = ", ".join(plan.used_by)
        lines = [f"{devices} hold packed files of entries that are to be dropped: something runs on them"]
        agree(settings, False, lines, "drop them all the same?")


def _apply(settings: Settings, plan: RepairPlan) -> Repaired:
    with line_shown(repair_text) as show:
        return run_async(apply_plan(cache_of(settings), plan, show))


def _replaces_index(plan: RepairPlan) -> bool:
    """Whether entries could not be mended yet, for want of an index that the daemon loads."""
    return any(step.kind is StepKind.REPLACE_INDEX for step in plan.made)
