"""The inputs: a line to type in, one of a few words, and the completion of a source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from rich.segment import Segment
from textual import events
from textual.containers import Horizontal
from textual.message import Message
from textual.strip import Strip
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Static

from ocitui.directory import FILE_PREFIXES, PREFIXES, paths_from
from ocitui.text import clean

from ..terminal import Role, palette
from .lines import bound


class FieldRow(Horizontal):
    """What is typed or chosen, in a line, each behind its label."""

    def __init__(self, *fields: tuple[str, Widget], classes: str = "") -> None:
        widgets = ((Static(label, classes="field-label"), widget) for label, widget in fields)
        super().__init__(*chain.from_iterable(widgets), classes=f"field {classes}")


class Question(Input):
    """An input that writes nothing while nothing is typed: its cursor does not blink."""

    DEFAULT_CSS = """
    Question { border: none; height: 1; padding: 0; background: $surface; }
    Question:focus { border: none; }
    """

    def __init__(self, value: str = "", *, suggester: Suggester | None = None, **options: Any) -> None:
        super().__init__(value, suggester=suggester, select_on_focus=False, **options)
        self.cursor_blink = False


class OneLineQuestion(Question):
    """A question that is there while it is open; enter and escape end it at once, before the next key is looked at.
    Where the keys go elsewhere it is answered with what was typed; a terminal that is not looked at changes nothing."""

    DEFAULT_CSS = """
    OneLineQuestion { display: none; padding: 0 1; }
    OneLineQuestion.-open { display: block; }
    """

    def __init__(self, ended: Callable[[bool], object]) -> None:
        """``ended`` is called with whether it was answered."""
        super().__init__(id="ask")
        self._ended = ended

    @property
    def open(self) -> bool:
        return self.has_class("-open")

    def ask(self, text: str, about: str) -> None:
        """Begin, with ``text`` to go on from."""
        with self.prevent(Input.Changed):
            self.value = text
        self.placeholder = about
        self.cursor_position = len(text)
        self.add_class("-open")
        self.screen.set_focus(self)

    def close(self) -> None:
        """Be asked no more; what was typed is still its value."""
        self.remove_class("-open")

    def on_key(self, event: events.Key) -> None:
        if not self.open:
            # Typed ahead, and meant for what has the keys now.
            event.prevent_default()
        elif event.key in ("enter", "escape"):
            event.stop()
            event.prevent_default()
            self._ended(event.key == "enter")

    def on_blur(self) -> None:
        # It may have been asked anew by now.
        if self.open and self.app.app_focus and self.screen.focused is not self:
            self._ended(True)


class Choice(Widget, can_focus=True):
    """The chosen word stands in brackets. ``notes`` stand behind a word, for what is to be known before it is taken."""

    BINDINGS = bound({"left": "step(-1)", "right,space": "step(1)", "enter": "submit"})
    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"

    @dataclass
    class Changed(Message):
        """Another word is chosen."""

        choice: Choice

    class Submitted(Message):
        """Enter was pressed."""

    def __init__(self, words: Sequence[str], *, id: str) -> None:
        super().__init__(id=id)
        self.words = tuple(words)
        self._chosen = 0
        self._notes: dict[str, str] = {}

    @property
    def value(self) -> str:
        return self.words[self._chosen]

    @value.setter
    def value(self, word: str) -> None:
        if word != self.value:
            self._chosen = self.words.index(word)
            self.refresh()
            self.post_message(self.Changed(self))

    def note(self, notes: dict[str, str]) -> None:
        """Show these behind their words."""
        self._notes = notes
        self.refresh()

    def render_line(self, y: int) -> Strip:
        styles, parts = palette(self.app), list[Segment]()
        ground = styles["cursor" if self.has_focus else "strip"]
        for word in self.words:
            chosen = word == self.value
            note = f"({self._notes[word]})" if word in self._notes else ""
            role: Role = "strong" if chosen else "plain"
            parts.append(Segment(f"[{word}]{note} " if chosen else f" {word} {note} ", ground + styles[role]))
        return Strip(parts).adjust_cell_length(self.size.width, ground)

    def action_step(self, by: int) -> None:
        self.value = self.words[(self._chosen + by) % len(self.words)]

    def action_submit(self) -> None:
        self.post_message(self.Submitted())

    def on_click(self, event: events.Click) -> None:
        self.action_step(1)


class PathSuggester(Suggester):
    """Completes a path from what is on disk; ``sources`` allows a kind of source before it."""

    def __init__(self, *, sources: bool = False) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._sources = sources

    async def get_suggestion(self, value: str) -> str | None:
        return await asyncio.to_thread(complete_source if self._sources else complete_path, value)


def complete_source(value: str) -> str | None:
    """The first source that goes on from ``value``; None where there is none, or only a registry knows."""
    prefix = next((prefix for prefix in FILE_PREFIXES if value.startswith(prefix)), "")
    found = complete_path(value.removeprefix(prefix))
    if found is not None:
        return prefix + found
    return next((known for known in PREFIXES if value and not prefix and known.startswith(value)), None)


def complete_path(value: str) -> str | None:
    """The first path that goes on from ``value``, a directory with its slash; None where there is none."""
    # A field shows what it is offered as it is.
    paths = (path for path in paths_from(value) if clean(path) == path)
    found = next(paths, None) if value and not value.endswith("/") else None
    return found if found != value else None
