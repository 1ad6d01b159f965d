"""The main screen: header, table, pane, status and keys."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from ocitui.cache import CacheError
from ocitui.cache.verdict import Condition, IndexOutcome

from ..actions import ACTIONS, FOOTER
from ..background import Throttle
from ..widgets.bars import (
    Bar,
    HeaderBar,
    HeaderFacts,
    KeyBar,
    StatusBar,
    TroubleBar,
    header_parts,
    key_parts,
    status_parts,
    trouble_parts,
)
from ..widgets.entry_pane import EntryPane, Tab
from ..widgets.entry_table import EntryTable
from ..widgets.inputs import OneLineQuestion
from .asking import Asking
from .importing import Importing

if TYPE_CHECKING:
    from ..live import LiveChange


_WIDE = 120
_SMALLEST = (40, 10)
_STATUS_SECONDS = 1.0


class MainScreen(Importing, Asking):
    """One screen for the daily work. It holds no rules: what may be done, the core says."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(action.keys), action.name, action.label, show=False)
        for action in ACTIONS
        if not action.handled_by_widget
    ]
    AUTO_FOCUS = "EntryTable"

    def __init__(self) -> None:
        super().__init__()
        self._condition = Condition.SOUND
        self._looked_for_interrupted = False
        self._message = ""
        self._progress = Throttle(self, _STATUS_SECONDS, self.draw_status)

    def compose(self) -> ComposeResult:
        ascii_only = self.app.terminal.ascii
        yield Bar(id="tiny")
        yield HeaderBar()
        yield TroubleBar()
        with Container(id="body"):
            yield EntryTable(ascii=ascii_only, placeholder="reading the cache")
            yield EntryPane(self.app.options.directory, self.app.live.findings_of, ascii=ascii_only)
        yield KeyBar()
        yield OneLineQuestion(self.end_asking, id="ask")
        yield StatusBar()

    def on_mount(self) -> None:
        self._draw_header()
        self.draw_status()
        self._draw_keys()
        self.query_one("#tiny", Bar).show(["too small; q quits"])
        # The first frame is painted before anything is read.
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        live = self.app.live
        for endless in (live.follow(), live.look(), live.follow_memory(), live.keep_copies(), live.follow_host()):
            self.run_worker(endless, group="live")

    @property
    def stands(self) -> bool:
        """Whether there is something to show on: a worker outlives the widgets for a moment when the program ends."""
        return bool(self.query(EntryTable))

    # The cache, as it changes

    def show_change(self, change: LiveChange) -> None:
        """Draw what is known by now."""
        live, table = self.app.live, self.query_one(EntryTable)
        if change.only_progress:
            self._progress.ask()
            return
        if change.another and live.entries is not None:
            table.load(live.entries, change.moves)
        elif change.rows:
            table.update(change.rows)
        table.placeholder = self._placeholder()
        if live.health.condition is not self._condition:
            # What was refused or said under the old one may no longer be true.
            self._condition, self._message = live.health.condition, ""
        self._message = self._said_of(change) or self._message
        self._draw_header()
        self.draw_status()
        self._draw_keys()
        self._follow_cursor(change)
        if live.loaded and not self._looked_for_interrupted and not live.read_only:
            self._looked_for_interrupted = True
            self.look_for_interrupted()
            self._prepare()

    @work(group="prepare")
    async def _prepare(self) -> None:
        """Begin as commands that write do: finish what was interrupted, and make the reserve for a full disk.

        What stands in the way is said when something is to be written.
        """
        with suppress(CacheError):
            if notes := (await self.app.cache.prepare()).notes:
                self.say("; ".join(notes))

    def _follow_cursor(self, change: LiveChange) -> None:
        table, pane = self.query_one(EntryTable), self.query_one(EntryPane)
        entry, shown = table.cursor_entry, pane.entry
        if entry is None or shown is None or entry.key != shown.key:
            if entry is not shown:
                pane.follow(entry, at_once=True)
        elif entry != shown or table.cursor_position in change.rows:
            pane.refresh_entry(entry)

    def _placeholder(self) -> str:
        health, verdict = self.app.live.health, self.app.live.health.verdict
        if not self.app.live.loaded:
            return "reading the cache"
        if self.app.live.total:
            return "no entry matches the filter"
        if not health.sound:
            return "no entries can be shown"
        absent = verdict is not None and verdict.outcome is IndexOutcome.CREATED
        return "there is no index.json: is this a cache?" if absent else "the cache is empty"

    def _said_of(self, change: LiveChange) -> str:
        """What there is to say; who did not delete what went away is told how much that was."""
        if len(change.gone) > 1 and not change.came and not self.own_deletions.issuperset(change.gone):
            return f"{len(change.gone)} entries left the index"
        return change.said

    # The pane

    def action_show_tab(self, tab: Tab) -> None:
        self.query_one(EntryPane).open_tab(tab)

    def show_problems(self) -> None:
        self.query_one(EntryPane).open_tab("problems")

    def action_next_tab(self) -> None:
        self.query_one(EntryPane).step_tab(1)

    def action_previous_tab(self) -> None:
        self.query_one(EntryPane).step_tab(-1)

    def action_switch_focus(self) -> None:
        table = self.query_one(EntryTable)
        if table.has_focus:
            self.query_one(EntryPane).focus_view()
        elif not self.has_class("-whole"):
            table.focus()

    def _give_keys(self) -> None:
        if self.focused is None and not self.has_class("-tiny"):
            if self.has_class("-whole"):
                self.query_one(EntryPane).focus_view()
            else:
                self.query_one(EntryTable).focus()

    @on(EntryTable.Opened)
    @on(EntryPane.Opened)
    def _open_pane(self) -> None:
        self.add_class("-whole")
        self.query_one(EntryPane).focus_view()

    @on(EntryPane.TabShown)
    def _tab_shown(self) -> None:
        pane = self.query_one(EntryPane)
        if not self.query_one(EntryTable).has_focus:
            self.call_after_refresh(pane.focus_view)

    def action_back(self) -> None:
        """One step back: from a question, the whole pane, the pane, a filter."""
        table = self.query_one(EntryTable)
        if self._asking:
            self.end_asking(keep=False)
        elif self.has_class("-whole"):
            self.remove_class("-whole")
            table.focus()
        elif not table.has_focus:
            table.focus()
        elif table.filter_text:
            table.filter_text = ""
            self.draw_status()

    def action_interrupt(self) -> None:
        if self.app.live.deep.running:
            self.cancel_check()
            self.say("cancelling the check")
        else:
            super().action_interrupt()

    # Bars

    def say(self, message: str) -> None:
        """Put a message in the status line; it stays until the next one."""
        self._message = message
        self.draw_status()

    def _draw_header(self) -> None:
        live = self.app.live
        facts = HeaderFacts(
            self.app.host,
            self.app.options.directory,
            live.read_only,
            live.total,
            live.size,
            live.problems,
            live.complete,
            live.health if live.loaded else None,
            live.daemon,
        )
        self.query_one(HeaderBar).show(header_parts(facts, self.size.width or 80))
        self.query_one(TroubleBar).show(trouble_parts(live.health, live.alarm, live.assessment))

    def draw_status(self) -> None:
        """Show where the cursor is, the filter, the marks and what was said last."""
        table = self.query_one(EntryTable)
        self.query_one(StatusBar).show(
            status_parts(
                0 if table.cursor_row is None else table.cursor_row + 1,
                table.shown,
                table.total,
                table.filter_text,
                table.marks,
                table.hidden_marks,
                "  ".join(text for text in (self.imports_text, self._check_text) if text),
                self._message,
            )
        )

    @property
    def _check_text(self) -> str:
        """How far the check is that runs; empty where none does."""
        deep = self.app.live.deep
        if not deep.running:
            return ""
        from ..finding_lines import progress_text

        return f"deep check: {progress_text(deep.progress)}"

    def _draw_keys(self) -> None:
        off = {action.name for action in FOOTER if self.refusal(action.name)}
        self.query_one(KeyBar).show(key_parts(FOOTER, off, self.size.width or 80))

    @on(EntryTable.Highlighted)
    def _highlighted(self) -> None:
        self.query_one(EntryPane).follow(self.query_one(EntryTable).cursor_entry)

    @on(EntryPane.Rested)
    @on(EntryTable.MarksChanged)
    @on(EntryTable.ViewChanged)
    def _counts_changed(self) -> None:
        self.draw_status()

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        self.set_class(width < _SMALLEST[0] or height < _SMALLEST[1], "-tiny")
        # What had the keys was hidden, and lost them.
        self.call_after_refresh(self._give_keys)
        self.set_class(width >= _WIDE, "-wide")
        self._draw_header()
        self._draw_keys()
