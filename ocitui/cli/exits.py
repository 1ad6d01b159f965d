"""The statuses a command exits with."""

from __future__ import annotations

from enum import IntEnum


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
