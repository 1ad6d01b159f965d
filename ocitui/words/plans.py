"""Plans in lines. Of a delete: what leaves, goes and stays; of pointing a name. Of a repair: its steps, what stays, the
sources of a lost index, which copy of it is good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ocitui.cache.files import INDEX_NAME
from ocitui.cache.records import some_of
from ocitui.doctor.assessment import Assessment, Case
from ocitui.doctor.findings import Finding, Way, entry_text
from ocitui.doctor.repair.plan import RepairPlan
from ocitui.doctor.repair.steps import Left, RepairStep
from ocitui.doctor.salvage.sources import IndexSource, JoinedEntries, JoinedEntry, sources_shown
from ocitui.text import counted, human_size, short_digest, short_digests

from .findings import SHORT_ID, text_of
from .lines import CommandLine, Line, Ways, heading, said

if TYPE_CHECKING:
    from ocitui.cache import DeletePlan, Descriptor, Discard, Transaction
    from ocitui.cache.records import Moved, Placed, Swap
    from ocitui.doctor.repair.point import PointPlan

_MOST_IDS = 4
_GOOD_COPY = {
    Case.IN_STEP: "nothing speaks against the index on disk",
    Case.MEMORY_GOOD: "the daemon's memory is good, the disk is not",
    Case.MEMORY_EMPTIED: "the daemon's memory has lost it too",
    Case.HUNG: "the daemon answers no more",
    Case.STOPPED: "only the one on disk, as the daemon does not run",
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """A part of a plan: its title, and a line for each of its items, which may be as many as a cache has entries."""

    title: str
    items: Sequence[T]
    line: Callable[[T], Line]


def delete_title(plan: DeletePlan) -> str:
    """How much of the index and of the disk it is about."""
    leave = "leaves" if len(plan.entries) == 1 else "leave"
    go = "goes" if len(plan.files) == 1 else "go"
    return (
        f"{counted(len(plan.entries), 'entry')} {leave} the index, "
        f"{counted(len(plan.files), 'file')} {go} to the trash ({human_size(plan.bytes_trashed)})"
    )


def delete_sections(plan: DeletePlan) -> Iterator[Section[Any]]:
    """What it does, what matters most first and the long lists last."""
    yield from _filled(
        Section("These names will then stand for another image", plan.uncovered, _uncovered_line),
        Section("Out of the index", plan.entries, entry_line),
        Section("To the trash; undo brings it back, and the room is free once that is emptied", plan.files, _file_line),
        Section("Kept, because another format of that digest uses them", plan.kept, lambda name: Line(name, "kept")),
    )


def undo_sections(
    target: Transaction, old: Sequence[Descriptor] = (), now: Sequence[Descriptor] = ()
) -> Iterator[Section[Any]]:
    """What comes back and what goes when a transaction is undone; ``old`` and ``now`` are what can be read of the index
    that comes back as a whole, and of the one that is there."""
    swap = [target.swap] if target.swap is not None else []
    back, out = [one.descriptor for one in target.removed], [one.descriptor for one in target.added]
    there, before = {one.identity for one in now}, {one.identity for one in old}
    back += [one for one in old if one.identity not in there]
    out += [one for one in now if one.identity not in before]
    names = names_of_files(target, (*old, *now))

    def line(file: Moved | Placed) -> Line:
        of = some_of(names.get(file.name.partition(".")[0], ()))
        return replace(_file_line(file), text=f"{file.name}  {of}" if of else file.name)

    yield from _filled(
        Section("index.json as a whole", swap, lambda one: _swap_line(one, len(old))),
        Section("Back into the index", back, entry_line),
        Section("Out of the index", out, entry_line),
        Section("Modes as they were", target.modes, lambda mode: Line(mode.name, "mode")),
        Section("Back from the trash", target.trashed, line),
        Section("To the trash, unless another entry needs them", target.placed, line),
    )


def names_of_files(transaction: Transaction, more: Sequence[Descriptor] = ()) -> dict[str, list[str]]:
    """The names of images by their digests, as a transaction and ``more`` descriptors tell them, each once."""
    names: dict[str, dict[str, None]] = {}
    for one in (*(one.descriptor for one in (*transaction.removed, *transaction.added)), *more):
        if one.image_name:
            names.setdefault(one.digest, {})[one.image_name] = None
    if not names and len(transaction.digests) == 1:
        names = {transaction.digests[0]: dict.fromkeys(transaction.names)}
    return {digest: list(known) for digest, known in names.items()}


def _filled(*sections: Section[Any]) -> Iterator[Section[Any]]:
    return (section for section in sections if section.items)


def entry_line(descriptor: Descriptor) -> Line:
    """An entry that goes or comes."""
    return Line(f"{descriptor.image_name or 'no name'} {descriptor.digest}", descriptor.format or "no format")


def _file_line(file: Discard | Moved | Placed) -> Line:
    return Line(file.name, f"{human_size(file.size):>5}")


def _uncovered_line(descriptor: Descriptor) -> Line:
    return Line(f"{descriptor.image_name} {descriptor.digest}", descriptor.format or "", "bad")


def _swap_line(swap: Swap, entries: int) -> Line:
    text = f"comes back as it was before, byte for byte; {counted(entries, 'entry')} can be read in it"
    return Line(text if swap.old else "goes: there was none")


def point_lines(plan: PointPlan) -> Iterator[Line]:
    """Whether the daemon would find the image, what the name stands for, and how it comes to stand for that."""
    if plan.trouble:
        yield Line(f"the daemon would not find it all the same: {short_digests(plan.trouble)}", kind="bad")
    yield Line()
    for label, descriptor in (("stands for", plan.winner), ("will be", plan.entry)):
        yield Line(f"{descriptor.digest} {descriptor.format or 'without a format'}", label)
    yield Line(f"entry {plan.position + 1} moves to the end of index.json, where it wins; nothing is deleted", "how")


def balance(plan: RepairPlan) -> str:
    """How many steps, and what they cost in bytes."""
    if not plan.made:
        return "nothing is to be done"
    parts = [f"{human_size(plan.bytes_placed)} come in"] if plan.bytes_placed else []
    parts += [
        f"{human_size(plan.bytes_trashed)} go to the trash" if plan.bytes_trashed else "nothing goes to the trash"
    ]
    return f"{counted(len(plan.made), 'step')}, one transaction: {', '.join(parts)}"


def sections(plan: RepairPlan, ways: Ways) -> Iterator[tuple[str, Sequence[RepairStep]]]:
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
    counts, shown = Counter[str](), list[RepairStep]()
    for step in steps:
        counts[step.kind] += 1
        if counts[step.kind] <= most:
            shown.append(step)
    return shown, [f"and {count - most} more of the kind {kind}" for kind, count in counts.items() if count > most]


def step_lines(step: RepairStep, ways: Ways, most_files: int) -> Iterator[Line]:
    """All there is to know of one step, beneath its title."""
    for code, group in groupby(step.findings, key=lambda finding: finding.code):
        yield Line(f"{code}  {_named(list(group))}", "mends")
    for file in step.files[:most_files]:
        yield Line(f"{file.name}, {human_size(file.size)}, {file.fate}", "file")
    if len(step.files) > most_files:
        yield Line(f"and {counted(len(step.files) - most_files, 'more file')}")
    if step.futile:
        yield Line(step.futile, "futile", "bad")
    if step.source:
        yield Line(step.source, "from")
    yield Line(step.then, "then")
    yield Line(said(step.loses, ways) or "nothing", "may lose", "bad" if step.loses else "plain")
    if step.used_by:
        yield Line(f"{', '.join(step.used_by)}: dropping it is asked twice", "in use", "bad")
    for left in step.leaves[:most_files]:
        yield Line(f"{left.finding.code}: {entry_text(left.finding)}: {left.why}", "leaves", "bad")
    if len(step.leaves) > most_files:
        yield Line(f"and {counted(len(step.leaves) - most_files, 'more finding')}")


def _named(same: Sequence[Finding]) -> str:
    """The ids of a few of these findings, and the entry of a single one."""
    ids = " ".join(finding.fingerprint[:SHORT_ID] for finding in same[:_MOST_IDS])
    more = f" and {len(same) - _MOST_IDS} more" if len(same) > _MOST_IDS else ""
    return f"{ids}  {entry_text(same[0])}" if len(same) == 1 and same[0].digest else f"{ids}{more}"


def grouped_left(plan: RepairPlan, most: int) -> list[tuple[Left, ...]]:
    """What stays, by code and reason; what a name would mend stands alone, as each has one of its own, unless there are
    more than ``most`` of them."""
    left, groups = plan.left, dict[tuple[str, ...], list[Left]]()
    counts = Counter((one.finding.code, one.why) for one in left)
    for one in left:
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
    lines += [Line(f"{assessment.headline}.", "do")] if assessment.headline else []
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
    held = counted(len(entries), "entry")
    return f"What {INDEX_NAME} held: {held}, {entries.with_names} with a name"


def sources_tally(entries: JoinedEntries) -> str:
    """How many entries each source tells of."""
    return f"told of by: {', '.join(f'{source} {entries.counts[source]}' for source in sources_shown(entries))}"


def shown_positions(entries: JoinedEntries, most: int) -> list[int]:
    """The positions of entries to put side by side: of all, and of many those with something to be said of them."""
    if len(entries) <= most:
        return list(range(len(entries)))
    positions = list(islice(entries.bad(), most))
    # Only where few say at once that something is wrong it is looked for what is told differently.
    return positions if len(positions) == most else list(islice(entries.bad(or_odd=True), most))


def source_cells(entry: JoinedEntry, sources: Sequence[IndexSource]) -> list[str]:
    """An entry in a row: its name, digest and format, whether each source has it, and where it is taken from."""
    cells = ["yes" if source in entry.sources else "no" for source in sources]
    if entry.problems and IndexSource.FILES in entry.sources:
        cells[sources.index(IndexSource.FILES)] = "bad"
    name, format_, taken_from = entry.name or "(lost)", entry.format or "none", str(entry.taken_from or "left out")
    return [name, short_digest(entry.digest), format_, *cells, taken_from]


def remarks(entry: JoinedEntry, ways: Ways) -> list[str]:
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
    return [*lines, *(Line(text, "remark", "bad") for text in remarks(entry, ways))]
