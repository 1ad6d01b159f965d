"""Every whole descriptor out of a broken index, in order, and what was lost where.

A descriptor is taken where the bytes hold it as a whole object that stands as an element of the list of entries, as
far as that can still be told: not a platform, not annotations, not the like of a descriptor in a field of another. Its
bytes are kept as they are. What the daemon's types refuse is told apart, verbatim; everything else is a gap.

A text that was written over a longer one leaves the old one's end behind a whole index. What is salvaged from there is
stale: it is older than what stands before it. A descriptor written as an array is known only where the list of entries
can be followed up to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from ocitui.cache import Descriptor

from .salvage_gaps import Gap, Part, between, find_gaps
from .salvage_scan import Scan, scan
from .utf16_text import Utf16Text

_ELSEWHERE = "a descriptor that stands where no entry does"


class Salvaged(msgspec.Struct, frozen=True, gc=False):
    """A whole descriptor at ``offset``, ``length`` bytes long there. ``descriptor`` is None where the daemon refuses
    it, and ``refusal`` says why. ``raw`` are its bytes, re-encoded in UTF-8 where they were in UTF-16."""

    offset: int
    length: int
    raw: bytes
    descriptor: Descriptor | None
    refusal: str = ""
    stale: bool = False


class Salvage(msgspec.Struct, frozen=True):
    """What was salvaged from ``size`` bytes, in the order of the file, and the gaps."""

    size: int
    items: tuple[Salvaged, ...]
    gaps: tuple[Gap, ...]

    @property
    def sound(self) -> list[Salvaged]:
        """What the daemon's types accept."""
        return [item for item in self.items if item.descriptor is not None]

    @property
    def refused(self) -> list[Salvaged]:
        """What the daemon's types refuse, for which it would drop the whole index."""
        return [item for item in self.items if item.descriptor is None]

    @property
    def descriptors(self) -> list[Descriptor]:
        """The sound descriptors in the order of an index: the stale ones first, as far as no other has the same
        digest, format and name, so that they win no name from a newer one."""
        current = [item.descriptor for item in self.items if item.descriptor is not None and not item.stale]
        known = {(d.digest, d.format, d.image_name) for d in current}
        stale = [item.descriptor for item in self.items if item.descriptor is not None and item.stale]
        return [d for d in stale if (d.digest, d.format, d.image_name) not in known] + current


Piece = TypeVar("Piece", Salvaged, Gap)


def salvage(data: bytes) -> Salvage:
    """Search the bytes of an index, whatever they are; the time grows with their length. Never raises."""
    result = _search(data, scan(data))
    left = list(result.left)
    for at, part in enumerate(result.left):
        if (text := Utf16Text.find(data, *part)) is not None:
            left[at] = (part[0], part[0])
            _add_utf16(text, result)
    result.gaps += find_gaps(data, left)
    items, gaps = sorted(result.items, key=_by_offset), sorted(result.gaps, key=_by_offset)
    return Salvage(len(data), tuple(items), tuple(gaps))


@dataclass(slots=True)
class _Search:
    """What was found in a text, and the parts of it that are left."""

    items: list[Salvaged]
    gaps: list[Gap]
    left: list[Part]


def _search(data: bytes, found: Scan) -> _Search:
    items = [Salvaged(one.start, len(one.raw), one.raw, one.descriptor, one.refusal, one.stale) for one in found.found]
    taken = sorted([*((item.offset, item.offset + item.length) for item in items), *found.elsewhere])
    return _Search(items, [_elsewhere(data, *part) for part in found.elsewhere], between(len(data), taken))


def _elsewhere(data: bytes, start: int, end: int) -> Gap:
    descriptor = Descriptor.parse(data[start:end])
    names = (descriptor.image_name,) if descriptor.image_name else ()
    return Gap(start, end - start, _ELSEWHERE, (descriptor.digest,), names)


def _add_utf16(text: Utf16Text, result: _Search) -> None:
    """Search a text and add what is found, at its offsets in the broken bytes."""
    inner = _search(text.data, scan(text.data))
    gaps = [*inner.gaps, *find_gaps(text.data, inner.left)]
    parts = [(one.offset, one.length) for one in inner.items] + [(one.offset, one.length) for one in gaps]
    places = text.originals({edge for offset, length in parts for edge in (offset, offset + length)})
    result.gaps += [_moved(gap, places) for gap in gaps]
    result.items += [_moved(item, places) for item in inner.items]


def _moved(piece: Piece, places: dict[int, int]) -> Piece:
    offset = places[piece.offset]
    return msgspec.structs.replace(piece, offset=offset, length=places[piece.offset + piece.length] - offset)


def _by_offset(one: Salvaged | Gap) -> int:
    return one.offset
