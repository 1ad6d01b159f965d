"""One text searched for descriptors: the whole ones in order, sound or refused, and what looks like one elsewhere.

It is walked for the objects in it whose braces match, and whose members stand in order; what a scalar is does not
matter. Which braces open an object depends on where strings begin, and damage can turn that round: after a walk that
failed, the braces that it took for text are tried too. None is passed twice in the same sense: the work is linear.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import SequenceMatcher
from enum import Enum, IntEnum

import msgspec

from ocitui.cache import Descriptor, DocumentError, sound_descriptor

_WHITE = rb"[ \t\r\n]*+"
# A string ends with its line at the latest: no writer of JSON breaks one, so that a lost quote costs a line, no more.
# Nor does one go on through NULs: such a hole may have taken any number of brackets with it.
_TEXT = rb"[^\"\\\r\n\x00]*+(?:\\[^\r\n\x00][^\"\\\r\n\x00]*+)*+"
_STRING = b'"' + _TEXT + b'"'
_KEY = b'"(' + _TEXT + b')"' + _WHITE + b":"
_VALUE = _WHITE + b"(?:" + _STRING + rb"|[-+.0-9A-Za-z]++|(?P<open>[\[{]))"

# The first member belongs to it, so that most of what begins no object is passed over at once.
BEGINNING = re.compile(rb"\{" + _WHITE + _KEY + _VALUE + b"(?(open)|" + _WHITE + rb"[,}])")
_MEMBER = re.compile(_WHITE + _KEY + _VALUE)
_ELEMENT = re.compile(_VALUE)
_COMMA = re.compile(_WHITE + b",")
_FOLLOWING = re.compile(_WHITE + b"," + _WHITE + rb"(?=\{)")
_OBJECT = ord("{")
_CLOSING = {_OBJECT: re.compile(_WHITE + rb"\}"), ord("["): re.compile(_WHITE + rb"\]")}
_BETWEEN = b" \t\r\n,"
_ESCAPED = re.compile(rb"\\u([0-9A-Fa-f]{4})")


class Role(IntEnum):
    """What a value is to the index: the document itself, its list of entries, an entry, or anything else. A list of
    the document under another name may be that of the entries all the same, when the name was damaged."""

    DOCUMENT = 0
    ENTRIES = 1
    ENTRY = 2
    OTHER = 3
    LIST = 4
    ELEMENT = 5


# Which telling keys an object has, as one number: flags of their own class would cost more than all the rest.
_TELLING = (b"mediaType", b"digest", b"size", b"schemaVersion", b"manifests", b"layers")
_BITS = {key: 1 << bit for bit, key in enumerate(_TELLING)}
_MEDIA_TYPE, _DIGEST, _SIZE, _SCHEMA_VERSION, _MANIFESTS, _ = _BITS.values()
NO_KEYS = 0


def is_descriptive(keys: int) -> bool:
    """Whether an object with these keys looks like a descriptor, be it one that lacks something."""
    return keys & (_MEDIA_TYPE | _DIGEST | _SIZE) != 0 and not is_indexing(keys)


def is_indexing(keys: int) -> bool:
    """Whether an object with these keys looks like an index."""
    return keys & (_SCHEMA_VERSION | _MANIFESTS) != 0


def _is_nameless(keys: int) -> bool:
    """Whether an object with these keys looks like an index whose list of entries lost its name."""
    return keys & ~_MEDIA_TYPE == _SCHEMA_VERSION


class Whole(msgspec.Struct, frozen=True, gc=False):
    """A whole object from ``start`` to ``end``, or an entry written as an array. ``keys`` are the telling ones that it
    has, for `is_descriptive` and `is_indexing`; ``descriptor`` is there where it is known."""

    start: int
    end: int
    keys: int
    descriptor: Descriptor | None = None


Shortcut = Callable[[int], Descriptor | None]
"""The sound descriptor that begins at an offset, where that can be told at once."""


class Walk:
    """One walk from the brace at ``start``, which none has passed; the braces that it passes are noted in ``passed``,
    and ``shortcut`` spares it most entries. ``whole`` is the object it began with, None where that is broken; ``inner``
    are the whole values in it that stand where entries stand, in order, ``others`` those that look like descriptors and
    stand elsewhere. ``stray`` is a member's value, right behind which a broken object breaks off. ``end`` is that
    place, or the whole object's end."""

    def __init__(self, data: bytes, shortcut: Shortcut, passed: bytearray, start: int) -> None:
        self._data, self._shortcut, self._passed = data, shortcut, passed
        # The containers that are open, the outermost first. There may be millions of them.
        self._starts = array("q")
        self._kinds, self._roles, self._keys = bytearray(), bytearray(), bytearray()
        self._elements: list[Whole] = []
        self._last = (-1, -1, 0)
        self._after_value = False
        self.inner: list[Whole] = []
        self.others: list[Whole] = []
        self.start = self.end = start
        going = self._open(Role.DOCUMENT)
        while going and self._starts:
            going = self._step()
        self.whole = Whole(*self._last) if going else None
        self.keys = self.whole.keys if self.whole else self._keys[0]
        self.stray = None if self.whole else self._stray()
        if _is_nameless(self.keys):
            self.inner = self._elements

    def _step(self) -> bool:
        """Go past a comma, read a value, or close what is open; False where none of these is there."""
        if self._after_value:
            if (comma := _COMMA.match(self._data, self.end)) is None:
                return self._close()
            self.end, self._after_value = comma.end(), False
            return True
        if self._kinds[-1] == _OBJECT:
            match = _MEMBER.match(self._data, self.end)
            return self._value(match, match[1]) if match else self._close()
        match = _ELEMENT.match(self._data, self.end)
        return self._value(match, b"") if match else self._close()

    def _value(self, match: re.Match[bytes], key: bytes) -> bool:
        if b"\\" in key:
            key = _ESCAPED.sub(lambda found: chr(int(found[1], 16)).encode("utf-8", "surrogatepass"), key)
        known = _BITS.get(key, 0)
        if known:
            self._keys[-1] |= known
        if match["open"] is None:
            self.end, self._after_value = match.end(), True
            return True
        self.end = match.end() - 1
        return self._open(_role_in(self._roles[-1], known, match["open"]))

    def _open(self, role: Role) -> bool:
        kind, start = self._data[self.end], self.end
        if kind == _OBJECT:
            if self._passed[start]:
                return False
            self._passed[start] = 1
            if role is Role.ENTRY and (descriptor := self._shortcut(start)) is not None:
                self._take(start, descriptor)
                return True
        for column, value in ((self._kinds, kind), (self._roles, role), (self._keys, 0)):
            column.append(value)
        self._starts.append(start)
        self.end, self._after_value = start + 1, False
        return True

    def _take(self, start: int, descriptor: Descriptor | None) -> None:
        """Take an entry, and those that follow it as usual."""
        data, passed, shortcut, inner = self._data, self._passed, self._shortcut, self.inner
        self._after_value = True
        while descriptor is not None:
            self.end = end = start + len(descriptor.raw)
            inner.append(Whole(start, end, NO_KEYS, descriptor))
            following = _FOLLOWING.match(data, end)
            if following is None or passed[start := following.end()]:
                return
            descriptor = shortcut(start)
            passed[start] = descriptor is not None

    def _close(self) -> bool:
        kind = self._kinds[-1]
        match = _CLOSING[kind].match(self._data, self.end)
        if match is None:
            return False
        self.end, self._after_value = match.end(), True
        start, role, keys = self._starts.pop(), self._roles.pop(), self._keys.pop()
        self._kinds.pop()
        self._last = (start, self.end, keys)
        if self._starts and (keys or role == Role.ENTRY):
            self._note(kind, role, keys)
        return True

    def _note(self, kind: int, role: int, keys: int) -> None:
        """Note what was closed. What looks like a descriptor is one, too, where it took the place of their list."""
        descriptive = kind == _OBJECT and is_descriptive(keys)
        if role == Role.ELEMENT and descriptive:
            self._elements.append(Whole(*self._last))
        if descriptive if role != Role.ENTRY else descriptive or self._kinds[-1] != _OBJECT:
            (self.inner if role in (Role.ENTRY, Role.ENTRIES) else self.others).append(Whole(*self._last))

    def _stray(self) -> Whole | None:
        """The object that stood as a member's value where the walk broke off right behind it."""
        start, end, keys = self._last
        if start < self._starts[-1] or self._kinds[-1] != _OBJECT or self._data[end : self.end].strip(_BETWEEN):
            return None
        return None if self.inner and self.inner[-1].start == start else Whole(start, end, keys)


def _role_in(parent: int, key: int, kind: bytes) -> Role:
    match parent:
        case Role.DOCUMENT if key == _MANIFESTS:
            return Role.ENTRIES
        case Role.DOCUMENT if kind == b"[":
            return Role.LIST
        case Role.ENTRIES:
            return Role.ENTRY
        case Role.LIST:
            return Role.ELEMENT
    return Role.OTHER


# What stands beside an object, and the search

_SPACE = b" \t\r\n"
_CHUNK = 4096
_AFTER = re.compile(rb"[ \t\r\n]*+(?:(\])|(\})|,[ \t\r\n]*+(?:(\{)|(\")))")
_LIST_NAME, _ALIKE = b"manifests", 0.7
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
    return len(key) < 2 * len(_LIST_NAME) and SequenceMatcher(None, key, _LIST_NAME).ratio() >= _ALIKE


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
_QUOTED = [b'"%b"' % key for key in _TELLING[:3]]
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
        # The braces that began an object for a walk, and where values end that were taken out of broken ones.
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
        end = data.find(b'"digest"', start, most)
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
    return len(data) if b"\\u" in data else max(data.rfind(key) for key in _QUOTED)


def _accepted(raw: bytes, *, strictly: bool) -> Descriptor | None:
    with suppress(DocumentError):
        if is_utf8(raw):
            return Descriptor.parse(raw) if strictly else sound_descriptor(raw)
    return None
