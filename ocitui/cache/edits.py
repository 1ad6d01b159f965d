"""An edit of the index, and its reverse: equal descriptors are told apart, and every gap comes back.

`publish` may make an edit more than once, each time on what another program left. So an edit by positions counts: what
it took out or put in already it does not take out or put in again. An edit by keys means a digest and format, whatever
the bytes of their entries, and may be made on any index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from .descriptors import Descriptor
from .files import PackedFormat
from .index import ImageIndex, Key, Placement
from .listing import FILE_SUFFIXES
from .records import RecordedDescriptor, neighbour_of

Gaps = tuple[bytes, bytes]
"""The white space after the opening bracket and before the closing one."""
EditCall = Callable[[ImageIndex], ImageIndex]
Recorded = Sequence[RecordedDescriptor]


@dataclass(frozen=True, slots=True)
class Edit:
    """Descriptors that go (``out``) and come (``into``), by their bytes and the positions they have before and after.

    With ``keys`` (None: not by keys) every entry of these goes too, and of ``into`` comes what has no entry of its key
    then. ``appended`` comes in at the end, where it wins its name, laid out like the others. ``gaps`` are to stand
    inside the brackets where none of the old entries stays.
    """

    out: Recorded = ()
    into: Recorded = ()
    keys: frozenset[Key] | None = None
    appended: Descriptor | None = None
    gaps: Gaps | None = None

    @property
    def by_key(self) -> bool:
        return self.keys is not None

    def on(self, base: ImageIndex) -> EditCall:
        """The edit as `publish` makes it, begun on ``base``."""
        return self._by_key if self.by_key else self._by_position(base)

    def _by_key(self, current: ImageIndex) -> ImageIndex:
        left = current.without(self.keys or ())
        if self.appended is not None:
            return left.appended(self.appended)
        return self._with_gaps(left, [one for one in self.into if left.by_key(*one.descriptor.key) is None])

    def _by_position(self, base: ImageIndex) -> EditCall:
        wanted = {one.raw.encode() for one in (*self.out, *self.into)}
        had = _counts(base, wanted)

        def edit(current: ImageIndex) -> ImageIndex:
            has = _counts(current, wanted)
            out, into = self.out, self.into
            if has != had:
                out, into = _still_to_do(out, into, had, has)
            return self._with_gaps(current.without_at(positions(current, out)), into)

        return edit

    def _with_gaps(self, left: ImageIndex, into: Recorded) -> ImageIndex:
        edited = left.inserted(placements(left, into)) if into else left
        # Empty brackets have nothing before what they close with, however it was written.
        if self.gaps is None or left.descriptors or (self.gaps[0] and not edited.descriptors):
            return edited
        return edited.with_gaps(*self.gaps)


def positions(index: ImageIndex, wanted: Recorded) -> set[int]:
    """Where these descriptors stand, equal ones each at the nearest place; those that are gone have none."""
    places = index.places({one.raw.encode() for one in wanted})
    found: set[int] = set()
    for one in wanted:
        free = [place for place in places.get(one.raw.encode(), ()) if place not in found]
        if free:
            found.add(min(free, key=lambda place: abs(place - one.position)))
    return found


def placements(left: ImageIndex, returning: Recorded) -> list[Placement]:
    """Where descriptors go: before their neighbour, or where they were when that one is gone."""
    places = _neighbours(left, {one.before for one in returning if one.before is not None})
    placed: list[Placement] = []
    for earlier, one in enumerate(sorted(returning, key=lambda one: one.position)):
        expected = min(one.position - earlier, len(left))
        at = len(left)
        if one.before is not None:
            at = min(places.get(one.before, [expected]), key=lambda place: abs(place - expected))
        placed.append((at, one.descriptor, one.gap.encode() if one.gap else None))
    return placed


def _neighbours(left: ImageIndex, wanted: Collection[str]) -> dict[str, list[int]]:
    """Where the entries stand that records know as neighbours: by their identity, or by their bytes as version 1."""
    found = left.places({one.encode() for one in wanted if not one.startswith("#")})
    places = {raw.decode(): positions for raw, positions in found.items()}
    if any(one.startswith("#") for one in wanted):
        for at, identity in enumerate(left.identities()):
            if (known := neighbour_of(identity)) in wanted:
                places.setdefault(known, []).append(at)
    return places


def arrivals(left: ImageIndex, wanted: Sequence[tuple[int, Descriptor]]) -> list[RecordedDescriptor]:
    """The record of descriptors that come in, each before the one that has that position in ``left``."""
    return [
        RecordedDescriptor(
            descriptor.raw.decode(), position + earlier, _neighbour_at(left, position) if position < len(left) else None
        )
        for earlier, (position, descriptor) in enumerate(sorted(wanted, key=lambda one: one[0]))
    ]


def _neighbour_at(index: ImageIndex, position: int) -> str:
    return neighbour_of((index.digests[position], index.formats[position], index.names[position]))


def removals(index: ImageIndex, positions: Collection[int]) -> list[RecordedDescriptor]:
    """The entries at these positions, each with the next entry that stays and the gap that goes with it."""
    going = set(positions)
    first_kept = next((at for at in range(len(index)) if at not in going), len(index))
    removed: list[RecordedDescriptor] = []
    following, before = len(index), None
    for position in sorted(going, reverse=True):
        if position + 1 < following:
            before = _neighbour_at(index, position + 1)
        following = position
        gap = index.gap(position if position < first_kept else position - 1)
        removed.append(
            RecordedDescriptor(index.raw(position).decode(), position, before, gap.decode() if gap else None)
        )
    return removed[::-1]


def _counts(index: ImageIndex, raws: Collection[bytes]) -> Counter[bytes]:
    return Counter({raw: len(places) for raw, places in index.places(raws).items()})


def _still_to_do(
    out: Recorded, into: Recorded, had: Counter[bytes], has: Counter[bytes]
) -> tuple[list[RecordedDescriptor], list[RecordedDescriptor]]:
    """What is left of an edit on an index that another program, or this one, has changed since it was begun."""
    leaving, coming = (Counter(one.raw.encode() for one in part) for part in (out, into))
    to_take, to_put = Counter[bytes](), Counter[bytes]()
    for raw in {*leaving, *coming}:
        gone, more = max(0, had[raw] - has[raw]), max(0, has[raw] - had[raw])
        to_take[raw] = min(has[raw], max(0, leaving[raw] - gone))
        # What only moves is put back as often as it is taken; what another program removed stays away.
        moved = min(coming[raw], to_take[raw])
        to_put[raw] = max(moved, coming[raw] - max(leaving[raw] - to_take[raw], more))
    return _as_many(out, to_take), _as_many(into, to_put)


def _as_many(wanted: Recorded, counts: Counter[bytes]) -> list[RecordedDescriptor]:
    """As many of each as is left to do, the last ones where not all are."""
    left = Counter(counts)
    kept: list[RecordedDescriptor] = []
    for one in reversed(wanted):
        raw = one.raw.encode()
        if left[raw] > 0:
            left[raw] -= 1
            kept.append(one)
    return kept[::-1]


def needed(index: ImageIndex, name: str) -> bool:
    """Whether an entry of the index has this file."""
    for suffix, kind in FILE_SUFFIXES.items():
        digest = name.removesuffix(f".{suffix}")
        if digest != name:
            formats = {index.formats[at] for at in index.positions(digest)}
            return kind in formats if isinstance(kind, PackedFormat) else not formats.isdisjoint(PackedFormat)
    return False
