"""One line on the terminal of standard error, drawn over and over, that says how far something is."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, TextIO, TypeVar

from ocitui.text import clean

from .output import is_terminal
from .tables import cell_width, cut

T = TypeVar("T")
_REDRAW_SECONDS = 0.25
_TICK_SECONDS = 1.0
# Of a terminal that does not say how wide it is.
_USUAL_WIDTH = 80


@contextmanager
def line_shown(words: Callable[[T, int], str]) -> Iterator[Callable[[T], None]]:
    """What shows the latest of what it is called with, in any thread; nothing where there is no terminal.

    ``words`` says it in so many cells, as well as it can: what is longer is cut. It is asked anew when there is
    news, and at least each second, as a time that goes by is news too.
    """
    if sys.stderr is None or not is_terminal(sys.stderr):
        yield lambda _: None
        return
    line = _Line(sys.stderr, words)
    try:
        yield line.show
    finally:
        line.end()


class _Line(Generic[T]):
    """Draws in a thread of its own: a terminal that is not read for a while holds nothing up."""

    def __init__(self, stream: TextIO, words: Callable[[T, int], str]) -> None:
        self._fd, self._encoding, self._words = stream.fileno(), stream.encoding, words
        self._latest: T | None = None
        self._news, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ocitui-progress", daemon=True)
        self._thread.start()

    def show(self, now: T) -> None:
        self._latest = now
        self._news.set()

    def end(self) -> None:
        """Leave an empty line to whoever writes next."""
        self._ended.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        drawn = ""
        with suppress(OSError):  # the terminal hung up
            while not self._ended.wait(_REDRAW_SECONDS):
                self._news.wait(_TICK_SECONDS if drawn else None)
                self._news.clear()
                text = drawn if self._latest is None or self._ended.is_set() else self._text(self._latest)
                if text != drawn:
                    self._draw(text)
                    drawn = text
            if drawn:
                self._draw("")

    def _text(self, now: T) -> str:
        # The last cell of the line is left: a terminal may wrap there.
        width = max((os.get_terminal_size(self._fd).columns or _USUAL_WIDTH) - 1, 1)
        return fitting(self._words(now, width), width)

    def _draw(self, text: str) -> None:
        os.write(self._fd, f"\r{clean(text)}\x1b[K".encode(self._encoding, "replace"))


def fitting(text: str, width: int) -> str:
    """The text, cut where it is longer than so many cells."""
    return text if cell_width(text) <= width else cut(text, width)


def human_span(seconds: float) -> str:
    """``45s``, ``12m05s``, ``3h20m``; a second that has begun counts."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
