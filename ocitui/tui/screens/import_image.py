"""Import: which file, under which name; what was found, before anything is written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Static

from ocitui.cache import CacheError, ImageName
from ocitui.importing.errors import NamedOtherwiseError
from ocitui.importing.packed import PackedSource, import_packed, inspect_packed
from ocitui.importing.sources import find_packed_files
from ocitui.text import human_size

from ..widgets.lines_view import Line, LinesView, heading
from ..widgets.question import Question
from .confirm import error_lines
from .full import FullScreen

_FIELDS = (
    ("file", "Packed file", "a .squashfs, .erofs or .tar file"),
    ("name", "Name", "as the daemon is to find it, for example alpine:3.19"),
    ("manifest", "Manifest", "FILE.manifest.json beside the packed file, unless named here"),
    ("config", "Config", "FILE.config.json beside the packed file, unless named here"),
)


class PathSuggester(Suggester):
    """Completes a path from what is on disk."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        return await asyncio.to_thread(_complete, value)


def _complete(value: str) -> str | None:
    """The first path that goes on from ``value``; None where there is none."""
    folder, _, start = value.rpartition("/")
    try:
        names = sorted(os.listdir(os.path.expanduser(f"{folder}/" if "/" in value else ".")))
    except OSError:
        return None
    found = next((name for name in names if start and name.startswith(start) and name != start), None)
    if found is None:
        return None
    return f"{folder}/{found}" if "/" in value else found


class ImportScreen(FullScreen[str | None]):
    """Enter goes from field to field and then looks; `y` imports what was found."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "start(False)", "Import", show=False),
        Binding("Y", "start(True)", "Import and rename", show=False),
        Binding("ctrl+c", "stop", "Stop", show=False, priority=True),
    ]
    AUTO_FOCUS = "#file"
    subject: ClassVar[str] = "import"
    keys = (("enter", "Next field, then look"), ("→", "Complete a path"), ("esc", "Back"))

    class Copied(Message):
        """So many bytes of the packed file are staged; a newer one replaces those that wait."""

        def __init__(self, done: int, total: int) -> None:
            super().__init__()
            self.done = done
            self.total = total

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, ImportScreen.Copied)

    def __init__(self) -> None:
        super().__init__()
        self._source: PackedSource | None = None
        self._image_name: ImageName | None = None
        self._importing = False

    def compose_body(self) -> Iterable[Widget]:
        for field, label, hint in _FIELDS:
            suggester = None if field == "name" else PathSuggester()
            with Horizontal(classes="field"):
                yield Static(label, classes="field-label")
                yield Question(id=field, placeholder=hint, suggester=suggester)
        yield LinesView()

    @on(Input.Changed)
    def _edited(self) -> None:
        self._source = None

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        """The two names that are needed come first; the documents' own fields may stay empty."""
        if event.input.id == "file" and not self._text("name"):
            self.query_one("#name").focus()
        else:
            self._look()

    def _text(self, field: str) -> str:
        return self.query_one(f"#{field}", Input).value.strip()

    def _path(self, field: str) -> Path | None:
        text = self._text(field)
        return Path(text).expanduser() if text else None

    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        """Inspect the source and say what it is."""
        try:
            files = find_packed_files(
                os.path.expanduser(self._text("file")), self._path("manifest"), self._path("config")
            )
            name = ImageName.parse(self._text("name"))
            source = await inspect_packed(files)
            taken = await self._other_name(source, name)
        except CacheError as error:
            self.show_lines(error_lines(error))
            return
        self.show_lines([*source_lines(source, name), *taken])
        if source.problems or not self._text("name"):
            self.say("not to be imported as it is")
            return
        self._source, self._image_name = source, name
        self.query_one(LinesView).focus()
        self.show_keys([("Y", "Rename") if taken else ("y", "Import"), ("tab", "Fields"), ("esc", "Back")])
        self.say(f"on {self.app.host}: nothing is changed before {'Y' if taken else 'y'}")

    async def _other_name(self, source: PackedSource, name: ImageName) -> list[Line]:
        """What to say where the cache has the image under another name: it keeps one for a digest and format."""
        index = await self.app.cache.index()
        there = index.by_key(source.digest or "", source.format)
        if there is None or there.image_name == str(name):
            return []
        text = f"The cache has it as {there.image_name or 'an entry without a name'}; Y gives that entry the new name."
        return [Line(), Line(text, kind="bad")]

    def action_start(self, rename: bool) -> None:
        if self._source is None or self._image_name is None or self._importing:
            return
        if reason := self.main.refusal("import_image"):
            self.say(f"not done: {reason}")
            return
        self._importing = True
        self.show_keys([("ctrl+c", "Stop")])
        self._import(self._source, self._image_name, rename)

    @work(group="import")
    async def _import(self, source: PackedSource, name: ImageName, rename: bool) -> None:
        try:
            image = await import_packed(self.app.cache, source, name, rename=rename, progress=self._progress)
        except NamedOtherwiseError as error:
            self.show_lines([Line(error.message, kind="bad"), Line("Y gives that entry the new name.")])
            self.show_keys([("Y", "Rename"), ("esc", "Back")])
        except CacheError as error:
            self.show_lines(error_lines(error))
        else:
            self.dismiss(f"{image.name} imported as {image.digest}, {image.format}; u undoes it")
            return
        finally:
            self._importing = False

    def _progress(self, done: int, total: int) -> None:
        """Called from the copying thread, which touches no widget."""
        self.post_message(self.Copied(done, total))

    @on(Copied)
    def _copied(self, event: Copied) -> None:
        self.say(f"copying: {human_size(event.done)} of {human_size(event.total)}")

    def action_stop(self) -> None:
        if self._importing:
            self.workers.cancel_group(self, "import")
            self._importing = False
            self.say("stopped; the cache is as it was")
        else:
            self.action_interrupt()

    def action_leave(self) -> None:
        if self._importing:
            self.say("an import is running; ctrl+c stops it")
        else:
            self.dismiss(None)


def source_lines(source: PackedSource, name: ImageName) -> list[Line]:
    """What a source is, and what keeps it from being imported."""
    lines = [heading("Found")]
    lines += [
        Line(f"{source.files.packed}", "packed file"),
        Line(f"{source.format or 'unknown'}, {human_size(source.size)}", "format"),
        Line(source.digest or "unknown", "digest"),
        Line(source.platform or "unknown", "platform"),
        Line(str(name) or "none: a name is needed", "krata's name", "plain" if str(name) else "bad"),
    ]
    if name.reference == "latest":
        lines.append(Line("the daemon never resolves the tag latest from its cache", "note", "bad"))
    if source.problems:
        lines += [Line(), heading("It cannot be imported"), *(Line(problem, kind="bad") for problem in source.problems)]
    return lines
