"""What the screens of their own share: host and daemon on top, lines, and the keys below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget

from ocitui.text import clean

from ..session import SessionScreen
from ..widgets.bars import HeaderBar, KeyBar, Part, StatusBar, daemon_text, title_parts
from ..widgets.lines_view import Line, LinesView, LongList
from ..widgets.pick_list import PickList, PickRow

R = TypeVar("R")


class FullScreen(SessionScreen[R]):
    """A screen with a title; `esc` goes back and does nothing else."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", show=False),
        Binding("f1", "app.show_help", "Help", show=False),
        Binding("pageup", "scroll(-1)", "Page up", show=False),
        Binding("pagedown", "scroll(1)", "Page down", show=False),
        Binding("ctrl+c", "interrupt", "Interrupt", show=False, priority=True),
        Binding("ctrl+z", "app.suspend", "Suspend", show=False, priority=True),
    ]
    AUTO_FOCUS = "LinesView"
    subject: ClassVar[str] = ""
    keys: ClassVar[Sequence[tuple[str, str]]] = (("esc", "Back"),)

    def compose(self) -> ComposeResult:
        yield HeaderBar()
        yield from self.compose_body()
        yield KeyBar()
        yield StatusBar()

    def compose_body(self) -> Iterable[Widget]:
        """What stands between header and keys."""
        yield LinesView()

    def on_mount(self) -> None:
        self.draw_header()
        self.show_keys(self.keys)
        self.begin()

    def begin(self) -> None:
        """Called once the screen stands."""

    def on_resize(self) -> None:
        self.draw_header()

    def draw_header(self) -> None:
        """Which host, which directory, which daemon: the wrong window is the costliest mistake."""
        width = self.app.size.width
        daemon = daemon_text(self.session.live.daemon, short=width < 110)
        title = title_parts(self.session.host, self.session.directory, f"{self.subject}  {daemon}", width)
        self.query_one(HeaderBar).show(title)

    def show_keys(self, keys: Sequence[tuple[str, str]]) -> None:
        parts: list[Part] = []
        for key, label in keys:
            parts.extend([(f" {key}", "bold"), f" {label} "])
        for bar in self.query(KeyBar):
            bar.show(parts)

    def show_lines(self, lines: Iterable[Line | LongList]) -> None:
        # None is left for an answer that comes when the screen was just closed.
        for view in self.query(LinesView):
            view.set_lines(lines)

    def say(self, message: str) -> None:
        for bar in self.query(StatusBar):
            bar.show([f" {clean(message)}"])

    def action_scroll(self, pages: int) -> None:
        """Scroll the lines, whatever has the keys."""
        for view in self.query(LinesView):
            view.action_pages(pages)

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_interrupt(self) -> None:
        """What runs on this screen is stopped by it; most have nothing that runs."""
        self.say("nothing is running; esc goes back")


class ListScreen(FullScreen[R]):
    """A list, and below it what there is to say of the row under the cursor."""

    AUTO_FOCUS = "PickList"
    DEFAULT_CSS = """
    ListScreen {
        PickList { height: 1fr; }
        LinesView { height: 1fr; border-top: solid $panel; }
    }
    """

    def compose_body(self) -> Iterable[Widget]:
        yield PickList()
        yield LinesView()

    def show_rows(self, rows: Iterable[PickRow]) -> None:
        # As for lines: there is none left when the screen was just closed.
        for view in self.query(PickList):
            view.set_rows([*rows])

    @property
    def key(self) -> str:
        """The key of the row under the cursor; empty where there is none."""
        return next((view.key or "" for view in self.query(PickList)), "")
