"""How far an import is: its step, bytes, files, rate and the time that is left of the step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

_WINDOW_SECONDS = 5.0
_EVERY_SECONDS = 0.1
# A rate that is known for a shorter time says nothing.
_LEAST_SECONDS = 0.5


class ImportPhase(StrEnum):
    """The steps in their order. WAIT is for another import of the same image; COPY is for packed files, for what comes
    by standard input, and for layers that are unpacked out of a compressed archive. READ checks the layers, WRITE feeds
    the packer, FINISH is what that one does once it has everything and reading back what it made, of which nobody knows
    how long it takes."""

    WAIT = "wait"
    INSPECT = "inspect"
    DOWNLOAD = "download"
    COPY = "copy"
    READ = "read layers"
    WRITE = "pack"
    FINISH = "finish"
    STORE = "store"


class LayerProgress(msgspec.Struct, frozen=True):
    """One layer that is downloaded, in bytes."""

    digest: str
    done: int
    total: int


class ImportProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """``done`` and ``total`` are bytes of this step, ``total`` 0 where nobody knows it; ``files_total`` likewise.
    ``rate`` is in bytes a second over the last seconds, ``left`` the seconds left of this step; None where not known.
    ``layer`` of ``layers_total`` is the one that is read, from 1. ``note`` is why a registry keeps it waiting."""

    phase: ImportPhase
    done: int = 0
    total: int = 0
    files: int = 0
    files_total: int = 0
    layers: tuple[LayerProgress, ...] = ()
    layer: int = 0
    layers_total: int = 0
    rate: float | None = None
    left: float | None = None
    note: str = ""


ProgressCall = Callable[[ImportProgress], None]


class RecentRate:
    """The rate of the last few seconds; what was there at the first look does not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, done: int) -> None:
        now = self._clock()
        self._seen.append((now, done))
        while self._seen[0][0] < now - _WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Bytes a second, None while it is too early to say."""
        (then, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now - then) if now - then >= _LEAST_SECONDS and done >= before else None


class Tracker:
    """Gathers what the steps report, and passes it on at most ten times a second and at each new step."""

    def __init__(self, call: ProgressCall | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._call = call
        self._clock = clock
        self._meter = RecentRate(clock)
        self._phase: ImportPhase | None = None
        self._layers: dict[str, LayerProgress] = {}
        self._fetch_phase = ImportPhase.DOWNLOAD
        self._told = 0.0
        self._at_end = False
        self._note = ""

    def enter(self, phase: ImportPhase) -> None:
        """A step begins, of which nothing is known yet."""
        self._tell(ImportProgress(phase))

    def expect_layers(self, sizes: Mapping[str, int], *, remote: bool = True) -> None:
        """The layers that are to be fetched, by digest; those that are not ``remote`` mostly lie in place already."""
        self._fetch_phase = ImportPhase.DOWNLOAD if remote else ImportPhase.COPY
        self._layers = {digest: LayerProgress(digest, 0, size) for digest, size in sizes.items()}

    def downloaded(self, digest: str, done: int, total: int) -> None:
        """Blob by blob, as `Source.fetch` reports it."""
        self._note = ""
        before = self._layers[digest].done if digest in self._layers else 0
        is_new = not before
        # One that is begun anew stands still until it is where it was.
        self._layers[digest] = LayerProgress(digest, max(done, before), total)
        if self._fetch_phase is ImportPhase.DOWNLOAD or not (is_new and done == total):
            self._tell_download()

    def note(self, message: str) -> None:
        """Why a registry is asked again."""
        self._note = message
        self._told = 0.0
        if self._phase in (None, ImportPhase.INSPECT):
            self._tell(ImportProgress(ImportPhase.INSPECT, note=message))
        else:
            self._tell_download()

    def copied(self, done: int, total: int) -> None:
        self._tell(ImportProgress(ImportPhase.COPY, done, total))

    def flattened(self, said: ImportProgress) -> None:
        """As `fetch_and_pack` reports it."""
        self._tell(msgspec.structs.replace(said, done=0, total=0) if said.phase is ImportPhase.FINISH else said)

    def _tell_download(self) -> None:
        layers = tuple(self._layers.values())
        done, total = sum(layer.done for layer in layers), sum(layer.total for layer in layers)
        said = ImportProgress(self._fetch_phase, done, total, layers=layers, layers_total=len(layers), note=self._note)
        self._tell(said)

    def _tell(self, now: ImportProgress) -> None:
        new = now.phase is not self._phase
        if new:
            self._phase, self._meter, self._at_end = now.phase, RecentRate(self._clock), False
        self._meter.add(now.done)
        at_end = 0 < now.total == now.done and not self._at_end
        if self._call is None or not (new or at_end or self._clock() - self._told >= _EVERY_SECONDS):
            return
        self._told, self._at_end = self._clock(), 0 < now.total == now.done
        rate = self._meter.rate()
        left = (now.total - now.done) / rate if rate and now.total else None
        self._call(msgspec.structs.replace(now, rate=rate, left=left))
