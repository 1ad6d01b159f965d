"""What stands before and after an object in broken JSON, and so whether it was an element of the list of entries."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from enum import Enum

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
