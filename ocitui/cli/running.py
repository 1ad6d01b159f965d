"""Asynchronous work, run to its end by a command."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

from ocitui.cache import DeletePlan, LockedError, PackedImage, PackerCache, Transaction
from ocitui.cache.index import Key

from .failures import InterruptedBySignalError
from .options import Settings

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOCK_POLL_SECONDS = 0.05


class PatientCache(PackerCache):
    """A cache whose writers wait ``patience`` seconds for the lock of another program; a signal ends the wait."""

    patience = 0.0

    async def store(self, packed: PackedImage) -> PackedImage:
        store = super().store
        return await _patiently(self.patience, lambda: store(packed))

    async def delete(self, keys: Collection[Key], plan: DeletePlan | None = None) -> Transaction:
        delete = super().delete
        return await _patiently(self.patience, lambda: delete(keys, plan))

    async def undo(self, transaction_id: str | None = None) -> Transaction:
        undo = super().undo
        return await _patiently(self.patience, lambda: undo(transaction_id))


def cache_of(settings: Settings) -> PackerCache:
    """The cache a command works on; nothing is read yet, so that a corrupt index stops only what needs it."""
    cache = PatientCache(settings.directory, read_only=settings.read_only)
    cache.patience = settings.wait
    return cache


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

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) sets it
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not caught:
            raise
        raise InterruptedBySignalError(caught[0], caught[0].name) from None


async def _patiently(wait: float, call: Callable[[], Awaitable[T]]) -> T:
    """Write, and try again for ``wait`` seconds while another program holds the lock. Raises LockedError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        try:
            return await call()
        except LockedError:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(_LOCK_POLL_SECONDS)
