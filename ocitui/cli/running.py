"""Asynchronous work, run to its end by a command."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from ocitui.cache import PackerCache

from .failures import InterruptedBySignalError, refuse_read_only
from .options import Settings
from .output import say

T = TypeVar("T")
# A signal that came as the work ended takes the loop two turns to be told.
_TURNS = 3
_MOST_NOTES = 10
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cache_of(settings: Settings) -> PackerCache:
    """The cache a command works on; nothing is read yet, so that a corrupt index stops only what needs it."""
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
    return asyncio.run(_cancelled_by_signals(work))


async def _cancelled_by_signals(work: Coroutine[Any, Any, T]) -> T:
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
