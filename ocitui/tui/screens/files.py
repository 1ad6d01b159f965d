"""What is inside a packed file: one of its files, as text or as bytes, and files that are written out of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from textual import work
from textual.widget import Widget

from ocitui.cache import CacheError, refuse_inside
from ocitui.contents import ContentsError, Extraction
from ocitui.doctor import hidden_in_layers
from ocitui.text import counted, first_of, human_size
from ocitui.threads import Stop, giving_way, in_thread, on_loop
from ocitui.words import extracted_lines, hidden_lines, sort_of_bytes

from ..widgets.document_view import DocumentView
from ..widgets.file_tree import Contents
from ..widgets.lines import Line, LinesView, LongList, SearchDone, bound
from .base import DRAW_SECONDS, ConfirmScreen, FullScreen, Throttle
from .popups import Copyable, texts_to_copy

MOST_SHOWN = 32 << 20
"""The bytes of a file that are read to be shown, from its beginning."""
_CHUNK, _ROW = 1 << 20, 16
_JUDGED = 1 << 16  # by so many of its first bytes a file is told to be text, as `cat` does


class FileScreen(FullScreen[None]):
    """A file out of a packed file: a text by its lines, anything else as bytes."""

    BINDINGS = bound({"h": "as_bytes", "slash": "search"})
    AUTO_FOCUS = "DocumentView"
    CSS = "FileScreen { DocumentView { height: 1fr; } .-off { display: none; } }"
    subject = "file"
    shown_as = "the bytes"
    asks = takes_nothing = True

    def __init__(self, contents: Contents, entry: int) -> None:
        super().__init__()
        self._contents, self._entry = contents, entry
        self._data, self._sort, self._wrong, self._bytes_shown = b"", "", "", False

    def compose_body(self) -> Iterable[Widget]:
        yield DocumentView("reading it")
        yield LinesView()

    def begin(self) -> None:
        self._show_one(as_bytes=False)
        self._about("reading it")
        self._read()

    def _about(self, what: str) -> None:
        contents, entry = self._contents, self._entry
        self.stand(f"{contents.path(entry)}, {human_size(contents.tree.sizes[entry])}: {what}, in {contents.name}")

    @work
    async def _read(self) -> None:
        with giving_way():
            self._data, self._wrong = await in_thread(self._beginning)
        self._sort = sort_of_bytes(self._data[:_JUDGED])
        self._about(f"{self._sort or 'text'}{', ' if self._wrong else ''}{self._wrong}")
        view = self.query_one(DocumentView)
        if self._sort:
            self.show_lines([LongList(-(-len(self._data) // _ROW), self._row)])
            self._show_one(as_bytes=True)
        else:
            # Bytes that were asked for before there were any would stay none.
            self._show_one(as_bytes=False)
            await view.show_text(self._data, self._wrong)

    def _beginning(self, stop: Stop) -> tuple[bytes, str]:
        """What is read, and why it is not all."""
        body, parts, size = self._contents.tree.open(self._entry), list[bytes](), 0
        try:
            while size < MOST_SHOWN and (data := body.read(_CHUNK)):
                stop.check()
                parts.append(data)
                size += len(data)
        except (ContentsError, OSError) as error:
            return b"".join(parts), f"not readable from byte {size:,} on: {error}"
        longer = size < self._contents.tree.sizes[self._entry]
        return b"".join(parts), f"its first {human_size(size)}; x on its row writes all of it" if longer else ""

    def _row(self, number: int) -> Line:
        part = self._data[number * _ROW : (number + 1) * _ROW]
        letters = "".join(chr(one) if 32 <= one < 127 else "." for one in part)
        return Line(f"{part[:8].hex(' '):23}  {part[8:].hex(' '):23}  {letters}", f"{number * _ROW:08x}")

    def _show_one(self, *, as_bytes: bool) -> None:
        self._bytes_shown = as_bytes
        document, lines = self.query_one(DocumentView), self.query_one(LinesView)
        document.set_class(as_bytes, "-off")
        lines.set_class(not as_bytes, "-off")
        self.set_focus(lines if as_bytes else document)
        self.show_keys([("h", "Text")] if as_bytes else [("/", "Search"), ("h", "Bytes")])

    def action_as_bytes(self) -> None:
        """What is a text as bytes, and back."""
        if self._sort:
            self.say(f"it is {self._sort}")
            return
        if not self._bytes_shown:
            self.show_lines([LongList(-(-len(self._data) // _ROW), self._row)])
        self._show_one(as_bytes=not self._bytes_shown)

    def action_search(self) -> None:
        if self._bytes_shown:
            self.say("a text is searched; these are bytes")
        else:
            self.ask("", "search")

    def answered(self, text: str) -> None:
        self.query_one(DocumentView).search(text)

    def on_search_done(self, event: SearchDone) -> None:
        self.say(event.told)

    def copies(self) -> list[Copyable]:
        path = self._contents.path(self._entry)
        text = [] if self._sort else [Copyable("t", "text", self._data.decode("utf-8", "replace").splitlines)]
        return [*texts_to_copy({"path": [path]}), *text]


class HiddenScreen(FullScreen[None]):
    """What the layers of an image hold in vain, once they are read where it was imported from; nothing is written."""

    subject = "hidden by layers"

    def __init__(self, digest: str, name: str) -> None:
        super().__init__()
        self._digest, self._name = digest, name

    def begin(self) -> None:
        self.stand(f"reading the layers of {self._name}")
        self._read()

    @work
    async def _read(self) -> None:
        try:
            with giving_way():
                found = await hidden_in_layers(self.session.directory, self._digest)
                # Of some 100,000 files, they take long to make too.
                lines = await in_thread(lambda stop: [*hidden_lines(found.files, found.size, found.layers)])
            self.stand(f"{self._name}: layers from {found.origin}")
        except CacheError as error:
            lines = [f"The layers of {self._name} cannot be read: {error.message}"]
            self.stand("ocitui files NAME --layers --from SOURCE reads others")
        self.show_lines([LongList(len(lines), lambda number: Line(lines[number]))])


class ExtractScreen(ConfirmScreen):
    """Writes a file, or a directory with all below it, below a directory outside of the cache."""

    subject = "extract"
    verb = "Write them"
    asked = "nothing is written before y"
    writes = False

    def __init__(self, contents: Contents, entry: int, directory: Path) -> None:
        super().__init__()
        self._contents, self._entry, self._directory = contents, entry, directory
        self._replaced: list[bytes] = []
        self._extraction = Extraction(contents.tree, (), directory)

    async def plan(self) -> Iterable[Line | LongList]:
        refuse_inside(self.session.directory, self._directory)
        contents, entry = self._contents, self._entry

        def look(stop: Stop) -> tuple[Extraction, list[bytes], int, int]:
            extraction = Extraction(contents.tree, [entry], self._directory)
            count = sum(1 for _ in contents.tree.walk(entry))
            return extraction, list(extraction.in_the_way()), count, extraction.size

        self._extraction, self._replaced, count, size = await in_thread(look)
        taken = [path.decode("utf-8", "backslashreplace") for path in self._replaced]
        lines = self.opening("write files out of a packed file")
        lines += [
            Line(contents.name, "out of"),
            Line(f"{contents.path(entry)}, {counted(count, 'entry')}, {human_size(size)}", "what"),
            Line(f"{self._directory}, under the same path", "below"),
        ]
        there = f"{counted(len(taken), 'file')} there already: {first_of(taken)}" if taken else "nothing"
        lines += [Line(one, "lacks", "bad") for one in self._unread()]
        return [*lines, Line(there, "replaces", "bad" if taken else "plain")]

    def _unread(self) -> list[str]:
        """That not all of it can be read, where it is so."""
        why = [text for _, text in self._extraction.unread]
        return [f"what cannot be read: {first_of(why)}"] if why else []

    def acting(self) -> str:
        return "writing; ctrl+c ends it, and what was written stays"

    async def act(self) -> str:
        done, size = 0, self._extraction.size
        throttle = Throttle(self, DRAW_SECONDS, lambda: self.stand(f"{human_size(done)} of {human_size(size)} written"))

        def passed(count: int) -> None:
            nonlocal done
            done += count
            throttle.ask()

        told = on_loop(passed)
        replace = bool(self._replaced)
        found = await in_thread(lambda stop: self._extraction.run(stop, replace=replace, passed=told))
        return "; ".join((*self._unread(), *extracted_lines(found, self._directory)))

    def action_interrupt(self) -> None:
        if not self._acting:
            self.action_leave()
            return
        self.workers.cancel_group(self, "act")
        self.dismiss("not all was extracted; what was written stays")
