"""Opening the screen, and leaving it in every way there is."""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from .app import OcituiApp
from .options import ScreenOptions

_LEAVING_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
# Alternate screen, cursor, mouse, focus, paste and keyboard modes, as Textual turned them on.
_RESET = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[0m\r\n"
_STANDARD_INPUT, _STANDARD_ERROR = 0, 2
_LONGEST_WAIT, _PAUSE = 1.0, 0.01  # seconds


def run_screen(options: ScreenOptions) -> int:
    """Open the screen and stay until the operator leaves; gives the exit status. Raises what nobody foresaw."""
    app = OcituiApp(options)

    def failed(thread: threading.ExceptHookArgs) -> None:
        if isinstance(thread.exc_value, Exception):
            app.call_from_thread(app.fail, thread.exc_value)

    threading.excepthook = failed
    with _leaving_on_signals(app):
        try:
            app.run(mouse=options.mouse)
        finally:
            app.finish_work()
    if app.fault is not None:
        raise app.fault
    return app.return_code or 0


@contextmanager
def _leaving_on_signals(app: OcituiApp) -> Iterator[None]:
    """A signal ends the program once a transaction under way is whole and imports are stopped; a second one at once,
    whatever that waits for: the next writer finishes what is pending.

    In a thread of its own: a terminal that is no longer read blocks the main one, and Python's handlers with it. One
    that the kernel gave to another thread does not even wake it; what it writes here comes through always.
    """
    terminal = _terminal_modes()

    def end(number: int) -> None:
        _restore_terminal(terminal)
        os._exit(128 + number)

    def leave(number: int) -> None:
        app.finish_work()
        end(number)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    waiting = threading.Thread(target=_wait_for_signals, args=(reading, leave, end), name="ocitui-signals", daemon=True)
    waiting.start()
    former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _noted) for number in _LEAVING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former)
        os.close(writing)
        waiting.join()
        os.close(reading)


def _noted(number: int, _: FrameType | None) -> None:
    """Without a handler of Python's, its number would not be written."""


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


def _terminal_modes() -> list[Any] | None:
    try:
        return termios.tcgetattr(_STANDARD_INPUT)
    except (termios.error, OSError, ValueError):
        return None


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
