"""What takes a line of a screen: the bars, header, health, trouble, status and keys, each drawn only when what it says
changes; and the inputs, a line to type in, one of a few words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.containers import Horizontal
from textual.message import Message
from textual.screen import Screen
from textual.strip import Strip
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Static

from ocitui.cache import Condition, Health
from ocitui.directory import FILE_PREFIXES, PREFIXES, paths_from
from ocitui.host import DaemonState
from ocitui.text import age_of, clean, counted, human_size
from ocitui.words import CONDITIONS, capital

from ..actions import key_named
from ..terminal import HOST_COLOURS, Role, draw_cells, palette
from .lines import GOOD, SEVERITIES, UNKNOWN, Cell, bound, cut

if TYPE_CHECKING:
    from ocitui.doctor import Assessment

    from ..live import LiveCache
    from ..session import Session, SessionScreen

W = TypeVar("W", bound=Widget)
Part = Cell | str
"""A text, and what it is drawn for where that is not plain."""
RULE, _LONGEST_RULE = "─", 1000
_WIDER, _NEARLY_FULL = 100, 0.9
_LAST = "these are the last good rows"
_WRONG = {
    Condition.STALE: ("index torn", f"; {_LAST}"),
    Condition.CORRUPT: ("index broken", ""),
    Condition.MISSING: ("index gone", f"; {_LAST}"),
    Condition.GONE: ("cache gone", f"; {_LAST}"),
    Condition.UNREADABLE: ("not readable", ""),
}
"""What is wrong with index.json or the directory, in two words, and what is to be said of the rows then."""


class Bar(Widget):
    """A line of text, or as many as it has; what stands ``right`` stands at the right end, as far as there is room."""

    DEFAULT_CSS = "Bar { height: 1; width: 1fr; }"
    surface: ClassVar[Role] = "plain"
    padding: ClassVar[str] = " "
    """What may be cut at the end without a mark."""
    letters: ClassVar[str] = ""
    """What is a key also where it is drawn for something else."""
    lines: tuple[tuple[Part, ...], ...] = ()
    right: tuple[Part, ...] = ()

    def show(self, *lines: Sequence[Part], right: Sequence[Part] = ()) -> None:
        """Show these; nothing is written when they are what is shown already."""
        asked = tuple(tuple(part for part in line if _text([part])) for line in lines), tuple(right)
        if asked != (self.lines, self.right):
            self.lines, self.right = asked
            self.changed()

    def changed(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A click on a key, or on what stands behind it, presses it."""
        if event.y >= len(self.lines):
            return
        right = () if event.y else self.right
        left = self.size.width - cell_len(_text(right))
        cells, x = (right, event.x - left) if event.x >= left else (self.lines[event.y], event.x)
        pressed = ""
        for text, role in map(_cell, cells):
            if x < 0:
                break
            if role == "key" or text in self.letters:
                pressed = text
            elif role == "faint" or (not text.strip(" ") and len(text) > 1):
                # A rule, or the room between two.
                pressed = ""
            x -= cell_len(text)
        if x < 0 and (key := key_named(pressed)):
            self.app.simulate_key(key)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        right = () if y else self.right
        line, room = self.lines[y] if y < len(self.lines) else (), max(width - cell_len(_text(right)), 0)
        cells, rest = list[Cell](), cell_len(_text(line).rstrip(self.padding))
        # What follows where one text ends at the edge is cut too.
        room -= len(mark := "…" if rest > room else "")
        for text, role in map(_cell, line):
            cells.append((cut(text, room, ""), role))
            room -= cell_len(cells[-1][0])
        if mark:
            cells.append((mark, cells[-1][1]))
        cells += [(" " * room, "plain"), *map(_cell, right)]
        return draw_cells(cells, self.surface, palette(self.app), width)


def _cell(part: Part) -> Cell:
    return (part, "plain") if isinstance(part, str) else part


def _text(parts: Sequence[Part]) -> str:
    return "".join(text for text, _ in map(_cell, parts))


class HeaderBar(Bar):
    """Which host, which directory, which screen; what the cache holds, and the daemon."""

    surface = "strip"


class HealthBar(Bar):
    """How the cache is, in slots that never move, each behind the key that leads to it."""

    surface, letters = "strip", "vpbt"


class TroubleBar(Bar):
    """What is wrong with the index, what to do, and how; not there while nothing is."""

    DEFAULT_CSS = """
    TroubleBar { height: 3; display: none; }
    TroubleBar.-shown { display: block; }
    """
    surface = "banner"

    def changed(self) -> None:
        self.refresh(layout=True)
        self.set_class(bool(self.lines), "-shown")


class StatusBar(Bar):
    """What was said, or what helps on the cursor's row."""


class KeyBar(Bar):
    """The keys that apply now, the most useful first."""


class RuleBar(Bar):
    """A rule, and what stands in it and below it."""

    padding = f" {RULE}━"

    def part(self, *parts: Part, below: Sequence[Sequence[Part]] = (), end: str = "") -> None:
        """Begin with these, and end with a text that recedes."""
        right: list[Part] = [(end, "muted"), (RULE, "faint")] if end else []
        self.show([(RULE * 2, "faint"), *parts, (RULE * _LONGEST_RULE, "faint")], *below, right=right)


def lines_of(screen: Screen[Any], kind: type[W]) -> Iterator[W]:
    """The lines of a kind that a screen has, all children of its own; none before it is composed. A query would look at
    every widget below it, each time that anything is drawn."""
    return (line for line in screen.children if isinstance(line, kind))


def draw_frame(screen: SessionScreen[Any], subject: str = "") -> None:
    """The two lines on top of every screen."""
    session, width = screen.session, screen.app.size.width
    if session.options.hosts:
        # No cache is looked at here: it says nothing of one.
        for bar in lines_of(screen, HeaderBar):
            bar.show(fleet_title(session, subject))
        return
    for bar in lines_of(screen, HeaderBar):
        left, right = header_parts(session, subject, width)
        bar.show(left, right=right)
    for health in lines_of(screen, HealthBar):
        health.show(health_parts(session.live, width))


def header_parts(session: Session, subject: str, width: int) -> tuple[list[Part], list[Part]]:
    """Host, directory (which gives way, in its middle) and screen; at the right end what the cache has, the daemon."""
    live = session.live
    held: list[Part] = ["reading"]
    if live.loaded:
        held = [counted(live.total, "entry"), (f" {human_size(live.size)}", "muted")]
    right = [" ", *held, "   ", *daemon_parts(live.host.daemon), " "]
    mode: list[Part] = [("ro", "warn") if live.read_only else ("rw", "good")] if live.loaded else []
    end = f" \u203a {subject}" if subject else ""
    host, path = clean(session.host), clean(session.place)
    room = width - cell_len(f" {host}  {end}    ") - cell_len(_text(right)) - 2
    if cell_len(path) > room:
        path = cut(path, room, middle=True) if room > 4 else ""
    parent, slash, last = path.rpartition("/")
    left: list[Part] = [host_chip(session), (f" {parent}{slash}", "muted"), last, (end, "strong"), "  ", *mode]
    return left, right


def fleet_title(session: Session, subject: str) -> list[Part]:
    """This host, how many others are looked at, and the screen."""
    return [host_chip(session), f" {counted(len(session.options.hosts), 'host')}", (f" \u203a {subject}", "strong")]


def host_chip(session: Session) -> Part:
    """The host's name, on its colour."""
    return f" {clean(session.host)} ", HOST_COLOURS[session.settings.host_colour]


def daemon_parts(daemon: DaemonState) -> list[Part]:
    """Whether kratad runs, and for how long."""
    if not daemon.running:
        return [("○", "muted"), " kratad down"]
    return [("●", "good"), " kratad up" if daemon.since is None else f" kratad up {age_of(daemon.since)}"]


def health_parts(live: LiveCache, width: int) -> list[Part]:
    """The slots: the index, what is wrong, the disk, the trash."""
    wide = width >= _WIDER
    trash: list[Part] = [_key("t", False), (" trash ", "muted"), human_size(live.host.trash)] if live.loaded else []
    slots = (_index_slot(live), _problems_slot(live, wide), _disk_slot(live, wide), trash)
    parts: list[Part] = []
    for slot, column in zip(slots, (1, 22, 55, 87) if wide else (1, 20, 41, 67), strict=True):
        parts += [" " * max(column - cell_len(_text(parts)), 0), *slot]
    return parts


def _key(letter: str, bright: bool) -> Part:
    return (letter, "key" if bright else "muted")


def _index_slot(live: LiveCache) -> list[Part]:
    if not live.loaded:
        return [_key("v", False), " ", ("? reading", "muted")]
    condition = live.health.condition
    if wrong := _WRONG[condition][0] if condition in _WRONG else "entries lost" if live.alarm else "":
        return [_key("v", True), " ", (f" ✖ {wrong} ", "critical")]
    said = "in step, polls" if live.health.polling else "index in step"
    if live.host.asked is not None:
        said = f"asked {age_of(live.host.asked)} ago"
    sign: Cell = (UNKNOWN, "warn") if live.host.unanswered else (GOOD, "good")
    return [_key("v", False), " ", sign, f" {said}"]


def _problems_slot(live: LiveCache, wide: bool) -> list[Part]:
    counts = live.severities
    parts: list[Part] = []
    room = 32 if wide else 19
    for severity, (sign, role) in SEVERITIES.items():
        if count := counts.get(severity, 0):
            many = "99+" if count > 99 else str(count)
            text = f"{sign} {many} {severity if wide else _SHORT.get(severity, severity)}"
            if len(_text(parts)) + len(text) >= room:
                # What is milder does not stand for it.
                break
            parts += [" ", (text, role)]
    if not parts:
        # What is wrong with the index is found a moment after it is seen to be broken.
        well = live.complete and live.health.sound
        parts = [" ", (GOOD, "good"), " no problems"] if well else [" ", ("? looking", "muted")]
    return [_key("p", bool(counts)), *parts]


_SHORT = {"critical": "crit", "medium": "med", "warning": "warn"}


def _disk_slot(live: LiveCache, wide: bool) -> list[Part]:
    if live.host.disk is None:
        return []
    total, free = live.host.disk
    share, left = 1 - free / total if total else 0.0, f" {human_size(free)} free"
    shown = share if not free else min(share, 0.99)
    # The gauge gives way to what the slot has to say.
    cells = min(10, 31 - len(f"b disk  {shown:.0%}{left}")) if wide else min(4, 25 - len(f"b disk  {shown:.0%}{left}"))
    full = cells if not free else min(round(share * cells), cells - 1)
    role: Role = "warn" if share >= _NEARLY_FULL else "gauge"
    gauge: list[Part] = [("━" * full, role), ("─" * (cells - full), "faint")]
    percent: Part = (f" {shown:.0%}", "warn" if share >= _NEARLY_FULL else "plain")
    return [_key("b", share >= _NEARLY_FULL), (" disk ", "muted"), *gauge, percent, left]


def condition_text(health: Health) -> str:
    """What is wrong with index.json or the directory; empty where it is sound."""
    if health.sound:
        return ""
    message = f": {health.message}" if health.message and health.condition is not Condition.MISSING else ""
    return f"{CONDITIONS[health.condition]}{_WRONG[health.condition][1]}{message}"


def trouble_lines(
    health: Health, alarm: str, assessment: Assessment | None, width: int, *, may_mend: bool = True
) -> list[list[Part]]:
    """What is wrong, what to do, as the ``assessment`` says, and the key that does it, if it may: a line each; none
    where all is well. ``alarm`` is what is wrong with an index that the daemon would load."""
    what, colon, why = clean(condition_text(health) or alarm).partition(": ")
    if not what:
        return []
    act, verdict, room = assessment.headline if assessment is not None else "", health.verdict, max(width - 2, 10)
    if verdict is not None and (not verdict.sound or health.condition is Condition.MISSING):
        short = verdict.consequence.partition(":")[0].removeprefix("the daemon ")
        longer = f"{act}: it {short}" if assessment is not None and assessment.case == "stopped" else act
        act = (longer if cell_len(longer) <= room else act) or f"started now, kratad {short}"
    keys: list[tuple[str, str]] = []
    if health.condition is Condition.CORRUPT:
        keys = [("m", "mends it"), ("v", "shows where it breaks")]
    elif health.sound or health.condition is Condition.MISSING:
        keys = [("m", "mends it")]
    elif health.condition in (Condition.GONE, Condition.UNREADABLE):
        act = "See that it is mounted; it is shown again by itself once it is back"
    keys = [one for one in keys if may_mend or one[0] != "m"] + [("p", "shows what is known")]
    # Why comes first, and its path gives way in the middle: the heading of the rows tells how old they are.
    what = what.partition(";")[0] if why else what
    why = cut(why, room - 2 - cell_len(what + colon), middle=True)
    line: list[Part] = [" "]
    for key, does in keys:
        line += [(key, "key"), f" {does}   "]
    return [
        [(f" ✖ {cut(f'{what}{colon}{why}', room - 2)}", "bad")],
        [(f" {cut(capital(act), room)}", "strong")],
        line,
    ]


class TooSmall(Bar):
    """All that is seen of a screen with less room than it needs."""

    lines = (("too small; q quits",),)


Keys = Sequence[tuple[str, str]]
"""Keys as they are printed, and what each does in a word or two."""


def key_parts(keys: Keys, off: Collection[str], width: int) -> list[Part]:
    """Keys with their labels, those of labels that are off receding; the first ones that fit."""
    parts: list[Part] = []
    for key, label in keys:
        width -= cell_len(f" {key} {label} ")
        if width < 0:
            break
        dim: Role | None = "muted" if label in off else None
        parts += [" ", (key, dim or "key"), (f" {label} ", dim or "plain")]
    return parts


def show_keys(screen: SessionScreen[Any], keys: Keys, always: Keys, off: Collection[str] = ()) -> None:
    """The keys of a screen in their line, and at its right end those that are there whatever it shows; of these the
    last ones, where the first two keys need their room."""
    width = screen.app.size.width
    room = width - cell_len(_text(key_parts(keys[:2], off, width)))
    while cell_len(_text(key_parts(always, (), width))) > room:
        always = always[1:]
    right = key_parts(always, (), width)
    for bar in lines_of(screen, KeyBar):
        bar.show(key_parts(keys, off, width - cell_len(_text(right))), right=right)


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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A password goes into no clipboard."""
        return not (self.password and action in ("copy", "cut"))


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
            self.take(event)

    def take(self, event: events.Key) -> bool:
        """Have a key, also one that was sent to another widget before this was open; gives whether it was for this."""
        if self.open and event.key in ("enter", "escape"):
            self._ended(event.key == "enter")
        elif self.open and event.is_printable and event.character:
            self.insert_text_at_cursor(event.character)
        else:
            return False
        event.stop()
        event.prevent_default()
        return True

    def on_blur(self) -> None:
        # It may have been asked anew by now.
        if self.open and self.app.app_focus and self.screen.focused is not self:
            self._ended(True)


class Choice(Widget, can_focus=True):
    """The chosen word stands in brackets."""

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

    @property
    def value(self) -> str:
        return self.words[self._chosen]

    @value.setter
    def value(self, word: str) -> None:
        if word != self.value:
            self._chosen = self.words.index(word)
            self.refresh()
            self.post_message(self.Changed(self))

    def render_line(self, y: int) -> Strip:
        styles, parts = palette(self.app), list[Segment]()
        ground = styles["cursor" if self.has_focus else "strip"]
        for word in self.words:
            chosen = word == self.value
            role: Role = "strong" if chosen else "plain"
            parts.append(Segment(f"[{word}] " if chosen else f" {word}  ", ground + styles[role]))
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
