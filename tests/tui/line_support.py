"""A terminal of this process: what Textual wrote, and what came down the line, each shown by pyte."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pyte
import pytest

from ocitui.tui.cell_driver import CellDriver
from tests.tui.entry_table_support import Recording

Size = tuple[int, int]
ASK, ANSWER = "\x1b[?2026$p", "\x1b[?2026;2$y"
# What moves, colours and erases cells; all else has to come down the line as it was written.
_OF_CELLS = re.compile(r"\x0f|\x1b\(B|\x1b\[[\d;]*[ABCDHJKLMXmr]|\x1b\[\?2026(?:\$p|[hl])|\x1b\]8;[^\x1b]*\x1b\\")
_OTHERS = re.compile(r"\x1b\[[<>?]?[\d;]*\$?[a-z ]q?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x07")


class _Screen(pyte.Screen):
    """Pyte's, which knows dim cells too (it shows them blinking), and can be one that erases in no colour."""

    erases_in_colour = True

    def select_graphic_rendition(self, *attributes: int, **_: Any) -> None:
        codes, known = list(attributes or (0,)), list[int]()
        while codes:
            code = codes.pop(0)
            colour = {5: 2, 2: 4}.get(codes[0], 0) if code in (38, 48) else 0
            known += [{2: 5}.get(code, code), *codes[:colour], *([25] if code == 22 else [])]
            del codes[:colour]
        super().select_graphic_rendition(*known)

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        with self._erasing():
            super().erase_in_line(how, private)

    def erase_characters(self, count: int | None = None) -> None:
        with self._erasing():
            super().erase_characters(count)

    @contextmanager
    def _erasing(self) -> Iterator[None]:
        attributes = self.cursor.attrs
        if not self.erases_in_colour:
            self.cursor.attrs = self.default_char
        yield
        self.cursor.attrs = attributes


class Terminal:
    """What a terminal shows of what it was fed."""

    def __init__(self, size: Size, *, erases_in_colour: bool = True) -> None:
        self.screen = _Screen(*size)
        self.screen.erases_in_colour = erases_in_colour
        self._stream = pyte.Stream(self.screen)
        self.feed("\x1b[?7l")  # as Textual begins

    def feed(self, text: str) -> None:
        # The kernel puts a carriage return before each newline.
        self._stream.feed(text.replace(ASK, "").replace("\n", "\r\n"))

    def resize(self, size: Size) -> None:
        self.screen.resize(size[1], size[0])

    @property
    def seen(self) -> list[Any]:
        """Every cell, of a blank no more than is seen of it, and the place of the cursor."""
        return [*map(self._row, range(self.screen.lines)), self._place]

    def shows_as(self, other: Terminal) -> bool:
        """Whether the same is seen in both; rows of the very same cells need no closer look."""
        ours, theirs = self.screen.buffer, other.screen.buffer
        return self._place == other._place and all(
            ours[y] == theirs[y] or self._row(y) == other._row(y) for y in range(self.screen.lines)
        )

    def _row(self, y: int) -> list[pyte.screens.Char]:
        return [_look(self.screen.buffer[y][x]) for x in range(self.screen.columns)]

    @property
    def _place(self) -> tuple[int, int]:
        return self.screen.cursor.y, min(self.screen.cursor.x, self.screen.columns - 1)


@lru_cache(maxsize=10_000)
def _look(cell: pyte.screens.Char) -> pyte.screens.Char:
    if cell.data == " " and not (cell.underscore or cell.reverse or cell.strikethrough):
        return cell._replace(fg="default", bold=False, italics=False, blink=False)
    return cell


def others(written: str) -> list[str]:
    """All that is no cell, in its order: modes, mouse, bell, clipboard."""
    return _OTHERS.findall(_OF_CELLS.sub("", written))


class RecordedCells(Recording, CellDriver):
    """The driver, and what Textual gave it to write."""

    def write(self, data: str) -> None:
        self.written += data
        super().write(data)


class Line:
    """The line to a terminal: ``written`` came down it. ``answers``: the terminal says that it knows the mode it is
    asked for; ``asked`` counts what it was asked and did not answer."""

    def __init__(self, size: Size) -> None:
        self.written = ""
        self.answers, self.asked = False, 0
        self.master, self._slave = pty.openpty()
        self.file = open(self._slave, "rb", buffering=0)  # noqa: SIM115
        self.terminal, self.stock = Terminal(size), Terminal(size)
        self._fed = 0
        self.resize(size)

    def resize(self, size: Size) -> None:
        """As a terminal does it: it has the new size before the program learns of it."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.terminal.resize(size)
        self.stock.resize(size)

    def write(self, text: str) -> None:
        self.written += text
        self.terminal.feed(text)
        self.asked += text.count(ASK)
        if self.answers:
            self.answer(self.asked)

    def answer(self, count: int = 1) -> None:
        self.asked -= count
        self.type(ANSWER * count)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    @property
    def typed_ahead(self) -> bool:
        """Whether something was typed that the next who reads the terminal would have."""
        tty.setraw(self._slave, termios.TCSANOW)  # no line need have ended
        return bool(select.select([self._slave], [], [], 0)[0])

    def same(self, driver: Recording) -> bool:
        """Whether the terminal shows what it would show if all that Textual wrote had come down the line."""
        self.stock.feed(driver.written[self._fed :])
        self._fed = len(driver.written)
        return self.stock.shows_as(self.terminal)

    def close(self) -> None:
        self.file.close()
        os.close(self.master)


@contextmanager
def line_of(size: Size, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line to a terminal of this size, which this process takes for its own."""
    one = Line(size)
    numbers = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, signal.SIGTTIN, signal.SIGTTOU)
    kept = [(number, signal.getsignal(number)) for number in numbers]

    class Wire:
        """Takes what the driver writes, at once."""

        def __init__(self, _: object) -> None:
            self.write = one.write

        def start(self) -> None: ...

        def stop(self) -> None: ...

    monkeypatch.setattr("textual.drivers.linux_driver.WriterThread", Wire)
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.__{name}__", one.file)
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield one
    finally:
        for number, handler in kept:
            signal.signal(number, handler)
        monkeypatch.undo()
        one.close()


def cost(text: str) -> int:
    """The bytes on the line."""
    return len(text.encode()) + text.count("\n")


_MOST = {
    "j": 900,
    "pagedown": 950,
    "slash": 900,
    "p": 2500,
    "w": 3500,
    "question_mark": 3500,
    "s": 4500,
    "4": 3000,
    "=": 3000,
}


def most_bytes(size: Size = (0, 0), key: str = "") -> int:
    """How many bytes a key may cost: it is answered within a third of a second at 30 KB/s, or sooner in 80x24."""
    return _MOST.get(key, 9500) if size == (80, 24) else 9500
