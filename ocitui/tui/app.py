"""The application: one screen for the daily work, kept in step with the disk."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from ocitui.cache.daemon import DaemonState, find_daemon

from .actions import ACTIONS
from .options import ScreenOptions
from .screens.main import MainScreen
from .terminal import THEMES, Terminal

if TYPE_CHECKING:
    from ocitui.cache import CacheError, PackerCache


class OcituiApp(App[int]):
    """Shows one cache. Every action calls the core; screens only ask it and show what it says."""

    TITLE = "ocitui"
    COMMAND_PALETTE_BINDING = "colon"
    ESCAPE_TO_MINIMIZE = False
    CSS_PATH: ClassVar[str] = "ocitui.tcss"
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, options: ScreenOptions, terminal: Terminal | None = None) -> None:
        self.options = options
        self.terminal = terminal or Terminal.of_environment()
        theme = THEMES[options.theme or self.terminal.theme]
        super().__init__(ansi_color=True if theme.startswith("ansi") else None)
        self.theme = theme
        self.host = socket.gethostname()
        self.animation_level = "none"

    def get_default_screen(self) -> Screen[None]:
        return MainScreen()

    @cached_property
    def cache(self) -> PackerCache:
        """The core; imported and made after the first frame is painted."""
        from ocitui.cache import PackerCache

        return PackerCache(self.options.directory, read_only=self.options.read_only, wait=self.options.wait)

    def finish_transaction(self) -> None:
        """Return once no transaction is under way."""
        if "cache" in self.__dict__:
            self.cache.wait_for_transaction()

    def daemon_state(self) -> DaemonState:
        """The daemon as it is now: reads /proc, so not on the event loop."""
        return find_daemon(self.options.directory)

    def show_error(self, error: CacheError) -> None:
        """Say what went wrong and what to do about it."""
        text = f"{error.message}\n{error.hint}" if error.hint else error.message
        self.notify(text, title="Not done", severity="error", timeout=15, markup=False)

    def set_theme(self, name: str) -> None:
        """Change to the theme dark, light or ansi."""
        self.ansi_color = True if name == "ansi" else None
        self.theme = THEMES[name]

    def action_next_theme(self) -> None:
        names = list(THEMES)
        current = next((name for name, theme in THEMES.items() if theme == self.theme), names[0])
        following = names[(names.index(current) + 1) % len(names)]
        self.set_theme(following)
        self.notify(f"theme {following}; start with --theme {following} to keep it", timeout=4)

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
