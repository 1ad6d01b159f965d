"""Trying again: as `Retry-After` says, else after one second and twice as long each time; at most a minute."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..source_errors import TransferError
from .failures import PassingError
from .options import RegistryOptions

T = TypeVar("T")
_LONGEST_WAIT = 60.0


class Backoff:
    """Counts the tries of one request, and waits between them."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._failed = 0

    def made_progress(self) -> None:
        """A long transfer over a bad line goes on for as long as it gets anywhere."""
        self._failed = 0

    async def wait(self, error: PassingError) -> None:
        """Wait before the next try. Raises TransferError after the last one."""
        self._failed += 1
        if self._failed >= self._options.tries:
            raise TransferError(f"{error.message} (after {self._failed} tries)") from error
        seconds = error.wait if error.wait is not None else min(2.0 ** (self._failed - 1), _LONGEST_WAIT)
        self._options.notify(f"{error.message}; trying again in {seconds:g} s")
        await self._options.sleep(seconds)


async def retried(options: RegistryOptions, attempt: Callable[[], Awaitable[T]]) -> T:
    """What ``attempt`` gives, tried again while it raises PassingError; not where nobody answers at all.

    Raises TransferError, and what else ``attempt`` raises.
    """
    backoff = Backoff(options)
    while True:
        try:
            return await attempt()
        except PassingError as error:
            if not error.connected:
                raise TransferError(error.message, hint="see that the registry runs and can be reached") from error
            await backoff.wait(error)
