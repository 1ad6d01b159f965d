"""The plan of a repair: each step with its mark, what stays, the four sources of a lost index; then the question."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Literal

from textual import on, work
from textual.binding import Binding, BindingType
from textual.widget import Widget

from ocitui.cache import CacheError, ImageName, PlanChangedError
from ocitui.doctor.assessment import Assessment
from ocitui.doctor.assessment_texts import bears_on
from ocitui.doctor.finding_texts import clean_text
from ocitui.doctor.repair.apply import Repaired, RepairProgress, apply_plan
from ocitui.doctor.repair.plan import RepairOptions, RepairPlan, plan_repair
from ocitui.doctor.repair.source_copies import copies_named
from ocitui.doctor.report import Report
from ocitui.importing.errors import SourceError
from ocitui.importing.sources.opening import expanded
from ocitui.words.findings import repair_progress

from ..background import Throttle, run_beside
from ..repair_rows import PLAN, PlanRow, plan_lines, plan_rows, repaired_lines
from ..shorten import short_digests
from ..widgets.inputs import OneLineQuestion
from ..widgets.lines_view import Line, LinesView, LongList
from ..widgets.pick_list import PickList, PickRow
from .confirm import ConfirmScreen
from .full import ListScreen

_SOURCE = "source"
_OF_SOURCES = "a layout, an archive, packed files or another cache, in which good copies are looked for"


_SWITCHES = {
    "registry": ("Ask registries", "by name and digest, never by tag; documents alone where only they are gone"),
    "adopt_known": ("Adopt orphans", "those whose name a backup or the trash tells become entries again"),
    "drop": (
        "Drop entries",
        "what cannot be restored leaves the index, and its name is lost with it; undo brings it back",
    ),
    "trash_orphans": ("Trash orphans", "files that no entry names go to the trash"),
    "change_modes": ("Change modes", "files that their owner may not read are made readable"),
}
"""What is allowed or not, by its name in `RepairOptions`: what it is called, and what there is to know before."""


class RepairOptionsScreen(ListScreen[RepairOptions | None]):
    """Dismissed with what is allowed, for a new plan."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "allow", "Allow", show=False),
        Binding("s", "source", "Source", show=False),
        Binding("D", "forget_sources", "Forget sources", show=False),
    ]
    CSS = """
    RepairOptionsScreen {
        PickList { height: auto; }
        #ask { display: none; padding: 0 1; }
        &.-asking #ask { display: block; }
    }
    """
    subject: ClassVar[str] = "repair: what is allowed"
    keys = (("space", "Allow"), ("s", "Add a source"), ("D", "Forget sources"), ("enter", "Plan anew"), ("esc", "Back"))

    def __init__(self, options: RepairOptions) -> None:
        super().__init__()
        self._options = options

    def compose_body(self) -> Iterable[Widget]:
        yield from super().compose_body()
        yield OneLineQuestion(self.end_asking, id="ask")

    def begin(self) -> None:
        self._draw()
        self.say("nothing is done by this: the plan is made anew, and shown")

    def _draw(self) -> None:
        rows = [
            PickRow(name, f"[{'x' if getattr(self._options, name) else ' '}] {label}")
            for name, (label, _) in _SWITCHES.items()
        ]
        rows += [PickRow(f"{_SOURCE} {text}", f"    Restore from {text}") for text in self._options.sources]
        self.show_rows(rows)
        self._draw_detail()

    @on(PickList.Moved)
    def _draw_detail(self) -> None:
        self.show_lines([Line(_SWITCHES[self.key][1] if self.key in _SWITCHES else _OF_SOURCES)])

    def action_allow(self) -> None:
        if self.key in _SWITCHES:
            changed: dict[str, Any] = {self.key: not getattr(self._options, self.key)}
            self._options = replace(self._options, **changed)
            self._draw()

    def action_source(self) -> None:
        question = self.query_one(OneLineQuestion)
        self.add_class("-asking")
        question.ask("", "where good copies are: a layout, an archive, packed files, another cache's directory")
        self.set_focus(question)

    def end_asking(self, *, keep: bool) -> None:
        question = self.query_one(OneLineQuestion)
        question.open = False
        self.remove_class("-asking")
        self.set_focus(self.query_one(PickList))
        text = expanded(question.value.strip())
        if keep and text:
            self._add_source(text)

    @work(group="source")
    async def _add_source(self, text: str) -> None:
        try:
            await asyncio.to_thread(copies_named, text, self._options.access)
        except SourceError as error:
            self.say(f"not a source: {error.one_line}")
            return
        self._options = replace(self._options, sources=(*self._options.sources, text))
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a source is typed every key is its own."""
        return not self.has_class("-asking") or action == "interrupt"

    def action_forget_sources(self) -> None:
        self._options = replace(self._options, sources=())
        self._draw()

    @on(PickList.Picked)
    def _picked(self) -> None:
        self.dismiss(self._options)


_DRAW_SECONDS = 0.25


class RepairScreen(ListScreen[str | None], ConfirmScreen):
    """Plans the mending of what is known to be wrong; ``only`` are the fingerprints, codes or digests it is about, all
    findings where it is empty.

    Dismissed with a message once something was done.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark_step", "Mark", show=False),
        Binding("n", "name", "Name", show=False),
        Binding("o", "options", "Options", show=False),
        Binding("m", "go_on", "Go on", show=False),
    ]
    CSS = """
    RepairScreen {
        PickList { height: auto; max-height: 40%; }
        #ask { display: none; padding: 0 1; }
        &.-asking #ask { display: block; }
        &.-done PickList { display: none; }
    }
    """
    subject: ClassVar[str] = "repair"
    verb: ClassVar[str] = "Mend"
    action = "mend"
    more_keys = (("space", "Mark a step"), ("n", "Name"), ("o", "What is allowed"))

    def __init__(self, only: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._report: Report | None = None
        self._outdated = False
        self._options = RepairOptions(only=only)
        self._plan: RepairPlan | None = None
        self._assessment: Assessment | None = None
        self._rows: dict[str, PlanRow] = {}
        self._naming: tuple[str, Literal["name", "adopt"]] | None = None
        self._said = ""
        self._repaired: Repaired | None = None
        self._progress: RepairProgress | None = None
        self._throttle = Throttle(self, _DRAW_SECONDS, self._draw_progress)

    def compose_body(self) -> Iterable[Widget]:
        yield from super().compose_body()
        yield OneLineQuestion(self.end_asking, id="ask")

    # The plan

    async def plan(self) -> Iterable[Line]:
        live = self.session.live
        report = self._report = self._report or await live.report(anew=self._outdated)
        assessment = await live.assess()
        self._assessment = assessment if assessment is not None and bears_on(assessment, report) else None
        self._plan = await run_beside(lambda: self._make_plan(report, assessment))
        self._list()
        return self._lines()

    async def _make_plan(self, report: Report, assessment: Assessment | None) -> RepairPlan:
        """In a thread and a loop of its own."""
        plan = await plan_repair(self.session.cache, report, self._options, assessment)
        return plan.narrowed(self._options.only) if self._options.only else plan

    def show_lines(self, lines: Iterable[Line | LongList]) -> None:
        # A note on the plan as a whole stands above it.
        super().show_lines(lines)
        for view in self.query(PickList):
            view.move_to(PLAN)

    def asked(self) -> str:
        if self._plan is not None and not self._plan.made:
            marking = "space marks a step that is offered, " if self._plan.steps else ""
            return f"there is nothing to do; {marking}o offers more"
        return "nothing is changed before y; space takes a step out"

    def _list(self) -> None:
        if self._plan is None:
            return
        rows = plan_rows(self._plan, self._assessment, self.session.terminal.ascii)
        self._rows = {row.row.key: row for row in rows}
        self.show_rows(row.row for row in rows)

    def _lines(self) -> list[Line]:
        assert self._plan is not None
        return plan_lines(self._plan, self.session.host, self._assessment, kratad_runs=self.session.live.daemon.running)

    @on(PickList.Moved)
    def _draw_detail(self) -> None:
        row = self._row
        if row is None or self._plan is None or self._acting or self._repaired is not None:
            return
        for view in self.query(LinesView):
            view.set_lines(self._lines() if row.row.key == PLAN else row.lines(self._plan, self.size.width))

    @property
    def _row(self) -> PlanRow | None:
        return self._rows.get(self.key)

    @on(PickList.Picked)
    def _picked(self) -> None:
        """Enter never confirms: it cancels, as the line of keys says."""
        self.action_leave()

    def action_mark_step(self) -> None:
        row, plan = self._row, self._plan
        if row is None or row.step is None or plan is None or not self._ready or self._acting:
            return
        self._plan = replace(plan, chosen=plan.chosen ^ {row.step})
        self._asked_twice = False
        self._list()
        self._draw_detail()
        self.say(f"on {self.session.host}: {self.asked()}")

    # Naming, and what may be done

    def action_name(self) -> None:
        row = self._row
        if row is None or row.naming is None or not self._ready or self._acting:
            self.say("there is no name to give here: n is for entries whose name is lost, and for orphans")
            return
        self._naming = row.naming
        question = self.query_one(OneLineQuestion)
        self.add_class("-asking")
        question.ask(row.hint, "a name, as registry/repository:tag; enter takes it, esc does not")
        self.set_focus(question)

    def end_asking(self, *, keep: bool) -> None:
        question = self.query_one(OneLineQuestion)
        naming, self._naming = self._naming, None
        question.open = False
        self.remove_class("-asking")
        self.set_focus(self.query_one(PickList))
        if keep and naming is not None and question.value.strip():
            self._give_name(*naming, question.value.strip())

    def _give_name(self, digest: str, how: Literal["name", "adopt"], text: str) -> None:
        try:
            pair = (digest, str(ImageName.parse(text)))
        except CacheError as error:
            self.say(error.one_line)
            return
        options = self._options
        if how == "adopt":
            self._options = replace(options, adopt=(*(one for one in options.adopt if one[0] != digest), pair))
        else:
            self._options = replace(options, names=(*(one for one in options.names if one[0] != digest), pair))
        self.make_plan()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a name is typed every key is its own."""
        return not self.has_class("-asking") or action == "interrupt"

    def action_options(self) -> None:
        if self._acting or self._repaired is not None:
            return
        self.app.push_screen(RepairOptionsScreen(self._options), self._take_options)

    def _take_options(self, options: RepairOptions | None) -> None:
        if options is not None and options != self._options:
            self._options = options
            self.make_plan()

    # Doing it

    def action_confirm(self) -> None:
        plan = self._plan
        if plan is None or not self._ready or self._acting or self._repaired is not None:
            return
        if not plan.made:
            self.say("there is nothing to do: no step is marked")
        else:
            super().action_confirm()

    def used_by(self) -> Sequence[str]:
        return self._plan.used_by if self._plan is not None else ()

    async def act(self) -> str:
        plan = self._plan
        assert plan is not None

        def tell(now: RepairProgress) -> None:
            waiting, self._progress = self._progress, now
            # However long nobody reads the terminal, one call waits at most.
            if waiting is None:
                with suppress(RuntimeError):
                    self.call_later(self._throttle.ask)

        # In a loop of its own: a terminal that is not read holds up this one, and must not hold up a repair.
        repaired = await run_beside(lambda: apply_plan(self.session.cache, plan, tell, judge=self.session.live.judge))
        self._repaired = repaired
        await self.session.live.look_over()
        return _outcome(repaired)

    def _draw_progress(self) -> None:
        now, self._progress = self._progress, None
        if now is not None and self._acting:
            self.say(f"{short_digests(repair_progress(now))}; it is finished even if this window goes")

    def done(self, message: str) -> None:
        """Stay, to show what the second check found."""
        self._acting, self._said = False, message
        repaired = self._repaired
        assert repaired is not None
        self.add_class("-done")
        self.set_focus(self.query_one(LinesView))
        self.show_lines(repaired_lines(repaired))
        more = [("m", "Plan what remains")] if repaired.remaining else []
        self.show_keys([*more, ("esc", "Back")])
        self.say(message)

    def action_go_on(self) -> None:
        """A plan for what remains, such as entries that could not be mended before the index was."""
        repaired = self._repaired
        if repaired is None or not repaired.remaining:
            return
        self._repaired, self._report, self._options = None, repaired.report, RepairOptions()
        self.remove_class("-done")
        self.set_focus(self.query_one(PickList))
        self.make_plan()

    def failed(self, error: CacheError) -> None:
        self._progress = None
        if isinstance(error, PlanChangedError):
            # What was found may be another thing by now, too.
            self._report, self._outdated = None, True
        super().failed(error)

    def action_leave(self) -> None:
        if self._acting:
            super().action_leave()
        else:
            self.dismiss(self._said or None)


def _outcome(repaired: Repaired) -> str:
    ids = ", ".join(done.id for done in repaired.transactions)
    done = f"mended in {ids}; u undoes it" if ids else "done"
    left = len(repaired.remaining)
    clean = clean_text(repaired.report.depth)
    state = clean if not left else f"{left} {'finding remains' if left == 1 else 'findings remain'}"
    return f"{done}; checked again: {state}"
