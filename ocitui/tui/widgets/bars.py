"""The one-line bars: header, trouble, status, keys. Each repaints only when what it says changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from ocitui.cache import Condition, Health
from ocitui.host.daemon import DaemonState
from ocitui.text import clean, counted, human_size, timestamp
from ocitui.words.lines import capital

from ..actions import Action
from .entry_columns import cut

if TYPE_CHECKING:
    from ocitui.doctor.assessment import Assessment

    from ..live import LiveCache


Part = tuple[str, str] | str
_TROUBLE_LINES = 3


class Bar(Widget):
    """One line of text; ``parts`` are texts, some with a style."""

    DEFAULT_CSS = """
    Bar {
        height: 1;
        width: 1fr;
    }
    """
    content = Content("")
    ellipsis = True

    def show(self, parts: Sequence[Part]) -> None:
        """Show these; nothing is written when they are what is shown already, styles included."""
        content = Content.assemble(*parts)
        if not content.is_same(self.content):
            self.content = content
            self.changed()

    def changed(self) -> None:
        self.refresh()

    def render(self) -> Content:
        return self.content.truncate(max(self.size.width, 1), ellipsis=self.ellipsis)


class HeaderBar(Bar):
    """Host, directory, how the cache is, and the daemon."""

    DEFAULT_CSS = """
    HeaderBar {
        background: $primary;
        color: $text;
        text-style: bold;
        &:ansi { background: ansi_blue; color: ansi_bright_white; }
        &:nocolor { text-style: bold reverse; }
    }
    """


class TroubleBar(Bar):
    """What is wrong with index.json; not there while nothing is."""

    DEFAULT_CSS = """
    TroubleBar {
        height: auto;
        background: $error;
        color: $text;
        text-style: bold;
        display: none;
        &.-shown { display: block; }
        &:ansi { background: ansi_red; color: ansi_bright_white; }
        &:nocolor { text-style: bold reverse; }
    }
    """

    def changed(self) -> None:
        # It is as high as its text.
        self.refresh(layout=True)
        self.set_class(bool(self.content.plain), "-shown")

    def render(self) -> Content:
        return self.content


class StatusBar(Bar):
    """What was done, what is marked, what the filter shows."""

    DEFAULT_CSS = "StatusBar { background: $panel; color: $foreground; }"


class KeyBar(Bar):
    """The keys that apply now."""

    DEFAULT_CSS = "KeyBar { background: $background; color: $text-muted; }"


class TabBar(Bar):
    """The names of the pane's tabs."""

    ellipsis = False

    DEFAULT_CSS = "TabBar { background: $panel; color: $text-muted; }"


def header_parts(host: str, directory: Path, live: LiveCache, width: int) -> list[Part]:
    """Host and directory first; the directory gives way where the line is narrow."""
    daemon = daemon_text(live.daemon, short=width < _ROOM_FOR_MORE)
    if not live.loaded:
        parts = ["reading", daemon]
    else:
        entries = f"{counted(live.total, 'entry')} {human_size(live.size)}"
        parts = ["ro" if live.read_only else "rw", entries, _state(live), daemon]
    return title_parts(host, directory, "  ".join(parts), width)


def _state(live: LiveCache) -> str:
    if not live.health.sound:
        return f"! {live.health.condition}"
    state = f"! {counted(live.problems, 'problem')}" if live.problems else "ok"
    if not live.complete:
        state = state if live.problems else "looking"
    return f"{state}, polling" if live.health.polling else state


def title_parts(host: str, directory: Path, rest: str, width: int) -> list[Part]:
    """Host, directory and the rest; the directory gives way, in its middle, where the line is narrow."""
    host, path = clean(host), clean(str(directory))
    room = width - cell_len(host) - cell_len(rest) - 5
    if cell_len(path) > room:
        path = cut(path, room, middle=True) if room > 4 else ""
    return [f" {host} ", f"{path} " if path else "", f" {rest} "]


_ROOM_FOR_MORE = 110


def daemon_text(daemon: DaemonState, *, short: bool = False) -> str:
    """Whether kratad runs, and since when."""
    if not daemon.running:
        return "kratad down" if short else "kratad is not running"
    if short or daemon.since is None:
        return "kratad up"
    return f"kratad up since {timestamp(daemon.since)}"


_CONDITIONS = {
    Condition.STALE: "index.json is torn: it keeps changing and does not read; these are the last good rows",
    Condition.CORRUPT: "index.json is corrupt",
    Condition.MISSING: "index.json is gone; these are the last good rows",
    Condition.GONE: "the directory is gone; these are the last good rows",
    Condition.UNREADABLE: "the cache cannot be read",
}


def condition_text(health: Health) -> str:
    """What is wrong with index.json or the directory; empty where it is sound."""
    if health.sound:
        return ""
    message = f": {health.message}" if health.message and health.condition is not Condition.MISSING else ""
    return f"{_CONDITIONS[health.condition]}{message}"


def trouble_parts(health: Health, alarm: str, assessment: Assessment | None, width: int) -> list[Part]:
    """What is wrong, in a line of this width, then which keys help, what to do, what the daemon would do; empty where
    all is well. What is said last is cut first.

    ``alarm`` is what is wrong with an index that the daemon would load. What to do is what the ``assessment`` says.
    """
    what = condition_text(health) or alarm
    if not what:
        return []
    parts: list[str] = []
    if health.condition is Condition.CORRUPT:
        parts.append("m mends it, v shows where.")
    elif health.sound or health.condition is Condition.MISSING:
        parts.append("m mends it, p shows what is known.")
    elif health.condition in (Condition.GONE, Condition.UNREADABLE):
        parts.append("See that it is mounted; it is shown again by itself once it is back. p shows what is known.")
    if assessment is not None and assessment.headline:
        parts.append(f"{capital(assessment.headline)}.")
    if health.verdict is not None and (not health.verdict.sound or health.condition is Condition.MISSING):
        parts.append(f"If it started now, {health.verdict.consequence}.")
    room = max(width - 2, 10)
    rest = wrap(" ".join(parts), room, max_lines=_TROUBLE_LINES - 1, placeholder=" …")
    fact = wrap(f"! {clean(what)}.", room, max_lines=_TROUBLE_LINES - len(rest), placeholder=" …")
    return ["\n".join(f" {line}" for line in (*fact, *rest))]


def key_parts(actions: Sequence[Action], off: Collection[str], width: int) -> list[Part]:
    """Keys with their labels, those that are off struck out; the first ones that fit, and always the last two."""
    lengths = [len(action.key_label) + len(action.label) + 3 for action in actions]
    room = width - sum(lengths[-2:])
    parts: list[Part] = []
    for number, (action, length) in enumerate(zip(actions, lengths, strict=True)):
        if number < len(actions) - 2:
            if room < length:
                room = 0
                continue
            room -= length
        label_style = "dim strike" if action.name in off else ""
        parts.extend([(f" {action.key_label}", label_style or "bold"), (f" {action.label} ", label_style)])
    return parts
