"""The application: one screen for the daily work, kept in step with the disk; opening it, and every way to leave it."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.filter import LineFilter, NoColor
from textual.keys import key_to_character
from textual.screen import Screen
from textual.worker import WorkerFailed

from .actions import BY_NAME, key_label
from .live import LiveChange
from .screens.main import MainScreen
from .session import ScreenOptions, Session, SessionApp, SessionScreen
from .terminal import THEMES, AsciiOnly, textual_themes

_LEAVING_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
# Alternate screen, cursor, mouse, focus, paste and keyboard modes, as Textual turned them on.
_RESET = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[0m\r\n"
_STANDARD_INPUT, _STANDARD_OUTPUT, _STANDARD_ERROR = 0, 1, 2
_COLLECTING = (700, 10, 10)  # what Python begins with
_LONGEST_WAIT, _PAUSE = 1.0, 0.01  # seconds


class OcituiApp(SessionApp):
    """Shows one cache. Every action calls the core; screens only ask it and show what it says."""

    TITLE = "ocitui"
    # Textual's own takes what was found for an earlier letter where enter follows at once.
    ENABLE_COMMAND_PALETTE = False
    ESCAPE_TO_MINIMIZE = False
    CSS_PATH: ClassVar[Path] = Path(__file__).with_name("ocitui.tcss")
    # On every screen, and in inputs.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(BY_NAME[name].keys), name, show=False, priority=True) for name in ("redraw", "suspend")
    ]

    def __init__(self, session: Session) -> None:
        self.home = session
        self.use(session)
        # The ground is the terminal's own, in every theme.
        super().__init__(ansi_color=True)
        for theme in textual_themes():
            self.register_theme(theme)
        session.settings.theme = session.options.theme or session.settings.theme
        self.theme = THEMES[session.settings.theme or session.terminal.theme]
        self._styled = self.current_theme
        self.stylesheet.set_variables(self.get_css_variables())
        self.animation_level = "none"
        self._suspending = False

    def use(self, session: Session) -> None:
        super().use(session)
        session.live.tell, session.imports_changed = self._tell_live, self._tell_imports

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Everything that is drawn goes through these: no colours, no character the terminal has not."""
        filters: list[LineFilter] = [NoColor()] if self.no_color else []
        return [*filters, AsciiOnly()] if self.session.terminal.ascii else filters

    def get_driver_class(self) -> type[Driver]:
        """Only the cells that changed are written, where Textual's usual driver writes to a terminal itself."""
        driver = super().get_driver_class()
        if self.session.options.whole_frames:
            return driver
        from textual.drivers.linux_driver import LinuxDriver

        from .cell_driver import CellDriver

        return CellDriver if driver is LinuxDriver else driver

    def get_default_screen(self) -> Screen[None]:
        if not self.session.options.hosts:
            return MainScreen()
        from .screens.fleet import FleetScreen

        return FleetScreen()

    def refresh_css(self, animate: bool = True) -> None:
        """Style everything anew for another theme. Textual does as it starts too, for the one that all is read for."""
        if self._styled is not self.current_theme:
            self._styled = self.current_theme
            super().refresh_css(animate)

    def on_ready(self) -> None:
        """The first frame stands. What is there by now stays, and is no more looked through for what may go."""
        _keep_what_is_there()
        gc.set_threshold(*_COLLECTING)

    def _tell_live(self, change: LiveChange) -> None:
        """Tell the main screen, which the others come back to, and the one on top."""
        stack = self.screen_stack
        for screen in dict.fromkeys((*stack[:1], *stack[-1:])):
            if isinstance(screen, SessionScreen):
                screen.live_changed(change)

    def _tell_imports(self) -> None:
        """Called from the thread of the imports, which may outlive the event loop."""
        with suppress(RuntimeError):
            self.call_later(self.imports_changed)

    def imports_changed(self) -> None:
        """Have the screen on top draw how imports are by now."""
        self.session.imports.take_news()
        # Only where it is seen: a change of a screen below another one has Textual repaint all of that one.
        if isinstance(self.screen, SessionScreen):
            self.screen.imports_changed()

    def let_go(self) -> None:
        """Have workers end as they do when it is left, with what they asked and what they keep meanwhile; a loop that
        a terminal holds up is waited for only so long. Not on the event loop."""

        async def end() -> None:
            running = [*self.workers]
            self.workers.cancel_all()
            await asyncio.gather(*(worker.wait() for worker in running), return_exceptions=True)

        if self._loop is not None:
            with suppress(RuntimeError, TimeoutError):
                asyncio.run_coroutine_threadsafe(end(), self._loop).result(_LONGEST_WAIT)

    def _handle_exception(self, error: Exception) -> None:
        """End for what nobody foresaw, without the variables that Textual would print; `run_screen` raises it again."""
        fault = error.error if isinstance(error, WorkerFailed) else error
        if self._exception is None:
            self._exception = fault if isinstance(fault, Exception) else error
            self._exception_event.set()
        self._close_messages_no_wait()

    async def _check_bindings(self, key: str, priority: bool = False) -> bool:
        """Every key comes by here: first before a widget has it, and once more where none took it."""
        if priority and isinstance(self.screen, SessionScreen):
            self.screen.key_came()
        taken = await super()._check_bindings(key, priority)
        if not (taken or priority) and isinstance(self.screen, SessionScreen):
            character = key_to_character(key)
            self.screen.key_unknown(character if character and character.isprintable() else key_label(key))
        return taken

    def action_next_theme(self) -> None:
        names = list(THEMES)
        following = names[([*THEMES.values()].index(self.theme) + 1) % len(names)]
        self.theme = THEMES[following]
        self.session.settings.theme = following
        self.session.say(f"theme {following}; K keeps it for the next start")

    def action_commands(self) -> None:
        """Ask for a command by its name; it is done on the main screen."""
        from .screens.popups import CommandScreen

        async def run(name: str | None) -> None:
            if name:
                await self.action_on_main(name)

        self.push_screen(CommandScreen(), run)

    def action_show_help(self) -> None:
        from .screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_suspend(self) -> None:
        """Stop as ctrl+z stops other programs, but not within a transaction: it would hold the lock meanwhile."""
        if not self._suspending:
            self._suspending = True
            self._suspend()

    @work(thread=True)
    def _suspend(self) -> None:
        session = self.session
        with session.cache.between_transactions() if session.has_cache else nullcontext():
            self.call_from_thread(self.action_suspend_process)
        self._suspending = False

    @on(Driver.SignalResume)
    def action_redraw(self) -> None:
        """Write the whole screen again: another program wrote over it, or the shell's own was there meanwhile."""
        self.refresh(layout=True)


@cache
def _keep_what_is_there() -> None:
    """What stands once the first screen is drawn is looked through no more: once in a process."""
    gc.freeze()


def run_screen(options: ScreenOptions) -> int:
    """Open the screen and stay until the operator leaves; gives the exit status. Raises what nobody foresaw."""
    app = OcituiApp(Session(options))

    def failed(thread: threading.ExceptHookArgs) -> None:
        if isinstance(thread.exc_value, Exception):
            app.call_from_thread(app._handle_exception, thread.exc_value)

    threading.excepthook = failed
    with _drawing_on_the_terminal(), _leaving_on_signals(app):
        try:
            app.run(mouse=options.mouse)
        finally:
            app.session.finish_work()
    if app._exception is not None:
        raise app._exception
    return app.return_code or 0


@contextmanager
def _drawing_on_the_terminal() -> Iterator[None]:
    """Textual draws on standard error: where that leads to no terminal, nobody would see what the keys do. It is the
    terminal of standard output meanwhile. Raises OSError where there is none: its number may be another file's."""
    if sys.__stderr__ is None:
        raise OSError(errno.EBADF, "standard error is closed, and the screen is drawn on it")
    if os.isatty(_STANDARD_ERROR):
        yield
        return
    before = os.dup(_STANDARD_ERROR)
    os.dup2(_STANDARD_OUTPUT, _STANDARD_ERROR)
    try:
        yield
    finally:
        os.dup2(before, _STANDARD_ERROR)
        os.close(before)


@contextmanager
def _leaving_on_signals(app: OcituiApp) -> Iterator[None]:
    """A signal ends the program once a transaction under way is whole and imports are stopped; a second one at once.

    In a thread of its own: a terminal that is no longer read blocks the main one, and Python's handlers with it.
    """
    terminal: list[Any] | None = None
    with suppress(termios.error, OSError, ValueError):
        terminal = termios.tcgetattr(_STANDARD_INPUT)

    def end(number: int) -> None:
        _restore_terminal(terminal)
        os._exit(128 + number)

    def leave(number: int) -> None:
        app.let_go()
        app.session.finish_work()
        end(number)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    waiting = threading.Thread(target=_wait_for_signals, args=(reading, leave, end), name="ocitui-signals", daemon=True)
    waiting.start()
    former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # Without a handler of Python's, a number would not be written.
    before = {number: signal.signal(number, lambda *_: None) for number in _LEAVING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former)
        os.close(writing)
        waiting.join()
        os.close(reading)


def _wait_for_signals(fd: int, leave: Callable[[int], None], end: Callable[[int], None]) -> None:
    """Read the numbers of signals as they come, until the other end is closed."""
    leaving = False
    while number := os.read(fd, 1):
        if number[0] not in _LEAVING_SIGNALS:
            continue
        if leaving:
            end(number[0])
        leaving = True
        threading.Thread(target=leave, args=(number[0],), name="ocitui-leaving", daemon=True).start()


def _restore_terminal(modes: list[Any] | None) -> None:
    """Give the terminal back as it was; one that takes nothing is waited for only so long."""
    if modes is None:
        return
    with suppress(OSError, ValueError, termios.error):
        termios.tcsetattr(_STANDARD_INPUT, termios.TCSANOW, modes)
        # Textual draws on standard error. What it still has to draw goes nowhere, so that these bytes are the last.
        terminal = os.dup(_STANDARD_ERROR)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STANDARD_ERROR)
        os.set_blocking(terminal, False)
        _write(terminal, _RESET)
        os.set_blocking(terminal, True)


def _write(terminal: int, data: bytes) -> None:
    """Write to a terminal that may be busy with what was drawn last."""
    deadline = time.monotonic() + _LONGEST_WAIT
    while data and (left := deadline - time.monotonic()) > 0:
        select.select([], [terminal], [], left)
        try:
            data = data[os.write(terminal, data) :]
        except BlockingIOError:
            time.sleep(_PAUSE)
