"""Columns of the entry table: what each shows, sorts by, and how wide it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size

from ocitui.text import clean, human_age, human_size, short_digest

if TYPE_CHECKING:
    from ocitui.doctor.entries import Entries
    from ocitui.doctor.findings import EntryState

SortValue = str | float
SortValueAt = Callable[[int], SortValue]
GUTTER = 3  # cursor glyph, mark glyph, a space
NAME_WANTED = 24  # columns are dropped until the name has this much
NAME_PLENTY = 40  # beyond this, other columns grow first
NAME_LEAST = 8
_HEAD_LEAST = 3  # cells of a text's beginning that stay when its middle is cut


# The signs of every screen; a terminal that has ASCII only gets others by its filter.
CURSOR, MARK, ASCENDING, DESCENDING, GOOD, BAD, UNKNOWN = "▸●▴▾✓!?"


class RowValues(NamedTuple):
    """What a row shows of its entry, but its age; ``size`` is the packed file's."""

    name: str
    reference: str
    digest: str
    format: str
    platform: str
    size: int | None
    state: EntryState


def row_values(entries: Entries, position: int) -> RowValues:
    return RowValues(
        entries.name(position),
        entries.references[position] or "",
        entries.digests[position],
        entries.formats[position] or "",
        entries.platform(position),
        entries.size(position),
        entries.state(position),
    )


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column. ``sort_value`` gives what the entry at a position sorts by, which may ``change`` while the index
    stays the same; ``roomy`` is the width it grows to on a wide screen."""

    name: str
    label: str
    width: int
    text: Callable[[RowValues], str]
    sort_value: Callable[[Entries], SortValueAt]
    roomy: int = 0
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


def _state_order(entries: Entries) -> SortValueAt:
    """Broken entries come first, then those not looked at yet."""

    def value(position: int) -> str:
        state = entries.state(position)
        if state.ok:
            return "2"
        return "1" if state.unknown else f"0{state.word}"

    return value


def _text_order(column: Callable[[Entries], Sequence[str | None]]) -> Callable[[Entries], SortValueAt]:
    def order(entries: Entries) -> SortValueAt:
        values = column(entries)
        return lambda position: values[position] or ""

    return order


COLUMNS = (
    TableColumn("name", "Name", 0, lambda row: row.name, _name_order),
    TableColumn("tag", "Tag", 8, lambda row: row.reference, _text_order(lambda entries: entries.references), roomy=16),
    TableColumn("format", "Format", 8, lambda row: row.format, _text_order(lambda entries: entries.formats)),
    TableColumn(
        "digest", "Digest", 12, lambda row: short_digest(row.digest), _text_order(lambda entries: entries.digests)
    ),
    TableColumn("platform", "Platform", 14, lambda row: row.platform, lambda entries: entries.platform),
    TableColumn("size", "Size", 5, lambda row: human_size(row.size), _size_order, right=True, changes=True),
    TableColumn("age", "Age", 4, lambda _: "", _age_order, right=True, changes=True),
    TableColumn("state", "State", 13, lambda row: row.state.word, _state_order, roomy=26, changes=True),
)


BY_NAME = {column.name: column for column in COLUMNS}
LARGEST_FIRST = ("size", "age")
"""What is sorted downwards first; what is not known comes last then."""
DROP_ORDER = ("platform", "age", "tag", "size", "format")
_GROW_ORDER = ("state", "tag")


@lru_cache(maxsize=64)
def widths_for(width: int) -> dict[str, int]:
    """The columns that fit a table this wide, and how wide each is drawn."""
    widths = {column.name: column.width for column in COLUMNS}
    dropped = iter(DROP_ORDER)
    while _left(widths, width) < NAME_WANTED and (name := next(dropped, None)):
        del widths[name]
    for name in _GROW_ORDER:
        if name in widths:
            spare = max(0, _left(widths, width) - NAME_PLENTY)
            widths[name] += min(spare, BY_NAME[name].roomy - widths[name])
    widths["name"] = max(NAME_LEAST, _left(widths, width))
    return widths


def column_at(x: int, width: int) -> str | None:
    """The column under a cell of a table this wide, None at the cursor and marks."""
    right = GUTTER
    for name, room in widths_for(width).items():
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


class RowText(NamedTuple):
    """What a row shows but its age, which is computed when it is drawn; ``tone`` is how its state is coloured."""

    before_age: str
    state: str
    tone: str


@lru_cache(maxsize=1024)
def row_text(row: RowValues, width: int) -> RowText:
    """The cells of one row of a table this wide, cleaned and fitted."""
    widths, cells = widths_for(width), []
    for name, room in widths.items():
        if name == "name":
            cells.append(fit(clean(_name_text(row, widths)), room, middle=True))
        elif name not in ("age", "state"):
            column = BY_NAME[name]
            cells.append(fit(clean(column.text(row)), room, right=column.right, middle=name == "tag"))
    tone, sign = _tone(row.state)
    state = fit(f"{sign} {clean(row.state.word)}", widths["state"])
    return RowText(" ".join(cells), state, tone)


def _name_text(row: RowValues, widths: dict[str, int]) -> str:
    """The name, with its tag where that has no column of its own."""
    return row.name if "tag" in widths or not row.reference else f"{row.name}:{row.reference}"


def _tone(state: EntryState) -> tuple[str, str]:
    if state.unknown:
        return "unknown", UNKNOWN
    return ("", GOOD) if state.ok else ("bad", BAD)


def age_text(modified: int | None, now: float, width: int) -> str:
    """The age cell of a table this wide and the space after it; empty where the column was dropped. ``modified`` is in
    nanoseconds."""
    room = widths_for(width).get("age")
    if room is None:
        return ""
    age = None if modified is None else max(0.0, now - modified / 1e9)
    return fit(human_age(age), room, "", right=True) + " "


def header_text(width: int, sorted_by: str | None, reverse: bool) -> str:
    """The header line of a table this wide, an arrow at the column the rows are sorted by."""
    labels = []
    for name, room in widths_for(width).items():
        column = BY_NAME[name]
        arrow = (DESCENDING if reverse else ASCENDING) if name == sorted_by else ""
        labels.append(fit(column.label + arrow, room, "", column.right))
    return " " * GUTTER + " ".join(labels)
