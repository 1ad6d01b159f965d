"""Opening the screen, and leaving it in every way there is."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from .app import OcituiApp
from .options import ScreenOptions

_LEAVING_SIGNALS = (signal.SIGHUP, signal.SIGTERM)
# Alternate screen, cursor, mouse, focus, paste and keyboard modes, as Textual turned them on.
_RESET = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[0m\r\n"


def run_screen(options: ScreenOptions) -> int:
    """Open the screen and stay until the operator leaves; gives the exit status."""
    app = OcituiApp(options)
    with _leaving_on_signals(app):
        app.run(mouse=options.mouse)
    return app.return_code or 0


@contextmanager
def _leaving_on_signals(app: OcituiApp) -> Iterator[None]:
    """SIGHUP and SIGTERM end the program once a transaction under way is whole.

    Not through the event loop: a terminal that is no longer read blocks it, and its signal handlers with it.
    """
    terminal = _terminal_modes()

    def leave(number: int, _: FrameType | None) -> None:
        app.finish_transaction()
        _restore_terminal(terminal)
        os._exit(128 + number)

    before = {number: signal.signal(number, leave) for number in _LEAVING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminal_modes() -> list[Any] | None:
    try:
        return termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError, ValueError):
        return None


def _restore_terminal(modes: list[Any] | None) -> None:
    """Give the terminal back as it was, without waiting for one that takes nothing."""
    if modes is None:
        return
    with suppress(OSError, ValueError, termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)
        descriptor = sys.stdout.fileno()
        os.set_blocking(descriptor, False)
        os.write(descriptor, _RESET)
        os.set_blocking(descriptor, True)
