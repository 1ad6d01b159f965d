"""What the daemon would do with an index.json at its start, and how well this program is in step with it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class IndexOutcome(StrEnum):
    """CREATED: no file, an empty index is written. LOADED: read as it is. RESET: overwritten with an empty index,
    every entry lost. ERROR: the daemon refuses to start, the file is left alone."""

    CREATED = "created"
    LOADED = "loaded"
    RESET = "reset"
    ERROR = "error"


class Verdict(msgspec.Struct, frozen=True):
    """The outcome, how many entries the daemon would then have, and its error with line and byte column (0: none)."""

    outcome: IndexOutcome
    entries: int = 0
    message: str = ""
    line: int = 0
    column: int = 0

    @property
    def sound(self) -> bool:
        return self.outcome in (IndexOutcome.CREATED, IndexOutcome.LOADED)

    @property
    def consequence(self) -> str:
        """What a start of the daemon would mean, in words."""
        return {
            IndexOutcome.CREATED: "the daemon would start with an empty cache and write an empty index",
            IndexOutcome.LOADED: f"the daemon would load {self.entries} {'entry' if self.entries == 1 else 'entries'}",
            IndexOutcome.RESET: "the daemon would overwrite it with an empty index: every entry lost",
            IndexOutcome.ERROR: "the daemon would refuse to start",
        }[self.outcome]

    @property
    def place(self) -> str:
        """The error and its place, as the daemon logs them; empty where there is none."""
        return f"{self.message} at line {self.line} column {self.column}" if self.line else self.message


class Condition(StrEnum):
    """SOUND: read, and in step. STALE: it has not read for a second, and still changes. CORRUPT: the same bytes stay.
    MISSING: index.json is gone though it held entries. GONE: so is the directory. UNREADABLE: it may not be read."""

    SOUND = "sound"
    STALE = "stale"
    CORRUPT = "corrupt"
    MISSING = "missing"
    GONE = "gone"
    UNREADABLE = "unreadable"


class Health(msgspec.Struct, frozen=True):
    """``message`` says what is seen, ``verdict`` what the daemon would do, ``polling`` why events are not relied on."""

    condition: Condition
    message: str = ""
    verdict: Verdict | None = None
    polling: str = ""

    @property
    def sound(self) -> bool:
        return self.condition is Condition.SOUND
