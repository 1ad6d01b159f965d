"""The problems: what a check found, the worst first, and what can be done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.widget import Widget

from ocitui.cache import CacheError
from ocitui.doctor.acknowledged import acknowledge, withdraw
from ocitui.doctor.findings import Depth, Finding

from ..check_run import progress_text
from ..finding_lines import report_lines
from ..problem_rows import ProblemRow, coverage_text, problem_rows, shown
from ..throttle import Throttle
from ..widgets.bars import Bar
from ..widgets.lines_view import LinesView
from ..widgets.pick_list import PickList
from .full import FullScreen

_DRAW_SECONDS = 0.25


class ProblemsScreen(FullScreen[Finding | None]):
    """Dismissed with a finding whose entry is to be shown, or None. A check goes on when the screen is left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "check('quick')", "Quick", show=False),
        Binding("2", "check('header')", "Header", show=False),
        Binding("3", "check('deep')", "Deep", show=False),
        Binding("m", "mend", "Mend", show=False),
        Binding("M", "mend_all", "Mend all", show=False),
        Binding("a", "acknowledge", "Acknowledge", show=False),
        Binding("A", "show_everything", "Show everything", show=False),
        Binding("x", "cancel", "Cancel", show=False),
        Binding("pageup", "scroll(-1)", "Page up", show=False),
        Binding("pagedown", "scroll(1)", "Page down", show=False),
    ]
    AUTO_FOCUS = "PickList"
    subject: ClassVar[str] = "problems"
    CSS = """
    ProblemsScreen {
        #coverage { background: $panel; }
        PickList { height: 1fr; }
        LinesView { height: 1fr; border-top: solid $panel; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, ProblemRow] = {}
        self._drawn: tuple[Finding, ...] = ()
        self._everything = False
        self._throttle = Throttle(self, _DRAW_SECONDS, self._draw)

    def compose_body(self) -> Iterable[Widget]:
        yield Bar(id="coverage")
        yield PickList()
        yield LinesView()

    def begin(self) -> None:
        run = self.main.check_run
        # A deep check is not thrown away for a quick one: that is for the operator to say.
        if not run.running and (run.report is None or (self._stale and run.report.depth is Depth.QUICK)):
            self.main.start_check(Depth.QUICK)
        self._draw()

    @property
    def _stale(self) -> bool:
        return self.main.check_run.seen_changes != self.main.changes

    def check_changed(self) -> None:
        """Something is to be drawn, at most four times a second."""
        self._throttle.ask()

    def on_screen_resume(self) -> None:
        self._throttle.ask()

    # What is shown

    def _draw(self) -> None:
        run = self.main.check_run
        findings = self.main.all_findings()
        if findings != self._drawn or not self._rows:
            self._drawn = findings
            self._list(findings)
        for bar in self.query("#coverage").results(Bar):
            bar.show([f" {self._coverage(findings)}"])
        if run.running:
            self.say(f"{run.depth} check: {progress_text(run.progress)}")
        elif run.error:
            self.say(run.error)
        else:
            self.say(run.said)
        self._draw_keys()

    def _coverage(self, findings: tuple[Finding, ...]) -> str:
        run = self.main.check_run
        if run.running or run.report is None:
            return f"checking, {run.depth}: what was found so far"
        hidden = len(findings) - len(shown(findings, everything=self._everything))
        return coverage_text(run.report, findings, hidden, stale=self._stale)

    def _list(self, findings: tuple[Finding, ...]) -> None:
        rows = problem_rows(shown(findings, everything=self._everything))
        self._rows = {row.row.key: row for row in rows}
        for view in self.query(PickList):
            view.set_rows([row.row for row in rows])
        self._draw_detail()

    @on(PickList.Moved)
    def _draw_detail(self) -> None:
        row = self._row
        if row is not None:
            lines = row.lines
        else:
            run = self.main.check_run
            lines = report_lines(None if run.running else run.report)
        for view in self.query(LinesView):
            view.set_lines(lines)
        self._draw_keys()

    def _draw_keys(self) -> None:
        keys = [("x", "Cancel")] if self.main.check_run.running else [("1-3", "Depth")]
        row = self._row
        if row is not None:
            accepted = all(one.acknowledged for one in row.findings)
            keys += [("m", "Mend"), ("M", "Mend all"), ("a", "Unacknowledge" if accepted else "Acknowledge")]
        keys.append(("A", "Fewer" if self._everything else "All"))
        if row is not None and not row.heading and row.findings[0].digest:
            keys.append(("enter", "Go to"))
        self.show_keys([*keys, ("esc", "Back")])

    @property
    def _row(self) -> ProblemRow | None:
        view = next(iter(self.query(PickList)), None)
        return self._rows.get(view.key or "") if view is not None else None

    # What can be done

    def action_check(self, depth: str) -> None:
        if self.main.check_run.running:
            self.say("a check is under way; x cancels it")
        else:
            self.main.start_check(Depth(depth))

    def action_cancel(self) -> None:
        self.say("cancelling the check" if self.main.cancel_check() else "no check is under way")

    def action_interrupt(self) -> None:
        self.action_cancel()

    def action_show_everything(self) -> None:
        self._everything = not self._everything
        self._list(self._drawn)
        self._draw()

    def action_scroll(self, pages: int) -> None:
        self.query_one(LinesView).action_pages(pages)

    @on(PickList.Picked)
    def _picked(self) -> None:
        row = self._row
        if row is not None and not row.heading and row.findings[0].digest:
            self.dismiss(row.findings[0])

    def action_mend(self) -> None:
        row = self._row
        if row is not None:
            self._open_repair(frozenset(one.fingerprint for one in row.findings))

    def action_mend_all(self) -> None:
        if self._rows:
            self._open_repair(frozenset())

    def _open_repair(self, only: frozenset[str]) -> None:
        if self.main.check_run.running:
            self.say("a check is under way; wait for it, or x cancels it")
            return
        from .repair import RepairScreen

        self.app.push_screen(RepairScreen(self.main.check_run.report, only), self._repaired)

    def _repaired(self, message: str | None) -> None:
        if message:
            self.main.check_run.said = message
        self._throttle.ask()

    def action_acknowledge(self) -> None:
        row = self._row
        if row is None:
            return
        if self.main.read_only:
            self.say(f"Acknowledge: {self.main.read_only}")
            return
        self._acknowledge(row.findings)

    @work(group="acknowledge", exclusive=True)
    async def _acknowledge(self, findings: tuple[Finding, ...]) -> None:
        """Accept these findings, or have them shown again where all of them are accepted."""
        directory, run = self.app.options.directory, self.main.check_run
        accepted = all(one.acknowledged for one in findings)
        try:
            if accepted:
                await asyncio.to_thread(withdraw, directory, {one.fingerprint for one in findings})
            else:
                await asyncio.to_thread(acknowledge, directory, findings)
            await asyncio.to_thread(run.mark_acknowledged)
        except CacheError as error:
            self.say(f"{error.message}: {error.hint}")
            return
        what = "finding is" if len(findings) == 1 else "findings are"
        run.said = f"{len(findings)} {what} {'shown again' if accepted else 'acknowledged, until they change'}"
        self.main.look_again()
        self._draw()
