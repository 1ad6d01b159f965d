"""The pane of the entry under the cursor: summary, manifest, config, files, problems, history in tabs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer

from ocitui.text import clean, short_digest

from .bars import Bar, Part, RuleBar
from .lines import SEVERITIES, Line, LinesView, Scrolling, bound, cut

if TYPE_CHECKING:
    from ocitui.doctor import JudgedEntry

    from ..session import Session
    from .document_view import DocumentView
    from .file_tree import FileTree

Tab = Literal["summary", "manifest", "config", "files", "problems", "history"]
TABS: dict[Tab, str] = {"summary": "1", "manifest": "2", "config": "3", "files": "4", "problems": "5", "history": "6"}
"""The tabs and their keys."""
# A key held down moves through many entries: what the cursor only passes is not read.
_REST_SECONDS = 0.08
_READING = "reading the packed file"
_LENGTHS = (10, 4, 3)  # cells of the tabs' names, those of the open one apart
V = TypeVar("V", "DocumentView", "FileTree")


class EntryPane(Vertical):
    """Follows one entry. The views of documents and files are made when they are first shown."""

    DEFAULT_CSS = """
    EntryPane > #which { display: none; }
    EntryPane > DocumentView { height: 1fr; }
    """
    BINDINGS = bound({"enter": "screen.open_pane"})
    tab: Tab = "summary"
    _place = ""

    class TabShown(Message):
        """Another tab is open."""

    class Rested(Message):
        """The cursor rests: what follows it may be drawn."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.entry: JudgedEntry | None = None
        self._shown: dict[Tab, JudgedEntry | None] = {}
        self._views: dict[Tab, DocumentView | FileTree] = {}
        self._rest: Timer | None = None
        self._which, self._rule = Bar(id="which"), RuleBar()

    def compose(self) -> ComposeResult:
        yield self._which
        yield self._rule
        yield from (LinesView(id=tab) for tab in ("summary", "problems", "history"))

    def on_mount(self) -> None:
        self._draw_tabs()
        self._show_view()

    def _show_view(self) -> None:
        """Have only the view of the open tab be seen."""
        for view in self.query(Scrolling):
            view.display = view.id == self.tab

    def follow(self, entry: JudgedEntry | None, *, at_once: bool = False) -> None:
        """Show this entry, once the cursor rests on it."""
        if entry is not None and self.entry is not None and entry.key != self.entry.key:
            self._shown.clear()
            if "files" in self._views:
                # No key is to act on what is in another entry.
                self._views["files"].clear(_READING)
        self.entry = entry
        self._draw_which()
        if self._rest is not None:
            self._rest.stop()
            self._rest = None
        if at_once:
            self._show()
        else:
            self._rest = self.set_timer(_REST_SECONDS, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self._show()
        self.post_message(self.Rested())

    def refresh_entry(self, entry: JudgedEntry | None) -> None:
        """The same entry, whose files may have changed: read it again, without moving what is seen."""
        self.entry = entry
        self._draw_which()
        self._draw_tabs()
        self._shown.clear()
        self._show(keep_place=True)

    def open_tab(self, tab: Tab) -> None:
        self.tab = tab
        self._show_view()
        self._draw_tabs()
        self._show()
        self.post_message(self.TabShown())

    def step_tab(self, by: int) -> None:
        tabs = [*TABS]
        self.open_tab(tabs[(tabs.index(self.tab) + by) % len(tabs)])

    def focus_view(self) -> None:
        """Give the keys to the view of the open tab."""
        for view in self.query(f"#{self.tab}"):
            view.focus()

    @property
    def searched_view(self) -> DocumentView | FileTree | None:
        """The view of the open tab, if it is one that is searched."""
        return self._views.get(self.tab)

    @property
    def files(self) -> FileTree | None:
        """The tree of the packed file, if its tab is open."""
        return cast("FileTree | None", self._views.get("files")) if self.tab == "files" else None

    def show_place(self, text: str) -> None:
        """Where the cursor is, at the end of the rule."""
        self._place = text
        self._draw_tabs()

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    def _draw_tabs(self) -> None:
        rule, width = "━" if self.has_focus_within else "─", self.size.width
        place = len(self._place) + 3
        wrong = self.entry.state.severity if self.entry is not None else None
        sign: list[Part] = [SEVERITIES[wrong]] if wrong else []
        names = {tab: tab.capitalize() for tab in TABS}
        for length in _LENGTHS:
            short = {tab: name if tab == self.tab else name[:length] for tab, name in names.items()}
            cells = 2 + len(sign) + sum(len(name) + 3 for name in short.values())
            in_full = length == _LENGTHS[0] and cells + len(names) + place <= width
            if in_full or (length < _LENGTHS[0] and cells <= width):
                break
        tabs: list[Part] = []
        for tab, key in TABS.items():
            tabs += [" ", (key, "key"), (f" {short[tab]}", "strong" if tab == self.tab else "muted")]
            tabs += sign if tab == "problems" else []
            tabs += [" "] if in_full else []
        # Beside the table there is no room for it, and it stands in the status line.
        right: list[Part] = [(f" {self._place} ", "muted"), (rule, "faint")] if in_full else []
        self._rule.show([(rule, "faint"), *tabs, " ", (rule * width, "faint")], right=right)

    def on_resize(self) -> None:
        self._draw_which()
        self._draw_tabs()

    def _draw_which(self) -> None:
        """Which entry it is, where no table beside it says so: the digest gives way first."""
        entry, width = self.entry, max(self.size.width - 2, 1)
        about = f"{entry.format or 'no format'} {short_digest(entry.digest)}" if entry else ""
        name = clean(entry.descriptor.image_name or "no name") if entry else "no entry"
        parts: list[Part] = [(f" {cut(name, width - len(about) - 1, middle=True)} ", "strong"), (clean(about), "muted")]
        self._which.show(parts)

    def _show(self, *, keep_place: bool = False) -> None:
        if self.entry is not None and self._shown.get(self.tab) == self.entry:
            return
        self._fill(self.tab, self.entry, keep_place)

    # A worker makes its coroutine when it starts: one that is replaced before leaves none that nobody awaits.
    @work(group="pane", exclusive=True)
    async def _fill(self, tab: Tab, entry: JudgedEntry | None, keep_place: bool) -> None:
        if tab == "manifest" or tab == "config":
            await self._fill_document(tab, entry)
        elif tab == "files":
            await self._fill_files(entry)
        else:
            lines = await self._lines(tab, entry)
            for view in self.query(f"#{tab}").results(LinesView):
                view.set_lines(lines, keep_place=keep_place)
        self._shown[tab] = entry

    async def _lines(self, tab: Literal["summary", "problems", "history"], entry: JudgedEntry | None) -> Sequence[Line]:
        if entry is None:
            return [Line("no entry", kind="muted")]
        live = self._session.live
        # Made of documents and their types, or of findings: not imported before there is an entry to show.
        from ..summary import history, summarize

        if tab == "summary":
            found = await asyncio.to_thread(live.findings_of, entry) if entry.state.bad else ()
            known = live.judge.remembered if live.judge is not None else None
            directory, zones = self._session.directory, live.host.zones
            return await asyncio.to_thread(summarize, directory, entry, found or (), known, zones)
        if tab == "history":
            return await history(self._session.cache, entry)
        from ocitui.words import entry_problem_lines

        return entry_problem_lines(await asyncio.to_thread(live.findings_of, entry))

    async def _view_of(self, tab: Tab, kind: Callable[..., V]) -> V:
        if tab not in self._views:
            view = self._views[tab] = kind(id=tab)
            # Another tab may be open by now.
            view.display = tab == self.tab
            await self.mount(view)
            if view.display and self.screen.focused is None:
                view.focus()
        return cast(V, self._views[tab])

    async def _fill_files(self, entry: JudgedEntry | None) -> None:
        from ocitui.cache import CacheError, known_format

        from .file_tree import FileTree

        view = await self._view_of("files", FileTree)
        format = known_format(entry.format) if entry else None
        if entry is None or format is None or not entry.descriptor.packed_file:
            view.clear("no lookup can reach a file of this entry" if entry else "no entry")
            return
        name = f"{entry.descriptor.image_name or short_digest(entry.digest)}.{format}"
        if view.contents is None or view.contents.name != name:
            view.clear(_READING)
        try:
            await view.load(self._session.directory / entry.descriptor.packed_file, format, name)
        except FileNotFoundError:
            view.clear("missing: there is no packed file for this entry", bad=True)
        except CacheError as error:
            view.clear(error.message, bad=True)
        except OSError as error:
            view.clear(f"it cannot be read: {error.strerror}", bad=True)

    async def _fill_document(self, tab: Literal["manifest", "config"], entry: JudgedEntry | None) -> None:
        from ocitui.cache import FileKind, StorageError, read_regular

        from ..summary import document_error
        from .document_view import DocumentView

        view = await self._view_of(tab, DocumentView)
        names = entry.descriptor.files if entry else {}
        if not names:
            view.clear("no lookup can reach a file of this entry" if entry else "no entry")
            return
        path = self._session.directory / names[FileKind(tab)]
        try:
            raw = await asyncio.to_thread(read_regular, path)
        except StorageError as error:
            missing = not await asyncio.to_thread(path.exists)
            view.clear(f"missing: there is no {tab} file for this digest" if missing else error.message)
            return
        await view.show_document(raw, error=await asyncio.to_thread(document_error, tab, raw))
