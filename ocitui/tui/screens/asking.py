"""The line in which a filter or a search is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from textual import events, on
from textual.widgets import Input

from ..widgets.entry_pane import EntryPane
from ..widgets.entry_table import EntryTable
from ..widgets.inputs import OneLineQuestion
from .entry_actions import EntryActions

if TYPE_CHECKING:
    from ..widgets.document_view import DocumentView


class Asking(EntryActions):
    """Filters the table as it is typed, or searches the document that has the keys.

    A slow line delivers many keys at once: those typed after `/` belong to the question, and those typed after enter
    to what has the keys then, although all of them were sent to the widget that had the keys when they came.
    """

    _asking: Literal["", "filter", "search"] = ""

    def action_filter(self) -> None:
        table = self.query_one(EntryTable)
        view = self.query_one(EntryPane).document_view
        self._asking = "filter" if table.has_focus or view is None or not view.has_focus else "search"
        self.add_class("-asking")
        self._question.ask(table.filter_text if self._asking == "filter" else "", self._asking)
        self.set_focus(self._question)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a question is open every key is its own, but those that end it."""
        return not self._asking or action in ("back", "interrupt")

    @property
    def _question(self) -> OneLineQuestion:
        return self.query_one(OneLineQuestion)

    def on_key(self, event: events.Key) -> None:
        """Keys that were sent to another widget before the question was open."""
        if not self._asking and event.key == "slash":
            self.action_filter()
        elif self._asking and event.is_printable and event.character:
            self._question.insert_text_at_cursor(event.character)
        elif self._asking and event.key in ("enter", "escape"):
            self.end_asking(keep=event.key == "enter")
        else:
            return
        event.stop()
        event.prevent_default()

    @on(OneLineQuestion.Left)
    def _ask_left(self) -> None:
        """The mouse went elsewhere: what was typed stays. A terminal that is not looked at changes nothing."""
        if self._asking and self.app.app_focus:
            self.end_asking(keep=True, focus=False)

    @on(Input.Changed, "#ask")
    def _ask_changed(self, event: Input.Changed) -> None:
        if self._asking == "filter":
            self._filter(event.value)

    def _filter(self, text: str) -> None:
        """Show what matches; a filter that cannot be understood changes nothing, and what was meant is said."""
        entries = self.app.live.entries
        if entries is not None and (refused := entries.misunderstood(text)):
            self.say(f"Filter: {refused[0]}; {refused[1]}")
            return
        self.query_one(EntryTable).filter_text = text
        self.say("")

    def end_asking(self, *, keep: bool, focus: bool = True) -> None:
        """Close the question; ``keep`` takes what was typed, else it was never asked."""
        asking, self._asking = self._asking, ""
        table = self.query_one(EntryTable)
        view = self.query_one(EntryPane).document_view
        self._question.open = False
        if asking == "filter":
            self._filter(self._question.value if keep else "")
        elif keep and view is not None:
            view.search(self._question.value)
        if focus:
            self.set_focus(table if asking == "filter" else view)
        self.remove_class("-asking")

    def on_document_view_search_done(self, event: DocumentView.SearchDone) -> None:
        found = f"{event.count}{' or more' if event.capped else ''}"
        self.say(f"match {event.current} of {found}; n and N go on" if event.count else "no match")
