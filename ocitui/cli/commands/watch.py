"""`ocitui watch`: a line for each change of the index, for scripts and logs."""

from __future__ import annotations

import errno
import os
import select
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import check_directory
from ocitui.text import counted, time_json, timestamp

from ..options import reading, run_async
from ..output import Call, ExitCode, InterruptedBySignalError, say

if TYPE_CHECKING:
    from ocitui.cache import Difference, Health


@click.command("watch")
@reading
def watch_command(call: Call) -> ExitCode:
    """Print a line for each change of the index as it is made, until ctrl+c: what came (+), what went (-), and which
    names stand for another image now (=). The first line tells what there is; others, that the index is corrupt,
    missing, and reads again.

    With --json each line is an object, which names all entries; the line for people names the first few of each kind.
    Nothing is written to the cache.
    """
    check_directory(call.directory)
    try:
        run_async(_watch(call))
    except InterruptedBySignalError as error:
        error.hint = "nothing was changed"
        raise
    return ExitCode.CLEAN


_LOOK_SECONDS = 1.0


async def _watch(call: Call) -> None:
    import asyncio

    health: Health | None = None
    async with call.cache().watch() as watch:
        while True:
            difference = None
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    difference = await anext(watch)
            _stop_unread()
            if difference is None:
                continue
            if difference.replaced or _condition(difference.health) != _condition(health):
                _tell(call, difference, first=health is None)
            health = difference.health


def _condition(health: Health | None) -> tuple[object, ...]:
    """What of the health is of the index, not of how it is watched."""
    return () if health is None else (health.condition, health.message)


def _stop_unread() -> None:
    """Raises BrokenPipeError where nobody is left to read: no line may be due for days that would tell."""
    if sys.stdout is None:
        return
    asked = select.poll()
    asked.register(sys.stdout.fileno(), 0)
    if any(events & select.POLLERR for _, events in asked.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _tell(call: Call, difference: Difference, *, first: bool) -> None:
    if call.as_json:
        call.emit_line("index" if first else "change", **_json(difference, first=first))
    else:
        say(f"{timestamp(time.time())}  {_text(difference, first=first)}")


def _text(difference: Difference, *, first: bool) -> str:
    from ocitui.words import CONDITIONS, index_change_text

    health, index = difference.health, difference.index
    if not health.sound:
        told = CONDITIONS[health.condition]
        return f"{told}: {health.message}" if health.message and health.message != told else told
    entries = counted(len(difference.descriptors), "entry")
    if first:
        return f"index.json has {entries}" if index is not None else "there is no index.json"
    if not difference.replaced:
        return f"index.json reads, as it was, with {entries}"
    parts = ([*one.values()] for one in (difference.added, difference.removed, difference.changed))
    told = index_change_text(*parts, won=difference.won)
    # What a reset leaves, or another index in its place.
    return f"none of those before is left of {entries}: {told}" if _is_another(difference) else told


def _is_another(difference: Difference) -> bool:
    """Whether nothing is left of an index that had several entries."""
    return len(difference.removed) > 1 and len(difference.added) == len(difference.descriptors)


def _json(difference: Difference, *, first: bool) -> dict[str, Any]:
    from ocitui.words import index_change_json, key_json

    told: dict[str, Any] = {
        "when": time_json(time.time()),
        "condition": str(difference.health.condition),
        "message": difference.health.message,
        "entries": len(difference.descriptors),
    }
    if first:
        return told
    changed = [key_json(one, one.image_name) for one in difference.changed.values()]
    change = index_change_json([*difference.added.values()], [*difference.removed.values()], difference.won)
    return {**told, **change, "changed": changed, "replaced": _is_another(difference)}
