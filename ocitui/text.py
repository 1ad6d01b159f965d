"""How text, sizes and times are shown, on screen and on the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from time import time
from typing import NamedTuple

# C0 and C1 controls, surrogates, line and paragraph separators, and what reorders or hides text around it.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_DIGEST = re.compile(r"\b([a-z0-9]+:[0-9a-f]{12})[0-9a-f]{20,116}\b")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([KMGTPE]?)(?:I?B)?", re.ASCII | re.IGNORECASE)
_UNITS = ("K", "M", "G", "T", "P", "E")
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdwy])", re.ASCII | re.IGNORECASE)
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}
_DAY = 86_400
# From how many seconds on a span is told in a unit, and how many that has.
_AGES = (
    *((730 * _DAY, 365 * _DAY, "y"), (63 * _DAY, 30.4 * _DAY, "mo"), (14 * _DAY, 7 * _DAY, "w"), (_DAY, _DAY, "d")),
    *((3_600, 3_600, "h"), (60, 60, "m"), (1, 1, "s")),
)
_ESCAPED, _ESCAPE = re.compile(rb"[^ -\[\]-~]"), re.compile(rb"\\x([0-9a-f]{2})")
_NARROWEST = 8
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """The text with every character replaced that could command a terminal or deceive its reader."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(REPLACEMENT, text)


def printable(name: bytes) -> str:
    """A name out of a layer or a packed file, fit for a message: escaped, and cut where it is very long."""
    shown = repr(name.decode("utf-8", "backslashreplace"))
    return shown if len(shown) <= 300 else f"{shown[:200]}...{shown[-60:]}"


def escaped(name: bytes) -> str:
    """A name or path for programs: bytes outside printable ASCII, and the backslash, as ``\\xNN``."""
    return _ESCAPED.sub(lambda found: b"\\x%02x" % found[0][0], name).decode()


def unescaped(name: bytes) -> bytes:
    """A name that was written so."""
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name)


def human_size(size: int | None) -> str:
    """Bytes in at most five characters, powers of 1024: ``1016K``, ``1.9M``; ``-`` for None."""
    if size is None:
        return "-"
    if size < 1024:
        return f"{size}B"
    value = float(size)
    for unit in _UNITS:
        value /= 1024
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < 1023.5:
            break
    return f"{value:.0f}{unit}"


def parse_size(text: str) -> int | None:
    """The bytes of ``500M``, ``1.5T`` or ``64GiB``, powers of 1024; None for what is no size."""
    match = _SIZE.fullmatch(text)
    return int(float(match[1]) * 1024 ** " KMGTPE".index(match[2].upper() or " ")) if match else None


def parse_span(text: str) -> float | None:
    """The seconds of ``90m``, ``12h``, ``30d`` or ``1.5y``; None for what is no span of time."""
    match = _SPAN.fullmatch(text)
    return float(match[1]) * _SPANS[match[2].lower()] if match else None


def human_age(seconds: float | None) -> str:
    """A span in four cells, as ``45s``, ``3h``, ``12d``, ``5w``, ``14mo``, ``2y``; ``-`` for None."""
    if seconds is None:
        return "-"
    for least, length, unit in _AGES:
        if seconds >= least:
            return f"{int(seconds // length)}{unit}"
    return "0s"


def age_of(at: float | None) -> str:
    """How long ago a time is, in seconds since the epoch; nothing is of the future."""
    return human_age(None if at is None else max(0.0, time() - at))


def timestamp(seconds: float | None) -> str:
    """Seconds since the epoch as ``2026-01-31 12:00:00Z``; ``-`` for None, ``@`` and seconds beyond the year 9999."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"@{seconds:.0f}"


def time_json(seconds: float) -> str:
    """A time since the epoch as programs read it, RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def counted(number: int, what: str, many: str = "") -> str:
    """As ``1 entry`` and ``2 entries``; ``many`` where the plural is neither that nor an ``s`` more."""
    plural = many or (f"{what[:-1]}ies" if what.endswith("y") else f"{what}s")
    return f"{number} {what if number == 1 else plural}"


def first_of(texts: Sequence[str], most: int = 5) -> str:
    """The first few, with commas between, and how many there are besides."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def human_span(seconds: float) -> str:
    """``45s``, ``12m05s``, ``3h20m``; a second that has begun counts."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def short_digest(digest: str) -> str:
    """Twelve digits of a digest, without its algorithm; of what is none, as much."""
    return digest.rpartition(":")[2][:12]


def short_digests(text: str) -> str:
    """The text with every digest cut; for what stands beside the whole digest, or beneath it."""
    return _DIGEST.sub(r"\1…", text)


class Column(NamedTuple):
    """``right`` aligns numbers. A column with a ``rank`` is left out where room is short, the highest rank first;
    before the last are left out, those that ``shrink`` do so."""

    title: str
    right: bool = False
    rank: int = 0
    shrink: bool = False


def fit_columns(columns: Sequence[Column], widths: list[int], width: int | None, gap: int) -> list[int]:
    """Which columns are shown in so many cells, ``gap`` between two; ``widths`` are narrowed in place."""
    shown = list(range(len(columns)))
    if width is None:
        return shown

    def excess() -> int:
        return sum(widths[at] for at in shown) + gap * (len(shown) - 1) - width

    for least in sorted((at for at in shown if columns[at].rank), key=lambda at: -columns[at].rank):
        if excess() <= sum(max(0, widths[at] - 2 * _NARROWEST) for at in shown if columns[at].shrink):
            break
        shown.remove(least)
    # Each has its share of the room, or less where that is enough: none is cut to nothing for a longer one.
    shrinking = sorted((at for at in shown if columns[at].shrink), key=widths.__getitem__)
    room = sum(widths[at] for at in shrinking) - excess()
    for sharers, at in zip(range(len(shrinking), 0, -1), shrinking, strict=True):
        widths[at] = min(widths[at], max(room // sharers, _NARROWEST))
        room -= widths[at]
    for at in reversed(shown):
        widths[at] -= max(0, min(excess(), widths[at] - 1))
    return shown
