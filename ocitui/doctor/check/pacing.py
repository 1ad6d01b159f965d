"""Progress, the rate of reading, and work on several files at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from ocitui.threads import Stop

T = TypeVar("T")
_SECONDS_BETWEEN = 0.1
_NAP = 0.05


class Progress(msgspec.Struct, frozen=True):
    """``entries`` and ``bytes`` done, of how many; ``seconds`` since the beginning. ``phase`` is what is being done."""

    phase: str
    entries: int = 0
    entries_total: int = 0
    bytes: int = 0
    bytes_total: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Bytes a second, entries a second where no bytes are counted; 0 at the beginning."""
        return (self.bytes if self.bytes_total else self.entries) / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None while it cannot be told."""
        left = self.bytes_total - self.bytes if self.bytes_total else self.entries_total - self.entries
        return left / self.rate if self.rate else None


class Meter:
    """Counts what was done, by any thread, and tells of it ten times a second."""

    def __init__(self, report: Callable[[Progress], object]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._progress = Progress("index")
        self._began = self._told = time.monotonic()
        self.bytes_read = 0

    def enter(self, phase: str, entries: int, bytes: int = 0) -> None:
        """Begin another phase, with so much to do."""
        with self._lock:
            self._began = time.monotonic()
            self._progress = Progress(phase, 0, entries, 0, bytes)
            self._told = 0.0
        self.add()

    def reach(self, entries: int) -> None:
        """So many entries are done in all."""
        self.add(entries - self._progress.entries)

    def add(self, entries: int = 0, bytes: int = 0, *, read: bool = True) -> None:
        """So much is done; ``read`` is False for bytes that were passed over."""
        with self._lock:
            now, old = time.monotonic(), self._progress
            self.bytes_read += bytes if read else 0
            self._progress = msgspec.structs.replace(
                old, entries=old.entries + entries, bytes=old.bytes + bytes, seconds=now - self._began
            )
            if now - self._told < _SECONDS_BETWEEN:
                return
            self._told = now
        self._report(self._progress)


class Brake:
    """Holds all readers together to so many bytes a second; None does not."""

    def __init__(self, rate: float | None, stop: Stop) -> None:
        self._rate, self._stop = rate, stop
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, size: int) -> None:
        """Wait until so many bytes may be read. Raises AbandonedError when the work is to end."""
        self._stop.check()
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            start = self._free_at = max(self._free_at, now)
            self._free_at += size / self._rate
        while (left := start - time.monotonic()) > 0:
            self._stop.check()
            time.sleep(min(left, _NAP))


def in_parallel(items: Iterable[T], work: Callable[[T], object], jobs: int, stop: Stop) -> None:
    """Do ``work`` for each, ``jobs`` at once. An error ends all of it and is raised, as is AbandonedError."""
    waiting, lock, failed = iter(items), threading.Lock(), threading.Event()

    def serve() -> None:
        try:
            while not failed.is_set():
                with lock:
                    item = next(waiting, None)
                if item is None:
                    return
                stop.check()
                work(item)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(jobs, thread_name_prefix="ocitui-check") as pool:
        for serving in [pool.submit(serve) for _ in range(jobs)]:
            serving.result()
