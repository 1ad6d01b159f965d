"""How a command does its work: the cache, the question before what cannot be taken back lightly (the host is named, and
only the whole word yes confirms), and what is asynchronous, run to its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from ocitui.cache import PlanChangedError
from ocitui.text import timestamp

from .output import CancelledError, InterruptedBySignalError, NotAskedError, ask, can_ask, refuse_read_only, say
from .prose import paragraph
from .settings import Settings

if TYPE_CHECKING:
    from ocitui.cache import PackerCache

T = TypeVar("T")
CONFIRMATION = "yes"
TRIES = 3
"""How many plans are made where nobody is asked and the cache goes on changing."""


def agree(settings: Settings, agreed: bool, lines: Iterable[str], question: str) -> None:
    """Show what is about to be done, and ask unless it is ``agreed`` to already.

    With a question the lines go where it goes, to standard error. Raises NotAskedError, CancelledError.
    """
    asking = not agreed and can_ask()
    if asking or not settings.as_json:
        for line in chain(place(settings), lines):
            say(line, err=asking)
    if agreed:
        return
    if not asking:
        raise NotAskedError("nothing was done: there is no terminal to ask on")
    if ask(f"{question} Type {CONFIRMATION} to confirm, anything else leaves it:") != CONFIRMATION:
        raise CancelledError("cancelled")


def agree_to_drop_used(settings: Settings, used_by: Sequence[str], question: str) -> None:
    """Ask once more, whatever was agreed to before, where loop devices hold what is to go.

    Raises NotAskedError, CancelledError.
    """
    if used_by:
        text = f"{', '.join(used_by)}: something runs on packed files of the entries that are to go"
        if not can_ask():
            hint = "stop what runs on them, or answer on a terminal: --yes does not stand for this"
            raise NotAskedError(f"nothing was done: {text}", hint=hint)
        agree(settings, False, paragraph(text), question)


def place(settings: Settings) -> list[str]:
    """Where it is going to happen, and whether a daemon there will meet it."""
    from ocitui.cache.daemon import find_daemon
    from ocitui.doctor.assessment_texts import memory_warning

    lines = [f"on {os.uname().nodename}, in {settings.directory.absolute()}"]
    daemon = find_daemon(settings.directory)
    if daemon.running:
        lines += paragraph(memory_warning("write back what it remembers", timestamp(daemon.since)))
    return lines


def as_agreed(agreed: bool, carry_out: Callable[[], T]) -> T:
    """The outcome of a plan that is made, shown and carried out; a new one where that no longer holds.

    Raises PlanChangedError where nobody is asked and the cache goes on changing.
    """
    tries = 0
    while True:
        try:
            return carry_out()
        except PlanChangedError as error:
            tries += 1
            if agreed and tries == TRIES:
                raise
            say(f"{error.message}: here is what would be done now", err=True)


# A signal that came as the work ended takes the loop two turns to be told.
_TURNS = 3
_MOST_NOTES = 10
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cache_of(settings: Settings) -> PackerCache:
    """The cache a command works on; nothing is read yet, so that a corrupt index stops only what needs it."""
    from ocitui.cache import PackerCache

    return PackerCache(settings.directory, read_only=settings.read_only, wait=settings.wait)


def writing_cache(settings: Settings, doing: str) -> PackerCache:
    """The cache, for a command that writes: what is pending is finished before it looks at anything else.

    Raises ReadOnlyError, and what `PackerCache.prepare` raises.
    """
    refuse_read_only(settings, doing)
    cache = cache_of(settings)
    tell_notes(run_async(cache.prepare()).notes)
    return cache


def tell_notes(notes: Sequence[str]) -> None:
    """Say what lies in `.ocitui` and was found, or made, to be otherwise than it should."""
    for note in notes[:_MOST_NOTES]:
        say(f"note: {note}", err=True)
    if len(notes) > _MOST_NOTES:
        say(f"note: and {len(notes) - _MOST_NOTES} more; ocitui log and ocitui check show them", err=True)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of ``work``. Raises InterruptedBySignalError.

    A signal cancels it, but a thread that writes is waited for when the loop ends, so a transaction ends whole.
    """
    import asyncio

    return asyncio.run(_cancelled_by_signals(work))


async def _cancelled_by_signals(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        caught.append(number)
        task.cancel()
        # A second one ends the program at once, whatever it waits for: the next writer finishes what is pending.
        for each in _SIGNALS:
            if loop.remove_signal_handler(each):
                signal.signal(each, signal.SIG_DFL)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) sets it
            loop.add_signal_handler(number, stop, number)
    try:
        result = await task
    except asyncio.CancelledError:
        if not caught:
            raise
    else:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if not caught:
            return result
    raise InterruptedBySignalError(caught[0], caught[0].name)


async def keep_index_aside(settings: Settings) -> tuple[str, ...]:
    """Copy a corrupt index aside, or keep a backup of a sound one, unless nothing may be written; gives notes on it."""
    import asyncio

    from ocitui.doctor.check.history import keep_index

    note = "" if settings.read_only else await asyncio.to_thread(keep_index, settings.directory)
    return (note,) if note else ()
