"""A plan of repair in rows and lines: what would be done, what is only offered, what stays as it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from ocitui.cache.files import INDEX_NAME
from ocitui.doctor.assessment import Assessment
from ocitui.doctor.assessment_texts import CASES, memory_warning
from ocitui.doctor.finding_texts import clean_text, entry_text, seen_text, short_digest, tally
from ocitui.doctor.findings import Severity
from ocitui.doctor.repair.apply import Repaired, RepairProgress
from ocitui.doctor.repair.plan import Left, RepairPlan, RepairStep
from ocitui.doctor.salvage.sources import JoinedEntry, Source, sources_shown
from ocitui.text import human_size

from .finding_lines import title, tone
from .shorten import counted, short_digests
from .widgets.lines_view import Line, heading

_MOST = 100
_KEYS = tuple(
    (re.compile(option), key)
    for option, key in (
        ("--from", "o, there s for"),
        ("--registry", "o, there registries"),
        ("--drop", "o, there drop"),
        ("--trash-orphans", "o, there trash orphans"),
        ("--adopt alone", "o, there adopt orphans"),
        ("--change-modes", "o, there change modes"),
        ("--even-if-futile", "space"),
        ("(--adopt|--name) \\S+=NAME", "n"),
    )
)
_HAS, _HAS_NOT, _BAD = "yes", "no", "bad"


def plan_title(plan: RepairPlan) -> str:
    """How many steps, and what they cost."""
    if not plan.made:
        return "nothing is to be done"
    parts = [f"{human_size(plan.bytes_placed)} come in"] if plan.bytes_placed else []
    trashed = f"{human_size(plan.bytes_trashed)} go to the trash" if plan.bytes_trashed else "nothing goes to the trash"
    return f"{counted(len(plan.made), 'step', 'steps')}, one transaction: {', '.join([*parts, trashed])}"


def plan_lines(plan: RepairPlan, host: str, assessment: Assessment | None, *, kratad_runs: bool) -> list[Line]:
    """The plan as a whole: what matters most stands first."""
    lines = [heading(f"On {host}: {plan_title(plan)}")]
    if assessment is not None and assessment.headline:
        lines.append(Line(f"{assessment.headline}.", kind="bad"))
    elif kratad_runs and any(step.change.edits_index for step in plan.made):
        lines.append(Line(f"{memory_warning('overwrite what is changed in it')}.", kind="bad"))
    if plan.used_by:
        devices = ", ".join(plan.used_by)
        lines.append(Line(f"{devices}: something runs on packed files of entries that are dropped", "in use", "bad"))
    if not plan.made:
        lines.append(Line("See below what stays, and what you can do about it; o offers more than is done by itself."))
    for step in plan.made:
        lines += [Line(), *_step_lines(step)]
    if plan.futile:
        lines += [Line(), heading("Would not last, and done only when it is marked"), Line(plan.futile[0].futile)]
        lines += [Line(short_digests(step.title), str(step.number)) for step in plan.futile]
    offered = [step for step in plan.steps if step.number not in plan.chosen and not step.futile]
    if offered:
        lines += [Line(), heading("Offered, and done only when it is marked")]
        lines += [Line(short_digests(step.title), str(step.number)) for step in offered]
    if plan.left:
        lines += [Line(), heading(f"What stays: {tally([left.finding for left in plan.left])}")]
    return [*lines, *(Line(note, "note") for note in plan.notes)]


def step_row(step: RepairStep) -> str:
    return short_digests(step.title)


def step_lines(step: RepairStep, *, chosen: bool) -> list[Line]:
    """All there is to know of one step."""
    lines = [*_step_lines(step)]
    if not chosen:
        lines.insert(1, Line("not marked: it will not be made; space marks it", "step", "bad"))
    return lines


def _step_lines(step: RepairStep) -> Iterator[Line]:
    yield heading(f"{step.number}. {short_digests(step.title)}")
    for code, group in groupby(step.findings, key=lambda finding: finding.code):
        same = list(group)
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        yield Line(f"{code}: {entry_text(same[0])}{more}", "mends")
    for file in step.files[:_MOST]:
        yield Line(f"{short_digests(file.name)}, {human_size(file.size)}, {file.fate}", "file")
    if len(step.files) > _MOST:
        yield Line(f"and {len(step.files) - _MOST} more", "file")
    if step.futile:
        yield Line(step.futile, "futile", "bad")
    if step.source:
        yield Line(short_digests(step.source), "from")
    yield Line(short_digests(step.then), "then")
    yield Line(on_screen(step.loses) or "nothing", "may lose", "bad" if step.loses else "plain")
    if step.used_by:
        yield Line(f"{', '.join(step.used_by)}: dropping it is asked twice", "in use", "bad")
    for left in step.leaves:
        yield Line(f"{left.finding.code}: {entry_text(left.finding)}: {left.why}", "leaves", "bad")


def on_screen(advice: str) -> str:
    """Advice that names options of the command line, with the keys of this screen in their place."""
    for option, key in _KEYS:
        advice = option.sub(key, advice)
    return short_digests(advice)


def left_lines(left: Sequence[Left]) -> list[Line]:
    """Findings that stay for one reason: why, and what would mend them."""
    first = left[0]
    lines = [heading(title(first.finding)), Line(first.why, "stays", "bad")]
    for one in left[:_MOST]:
        lines.append(Line(short_digests(f"{entry_text(one.finding)}: {seen_text(one.finding)}"), "found"))
        if one.would and (one.would != first.would or len(left) == 1):
            lines.append(Line(on_screen(one.would), "you can"))
    lines += [Line(f"and {len(left) - _MOST} more")] if len(left) > _MOST else []
    shared = first.would if len(left) > 1 else ""
    return [*lines, *([Line(on_screen(shared), "you can")] if shared else [])]


def grouped_left(plan: RepairPlan) -> list[tuple[Left, ...]]:
    """What stays, by code and reason; what a name would mend stands alone, as each has one of its own."""
    groups: dict[tuple[str, ...], list[Left]] = {}
    for left in plan.left:
        own = left.finding.digest if takes_name(left) else ""
        groups.setdefault((left.finding.code, left.why, own), []).append(left)
    return [tuple(group) for group in groups.values()]


def takes_name(left: Left) -> bool:
    """Whether a name from the operator would mend it."""
    return left.finding.code in ("orphan-entry", "name-missing", "name-not-canonical") and bool(left.finding.digest)


def assessment_lines(assessment: Assessment) -> list[Line]:
    """Which copy of the index is good: what that follows from, what to do in which order, what never."""
    lines = [heading(f"Which copy is good: {CASES[assessment.case]} ({assessment.confidence})")]
    lines += [Line(f"{assessment.headline}.", "do")] if assessment.headline else []
    lines += [Line(reason, "because") for reason in assessment.reasons]
    if assessment.commands:
        lines += [Line(), heading("In this order")]
    for number, command in enumerate(assessment.commands, 1):
        if command.text:
            lines += [Line(command.text, f"{number}.", "good"), Line(command.purpose, " ")]
        else:
            lines.append(Line(command.purpose, f"{number}."))
    return [*lines, *(Line(thing, "beware", "bad") for thing in assessment.never)]


def sources_title(entries: Sequence[JoinedEntry]) -> str:
    named = sum(entry.name is not None for entry in entries)
    return f"What {INDEX_NAME} held: {counted(len(entries), 'entry', 'entries')}, {named} with a name"


def sources_lines(entries: Sequence[JoinedEntry], width: int) -> list[Line]:
    """The sources side by side, an entry a line in the order of the new index, and remarks below."""
    counts = Counter(source for entry in entries for source in entry.sources)
    sources = sources_shown(entries)
    told = ", ".join(f"{source} {counts[source]}" for source in sources)
    titles = " ".join(source.capitalize() for source in sources)
    room = max(width - len(titles) - 37, 16)
    top = f"{'Name':{room}} {'Digest':12} {'Format':8} {titles} From"
    lines = [heading(sources_title(entries)), Line(f"told of by: {told}"), Line(), heading(top)]
    for entry in entries:
        lost = entry.name is None or (entry.descriptor is None and not entry.removed_by)
        lines.append(Line(_source_row(entry, room, sources), kind="bad" if lost else "plain"))
    remarks = [Line(text, entry_word(entry), "bad") for entry in entries for text in joined_remarks(entry)]
    return [*lines, *([Line(), heading("To be known of them"), *remarks] if remarks else [])]


def _source_row(entry: JoinedEntry, room: int, sources: Sequence[Source]) -> str:
    name = entry.name or "(lost)"
    if len(name) > room:
        name = f"…{name[len(name) - room + 1 :]}"
    cells = {source: _HAS if source in entry.sources else _HAS_NOT for source in Source}
    if entry.problems and Source.FILES in entry.sources:
        cells[Source.FILES] = _BAD
    taken = str(entry.taken_from) if entry.taken_from else "-"
    told = " ".join(f"{cells[source]:{len(source)}}" for source in sources)
    return f"{name:{room}} {short_digest(entry.digest):12} {entry.format or 'none':8} {told} {taken}"


def joined_remarks(entry: JoinedEntry) -> list[str]:
    """What is wrong with an entry, what is told differently, and what may help to name it."""
    remarks = [
        f"{fact.what}: " + ", but ".join(f"the {source} says {value}" for source, value in fact.told)
        for fact in entry.conflicts
    ]
    remarks += [f"files: {problem}" for problem in entry.problems]
    if entry.removed_by:
        remarks.append(f"taken out on purpose by transaction {entry.removed_by}, and stays so; undo brings it back")
    if entry.name is None:
        hints = ", ".join(f"{hint.text!r} ({hint.source})" for hint in entry.hints)
        remarks.append("no source tells its name; n gives it one" + (f"; perhaps {hints}" if hints else ""))
    return remarks


def entry_word(entry: JoinedEntry) -> str:
    return f"{short_digest(entry.digest)} {entry.format or ''}".rstrip()


def joined_lines(entry: JoinedEntry) -> list[Line]:
    """All that is known of an entry whose name is lost."""
    lines = [heading(f"The name of {entry_word(entry)} is lost"), Line(entry.digest, "digest")]
    lines += [Line(f"{source}: {value}", fact.what) for fact in entry.facts for source, value in fact.told]
    return [*lines, *(Line(text, "remark", "bad") for text in joined_remarks(entry))]


def repaired_lines(repaired: Repaired) -> list[Line]:
    """What was done, and what the check found afterwards."""
    lines: list[Line] = []
    for done in repaired.transactions:
        lines += [heading(f"Mended in transaction {done.id}"), Line("u on the first screen takes it all back", "undo")]
        lines += [Line(done.note, "note")] if done.note else []
    report = repaired.report
    lines += [Line(), heading("Checked again"), Line(str(report.coverage), "looked at")]
    remaining = report.shown(Severity.LOW)
    if not remaining:
        return [*lines, Line(clean_text(report.depth), "found", "good")]
    lines.append(Line(tally(remaining), "remains", "bad"))
    lines += [
        Line(short_digests(f"{entry_text(one)}: {seen_text(one)}"), one.code, tone(one)) for one in remaining[:_MOST]
    ]
    return lines


def progress_line(now: RepairProgress) -> str:
    """As ``fetching cf8cb0583e76….squashfs  12M of 40M``."""
    done = f"{human_size(now.done)} of {human_size(now.total)}" if now.total else human_size(now.done)
    return short_digests(now.doing) + (f"  {done}" if now.done or now.total else "")
