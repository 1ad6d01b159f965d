"""The real application on a cache, driven by a pilot: waits for conditions, and reads what is on the screen."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.keys import key_to_character
from textual.pilot import Pilot

from ocitui.cache import Condition
from ocitui.host.daemon import DaemonState
from ocitui.tui.app import OcituiApp
from ocitui.tui.live import LiveCache
from ocitui.tui.screens.main import MainScreen
from ocitui.tui.screens.problems import FirstRow, ProblemsScreen
from ocitui.tui.session import ScreenOptions, ScreenSettings, Session
from ocitui.tui.terminal import Terminal
from ocitui.tui.widgets.bars import Bar, HeaderBar, HealthBar, KeyBar, StatusBar, TroubleBar
from ocitui.tui.widgets.entry_pane import EntryPane
from ocitui.tui.widgets.entry_table import EntryTable
from ocitui.tui.widgets.lines import LinesView
from tests.tui.entry_table_support import Recording, WritingDriver

# Only a test that fails waits so long.
LIMIT_SECONDS = 30.0
SMALL, MIDDLE, WIDE, HUGE = (80, 24), (100, 30), (120, 40), (200, 50)


def fix_host(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Have ages counted from a time, and every disk one of 80G of which 31G are free."""
    monkeypatch.setattr("ocitui.text.time", lambda: now)
    monkeypatch.setattr(time, "time", lambda: now)
    blocks, free, size = 80 << 18, 31 << 18, 4096
    disk = os.statvfs_result((size, size, blocks, free, free, 1 << 20, 1 << 19, 1 << 19, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)


def text_of(view: LinesView) -> str:
    """All the text of a view as it is laid out."""
    rows = (view._rows.at(number) for number in range(len(view._rows)))
    return "\n".join(f"{row.label} {row.text}".strip() for row in rows if row is not None)


def _at_rest(pane: EntryPane) -> bool:
    """Whether what it shows is what it follows."""
    busy = any(worker.group == "pane" and not worker.is_finished for worker in pane.workers)
    return pane._rest is None and not busy


class Desk:
    """The application under a pilot, and where to look at it."""

    def __init__(self, app: OcituiApp, pilot: Pilot[int]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def main(self) -> MainScreen:
        screen = self.app.screen_stack[0]
        assert isinstance(screen, MainScreen)
        return screen

    @property
    def session(self) -> Session:
        return self.app.session

    @property
    def live(self) -> LiveCache:
        return self.session.live

    @property
    def table(self) -> EntryTable:
        return self.main.query_one(EntryTable)

    @property
    def pane(self) -> EntryPane:
        return self.main.query_one(EntryPane)

    @property
    def condition(self) -> Condition:
        return self.live.health.condition

    @property
    def names(self) -> list[str]:
        """Each shown row's name, format and state."""
        entries = self.table.rows.entries
        shown = [entries[position] for position in self.table.rows.view] if entries is not None else []
        return [f"{entry.name} {entry.format} {entry.state.word}" for entry in shown]

    def bar_at(self, place: str) -> str:
        """The whole text of the bar at a place of the screen on top."""
        return plain(self.app.screen.query_one(place, Bar))

    def bar(self, kind: type[Bar]) -> str:
        """The whole text of a bar of the screen on top; none before that is composed."""
        return "".join(plain(bar) for bar in self.app.screen.query(kind).results(kind))

    @property
    def header(self) -> str:
        """The two lines on top."""
        return f"{self.bar(HeaderBar)}\n{self.bar(HealthBar)}"

    @property
    def trouble(self) -> str:
        return plain(self.main.query_one(TroubleBar)).replace("\n", "")

    @property
    def status(self) -> str:
        return self.bar(StatusBar)

    @property
    def keys(self) -> str:
        return self.bar(KeyBar)

    def key_styles(self, label: str) -> str:
        """What a label of the footer is drawn for."""
        cells = self.main.query_one(KeyBar).lines[0]
        return next(
            role for text, role in ((one, "plain") if isinstance(one, str) else one for one in cells) if label in text
        )

    @property
    def lines(self) -> str:
        """The lines of the screen on top, or of the pane's summary."""
        return text_of(self.app.screen.query_one(LinesView))

    @property
    def top(self) -> str:
        """Which screen is on top."""
        return type(self.app.screen).__name__

    @property
    def focused(self) -> str:
        """What kind of widget has the keys."""
        return type(self.app.focused).__name__

    @property
    def text(self) -> str:
        """What is drawn, line by line."""
        return screen_text(self.app)

    @property
    def driver(self) -> Recording:
        driver = self.app._driver
        assert isinstance(driver, Recording)
        return driver

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    def send_at_once(self, *keys: str) -> None:
        """Keys that come in one go, as over a slow line: none is handled before the last has come."""
        for key in keys:
            event = events.Key(key, key_to_character(key))
            event.set_sender(self.app)
            self.driver.send_message(event)

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        await until(self.pilot, condition, what or condition)

    async def until_corrupt(self) -> None:
        """Until the index is taken for corrupt and its bytes are copied aside, which is said over what was said."""
        await self.until(lambda: self.condition is Condition.CORRUPT, "the index is corrupt")
        await self.until(lambda: "copied aside" in self.status, "its bytes are copied aside")

    @property
    def is_preparing(self) -> bool:
        """Whether it makes itself ready to write, which is another change of the directory."""
        return any(worker.group == "prepare" and not worker.is_finished for worker in self.app.workers)

    async def rest(self) -> None:
        """Until nothing more is written: the pane has followed, every message is handled."""
        await self.settle()
        quiet = 0
        while quiet < 2:
            before = len(self.driver.written)
            await self.pilot.pause()
            quiet = quiet + 1 if len(self.driver.written) == before else 0

    async def settle(self) -> None:
        """Until the pane shows what is under the cursor."""
        await self.until(lambda: _at_rest(self.pane), "the pane rests")
        await self.pilot.pause()

    async def open(self, key: str, screen: str) -> None:
        """Press a key and wait for the screen it opens, whose bars are where they are looked for."""
        await self.press(key)
        await self.until(lambda: self.top == screen, f"{screen} after {key}")
        bars = self.app.screen.query("HeaderBar, HealthBar, StatusBar, KeyBar, OneLineQuestion")
        assert {*bars} <= {*self.app.screen.children}


async def until(pilot: Pilot[Any], condition: Callable[[], bool], what: object = "the condition") -> None:
    """Let the application work until something is so; fails only when it never comes."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what}\n{screen_text(pilot.app)}")
        await pilot.pause()
        await asyncio.sleep(0.005)


def plain(bar: Bar) -> str:
    """All text of a bar."""
    lines = (line for line in (*bar.lines, bar.right) if line)
    return "\n".join("".join(part if isinstance(part, str) else part[0] for part in line) for line in lines)


def screen_text(app: Any) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def codes(one: Desk) -> list[str]:
    """What was found, row by row; a rule parts them."""
    screen = one.app.screen
    assert isinstance(screen, ProblemsScreen)
    found = [row for row in screen.rows.values() if not (isinstance(row, FirstRow) or row.key == "first")]
    return [row.text if row.rule else row.findings[0].code for row in found]


def first_acts(one: Desk) -> list[str]:
    """What is to be done first, line by line: how many findings that is about, and the key's label behind it."""
    screen = one.app.screen
    assert isinstance(screen, ProblemsScreen)
    rows = [row for row in screen.rows.values() if isinstance(row, FirstRow)]
    return [f"{row.right}: {row.text}: {row.action.key_label} {row.action.label}" for row in rows]


async def planned(one: Desk) -> None:
    await one.until(lambda: one.top == "RepairScreen" and "nothing is changed before y" in one.status, "the plan")


def make_app(directory: Path, **options: Any) -> TestedApp:
    """The application, of a fixed host and without a daemon, its output kept by the driver."""
    terminal = Terminal(ascii=options.pop("ascii", False), theme="dark")
    daemon = options.pop("daemon", DaemonState())
    driver = options.pop("driver", WritingDriver)
    return TestedApp(FixedSession(ScreenOptions(directory, **options), terminal, daemon), driver)


class FixedSession(Session):
    """A session that is told what the daemon's state and the host are."""

    def __init__(self, options: ScreenOptions, terminal: Terminal, daemon: DaemonState) -> None:
        super().__init__(options, terminal, ScreenSettings())
        self.host = "host7"
        self.live.host.find_daemon = lambda: daemon  # type: ignore[method-assign]


class TestedApp(OcituiApp):
    """The application, its output kept by the driver."""

    def __init__(self, session: FixedSession, driver: type[Recording]) -> None:
        super().__init__(session)
        self.driver_class = driver


@asynccontextmanager
async def desk(directory: Path, size: tuple[int, int] = SMALL, **options: Any) -> AsyncIterator[Desk]:
    """The application on a cache, once it has read it and looked into all of it."""
    app = make_app(directory, **options)
    async with app.run_test(headless=False, size=size) as pilot:
        one = Desk(app, pilot)
        await one.until(lambda: one.live.loaded and not one.is_preparing, "that it may write")
        await one.until(lambda: not one.live.looking, "the first reading")
        await one.rest()
        try:
            yield one
        finally:
            await asyncio.to_thread(app.session.finish_work)
