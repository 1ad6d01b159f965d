"""What an examination gives: findings, and how far it looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ocitui.cache import Verdict
from ocitui.text import counted

from .findings import Depth, Finding, Severity

if TYPE_CHECKING:
    from .check.judge import Judge


class Reach(msgspec.Struct, frozen=True, cache_hash=True):
    """How deep one entry was looked into. ``hashed``: compared with the ledger; ``read_through``: by its format's own
    tool; ``first_seen``: its hash was not known before, and is trusted from now on; ``earlier``: found sound so
    shortly before that it was passed over."""

    depth: Depth = Depth.QUICK
    hashed: bool = False
    read_through: bool = False
    first_seen: bool = False
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many entries were looked at, to what depth each at least; ``unchecked`` says what was left out, and why."""

    entries: int = 0
    quick: int = 0
    header: int = 0
    deep: int = 0
    hashed: int = 0
    read_through: int = 0
    first_seen: int = 0
    earlier: int = 0
    bytes_read: int = 0
    unchecked: tuple[str, ...] = ()

    @classmethod
    def of(cls, reaches: Iterable[Reach], bytes_read: int, unchecked: Iterable[tuple[str, str]]) -> Coverage:
        """Counted up, one for each entry; ``unchecked`` are the files that were left out, each with the reason."""
        counts = Counter(reaches)
        flags = ("hashed", "read_through", "first_seen", "earlier")
        met = {flag: sum(number for one, number in counts.items() if getattr(one, flag)) for flag in flags}
        for depth in Depth:
            met[depth.value] = sum(number for one, number in counts.items() if one.depth.rank >= depth.rank)
        files: dict[str, set[str]] = {}
        for file, reason in unchecked:
            files.setdefault(reason, set()).add(file)
        lines = (
            f"{next(iter(some)) if len(some) == 1 else f'{len(some)} files'}: {reason}"
            for reason, some in sorted(files.items())
        )
        return cls(entries=counts.total(), bytes_read=bytes_read, unchecked=tuple(lines), **met)

    def __str__(self) -> str:
        """As ``12 entries: 12 header, 3 deep``."""
        reached = [f"{self.header} {Depth.HEADER}"] if self.header else []
        if self.quick > self.header:
            reached.insert(0, f"{self.quick} {Depth.QUICK}")
        reached += [f"{self.deep} {Depth.DEEP}"] if self.deep else []
        extra = [f"{self.first_seen} first seen"] if self.first_seen else []
        extra += [f"{self.earlier} found sound earlier"] if self.earlier else []
        return counted(self.entries, "entry") + (f": {', '.join(reached + extra)}" if reached else "")


@dataclass(frozen=True, slots=True)
class Report:
    """``findings`` are in order: the worst first, then as the index has them.

    ``entries`` and ``packed_bytes`` are what the cache holds; ``started`` is in seconds since the epoch, ``seconds``
    how long it took; ``notes`` say what could not be done, such as writing to the ledger. ``deep_only`` has the
    fingerprints of what only a deep check tells, as it could not be remembered. ``judge`` is who said it, where that is
    known: a plan goes on from its facts.
    """

    directory: Path
    depth: Depth
    findings: tuple[Finding, ...]
    coverage: Coverage
    verdict: Verdict
    entries: int = 0
    packed_bytes: int = 0
    started: float = 0.0
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())
    deep_only: frozenset[str] = frozenset()
    judge: Judge | None = field(default=None, repr=False, compare=False)

    def shown(self, minimum: Severity = Severity.LOW, *, acknowledged: bool = False) -> list[Finding]:
        """The findings of at least a severity, those that were acknowledged only when asked for."""
        return [
            finding
            for finding in self.findings
            if finding.severity.rank >= minimum.rank and (acknowledged or not finding.acknowledged)
        ]

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

    def with_acknowledged(self, fingerprints: frozenset[str]) -> Report:
        """The same report with these findings marked."""
        if not fingerprints:
            return self
        found = (
            msgspec.structs.replace(one, acknowledged=True) if one.fingerprint in fingerprints else one
            for one in self.findings
        )
        return replace(self, findings=tuple(found))
