"""One line on the terminal of standard error, drawn over and over, that says how far something is."""

from __future__ import annotations

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


@contextmanager
def line_shown(words: Callable[[T], str]) -> Iterator[Callable[[T], None]]:
    """What shows the latest of what it is called with, in these ``words``; nothing where there is no terminal."""
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

    def __init__(self, stream: TextIO, words: Callable[[T], str]) -> None:
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
                self._news.wait()
                self._news.clear()
                text = self._words(self._latest) if self._latest is not None and not self._ended.is_set() else drawn
                if text != drawn:
                    self._draw(text)
                    drawn = text
            if drawn:
                self._draw("")

    def _draw(self, text: str) -> None:
        # The last cell of the line is left: a terminal may wrap there. One that does not say how wide it is has 80.
        width = (os.get_terminal_size(self._fd).columns or 80) - 1
        fitting = text if cell_width(text) <= width else cut(text, width)
        os.write(self._fd, f"\r{clean(fitting)}\x1b[K".encode(self._encoding, "replace"))
