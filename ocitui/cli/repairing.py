"""`ocitui repair`: a plan; with --apply a question, one transaction, and the check once more."""

from __future__ import annotations

from ocitui.cache import PlanChangedError
from ocitui.doctor.findings import Severity
from ocitui.doctor.repair.apply import Repaired, apply_plan
from ocitui.doctor.repair.plan import RepairPlan
from ocitui.doctor.report import Report

from .asking import TRIES, NotAskedError, agree, agree_to_drop_used
from .check_progress import repair_text
from .exits import ExitCode
from .options import Settings
from .output import fail, say
from .progress_line import line_shown
from .repair_looking import Looked, look, look_again
from .repair_options import AskedRepair
from .repair_output import RepairOutput
from .running import cache_of, run_async, writing_cache


def repair(settings: Settings, asked: AskedRepair, agreed: bool) -> ExitCode:
    """Show what would mend the cache; with --apply do it, as agreed to.

    Raises CacheDirectoryError, NoSuchFindingError, CancelledError, and what writing raises.
    """
    if asked.apply:
        writing_cache(settings, "repair the cache")
    output = RepairOutput(settings)
    looked = look(settings, asked)
    output.planned(looked)
    if not asked.apply:
        output.would()
        return ExitCode.PROBLEMS if looked.report.fails(Severity.LOW) else ExitCode.CLEAN
    try:
        report = _repair(settings, asked, agreed, looked, output)
    except NotAskedError as error:
        fail(settings, error.code, error.message, error.hint, **output.so_far())
        return ExitCode.USAGE
    output.done(report)
    return ExitCode.REMAINING if report.fails(Severity.LOW) else ExitCode.CLEAN


def _repair(settings: Settings, asked: AskedRepair, agreed: bool, looked: Looked, output: RepairOutput) -> Report:
    """Carry the plan out; a new one where that one no longer holds, and one more once the index is replaced."""
    tries = rounds = 0
    if not looked.plan.made:
        output.nothing_to_do()
    while looked.plan.made:
        try:
            _agree(settings, agreed, looked)
            repaired = _apply(settings, looked.plan)
        except PlanChangedError as error:
            tries += 1
            if agreed and tries == TRIES:
                raise
            say(f"{error.message}: here is what would be done now", err=True)
            looked = look(settings, asked)
            output.planned_anew(looked)
            continue
        output.made(repaired)
        rounds += 1
        if not looked.plan.brings_entries or rounds == TRIES:
            return repaired.report
        looked = look_again(settings, asked, repaired.report)
        if looked.plan.made:
            output.planned(looked)
    return looked.report


def _agree(settings: Settings, agreed: bool, looked: Looked) -> None:
    """Ask; twice before what is in use goes. Raises NotAskedError, CancelledError."""
    agree(settings, agreed, list(looked.lines()), "repair?")
    agree_to_drop_used(settings, looked.plan.used_by, "drop them all the same?")


def _apply(settings: Settings, plan: RepairPlan) -> Repaired:
    with line_shown(repair_text) as show:
        return run_async(apply_plan(cache_of(settings), plan, show))
