"""Findings in lines: one, all of a kind, and none; and the plan of what mends them: its steps, what stays, the sources
of a lost index, which copy of it is good. And all of that as programs read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from ocitui.cache import INDEX_NAME, FileKind
from ocitui.doctor import (
    LAYER_FAULTS,
    Case,
    Finding,
    Severity,
    StepKind,
    Way,
    clean_text,
    entry_text,
    seen_text,
    tally,
)
from ocitui.text import counted, first_of, human_size, human_span, short_digest

from .lines import OPTIONS, CommandLine, Kind, Line, Ways, capital, first_lines, heading, said, with_text

if TYPE_CHECKING:
    from ocitui.doctor import (
        Assessment,
        Coverage,
        IndexSource,
        JoinedEntries,
        JoinedEntry,
        Left,
        PeerName,
        Progress,
        RepairPlan,
        RepairProgress,
        RepairStep,
        Report,
    )

SHORT_ID = 8
"""How many digits of a fingerprint are shown; as many are enough to name it."""
_MOST_OF_A_KIND = 200
_GAP = "  "


def entry_problem_lines(findings: Sequence[Finding] | None) -> list[Line]:
    """What is wrong with one entry, the worst first; None where nobody looked yet."""
    if findings is None:
        return [Line("not looked into yet", kind="muted")]
    if not findings:
        return [Line("no problem is known; p checks deeper", kind="good")]
    lines: list[Line] = []
    for finding in sorted(findings, key=lambda one: -one.severity.rank):
        lines += [*([Line()] if lines else []), heading(findings_title([finding])), *_seen_lines(finding)]
    return lines


def findings_title(same: Sequence[Finding]) -> str:
    """The severity and the code of findings of a kind, how many there are, and whether a single one is acknowledged."""
    first = same[0]
    many = f"  ({counted(len(same), 'finding')})" if len(same) > 1 else ""
    accepted = "  (acknowledged)" if len(same) == 1 and first.acknowledged else ""
    return f"{first.severity.upper()}  {first.code}{many}{accepted}"


def finding_tone(finding: Finding) -> Kind:
    """How it is coloured."""
    if finding.acknowledged or finding.severity is Severity.INFO:
        return "muted"
    if finding.severity.rank >= Severity.HIGH.rank:
        return "bad"
    return "warn" if finding.severity.rank >= Severity.WARNING.rank else "plain"


def text_of(finding: Finding) -> str:
    """What it is about, and what was seen there."""
    return f"{entry_text(finding)}: {seen_text(finding)}"


def shared_lines(finding: Finding) -> Iterator[Line]:
    """What all findings of its kind have in common: what the daemon does, what mends it, what that could lose."""
    fault = finding.fault
    yield Line(fault.daemon, "daemon")
    yield from with_text(Line(fault.mend, "mend" if fault.step else "by hand"), Line(fault.loses, "may lose", "bad"))


def _seen_lines(finding: Finding) -> list[Line]:
    return [Line(seen_text(finding), "seen", finding_tone(finding)), *shared_lines(finding)]


def finding_lines(finding: Finding) -> list[Line]:
    """All there is to say of one."""
    lines = [heading(findings_title([finding])), Line(entry_text(finding), "about"), *_seen_lines(finding)]
    lines += with_text(Line(finding.digest, "digest"), Line(finding.file, "file"))
    return [*lines, Line(finding.fingerprint, "id", "muted")]


def kind_lines(findings: Sequence[Finding]) -> list[Line]:
    """What is common to findings of one kind, and a line for each of the first."""
    single = (Line(text_of(one), kind=finding_tone(one)) for one in findings)
    lines = [heading(findings_title(findings)), *shared_lines(findings[0]), Line()]
    return [*lines, *first_lines(single, len(findings), _MOST_OF_A_KIND)]


def single_lines(findings: Sequence[Finding], most: int = _MOST_OF_A_KIND) -> Iterator[Line]:
    """A line for each of the first, which may be of several kinds."""
    single = (Line(f"{one.code}: {text_of(one)}", one.fingerprint[:SHORT_ID], finding_tone(one)) for one in findings)
    return first_lines(single, len(findings), most)


def no_finding_lines(coverage: Coverage, trouble: str, unread: int, *, looking: bool) -> list[Line]:
    """Where there is no finding to speak of: what was looked at, and what was not; ``trouble`` is what the screen says
    of the index or the directory all the same, ``unread`` how many packed files no deep check has read."""
    if looking:
        return [Line("looking", kind="muted")]
    lines = [Line(trouble, "found", "bad") if trouble else Line("nothing wrong was found", "found", "good")]
    lines.append(Line(str(coverage), "looked at"))
    if unread:
        lines.append(Line("a deep check looks further: 3 reads every byte", "not checked"))
    return [*lines, *_unchecked_lines(coverage)]


def _unchecked_lines(coverage: Coverage) -> list[Line]:
    return [Line(text, "not checked") for text in coverage.unchecked]


def remaining_lines(report: Report, most: int) -> list[Line]:
    """What a check found after a repair."""
    lines = [Line(str(report.coverage), "looked at"), *_unchecked_lines(report.coverage)]
    remaining = report.shown()
    if not remaining:
        return [*lines, Line(clean_text(report.depth), "found", "good")]
    return [*lines, Line(tally(remaining), "remains", "bad"), *single_lines(remaining, most)]


def check_progress(now: Progress | None) -> str:
    """How far a check is, as ``deep  12 of 40  1.2G of 3.4G  450M/s  5s left``."""
    if now is None:
        return "reading index and directory"
    entries = f"{now.entries} of {now.entries_total}" if now.entries_total else ""
    done = f"{human_size(now.bytes)} of {human_size(now.bytes_total)}" if now.bytes_total else ""
    rate = (f"{human_size(round(now.rate))}/s" if now.bytes_total else f"{now.rate:.0f}/s") if now.rate else ""
    left = "" if now.seconds_left is None else f"{human_span(now.seconds_left)} left"
    return _GAP.join(part for part in (now.phase, entries, done, rate, left) if part)


def repair_progress(now: RepairProgress) -> str:
    """As ``fetching cf8cb0583e76….squashfs  12M of 40M``; the digest is whole."""
    done = f"{human_size(now.done)} of {human_size(now.total)}" if now.total else human_size(now.done)
    return now.doing + (f"{_GAP}{done}" if now.done or now.total else "")


_MOST_IDS = 4
_GOOD_COPY = {
    Case.IN_STEP: "nothing speaks against the index on disk",
    Case.MEMORY_GOOD: "the daemon's memory is good, the disk is not",
    Case.MEMORY_EMPTIED: "the daemon's memory has lost it too",
    Case.HUNG: "the daemon answers no more",
    Case.STOPPED: "only the one on disk, as the daemon does not run",
}
_ACTS = {
    StepKind.REPLACE_INDEX: ("Rewrite index.json", ""),
    StepKind.ADD_ENTRIES: ("Put entries back", ""),
    StepKind.REDO: ("Make {} again that kratad undid", "edit"),
    StepKind.EDIT_DESCRIPTOR: ("Put name or format of {} right", "entry"),
    StepKind.DROP_ENTRY: ("Take {} out of the index", "entry"),
    StepKind.ADOPT: ("Adopt images that no entry names", ""),
    StepKind.TRASH_ORPHAN: ("Trash {} that no entry names", "file"),
    StepKind.CHANGE_MODE: ("Let their owner read {}", "file"),
    StepKind.CLEAN_UP: ("Clean up what writers left half done", ""),
}


def first_acts(findings: Iterable[Finding], source: Callable[[Finding], str]) -> Iterator[tuple[str, list[Finding]]]:
    """What to do about findings that are in order, in a line for those of a severity for which it is the same: what,
    from where, and what that may lose. ``source`` says where a copy of a file lies; empty where none is known."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for one in findings:
        if one.fault.step or one.fault.mend:
            groups.setdefault((one.severity, *_act(one, source)), []).append(one)
    for (_, act, what), same in groups.items():
        loses = next((one.fault.loses for one in same if one.fault.loses), "")
        end = f"; may lose {loses}" if loses else "; nothing is lost" if same[0].fault.step else ""
        yield act.format(counted(len(same), what)) + end, same


def _act(finding: Finding, source: Callable[[Finding], str]) -> tuple[str, str]:
    """What is done, and of what that says how many."""
    step = finding.fault.step
    if step is not StepKind.RESTORE_FILE:
        return _ACTS[step] if step else (capital(finding.fault.mend), "")
    if finding.code in LAYER_FAULTS:
        return "Pack the layers of {} anew", "packed file"
    # What somebody may have written on purpose stands alone.
    what = "changed file" if finding.code == "packed-changed" else str(finding.kind or "file")
    what = "packed file" if what == FileKind.PACKED else what
    return (f"Restore {{}} from {where}" if (where := source(finding)) else "Look for copies of {}"), what


def plan_balance(plan: RepairPlan) -> str:
    """How many steps, and what they cost in bytes."""
    if not plan.made:
        return "nothing is to be done"
    parts = [f"{human_size(plan.bytes_placed)} come in"] if plan.bytes_placed else []
    trashes = any(step.trashed for step in plan.made)
    parts.append(f"{human_size(plan.bytes_trashed)} go to the trash" if trashes else "nothing goes to the trash")
    return f"{counted(len(plan.made), 'step')}, one transaction: {', '.join(parts)}"


def plan_sections(plan: RepairPlan, ways: Ways) -> Iterator[tuple[str, Sequence[RepairStep]]]:
    """The steps by what becomes of them: a title, and the steps."""
    if plan.made:
        yield "what is to be done", plan.made
    offered = [step for step in plan.steps if step.number not in plan.chosen and not step.futile]
    if offered:
        yield f"offered, and done only when {ways[Way.CHOOSE]}", offered
    if plan.futile:
        yield f"would not last, and done only {ways[Way.CHOOSE_FUTILE]}", plan.futile


def first_steps(steps: Sequence[RepairStep], most: int) -> tuple[list[RepairStep], list[str]]:
    """Of steps the first of each kind, and how many more there are of which kind."""
    counts = Counter[str]()
    shown: list[RepairStep] = []
    for step in steps:
        counts[step.kind] += 1
        if counts[step.kind] <= most:
            shown.append(step)
    return shown, [f"and {count - most} more of the kind {kind}" for kind, count in counts.items() if count > most]


def step_lines(step: RepairStep, ways: Ways, most_files: int) -> Iterator[Line]:
    """All there is to know of one step, beneath its title."""
    for code, group in groupby(step.findings, key=lambda finding: finding.code):
        yield Line(f"{code}  {_named(list(group))}", "mends")
    files = (Line(f"{file.name}, {human_size(file.size)}, {file.fate}", "file") for file in step.files)
    yield from first_lines(files, len(step.files), most_files, "file")
    yield from with_text(Line(step.futile, "futile", "bad"), Line(step.source, "from"))
    yield Line(step.then, "then")
    yield Line(said(step.loses, ways) or "nothing", "may lose", "bad" if step.loses else "plain")
    if step.used_by:
        yield Line(f"{first_of(step.used_by)}: dropping it is asked twice", "in use", "bad")
    stay = (Line(f"{one.finding.code}: {entry_text(one.finding)}: {one.why}", "leaves", "bad") for one in step.leaves)
    yield from first_lines(stay, len(step.leaves), most_files, "leaves")


def _named(same: Sequence[Finding]) -> str:
    """The ids of a few of these findings, and the entry of a single one."""
    ids = " ".join(finding.fingerprint[:SHORT_ID] for finding in same[:_MOST_IDS])
    more = f" and {len(same) - _MOST_IDS} more" if len(same) > _MOST_IDS else ""
    return f"{ids}  {entry_text(same[0])}" if len(same) == 1 and same[0].digest else f"{ids}{more}"


def grouped_left(plan: RepairPlan, most: int) -> list[tuple[Left, ...]]:
    """What stays, by code and reason; up to ``most`` that names would mend stand alone, as each has its own."""
    groups: dict[tuple[str, ...], list[Left]] = {}
    counts = Counter((one.finding.code, one.why) for one in plan.left)
    for one in plan.left:
        code, why = one.finding.code, one.why
        own = one.finding.digest if counts[code, why] <= most and takes_name(one) else ""
        groups.setdefault((code, why, own), []).append(one)
    return [tuple(group) for group in groups.values()]


def takes_name(left: Left) -> bool:
    """Whether a name from the operator would mend it."""
    return left.finding.code in ("orphan-entry", "name-missing", "name-not-canonical") and bool(left.finding.digest)


def left_lines(left: Sequence[Left], ways: Ways, most: int) -> Iterator[Line]:
    """Findings that stay for one reason: which, why, and what would mend them; for all at once where it is the same."""
    shared = len({one.would for one in left}) == 1
    yield Line(left[0].why, "stays", "bad")
    for one in left[:most]:
        yield Line(text_of(one.finding), one.finding.fingerprint[:SHORT_ID])
        if one.would and not shared:
            yield Line(advice(one, ways), "you can")
    if len(left) > most:
        yield Line(f"and {len(left) - most} more")
    if shared and left[0].would:
        yield Line(said(left[0].would, ways) if len(left) > 1 else advice(left[0], ways), "you can")


def advice(left: Left, ways: Ways) -> str:
    """What the operator can do about a finding that stays."""
    return said(left.would, ways, short_digest(left.finding.digest))


def assessment_lines(assessment: Assessment) -> list[Line]:
    """Which copy of the index is good: what that follows from, what to do in which order, what never."""
    lines = [heading(f"Which copy is good: {_GOOD_COPY[assessment.case]} ({assessment.confidence})")]
    lines += [Line(f"{capital(assessment.headline)}.", "do")] if assessment.headline else []
    lines += [Line(reason, "because") for reason in assessment.reasons]
    if assessment.commands:
        lines += [Line(), heading("In this order")]
    for number, command in enumerate(assessment.commands, 1):
        if command.text:
            lines += [CommandLine(command.text, f"{number}.", "good"), Line(command.purpose, " ")]
        else:
            lines.append(Line(command.purpose, f"{number}."))
    return [*lines, *(Line(thing, "beware", "bad") for thing in assessment.never)]


def sources_title(entries: JoinedEntries) -> str:
    return f"What {INDEX_NAME} held: {counted(len(entries), 'entry')}, {entries.with_names} with a name"


def sources_tally(entries: JoinedEntries) -> str:
    """How many entries each source tells of."""
    return f"told of by: {', '.join(f'{source} {entries.counts[source]}' for source in entries.sources)}"


def shown_positions(entries: JoinedEntries, most: int) -> list[int]:
    """The positions of entries to put side by side: of all, and of many those with something to be said of them."""
    if len(entries) <= most:
        return list(range(len(entries)))
    positions = list(islice(entries.bad(), most))
    # Only where few say at once that something is wrong it is looked for what is told differently.
    return positions if len(positions) == most else list(islice(entries.bad(or_odd=True), most))


def source_cells(entry: JoinedEntry, sources: Sequence[IndexSource]) -> list[str]:
    """An entry in a row: its name, digest and format, whether each source has it, and where it is taken from."""
    # Loaded where there is such an entry; a check needs nothing of it.
    from ocitui.doctor import IndexSource

    cells = ["yes" if source in entry.sources else "no" for source in sources]
    if entry.problems and IndexSource.FILES in entry.sources:
        cells[sources.index(IndexSource.FILES)] = "bad"
    name, format_, taken_from = entry.name or "(lost)", entry.format or "none", str(entry.taken_from or "left out")
    return [name, short_digest(entry.digest), format_, *cells, taken_from]


CLAIMS_TITLE = "What other caches call images whose name is lost here"


def claim_lines(claims: Sequence[PeerName], ways: Ways, most: int) -> Iterator[Line]:
    """Each name with the image it stands for, who says so, and what is here of that; how to choose what is left out."""
    yield heading(CLAIMS_TITLE)
    for one in claims[:most]:
        here = f"here: {', '.join(one.here)}" if one.here else "nothing of it is here"
        text = f"{one.name} is {short_digest(one.digest)} for {', '.join(one.by)}; {here}"
        yield Line(f"{text}; {one.why_not}", "left out", "bad") if one.why_not else Line(text, "taken")
    if len(claims) > most:
        yield Line(f"and {len(claims) - most} more")
    if digest := next((one.digest for one in claims if one.why_not and one.here), ""):
        yield Line(f"{said(Way.NAME, ways, short_digest(digest))}: how many say so decides nothing", "you can")


def entry_remarks(entry: JoinedEntry, ways: Ways) -> list[str]:
    """What is wrong with an entry, what is told differently, and what may help to name it."""
    told = [
        f"{fact.what}: " + ", but ".join(f"the {source} says {value}" for source, value in fact.told)
        for fact in entry.conflicts
    ]
    told += [f"files: {problem}" for problem in entry.problems]
    if entry.removed_by:
        told.append(f"taken out on purpose by transaction {entry.removed_by}, and stays so; undo brings it back")
    if entry.name is None:
        hints = ", ".join(f"{hint.text!r} ({hint.source})" for hint in entry.hints)
        name = said(Way.NAME, ways, short_digest(entry.digest))
        told.append(f"no source tells its name; {name} gives it one" + (f"; perhaps {hints}" if hints else ""))
    return told


def entry_word(entry: JoinedEntry) -> str:
    return f"{short_digest(entry.digest)} {entry.format or ''}".rstrip()


def joined_lines(entry: JoinedEntry, ways: Ways) -> list[Line]:
    """All that is known of an entry whose name is lost."""
    lines = [heading(f"The name of {entry_word(entry)} is lost"), Line(entry.digest, "digest")]
    lines += [Line(f"{source}: {value}", fact.what) for fact in entry.facts for source, value in fact.told]
    return [*lines, *(Line(text, "remark", "bad") for text in entry_remarks(entry, ways))]


def finding_json(finding: Finding, *, acknowledged: bool | None = None) -> dict[str, Any]:
    """A finding. ``entry`` is null where it is of none, ``answer`` what the daemon does in one word, ``found`` when a
    deep check found what is remembered of it, in seconds since the epoch, else null."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "entry": _entry_json(finding),
        "file": finding.file or None,
        "kind": finding.kind.value if finding.kind else None,
        "seen": finding.seen,
        "answer": finding.answer.value,
        "daemon": finding.daemon,
        "mend": finding.fault.mend or None,
        "loses": finding.fault.loses or None,
        "fingerprint": finding.fingerprint,
        "acknowledged": finding.acknowledged if acknowledged is None else acknowledged,
        "found": finding.found,
    }


def _entry_json(finding: Finding) -> dict[str, Any] | None:
    if not (finding.digest or finding.name or finding.position is not None):
        return None
    return {
        "name": finding.name or None,
        "digest": finding.digest or None,
        "format": str(finding.format) or None,
        "position": finding.position,
    }


def summary_json(report: Report) -> dict[str, Any]:
    """A report without its findings; how many there are of each severity and code leaves out the acknowledged ones."""
    found = report.shown(Severity.INFO)
    severities = Counter(finding.severity for finding in found)
    return {
        "depth": report.depth.value,
        "coverage": asdict(report.coverage) | {"text": str(report.coverage)},
        "counts": {
            "severity": {severity.value: severities[severity] for severity in reversed(Severity)},
            "code": dict(sorted(Counter(finding.code for finding in found).items())),
        },
        "acknowledged": sum(finding.acknowledged for finding in report.findings),
        "worst": report.worst.value if report.worst else None,
        "verdict": report.verdict._asdict(),
        "entries": report.entries,
        "packed_bytes": report.packed_bytes,
        "started": report.started,
        "seconds": round(report.seconds, 3),
        "notes": list(report.notes),
    }


def plan_json(plan: RepairPlan) -> dict[str, Any]:
    """A plan; of a step that is not ``chosen`` nothing is done."""
    return {
        "steps": [_step_json(step, step.number in plan.chosen) for step in plan.steps],
        "left": [
            {"finding": finding_json(left.finding), "why": left.why, "would": advice(left, OPTIONS) or None}
            for left in plan.left
        ],
        "sources": [_joined_json(entry) for entry in plan.joined],
        "claims": [asdict(claim) for claim in plan.claims],
        "notes": list(plan.notes),
        "bytes_trashed": plan.bytes_trashed,
        "bytes_placed": plan.bytes_placed,
        "used_by": list(plan.used_by),
        "depth": plan.depth.value,
    }


def _step_json(step: RepairStep, chosen: bool) -> dict[str, Any]:
    return {
        "number": step.number,
        "kind": step.kind.value,
        "title": step.title,
        "chosen": chosen,
        "findings": [{"code": finding.code, "fingerprint": finding.fingerprint} for finding in step.findings],
        "files": [{"name": file.name, "fate": file.fate.name.lower(), "size": file.size} for file in step.files],
        "bytes_trashed": step.bytes_trashed,
        "bytes_placed": step.bytes_placed,
        "source": step.source or None,
        "then": step.then,
        "loses": said(step.loses, OPTIONS) or None,
        "futile": step.futile or None,
        "used_by": list(step.used_by),
    }


def _joined_json(entry: JoinedEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "digest": entry.digest,
        "format": entry.format,
        "sources": [source.value for source in entry.sources],
        "taken_from": entry.taken_from.value if entry.taken_from else None,
        "descriptor": entry.descriptor.as_dict() if entry.descriptor else None,
        "facts": {fact.what: {source.value: value for source, value in fact.told} for fact in entry.facts},
        "conflicts": [fact.what for fact in entry.conflicts],
        "lost": list(entry.lost),
        "problems": list(entry.problems),
        "removed_by": entry.removed_by or None,
        "hints": [{"text": hint.text, "source": hint.source} for hint in entry.hints],
    }


def assessment_json(assessment: Assessment) -> dict[str, Any]:
    """An assessment as programs read it."""
    return {
        "case": assessment.case.value,
        "confidence": assessment.confidence.value,
        "headline": assessment.headline or None,
        "reasons": list(assessment.reasons),
        "commands": [asdict(command) for command in assessment.commands],
        "never": list(assessment.never),
    }
