"""Rows of the entry table: entries by key, sorted, filtered and marked; nothing here draws."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ocitui.cache.entries import Entry, EntryKey
from ocitui.cache.filters import Predicate, compile_filter

from .entry_columns import BY_NAME, SortValue

MANY = 500
"""From so many changes on, the view is rebuilt as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Keys of the rows shown. The list is never changed in place, so that an older view can be kept to compare."""

    keys: list[EntryKey]
    reverse: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def at(self, index: int) -> EntryKey:
        """The key of a row, counted from the top."""
        return self.keys[-1 - index if self.reverse else index]

    def __iter__(self) -> Iterator[EntryKey]:
        return reversed(self.keys) if self.reverse else iter(self.keys)


class EntryRows:
    """All entries, and the view of them that a sort column and a filter give."""

    def __init__(self) -> None:
        self.entries: dict[EntryKey, Entry] = {}
        self.marks: set[EntryKey] = set()
        self.view = View([])
        self.sort_column: str | None = None
        self.filter_text = ""
        self._test: Predicate | None = None
        self._order: list[EntryKey] = []  # as the index has them
        self._all: list[EntryKey] = []  # in the order of the view, before the filter
        self._by_key: list[EntryKey] | None = None  # sorted by key alone, made when first needed
        self._hidden_marks: int | None = 0

    def load(self, entries: Iterable[Entry]) -> None:
        """Replace all entries."""
        self.entries = {entry.key: entry for entry in entries}
        self._order = list(self.entries)
        self._by_key = None
        self.marks.intersection_update(self.entries)
        self._rebuild()

    def apply(
        self, changed: Mapping[EntryKey, Entry], removed: Collection[EntryKey], order: Sequence[EntryKey] | None
    ) -> None:
        """Take in a difference. Raises ValueError where ``order`` has not one key for each entry."""
        gone = {key for key in removed if key in self.entries and key not in changed}
        added = [key for key in changed if key not in self.entries]
        new_order = self._next_order(added, gone, order)
        if added or gone:
            self._by_key = None
        if len(changed) + len(gone) >= MANY:
            self._take(changed, gone, new_order)
            self._rebuild()
        elif self.sort_column is None:
            self._step_in_index_order(changed, gone, new_order)
        else:
            self._step_sorted(changed, gone, new_order)

    def sort_by(self, column: str | None, reverse: bool) -> None:
        """Order the view by a column, or as the index has it. Raises ValueError for an unknown column."""
        if column is not None and column not in BY_NAME:
            raise ValueError(f"no column {column!r}")
        keys = self.view.keys
        if column != self.sort_column:
            self.sort_column = column
            shown = None if keys is self._all else set(keys)
            self._all = self._sorted(self._order)
            keys = self._all if shown is None else [key for key in self._all if key in shown]
        self.view = View(keys, reverse)

    def set_filter(self, text: str) -> None:
        """Show only the entries that match."""
        candidates = self.view.keys if _narrows(self.filter_text, text) else self._all
        self.filter_text = text
        self._test = compile_filter(text) if text.strip() else None
        self._show(self._filtered(candidates) if self._test else self._all)

    def index_of(self, key: EntryKey, hint: int = 0) -> int | None:
        """The row that shows an entry, None where none does; ``hint`` is a row to look at first."""
        if 0 <= hint < len(self.view) and self.view.at(hint) == key:
            return hint
        if key not in self.entries or not self._passes(self.entries[key]):
            return None
        keys = self.view.keys
        found = keys.index(key) if self.sort_column is None else self._bisect(keys, key)
        return len(keys) - 1 - found if self.view.reverse else found

    def survivor(self, before: View, index: int) -> int | None:
        """The row that took the place of a row of an older view: its own, else the next one's, else the one before."""
        if index < len(before):
            own = self.index_of(before.at(index), index)
            if own is not None:
                return own
            shown = set(self.view.keys)
            for other in chain(range(index + 1, len(before)), range(index - 1, -1, -1)):
                if before.at(other) in shown:
                    return self.index_of(before.at(other), index)
        return 0 if len(self.view) else None

    @property
    def marked(self) -> list[EntryKey]:
        """All marked keys, the filtered-out ones included, in the order of the view."""
        if not self.marks:
            return []
        return [key for key in View(self._all, self.view.reverse) if key in self.marks]

    @property
    def hidden_marks(self) -> int:
        """How many marked entries the filter hides."""
        if self._hidden_marks is None:
            filtered = self._test is not None and self.marks
            self._hidden_marks = len(self.marks.difference(self.view.keys)) if filtered else 0
        return self._hidden_marks

    def mark_shown(self) -> None:
        """Mark every row of the view."""
        self.marks.update(self.view.keys)

    def clear_marks(self) -> None:
        """Forget all marks, the hidden ones too."""
        self.marks.clear()
        self._hidden_marks = 0

    def _next_order(
        self, added: list[EntryKey], gone: set[EntryKey], order: Sequence[EntryKey] | None
    ) -> list[EntryKey]:
        if order is None:
            kept = [key for key in self._order if key not in gone] if gone else self._order
            return kept + added if added else kept
        if len(order) != len(self.entries) + len(added) - len(gone):
            raise ValueError("the order does not name every entry once")
        return list(order)

    def _take(self, changed: Mapping[EntryKey, Entry], gone: set[EntryKey], order: list[EntryKey]) -> None:
        self.entries.update(changed)
        for key in gone:
            del self.entries[key]
        self.marks -= gone
        self._hidden_marks = None
        self._order = order

    def _step_in_index_order(
        self, changed: Mapping[EntryKey, Entry], gone: set[EntryKey], order: list[EntryKey]
    ) -> None:
        moved = self._moved(changed)
        reordered = order is not self._order
        self._take(changed, gone, order)
        if not moved and not reordered:
            return
        self._all = order
        if self._test is None:
            self._show(order)
            return
        shown = set(self.view.keys).difference(gone, moved)
        shown.update(key for key in moved if self._test(changed[key]))
        self._show([key for key in order if key in shown])

    def _step_sorted(self, changed: Mapping[EntryKey, Entry], gone: set[EntryKey], order: list[EntryKey]) -> None:
        moved = self._moved(changed)
        leaving = [key for key in chain(moved, gone) if key in self.entries]
        kept = self._without(self._all, leaving)
        kept_shown = self._without(self.view.keys, self._filtered(leaving)) if self._test else kept
        self._take(changed, gone, order)
        if moved or gone:
            self._all = self._with(kept, moved)
            self._show(self._with(kept_shown, self._filtered(moved)) if self._test else self._all)

    def _moved(self, changed: Mapping[EntryKey, Entry]) -> list[EntryKey]:
        """The keys among these that are new, sort elsewhere now, or pass the filter other than before."""
        return [
            key
            for key, entry in changed.items()
            if (old := self.entries.get(key)) is None
            or (self.sort_column is not None and self._place(old) != self._place(entry))
            or (self._test is not None and self._test(old) != self._test(entry))
        ]

    def _without(self, keys: list[EntryKey], leaving: list[EntryKey]) -> list[EntryKey]:
        kept = keys.copy() if leaving else keys
        for key in leaving:
            del kept[self._bisect(kept, key)]
        return kept

    def _with(self, keys: list[EntryKey], coming: list[EntryKey]) -> list[EntryKey]:
        grown = keys.copy() if coming else keys
        for key in coming:
            grown.insert(self._bisect(grown, key), key)
        return grown

    def _bisect(self, keys: list[EntryKey], key: EntryKey) -> int:
        entries, place = self.entries, self._place
        return bisect_left(keys, place(entries[key]), key=lambda other: place(entries[other]))

    def _place(self, entry: Entry) -> tuple[SortValue, str]:
        """Where an entry sorts."""
        assert self.sort_column is not None
        return BY_NAME[self.sort_column].sort_value(entry), _tie(entry.key)

    def _sorted(self, keys: list[EntryKey]) -> list[EntryKey]:
        if self.sort_column is None:
            return keys
        if self._by_key is None:
            self._by_key = sorted(keys, key=_tie)
        # Two sorts by strings or numbers alone are faster than one by tuples.
        value, entries = BY_NAME[self.sort_column].sort_value, self.entries
        return sorted(self._by_key, key=lambda key: value(entries[key]))

    def _passes(self, entry: Entry) -> bool:
        return self._test is None or self._test(entry)

    def _filtered(self, keys: list[EntryKey]) -> list[EntryKey]:
        if self._test is None:
            return keys
        test, entries = self._test, self.entries
        return [key for key in keys if test(entries[key])]

    def _rebuild(self) -> None:
        self._all = self._sorted(self._order)
        self._show(self._filtered(self._all))

    def _show(self, keys: list[EntryKey]) -> None:
        self.view = View(keys, self.view.reverse)
        self._hidden_marks = None if self.marks else 0


def _tie(key: EntryKey) -> str:
    """What breaks a tie: the digest, then the rest of the key."""
    return f"{key[0]}\0{key[1]}\0{key[2]}\0{key[3]}"


def _narrows(old: str, new: str) -> bool:
    """Whether every match of the new filter matches the old one, by its text alone."""
    if not new.startswith(old):
        return False
    added = new[len(old) :]
    if not old.strip() or not added or old[-1].isspace() or added[0].isspace():
        return True
    # A word that grows narrows only where it is no operator: `!ab` matches more than `!a`.
    return set("!:<>").isdisjoint(new.split()[len(old.split()) - 1])
