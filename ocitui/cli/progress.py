"""How far a check, a repair or an import is, on standard error: one line drawn over and over on a terminal; of an
import else a line for each step."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, TextIO, TypeVar

from ocitui.text import clean, counted, human_size, human_span

from .layout import cell_width, cut, shortened
from .output import Settings, is_terminal, say

if TYPE_CHECKING:
    from ocitui.doctor.check.pacing import Progress
    from ocitui.doctor.repair.steps import RepairProgress
    from ocitui.importing.progress import ImportPhase, ImportProgress, ProgressCall

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


def doctor_text(now: Progress | RepairProgress, _: int) -> str:
    """How far a check is, or a repair."""
    from ocitui.doctor.check.pacing import Progress
    from ocitui.words.findings import check_progress, repair_progress

    return check_progress(now) if isinstance(now, Progress) else shortened(repair_progress(now))


# A step that takes less does not say how long it lasts.
_SHORT_SECONDS = 1.0
# A rate is worth nothing once nothing has come for so long.
_IDLE_SECONDS = 3.0
# What is shown of a reason, at least.
_LEAST_REASON = 12
_GAP = "  "


@contextmanager
def progress_shown(settings: Settings) -> Iterator[ProgressCall]:
    """What shows the progress of one import; it may be called in any thread. With --json only a terminal sees any."""
    if sys.stderr is not None and is_terminal(sys.stderr):
        with line_shown(_Words()) as show:
            yield show
    else:
        yield (lambda _: None) if settings.as_json else _PhaseLines().show


class _PhaseLines:
    """A line when a step begins that takes its time, and one when a registry keeps it waiting."""

    def __init__(self) -> None:
        self._phase: ImportPhase | None = None
        self._note = ""

    def show(self, now: ImportProgress) -> None:
        from ocitui.importing.progress import ImportPhase

        if now.phase is not self._phase and now.phase is not ImportPhase.INSPECT:
            self._phase = now.phase
            say(_announcement(now), err=True)
        if now.note and now.note != self._note:
            say(now.note, err=True)
        self._note = now.note


def _announcement(now: ImportProgress) -> str:
    """What the step that begins has to do, as far as that is known."""
    if not now.total:
        return now.phase
    sizes = [human_size(now.total)]
    sizes += [counted(now.layers_total, "layer")] if now.layers_total else []
    sizes += [counted(now.files_total, "file")] if now.files_total else []
    return f"{now.phase}: {', '.join(sizes)}"


class _Words:
    """What the line says, which depends on how long a step lasts, and for how long nothing was heard."""

    def __init__(self) -> None:
        self._latest: ImportProgress | None = None
        self._heard = self._since = 0.0

    def __call__(self, now: ImportProgress, width: int) -> str:
        clock = time.monotonic()
        if self._latest is None or now.phase is not self._latest.phase:
            self._since = clock
        if now is not self._latest:
            self._latest, self._heard = now, clock
        return progress_text(now, clock - self._since, clock - self._heard, width)


def progress_text(now: ImportProgress, seconds: float, idle: float, width: int) -> str:
    """One line of at most ``width`` cells. ``seconds`` is how long the step lasts already, ``idle`` for how long
    nothing was heard.

    Where it is narrow, files are left out first, then layers, the rate, and the time left.
    """
    from ocitui.words.imports import bytes_text, files_text

    if now.note:
        return _waiting_text(now, width)
    parts = [str(now.phase), bytes_text(now), _layers(now), files_text(now), *_pace(now, seconds, idle)]
    for at in (3, 2, 4, 5, 1):
        if cell_width(_joined(parts)) <= width:
            break
        parts[at] = ""
    return fitting(_joined(parts), width)


def _waiting_text(now: ImportProgress, width: int) -> str:
    """Why a registry is asked again, and when, which is the end of the note and is cut last."""
    from ocitui.words.imports import bytes_text

    reason, _, when = now.note.rpartition("; ")
    for text in (_joined([str(now.phase), bytes_text(now), now.note]), now.note):
        if cell_width(text) <= width:
            return text
    room = width - cell_width(when) - len("; ")
    return f"{fitting(reason, room)}; {when}" if reason and room > _LEAST_REASON else fitting(when, width)


def _joined(parts: list[str]) -> str:
    return _GAP.join(part for part in parts if part)


def _layers(now: ImportProgress) -> str:
    if now.layers:
        done = sum(layer.done == layer.total for layer in now.layers)
        return f"{done} of {counted(len(now.layers), 'layer')}"
    return f"layer {now.layer} of {now.layers_total}" if now.layer and now.total else ""


def _pace(now: ImportProgress, seconds: float, idle: float) -> tuple[str, str]:
    """The rate and the time left; else how long nothing came, or how long it has lasted where the end is not known."""
    from ocitui.words.imports import pace

    if not now.total:
        return "", human_span(seconds) if seconds >= _SHORT_SECONDS else ""
    if idle >= _IDLE_SECONDS and now.done < now.total:
        return f"nothing for {human_span(idle)}", ""
    return pace(now)
