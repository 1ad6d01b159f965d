"""The document view on a screen of its own, and what a reader does with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.strip import Strip

from ocitui.cache.errors import DocumentError
from ocitui.tui.terminal import textual_themes
from ocitui.tui.widgets.document_view import DocumentView
from ocitui.tui.widgets.lines import SearchDone

SIZES = [(80, 24), (120, 40)]
MIB = 1 << 20


class CountingView(DocumentView):
    drawn = 0

    def render_line(self, y: int) -> Strip:
        self.drawn += 1
        return super().render_line(y)


class ViewerApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.searches: list[tuple[int, int]] = []
        self.searched = asyncio.Event()
        for theme in textual_themes():
            self.register_theme(theme)

    def compose(self) -> ComposeResult:
        yield CountingView("nothing yet")

    def on_search_done(self, message: SearchDone) -> None:
        self.searches.append((message.count, message.current))
        self.searched.set()


class Viewer:
    """A document view on a screen, and what a reader does with it."""

    def __init__(self, app: ViewerApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot
        self.view = app.query_one(CountingView)

    async def show(self, raw: bytes, error: DocumentError | None = None) -> None:
        await self.view.show_document(raw, error=error)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def search(self, text: str) -> tuple[int, int]:
        self.app.searched.clear()
        self.view.search(text)
        await self.app.searched.wait()
        await self.pilot.pause()
        return self.app.searches[-1]

    @property
    def lines(self) -> list[str]:
        return [self.view.render_line(y).text.rstrip() for y in range(self.view.size.height)]

    def styled(self, name: str) -> list[str]:
        style = self.view.style_of(name)
        strips = [self.view.render_line(y) for y in range(self.view.size.height)]
        return [segment.text for strip in strips for segment in strip if segment.style == style]


@asynccontextmanager
async def viewer(size: tuple[int, int] = (80, 24)) -> AsyncIterator[Viewer]:
    app = ViewerApp()
    async with app.run_test(size=size) as pilot:
        opened = Viewer(app, pilot)
        opened.view.focus()
        await pilot.pause()
        yield opened


def always() -> bool:
    return True


def numbers(count: int) -> bytes:
    return json.dumps(list(range(count))).encode()
