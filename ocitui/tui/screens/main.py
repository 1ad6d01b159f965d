"""The main screen: header, table, pane, status and keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container

from ocitui.cache.daemon import DaemonState
from ocitui.cache.verdict import IndexOutcome

from ..actions import BINDINGS, FOOTER
from ..bar_texts import HeaderFacts, header_parts, key_parts, status_parts, trouble_parts
from ..widgets.bars import Bar, HeaderBar, KeyBar, StatusBar, TroubleBar
from ..widgets.entry_pane import EntryPane, Tab
from ..widgets.entry_table import EntryTable
from ..widgets.question import OneLineQuestion
from .asking import Asking
from .checking import Checking
from .importing import Importing

if TYPE_CHECKING:
    from ocitui.cache import Difference

    from ..feed import FeedChange

_WIDE = 120
_SMALLEST = (40, 10)
_DAEMON_SECONDS = 10.0


class MainScreen(Importing, Checking, Asking):
    """One screen for the daily work. It holds no rules: what may be done, the core says."""

    BINDINGS: ClassVar[list[BindingType]] = [*BINDINGS]
    AUTO_FOCUS = "EntryTable"

    def __init__(self) -> None:
        super().__init__()
        self.daemon = DaemonState()
        self._totals = (0, 0, 0)
        self._loaded = False
        self._why_read_only = ""
        self._message = ""

    def compose(self) -> ComposeResult:
        ascii_only = self.app.terminal.ascii
        yield Bar(id="tiny")
        yield HeaderBar()
        yield TroubleBar()
        with Container(id="body"):
            yield EntryTable(ascii=ascii_only, placeholder="reading the cache")
            yield EntryPane(self.app.options.directory, self.findings_of, ascii=ascii_only)
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
        self.begin_following()
        self._follow_daemon()

    @property
    def loaded(self) -> bool:
        """Whether the cache was read, however it is."""
        return self._loaded

    @property
    def stands(self) -> bool:
        """Whether there is something to show on: a worker outlives the widgets for a moment when the program ends."""
        return bool(self.query(EntryTable))

    @property
    def read_only(self) -> str:
        return self._why_read_only

    def begin_following(self) -> None:
        for group in ("feed", "checkup", "keep"):
            self.workers.cancel_group(self, group)
        self._follow_cache()

    # The cache, as it changes

    @work(group="feed", exit_on_error=True)
    async def _follow_cache(self) -> None:
        from ..feed import EntryFeed

        feed = EntryFeed(self.app.options.directory)
        self.begin_checking(feed)
        async with self.app.cache.watch() as differences:
            async for difference in differences:
                if not self._loaded and difference.descriptors:
                    preview = await asyncio.to_thread(feed.preview, difference)
                    if self.stands:
                        self.apply_change(preview)
                self._why_read_only = await asyncio.to_thread(self.app.why_read_only)
                change = await asyncio.to_thread(feed.absorb, difference)
                if not self.stands:
                    return
                first, self._loaded = not self._loaded, True
                self.apply_change(change)
                await self.changed(difference, change)
                self._note_removed(difference)
                if first and not self._why_read_only:
                    self.look_for_interrupted()

    def apply_change(self, change: FeedChange) -> None:
        table = self.query_one(EntryTable)
        if change.whole:
            table.load(change.entries.values())
        elif change.entries or change.removed or change.order is not None:
            table.apply(change.entries, change.removed, change.order)
        table.placeholder = self._placeholder(change)
        if change.health.condition is not self.health.condition:
            # What was refused or said under the old one may no longer be true.
            self._message = ""
        self.health = change.health
        if change.health.sound or change.total:
            self._totals = (change.total, change.size, change.problems)
        self._draw_header()
        self.draw_status()
        self._draw_keys()
        entry = table.cursor_entry
        pane = self.query_one(EntryPane)
        if (entry is None) != (pane.entry is None) or (entry and pane.entry and entry.key != pane.entry.key):
            pane.follow(entry, at_once=True)
        elif entry is not None and (change.whole or entry.key in change.entries or change.concerns(entry)):
            pane.refresh_entry(entry)

    def _placeholder(self, change: FeedChange) -> str:
        if change.total:
            return "no entry matches the filter"
        if not change.health.sound:
            return "no entries can be shown"
        verdict = change.health.verdict
        absent = verdict is not None and verdict.outcome is IndexOutcome.CREATED
        return "there is no index.json: is this a cache?" if absent else "the cache is empty"

    def _note_removed(self, difference: Difference) -> None:
        """A cursor over rows that went away stays near; who did not delete them is told how many went."""
        removed = {descriptor.key for descriptor in difference.removed.values()}
        if len(difference.removed) > 1 and not difference.added and not removed <= self.own_deletions:
            self.say(f"{len(difference.removed)} entries left the index")

    def cache_checked(self) -> None:
        self._draw_header()

    @work(group="daemon")
    async def _follow_daemon(self) -> None:
        while True:
            state = await asyncio.to_thread(self.app.daemon_state, self.daemon.process)
            if not self.stands:
                return
            if state != self.daemon:
                self.daemon = state
                self._draw_header()
            await self.look_at_users()
            await asyncio.sleep(_DAEMON_SECONDS)

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
        if self.cancel_check():
            self.say("cancelling the check")
        else:
            super().action_interrupt()

    # Bars

    def say(self, message: str) -> None:
        """Put a message in the status line; it stays until the next one."""
        self._message = message
        self.draw_status()

    def _draw_header(self) -> None:
        facts = HeaderFacts(
            self.app.host,
            self.app.options.directory,
            self.read_only,
            *self._totals[:2],
            self._totals[2] + self.cache_problems,
            self.health if self._loaded else None,
            self.daemon,
        )
        self.query_one(HeaderBar).show(header_parts(facts, self.size.width or 80))
        self.query_one(TroubleBar).show(trouble_parts(self.health, self.daemon, self.alarm))

    def draw_status(self) -> None:
        """Show where the cursor is, the filter, the marks and what was said last."""
        table = self.query_one(EntryTable)
        self.query_one(StatusBar).show(
            status_parts(
                0 if table.cursor_row is None else table.cursor_row + 1,
                table.shown,
                table.total,
                table.filter_text,
                len(table.marked),
                table.hidden_marks,
                "  ".join(text for text in (self.imports_text, self.check_text) if text),
                self._message,
            )
        )

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
