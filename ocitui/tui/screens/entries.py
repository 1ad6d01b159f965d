"""The entries of a cache on a screen: header, table, pane, status and keys, and the line in which a filter is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Input

from ocitui.cache import Condition, IndexOutcome
from ocitui.text import clean, timestamp

from ..actions import footer
from ..live import LiveChange
from ..live_host import ask_again
from ..session import LAYOUTS, SessionScreen
from ..widgets import bars
from ..widgets.entry_pane import EntryPane, Tab
from ..widgets.entry_table import EntryTable
from ..widgets.lines import PickList, SearchDone
from .base import STATUS_SECONDS, Throttle

if TYPE_CHECKING:
    from ocitui.cache import Key

_WIDE = 120
_FILE_KEYS = (("enter", "Open"), ("← →", "Fold"), ("x", "Extract"), ("/", "Find"), ("s", "Sort"), ("esc", "Table"))
_COUNTED = 20_000
"""From so many entries on a filter that hides all is not tried without its last word: that takes too long for a key."""


class EntriesScreen(SessionScreen[None]):
    """Shows what is known, as it changes, and moves in it. A slow line delivers many keys at once: those typed after
    `/` belong to the question, and those typed after enter to what has the keys then, although all of them were sent to
    the widget that had the keys when they came."""

    AUTO_FOCUS = "EntryTable"

    def __init__(self) -> None:
        super().__init__()
        self._condition = Condition.SOUND
        self._asking: Literal["", "filter", "search"] = ""
        self._filter_before = self._imports_text = ""
        self._own_deletions: frozenset[Key] = frozenset()
        self._progress = Throttle(self, STATUS_SECONDS, self.draw_status)

    def compose(self) -> ComposeResult:
        yield bars.TooSmall()
        yield bars.HeaderBar()
        yield bars.HealthBar()
        self._trouble, self._status = bars.TroubleBar(), bars.StatusBar()
        yield self._trouble
        with Container(id="body"):
            self.table = EntryTable(placeholder="reading the cache")
            self.pane = EntryPane(self.session)
            yield from (self.table, self.pane)
        self._question = bars.OneLineQuestion(self.end_asking)
        yield self._question
        yield self._status
        yield bars.KeyBar()

    def on_mount(self) -> None:
        self.draw_header()
        self.draw_status()
        settings = self.session.settings
        self.table.sort_by(settings.sort or None, settings.reverse)
        if settings.layout != "split":
            self._lay_out()
        if self.session.odd_settings:
            self.say(self.session.odd_settings)
        # The first frame is painted before anything is read.
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        live = self.session.live
        for endless in (live.follow(), live.look(), live.follow_memory(), live.keep_copies(), live.follow_host()):
            self.run_worker(endless, group="live")
        if (mirror := self.session.options.mirror) is not None:
            asking = ask_again(mirror, live.host, lambda: live.tell(LiveChange()))
            self.run_worker(asking, group="live")

    # The cache, as it changes

    def live_changed(self, change: LiveChange) -> None:
        """Draw what is known by now."""
        live = self.session.live
        if change.only_progress:
            self._progress.ask()
            return
        if change.another and live.entries is not None:
            self.table.load(live.entries, change.moves)
        elif change.rows:
            self.table.update(change.rows)
        self.table.placeholder = self._placeholder()
        if live.health.condition is not self._condition:
            # What was refused or said under the old one may no longer be true.
            self._condition, self.message = live.health.condition, ""
        self.message = self._said_of(change) or self.message
        self.draw_header()
        self.draw_status()
        self._follow_cursor(change)

    def _follow_cursor(self, change: LiveChange) -> None:
        entry, shown, pane = self.table.cursor_entry, self.pane.entry, self.pane
        if entry is None or shown is None or entry.key != shown.key:
            if entry is not shown:
                pane.follow(entry, at_once=True)
        elif entry != shown or self.table.cursor_position in change.rows:
            pane.refresh_entry(entry)

    def _placeholder(self) -> str:
        health, verdict = self.session.live.health, self.session.live.health.verdict
        if not self.session.live.loaded:
            return "reading the cache"
        if self.session.live.total:
            return self._nothing_matches()
        if not health.sound:
            return "no entries can be shown"
        absent = verdict is not None and verdict.outcome is IndexOutcome.CREATED
        return "there is no index.json: is this a cache?" if absent else "the cache is empty"

    def _nothing_matches(self) -> str:
        """Which filter hides all, how many there were without its last word, and the way out."""
        entries, words = self.session.live.entries, self.table.rows.filter_text.split()
        without = ""
        if len(words) > 1 and entries is not None and len(entries) <= _COUNTED:
            without = f"; {len(entries.passing(' '.join(words[:-1])))} without {words[-1]!r}"
        return f"0 of {self.session.live.total} match{without}; esc shows all"

    def _said_of(self, change: LiveChange) -> str:
        """What there is to say; who did not delete what went away is told how much that was."""
        if len(change.gone) > 1 and not change.came and not self._own_deletions.issuperset(change.gone):
            return f"{len(change.gone)} entries left the index"
        return change.said

    # The pane

    def action_show_tab(self, tab: Tab) -> None:
        self._with_pane().open_tab(tab)

    def action_step_tab(self, by: int) -> None:
        self._with_pane().step_tab(by)

    def _with_pane(self) -> EntryPane:
        """The pane, beside the table that had all the room."""
        if self.has_class("-table"):
            self.session.settings.layout = "split"
            self.remove_class("-table")
        return self.pane

    def action_switch_focus(self) -> None:
        self._with_pane()
        if self.table.has_focus:
            self.pane.focus_view()
        elif not self.has_class("-whole"):
            self.table.focus()

    def give_keys(self) -> None:
        if self.focused is None and self.has_class("-whole"):
            self.pane.focus_view()
        else:
            super().give_keys()

    @on(EntryTable.Opened)
    def action_open_pane(self) -> None:
        """Give the pane the whole screen, and the keys."""
        self.remove_class("-table")
        self.add_class("-whole")
        self.pane.focus_view()

    @on(EntryPane.TabShown)
    def _tab_shown(self) -> None:
        if not self.table.has_focus:
            self.call_after_refresh(self.pane.focus_view)

    def action_back(self) -> None:
        """One step back: from a question, the whole pane, the pane, a filter."""
        if self._asking:
            self.end_asking(False)
        elif self.has_class("-whole"):
            settings = self.session.settings
            settings.layout = "split" if settings.layout == "pane" else settings.layout
            self._lay_out()
        elif not self.table.has_focus:
            self.table.focus()
        elif self.table.rows.filter_text:
            self.table.filter_by("")
            self.draw_status()
        else:
            self.app.come_back()

    # How the room is shared out

    def action_layout(self) -> None:
        """Table and pane, the table alone, the pane alone."""
        settings = self.session.settings
        now = "pane" if self.has_class("-whole") else settings.layout
        settings.layout = LAYOUTS[(LAYOUTS.index(now) + 1) % len(LAYOUTS)]
        self._lay_out()

    def _lay_out(self) -> None:
        layout = self.session.settings.layout
        self.set_class(layout == "table", "-table")
        self.set_class(layout == "pane", "-whole")
        if layout == "pane":
            self.pane.focus_view()
        else:
            self.table.focus()

    def action_move_split(self, by: int) -> None:
        """Give the table more of the room, or with less than none the pane; for this width of the screen."""
        self._with_pane()
        settings, name = self.session.settings, "wide_split" if self.has_class("-wide") else "split"
        setattr(settings, name, min(max(getattr(settings, name) + by, 20), 80))
        self._share_out()

    def _share_out(self) -> None:
        wide, settings = self.has_class("-wide"), self.session.settings
        share = settings.wide_split if wide else settings.split
        for widget, part in ((self.table, share), (self.pane, 100 - share)):
            widget.styles.width, widget.styles.height = (f"{part}fr", "1fr") if wide else ("1fr", f"{part}fr")

    # Bars

    def draw_header(self) -> None:
        live = self.session.live
        bars.draw_frame(self)
        bar, before = self._trouble, len(self._trouble.lines)
        may_mend = not self.session.refusal("mend")
        bar.show(*bars.trouble_lines(live.health, live.alarm, live.assessment, self.app.size.width, may_mend=may_mend))
        if len(bar.lines) != before:
            self.call_after_refresh(self.table.cover, len(bar.lines) - before)
        self.table.stale = "" if live.health.sound or not live.total else f"AS OF {timestamp(live.as_of)[11:16]}Z"

    def draw_status(self) -> None:
        """Show the filter, the marks, what goes on, and what was said last, or what helps on the cursor's row."""
        table = self.table
        shown, text, marks, hidden = table.shown, table.rows.filter_text, table.rows.marks, table.rows.hidden_marks
        place = f"{0 if table.cursor_row is None else table.cursor_row + 1} of {shown}"
        parts: list[bars.Part] = [(f" {place}  ", "muted")] if self.has_class("-wide") else []
        if text:
            parts.append((f" filter {clean(text)!r}: {shown}/{table.total} ", "strong"))
        if marks:
            parts.append((f" {marks} marked{f', {hidden} hidden' if hidden else ''} ", "mark"))
        if self._imports_text:
            parts.append((f" {self._imports_text} ", "strong"))
        if (deep := self.session.live.deep).running:
            from ocitui.words import check_progress

            parts.append((f" deep check: {check_progress(deep.progress)} ", "strong"))
        if unanswered := self.session.live.host.unanswered:
            parts.append((f" {clean(unanswered)} ", "warn"))
        if self.message:
            parts.append(f" {clean(self.message)}")
        else:
            parts += self._hint()
        self._status.show(parts)
        self.pane.show_place(place)
        self._draw_keys()

    def _hint(self) -> list[bars.Part]:
        files = self.pane.files
        if files is not None and files.has_focus and files.contents is not None and files.entry is not None:
            return [" ", files.contents.told(files.entry)]
        if not self.session.live.health.sound:
            rows = "rows of the last good index" if self.session.live.total else "no entry is known"
            return [" ", (rows, "warn"), "; nothing is written until it is sound"]
        entry = self.table.cursor_entry
        if entry is None or entry.state.unknown:
            return []
        if entry.state.bad:
            says: list[bars.Part] = [("w", "key"), " says what kratad does about it"]
            return [" ", *(() if self.session.refusal("mend") else (("m", "key"), " plans what mends it, ")), *says]
        if entry.resolves == "overruled":
            points = () if self.session.refusal("point") else (": ", ("P", "key"), " points it here")
            return [" a later entry has its name", *points]
        return []

    def _draw_keys(self) -> None:
        live, entry, files = self.session.live, self.table.cursor_entry, self.pane.files
        actions = footer(
            trouble=not live.health.sound or bool(live.alarm),
            bad=entry is not None and entry.state.bad,
            marks=bool(self.table.rows.marks),
        )
        keys = [(one.key_label, one.label) for one in actions]
        if files is not None and files.has_focus:
            keys = [*_FILE_KEYS]
        off = [one.label for one in actions if self.session.refusal(one.name)]
        wide = self.app.size.width >= 100
        always = ((":", "commands" if wide else "all"), ("?", "help"), ("q", "quit"))
        bars.show_keys(self, keys, always, off)

    @on(EntryTable.Highlighted)
    def _highlighted(self) -> None:
        self.pane.follow(self.table.cursor_entry)

    @on(EntryPane.Rested)
    @on(EntryTable.CountsChanged)
    @on(PickList.CursorMoved)
    @on(events.DescendantFocus)
    def _counts_changed(self) -> None:
        self.draw_status()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= _WIDE, "-wide")
        self._share_out()
        self.draw_header()
        self._draw_keys()

    # A filter, or a search in the document that has the keys

    def action_filter(self) -> None:
        view = self.pane.searched_view
        self._asking = "search" if view is not None and self.focused is view else "filter"
        self._filter_before = self.table.rows.filter_text
        self._question.ask(self.table.rows.filter_text if self._asking == "filter" else "", self._asking)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a question is open every key is its own, but those that end it."""
        return not self._asking or action in ("back", "interrupt")

    def on_key(self, event: events.Key) -> None:
        """Keys that were sent to another widget before the question was open, and those around it, in their order."""
        if self._question.take(event):
            return
        if event.key == "escape":
            self.action_back()
        elif event.key == "slash" and not self._asking:
            self.action_filter()
        else:
            return
        event.stop()
        event.prevent_default()

    @on(Input.Changed, "#ask")
    def _ask_changed(self) -> None:
        # It may have been asked anew by now.
        if self._asking == "filter":
            self._filter(self._question.value)

    def _filter(self, text: str) -> None:
        """Show what matches; a filter that cannot be understood changes nothing, and what was meant is said."""
        entries = self.session.live.entries
        if entries is not None and (refused := entries.misunderstood(text)):
            self.say(f"Filter: {refused[0]}; {refused[1]}")
            return
        self.table.filter_by(text)
        if not self.table.shown:
            self.table.placeholder = self._placeholder()
        self.say("")

    def end_asking(self, keep: bool) -> None:
        """Close the question; ``keep`` takes what was typed, else all is as it was before."""
        asking, self._asking = self._asking, ""
        view = self.pane.searched_view
        if asking == "filter":
            self._filter(self._question.value if keep else self._filter_before)
        elif keep and view is not None:
            view.search(self._question.value)
        if self.focused is self._question:
            self.set_focus(self.table if asking == "filter" else view)
        self._question.close()

    def on_search_done(self, event: SearchDone) -> None:
        self.say(event.told)
