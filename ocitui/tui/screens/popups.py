"""What stands over a screen for a moment: a menu, the commands by name, and the file that a copy goes into."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input

from ocitui.cache import INDEX_NAME, CacheError, FileTakenError, Key, write_outside
from ocitui.text import clean, counted, human_size

from ..actions import commands
from ..session import R, SessionScreen
from ..widgets.bars import PathSuggester, Question
from ..widgets.lines import PickList, PickRow, bound

MOST_TO_TERMINAL = 64 << 10
"""Bytes; terminals that take more are few, and the others say nothing."""


class PopUp(ModalScreen[R | None], SessionScreen[R | None]):
    """Framed; `esc` ends it. The frame says what it is about, and what there is to say."""

    BINDINGS = bound({"escape,ctrl+c": "leave"})
    DEFAULT_CSS = """
    PopUp {
        align: center middle;
        & > Vertical { width: 66; max-width: 100%; height: auto; max-height: 100%; border: solid $primary; }
        PickList { max-height: 12; }
    }
    """

    def __init__(self, title: str, hint: str, *widgets: Widget) -> None:
        super().__init__()
        self._title, self._hint, self._widgets = title, hint, widgets

    def compose(self) -> ComposeResult:
        yield Vertical(*self._widgets)

    def on_mount(self) -> None:
        # As it stands: a text there is markup otherwise.
        self.query_one(Vertical).border_title = Content(clean(self._title))
        self.draw_status()

    def on_resize(self) -> None:
        """Rows get what the frame and the fields leave them of the screen, and no more than twelve."""
        for rows in self.query(PickList):
            rows.styles.max_height = max(min(12, self.app.size.height - 2 - len(self.query(Question))), 1)

    def draw_status(self) -> None:
        for frame in self.query(Vertical):
            frame.border_subtitle = Content(clean(self.message or self._hint))


class MenuScreen(PopUp[tuple[str, bool]]):
    """A letter takes its row, and its capital does the same otherwise, as the ``hint`` says; enter takes the row under
    the cursor. Dismissed with the letter, and whether it was a capital."""

    def __init__(self, title: str, rows: Mapping[str, str], hint: str) -> None:
        super().__init__(title, hint, PickList())
        self._rows = rows

    def on_mount(self) -> None:
        self.query_one(PickList).set_rows([PickRow(letter, f"{letter}  {text}") for letter, text in self._rows.items()])

    def key_unknown(self, key: str) -> None:
        if key.lower() in self._rows:
            self.dismiss((key.lower(), key.isupper()))
        else:
            super().key_unknown(key)

    @on(PickList.Picked)
    def _picked(self) -> None:
        self.dismiss((self.query_one(PickList).key or "", False))


class CommandScreen(PopUp[str]):
    """What is typed narrows the list; the arrows choose. Dismissed with the name of an action."""

    BINDINGS = bound({"up": "step(-1)", "down": "step(1)", "enter": "take"})

    def __init__(self) -> None:
        super().__init__("command", "", Question(placeholder="a name, as delete; or a key, as d"), PickList())

    def on_mount(self) -> None:
        self._narrow("")

    def key_unknown(self, key: str) -> None:
        """Typed ahead, before there was a field for it."""
        if len(key) == 1:
            self.query_one(Question).insert_text_at_cursor(key)
        else:
            super().key_unknown(key)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._narrow(event.value)

    def _narrow(self, text: str) -> None:
        self._text, actions = text, commands(text)
        rows = self.query_one(PickList)
        lines = {one.name: f"{one.key_label:<6} {one.label:<12} {one.help}" for one in actions}
        rows.set_rows([PickRow(name, line, start=True) for name, line in lines.items()])
        rows.action_first()
        self._hint = "enter runs it, esc goes back" if actions else "there is no such command"
        self.draw_status()

    def action_step(self, by: int) -> None:
        self.query_one(PickList).action_step(by)

    @on(PickList.Picked)
    @on(Input.Submitted)
    def action_take(self) -> None:
        # What was typed ahead may not have narrowed the list yet.
        if (text := self.query_one(Question).value) != self._text:
            self._narrow(text)
        if name := self.query_one(PickList).key:
            self.dismiss(name)


class ReasonScreen(PopUp[str]):
    """Asks why an entry is kept. Dismissed with what was typed."""

    def __init__(self, name: str) -> None:
        why = Question(placeholder="as: runs the billing of each month")
        super().__init__(f"pin {name}", "why it is kept; enter pins it, esc goes back", why)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or "by hand")


class DirectoryScreen(PopUp[str]):
    """Asks for a directory. Dismissed with what was typed."""

    def __init__(self, title: str) -> None:
        where = Question(placeholder="a directory, made where it is not there", suggester=PathSuggester())
        super().__init__(title, "enter shows what would be written, esc goes back", where)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if where := event.value.strip():
            self.dismiss(where)


def pin_entries(
    screen: SessionScreen[R], keys: Sequence[Key], name: str, *, pinned: bool, done: Callable[[str], object]
) -> None:
    """Pin entries for a reason that is asked, or those ``pinned`` no more; ``done`` hears what there is to say."""

    def answered(reason: str | None) -> None:
        if reason is not None:
            screen.run_worker(note(reason), group="pin")

    async def note(reason: str) -> None:
        from ocitui.cache import Ledger
        from ocitui.doctor import pin

        try:
            await asyncio.to_thread(lambda: pin(Ledger.open(screen.session.directory), keys, reason))
        except CacheError as error:
            screen.say(error.one_line)
        else:
            # Only then does the same key know of it.
            await screen.session.live.remember()
            done(f"{counted(len(keys), 'entry')} {'pinned: no rule takes it' if reason else 'no longer pinned'}")

    if pinned:
        answered("")
    else:
        screen.app.push_screen(ReasonScreen(name), answered)


class Copyable(msgspec.Struct, frozen=True):
    """What a screen can give away: its letter in the menu, what it is, and what makes its lines, in a thread."""

    letter: str
    what: str
    make: Callable[[], Iterable[str]]


def texts_to_copy(texts: Mapping[str, Iterable[str | None]]) -> list[Copyable]:
    """Lines by what they are, the first letter of that is theirs; what has none is left out."""
    found = {what: list(filter(None, lines)) for what, lines in texts.items()}
    return [Copyable(what[0], what, partial(list, lines)) for what, lines in found.items() if lines]


def offer_copies(screen: SessionScreen[R], copies: Sequence[Copyable]) -> None:
    """Ask which of these is to go to the terminal, or with a capital into a file."""
    known = {one.letter: one for one in copies}

    def chosen(answer: tuple[str, bool] | None) -> None:
        if answer is not None:
            screen.run_worker(_copy(screen, known[answer[0]], into_file=answer[1]), group="copy", exclusive=True)

    if known:
        rows = {one.letter: one.what for one in copies}
        screen.app.push_screen(MenuScreen("send to the terminal", rows, "a capital: into a file"), chosen)
    else:
        screen.say("there is nothing to copy here")


async def _copy(screen: SessionScreen[R], wanted: Copyable, *, into_file: bool) -> None:
    """Copy it as it is shown: what it lands in may be a shell."""
    lines = await asyncio.to_thread(lambda: list(wanted.make()))
    safe = "\n".join(map(clean, lines))
    unlike = "" if safe == "\n".join(lines) else ", without the characters that a terminal would obey"
    size, capital = len(safe.encode()), wanted.letter.upper()
    if into_file:
        screen.app.push_screen(
            FileNameScreen(wanted.what, safe), lambda said: screen.say(f"{said}{unlike}" if said else "")
        )
    elif size > MOST_TO_TERMINAL:
        screen.say(f"not sent: {human_size(size)} are too much for most terminals; c {capital} writes a file")
    else:
        screen.app.copy_to_clipboard(safe)
        screen.say(f"{wanted.what} sent to the terminal{unlike}")


class FileNameScreen(PopUp[str]):
    """Asks for a file and writes it, over one that is there after a question only. Dismissed with what was done."""

    BINDINGS = bound({"y": "replace"})

    def __init__(self, what: str, text: str) -> None:
        name = Question(placeholder="its name", suggester=PathSuggester())
        super().__init__(f"write into a file: {what}", "enter writes it, esc goes back", name)
        self._text = text
        self._taken: Path | None = None

    @on(Input.Submitted)
    def _named(self, event: Input.Submitted) -> None:
        if event.value.strip() and not self._is_writing:
            self._write(Path(os.path.abspath(os.path.expanduser(event.value.strip()))))

    def action_replace(self) -> None:
        if self._taken is not None and not self._is_writing:
            self._write(self._taken, replace=True)

    @property
    def _is_writing(self) -> bool:
        return any(worker.group == "write" and not worker.is_finished for worker in self.workers)

    @work(group="write")
    async def _write(self, path: Path, *, replace: bool = False) -> None:
        text, directory = f"{self._text}\n", self.session.directory
        try:
            await asyncio.to_thread(write_outside, directory, path, text, replace=replace, like=directory / INDEX_NAME)
        except FileTakenError:
            # No field has the keys: y is an answer now, and no letter of a name.
            self._taken, self._hint = path, "it is there already: y replaces it, esc keeps it"
            self.set_focus(None)
            self.draw_status()
        except CacheError as error:
            self.say(error.message.replace(str(path), "it"))
        else:
            self.dismiss(f"written: {path}, {human_size(len(text.encode()))}")
