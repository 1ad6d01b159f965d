"""An edit of the index by positions, and its reverse: equal descriptors are told apart, and every gap comes back.

`publish` may make an edit more than once, each time on what another program left. So an edit counts: what it took out
or put in already it does not take out or put in again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from .descriptors import Descriptor
from .disk import Folder
from .files import config_name, file_names, known_format, manifest_name, usable_digest
from .index import ImageIndex, Key, Placement
from .names import PackedFormat
from .records import Removed

Gaps = tuple[bytes, bytes]
"""The white space after the opening bracket and before the closing one."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Descriptors that go and come, by their bytes and the positions they have before and after.

    ``gaps`` are to stand inside the brackets where none of the old entries stays.
    """

    out: list[Removed]
    into: list[Removed]
    gaps: Gaps | None = None

    def on(self, base: ImageIndex) -> Callable[[ImageIndex], ImageIndex]:
        """The edit as `publish` makes it, begun on ``base``."""
        wanted = {one.raw.encode() for one in (*self.out, *self.into)}
        had = _counts(base, wanted)

        def edit(current: ImageIndex) -> ImageIndex:
            has = _counts(current, wanted)
            out, into = self.out, self.into
            if has != had:
                out, into = _still_to_do(out, into, had, has)
            left = current.without_at(positions(current, out))
            edited = left.inserted(placements(left, into)) if into else left
            if self.gaps is None or left.descriptors or (self.gaps[0] and not edited.descriptors):
                return edited
            return edited.with_gaps(*self.gaps)

        return edit


def positions(index: ImageIndex, wanted: Sequence[Removed]) -> set[int]:
    """Where these descriptors stand, equal ones each at the nearest place; those that are gone have none."""
    places = index.places({one.raw.encode() for one in wanted})
    found: set[int] = set()
    for one in wanted:
        free = [place for place in places.get(one.raw.encode(), ()) if place not in found]
        if free:
            found.add(min(free, key=lambda place: abs(place - one.position)))
    return found


def placements(left: ImageIndex, returning: Sequence[Removed]) -> list[Placement]:
    """Where descriptors go: before their neighbour, or where they were when that one is gone."""
    places = left.places({one.before.encode() for one in returning if one.before is not None})
    placed: list[Placement] = []
    for earlier, removed in enumerate(sorted(returning, key=lambda one: one.position)):
        expected = min(removed.position - earlier, len(left))
        at = len(left)
        if removed.before is not None:
            neighbours = places.get(removed.before.encode(), [expected])
            at = min(neighbours, key=lambda place: abs(place - expected))
        placed.append((at, removed.descriptor, removed.gap.encode() if removed.gap else None))
    return placed


def arrivals(left: ImageIndex, wanted: Sequence[tuple[int, Descriptor]]) -> list[Removed]:
    """The record of descriptors that come in, each before the one that has that position in ``left``."""
    return [
        Removed(
            descriptor.raw.decode(),
            position + earlier,
            left.raw(position).decode() if position < len(left) else None,
        )
        for earlier, (position, descriptor) in enumerate(sorted(wanted, key=lambda one: one[0]))
    ]


def _counts(index: ImageIndex, raws: Collection[bytes]) -> Counter[bytes]:
    return Counter({raw: len(places) for raw, places in index.places(raws).items()})


def _still_to_do(
    out: list[Removed], into: list[Removed], had: Counter[bytes], has: Counter[bytes]
) -> tuple[list[Removed], list[Removed]]:
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


def _as_many(wanted: list[Removed], counts: Counter[bytes]) -> list[Removed]:
    """As many of each as is left to do, the last ones where not all are."""
    left = Counter(counts)
    kept: list[Removed] = []
    for one in reversed(wanted):
        raw = one.raw.encode()
        if left[raw] > 0:
            left[raw] -= 1
            kept.append(one)
    return kept[::-1]


# Past so many entries one listing of the directory is cheaper than a look at each of their files.
_MANY = 500


def needed(index: ImageIndex, name: str) -> bool:
    """Whether an entry of the index has this file."""
    for format_ in PackedFormat:
        for digest in {name.removesuffix(f".{format_}")} - {name}:
            if index.by_key(digest, format_) is not None:
                return True
    for suffix in (manifest_name(""), config_name("")):
        digest = name.removesuffix(suffix)
        if digest != name and any(index.by_key(digest, format_) for format_ in PackedFormat):
            return True
    return False


def discardable(root: Folder, index: ImageIndex, keys: Collection[Key]) -> tuple[list[str], list[str]]:
    """The files that nothing needs once entries of these keys are gone, and those that stay for other formats.

    ``index`` is the one without them. A packed file that no entry names keeps its documents too.
    """
    gone: dict[str, None] = {}
    kept: dict[str, None] = {}
    is_there = _presence(root, len(keys))
    for digest, format_annotation in keys:
        format_ = known_format(format_annotation)
        if format_ is None or not usable_digest(digest):
            continue
        packed, *documents = file_names(digest, format_).values()
        gone[packed] = None
        others = [other for other in PackedFormat if (digest, other) not in keys and other is not format_]
        shared = any(index.by_key(digest, other) or is_there(f"{digest}.{other}") for other in others)
        (kept if shared else gone).update(dict.fromkeys(documents))
    return [name for name in gone if name not in kept and is_there(name)], [name for name in kept if is_there(name)]


def _presence(root: Folder, entries: int) -> Callable[[str], bool]:
    """Whether a name is in the directory, asked for the files of this many entries."""
    if entries > _MANY:
        return set(root.names()).__contains__
    return lambda name: root.lstat(name) is not None


def removals(index: ImageIndex, keys: Collection[Key]) -> list[Removed]:
    """The entries of these keys, each with the next entry that stays and the gap that goes with it."""
    return removals_at(index, index.positions_of(keys))


def removals_at(index: ImageIndex, positions: Collection[int]) -> list[Removed]:
    """The same for the entries at these positions."""
    doomed = set(positions)
    first_kept = next((at for at in range(len(index)) if at not in doomed), len(index))
    removed: list[Removed] = []
    following, neighbour = len(index), None
    for position in sorted(doomed, reverse=True):
        if position + 1 < following:
            neighbour = index.raw(position + 1).decode()
        following = position
        gap = index.gap(position if position < first_kept else position - 1)
        removed.append(Removed(index.raw(position).decode(), position, neighbour, gap.decode() if gap else None))
    return removed[::-1]
