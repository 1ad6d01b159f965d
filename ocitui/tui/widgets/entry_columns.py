"""Columns of the entry table: what each shows, sorts by, and how wide it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size

from ocitui.text import age_of, clean, human_size, short_digest

from ..terminal import Role

if TYPE_CHECKING:
    from ocitui.doctor import Entries, EntryState, JudgedEntry

SortValue = str | float
SortValueAt = Callable[[int], SortValue]
Cell = tuple[str, Role]
GUTTER = 3  # cursor glyph, mark glyph, a space
NAME_LEAST, _TAG_LEAST = 20, 12
_HEAD_LEAST = 3  # cells of a text's beginning that stay when its middle is cut


# The signs of every screen; a terminal that has ASCII only gets others by its filter.
CURSOR, MARK, ASCENDING, DESCENDING, GOOD, BAD, UNKNOWN = "▸●▴▾✓✗?"
SEVERITIES: dict[str, Cell] = {
    "critical": ("✖", "bad"), "high": (BAD, "bad"), "medium": ("!", "warn"), "warning": ("!", "warn"),
    "low": ("·", "muted"), "info": ("i", "muted"),
}  # fmt: skip
"""The sign of each severity, and what it is drawn for."""


class TableColumn(NamedTuple):
    """One column. ``sort_value`` gives what the entry at a position sorts by, which may ``change`` while the index
    stays the same. It is there where it ``leaves`` so many cells to the name."""

    name: str
    label: str
    width: int
    sort_value: Callable[[Entries], SortValueAt]
    leaves: int = NAME_LEAST
    right: bool = False
    changes: bool = False


def _name_order(entries: Entries) -> SortValueAt:
    name, references = entries.name, entries.references
    return lambda position: f"{name(position).lower()}\0{references[position] or ''}"


def _size_order(entries: Entries) -> SortValueAt:
    size = entries.size
    return lambda position: -1 if (found := size(position)) is None else found


def _age_order(entries: Entries) -> SortValueAt:
    modified = entries.modified
    return lambda position: -inf if (found := modified(position)) is None else -found


def _checked_order(entries: Entries) -> SortValueAt:
    """What was read the longest ago comes first, and before it what never was."""
    return lambda position: entries.state(position).checked or 0


def _state_order(entries: Entries) -> SortValueAt:
    """Broken entries come first, then those not looked at yet."""

    def value(position: int) -> str:
        state = entries.state(position)
        if state.severity is not None:
            return f"0{9 - state.severity.rank}{state.word}"
        return "1" if state.unknown else "2"

    return value


COLUMNS = (
    TableColumn("name", "NAME", 0, _name_order),
    TableColumn("tag", "TAG", 8, lambda entries: lambda at: entries.references[at] or "", _TAG_LEAST),
    TableColumn("digest", "DIGEST", 12, lambda entries: entries.digests.__getitem__, 46),
    TableColumn("platform", "PLATFORM", 14, lambda entries: entries.platform, 46),
    TableColumn("format", "FMT", 3, lambda entries: lambda at: entries.formats[at] or "", 24),
    TableColumn("size", "SIZE", 5, _size_order, 16, right=True, changes=True),
    TableColumn("age", "AGE", 4, _age_order, 20, right=True, changes=True),
    TableColumn("used", "USED BY", 8, lambda entries: entries.used, 20, changes=True),
    TableColumn("resolves", "RESOLVES", 11, lambda entries: entries.resolves, 32),
    TableColumn("checked", "CHECKED", 9, _checked_order, 40, right=True, changes=True),
    TableColumn("state", "STATE", 11, _state_order, 0, changes=True),
)
"""In the order they stand."""


BY_NAME = {column.name: column for column in COLUMNS}
LARGEST_FIRST = ("size", "age")
"""What is sorted downwards first; what is not known comes last then."""
_STAY = ("size", "tag", "used", "age", "format", "resolves", "checked", "digest", "platform")
_GROW = (("tag", 11, 20), ("format", 8, 36), ("state", 14, 34), ("tag", 16, 36), ("state", 22, 44))


@lru_cache(maxsize=64)
def widths_for(width: int, used: bool = False) -> dict[str, int]:
    """The columns that fit a table this wide, and how wide each is; that of devices only where any is ``used``."""
    widths = {name: BY_NAME[name].width for name in ("name", "state")}
    for name in _STAY:
        wanted = widths | {name: BY_NAME[name].width}
        if _left(wanted, width) >= BY_NAME[name].leaves and (used or name != "used"):
            widths = wanted
    for name, most, leaves in _GROW:
        if name in widths:
            widths[name] += max(0, min(_left(widths, width) - leaves, most - widths[name]))
    widths["name"] = max(8, _left(widths, width))
    return {column.name: widths[column.name] for column in COLUMNS if column.name in widths}


def column_at(x: int, width: int, used: bool = False) -> str | None:
    """The column under a cell of a table this wide, None at the cursor and marks."""
    right = GUTTER
    for name, room in widths_for(width, used).items():
        if right <= x <= right + room:
            return name
        right += room + 1
    return None


def _left(widths: dict[str, int], width: int) -> int:
    """What the others leave to the name column."""
    return width - GUTTER - sum(widths.values()) - (len(widths) - 1)


def cut(text: str, width: int, ellipsis: str = "…", *, middle: bool = False) -> str:
    """The text in at most ``width`` cells; where it is longer an ellipsis stands for its end, or for its ``middle``: up
    to a slash where one leaves its beginning in sight (``registry.c…/team-beta/web``), else for what is in between."""
    if (len(text) if text.isascii() else cell_len(text)) <= width:
        return text
    room, end = width - len(ellipsis), ""
    if room < 1:
        return ellipsis[: max(width, 0)]
    if middle:
        ends = (text[at:] for at, sign in enumerate(text) if sign == "/")
        end = next((one for one in ends if cell_len(one) <= room - _HEAD_LEAST), "")
        end = end or text[len(text) - (room + 1) // 2 :]
        while cell_len(end) > max(room - _HEAD_LEAST, 0):
            end = end[1:]
    return set_cell_size(text, room - cell_len(end)) + ellipsis + end


def fit(text: str, width: int, ellipsis: str = "…", right: bool = False, *, middle: bool = False) -> str:
    """The text in exactly ``width`` cells, cut where it is longer."""
    text = cut(text, width, ellipsis, middle=middle)
    padding = " " * (width - (len(text) if text.isascii() else cell_len(text)))
    return padding + text if right else text + padding


def row_cells(entry: JudgedEntry, width: int, used: bool = False) -> list[Cell]:
    """The cells of one row of a table this wide, cleaned and fitted."""
    widths = widths_for(width, used)
    drawn = ((*_DRAWN[name](entry, room, widths), (" ", "plain")) for name, room in widths.items())
    return [*chain.from_iterable(drawn)]


def name_cells(name: str, room: int, last: Role) -> Iterator[Cell]:
    """A name in exactly ``room`` cells: the registry recedes, the ``last`` part does not."""
    parent, slash, own = fit(clean(name), room, middle=True).rpartition("/")
    yield f"{parent}{slash}", "muted"
    yield own, last


def _draw_name(entry: JudgedEntry, room: int, widths: Mapping[str, int]) -> Iterable[Cell]:
    """With the tag, where that has no column of its own."""
    name = entry.name if "tag" in widths or not entry.reference else f"{entry.name}:{entry.reference}"
    return name_cells(name, room, "bad" if _sign(entry.state)[1] == "bad" else "plain")


def _draw_size(entry: JudgedEntry, room: int, _: object) -> Iterator[Cell]:
    """The weight follows the bytes."""
    text = human_size(entry.packed_size)
    yield fit(text, room, right=True), "strong" if text[-1] in "GT" else "plain" if text[-1] == "M" else "muted"


_SHORT_FORMATS = {"squashfs": "sq", "erofs": "er"}
_RESOLVES = {"wins": ("▲", "wins"), "overruled": ("▽", "overruled"), "never": ("–", "never hit")}


def _draw_state(entry: JudgedEntry, room: int, widths: Mapping[str, int]) -> Iterator[Cell]:
    """What is worst about it; that it is well, and what that rests on."""
    state, (sign, role) = entry.state, _sign(entry.state)
    word = "not looked" if state.unknown else state.word
    if state.ok and "resolves" not in widths and entry.resolves != "wins":
        (sign, word), role = _RESOLVES[entry.resolves], "muted"
    elif state.ok and "checked" not in widths:
        word = _deep(entry) or word
    yield sign, role
    yield fit(f" {clean(word)}", room - 1), "bad" if role == "bad" else "warn" if role == "warn" else "muted"


def ages(entry: JudgedEntry) -> tuple[str, str]:
    """What is drawn of it that goes on with the clock."""
    return _deep(entry), age_of(entry.modified)


def _deep(entry: JudgedEntry) -> str:
    """How long ago all of it was read; empty where it never was."""
    return "" if entry.state.checked is None else f"deep {age_of(entry.state.checked)}"


def _sign(state: EntryState) -> Cell:
    if state.severity is not None:
        return SEVERITIES[state.severity]
    return (UNKNOWN, "muted") if state.unknown else (GOOD, "good")


_DRAWN: dict[str, Callable[[JudgedEntry, int, Mapping[str, int]], Iterable[Cell]]] = {
    "name": _draw_name,
    "tag": lambda entry, room, _: [(fit(clean(entry.reference), room, middle=True), "plain")],
    "digest": lambda entry, room, _: [(fit(clean(short_digest(entry.digest)), room), "muted")],
    "platform": lambda entry, room, _: [(fit(clean(entry.platform), room), "muted")],
    "format": lambda entry, room, _: [(format_text(entry.format, room), "plain")],
    "size": _draw_size,
    "age": lambda entry, room, _: [(fit(age_of(entry.modified), room, "", right=True), "muted")],
    "used": lambda entry, room, _: [(fit(clean(devices_text(entry.used)), room), "zone")],
    "resolves": lambda entry, room, _: [(fit(" ".join(_RESOLVES[entry.resolves]), room), "muted")],
    "checked": lambda entry, room, _: [(fit(_deep(entry) or entry.state.depth or "-", room, right=True), "muted")],
    "state": _draw_state,
}


def format_text(name: str, room: int) -> str:
    """A format in exactly ``room`` cells, in full where it fits."""
    return fit(clean(name if room >= 8 else _SHORT_FORMATS.get(name, name)), room)


def devices_text(used: str) -> str:
    """The first loop device, and how many there are besides."""
    first, *others = used.split(", ")
    return f"{first} +{len(others)}" if others else first


def header_cells(width: int, sorted_by: str | None, reverse: bool, used: bool = False, stale: str = "") -> list[Cell]:
    """The header line of a table this wide, an arrow at the column the rows are sorted by; where the rows are
    ``stale``, of when they are, in the room of the names."""
    cells: list[Cell] = [(" " * GUTTER, "muted")]
    for name, room in widths_for(width, used).items():
        column, here = BY_NAME[name], name == sorted_by
        arrow = f" {DESCENDING if reverse else ASCENDING}" if here else ""
        text = column.label + arrow
        if len(text) > room:
            text = column.label[: max(room - 1, 0)] + arrow.strip()
        role: Role = "key" if here else "muted"
        if name == "name" and stale:
            label = f"{text} " if len(text) + len(stale) < room else ""
            cells.append((label, role))
            room, text, role = room - len(label), stale, "warn"
        cells += [(fit(text, room, "", column.right), role), (" ", "muted")]
    return cells
