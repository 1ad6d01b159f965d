"""Findings: one thing that is wrong, or worth knowing, with what the daemon makes of it and what would mend it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ocitui.cache import FileKind


class Severity(StrEnum):
    """From what is only worth knowing to what loses every entry at the daemon's next start."""

    INFO = "info"
    LOW = "low"
    WARNING = "warning"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """For comparing: strings would sort by their letters."""
        return tuple(Severity).index(self)


class Depth(StrEnum):
    """How far an examination looks.

    QUICK: at names, sizes and documents; HEADER: at superblocks too; DEEP: at all bytes."""

    QUICK = "quick"
    HEADER = "header"
    DEEP = "deep"

    @property
    def rank(self) -> int:
        return tuple(Depth).index(self)


class Answer(StrEnum):
    """What the daemon does where it meets the fault. WIPE: it overwrites the index with an empty one at its start.
    NO_START: it refuses to start. ERROR never heals by itself, a MISS is pulled again by a launch or a pull."""

    HIT = "hit"
    MISS = "miss"
    ERROR = "error"
    WIPE = "wipe"
    NO_START = "no-start"
    HANGS = "hangs"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Finding:
    """``code`` is stable. ``seen`` is what was seen here, ``daemon`` what the daemon does about it, ``mend`` what mends
    it (empty where nothing does), ``loses`` what that could lose (empty: nothing).

    ``digest``, ``format``, ``name`` (krata's spelling) and ``position`` (in the index, from 0) tell the entry, and
    ``file`` the name in the directory, as far as the finding has one; ``kind`` is what that file is to its entry.
    ``found`` is when a deep check found it, in seconds since the epoch, where it is remembered and was not looked at
    again.
    """

    code: str
    severity: Severity
    seen: str
    answer: Answer
    daemon: str
    mend: str = ""
    loses: str = ""
    digest: str = ""
    format: str = ""
    name: str = ""
    position: int | None = None
    file: str = ""
    kind: FileKind | None = None
    acknowledged: bool = False
    found: int | None = None

    @property
    def fingerprint(self) -> str:
        """The same as long as the finding does not change, wherever its entry stands in the index: 16 hex digits."""
        parts = (self.code, self.digest, self.format, self.name, self.file, self.seen)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The highest severity among them; None where there are none."""
    return max((finding.severity for finding in findings), key=lambda severity: severity.rank, default=None)
