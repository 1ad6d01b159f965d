"""`ocitui repair`: what would mend the cache, a question, one transaction, and the check that follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ocitui.cache import CorruptIndexError, ImageName, find_entry
from ocitui.text import counted

from ..options import (
    DEPTHS,
    FAR,
    changing,
    depth_option,
    examined,
    registries_options,
    repeatable,
    run_async,
    sources_option,
    sudo_option,
    writing_cache,
)
from ..output import TRIES, Call, Column, ExitCode, UsageProblemError, laid_out, lay_out, paragraph, say, text_width
from ..progress import doctor_text, line_shown
from ..selectors import NoSuchFindingError, complete_concern, complete_pair, fingerprints, keys_of_files

if TYPE_CHECKING:
    from ocitui.cache import ImageIndex, Transaction
    from ocitui.doctor import Assessment, Finding, JoinedEntries, Repaired, RepairOptions, RepairPlan, Report

ANY_KNOWN = "*"
"""What --adopt stands for without a value."""
_AS_TYPED = ("drop", "trash_orphans", "change_modes", "sources", "registry", "even_if_futile", "even_if_gone")


class AskedRepair(NamedTuple):
    """A repair; ``adopt`` and ``names`` are written DIGEST=NAME, ``options`` all that needs no look at the cache."""

    depth: str
    only: tuple[str, ...]
    adopt: tuple[str, ...]
    names: tuple[str, ...]
    daemon_hangs: bool
    options: RepairOptions


@click.command("repair")
@click.option("--apply", is_flag=True, help="Do it, after a question; without it the plan is only shown.")
@repeatable(
    "--only",
    metavar="CODE|ID|ENTRY",
    complete=complete_concern,
    help="Only for these findings, with the steps that are otherwise merely offered. Repeatable.",
)
@depth_option
@sources_option("Restore from here, and ask for lost names: cache:DIR, ssh://HOST[/DIR], or what import takes.")
@sudo_option
@click.option("--registry", is_flag=True, help="Restore from the registry of the entry's name, by its digest.")
@repeatable(
    "--name",
    "names",
    metavar="DIGEST=NAME",
    complete=complete_pair,
    help="The name of an entry that has none, or lost it. Repeatable.",
)
@click.option(
    "--adopt",
    metavar="[DIGEST=NAME]",
    is_flag=False,
    flag_value=ANY_KNOWN,
    multiple=True,
    shell_complete=complete_pair,
    help="Make an entry for complete files without one; alone: for all whose name a backup or the trash tells.",
)
@click.option("--trash-orphans", is_flag=True, help="Move files that no entry names to the trash.")
@click.option("--change-modes", is_flag=True, help="Make files readable and writable as their neighbours are.")
@click.option("--drop", is_flag=True, help="Drop entries whose files cannot be restored; their names go with them.")
@click.option("--even-if-futile", is_flag=True, help="Make edits of the index too that kratad will overwrite.")
@click.option("--even-if-gone", is_flag=True, help="Take bad files away too that the daemon finds, for ever or not.")
@click.option("--daemon-hangs", is_flag=True, help="Say that kratactl gets no answers; it cannot be seen from here.")
@registries_options
@changing
def repair_command(call: Call, /, *, apply: bool, sudo: bool, **typed: Any) -> ExitCode:
    """Show what would mend the cache, step by step and with what it costs; with --apply do it.

    What can be restored is restored, first from the trash, then from loop devices that still hold a file, from the
    other formats of an image, and from what --from and --registry name. Nothing is dropped, adopted or given a name
    unless an option says so. All of it is one transaction, which ocitui undo reverses; what is removed lies in the
    trash.

    After --apply the cache is checked again: exits with 0 where it is clean then, with 3 where problems remain. Without
    it exits with 0 where nothing is wrong, else with 1.
    """
    from ocitui.doctor import RepairOptions
    from ocitui.importing import SourceOptions

    from ..import_run import check_registry

    if apply:
        writing_cache(call, "repair the cache")
    is_deepest = typed["depth"] == DEPTHS[-1]
    if is_deepest:
        call.refuse_read_only("fetch layers")
    access = SourceOptions(registry=check_registry(typed, "" if is_deepest or typed["registry"] else "--registry"))
    hosts = None
    if any(text.startswith(FAR) for text in typed["sources"]):
        from ocitui.remote import SshPeers

        hosts = SshPeers(sudo=sudo)
    elif sudo:
        raise click.UsageError("--sudo is for a source that is reached over ssh")
    options = RepairOptions(access=access, hosts=hosts, **{name: typed.pop(name) for name in _AS_TYPED})
    asked = AskedRepair(options=options, **typed)
    looks = [look(call, asked)]
    transactions: list[Transaction] = []
    first = looks[0].report
    report, lines = first, _would(call, looks[0])
    if apply:
        report = _repair(call, asked, looks, transactions)
        lines = _remaining(report, again=report is not first)
    call.answer(lambda: {**_so_far(looks, transactions), **_state(report)}, lines)
    remaining = ExitCode.REMAINING if apply else ExitCode.PROBLEMS
    return remaining if report.shown() else ExitCode.CLEAN


def _repair(call: Call, asked: AskedRepair, looks: list[Looked], transactions: list[Transaction]) -> Report:
    """Carry the plan out, or a new one where it no longer holds, and one more once the index is replaced."""
    from ocitui.doctor import apply_plan

    told = partial(_so_far, looks, transactions)

    def carry_out() -> Repaired | None:
        plan = looks[-1].plan
        if not plan.made:
            return None
        call.agree(looks[-1].lines(), "repair?", told)
        call.agree_to_drop_used(plan.used_by, "drop them all the same?", told)
        with line_shown(doctor_text) as show:
            return run_async(apply_plan(call.cache(), plan, show))

    def plan_anew() -> None:
        looks[-1] = look(call, asked)

    if not looks[-1].plan.made and not call.as_json:
        say(*call.place(), *looks[-1].lines(), "there is nothing to do")
    for left in reversed(range(TRIES)):
        repaired = call.as_agreed(carry_out, plan_anew)
        if repaired is None:
            break
        transactions += repaired.transactions
        for done in () if call.as_json else repaired.transactions:
            say(f"mended; transaction {done.id}", f"ocitui undo {done.id} takes it all back")
            say(*[f"note: {done.note}"] if done.note else ())
        if looks[-1].plan.whole is None or not left:
            return repaired.report
        looked = look(call, asked, repaired.report)
        if not looked.plan.made:
            return looked.report
        looks.append(looked)
    return looks[-1].report


_ORPHANED, _NAMELESS = frozenset({"orphan-entry"}), frozenset({"name-missing", "name-not-canonical"})
_OTHERS = "ocitui check shows the findings that a name can mend"


async def _options(call: Call, asked: AskedRepair, report: Report) -> RepairOptions:
    """As the doctor takes it. Raises NoSuchFindingError, AmbiguousDigestError, InvalidNameError, UsageProblemError."""
    from msgspec.structs import replace

    from ocitui.cache import ImageIndex

    # Those that --adopt and --name may tell by their beginning.
    digests = [finding.digest for finding in report.findings if finding.digest]
    if asked.adopt or asked.names:
        digests += [digest for digest, _ in keys_of_files(call.directory)]
    index = ImageIndex.empty()
    if asked.only:
        with suppress(CorruptIndexError):
            index = await call.cache().index()
    return replace(
        asked.options,
        only=frozenset(chosen for word in asked.only for chosen in _chosen(word, report.findings, index)),
        adopt=tuple(_pair(text, "--adopt", digests) for text in asked.adopt if text != ANY_KNOWN),
        adopt_known=ANY_KNOWN in asked.adopt,
        names=tuple(_pair(text, "--name", digests) for text in asked.names),
    )


def refuse_idle(options: RepairOptions, findings: Sequence[Finding]) -> None:
    """Raises UsageProblemError for a name that no plan needs; to mend the index itself, any may be needed."""
    from ocitui.doctor import is_about_index

    if any(is_about_index(finding) for finding in findings):
        return
    for pairs, option, codes, lacks in (
        (options.adopt, "--adopt", _ORPHANED, "the index names all files of this digest"),
        (options.names, "--name", _NAMELESS, "no entry of this digest lacks a name, or has one that cannot be used"),
    ):
        known = {finding.digest for finding in findings if finding.code in codes}
        for digest, name in pairs:
            if digest not in known:
                raise UsageProblemError(f"{option} {digest}={name}: {lacks}", hint=_OTHERS)


def _chosen(word: str, findings: Sequence[Finding], index: ImageIndex) -> Sequence[str]:
    """What the doctor knows a word by: a code, fingerprints, a digest."""
    from ocitui.doctor import CATALOGUE

    if word in CATALOGUE:
        return [word]
    if found := fingerprints(word, (one.fingerprint for one in findings)):
        return found
    known = [one for one in findings if one.digest]
    digests, names = [one.digest for one in known], [one.name or None for one in known]
    # Where there is no index to tell whose a name is, the findings do.
    named = find_entry(word, index.digests, index.names, digests) if index else find_entry(word, digests, names)
    of_it = [one for one in known if named and one.digest == named.digest]
    if named and named.format:
        of_it = [one for one in of_it if one.format in ("", named.format)]
    if not (named and of_it):
        raise NoSuchFindingError(f"no finding has the id, the code, the digest or the name {word}")
    return [one.fingerprint for one in of_it] if named.format else [named.digest]


def _pair(text: str, option: str, digests: Sequence[str]) -> tuple[str, str]:
    """A digest and a name."""
    digest, equals, name = text.partition("=")
    if not (equals and digest and name):
        raise UsageProblemError(f"{option} {text!r} is not DIGEST=NAME", hint="write it as 0123456789ab=alpine:3.19")
    named = find_entry(digest, (), (), digests)
    return named.digest if named else digest, str(ImageName.parse(name))


class Looked(NamedTuple):
    """``assessment`` is None where it has no bearing on what was found."""

    report: Report
    plan: RepairPlan
    assessment: Assessment | None

    def lines(self) -> Iterator[str]:
        """All there is to know before it is done."""
        from ocitui.words import assessment_lines

        if self.assessment is not None:
            yield from laid_out(assessment_lines(self.assessment))
            yield ""
        for unchecked in self.report.coverage.unchecked:
            yield from paragraph(unchecked, "not checked: ")
        yield from _plan_lines(self.plan)


def _plan_lines(plan: RepairPlan) -> Iterator[str]:
    """What would be done, what is only offered, what stays as it is."""
    from ocitui.words import (
        OPTIONS,
        claim_lines,
        first_steps,
        grouped_left,
        left_lines,
        plan_balance,
        plan_sections,
        step_lines,
    )

    if plan.joined:
        yield from _source_lines(plan.joined)
        yield ""
    if plan.claims:
        yield from laid_out(claim_lines(plan.claims, OPTIONS, _MOST_ROWS))
        yield ""
    for title, steps in plan_sections(plan, OPTIONS):
        yield f"{title}:"
        shown, more = first_steps(steps, _MOST_STEPS)
        for step in shown:
            yield from paragraph(step.title, f"{step.number:>3} ")
            yield from laid_out(step_lines(step, OPTIONS, _MOST_FILES))
        yield from (f"    {text}; --json lists each" for text in more)
        yield ""
    if plan.left:
        yield "what stays as it is:"
    for same in grouped_left(plan, _MOST_FILES):
        yield f"  - {same[0].finding.code}" + (f"  ({counted(len(same), 'finding')})" if len(same) > 1 else "")
        yield from laid_out(left_lines(same, OPTIONS, _MOST_FILES))
        yield ""
    for note in plan.notes:
        yield from paragraph(note, "note: ")
    if plan.made:
        yield from paragraph(
            plan_balance(plan) + ("; the trash takes room until it is emptied" if plan.bytes_trashed else "")
        )


def _source_lines(entries: JoinedEntries) -> Iterator[str]:
    """A row for each entry, in the order of the new index; of many, those with something to be said of them."""
    from ocitui.words import OPTIONS, entry_remarks, shown_positions, source_cells, sources_tally, sources_title

    sources = entries.sources
    shown = [(at + 1, entries[at]) for at in shown_positions(entries, _MOST_ROWS)]
    columns = (*_FIRST_COLUMNS, *(Column(source.upper()) for source in sources), Column("TAKEN FROM"))
    rows = [[str(number), *source_cells(entry, sources)] for number, entry in shown]
    yield sources_title(entries)
    yield from (f"  {line}" for line in lay_out(columns, rows, text_width() - 2))
    if len(shown) < len(entries):
        yield f"  {counted(len(entries) - len(shown), 'more entry')}; --json has them all"
    for number, entry in shown:
        for remark in entry_remarks(entry, OPTIONS):
            yield from paragraph(remark, f"  {number:>3} ")
    yield from paragraph(sources_tally(entries), "  ")


def look(call: Call, asked: AskedRepair, checked: Report | None = None) -> Looked:
    """Check, where that was not done, and plan. Raises CacheDirectoryError, SourceError, and what `_options` does."""
    import asyncio

    from ocitui.doctor import Depth, ExamineOptions, assess, gather, plan_repair, remember_told
    from ocitui.importing import SourceError
    from ocitui.words import OPTIONS, said

    # Whether the daemon answers, the operator may say.
    answers = False if asked.daemon_hangs else None

    async def work() -> Looked:
        report = checked
        if report is None:
            allowed, wanted = asked.options, ExamineOptions(Depth(asked.depth))
            report, _ = await examined(call, wanted, show, sources=allowed.sources, access=allowed.access)
            if not call.read_only:
                remember_told(call.directory, report.findings)
        assessment = assess(await asyncio.to_thread(gather, call.directory, answers=answers, judge=report.judge))
        options = await _options(call, asked, report)
        if checked is None:
            refuse_idle(options, report.findings)
        try:
            plan = await plan_repair(call.cache(), report, options, assessment, show)
        except SourceError as error:
            error.hint = said(error.hint, OPTIONS)
            raise
        return Looked(report, plan, assessment if checked is None and assessment.bears_on(report) else None)

    with line_shown(doctor_text) as show:
        return run_async(work())


_MOST, _MOST_FILES, _MOST_ROWS, _MOST_STEPS = 10, 8, 40, 20
_FIRST_COLUMNS = (Column("", right=True), Column("NAME", shrink=True), Column("DIGEST"), Column("FORMAT"))


def _so_far(looks: Sequence[Looked], done: Sequence[Transaction]) -> dict[str, Any]:
    """What programs are told of plans and transactions."""
    from ocitui.words import assessment_json, plan_json, transaction_json

    transactions = [transaction_json(one) for one in done]
    first, *further = looks
    return {
        "assessment": assessment_json(first.assessment) if first.assessment else None,
        "plan": plan_json(first.plan),
        "further_plans": [plan_json(looked.plan) for looked in further],
        "transaction": transactions[-1] if transactions else None,
        "transactions": transactions,
    }


def _would(call: Call, looked: Looked) -> Iterator[str]:
    """All there is to say where nothing is to be done yet."""
    from ocitui.doctor import clean_text, tally

    report = looked.report
    yield from call.place()
    found = tally(report.shown()) or f"nothing wrong: {clean_text(report.depth)}"
    yield from paragraph(f"{report.coverage}; found {found}")
    if not report.verdict.sound:
        yield from paragraph(f"{report.verdict.outcome}: {report.verdict.consequence}", "index.json: ")
    yield ""
    yield from looked.lines()
    yield from paragraph(_next_step(report, looked.plan))


def _remaining(report: Report, *, again: bool) -> Iterator[str]:
    from ocitui.words import remaining_lines

    if again:
        yield "checked again:"
    yield from laid_out(remaining_lines(report, _MOST))
    if report.shown() and again:
        yield "ocitui repair shows what else can be done"


def _state(report: Report) -> dict[str, Any]:
    from ocitui.words import finding_json, summary_json

    remaining, summary = report.shown(), summary_json(report)
    return {
        "clean": not remaining,
        "depth": summary["depth"],
        "counts": summary["counts"],
        "remaining": [finding_json(finding) for finding in remaining],
        "verdict": summary["verdict"],
        "coverage": str(report.coverage),
        "unchecked": report.coverage.unchecked,
    }


def _next_step(report: Report, plan: RepairPlan) -> str:
    if plan.made:
        return "nothing was changed; the same with --apply asks, and does it"
    if plan.steps or plan.left:
        return "nothing can be done without a word from you: see above what you can do about what stays"
    return "nothing of that kind was found" if report.shown() else "there is nothing to mend"
