"""UTF-16 in what should be UTF-8: found by its NULs, re-encoded, with the way back to the offsets of the original."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_SMALLEST = 16
# Of the characters of an index nearly all are ASCII, and so every second byte of it is NUL; a hole has NULs at both.
_SHARE = 0.3
_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Utf16Text:
    """A part of the broken bytes that holds UTF-16: ``data`` is the same text in UTF-8, a lone surrogate as itself."""

    data: bytes
    encoding: str
    _start: int

    @classmethod
    def find(cls, data: bytes, start: int, end: int) -> Utf16Text | None:
        """The text from ``start`` to ``end``, None where that is not UTF-16."""
        if end - start < _SMALLEST:
            return None
        here, next_ = data[start:end:2].count(0), data[start + 1 : end : 2].count(0)
        if abs(here - next_) < _SHARE * (end - start) / 2:
            return None
        encoding = _MARKS.get(data[start : start + 2])
        if encoding is not None:
            start += 2
        elif here > next_:
            encoding = "utf-16-be"
        else:
            encoding = "utf-16-le"
        end -= (end - start) % 2
        text = data[start:end].decode(encoding, "surrogatepass")
        return cls(text.encode("utf-8", "surrogatepass"), encoding, start)

    def originals(self, offsets: Iterable[int]) -> dict[int, int]:
        """Where in the broken bytes the characters at these offsets of ``data`` stand."""
        places: dict[int, int] = {}
        seen, place = 0, self._start
        for offset in sorted(offsets):
            text = self.data[seen:offset].decode("utf-8", "surrogatepass")
            place += 2 * (len(text) + sum(character > "\uffff" for character in text))
            places[offset] = place
            seen = offset
        return places
