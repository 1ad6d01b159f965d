"""`ocitui check`: what is wrong, shown for people at its end and for programs while it runs; what is accepted of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ocitui.cache import CacheError, StorageError
from ocitui.text import human_size, human_span

from ..options import (
    DEPTHS,
    byte_size,
    depth_option,
    examined,
    noting_options,
    registries_options,
    repeatable,
    run_async,
    sources_option,
    span,
    taking,
)
from ..output import Call, ExitCode, InterruptedBySignalError, UsageProblemError, paragraph, say
from ..progress import doctor_text, line_shown
from ..selectors import (
    NoSuchFindingError,
    complete_acknowledged,
    complete_entry,
    complete_finding,
    find_keys,
    fingerprints,
)

if TYPE_CHECKING:
    from ocitui.doctor import Finding, Report
    from ocitui.importing import RegistryOptions

SEVERITIES = ("info", "low", "warning", "medium", "high", "critical")
MOST_JOBS = 64


class AskedCheck(NamedTuple):
    """A check; ``max_rate`` is in bytes a second, ``older_than`` in seconds."""

    depth: str
    sources: tuple[str, ...]
    access: RegistryOptions
    fail_on: str
    severity: str | None
    show_all: bool
    entries: tuple[str, ...]
    jobs: int
    max_rate: int | None
    older_than: float | None
    prometheus: Path | None
    acknowledge: tuple[str, ...]
    forget: tuple[str, ...]
    forget_all: bool


def rate(text: str) -> int:
    """Bytes a second, written as 50M or 50M/s. Raises BadParameter."""
    return byte_size(text.removesuffix("/s"))


@contextmanager
def _failure_measured(call: Call, path: Path | None) -> Iterator[None]:
    """Within it, whatever ends a check is told as metrics too: the last good ones would be believed for ever."""
    began = time.time()
    try:
        yield
    except Exception:
        if path is not None:
            from ocitui.doctor import prometheus_of_failure

            before = None if str(path) == "-" else path
            # What is to be told is why the check failed.
            with suppress(CacheError):
                _write_metrics(call, path, prometheus_of_failure(call.directory, began, before))
        raise


@click.command("check")
@depth_option
@sources_option("Layers: fetch them from here first, as ocitui import does.")
@repeatable(
    "--entry", "entries", metavar="ENTRY", complete=complete_entry, help="Look only at these entries, repeatable."
)
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES[1:]),
    default="low",
    show_default=True,
    help="The least severity that makes the exit status 1.",
)
@click.option("--severity", type=click.Choice(SEVERITIES), help="Show only what is at least this bad [default: low].")
@click.option("--all", "show_all", is_flag=True, help="Show everything: info, acknowledged, long lists in full.")
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, MOST_JOBS),
    default=2,
    help="Packed files read at once.",
    show_default=True,
)
@click.option("--max-rate", metavar="SIZE/s", type=rate, help="Read no faster than this, as 50M/s.")
@click.option(
    "--older-than", metavar="SPAN", type=span, help="Deep: pass over what was found sound since, as 30d or 12h."
)
@click.option(
    "--prometheus",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write metrics for node_exporter's textfile collector; - is standard output, in place of the findings.",
)
@repeatable(
    "--acknowledge",
    metavar="ID",
    complete=complete_finding,
    help="Accept a finding by the id it is shown with; it stays so until it changes. Repeatable.",
)
@repeatable("--forget", metavar="ID", complete=complete_acknowledged, help="No longer accept this finding, repeatable.")
@click.option("--forget-acknowledged", "forget_all", is_flag=True, help="No longer accept any.")
@registries_options
@taking(noting_options, far=True, asking=lambda call, typed: _failure_measured(call, typed["prometheus"]))
def check_command(call: Call, /, **typed: Any) -> int:
    """Examine the cache: say what is wrong, what the daemon does about it, and what would mend it.

    No entry is ever changed. A corrupt index.json is copied aside, a sound one is kept as a backup, and the hashes of a
    deep check are recorded, all in .ocitui; with --read-only not even that.

    Every depth also does what the ones before it do. At the depth layers those of each image are fetched, from --from,
    from where it was imported, or from the registry of its name, and the packed files are compared with what they make:
    what a packer lost or cut shows so, path by path. With --json each finding is one line, written when it is found;
    the last line is a summary.

    Exits with 0 where all is well, with 1 where something is wrong: what is only worth knowing (info) and what was
    acknowledged does not count. Exits with 4 where the cache could not be examined.
    """
    asked = AskedCheck(access=_access(call, typed), **typed)
    to_stdout = asked.prometheus is not None and str(asked.prometheus) == "-"
    if to_stdout and call.as_json:
        raise UsageProblemError("--json and --prometheus - would both write to standard output", hint="leave out one")
    call = replace(call, as_lines=call.as_json)
    return call.reported(lambda: _check(call, asked, metrics_only=to_stdout))


def _access(call: Call, typed: dict[str, Any]) -> RegistryOptions:
    """How to reach registries. Raises UsageProblemError for what only the depth ``layers`` heeds, ReadOnlyError, and
    SourceError for a source that is none."""
    from ..import_run import check_registry, sources_of_files

    is_deepest = typed["depth"] == DEPTHS[-1]
    if is_deepest:
        call.refuse_read_only("fetch layers")
        _refuse_caches(typed["sources"])
        sources_of_files(typed["sources"])
    elif typed["sources"]:
        raise UsageProblemError("--from is for --depth layers", hint="give --depth layers too")
    return check_registry(typed, "" if is_deepest else "--depth layers")


def _refuse_caches(sources: Sequence[str]) -> None:
    """Raises UsageProblemError for a source that a repair takes, and that has no layers."""
    from ocitui.doctor import is_cache

    if (other := next(filter(is_cache, sources), None)) is not None:
        hint = "name a layout or an archive; ocitui repair --from takes other caches"
        raise UsageProblemError(f"{other} is a cache, which has no layers to compare with", hint=hint)


def _check(call: Call, asked: AskedCheck, *, metrics_only: bool = False) -> ExitCode:
    from ocitui.cache import refuse_inside
    from ocitui.doctor import Severity, prometheus, remember_told
    from ocitui.words import finding_json, summary_json

    if asked.prometheus is not None and not metrics_only:
        # Before a check that may take hours.
        refuse_inside(call.directory, asked.prometheus)
    known = _take_back(call, asked)
    least = Severity(asked.severity or (Severity.INFO if asked.show_all or call.as_json else Severity.LOW))
    found: list[Finding] = []

    def tell(news: Sequence[Finding]) -> None:
        """Programs are told of findings as they are made, people at the end, in their order."""
        found.extend(news)
        for finding in news if call.as_json else ():
            if finding.severity.rank >= least.rank:
                own = [finding.fingerprint]
                accepted = own[0] in known or any(fingerprints(word, own) for word in asked.acknowledge)
                call.emit_line("finding", **finding_json(finding, acknowledged=finding.acknowledged or accepted))

    try:
        with _failure_measured(call, asked.prometheus):
            report, kept = _examine(call, asked, tell)
    except InterruptedBySignalError as error:
        shown = sorted((one for one in found if one.severity.rank >= least.rank), key=lambda one: -one.severity.rank)
        if shown and not (call.as_json or metrics_only):
            lines = _finding_lines(shown, whole=asked.show_all)
            say(*call.place(), "", *lines, "that is what was found so far")
        goes_on = "the same with --older-than 1d goes on: what was read is recorded"
        error.hint = goes_on if asked.depth in DEPTHS[2:] and not call.read_only else "no entry was changed"
        raise
    report = _acknowledge(call, asked, report, known)
    if not call.read_only:
        remember_told(call.directory, report.findings)
    failed = report.fails(Severity(asked.fail_on))
    if asked.prometheus is not None:
        _write_metrics(call, asked.prometheus, prometheus(report))
    if call.as_json:
        summary = summary_json(report)
        summary["notes"] += kept
        call.emit_line("summary", clean=not failed, **summary)
    elif not metrics_only:
        shown = report.shown(least, acknowledged=asked.show_all)
        say(*call.place(), "", *_finding_lines(shown, whole=asked.show_all))
        say(*(line for label, text in _about(report, kept) for line in paragraph(text, f"{label:<12}")))
        say(_outcome(report, shown, asked))
        if failed:
            say(f"{_repair(report, asked)} shows what would mend it; --acknowledge ID accepts a finding")
    return ExitCode.PROBLEMS if failed else ExitCode.CLEAN


def _write_metrics(call: Call, path: Path, metrics: str) -> None:
    """Print metrics, or put them into a file at once, so that a collector never reads half of them. Raises
    StorageError, ConflictError."""
    from ocitui.cache import write_outside

    if str(path) == "-":
        say(*metrics.splitlines())
    else:
        write_outside(call.directory, path, metrics, replace=True)


def _examine(
    call: Call, asked: AskedCheck, tell: Callable[[Sequence[Finding]], None]
) -> tuple[Report, tuple[str, ...]]:
    """The report, and notes on what was kept of the index; findings are told as they are made."""
    from ocitui.doctor import Depth, ExamineOptions
    from ocitui.importing import SourceOptions

    async def work() -> tuple[Report, tuple[str, ...]]:
        keys = await find_keys(call.cache(), asked.entries)
        options = ExamineOptions(Depth(asked.depth), keys, asked.jobs, asked.max_rate, asked.older_than)
        return await examined(call, options, show, tell, asked.sources, SourceOptions(registry=asked.access))

    with line_shown(doctor_text) as show:
        return run_async(work())


def _take_back(call: Call, asked: AskedCheck) -> frozenset[str]:
    """Take back what is to be; gives the ids still acknowledged. Raises what `_one` and `withdraw` do."""
    from ocitui.doctor import load_acknowledged, withdraw

    if asked.acknowledge or asked.forget or asked.forget_all:
        call.refuse_read_only("acknowledge findings")
    try:
        known = list(load_acknowledged(call.directory))
    except StorageError:
        if asked.forget:
            raise
        known = []  # the examination says so, and shows every finding
    gone = known if asked.forget_all else [_one(word, known, "acknowledged finding") for word in asked.forget]
    if gone:
        withdraw(call.directory, gone)
    return frozenset(known).difference(gone)


def _acknowledge(call: Call, asked: AskedCheck, report: Report, known: frozenset[str]) -> Report:
    """Accept what is to be, and mark all such findings. Raises what `_one` and `acknowledge` do."""
    from ocitui.doctor import acknowledge

    wanted = {_one(word, (finding.fingerprint for finding in report.findings)) for word in asked.acknowledge}
    if wanted:
        acknowledge(call.directory, [finding for finding in report.findings if finding.fingerprint in wanted])
    return report.with_acknowledged(known | wanted)


def _one(word: str, known: Iterable[str], what: str = "finding") -> str:
    """The id that begins so. Raises NoSuchFindingError, UsageProblemError."""
    found = fingerprints(word, known)
    if not found:
        raise NoSuchFindingError(f"no {what} has the id {word}", hint="ocitui check --all shows each with its id")
    return found[0]


_ITEM = "  {:<10}"
_MOST_OF_A_KIND = 10
_HOST_CODES = ("cache-read-only", "disk-full")


def _finding_lines(findings: Sequence[Finding], *, whole: bool) -> Iterator[str]:
    """Findings that are in order, those of one kind together; unless they are wanted ``whole``, long lists are cut."""
    from ocitui.doctor import by_fault, entry_text, seen_text
    from ocitui.words import SHORT_ID, findings_title, shared_lines

    for same in by_fault(findings):
        yield findings_title(same)
        shown = same if whole else same[:_MOST_OF_A_KIND]
        for finding in shown:
            marked = " (acknowledged)" if finding.acknowledged and len(same) > 1 else ""
            yield from paragraph(f"{entry_text(finding)}{marked}", _ITEM.format(finding.fingerprint[:SHORT_ID]))
            yield from paragraph(seen_text(finding), _ITEM.format(""))
        if len(shown) < len(same):
            yield _ITEM.format("") + f"and {len(same) - len(shown)} more; --all shows them"
        for line in shared_lines(same[0]):
            yield from paragraph(line.text, _ITEM.format(line.label))
        yield ""


def _about(report: Report, kept: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is told of the index, of how far it looked and of the host, each with its label."""
    from ocitui.doctor import advice

    verdict, coverage = report.verdict, report.coverage
    yield "index.json", f"{verdict.outcome}: {verdict.consequence}"
    if verdict.message:
        yield "", f"it breaks here: {verdict.place}"
    if not verdict.sound and (said := advice(report.directory, report.judge)):
        yield "", said
    cost = [f"{human_size(coverage.bytes_read)} read"] if coverage.bytes_read else []
    cost += [f"in {human_span(report.seconds)}"] if report.seconds >= 1 else []
    yield "looked at", str(coverage) + (f"; {' '.join(cost)}" if cost else "")
    yield from (("not checked", one) for one in coverage.unchecked)
    # What bears on all that could be done about the findings.
    yield from (("host", f"{one.code}: {one.seen}; {one.daemon}") for one in report.findings if one.code in _HOST_CODES)
    yield from (("note", note) for note in (*report.notes, *kept))


def _repair(report: Report, asked: AskedCheck) -> str:
    """The command that finds the same: it has to look as deep where that could not be remembered, and as far."""
    from ..import_run import sources_of_files

    forgotten = [finding for finding in report.shown() if finding.fingerprint in report.deep_only]
    if not forgotten:
        return "ocitui repair"
    ways = [f" --from {quote(text)}" for text in sources_of_files(asked.sources)]
    ways += [" --registry"] if any(" docker://" in finding.seen for finding in forgotten) else []
    return f"ocitui repair --depth {report.depth}{''.join(ways)}"


def _outcome(report: Report, shown: Sequence[Finding], asked: AskedCheck) -> str:
    """What was found, how much of it is not shown, and how that is."""
    from ocitui.doctor import clean_text, tally

    problems = report.shown()
    seen = set(shown)
    hidden = [finding for finding in report.findings if finding not in seen]
    accepted = sum(finding.acknowledged for finding in hidden)
    rest = tally(finding for finding in hidden if not finding.acknowledged)
    parts = ", ".join(filter(None, (rest, f"{accepted} acknowledged" if accepted else "")))
    how = filter(None, ("" if asked.show_all else "--all", "without --severity" if asked.severity else ""))
    clean = " with what was looked at" if asked.entries else f": {clean_text(report.depth)}"
    found = f"found       {tally(problems) or f'nothing wrong{clean}'}"
    return found + (f"; not shown: {parts} ({' '.join(how)})" if parts else "")
