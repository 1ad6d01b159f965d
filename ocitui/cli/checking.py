"""`ocitui check`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from ocitui.cache import CacheError
from ocitui.doctor.check.examine import ExamineOptions, examining
from ocitui.doctor.check.history import keep_index
from ocitui.doctor.check.pacing import Progress
from ocitui.doctor.findings import Depth, Finding, Severity
from ocitui.doctor.prometheus import refuse_inside, write_prometheus
from ocitui.doctor.report import Report

from .acknowledging import Acceptance
from .check_output import CheckOutput, JsonOutput, Kept, MetricsOutput, TextOutput
from .check_progress import progress_text
from .doctor_options import AskedCheck
from .entry_words import find_keys
from .exits import ExitCode
from .failures import InterruptedBySignalError, UsageProblemError, status_of
from .json_lines import JsonLines
from .options import Settings
from .progress_line import line_shown
from .running import cache_of, run_async

_GOES_ON = "the same with --older-than 1d goes on: what was read is recorded"


def check(settings: Settings, asked: AskedCheck) -> int:
    """Examine the cache and say what is wrong with it.

    Raises CacheDirectoryError, NoSuchEntryError, NoSuchFindingError, InterruptedBySignalError and others; with --json
    they are a line like the rest.
    """
    to_stdout = asked.prometheus is not None and str(asked.prometheus) == "-"
    if to_stdout and settings.as_json:
        raise UsageProblemError("--json and --prometheus - would both write to standard output", hint="leave out one")
    if not settings.as_json:
        return _check(settings, asked, metrics_only=to_stdout)
    try:
        return _check(settings, asked)
    except CacheError as error:
        JsonLines(settings).fail(error.code, error.message, error.hint)
        return status_of(error)
    except InterruptedBySignalError as error:
        JsonLines(settings).fail("interrupted", error.message, error.hint)
        return 128 + error.number


def _check(settings: Settings, asked: AskedCheck, *, metrics_only: bool = False) -> ExitCode:
    if asked.prometheus is not None and not metrics_only:
        # Before a check that may take hours.
        refuse_inside(settings.directory, asked.prometheus)
    acceptance = Acceptance.begin(settings, asked)
    output: CheckOutput = MetricsOutput() if metrics_only else TextOutput(settings, asked)
    if settings.as_json:
        output = JsonOutput(settings, asked, acceptance.accepts)
    report, kept = _examine(settings, asked, output)
    report = acceptance.end(report)
    if asked.prometheus is not None and not metrics_only:
        write_prometheus(report, asked.prometheus)
    failed = report.fails(Severity(asked.fail_on))
    output.done(report, kept, failed=failed)
    return ExitCode.PROBLEMS if failed else ExitCode.CLEAN


def examine_options(settings: Settings, asked: AskedCheck) -> ExamineOptions:
    """What is asked for, as the doctor takes it; the entries are not among it."""
    options = ExamineOptions(
        Depth(asked.depth),
        max_rate=asked.max_rate,
        older_than=asked.older_than,
        ledger_writes=not settings.read_only,
    )
    return options if asked.jobs is None else replace(options, jobs=asked.jobs)


async def keep_index_aside(settings: Settings) -> Kept:
    """Copy a corrupt index aside, or keep a backup of a sound one, in a thread, unless nothing may be written."""
    note = "" if settings.read_only else await asyncio.to_thread(keep_index, settings.directory)
    return Kept((note,) if note else ())


def _examine(settings: Settings, asked: AskedCheck, output: CheckOutput) -> tuple[Report, Kept]:
    found: list[Finding] = []

    async def work() -> tuple[Report, Kept]:
        keys = await find_keys(cache_of(settings), asked.entries)
        # Corrupt bytes are kept at once: a daemon that starts meanwhile overwrites them.
        options = replace(examine_options(settings, asked), keys=keys)
        return await asyncio.gather(
            _follow(settings, options, output, found, show),
            keep_index_aside(settings),
        )

    try:
        with line_shown(progress_text) as show:
            return run_async(work())
    except InterruptedBySignalError as error:
        output.stopped(found)
        hint = _GOES_ON if asked.depth == Depth.DEEP and not settings.read_only else "no entry was changed"
        raise InterruptedBySignalError(error.number, error.name, hint=hint) from None


async def _follow(
    settings: Settings,
    options: ExamineOptions,
    output: CheckOutput,
    found: list[Finding],
    show: Callable[[Progress], None],
) -> Report:
    """The report; what comes before it is shown as it comes, and gathered in ``found``."""
    async with aclosing(examining(settings.directory, options)) as stream:
        async for news in stream:
            if isinstance(news, Report):
                return news
            if isinstance(news, Progress):
                show(news)
            else:
                found += news
                output.found(news)
    raise AssertionError("the stream ends with the report")
