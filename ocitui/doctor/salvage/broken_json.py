"""JSON that is broken somewhere, walked for the objects in it that are whole.

An object is whole where its braces match and its members stand in order; what a scalar is matters to nobody here, so
that a `NaN` does not hide where its object ends. A walk begins at an opening brace and ends with the object or at the
first byte that cannot go on. Which braces open an object depends on where strings begin, and damage can turn that
round: after a walk that failed, the braces that it took for text are to be tried as well.

A walk marks every brace that it passes, and none is passed twice in the same sense, so that the work grows with the
length of the text, whatever is in it.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from enum import IntEnum

import msgspec

from ocitui.cache import Descriptor

_SPACE = rb"[ \t\r\n]*+"
# A string ends with its line at the latest: no writer of JSON breaks one, so that a lost quote costs a line, no more.
# Nor does one go on through NULs: such a hole may have taken any number of brackets with it.
_TEXT = rb"[^\"\\\r\n\x00]*+(?:\\[^\r\n\x00][^\"\\\r\n\x00]*+)*+"
_STRING = b'"' + _TEXT + b'"'
_KEY = b'"(' + _TEXT + b')"' + _SPACE + b":"
_VALUE = _SPACE + b"(?:" + _STRING + rb"|[-+.0-9A-Za-z]++|(?P<open>[\[{]))"

# The first member belongs to it, so that most of what begins no object is passed over at once.
BEGINNING = re.compile(rb"\{" + _SPACE + _KEY + _VALUE + b"(?(open)|" + _SPACE + rb"[,}])")
_MEMBER = re.compile(_SPACE + _KEY + _VALUE)
_ELEMENT = re.compile(_VALUE)
_COMMA = re.compile(_SPACE + b",")
_FOLLOWING = re.compile(_SPACE + b"," + _SPACE + rb"(?=\{)")
_OBJECT = ord("{")
_CLOSING = {_OBJECT: re.compile(_SPACE + rb"\}"), ord("["): re.compile(_SPACE + rb"\]")}
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
_MEDIA_TYPE, _DIGEST, _SIZE, _SCHEMA_VERSION, _MANIFESTS, _LAYERS = (1 << bit for bit in range(6))
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


_KEYS = {
    b"mediaType": _MEDIA_TYPE,
    b"digest": _DIGEST,
    b"size": _SIZE,
    b"schemaVersion": _SCHEMA_VERSION,
    b"manifests": _MANIFESTS,
    b"layers": _LAYERS,
}


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
    and ``shortcut`` spares it most entries.

    ``whole`` is the object it began with, None where that is broken; ``inner`` are the whole values in it that stand
    where entries stand, in order, ``others`` those that look like descriptors and stand elsewhere. ``stray`` is a
    member's value, right behind which a broken object breaks off. ``end`` is that place, or the whole object's end.
    """

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
        known = _KEYS.get(key, 0)
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
        """Note the value that was closed. Where an object took the place of the list of entries, or the only entry
        did, what looks like a descriptor is one."""
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
