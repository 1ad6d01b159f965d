"""One text searched for descriptors: the whole ones in order, sound or refused, and what looks like one elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from difflib import SequenceMatcher
from enum import Enum

import msgspec

from ocitui.cache import Descriptor, DocumentError, sound_descriptor

from .broken_json import BEGINNING, NO_KEYS, Walk, Whole, is_descriptive, is_indexing

_SPACE = b" \t\r\n"
_CHUNK = 4096
_AFTER = re.compile(rb"[ \t\r\n]*+(?:(\])|(\})|,[ \t\r\n]*+(?:(\{)|(\")))")
_MANIFESTS = b"manifests"
_ALIKE = 0.7
_LONGEST_KEY = 256
_NOT_IN_KEYS = bytes(range(0x20)) + b"{}[]"


class Side(Enum):
    """LIST: as beside an element of the list of entries. MEMBER: as beside a member's value. FOREIGN: as in the list
    of some other member. UNKNOWN: neither, or damaged."""

    LIST = "list"
    MEMBER = "member"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"


def side_before(data: bytes, start: int) -> Side:
    """What stands before the object at ``start``."""
    at = _last_before(data, start)
    match data[at : at + 1] if at >= 0 else b"":
        case b",":
            return Side.LIST
        case b":":
            key = _key_before(data, at)
            if key is None:
                return Side.UNKNOWN
            return Side.LIST if resembles_manifests(key) else Side.MEMBER
        case b"[":
            return _before_bracket(data, at)
    return Side.UNKNOWN


def side_after(data: bytes, end: int) -> Side:
    """What stands after an object that ends at ``end``."""
    match = _AFTER.match(data, end)
    if match is None:
        return Side.UNKNOWN
    return Side.LIST if match[1] or match[3] else Side.MEMBER


def stands_in_list(before: Side, after: Side) -> bool:
    """Whether an object between these was an entry. What follows outweighs what precedes, but for a list of other
    things; where neither tells, it is taken for one."""
    if before is Side.LIST or (before is Side.UNKNOWN and after is Side.UNKNOWN):
        return True
    return before is not Side.FOREIGN and after is Side.LIST


def separated_by_comma(data: bytes, end: int, start: int) -> bool:
    """Whether only a comma and white space stand from ``end`` to ``start``."""
    comma = _last_before(data, start)
    return end <= comma and data[comma : comma + 1] == b"," and _last_before(data, comma) == end - 1


def resembles_manifests(key: bytes) -> bool:
    """Whether a key may have been ``manifests`` before it was damaged."""
    return SequenceMatcher(None, key, _MANIFESTS).ratio() >= _ALIKE if len(key) < 2 * len(_MANIFESTS) else False


def _before_bracket(data: bytes, at: int) -> Side:
    colon = _last_before(data, at)
    key = _key_before(data, colon) if data[colon : colon + 1] == b":" else None
    return Side.LIST if key is None or resembles_manifests(key) else Side.FOREIGN


def _key_before(data: bytes, colon: int) -> bytes | None:
    """The key of the member whose colon this is; None where none is left whole."""
    end = _last_before(data, colon)
    quote = data.rfind(b'"', max(0, end - _LONGEST_KEY), max(0, end))
    if quote < 0 or data[end : end + 1] != b'"':
        return None
    key, before = data[quote + 1 : end], _last_before(data, quote)
    begins = before >= 0 and data[before : before + 1] in (b"{", b",")
    return key if begins and len(key.translate(None, _NOT_IN_KEYS)) == len(key) else None


def _last_before(data: bytes, end: int) -> int:
    """The offset of the last byte before ``end`` that is no white space; -1 where there is none."""
    while end > 0:
        begin = max(0, end - _CHUNK)
        length = len(data[begin:end].rstrip(_SPACE))
        if length:
            return begin + length - 1
        end = begin
    return -1


# Most descriptors have one brace inside and some 400 bytes; a walk finds the end of any other.
_BRACES_TRIED = 4
_BYTES_TRIED = 4096
_DIGEST = b'"digest"'
_KEYS = (_DIGEST, b'"mediaType"', b'"size"')
# A list of millions of broken ones is no list of entries: after so many the strict reader is asked no more.
_MOST_REFUSED = 200_000


class Salvaged(msgspec.Struct, frozen=True, gc=False):
    """A whole descriptor at ``offset``, ``length`` bytes long there. ``descriptor`` is None where the daemon refuses
    it. ``raw`` are its bytes, re-encoded in UTF-8 where they were in UTF-16."""

    offset: int
    length: int
    raw: bytes
    descriptor: Descriptor | None
    stale: bool = False


class Scan:
    """A text searched; the time it takes grows with its length, whatever is in it. ``known`` are descriptors of sound
    indexes, by their bytes: one that stands here too is held once. ``found`` are the descriptors, ``elsewhere`` the
    places of sound ones that stand where no entry does: start and end."""

    def __init__(self, data: bytes, known: Mapping[bytes, Descriptor] | None = None) -> None:
        self.found: list[Salvaged] = []
        self.elsewhere: list[tuple[int, int]] = []
        self._data, self._known = data, known or {}
        # The braces that a walk took for the beginning of an object, and where values end that were taken out of
        # broken objects.
        self._passed, self._ends = bytearray(len(data)), dict[int, int]()
        self._refused = 0
        self._after_index = False
        self._foreign_end = -1
        self._run()

    def _run(self) -> None:
        data, at, last = self._data, 0, _last_key(self._data)
        while (found := BEGINNING.search(data, at)) is not None and (start := found.start()) <= last:
            if self._passed[start]:
                at = self._ends.get(start, start + 1)
            elif (descriptor := self._shortcut(start)) is not None:
                at = start + len(descriptor.raw)
                self._take_lone(Whole(start, at, NO_KEYS, descriptor))
            else:
                at = self._follow(Walk(data, self._shortcut, self._passed, start))
        self.found.sort(key=lambda found: found.offset)

    def _follow(self, walk: Walk) -> int:
        """Take what a walk found; gives where to search on."""
        if is_indexing(walk.keys):
            self._after_index = False
        foreign = bool(walk.inner) and side_before(self._data, walk.start) in (Side.MEMBER, Side.FOREIGN)
        for one in walk.inner:
            self._take(one, elsewhere=foreign)
        if walk.whole is None:
            self._take_pieces(walk)
            return walk.start + 1
        if is_indexing(walk.keys):
            self._after_index = True
        elif is_descriptive(walk.keys):
            self._take_lone(walk.whole)
        else:
            self._take_pieces(walk)
        return walk.end

    def _take_pieces(self, walk: Walk) -> None:
        """Take what is whole in an object that is broken, or is nothing that is known, beside the entries in it."""
        taken = {one.start: one for one in walk.inner}
        stray = walk.stray
        if stray is not None and is_descriptive(stray.keys) and side_after(self._data, stray.end) is Side.LIST:
            self._take(stray)
            taken[stray.start] = stray
        self._ends.update((one.start, one.end) for one in taken.values())
        end = -1
        for one in sorted([*taken.values(), *walk.others], key=lambda one: (one.start, -one.end)):
            if one.start < end:
                continue
            end = one.end
            if one.start not in taken:
                self._take(one, elsewhere=True)
                self._ends[one.start] = end

    def _take_lone(self, one: Whole) -> None:
        """Take an object that no other is known to hold, if it stands as an entry does."""
        before = side_before(self._data, one.start)
        if before is Side.LIST and separated_by_comma(self._data, self._foreign_end, one.start):
            before = Side.FOREIGN
        if before is Side.FOREIGN:
            self._foreign_end = one.end
        self._take(one, elsewhere=not stands_in_list(before, side_after(self._data, one.end)))

    def _take(self, one: Whole, *, elsewhere: bool = False) -> None:
        raw = one.descriptor.raw if one.descriptor is not None else self._data[one.start : one.end]
        descriptor = one.descriptor or _accepted(raw, strictly=self._refused < _MOST_REFUSED)
        if elsewhere:
            if descriptor is not None:
                self.elsewhere.append((one.start, one.end))
            return
        self._refused += descriptor is None
        if descriptor is not None or self._refused <= _MOST_REFUSED:
            self.found.append(Salvaged(one.start, len(raw), raw, descriptor, self._after_index))

    def _shortcut(self, start: int) -> Descriptor | None:
        """The descriptor that begins here, if it is a sound one of the usual kind."""
        data, most = self._data, start + _BYTES_TRIED
        end = data.find(_DIGEST, start, most)
        if end < 0:
            return None
        for closed in range(1, _BRACES_TRIED + 1):
            end = data.find(b"}", end, most) + 1
            if not end:
                return None
            if data.count(b"{", start, end) > closed:
                continue
            raw = data[start:end]
            if (descriptor := self._known.get(raw)) is not None:
                return descriptor
            if (descriptor := sound_descriptor(raw)) is not None:
                return descriptor if is_utf8(raw) else None
        return None


def is_utf8(raw: bytes) -> bool:
    """Whether these bytes are UTF-8 throughout, as the daemon wants the whole file to be."""
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _last_key(data: bytes) -> int:
    """Where the last key of a descriptor stands: no descriptor begins after it. Escaped ones may stand anywhere."""
    return len(data) if b"\\u" in data else max(data.rfind(key) for key in _KEYS)


def _accepted(raw: bytes, *, strictly: bool) -> Descriptor | None:
    """The descriptor, where the daemon accepts it."""
    with suppress(DocumentError):
        if is_utf8(raw):
            return Descriptor.parse(raw) if strictly else sound_descriptor(raw)
    return None
