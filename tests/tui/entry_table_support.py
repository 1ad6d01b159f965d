"""Entries and an application to try the entry table with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from unittest.mock import patch

from textual.app import App, ComposeResult
from textual.drivers.headless_driver import HeadlessDriver
from textual.message import Message
from textual.pilot import Pilot
from textual.strip import Strip

from ocitui.cache.descriptors import Descriptor
from ocitui.cache.entries import OK, Entry, EntryState, FileKind, file_state
from ocitui.tui.widgets.entry_table import EntryTable

NO_CONFIG = file_state((FileKind.CONFIG,), ())


def make_entry(
    number: int,
    name: str | None = None,
    *,
    reference: str = "1.36",
    format: str = "squashfs",
    platform: str = "linux/amd64",
    size: int | None = 1024 * 1016,
    modified: float | None = 1_700_000_000.0,
    state: EntryState = OK,
) -> Entry:
    """An entry of its own digest, by default an ordinary one."""
    name = f"image{number:06}" if name is None else name
    digest = f"sha256:{number * 7919 % 1_000_003:064x}"
    descriptor = Descriptor(b"{}", digest, 500, "", f"{name}:{reference}", format, reference)
    key = (digest, format, f"{name}:{reference}", 0)
    return Entry(key, name, reference, digest, format, platform, size, modified, state, descriptor)


def make_entries(count: int) -> list[Entry]:
    return [make_entry(number) for number in range(count)]


class WritingDriver(HeadlessDriver):
    """A driver that is written to as a terminal's is, and keeps what it was given."""

    written = ""

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.written += data


class TableApp(App[None]):
    """A table that fills the screen, and the messages it sent."""

    def __init__(self, entries: Iterable[Entry] = (), *, ascii: bool = False) -> None:
        super().__init__(driver_class=WritingDriver)
        self.table = EntryTable(ascii=ascii, placeholder="No entries.")
        self.entries = entries
        self.messages: list[Message] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.load(self.entries)
        self.table.focus()

    def on_entry_table_highlighted(self, message: EntryTable.Highlighted) -> None:
        self.messages.append(message)

    def on_entry_table_opened(self, message: EntryTable.Opened) -> None:
        self.messages.append(message)

    def on_entry_table_marks_changed(self, message: EntryTable.MarksChanged) -> None:
        self.messages.append(message)

    def on_entry_table_sorted(self, message: EntryTable.Sorted) -> None:
        self.messages.append(message)

    def on_entry_table_view_changed(self, message: EntryTable.ViewChanged) -> None:
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
