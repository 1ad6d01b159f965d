"""Entries and an application to try the entry table with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from unittest.mock import patch

from textual.app import App, ComposeResult
from textual.driver import Driver
from textual.drivers.headless_driver import HeadlessDriver
from textual.message import Message
from textual.pilot import Pilot
from textual.strip import Strip

from ocitui.doctor.entries import Entries
from ocitui.doctor.findings import Depth, EntryState, Severity
from ocitui.tui.terminal import textual_themes
from ocitui.tui.widgets.entry_table import EntryTable
from tests.doctor.entries_support import OK, FakeJudge, Made, digest_of, entries_of

NO_CONFIG = EntryState("no config", Severity.HIGH, Depth.HEADER)


def make_entry(
    number: int,
    name: str | None = None,
    *,
    reference: str = "1.36",
    format: str = "squashfs",
    platform: str = "linux/amd64",
    size: int | None = 1024 * 1016,
    modified: float = 1_700_000_000.0,
    state: EntryState = OK,
) -> Made:
    """An entry of its own digest, by default an ordinary one."""
    name = f"image{number:06}" if name is None else name
    whole = f"{name}:{reference}" if reference else name
    return Made(digest_of(number), whole, format, reference or None, platform, size, modified, state)


def make_entries(count: int) -> list[Made]:
    return [make_entry(number) for number in range(count)]


def load(table: EntryTable, made: Iterable[Made]) -> None:
    """Have a table show these."""
    table.load(entries_of(made))


def become(table: EntryTable, position: int, made: Made) -> None:
    """What is known of one entry changes while its index stays."""
    assert table.rows.entries is not None
    change(table.rows.entries, position, made)
    table.update([position])


def change(entries: Entries, position: int, made: Made) -> None:
    judge = entries._judge
    assert isinstance(judge, FakeJudge)
    judge.states[position] = made.state
    judge.put(made)


class Recording(Driver):
    """A driver that keeps what Textual gave it to write."""

    written = ""


class WritingDriver(Recording, HeadlessDriver):
    """A driver that is written to as a terminal's is."""

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.written += data


class TableApp(App[None]):
    """A table that fills the screen, and the messages it sent."""

    def __init__(self, made: Iterable[Made] = (), users: Mapping[str, str] | None = None) -> None:
        super().__init__(driver_class=WritingDriver)
        for theme in textual_themes():
            self.register_theme(theme)
        self.table = EntryTable(placeholder="No entries.")
        self.made, self.users = [*made], users
        self.messages: list[Message] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.load(entries_of(self.made, self.users))
        self.table.focus()

    def on_entry_table_highlighted(self, message: EntryTable.Highlighted) -> None:
        self.messages.append(message)

    def on_entry_table_opened(self, message: EntryTable.Opened) -> None:
        self.messages.append(message)

    def on_entry_table_counts_changed(self, message: EntryTable.CountsChanged) -> None:
        self.messages.append(message)


def line(table: EntryTable, y: int) -> str:
    """A line of the table as it would be drawn now, the header being 0."""
    return table.render_line(y).text


def lines(table: EntryTable) -> list[str]:
    return [line(table, y) for y in range(table.size.height)]


def cursor_line(table: EntryTable) -> int:
    """Where on the screen the cursor is."""
    assert table.cursor_row is not None
    return table.cursor_row - table.top


def names(table: EntryTable) -> list[str]:
    """The names of the rows in view, down the screen."""
    return [text[3:].split(" ", 1)[0] for text in lines(table)[1:] if text.strip()]


def marked_names(table: EntryTable) -> list[str | None]:
    """The whole names of the marked entries, in the order of the view."""
    return (
        [table.rows.entries.names[position] for position in table.rows.marked] if table.rows.entries is not None else []
    )


class Traffic:
    """What went to the terminal, and which lines were drawn for it."""

    def __init__(self) -> None:
        self.text = ""
        self.drawn: list[int] = []

    @property
    def bytes(self) -> int:
        return len(self.text.encode())


@asynccontextmanager
async def traffic_of(pilot: Pilot[None], app: TableApp) -> AsyncIterator[Traffic]:
    """Count what the application writes and draws until it is at rest; it has to run with ``headless=False``."""
    await pilot.pause()
    traffic, driver, table = Traffic(), app._driver, app.table
    assert isinstance(driver, WritingDriver)
    draw, before = table.render_line, len(driver.written)

    def render_line(y: int) -> Strip:
        traffic.drawn.append(y)
        return draw(y)

    with patch.object(table, "render_line", render_line):
        yield traffic
        await pilot.pause()
    traffic.text = driver.written[before:]
