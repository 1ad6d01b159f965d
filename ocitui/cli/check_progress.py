"""How far a check or a repair is, in one line."""

from __future__ import annotations

from ocitui.doctor.check.pacing import Progress
from ocitui.doctor.repair.apply import RepairProgress
from ocitui.text import human_size

from .progress_line import human_span
from .prose import shortened

_GAP = "  "


def progress_text(now: Progress, _: int) -> str:
    """As ``deep  1.2G of 3.4G  450M/s  5s left``."""
    return _GAP.join(part for part in (now.phase, _done(now), _rate(now), _left(now)) if part)


def _done(now: Progress) -> str:
    entries = f"{now.entries} of {now.entries_total}" if now.entries_total else ""
    return f"{entries}{_GAP}{human_size(now.bytes)} of {human_size(now.bytes_total)}" if now.bytes_total else entries


def _rate(now: Progress) -> str:
    if not now.rate:
        return ""
    return f"{human_size(round(now.rate))}/s" if now.bytes_total else f"{now.rate:.0f}/s"


def _left(now: Progress) -> str:
    return "" if now.seconds_left is None else f"{human_span(now.seconds_left)} left"


def repair_text(now: RepairProgress, _: int) -> str:
    """As ``fetching cf8cb0583e76….squashfs  12M of 40M``."""
    done = f"{human_size(now.done)} of {human_size(now.total)}" if now.total else human_size(now.done)
    return shortened(now.doing) + (f"{_GAP}{done}" if now.done or now.total else "")
