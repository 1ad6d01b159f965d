"""Questions before what cannot be taken back lightly: the host is named, and only the whole word yes confirms."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeVar

from ocitui.cache import PlanChangedError
from ocitui.cache.daemon import find_daemon
from ocitui.doctor.assessment_texts import memory_warning
from ocitui.text import timestamp

from .failures import CancelledError, UsageProblemError
from .options import Settings
from .output import ask, can_ask, say
from .prose import paragraph

T = TypeVar("T")
CONFIRMATION = "yes"
TRIES = 3
"""How many plans are made where nobody is asked and the cache goes on changing."""


class NotAskedError(UsageProblemError):
    """There is nobody to ask."""

    code = "not-confirmed"
    default_hint = "look at what it says, then give --yes"


def agree(settings: Settings, agreed: bool, lines: Iterable[str], question: str) -> None:
    """Show what is about to be done, and ask unless it is ``agreed`` to already.

    With a question the lines go where it goes, to standard error. Raises NotAskedError, CancelledError.
    """
    asking = not agreed and can_ask()
    if asking or not settings.as_json:
        for line in chain(place(settings), lines):
            say(line, err=asking)
    if agreed:
        return
    if not asking:
        raise NotAskedError("nothing was done: there is no terminal to ask on")
    if ask(f"{question} Type {CONFIRMATION} to confirm, anything else leaves it:") != CONFIRMATION:
        raise CancelledError("cancelled")


def agree_to_drop_used(settings: Settings, used_by: Sequence[str], question: str) -> None:
    """Ask once more, whatever was agreed to before, where loop devices hold what is to go.

    Raises NotAskedError, CancelledError.
    """
    if used_by:
        text = f"{', '.join(used_by)}: something runs on packed files of the entries that are to go"
        if not can_ask():
            hint = "stop what runs on them, or answer on a terminal: --yes does not stand for this"
            raise NotAskedError(f"nothing was done: {text}", hint=hint)
        agree(settings, False, paragraph(text), question)


def place(settings: Settings) -> list[str]:
    """Where it is going to happen, and whether a daemon there will meet it."""
    lines = [f"on {os.uname().nodename}, in {settings.directory.absolute()}"]
    daemon = find_daemon(settings.directory)
    if daemon.running:
        lines += paragraph(memory_warning("write back what it remembers", timestamp(daemon.since)))
    return lines


def as_agreed(agreed: bool, carry_out: Callable[[], T]) -> T:
    """The outcome of a plan that is made, shown and carried out; a new one where that no longer holds.

    Raises PlanChangedError where nobody is asked and the cache goes on changing.
    """
    tries = 0
    while True:
        try:
            return carry_out()
        except PlanChangedError as error:
            tries += 1
            if agreed and tries == TRIES:
                raise
            say(f"{error.message}: here is what would be done now", err=True)
