"""What every command works on, and the statuses it exits with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from pathlib import Path

from ocitui.directory import default_directory


class ExitCode(IntEnum):
    """CLEAN: it was done, or found. PROBLEMS: a miss, nothing of that name, or an index the daemon would not load.
    USAGE: the command line is wrong, or there is no terminal to ask on. REMAINING: problems remain after a repair.
    UNCHECKED: the cache could not be read or changed. LOCKED: another ocitui works on it. CANCELLED: by the operator.

    A signal ends with 128 and its number, a reader that went away with 141, as it does for other programs, and a fault
    of ocitui's own with 70: see `ocitui.last_resort`.
    """

    CLEAN = 0
    PROBLEMS = 1
    USAGE = 2
    REMAINING = 3
    UNCHECKED = 4
    LOCKED = 5
    CANCELLED = 130


@dataclass(frozen=True, slots=True)
class Settings:
    """What every command works on. ``as_json`` asks for one JSON document, with ``as_lines`` for an object a line;
    ``wait`` is seconds to wait for the lock."""

    directory: Path
    as_json: bool = False
    read_only: bool = False
    wait: float = 0.0
    as_lines: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """Options as they were typed, before or after the command's name; None or False where they were not."""

    directory: Path | None = None
    as_json: bool = False
    read_only: bool = False
    wait: float | None = None
    theme: str | None = None
    no_mouse: bool = False
    whole_frames: bool = False

    def over(self, earlier: Given) -> Given:
        """These options, with those typed earlier where these say nothing."""
        typed = {name: value for name, value in asdict(self).items() if value is not None and value is not False}
        return replace(earlier, **typed)

    @property
    def settings(self) -> Settings:
        return Settings(self.directory or default_directory(), self.as_json, self.read_only, self.wait or 0.0)
