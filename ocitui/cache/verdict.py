"""What the daemon would do with an index.json that it found at its start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .errors import DocumentError
from .index import ImageIndex, NotUtf8Error


class IndexOutcome(StrEnum):
    """CREATED: no file, an empty index is written. LOADED: read as it is. RESET: overwritten with an empty index,
    every entry lost. ERROR: the daemon refuses to start, the file is left alone."""

    CREATED = "created"
    LOADED = "loaded"
    RESET = "reset"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
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
        if not self.message:
            return ""
        return f"{self.message} at line {self.line} column {self.column}" if self.line else self.message


def judge_index(data: bytes | None) -> IndexOutcome:
    """What the daemon would do with these bytes as index.json; None means that there is no file."""
    return examine_index(data)[0].outcome


def examine_index(data: bytes | None, previous: ImageIndex | None = None) -> tuple[Verdict, ImageIndex | None]:
    """The verdict, and the index where the daemon would load it; quicker where ``previous`` is much the same."""
    if data is None:
        return Verdict(IndexOutcome.CREATED), None
    try:
        index = ImageIndex.parse(data, previous)
    except NotUtf8Error as error:
        return Verdict(IndexOutcome.ERROR, 0, error.message, error.line, error.column), None
    except DocumentError as error:
        return Verdict(IndexOutcome.RESET, 0, error.message, error.line, error.column), None
    return Verdict(IndexOutcome.LOADED, len(index)), index
