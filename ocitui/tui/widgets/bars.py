"""The bars: header, health, trouble, status, keys. Each repaints only when what it says changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from textual import events
from textual.strip import Strip
from textual.widget import Widget

from ocitui.cache import Condition, Health
from ocitui.host import DaemonState
from ocitui.text import age_of, clean, counted, human_size
from ocitui.words import capital

from ..actions import key_named
from ..terminal import HOST_COLOURS, Role, draw_cells, palette
from .lines import GOOD, SEVERITIES, Cell, cut

if TYPE_CHECKING:
    from ocitui.doctor import Assessment

    from ..live import LiveCache
    from ..session import Session, SessionScreen

Part = Cell | str
"""A text, and what it is drawn for where that is not plain."""
RULE, _LONGEST_RULE = "─", 1000
_WIDER, _NEARLY_FULL = 100, 0.9
_LAST = "these are the last good rows"
_WRONG = {
    Condition.STALE: ("index torn", f"index.json is torn: it keeps changing and does not read; {_LAST}"),
    Condition.CORRUPT: ("index broken", "index.json is corrupt"),
    Condition.MISSING: ("index gone", f"index.json is gone; {_LAST}"),
    Condition.GONE: ("cache gone", f"the directory is gone; {_LAST}"),
    Condition.UNREADABLE: ("not readable", "the cache cannot be read"),
}
"""What is wrong with index.json or the directory, in two words and in a sentence."""


class Bar(Widget):
    """A line of text, or as many as it has; what stands ``right`` stands at the right end, as far as there is room."""

    DEFAULT_CSS = "Bar { height: 1; width: 1fr; }"
    surface: ClassVar[Role] = "plain"
    ellipsis = "…"
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
        cells, rest = list[Cell](), cell_len(_text(line).rstrip())
        # What follows where one text ends at the edge is cut too.
        room -= len(mark := self.ellipsis if rest > room else "")
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

    ellipsis = ""

    def part(self, *parts: Part, below: Sequence[Sequence[Part]] = (), end: str = "") -> None:
        """Begin with these, and end with a text that recedes."""
        right: list[Part] = [(end, "muted"), (RULE, "faint")] if end else []
        self.show([(RULE * 2, "faint"), *parts, (RULE * _LONGEST_RULE, "faint")], *below, right=right)


def draw_frame(screen: SessionScreen[Any], subject: str = "") -> None:
    """The two lines on top of every screen."""
    session, width = screen.session, screen.app.size.width
    for bar in screen.query(HeaderBar):
        left, right = header_parts(session, subject, width)
        bar.show(left, right=right)
    for health in screen.query(HealthBar):
        health.show(health_parts(session.live, width))


def header_parts(session: Session, subject: str, width: int) -> tuple[list[Part], list[Part]]:
    """Host, directory and screen, and at the right end what the cache holds and the daemon; the directory gives way, in
    its middle, where the line is narrow."""
    live = session.live
    held: list[Part] = ["reading"]
    if live.loaded:
        held = [counted(live.total, "entry"), (f" {human_size(live.size)}", "muted")]
    right = [" ", *held, "   ", *daemon_parts(live.host.daemon), " "]
    mode: list[Part] = [("ro", "warn") if live.read_only else ("rw", "good")] if live.loaded else []
    end = f" \u203a {subject}" if subject else ""
    host, path = clean(session.host), clean(str(session.directory))
    room = width - cell_len(f" {host}  {end}    ") - cell_len(_text(right)) - 2
    if cell_len(path) > room:
        path = cut(path, room, middle=True) if room > 4 else ""
    parent, slash, last = path.rpartition("/")
    chip = HOST_COLOURS[session.settings.host_colour]
    left: list[Part] = [(f" {host} ", chip), (f" {parent}{slash}", "muted"), last, (end, "strong"), "  ", *mode]
    return left, right


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
    return [_key("v", False), " ", (GOOD, "good"), f" {said}"]


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
    return f"{_WRONG[health.condition][1]}{message}"


def trouble_lines(health: Health, alarm: str, assessment: Assessment | None, width: int) -> list[list[Part]]:
    """What is wrong, what to do, as the ``assessment`` says, and the key that does it: a line each; none where all is
    well. ``alarm`` is what is wrong with an index that the daemon would load."""
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
    keys.append(("p", "shows what is known"))
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
        if cell_len(f"{_text(parts)} {key} {label} ") > width:
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
    for bar in screen.query(KeyBar):
        bar.show(key_parts(keys, off, width - cell_len(_text(right))), right=right)
