"""Screens that are driven in this process: they are waited for as long as they have to be, and no longer."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.cache import LRUCache
from textual.css.stylesheet import Stylesheet
from textual.pilot import Pilot

from tests.tools import impatient, in_memory

# A repaint is held back for a sixtieth of a second; a later timer is not waited for.
_SOON_SECONDS = 0.02
_QUIET_TURNS = 3
_THREADS_SECONDS = 0.1
_RULES = dict[str, Any]()
_COLLECTING = (20_000, 10, 10)
_TEXTUALS = Stylesheet.set_variables
_TEXTUALS_WAIT = Pilot._wait_for_screen


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is such a file system: a disk's takes a tenth of a test's time, to find numbers for the
    many small files of a cache that are not those of files just removed."""
    with in_memory(tmp_path) as path:
        # A cache that lay right where a file system is mounted would be one without the store around it.
        folder = path / "test"
        folder.mkdir()
        yield folder


@pytest.fixture(autouse=True)
def seldom_looked_through_for_what_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pytest and earlier tests left is looked through as often as the program has Python look, which is a twelfth
    of a test's time. What may go is found all the same, later."""
    monkeypatch.setattr("ocitui.tui.app._COLLECTING", _COLLECTING)


@pytest.fixture(autouse=True)
def at_rest_by_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot takes the application to be at rest when its event loop has nothing to do.

    Textual's own way is to see whether the process takes time of the CPU: that is slow, and on a busy machine, where
    it gets none, it is wrong. The pane follows the cursor sooner here, too, and what is corrupt is believed to be so
    sooner: tests/cache has tests of the whole second.
    """
    for module in ("app", "pilot"):
        monkeypatch.setattr(f"textual.{module}.wait_for_idle", _until_at_rest)
    monkeypatch.setattr(Pilot, "_wait_for_screen", _until_handled)
    monkeypatch.setattr("ocitui.tui.widgets.entry_pane._REST_SECONDS", 0.01)
    impatient(monkeypatch, 0.1)


@pytest.fixture(autouse=True)
def style_rules_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each application would parse them anew, which is a tenth of its start: they are the same for the same colours."""
    monkeypatch.setattr(Stylesheet, "set_variables", _set_variables)


def _set_variables(sheet: Stylesheet, variables: dict[str, str]) -> None:
    sheet._parse_cache = LRUCache(64)
    _TEXTUALS(sheet, variables)
    sheet._parse_cache = _RULES.setdefault(str(variables), sheet._parse_cache)


@pytest.fixture(autouse=True)
def in_a_terminal_of_all_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests are run in."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(autouse=True)
def on_a_disk_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other programs write does not show: 31G of 80G are free."""
    blocks, free, size = 80 << 18, 31 << 18, 4096
    disk = os.statvfs_result((size, size, blocks, free, free, 1 << 20, 1 << 19, 1 << 19, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)


async def _until_handled(pilot: Pilot[Any]) -> bool:
    """Until each widget has handled what was sent to it. Textual's way is to send each one more, and to wait for that:
    most of the messages of a test were these."""
    for _ in range(_QUIET_TURNS):
        stack = pilot.app._screen_stack
        if stack and not any(map(_has_to_handle, (pilot.app, *stack[-1].walk_children(with_self=True)))):
            return True
        await asyncio.sleep(0)
    return await _TEXTUALS_WAIT(pilot)


def _has_to_handle(pump: Any) -> bool:
    """Whether it has a message left, or is still at one: then it does not wait for the next."""
    queue = pump._message_queue
    return not (pump._closing or pump._closed) and not (queue.empty() and queue.ready_event._waiters)


async def _until_at_rest(_: float = 0.0, max_sleep: float = 1.0) -> None:
    """Until nothing is ready to run in some turns of the loop, no timer is due soon, and no thread of it works, for
    which it does not wait as long: one may wait for a registry."""
    # asyncio has no public way to ask.
    loop: Any = asyncio.get_running_loop()
    began, quiet = loop.time(), 0
    while quiet < _QUIET_TURNS and loop.time() < began + max_sleep:
        await asyncio.sleep(0)
        if loop._ready:
            quiet = 0
        elif (wait := _next_timer(loop)) < _SOON_SECONDS:
            quiet = 0
            await asyncio.sleep(wait)
        elif loop.time() < began + _THREADS_SECONDS and _thread_works(loop):
            quiet = 0
            await asyncio.sleep(0.001)
        else:
            quiet += 1


def _next_timer(loop: Any) -> float:
    """In how many seconds the next is due."""
    due: float = min((timer.when() for timer in loop._scheduled if not timer.cancelled()), default=math.inf)
    return due - float(loop.time())


def _thread_works(loop: Any) -> bool:
    executor = loop._default_executor
    return executor is not None and executor._idle_semaphore._value < len(executor._threads)
