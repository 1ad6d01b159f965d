"""The driver that writes only the cells that changed, and no frame that the line has no room for yet."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from select import select
from time import monotonic, sleep
from typing import Any
from weakref import finalize

from textual import events
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.constants import ESCAPE_DELAY
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message
from textual.messages import TerminalSupportsSynchronizedOutput

from .actions import BY_NAME
from .shadow import Shadow, UnknownSequenceError

_BEGIN, _END, _ASK = "\x1b[?2026h", "\x1b[?2026l", "\x1b[?2026$p"
_FRAME = re.compile(r"\x1b\[\d+;\d+H")
# Modes, the bell, the clipboard, the cursor's shape: they change no cell.
_HARMLESS = re.compile(r"(\x1b\[[<>?][\d;]*\$?[hlpu]|\x1b\[\d q|\x1b\]\d+;[^\x07\x1b]*(\x07|\x1b\\)|\x07)*")
_REDRAWN_BY = BY_NAME["redraw"].keys
PATIENCE, LONGEST = 0.2, 3.0  # seconds that an answer may take: over the shortest, and at all
_WAIT = 0.01
_MOST_READ = 4096


def erases_in_colour() -> bool:
    """Whether what this terminal erases takes the background that is set."""
    try:
        import curses
    except ImportError:
        return False
    try:
        curses.setupterm(fd=sys.__stdout__.fileno() if sys.__stdout__ else -1)
    except (curses.error, OSError, ValueError):
        return False
    return curses.tigetflag("bce") == 1


class CellDriver(LinuxDriver):
    """A frame that Textual writes goes into a shadow screen; what the terminal does not show yet is written. All else
    is written as it comes. ``raw_frames``: how many had to be written as they were. ``paced``: answers are waited for.

    Behind each frame the terminal is asked something, in a way that Textual itself asks at the start. While an answer
    is out for longer than it takes, frames are left out: the next that is written holds all of them."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self.raw_frames = 0
        self._shadow = Shadow(erases_in_colour=erases_in_colour())
        self._events: asyncio.AbstractEventLoop | None = None
        self._synchronizes = False
        self.paced = False
        self._asked = deque[float]()
        self._shortest = LONGEST
        self._later: asyncio.TimerHandle | None = None
        self._ending = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        finalize(self, os.close, self._ending)

    def write(self, data: str) -> None:
        if data in (_BEGIN, _END):
            # They stand around what is written, which may be later or nothing.
            self._synchronizes = True
        elif not _FRAME.match(data):
            if data == _ASK:
                self._asked.append(monotonic())
            if _HARMLESS.fullmatch(data):
                super().write(data)
            else:
                self._write_as_it_is(data)
        else:
            self._shadow.resize(shutil.get_terminal_size())
            try:
                self._shadow.draw(data)
            except UnknownSequenceError:
                self.raw_frames += 1
                self._write_as_it_is(data)
            else:
                self._write_cells()

    def _write_as_it_is(self, data: str) -> None:
        """Write what nobody knows the cells of, behind what the frames hold that were left out."""
        if self._events is not None:
            super().write(self._shadow.update())
        self._shadow.forget()
        super().write(data)

    def _write_cells(self) -> None:
        """Write what the terminal does not show yet, or see to it that this is done once it has answered."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        # Nothing is written between an end and a new start: the shell has the terminal.
        if self._events is None:
            return
        now = monotonic()
        oldest = self._asked[0] if self._asked else now
        if now - oldest >= LONGEST:
            self.paced = False
        elif self.paced and now - oldest > self._shortest + PATIENCE:
            self._later = self._events.call_later(oldest + LONGEST - now, self._write_cells)
            return
        cells = self._shadow.update()
        while self._shadow.lost:
            # A signal came meanwhile.
            cells = self._shadow.update()
        if not cells:
            return
        if self._synchronizes:
            cells = f"{_BEGIN}{cells}{_END}"
        if self.paced:
            self._asked.append(now)
            cells += _ASK
        super().write(cells)

    def redraw(self) -> None:
        """Write every cell again, whatever the terminal shows; from any thread, or a signal's handler."""
        self._shadow.lost = True
        self._soon(self._write_cells)

    def _soon(self, call: Callable[[], None]) -> None:
        if self._events is not None:
            with suppress(RuntimeError):  # it has ended
                self._events.call_soon_threadsafe(call)

    def run_input_thread(self) -> None:
        """Read what is typed and answered. Textual's own looks for its end ten times a second; this one is woken."""
        parser, decode = XTermParser(self._debug), getincrementaldecoder("utf-8")().decode
        pause: float | None = None
        while self._ending not in (ready := select([self.fileno, self._ending], [], [], pause)[0]):
            # That an escape is a key, only the time tells that passes without more.
            pause = ESCAPE_DELAY if ready else None
            if ready:
                if not (data := os.read(self.fileno, _MOST_READ)):
                    break
                for event in parser.feed(text) if (text := decode(data)) else ():
                    self.process_message(event)
            for event in parser.tick():
                self.process_message(event)

    def disable_input(self) -> None:
        """End the thread that reads, and wait for it."""
        os.eventfd_write(self._ending, 1)
        super().disable_input()
        # A signal that suspends may have come in between, and has read it.
        with suppress(BlockingIOError):
            os.eventfd_read(self._ending)

    def process_message(self, message: Message) -> None:
        """Called in the thread that reads what is typed and answered."""
        if isinstance(message, TerminalSupportsSynchronizedOutput):
            known = self.paced
            if self._events is None:
                self._answered()
            else:
                self._soon(self._answered)
            if known:
                return
        elif isinstance(message, events.Key) and message.key in _REDRAWN_BY:
            self.redraw()
        super().process_message(message)

    def _answered(self) -> None:
        if self._asked:
            self._shortest = min(self._shortest, monotonic() - self._asked.popleft())
            self.paced = True
        if self._later is not None:
            self._write_cells()

    def start_application_mode(self) -> None:
        self._shadow.lost = True
        self._asked.clear()
        self.paced, self._shortest = False, LONGEST
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self._events = asyncio.get_running_loop()
        resized = signal.getsignal(signal.SIGWINCH)

        def redraw(number: int, frame: Any) -> None:
            # A size that comes back at once is none that Textual draws for, but what was shown is cut.
            self.redraw()
            if callable(resized):
                resized(number, frame)

        signal.signal(signal.SIGWINCH, redraw)
        # What was drawn while the shell had the terminal.
        self._soon(self._write_cells)

    def stop_application_mode(self) -> None:
        self._events = None
        # Answers that come later would be typed into the shell.
        for _ in range(int((self._shortest + PATIENCE) / _WAIT) if self.paced else 0):
            if not self._asked:
                break
            sleep(_WAIT)
        super().stop_application_mode()
