"""The plan of a repair: each step with its mark, what stays, the four sources of a lost index; then the question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace
from textual import on, work

from ocitui.cache import CacheError, ImageName, PlanChangedError
from ocitui.doctor import (
    Assessment,
    JoinedEntries,
    JoinedEntry,
    Left,
    Repaired,
    RepairOptions,
    RepairPlan,
    RepairProgress,
    RepairStep,
    Report,
    apply_plan,
    clean_text,
    copies_named,
    entry_text,
    plan_repair,
    tally,
)
from ocitui.importing import expanded_source
from ocitui.text import counted, first_of, human_size, short_digests
from ocitui.words import (
    CLAIMS_TITLE,
    KEYS,
    assessment_lines,
    capital,
    claim_lines,
    entry_remarks,
    entry_word,
    findings_title,
    first_steps,
    grouped_left,
    joined_lines,
    left_lines,
    plan_balance,
    plan_sections,
    remaining_lines,
    repair_progress,
    said,
    short_lines,
    shown_positions,
    source_cells,
    sources_tally,
    sources_title,
    step_lines,
    takes_name,
    with_text,
)

from ..widgets.lines import MARK, Line, LinesView, LongList, PickList, PickRow, bound, fit, heading
from .base import DRAW_SECONDS, ConfirmScreen, ListScreen, Throttle, run_beside

if TYPE_CHECKING:
    from ocitui.remote import SshPeers

PLAN = "plan"
_MOST = 100
Naming = tuple[str, Literal["names", "adopt"]]
DrawLines = Callable[[int], list[Line]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow(PickRow):
    """``lines`` draws what there is to say of it, for a width in cells; ``step`` is the number of one that can be
    marked. ``naming``: the digest that a name can be given to, and by which option; ``hint``: what it may be called."""

    lines: DrawLines = field(compare=False)
    step: int | None = None
    naming: Naming | None = None
    hint: str = ""


def plan_rows(plan: RepairPlan, assessment: Assessment | None) -> list[PlanRow]:
    """The rows of a plan, in the order in which they are to be looked at."""
    rows = [PlanRow(PLAN, plan_balance(plan), kind="heading", lines=_fixed([]))]
    if assessment is not None:
        text = "Which copy of the index is good, and what to do in what order"
        copies = _fixed(assessment_lines(assessment))
        rows.append(PlanRow("copy", text, str(assessment.case), lines=copies))
    if joined := plan.joined:
        text = sources_title(joined)
        rows.append(PlanRow("sources", text, "side by side", lines=lambda width: _sources(joined, width)))
    if claims := plan.claims:
        rows.append(PlanRow("claims", CLAIMS_TITLE, "side by side", lines=_fixed([*claim_lines(claims, KEYS, _MOST)])))
    rows += [_step(plan, step) for step in plan.steps]
    lost = (joined[at] for at in joined.bad())
    rows += [_nameless(entry) for entry in islice((entry for entry in lost if entry.name is None), _MOST)]
    for number, left in enumerate(grouped_left(plan, _MOST)):
        first, many = left[0], f" (+{len(left) - 1})" if len(left) > 1 else ""
        text = f"    {first.finding.code}: {entry_text(first.finding)}{many}"
        naming: Naming | None = None
        if takes_name(first):
            naming = first.finding.digest, "adopt" if first.finding.code == "orphan-entry" else "names"
        right, lines = "stays; n names it" if naming else "stays", _fixed(_left(left))
        rows.append(PlanRow(f"left {number}", text, right, "muted", start=True, lines=lines, naming=naming))
    return rows


def _step(plan: RepairPlan, step: RepairStep) -> PlanRow:
    chosen = step.number in plan.chosen
    size = step.bytes_trashed or step.bytes_placed
    return PlanRow(
        f"step {step.number}",
        f"[{MARK if chosen else ' '}] {step.number} {short_digests(step.title)}",
        human_size(size) if size else "",
        "plain" if chosen else "muted",
        start=True,
        lines=lambda _: _step_lines(step, chosen=chosen),
        step=step.number,
    )


def _nameless(entry: JoinedEntry) -> PlanRow:
    key, text = f"name {entry.digest} {entry.format}", f"    name lost: {entry_word(entry)}"
    hint, lines = entry.hints[0].text if entry.hints else "", _fixed(joined_lines(entry, KEYS))
    return PlanRow(key, text, "n names it", "bad", lines=lines, naming=(entry.digest, "names"), hint=hint)


def _fixed(lines: list[Line]) -> DrawLines:
    return lambda _: lines


def plan_lines(plan: RepairPlan) -> list[Line]:
    """What is done, what is offered, what stays."""
    lines: list[Line] = []
    if plan.used_by:
        lines.append(Line(f"{first_of(plan.used_by)}: entries are dropped that are needed", "in use", "bad"))
    if not plan.made:
        lines.append(Line("The rows above say what stays, and what you can do about it; o offers more."))
    shown, more = first_steps(plan.made, _MOST)
    for step in shown:
        lines += [Line(), *_step_lines(step, chosen=True)]
    lines += [Line(), *map(Line, more)] if more else []
    for name, steps in plan_sections(plan, KEYS):
        if steps[0].number in plan.chosen:
            continue
        lines += [Line(), heading(capital(name)), *([Line(steps[0].futile)] if steps[0].futile else [])]
        shown, more = first_steps(steps, _MOST)
        lines += [Line(short_digests(step.title), str(step.number)) for step in shown] + [*map(Line, more)]
    if plan.left:
        lines += [Line(), heading(f"What stays: {tally([left.finding for left in plan.left])}")]
    return [*lines, *(Line(said(note, _WAYS), "note") for note in plan.notes)]


def _step_lines(step: RepairStep, *, chosen: bool) -> list[Line]:
    lines = [heading(f"{step.number}. {step.title}")]
    lines += [] if chosen else [Line("not marked: it will not be made; space marks it", "step", "bad")]
    return short_lines([*lines, *step_lines(step, KEYS, _MOST)])


def _left(left: Sequence[Left]) -> list[Line]:
    return short_lines([heading(findings_title([one.finding for one in left])), *left_lines(left, KEYS, _MOST)])


def _sources(entries: JoinedEntries, width: int) -> list[Line]:
    """The sources side by side, an entry a line in the order of the new index, and remarks below."""
    sources = entries.sources
    room = max(width - len(" ".join(sources)) - 37, 16)

    def row(name: str, digest: str, format_: str, *told: str) -> str:
        told_of = " ".join(f"{text:{len(source)}}" for text, source in zip(told, sources, strict=False))
        return f"{fit(name, room, middle=True)} {digest:12} {format_:8} {told_of} {told[-1]}"

    titles = row("Name", "Digest", "Format", *(source.capitalize() for source in sources), "From")
    lines = [heading(sources_title(entries)), Line(sources_tally(entries)), Line(), heading(titles)]
    shown = [entries[at] for at in shown_positions(entries, _MOST)]
    for entry in shown:
        lost = entry.name is None or (entry.descriptor is None and not entry.removed_by)
        lines.append(Line(row(*source_cells(entry, sources)), kind="bad" if lost else "plain"))
    if len(entries) > len(shown):
        lines.append(Line(counted(len(entries) - len(shown), "more entry", "more entries"), kind="muted"))
    told = [Line(text, entry_word(entry), "bad") for entry in shown for text in entry_remarks(entry, KEYS)]
    return [*lines, *([Line(), heading("To be known of them"), *told] if told else [])]


def repaired_lines(repaired: Repaired) -> list[Line]:
    """What was done, and what the check found afterwards."""
    lines: list[Line] = []
    for done in repaired.transactions:
        lines += [heading(f"Mended in transaction {done.id}"), Line("u on the first screen takes it all back", "undo")]
        lines += with_text(Line(done.note, "note"))
    return [*lines, Line(), heading("Checked again"), *short_lines(remaining_lines(repaired.report, _MOST))]


_OF_SOURCES = (
    "a layout, an archive, packed files, or another cache, here or over ssh, which is asked for lost names too: good "
    "copies are looked for in it"
)
_SWITCHES = {
    "registry": ("Ask registries", "by name and digest, never by tag; documents alone where only they are gone"),
    "adopt_known": ("Adopt orphans", "those whose name a backup or the trash tells become entries again"),
    "drop": (
        "Drop entries",
        "what cannot be restored leaves the index, and its name is lost with it; undo brings it back",
    ),
    "trash_orphans": ("Trash orphans", "files that no entry names go to the trash"),
    "change_modes": ("Change modes", "files that their owner may not read are made readable"),
    "even_if_gone": ("Take away", "bad files go though the daemon finds them, and nothing may bring the image back"),
    "sudo": ("Read as root there", "caches of other hosts are read by sudo -n there, which never asks for a password"),
}
"""What is allowed or not, by its name in `RepairOptions`, and how hosts are read: what it is called, and what there is
to know before."""
_WAYS = {**KEYS, "--sudo": "o allows it"}


class RepairOptionsScreen(ListScreen[RepairOptions | None, PickRow]):
    """Dismissed with what is allowed, for a new plan."""

    BINDINGS = bound({"space": "allow", "s": "source", "D": "forget_sources"})
    CSS = "RepairOptionsScreen PickList { height: auto; }"
    subject = "repair: what is allowed"
    asks = True
    keys = (("space", "Allow"), ("s", "Add a source"), ("D", "Forget sources"), ("enter", "Plan anew"))

    def __init__(self, options: RepairOptions) -> None:
        super().__init__()
        self._options = options

    def begin(self) -> None:
        self._draw()
        self.stand("nothing is done by this: the plan is made anew, and shown")

    def _draw(self) -> None:
        signs = {name: MARK if self._is_on(name) else " " for name in _SWITCHES}
        rows = [PickRow(name, f"[{sign}] {_SWITCHES[name][0]}") for name, sign in signs.items()]
        rows += [PickRow(f"source {text}", f"    Restore from {text}") for text in self._options.sources]
        self.show_rows(rows)

    def draw_detail(self) -> None:
        self.show_lines([Line(_SWITCHES[self.key][1] if self.key in _SWITCHES else _OF_SOURCES)])

    def _is_on(self, name: str) -> bool:
        return bool(getattr(self._options.hosts if name == "sudo" else self._options, name, False))

    def action_allow(self) -> None:
        if self.key == "sudo":
            self._change(hosts=_hosts(sudo=not self._is_on("sudo")))
        elif self.key in _SWITCHES:
            self._change(**{self.key: not self._is_on(self.key)})

    def action_source(self) -> None:
        self.ask("", "where good copies are: a layout, an archive, packed files, another cache's directory, ssh://HOST")

    def answered(self, text: str) -> None:
        self._add_source(expanded_source(text))

    @work(group="source")
    async def _add_source(self, text: str) -> None:
        with self.saying_errors("not a source: "):
            if not (hosts := self._options.hosts or _hosts()).leads_to(text):
                await asyncio.to_thread(copies_named, text, self._options.access)
            self._change(sources=(*self._options.sources, text), hosts=hosts)

    def action_forget_sources(self) -> None:
        self._change(sources=())

    def _change(self, **changed: Any) -> None:
        self._options = replace(self._options, **changed)
        self._draw()

    @on(PickList.Picked)
    def _picked(self) -> None:
        self.dismiss(self._options)


def _hosts(*, sudo: bool = False) -> SshPeers:
    # Loaded where a host is named; the screen needs nothing else of it.
    from ocitui.remote import SshPeers

    return SshPeers(sudo=sudo)


class RepairScreen(ListScreen[str | None, PlanRow], ConfirmScreen):
    """Plans the mending of what is known to be wrong. Dismissed with a message once something was done."""

    BINDINGS = bound({"space": "mark_step", "n": "name", "o": "options", "m": "go_on"})
    CSS = """
    RepairScreen PickList { height: auto; max-height: 40vh; }
    RepairScreen.-done PickList { display: none; }
    """
    subject = "repair"
    asks = True
    verb = "Mend"
    action = "mend"
    more_keys = (("space", "Mark a step"), ("n", "Name"), ("o", "What is allowed"))

    def __init__(self, options: RepairOptions) -> None:
        super().__init__()
        self._report: Report | None = None
        self._options = options
        self._plan: RepairPlan | None = None
        self._assessment: Assessment | None = None
        self._naming: Naming | None = None
        self._said = ""
        self._repaired: Repaired | None = None
        self._progress: RepairProgress | None = None
        self._throttle = Throttle(self, DRAW_SECONDS, self._draw_progress)

    # The plan

    async def plan(self) -> Iterable[Line | LongList]:
        live = self.session.live
        report = self._report = self._report or await live.report()
        assessment = await live.assess()
        self._assessment = assessment if assessment is not None and assessment.bears_on(report) else None
        cache, options = self.session.cache, self._options
        try:
            # In a thread and a loop of its own.
            plan = await run_beside(lambda: plan_repair(cache, report, options, assessment, self._tell))
        finally:
            self._progress = None
        self._list(plan)
        return self._lines(plan)

    def _tell(self, now: RepairProgress) -> None:
        """May be called in any thread."""
        waiting, self._progress = self._progress, now
        # However long nobody reads the terminal, one call waits at most.
        if waiting is None:
            with suppress(RuntimeError):
                self.call_later(self._throttle.ask)

    def _draw_progress(self) -> None:
        now, self._progress = self._progress, None
        if now is not None and not self._ready:
            end = "it is finished even if this window goes" if self._acting else "esc cancels"
            self.stand(f"{short_digests(repair_progress(now))}; {end}")

    def show_lines(self, lines: Iterable[Line | LongList], *, keep_place: bool = False) -> None:
        # A note on the plan as a whole stands above it.
        super().show_lines(lines, keep_place=keep_place)
        for view in self.query(PickList):
            view.move_to(PLAN)

    def _list(self, plan: RepairPlan) -> None:
        self._plan, self.has_steps, self.used_by = plan, bool(plan.made), plan.used_by
        marking = "space marks a step that is offered, " if plan.steps else ""
        self.asked = f"there is nothing to do; {marking}o offers more"
        if plan.made:
            self.asked = "nothing is changed before y; space takes a step out"
        self.show_rows(plan_rows(plan, self._assessment))

    def _lines(self, plan: RepairPlan) -> list[Line | LongList]:
        """The plan as a whole: what matters most stands first."""
        headline = self._assessment.headline if self._assessment is not None else ""
        edits = not headline and any(step.change.edits_index for step in plan.made)
        lines = self.opening(plan_balance(plan), "overwrite what is changed in it" if edits else "")
        lines += [Line(f"{capital(headline)}.", kind="bad")] if headline else []
        return [*lines, *plan_lines(plan)]

    def copied_lines(self) -> Iterable[Line | LongList]:
        return super().copied_lines() if self._plan is None or self._repaired is not None else self._lines(self._plan)

    def draw_detail(self) -> None:
        row = self.row
        if row is None or self._plan is None or self._acting or self._repaired is not None:
            return
        super().show_lines(self._lines(self._plan) if row.key == PLAN else row.lines(self.size.width))

    @on(PickList.Picked)
    def _picked(self) -> None:
        """Enter never confirms: it cancels, as the line of keys says."""
        self.action_leave()

    def action_mark_step(self) -> None:
        row, plan = self.row, self._plan
        if row is None or row.step is None or plan is None or not self._ready:
            return
        self._asked_twice = False
        self._list(replace(plan, chosen=plan.chosen ^ {row.step}))
        self.wait_for_answer()

    # Naming, and what may be done

    def action_name(self) -> None:
        row = self.row
        if row is None or row.naming is None or not self._ready:
            self.say("there is no name to give here: n is for entries whose name is lost, and for orphans")
            return
        self._naming = row.naming
        self.ask(row.hint, "a name, as registry/repository:tag; enter takes it, esc does not")

    def answered(self, text: str) -> None:
        assert self._naming is not None
        digest, how = self._naming
        with self.saying_errors():
            pair = digest, str(ImageName.parse(text))
            pairs = (*(one for one in getattr(self._options, how) if one[0] != digest), pair)
            changed: dict[str, Any] = {how: pairs}
            self._options = replace(self._options, **changed)
            self.make_plan()

    def action_options(self) -> None:
        if not self._acting and self._repaired is None:
            self.app.push_screen(RepairOptionsScreen(self._options), self._take_options)

    def _take_options(self, options: RepairOptions | None) -> None:
        if options is not None and options != self._options:
            self._options = options
            self.make_plan()

    # Doing it

    def action_confirm(self) -> None:
        if self._ready and not self.has_steps:
            self.say("there is nothing to do: no step is marked")
        else:
            super().action_confirm()

    async def act(self) -> str:
        plan, judge = self._plan, self.session.live.judge
        assert plan is not None
        # In a loop of its own: a terminal that is not read holds up this one, and must not hold up a repair.
        try:
            repaired = await run_beside(lambda: apply_plan(self.session.cache, plan, self._tell, judge=judge))
        finally:
            self._progress = None
        self._repaired = repaired
        await self.session.live.look_over()
        return _outcome(repaired)

    def done(self, message: str) -> None:
        """Stay, to show what the second check found."""
        self._acting, self._said = False, message
        repaired = self._repaired
        assert repaired is not None
        self.add_class("-done")
        self.set_focus(self.query_one(LinesView))
        self.show_lines(repaired_lines(repaired))
        self.show_keys([("m", "Plan what remains")] if repaired.report.shown() else [])
        self.conclude(message)

    def action_go_on(self) -> None:
        """A plan for what remains, such as entries that could not be mended before the index was."""
        repaired = self._repaired
        if repaired is None or not repaired.report.shown():
            return
        self._repaired, self._report, self._options = None, repaired.report, RepairOptions()
        self.remove_class("-done")
        self.set_focus(self.query_one(PickList))
        self.make_plan()

    def failed(self, error: CacheError) -> None:
        if isinstance(error, PlanChangedError):
            # What was found may be another thing by now, too.
            self._report = None
            self.session.live.read_again()
        super().failed(error)

    def action_leave(self) -> None:
        if self._acting:
            super().action_leave()
        else:
            self.dismiss(self._said or None)


def _outcome(repaired: Repaired) -> str:
    ids = ", ".join(done.id for done in repaired.transactions)
    done = f"mended in {ids}; u undoes it" if ids else "done"
    left, clean = len(repaired.report.shown()), clean_text(repaired.report.depth)
    state = counted(left, "finding remains", "findings remain") if left else clean
    return f"{done}; checked again: {state}"
