"""Drawing no more often than a slow line bears."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.message_pump import MessagePump
from textual.timer import Timer


class Throttle:
    """Calls at most once in ``seconds``, and always once after the last time it was asked; no timer runs at rest."""

    def __init__(
        self, pump: MessagePump, seconds: float, call: Callable[[], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pump = pump
        self._seconds = seconds
        self._call = call
        self._clock = clock
        self._last = float("-inf")
        self._timer: Timer | None = None

    def ask(self) -> None:
        """Call now, or as soon as it is time."""
        if self._timer is not None:
            return
        wait = self._last + self._seconds - self._clock()
        if wait <= 0:
            self._now()
        else:
            self._timer = self._pump.set_timer(wait, self._now)

    def _now(self) -> None:
        self._timer = None
        self._last = self._clock()
        self._call()
