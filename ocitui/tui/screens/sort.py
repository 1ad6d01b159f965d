"""Sort: choose a column, by its letter or from the list."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from ..session import SessionScreen

_Choice = tuple[str | None, bool] | None
_COLUMNS: tuple[tuple[str, str, str | None], ...] = (
    ("i", "index order", None),
    ("n", "name", "name"),
    ("t", "tag", "tag"),
    ("f", "format", "format"),
    ("d", "digest", "digest"),
    ("p", "platform", "platform"),
    ("s", "size", "size"),
    ("a", "age", "age"),
    ("x", "state", "state"),
)


class SortScreen(ModalScreen[_Choice], SessionScreen[_Choice]):
    """Dismissed with the column and whether to reverse it; the column in force, chosen again, is reversed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back", show=False)]
    DEFAULT_CSS = """
    SortScreen {
        align: center middle;
        & > OptionList { width: 30; height: auto; border: solid $primary; }
    }
    """

    def __init__(self, column: str | None, reverse: bool) -> None:
        super().__init__()
        self._now = (column, reverse)

    def compose(self) -> ComposeResult:
        options = [Option(self._label(letter, name, column), id=letter) for letter, name, column in _COLUMNS]
        yield OptionList(*options, markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).border_title = "sort by"

    def _label(self, letter: str, name: str, column: str | None) -> str:
        mark = "" if column != self._now[0] or column is None else (", reversed" if self._now[1] else ", now")
        return f"{letter}  {name}{mark}"

    def on_key(self, event: events.Key) -> None:
        if any(event.key == letter for letter, _, _ in _COLUMNS):
            event.stop()
            self._choose(event.key)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self._choose(event.option.id or "")

    def _choose(self, letter: str) -> None:
        column = next(column for known, _, column in _COLUMNS if known == letter)
        again = column is not None and column == self._now[0]
        self.dismiss((column, again and not self._now[1]))

    def action_leave(self) -> None:
        self.dismiss(None)
