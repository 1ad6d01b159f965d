"""How far a check, repair or import is, on standard error: a line on a terminal, else one a step of an import."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from ocitui.text import clean, counted, human_size, human_span

from .output import USUAL_WIDTH, Call, cell_width, cut, is_terminal, say, shortened

if TYPE_CHECKING:
    from ocitui.doctor import Progress, RepairProgress
    from ocitui.importing import ImportProgress, ProgressCall

T = TypeVar("T")
_REDRAW_SECONDS = 0.25
_TICK_SECONDS = 1.0


@contextmanager
def line_shown(words: Callable[[T, int], str]) -> Iterator[Callable[[T], None]]:
    """What shows the latest of what it is called with, in any thread; nothing where there is no terminal. ``words``
    says it in so many cells, else it is cut; it is asked when there is news, and each second, as time is news too."""
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    fd, encoding = sys.stderr.fileno(), sys.stderr.encoding
    news, ended = threading.Event(), threading.Event()
    latest: T | None = None

    def show(now: T) -> None:
        nonlocal latest
        latest = now
        news.set()

    def draw(text: str) -> None:
        os.write(fd, f"\r{clean(text)}\x1b[K".encode(encoding, "replace"))

    def run() -> None:
        drawn = ""
        with suppress(OSError):  # the terminal hung up
            while not ended.wait(_REDRAW_SECONDS):
                news.wait(_TICK_SECONDS if drawn else None)
                news.clear()
                if latest is None or ended.is_set():
                    continue
                # The last cell of the line is left: a terminal may wrap there.
                width = max((os.get_terminal_size(fd).columns or USUAL_WIDTH) - 1, 1)
                text = cut(words(latest, width), width)
                if text != drawn:
                    draw(text)
                    drawn = text
            # An empty line is left to whoever writes next.
            if drawn:
                draw("")

    # In a thread of its own: a terminal that is not read for a while holds nothing up.
    thread = threading.Thread(target=run, name="ocitui-progress", daemon=True)
    thread.start()
    try:
        yield show
    finally:
        ended.set()
        news.set()
        thread.join()


def doctor_text(now: Progress | RepairProgress, _: int) -> str:
    """How far a check is, or a repair."""
    from ocitui.doctor import Progress
    from ocitui.words import check_progress, repair_progress

    return check_progress(now) if isinstance(now, Progress) else shortened(repair_progress(now))


# A step that takes less does not say how long it lasts.
_SHORT_SECONDS = 1.0
# A rate is worth nothing once nothing has come for so long.
_IDLE_SECONDS = 3.0
# What is shown of a reason, at least.
_LEAST_REASON = 12
_GAP = "  "


@contextmanager
def progress_shown(call: Call) -> Iterator[ProgressCall]:
    """What shows the progress of one import; it may be called in any thread. With --json only a terminal sees any."""
    if is_terminal(sys.stderr):
        with line_shown(_words()) as show:
            yield show
    else:
        yield (lambda _: None) if call.as_json else _phase_lines()


def _phase_lines() -> ProgressCall:
    """A line when a step begins that takes its time, and one when a registry keeps it waiting."""
    from ocitui.importing import ImportPhase

    phase, note = ImportPhase.INSPECT, ""

    def show(now: ImportProgress) -> None:
        nonlocal phase, note
        if now.phase is not phase and now.phase is not ImportPhase.INSPECT:
            phase = now.phase
            say(_announcement(now), err=True)
        if now.note and now.note != note:
            say(now.note, err=True)
        note = now.note

    return show


def _announcement(now: ImportProgress) -> str:
    """What the step that begins has to do, as far as that is known."""
    if not now.total:
        return now.phase
    sizes = [human_size(now.total)]
    sizes += [counted(now.layers_total, "layer")] if now.layers_total else []
    sizes += [counted(now.files_total, "file")] if now.files_total else []
    return f"{now.phase}: {', '.join(sizes)}"


def _words() -> Callable[[ImportProgress, int], str]:
    """What the line says, which depends on how long a step lasts, and for how long nothing was heard."""
    latest: ImportProgress | None = None
    heard = since = 0.0

    def words(now: ImportProgress, width: int) -> str:
        nonlocal latest, heard, since
        clock = time.monotonic()
        if latest is None or now.phase is not latest.phase:
            since = clock
        if now is not latest:
            latest, heard = now, clock
        return progress_text(now, clock - since, clock - heard, width)

    return words


def progress_text(now: ImportProgress, seconds: float, idle: float, width: int) -> str:
    """One line of at most ``width`` cells; where it is narrow, files are left out first, then layers, the rate, and the
    time left. ``seconds`` is how long the step lasts already, ``idle`` for how long nothing was heard."""
    from ocitui.words import bytes_text, files_text

    if now.note:
        return _waiting_text(now, width)
    parts = [str(now.phase), bytes_text(now), _layers(now), files_text(now), *_pace(now, seconds, idle)]
    for at in (3, 2, 4, 5, 1):
        if cell_width(_joined(parts)) <= width:
            break
        parts[at] = ""
    return cut(_joined(parts), width)


def _waiting_text(now: ImportProgress, width: int) -> str:
    """Why a registry is asked again, and when, which is the end of the note and is cut last."""
    from ocitui.words import bytes_text

    reason, _, when = now.note.rpartition("; ")
    for text in (_joined([str(now.phase), bytes_text(now), now.note]), now.note):
        if cell_width(text) <= width:
            return text
    room = width - cell_width(when) - len("; ")
    return f"{cut(reason, room)}; {when}" if reason and room > _LEAST_REASON else cut(when, width)


def _joined(parts: list[str]) -> str:
    return _GAP.join(part for part in parts if part)


def _layers(now: ImportProgress) -> str:
    if now.layers:
        done = sum(layer.done == layer.total for layer in now.layers)
        return f"{done} of {counted(len(now.layers), 'layer')}"
    return f"layer {now.layer} of {now.layers_total}" if now.layer and now.total else ""


def _pace(now: ImportProgress, seconds: float, idle: float) -> tuple[str, str]:
    """The rate and the time left; else how long nothing came, or how long it has lasted where the end is not known."""
    from ocitui.words import import_pace

    if not now.total:
        return "", human_span(seconds) if seconds >= _SHORT_SECONDS else ""
    if idle >= _IDLE_SECONDS and now.done < now.total:
        return f"nothing for {human_span(idle)}", ""
    return import_pace(now)
