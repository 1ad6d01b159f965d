"""What an examination gives: how far it is, then findings, and how far it looked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ocitui.cache import Verdict
from ocitui.text import counted

from .findings import LAYER_FAULTS, Depth, Finding, Severity, in_order

if TYPE_CHECKING:
    from .check.judge import Judge

_SECONDS_BETWEEN = 0.1


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


class Reach(msgspec.Struct, frozen=True, cache_hash=True):
    """How deep one entry was looked into. ``hashed``: compared with the ledger; ``read_through``: all
    that is in it was read; ``first_seen``: its hash was not known before; ``earlier``: passed over, as found sound."""

    depth: Depth = Depth.QUICK
    hashed: bool = False
    read_through: bool = False
    first_seen: bool = False
    earlier: bool = False


class Coverage(msgspec.Struct, frozen=True):
    """How many entries were looked at, to what depth each at least; ``unchecked`` says what was left out, and why."""

    entries: int = 0
    quick: int = 0
    header: int = 0
    deep: int = 0
    layers: int = 0
    hashed: int = 0
    read_through: int = 0
    first_seen: int = 0
    earlier: int = 0
    bytes_read: int = 0
    unchecked: tuple[str, ...] = ()

    @classmethod
    def of(cls, counts: Counter[Reach], bytes_read: int, unchecked: Iterable[tuple[str, str]]) -> Coverage:
        """Of how many entries came how far; ``unchecked`` are the files that were left out, each with the reason."""
        flags = ("hashed", "read_through", "first_seen", "earlier")
        met = {flag: sum(number for one, number in counts.items() if getattr(one, flag)) for flag in flags}
        for depth in Depth:
            met[depth.value] = sum(number for one, number in counts.items() if one.depth.rank >= depth.rank)
        found = cls(entries=counts.total(), bytes_read=bytes_read, unchecked=(), **met)
        return found.with_unchecked(unchecked)

    def with_unchecked(self, unchecked: Iterable[tuple[str, str]]) -> Coverage:
        """The same with these files left out too, each with the reason."""
        files: dict[str, set[str]] = {}
        for file, reason in unchecked:
            files.setdefault(reason, set()).add(file)
        lines = (
            f"{next(iter(some)) if len(some) == 1 else f'{len(some)} files'}: {reason}"
            for reason, some in sorted(files.items())
        )
        return msgspec.structs.replace(self, unchecked=(*self.unchecked, *lines))

    def __str__(self) -> str:
        """As ``12 entries: 12 header, 3 deep``."""
        quick = self.quick if self.quick > self.header else 0
        counts: dict[str, int] = {Depth.QUICK: quick, Depth.HEADER: self.header, Depth.DEEP: self.deep}
        counts |= {"by their layers": self.layers, "first seen": self.first_seen, "found sound earlier": self.earlier}
        said = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        return counted(self.entries, "entry") + (f": {said}" if said else "")


class Report(msgspec.Struct, frozen=True):
    """``findings`` are in order: the worst first, then as the index has them. ``entries`` and ``packed_bytes`` are what
    the cache holds; ``started`` is in seconds since the epoch, ``seconds`` how long it took; ``notes`` say what could
    not be done, such as writing to the ledger. ``deep_only`` has the fingerprints of what only a deep check tells, as
    it could not be remembered. ``judge`` is who said it, where that is known: a plan goes on from its facts. The files
    that were ``uncompared`` with their layers have each the reason."""

    directory: Path
    depth: Depth
    findings: tuple[Finding, ...]
    coverage: Coverage
    verdict: Verdict
    entries: int = 0
    packed_bytes: int = 0
    started: float = 0.0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    deep_only: frozenset[str] = frozenset()
    judge: Judge | None = None
    uncompared: tuple[tuple[str, str], ...] = ()

    def shown(self, minimum: Severity = Severity.LOW, *, acknowledged: bool = False) -> list[Finding]:
        """The findings of at least a severity, those that were acknowledged only when asked for."""
        enough = (one for one in self.findings if one.severity.rank >= minimum.rank)
        return [one for one in enough if acknowledged or not one.acknowledged]

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings that are not acknowledged; None where there are none."""
        return next((one.severity for one in self.shown(Severity.INFO)), None)

    def fails(self, bound: Severity) -> bool:
        """Whether a finding that is not acknowledged is at least that bad; INFO never fails."""
        return bool(self.shown(max(bound, Severity.LOW, key=lambda severity: severity.rank)))

    def states(self) -> Counter[str]:
        """How many entries of the index are ok, bad, or not looked into as far as that tells."""
        found = Counter({"ok": 0, "bad": 0, "unknown": 0})
        if self.judge is not None:
            states = map(self.judge.state_at, range(self.judge.entries))
            found.update("ok" if state.ok else "bad" if state.bad else "unknown" for state in states)
        return found

    def with_layers(self, found: Iterable[Finding], compared: int, uncompared: Iterable[tuple[str, str]]) -> Report:
        """The same report with what only the layers tell, which is not remembered: of so many files that were
        ``compared``, while others could not be, each with the reason."""
        findings = in_order((*self.findings, *found))
        told = self.deep_only.union(one.fingerprint for one in findings if one.code in LAYER_FAULTS)
        uncompared = tuple(uncompared)
        coverage = msgspec.structs.replace(self.coverage, layers=compared).with_unchecked(uncompared)
        changed = {"findings": findings, "deep_only": told, "coverage": coverage, "uncompared": uncompared}
        return msgspec.structs.replace(self, **changed)

    def with_acknowledged(self, fingerprints: frozenset[str]) -> Report:
        """The same report with these findings marked."""
        found = (
            msgspec.structs.replace(one, acknowledged=True) if one.fingerprint in fingerprints else one
            for one in self.findings
        )
        return msgspec.structs.replace(self, findings=tuple(found))
