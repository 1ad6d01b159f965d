"""How fast a body comes: one that only drips would keep the timeout away for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .failures import PassingError
from .options import RegistryOptions


class Pace:
    """Measures one body; only the time counts that is spent waiting for it, not what is done with its bytes."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._waited = 0.0
        self._came = 0

    @contextmanager
    def waiting(self, host: str) -> Iterator[None]:
        """The next bytes are waited for. Raises PassingError where too few have come for a while."""
        before = self._options.clock()
        yield
        self._waited += self._options.clock() - before
        if self._waited < self._options.rate_seconds:
            return
        least = self._options.least_rate * self._waited
        if self._came < least:
            raise PassingError(f"{host} sent only {self._came} bytes in {self._waited:.0f} seconds")
        self._waited, self._came = 0.0, 0

    def add(self, count: int) -> None:
        """So many bytes have come."""
        self._came += count
