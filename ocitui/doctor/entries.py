"""The entries of a cache as an operator sees them, in columns: what `list` prints and the table shows.

The filter language of both: words are joined by AND, each a substring of the name, tag, digest, format, platform or
state, without regard to case, or, as ``name:web``, of one field of `FIELDS`; ``size>100M`` and ``age<2h`` compare;
``!word`` excludes. ``state:bad`` is every entry that is not well, ``used:`` every one that anybody needs, and
``used:unsure`` those of which nobody can tell. A field that is none is refused, with what was meant or where ``!``
stands before it, unless a name has that text.
"""

from __future__ import annotations

import re
import stat
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableSequence, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from ocitui.cache import (
    FIRST_PACKED,
    PLACE_OF_SUFFIX,
    ROW_WIDTH,
    Descriptor,
    EntryKey,
    ImageIndex,
    Listing,
)
from ocitui.text import parse_size, parse_span

from .findings import EntryState

T = TypeVar("T")
Predicate = Callable[[int], bool]
"""Whether the entry at a position passes."""
_COMPARED = ("size", "age")
_COMPARISON = re.compile(r"(size|age)[<>](.+)", re.ASCII | re.IGNORECASE)
_ALIKE = 0.75
_AS_IN = "as in size>100M, size<1.5G, age>30d, age<2h"
_TERM = re.compile(r"([^:<>=]+)([:<>=])")


class JudgedEntry(msgspec.Struct, frozen=True, gc=False):
    """A descriptor, what the directory holds for it, and how the judge finds that, as `Entries` tells it. ``modified``
    is in seconds since the epoch; that and the size are None while there is no packed file."""

    key: EntryKey
    name: str
    reference: str
    digest: str
    format: str
    platform: str
    packed_size: int | None
    modified: float | None
    descriptor: Descriptor
    state: EntryState
    used: str
    resolves: str


class Judged(Protocol):
    """Who says of the entry at a position how it is, and lists the directory."""

    @property
    def listing(self) -> Listing: ...

    def state_at(self, position: int) -> EntryState: ...


class Moves(NamedTuple):
    """Where the entries of one index stand in another: the first ``head`` and the last ``tail`` as they did, and those
    between them, by their old position, where ``middle`` says. Indexes have ``before`` and ``after`` entries."""

    before: int
    after: int
    head: int
    tail: int
    middle: Mapping[int, int]

    @property
    def touched(self) -> range:
        """The new positions of what came, went past others, or may be another entry."""
        return range(self.head, self.after - self.tail)

    def to(self, position: int) -> int | None:
        """The new position of an entry, by its old one; None where it is gone."""
        if position < self.head:
            return position
        if position >= self.before - self.tail:
            return position + self.after - self.before
        return self.middle.get(position)

    def carry(self, values: MutableSequence[T], fill: T) -> MutableSequence[T]:
        """One value for each new position, by those for the old ones; ``fill`` where the entry is new."""
        carried = values[: self.head]
        carried.extend([fill] * len(self.touched))
        carried.extend(values[self.before - self.tail :])
        for old, new in self.middle.items():
            carried[new] = values[old]
        return carried


UNSURE = "unsure"


class Entries:
    """All entries of an index, by position, each made when asked for. ``users``: who needs each packed file, by its
    name; where there is a ``doubt`` of that, any other may be needed too."""

    def __init__(
        self, index: ImageIndex, judge: Judged, users: Mapping[str, str] | None = None, doubt: str = ""
    ) -> None:
        self.index, self._judge, self.users, self.doubt = index, judge, users or {}, doubt
        self.digests, self.formats, self.names = index.digests, index.formats, index.names
        self.references, self.platforms = index.references, index.platforms
        self.state = judge.state_at

    @property
    def listing(self) -> Listing:
        """The directory as the judge has it by now."""
        return self._judge.listing

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, position: int) -> JudgedEntry:
        modified = self.modified(position)
        return JudgedEntry(
            self.key(position),
            self.name(position),
            self.references[position] or "",
            self.digests[position],
            self.formats[position] or "",
            self.platform(position),
            self.size(position),
            None if modified is None else modified / 1e9,
            self.index.descriptors[position],
            self.state(position),
            self.used(position),
            self.resolves(position),
        )

    def __iter__(self) -> Iterator[JudgedEntry]:
        return (self[position] for position in range(len(self)))

    # Single values, for what goes over all of them

    def name(self, position: int) -> str:
        """Krata's spelling of the name, without the tag."""
        name, reference = self.names[position] or "", self.references[position]
        return name.removesuffix(f":{reference}") if reference else name

    def platform(self, position: int) -> str:
        """Empty where the descriptor does not say."""
        platform = self.platforms[position]
        return "" if platform is None else str(platform)

    def size(self, position: int) -> int | None:
        """The packed file's, in bytes."""
        place = self.packed(position)
        return None if place is None else self.listing.sizes[place]

    def modified(self, position: int) -> int | None:
        """The packed file's mtime, in nanoseconds since the epoch."""
        place = self.packed(position)
        return None if place is None else self.listing.stat_at(place)[1]

    def used(self, position: int) -> str:
        """The zones that need the packed file, and the loop devices that hold it; where that is not known, so much."""
        if not self.users and not self.doubt:
            return ""
        return self.users.get(f"{self.digests[position]}.{self.formats[position]}") or (UNSURE if self.doubt else "")

    def resolves(self, position: int) -> str:
        """Whether its name leads to its digest: ``wins``, ``overruled`` by a later entry, else ``never``."""
        name = self.names[position]
        if not name:
            return "never"
        return "wins" if self.index.winners[name] == self.digests[position] else "overruled"

    def packed(self, position: int) -> int | None:
        """Where the listing has the packed file, as a regular one."""
        listing = self.listing
        row, suffix = listing.rows.get(self.digests[position]), PLACE_OF_SUFFIX.get(self.formats[position] or "", 0)
        if row is None or suffix < FIRST_PACKED:
            return None
        place = row * ROW_WIDTH + suffix
        return place if stat.S_ISREG(listing.modes[place]) else None

    # Keys, by which an entry is known again in another index

    def prepare(self) -> None:
        """Work out what the first key that is asked for needs, which takes a while where there are many."""
        _ = self._nth

    def key(self, position: int) -> EntryKey:
        """An entry's identity."""
        nth = self._nth.get(position, 0)
        return self.digests[position], self.formats[position] or "", self.names[position] or "", nth

    @cached_property
    def _nth(self) -> dict[int, int]:
        """How many equal ones stand before each that has any."""
        if len({hash((one, format_ or "", name or "")) for one, format_, name in self.index.identities()}) == len(self):
            return {}
        return {position: nth for position, (_, _, _, nth) in enumerate(self.index.keys()) if nth}

    def positions(self, keys: Collection[EntryKey]) -> dict[EntryKey, int]:
        """Where the entries of these keys stand; those that are gone have no place."""
        digests = {digest for digest, _, _, _ in keys}
        stand = (position for digest in digests for position in self.index.positions(digest))
        return {key: position for position in stand if (key := self.key(position)) in keys}

    def are_of(self, index: ImageIndex) -> bool:
        """Whether an index, perhaps read anew, has these very entries in this order."""
        return index is self.index or self._identities == (index.digests, index.formats, index.names)

    def moves_from(self, other: Entries) -> Moves:
        """Where the entries of another index stand in this one."""
        change = self.index.difference(other.index)
        before, after, head, tail = len(other), len(self), change.beginning, change.end
        mine, theirs = self._identities, other._identities
        stand: dict[tuple[str | None, ...], list[int]] = {}
        for new in range(after - tail - 1, head - 1, -1):
            stand.setdefault(tuple(column[new] for column in mine), []).append(new)
        middle = {}
        for old in range(head, before - tail):
            if there := stand.get(tuple(column[old] for column in theirs)):
                middle[old] = there.pop()
        return Moves(before, after, head, tail, middle)

    @property
    def _identities(self) -> tuple[Sequence[str | None], ...]:
        """The columns by which an entry is known again."""
        return self.digests, self.formats, self.names

    # Filter and order

    def passing(self, text: str, candidates: Iterable[int] | None = None) -> list[int]:
        """The positions that pass a filter, of all or of these; an empty text lets all pass."""
        test = self.test(text)
        return [position for position in (range(len(self)) if candidates is None else candidates) if test(position)]

    def test(self, text: str) -> Predicate:
        """What tells whether the entry at a position passes a filter."""
        tests = [_compile_word(word, self) for word in text.split()]
        if len(tests) < 2:
            return tests[0] if tests else lambda position: True
        return lambda position: all(test(position) for test in tests)

    def misunderstood(self, text: str) -> tuple[str, str] | None:
        """Why a filter is refused, and what was meant; None where every word of it means something."""
        for word in text.split():
            bare = word.lstrip("!")
            refusal = _refusal(bare, negated=(len(word) - len(bare)) % 2 == 1)
            # Last, as it goes over all of them.
            if refusal is not None and not self._is_of_a_name(bare.lower()):
                return refusal
        return None

    def _is_of_a_name(self, wanted: str) -> bool:
        """Whether a text with a mark in it stands in a name, with its tag, or in a digest."""
        told = zip(self.digests, self.names, self.references, strict=True)
        return any(wanted in f"{digest} {name} {f'{name}:{tag}' if tag else ''}".lower() for digest, name, tag in told)

    def sorted_by(self, value: Callable[[int], str | float]) -> list[int]:
        """All positions in the order of a value, equal ones by their digest."""
        # Two sorts by strings or numbers alone are faster than one by tuples.
        return sorted(self._by_digest, key=value)

    @cached_property
    def _by_digest(self) -> array[int]:
        return array("I", sorted(range(len(self)), key=self.digests.__getitem__))


def _bound(word: str) -> float | None:
    """What a comparison compares with, in bytes or seconds; None where it is none."""
    found = _COMPARISON.fullmatch(word)
    if found is None:
        return None
    return parse_size(found[2]) if found[1].lower() == "size" else parse_span(found[2])


def _refusal(bare: str, *, negated: bool) -> tuple[str, str] | None:
    """Why a word that stands in no name is refused, and what was meant."""
    found = _TERM.match(bare)
    if not found:
        return None
    field, mark, wanted = found[1].lower(), found[2], bare[found.end() :]
    if (mark == ":" and field in FIELDS) or _bound(bare) is not None:
        return None
    compared = [one for one in _COMPARED if _bound(f"{one}>{wanted}") is not None]
    if field in _COMPARED:
        either = mark == ":" and field in compared
        meant = f"{field}>{wanted} or {field}<{wanted} may be meant" if either else _AS_IN
        return f"{bare} compares with nothing", meant
    from difflib import get_close_matches

    if near := get_close_matches(field, (*FIELDS, *compared), 1, _ALIKE):
        sign = ":" if near[0] in FIELDS else mark if mark in "<>" else ">"
        meant = f"{near[0]}{sign}{wanted} may be meant"
        return f"{bare} is no filter" if field in FIELDS else f"there is no field {field}", meant
    if mark != ":":
        return f"{bare} is no filter", f"only {' and '.join(_COMPARED)} are compared"
    # Without the mark it passes no entry, with it every one.
    return (f"there is no field {field}", f"the fields are {', '.join(FIELDS)}") if negated else None


def _compile_word(word: str, entries: Entries) -> Predicate:
    wanted = word.lstrip("!") or "!"
    test = _compile_wanted(wanted, entries)
    return (lambda position: not test(position)) if (len(word) - len(wanted)) % 2 else test


def _compile_wanted(word: str, entries: Entries) -> Predicate:
    if (bound := _bound(word)) is not None:
        return _compare(entries.size if word[0] in "sS" else _age_in(entries), bound, above=">" in word)
    field, colon, wanted = word.lower().partition(":")
    if colon and field in FIELDS:
        if field == "state" and wanted == "bad":
            return lambda position: entries.state(position).bad
        if field == "used":
            return lambda position: bool(used := entries.used(position)) and wanted in used
        read = FIELDS[field](entries)
        return lambda position: wanted in read(position).lower()
    return _compile_substring(word.lower(), entries)


def _compare(read: Callable[[int], float | None], bound: float, *, above: bool) -> Predicate:
    return lambda position: (value := read(position)) is not None and (value > bound if above else value < bound)


def _age_in(entries: Entries) -> Callable[[int], float | None]:
    now = time.time()
    return lambda position: None if (at := entries.modified(position)) is None else now - at / 1e9


FIELDS: dict[str, Callable[[Entries], Callable[[int], str]]] = {
    "name": lambda entries: entries.name,
    "tag": lambda entries: lambda position: entries.references[position] or "",
    "digest": lambda entries: entries.digests.__getitem__,
    "format": lambda entries: lambda position: entries.formats[position] or "",
    "platform": lambda entries: entries.platform,
    "state": lambda entries: lambda position: entries.state(position).word,
    "used": lambda entries: entries.used,
}
"""What a word with a colon looks in."""


def _compile_substring(wanted: str, entries: Entries) -> Predicate:
    digests, names, references, formats = entries.digests, entries.names, entries.references, entries.formats

    def test(position: int) -> bool:
        name, tag = (names[position] or "").lower(), (references[position] or "").lower()
        return (
            wanted in name
            or wanted in digests[position].lower()
            or wanted in (formats[position] or "").lower()
            or (tag != "" and not name.endswith(f":{tag}") and wanted in f"{name}:{tag}")
            or wanted in entries.platform(position).lower()
            or wanted in entries.state(position).word.lower()
        )

    return test
