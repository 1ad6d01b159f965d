"""`ocitui check`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from ocitui.cache import keep_backup, keep_corrupt
from ocitui.doctor.examine import ExamineOptions, examining
from ocitui.doctor.files import CacheFiles
from ocitui.doctor.findings import Depth, Finding, Severity
from ocitui.doctor.index_reading import read_index
from ocitui.doctor.pacing import Progress
from ocitui.doctor.report import Report

from .check_output import CheckOutput, JsonOutput, Kept, TextOutput
from .check_progress import progress_text
from .doctor_options import AskedCheck
from .entry_words import find_keys
from .exits import ExitCode
from .failures import InterruptedBySignalError
from .options import Settings
from .progress_line import line_shown
from .running import cache_of, run_async


def check(settings: Settings, asked: AskedCheck) -> ExitCode:
    """Examine the cache and say what is wrong with it.

    Raises CacheDirectoryError, NoSuchEntryError, AmbiguousDigestError, InterruptedBySignalError.
    """
    output = JsonOutput(settings, asked, ()) if settings.as_json else TextOutput(settings, asked)
    report, kept = _examine(settings, asked, output)
    failed = report.fails(Severity(asked.fail_on))
    output.done(report, kept, failed=failed)
    return ExitCode.PROBLEMS if failed else ExitCode.CLEAN


def examine_options(asked: AskedCheck) -> ExamineOptions:
    """What is asked for, as the doctor takes it; the entries are not among it."""
    options = ExamineOptions(Depth(asked.depth), max_rate=asked.max_rate, older_than=asked.older_than)
    return options if asked.jobs is None else replace(options, jobs=asked.jobs)


def keep_index(directory: Path) -> Kept:
    """Copy a corrupt index aside, or keep a backup of a sound one; where that cannot be done nothing is kept."""
    with CacheFiles(directory) as files:
        reading = read_index(files)
    if reading.index is not None:
        keep_backup(directory, reading.index)
    elif reading.data is not None and (copy := keep_corrupt(directory, reading.data)) is not None:
        return Kept((f"the bytes of index.json are copied aside, as .ocitui/corrupt/{copy.name}",))
    return Kept()


def _examine(settings: Settings, asked: AskedCheck, output: CheckOutput) -> tuple[Report, Kept]:
    found: list[Finding] = []

    async def work() -> tuple[Report, Kept]:
        keys = await find_keys(cache_of(settings), asked.entries)
        # Corrupt bytes are kept at once: a daemon that starts meanwhile overwrites them.
        keeping = None if settings.read_only else asyncio.create_task(asyncio.to_thread(keep_index, settings.directory))
        report = await _follow(settings, replace(examine_options(asked), keys=keys), output, found, show)
        return report, Kept() if keeping is None else await keeping

    try:
        with line_shown(progress_text) as show:
            return run_async(work())
    except InterruptedBySignalError:
        output.stopped(found)
        raise


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
