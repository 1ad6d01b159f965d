"""The application: one screen for the daily work, kept in step with the disk."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.driver import Driver
from textual.filter import LineFilter, NoColor
from textual.message import Message
from textual.screen import Screen
from textual.worker import WorkerFailed

from ocitui.cache.daemon import DaemonState, find_daemon

from .actions import ACTIONS
from .live import LiveCache
from .options import ScreenOptions
from .screens.full import FullScreen
from .screens.importing import Importing
from .screens.main import MainScreen
from .terminal import THEMES, AsciiOnly, Terminal

if TYPE_CHECKING:
    from ocitui.cache import PackerCache

    from .import_board import ImportBoard
    from .live import LiveChange


class ImportsChanged(Message):
    """The imports are no longer as they were drawn."""


class OcituiApp(App[int], inherit_bindings=False):
    """Shows one cache. Every action calls the core; screens only ask it and show what it says."""

    TITLE = "ocitui"
    # Textual would bind the palette's key above every input: no colon could be typed.
    ENABLE_COMMAND_PALETTE = False
    ESCAPE_TO_MINIMIZE = False
    CSS_PATH: ClassVar[Path] = Path(__file__).with_name("ocitui.tcss")
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, options: ScreenOptions, terminal: Terminal | None = None) -> None:
        self.options = options
        self.terminal = terminal or Terminal.of_environment()
        theme = THEMES[options.theme or self.terminal.theme]
        super().__init__(ansi_color=True if theme.startswith("ansi") else None)
        self.use_command_palette = True
        self.theme = theme
        self.host = socket.gethostname()
        self.animation_level = "none"
        self._suspending = False
        self.live = LiveCache(
            options.directory, lambda: self.cache, self.daemon_state, self.why_read_only, self._tell_live
        )

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Everything that is drawn goes through these: no colours, no character the terminal has not."""
        filters = [NoColor()] if self.no_color else [*super().get_line_filters()]
        return [*filters, AsciiOnly()] if self.terminal.ascii else filters

    def get_default_screen(self) -> Screen[None]:
        return MainScreen()

    @cached_property
    def cache(self) -> PackerCache:
        """The core; imported and made after the first frame is painted."""
        from ocitui.cache import PackerCache

        return PackerCache(self.options.directory, read_only=self.options.read_only, wait=self.options.wait)

    def _tell_live(self, change: LiveChange) -> None:
        stack = self.screen_stack
        if stack and isinstance(stack[0], MainScreen) and stack[0].stands:
            stack[0].show_change(change)
            if isinstance(stack[-1], FullScreen):
                stack[-1].live_changed()

    @cached_property
    def imports(self) -> ImportBoard:
        """The imports; what they need is loaded with the first of them."""
        from .import_board import ImportBoard

        return ImportBoard(self.cache, self._tell_imports)

    @property
    def has_imports(self) -> bool:
        """Whether there is anything to know of imports, so that nothing is loaded to learn that there are none."""
        return "imports" in self.__dict__

    def _tell_imports(self) -> None:
        """Called from the thread of the imports, which may outlive the event loop."""
        with suppress(RuntimeError):
            self.post_message(ImportsChanged())

    def on_imports_changed(self) -> None:
        self.imports.take_news()
        # Only where it is seen: a change of a screen below another one has Textual repaint all of that one.
        if isinstance(self.screen, Importing | FullScreen):
            self.screen.imports_changed()

    def _handle_exception(self, error: Exception) -> None:
        """End for what nobody foresaw; `run_screen` raises it again, once the terminal is as it was.

        Textual would print what every variable holds.
        """
        fault = error.error if isinstance(error, WorkerFailed) else error
        if self._exception is None:
            self._exception = fault if isinstance(fault, Exception) else error
            self._exception_event.set()
        self._close_messages_no_wait()

    @property
    def fault(self) -> Exception | None:
        """What ended the program though nobody foresaw it."""
        return self._exception

    def fail(self, fault: Exception) -> None:
        """Be ended by what another thread raised."""
        self._handle_exception(fault)

    def finish_work(self) -> None:
        """Stop imports, which can be gone on with, and return once that is done and no transaction is under way."""
        if self.has_imports:
            self.imports.close()
        if "cache" in self.__dict__:
            self.cache.wait_for_transaction()

    def daemon_state(self, known: int | None = None) -> DaemonState:
        """The daemon as it is now, most likely still the process ``known``: reads /proc, so not on the event loop."""
        return find_daemon(self.options.directory, known=known)

    def why_read_only(self) -> str:
        """Why the cache may not be written, empty where it may: asks the file system, so not on the event loop."""
        if self.options.read_only:
            return "started with --read-only"
        directory = self.options.directory
        if directory.is_dir() and not os.access(directory, os.W_OK):
            return "this user may not write to the directory"
        return ""

    def set_theme(self, name: str) -> None:
        """Change to the theme dark, light or ansi."""
        self.ansi_color = True if name == "ansi" else None
        self.theme = THEMES[name]

    def action_suspend(self) -> None:
        """Stop as ctrl+z stops other programs, but not within a transaction: it would hold the lock meanwhile."""
        if not self._suspending:
            self._suspending = True
            self._suspend()

    @work(thread=True)
    def _suspend(self) -> None:
        with self.cache.between_transactions() if "cache" in self.__dict__ else nullcontext():
            self.call_from_thread(self.action_suspend_process)
        self._suspending = False

    @on(Driver.SignalResume)
    def _draw_again(self) -> None:
        """The shell's own screen was there meanwhile."""
        self.refresh(layout=True)

    def action_next_theme(self) -> None:
        names = list(THEMES)
        current = next((name for name, theme in THEMES.items() if theme == self.theme), names[0])
        following = names[(names.index(current) + 1) % len(names)]
        self.set_theme(following)
        main = self.screen_stack[0]
        if isinstance(main, MainScreen):
            main.say(f"theme {following}; start with --theme {following} to keep it")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: the same table as the keys."""
        main = self.screen_stack[0]
        return [
            SystemCommand(f"{action.label} ({action.key_label})", action.help, self._runner(main, action.name))
            for action in ACTIONS
            if not action.handled_by_widget and action.name != "command_palette"
        ]

    def _runner(self, screen: Screen[object], action: str) -> Callable[[], Coroutine[object, object, None]]:
        async def run() -> None:
            await screen.run_action(action)

        return run
