"""Rows of the entry table: what each column shows and sorts by; positions of entries, sorted, filtered and marked."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, compress
from math import inf
from operator import and_
from typing import TYPE_CHECKING, NamedTuple

from ocitui.text import age_of, clean, human_size, short_digest

from ..terminal import Role
from .lines import ASCENDING, DESCENDING, GOOD, SEVERITIES, UNKNOWN, Cell, devices_text, fit, format_text, name_cells

if TYPE_CHECKING:
    from ocitui.doctor import Entries, EntryState, JudgedEntry, Moves, Predicate

SortValue = str | float
SortValueAt = Callable[[int], SortValue]
GUTTER = 3  # cursor glyph, mark glyph, a space
NAME_LEAST, _TAG_LEAST = 20, 12
MANY = 500
"""From so many changes on, the order is made anew."""
Positions = Sequence[int]


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


def row_cells(entry: JudgedEntry, width: int, used: bool = False) -> list[Cell]:
    """The cells of one row of a table this wide, cleaned and fitted."""
    widths = widths_for(width, used)
    drawn = ((*_DRAWN[name](entry, room, widths), (" ", "plain")) for name, room in widths.items())
    return [*chain.from_iterable(drawn)]


def _draw_name(entry: JudgedEntry, room: int, widths: Mapping[str, int]) -> Iterable[Cell]:
    """With the tag, where that has no column of its own."""
    name = entry.name if "tag" in widths or not entry.reference else f"{entry.name}:{entry.reference}"
    return name_cells(name, room, "bad" if _sign(entry.state)[1] == "bad" else "plain")


def _draw_size(entry: JudgedEntry, room: int, _: object) -> Iterator[Cell]:
    """The weight follows the bytes."""
    text = human_size(entry.packed_size)
    yield fit(text, room, right=True), "strong" if text[-1] in "GT" else "plain" if text[-1] == "M" else "muted"


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


class EntryRows:
    """All entries of an index, and the view of them that a sort column and a filter give."""

    def __init__(self) -> None:
        self.entries: Entries | None = None
        self.view: Positions = range(0)
        """Those of the rows shown, from the top. It is never changed in place, so that an older one can be kept."""
        self.sort_column: str | None = None
        self.reverse = False
        self.filter_text = ""
        self._test: Predicate | None = None
        # By position: whether it passes the filter (None: all do), and whether it is marked.
        self._passing: bytearray | None = None
        self._marked = bytearray()
        self._order: Positions = range(0)  # of the view, before the filter

    def load(self, entries: Entries, moves: Moves | None = None) -> Moves | None:
        """Take another index; marks stay on their entries. Gives where those before stand in it, as ``moves`` say where
        that is known already; nothing else of what was there has changed then."""
        known, before, self.entries = moves is not None, self.entries, entries
        if moves is None and before is not None:
            moves = entries.moves_from(before)
        marked = bytearray(len(entries)) if moves is None else moves.carry(self._marked, 0)
        self._marked = bytearray(marked)
        if moves is None or not known or len(moves.touched) >= MANY:
            self._order = self._sorted()
            self._filter(self._all())
        else:
            self._follow(moves)
        return moves

    def update(self, positions: Collection[int]) -> None:
        """What is known of these entries may be something else."""
        order, passes = self._order, None if self._passing is None else bytes(self._passing)
        self._retest(positions)
        if self.sort_column is not None and BY_NAME[self.sort_column].changes:
            if len(positions) >= MANY:
                self._order = self._sorted()
            else:
                changed = frozenset(positions)
                self._order = self._with(array("I", (one for one in order if one not in changed)), changed)
        if self._order != order or passes != self._passing:
            self._show()

    def sort_by(self, column: str | None, reverse: bool) -> None:
        """Order the view by a column, or as the index has it."""
        turned, self.reverse = reverse != self.reverse, reverse
        if column != self.sort_column:
            self.sort_column, self._order, self.view = column, self._all(), ()
            self._order = self._sorted()
            self._show()
        elif turned:
            self.view = self.view[::-1]

    def set_filter(self, text: str) -> None:
        """Show only the entries that match."""
        candidates = self.view if _narrows(self.filter_text, text) else self._all()
        self.filter_text = text
        self._filter(candidates)

    def row_of(self, position: int, hint: int = 0) -> int | None:
        """The row that shows an entry, None where none does; ``hint`` is a row to look at first."""
        if 0 <= hint < len(self.view) and self.view[hint] == position:
            return hint
        return self.view.index(position) if self._passes(position) else None

    def survivor(self, before: Positions, row: int, moves: Moves | None) -> int | None:
        """The row that took the place of a row of an older view: its own, else the next one's, else the one before.
        ``moves`` are from the index of that view to this one, None where it is the same."""
        if row < len(before):
            for other in chain(range(row, len(before)), range(row - 1, -1, -1)):
                old = before[other]
                position = old if moves is None else moves.to(old)
                if position is not None and self._passes(position):
                    return self.row_of(position, row)
        return 0 if len(self.view) else None

    def next_bad(self, row: int, step: int) -> int | None:
        """The nearest bad row after a row, or before it with a step of -1; past either end from the other."""
        shown = len(self.view)
        others = ((row + step * away) % shown for away in range(1, shown + 1))
        entries = self.entries
        return None if entries is None else next((at for at in others if entries.state(self.view[at]).bad), None)

    # Marks

    @property
    def marked(self) -> list[int]:
        """All that are marked, the filtered-out ones included, in the order of the view."""
        return [position for position in self._turned(self._order) if self._marked[position]]

    @property
    def marks(self) -> int:
        return self._marked.count(1)

    @property
    def hidden_marks(self) -> int:
        """How many marked entries the filter hides."""
        if self._passing is None:
            return 0
        return (marks := self.marks) and marks - sum(map(and_, self._marked, self._passing))

    def is_marked(self, position: int) -> bool:
        return bool(self._marked[position])

    def toggle_mark(self, position: int) -> None:
        self._marked[position] ^= 1

    def mark_shown(self) -> None:
        for position in self.view:
            self._marked[position] = 1

    def clear_marks(self) -> None:
        """Forget all marks, the hidden ones too."""
        self._marked = bytearray(len(self._marked))

    # Order and filter

    def _all(self) -> range:
        return range(0 if self.entries is None else len(self.entries))

    def _follow(self, moves: Moves) -> None:
        """The same order and filter, in another index."""
        assert self.entries is not None
        touched = moves.touched
        if self._passing is not None:
            passing = moves.carry(self._passing, 0)
            self._passing = bytearray(passing)
            self._test = self.entries.test(self.filter_text)
            self._retest(touched)
        if self.sort_column is None:
            self._order = self._all()
        else:
            to = (moves.to(old) for old in self._order)
            kept = array("I", (new for new in to if new is not None and new not in touched))
            self._order = self._with(kept, touched)
        self._show()

    def _filter(self, candidates: Positions) -> None:
        """Test these; no other entry passes."""
        self._test = self._passing = None
        if self.filter_text.strip() and self.entries is not None:
            self._test = self.entries.test(self.filter_text)
            self._passing = bytearray(len(self.entries))
            for position in filter(self._test, candidates):
                self._passing[position] = 1
        self._show()

    def _retest(self, positions: Iterable[int]) -> None:
        if self._test is not None and self._passing is not None:
            for position in positions:
                self._passing[position] = self._test(position)

    def _passes(self, position: int) -> bool:
        return self._passing is None or bool(self._passing[position])

    def _sorted(self) -> Positions:
        if self.sort_column is None or self.entries is None:
            return self._all()
        return array("I", self.entries.sorted_by(BY_NAME[self.sort_column].sort_value(self.entries)))

    def _with(self, kept: array[int], coming: Iterable[int]) -> array[int]:
        """An order with these put in, each where it sorts."""
        place = self._place()
        for position in coming:
            kept.insert(bisect_left(kept, place(position), key=place), position)
        return kept

    def _place(self) -> Callable[[int], tuple[SortValue, str, int]]:
        """Where the entry at a position sorts: ties go by the digest, then as the index has them."""
        assert self.sort_column is not None
        assert self.entries is not None
        value, digests = BY_NAME[self.sort_column].sort_value(self.entries), self.entries.digests
        return lambda position: (value(position), digests[position], position)

    def _show(self) -> None:
        shown, passing = self._order, self._passing
        if passing is not None:
            shown = array("I", compress(shown, map(passing.__getitem__, shown)))
        self.view = self._turned(shown)

    def _turned(self, order: Positions) -> Positions:
        return order[::-1] if self.reverse else order


def _narrows(old: str, new: str) -> bool:
    """Whether every match of the new filter matches the old one, by its text alone."""
    if not new.startswith(old):
        return False
    added = new[len(old) :]
    if not old.strip() or not added or old[-1].isspace() or added[0].isspace():
        return True
    # A word that grows narrows only where it is no operator: `!ab` matches more than `!a`.
    return set("!:<>").isdisjoint(new.split()[len(old.split()) - 1])
