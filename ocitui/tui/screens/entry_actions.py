"""The main screen's actions: each asks the core, or opens the screen that does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.screen import Screen

from ocitui.cache import Condition, Entry, Health
from ocitui.text import clean

from ..actions import BY_NAME
from ..widgets.entry_table import EntryTable

if TYPE_CHECKING:
    from ..app import OcituiApp


class EntryActions(Screen[None]):
    """What can be done with the cache and the entries of the table, and when it may not be."""

    app: OcituiApp
    health = Health(Condition.SOUND)
    own_deletions: frozenset[tuple[str, str | None]] = frozenset()

    def say(self, message: str) -> None:
        """Put a message in the status line."""

    def draw_status(self) -> None:
        """Show the status line as it is now."""

    def begin_following(self) -> None:
        """Follow the cache from the beginning."""

    @property
    def read_only(self) -> str:
        """Why the cache may not be written; empty where it may."""
        return ""

    def refusal(self, action: str) -> str:
        """Why an action that writes is off now; empty where it is not."""
        if action not in BY_NAME or not BY_NAME[action].writes:
            return ""
        gone = self.health.condition in (Condition.GONE, Condition.UNREADABLE)
        if not self.health.sound and (gone or not BY_NAME[action].mends):
            what = "the directory" if self.health.condition is Condition.GONE else "index.json"
            return f"nothing is written while {what} is {self.health.condition}"
        return self.read_only

    def may(self, action: str) -> bool:
        if reason := self.refusal(action):
            self.say(f"{BY_NAME[action].label}: {reason}")
            return False
        return True

    def chosen(self) -> list[Entry]:
        """The marked entries, else the one under the cursor."""
        table = self.query_one(EntryTable)
        if marked := table.marked:
            return [entry for key in marked if (entry := table.entry(key)) is not None]
        return [table.cursor_entry] if table.cursor_entry else []

    def action_delete(self) -> None:
        entries = self.chosen()
        if not self.may("delete"):
            return
        if not entries:
            self.say("Delete: there is no entry under the cursor")
            return
        keys = list(dict.fromkeys(entry.descriptor.key for entry in entries))
        self.own_deletions = frozenset(keys)
        from .delete import DeleteScreen

        self.app.push_screen(DeleteScreen(keys), self._deleted)

    def _deleted(self, message: str | None) -> None:
        if message:
            self.query_one(EntryTable).clear_marks()
            self.say(message)

    def action_undo(self) -> None:
        if self.may("undo"):
            self._open_undo(None)

    def _open_undo(self, transaction_id: str | None) -> None:
        from .undo import UndoScreen

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

    def action_why(self) -> None:
        from .why import WhyScreen

        entry = self.query_one(EntryTable).cursor_entry
        self.app.push_screen(WhyScreen(clean(entry.descriptor.image_name or entry.digest) if entry else ""))

    def action_point(self) -> None:
        entry = self.query_one(EntryTable).cursor_entry
        if not self.may("point"):
            return
        if entry is None:
            self.say("Point: there is no entry under the cursor")
            return
        from .point import PointScreen

        self.app.push_screen(PointScreen(entry.descriptor), self.said)

    def action_resolve(self) -> None:
        from .resolve import ResolveScreen

        entry = self.query_one(EntryTable).cursor_entry
        name = (entry.descriptor.image_name or "") if entry else ""
        self.app.push_screen(ResolveScreen(clean(name), entry.format if entry else ""))

    def said(self, message: str | None) -> None:
        if message:
            self.say(message)

    def action_verdict(self) -> None:
        from .verdict import VerdictScreen

        self.app.push_screen(VerdictScreen(self.health))

    def action_help(self) -> None:
        from .help import HelpScreen

        self.app.push_screen(HelpScreen())

    def action_refresh(self) -> None:
        """Begin again from nothing: read the index and list the directory."""
        self.begin_following()
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
