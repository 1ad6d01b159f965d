"""Rows of the entry table: positions of entries, sorted, filtered and marked; nothing here draws."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, compress
from operator import and_
from typing import TYPE_CHECKING

from .entry_columns import BY_NAME, SortValue

if TYPE_CHECKING:
    from ocitui.doctor import Entries, Moves, Predicate

MANY = 500
"""From so many changes on, the order is made anew."""
Positions = Sequence[int]


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
