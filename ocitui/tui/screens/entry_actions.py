"""The main screen's actions: each asks the core, or opens the screen that does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.screen import Screen

from ocitui.cache import Condition
from ocitui.text import clean

from ..actions import BY_NAME
from ..widgets.entry_table import EntryTable

if TYPE_CHECKING:
    from ocitui.doctor.findings import Finding

    from ..app import OcituiApp


class EntryActions(Screen[None]):
    """What can be done with the cache and the entries of the table, and when it may not be."""

    app: OcituiApp
    own_deletions: frozenset[tuple[str, str | None]] = frozenset()

    def say(self, message: str) -> None:
        """Put a message in the status line."""

    def draw_status(self) -> None:
        """Show the status line as it is now."""

    def refusal(self, action: str) -> str:
        """Why an action that writes is off now; empty where it is not."""
        if action not in BY_NAME or not BY_NAME[action].writes:
            return ""
        health = self.app.live.health
        gone = health.condition in (Condition.GONE, Condition.UNREADABLE)
        if not health.sound and (gone or not BY_NAME[action].mends):
            what = "the directory" if health.condition is Condition.GONE else "index.json"
            return f"nothing is written while {what} is {health.condition}"
        return self.app.live.read_only

    def may(self, action: str) -> bool:
        if reason := self.refusal(action):
            self.say(f"{BY_NAME[action].label}: {reason}")
            return False
        return True

    def _chosen(self) -> list[int]:
        """The positions of the marked entries, else of the one under the cursor."""
        table = self.query_one(EntryTable)
        if marked := table.marked:
            return marked
        return [] if table.cursor_position is None else [table.cursor_position]

    def action_delete(self) -> None:
        entries, chosen = self.app.live.entries, self._chosen()
        if not self.may("delete"):
            return
        if not chosen or entries is None:
            self.say("Delete: there is no entry under the cursor")
            return
        keys = list(dict.fromkeys((entries.digests[at], entries.formats[at]) for at in chosen))
        self.own_deletions = frozenset(keys)
        from .changes import DeleteScreen

        self.app.push_screen(DeleteScreen(keys), self._deleted)

    def _deleted(self, message: str | None) -> None:
        if message:
            self.query_one(EntryTable).clear_marks()
            self.say(message)

    def action_undo(self) -> None:
        if self.may("undo"):
            self._open_undo(None)

    def _open_undo(self, transaction_id: str | None) -> None:
        from .changes import UndoScreen

        self.app.push_screen(UndoScreen(transaction_id), self.said)

    def action_journal(self) -> None:
        from .journal import JournalScreen

        self.app.push_screen(JournalScreen(), self._undo_chosen)

    def action_trash(self) -> None:
        from .trash import TrashScreen

        self.app.push_screen(TrashScreen(), self._undo_chosen)

    def _undo_chosen(self, transaction_id: str | None) -> None:
        """A mend can be undone whatever the index is; of others the screen says what is in the way."""
        if not transaction_id:
            return
        if reason := self.refusal("mend"):
            self.say(f"Undo: {reason}")
        else:
            self._open_undo(transaction_id)

    # What is wrong

    def action_problems(self) -> None:
        from .problems import ProblemsScreen

        self.app.push_screen(ProblemsScreen(), self._go_to)

    def action_mend(self) -> None:
        """Under a banner about the index, the index, wherever the cursor is; else the entries that are bad."""
        if not self.may("mend"):
            return
        live = self.app.live
        if not live.health.sound or live.alarm:
            self._plan_repair(None)
            return
        entries, chosen = live.entries, self._chosen()
        bad = {entries.digests[at] for at in chosen if entries.state(at).bad} if entries is not None else set()
        if not bad:
            what = "nothing is known to be wrong with it" if chosen else "there is no entry under the cursor"
            if not live.complete:
                what = "not everything was looked into yet"
            self.say(f"Mend: {what}; p shows what else is wrong")
            return
        self._plan_repair(frozenset(bad))

    def _plan_repair(self, digests: frozenset[str] | None) -> None:
        """Plan the mending of the index, or of what these digests have."""
        from ocitui.doctor.repair.index_steps import CODES

        from .repair import RepairScreen

        self.app.push_screen(RepairScreen(CODES if digests is None else digests), self.said)

    def check_deep(self) -> None:
        """Read all bytes; it goes on whatever screen is shown."""
        self.run_worker(self.app.live.check_deep(), group="check", exclusive=True)

    def cancel_check(self) -> None:
        self.workers.cancel_group(self, "check")

    def _go_to(self, finding: Finding | None) -> None:
        """Put the cursor on the entry of a finding, and show what is wrong with it."""
        self.draw_status()
        entries, table = self.app.live.entries, self.query_one(EntryTable)
        if finding is None or entries is None:
            return
        same = [position for position, digest in enumerate(entries.digests) if digest == finding.digest]
        for wanted in ((finding.format, finding.name), (finding.format,), ()):
            for position in same:
                if (entries.formats[position] or "", entries.names[position] or "")[: len(wanted)] == wanted:
                    if not table.move_cursor_to(position):
                        table.filter_text = ""
                        table.move_cursor_to(position)
                    self.show_problems()
                    return
        self.say("no entry of the index is what that is about")

    def show_problems(self) -> None:
        """Open the tab that tells what is wrong with the entry under the cursor."""

    def action_why(self) -> None:
        from .lookup import WhyScreen

        entry = self.query_one(EntryTable).cursor_entry
        self.app.push_screen(WhyScreen(clean(entry.descriptor.image_name or entry.digest) if entry else ""))

    def action_point(self) -> None:
        entry = self.query_one(EntryTable).cursor_entry
        if not self.may("point"):
            return
        if entry is None:
            self.say("Point: there is no entry under the cursor")
            return
        from .changes import PointScreen

        self.app.push_screen(PointScreen(entry.descriptor), self.said)

    def action_resolve(self) -> None:
        from .lookup import ResolveScreen

        entry = self.query_one(EntryTable).cursor_entry
        name = (entry.descriptor.image_name or "") if entry else ""
        self.app.push_screen(ResolveScreen(clean(name), entry.format if entry else ""))

    def said(self, message: str | None) -> None:
        if message:
            self.say(message)

    def action_verdict(self) -> None:
        from .verdict import VerdictScreen

        self.app.push_screen(VerdictScreen())

    def action_help(self) -> None:
        from .help import HelpScreen

        self.app.push_screen(HelpScreen())

    def action_refresh(self) -> None:
        """Read the index and list the directory."""
        self.app.live.read_again()
        self.say("read again")

    def action_sort(self) -> None:
        from .sort import SortScreen

        def chosen(choice: tuple[str | None, bool] | None) -> None:
            if choice is not None:
                self.query_one(EntryTable).sort_by(*choice)

        table = self.query_one(EntryTable)
        self.app.push_screen(SortScreen(table.sort_column, table.sort_reverse), chosen)

    def action_mark_all(self) -> None:
        self.query_one(EntryTable).mark_all_shown()

    def action_clear_marks(self) -> None:
        self.query_one(EntryTable).clear_marks()

    def action_copy_digest(self) -> None:
        entry = self.query_one(EntryTable).cursor_entry
        if entry is not None:
            self._copy(entry.digest, "digest")

    def action_copy_name(self) -> None:
        entry = self.query_one(EntryTable).cursor_entry
        if entry is not None:
            self._copy(entry.descriptor.image_name or "", "name")

    def _copy(self, text: str, what: str) -> None:
        self.app.copy_to_clipboard(text)
        self.say(f"{what} sent to the terminal")

    def action_command_palette(self) -> None:
        self.app.action_command_palette()

    def action_suspend(self) -> None:
        self.app.action_suspend()

    def action_next_theme(self) -> None:
        self.app.action_next_theme()
