"""What the bars say, as plain data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ocitui.cache import Condition, Health
from ocitui.cache.daemon import DaemonState
from ocitui.text import clean, human_size, timestamp

from .actions import Action
from .widgets.bars import Part


def header_parts(
    host: str,
    directory: Path,
    read_only: str,
    total: int,
    size: int,
    problems: int,
    health: Health,
    daemon: DaemonState,
    width: int,
) -> list[Part]:
    """Host and directory first; the directory gives way where the line is narrow."""
    access = "ro" if read_only else "rw"
    entries = f"{total} {'entry' if total == 1 else 'entries'} {human_size(size)}"
    state = f"! {problems} {'problem' if problems == 1 else 'problems'}" if problems else "ok"
    if not health.sound:
        state = f"! {health.condition}"
    daemon_state = daemon_text(daemon, short=width < 110)
    rest = f"  {access}  {entries}  {state}  {daemon_state} "
    path = clean(str(directory))
    room = width - len(host) - len(rest) - 2
    if len(path) > room > 3:
        path = f"..{path[-(room - 2) :]}"
    return [f" {clean(host)} ", path, rest]


def daemon_text(daemon: DaemonState, *, short: bool = False) -> str:
    """Whether kratad runs, and since when."""
    if not daemon.running:
        return "kratad down" if short else "kratad is not running"
    if short or daemon.since is None:
        return "kratad up"
    return f"kratad up since {timestamp(daemon.since)}"


def trouble_parts(health: Health, daemon: DaemonState) -> list[Part]:
    """What is wrong, what the daemon would do, what not to do; empty where all is well."""
    if health.sound:
        return []
    what = {
        Condition.STALE: "index.json is torn: it keeps changing and does not read; these are the last good rows",
        Condition.CORRUPT: "index.json is corrupt",
        Condition.MISSING: "index.json is gone; these are the last good rows",
        Condition.GONE: "the directory is gone; these are the last good rows",
        Condition.UNREADABLE: "the cache cannot be read",
    }[health.condition]
    message = f": {clean(health.message)}" if health.message and health.condition is not Condition.MISSING else ""
    parts: list[Part] = [f" ! {what}{message}."]
    if health.verdict is not None and not health.verdict.sound:
        parts.append(f" If it started now, {health.verdict.consequence}.")
    if daemon.running and health.condition in (Condition.CORRUPT, Condition.MISSING):
        parts.append(" Do not restart kratad: the good index may be in its memory.")
    if health.condition is Condition.CORRUPT:
        parts.append(" v shows where.")
    return parts


def status_parts(
    row: int, shown: int, total: int, filter_text: str, marked: int, hidden_marks: int, message: str
) -> list[Part]:
    """Where the cursor is, what the filter shows, what is marked, and what was said last."""
    parts: list[Part] = [f" {row}/{shown}"]
    if filter_text:
        parts.append((f"  filter {clean(filter_text)!r}: {shown}/{total}", "bold"))
    if marked:
        hidden = f" ({hidden_marks} hidden)" if hidden_marks else ""
        parts.append((f"  {marked} marked{hidden}", "bold"))
    if message:
        parts.append(f"  {clean(message)}")
    return parts


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
