"""JSON read into the daemon's types, by the rules of serde and serde_json: the reader whose word is final.

A known key twice is an error, an unknown one is ignored; a map takes the last of two equal keys; null is absent for
an optional field only; a struct may also be written as an array of all its fields in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isinf
from typing import Any, NoReturn, Protocol

import msgspec

from .errors import DocumentError

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = {
    b'"': '"', b"\\": "\\", b"/": "/", b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t",
}  # fmt: skip
_HIGH, _LOW, _LAST = 0xD800, 0xDC00, 0xDFFF
_WORDS: dict[bytes, tuple[bytes, bool | None]] = {
    b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False),
}  # fmt: skip


class Scanner:
    """A position in JSON text, and the steps that move it."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.at = position

    def fail(self, message: str, *, at: int | None = None) -> NoReturn:
        """Raise DocumentError at the bytes read so far, or at offset ``at``."""
        end = min(self.at if at is None else at, len(self.data))
        line = self.data.count(b"\n", 0, end) + 1
        column = end - (self.data.rfind(b"\n", 0, end) + 1)
        raise DocumentError(message, line=line, column=column)

    def fail_next(self, message: str) -> NoReturn:
        """Raise DocumentError at the byte that comes next."""
        self.fail(message, at=self.at + 1)

    def peek(self) -> bytes:
        """The next byte after white space; empty at the end."""
        if (space := _SPACE.match(self.data, self.at)) is not None:
            self.at = space.end()
        return self.data[self.at : self.at + 1]

    def peek_value(self) -> bytes:
        byte = self.peek()
        if not byte:
            self.fail_next("EOF while parsing a value")
        return byte

    def end(self) -> None:
        """Nothing but white space may follow."""
        if self.peek():
            self.fail_next("trailing characters")

    def word(self) -> bool | None:
        """Read null, true or false, whose first letter is next."""
        word, value = _WORDS[self.data[self.at : self.at + 1]]
        for expected in word:
            if self.at >= len(self.data):
                self.fail("EOF while parsing a value")
            self.at += 1
            if self.data[self.at - 1] != expected:
                self.fail("expected ident")
        return value

    def string(self) -> str:
        """Read a string whose opening quote is next, with all its checks."""
        self.at += 1
        pieces: list[bytes] = []
        while True:
            start = self.at
            byte = self._plain()
            pieces.append(self.data[start : self.at - 1])
            if byte == b'"':
                break
            pieces.append(self._escape().encode())
        try:
            return b"".join(pieces).decode()
        except UnicodeDecodeError:
            self.fail("invalid unicode code point")

    def _plain(self, *, ignored: bool = False) -> bytes:
        """Step over plain bytes and the quote or backslash after them, which is returned."""
        if (plain := _PLAIN.match(self.data, self.at)) is not None:
            self.at = plain.end()
        byte = self._next_in_string()
        if byte not in b'"\\':
            # serde_json does not step over the character in a string it ignores.
            at = self.at - 1 if ignored else self.at
            self.fail("control character (\\u0000-\\u001F) found while parsing a string", at=at)
        return byte

    def _next_in_string(self) -> bytes:
        if self.at >= len(self.data):
            self.fail("EOF while parsing a string")
        self.at += 1
        return self.data[self.at - 1 : self.at]

    def _escape(self) -> str:
        byte = self._next_in_string()
        if byte != b"u":
            return _ESCAPES.get(byte) or self.fail("invalid escape")
        unit = self._hex()
        if _LOW <= unit <= _LAST:
            self.fail("lone leading surrogate in hex escape")
        if not _HIGH <= unit < _LOW:
            return chr(unit)
        for expected in (b"\\", b"u"):
            if self._next_in_string() != expected:
                self.fail("unexpected end of hex escape")
        low = self._hex()
        if not _LOW <= low <= _LAST:
            self.fail("lone leading surrogate in hex escape")
        return chr(0x10000 + ((unit - _HIGH) << 10) + (low - _LOW))

    def _hex(self) -> int:
        if self.at + 4 > len(self.data):
            self.at = len(self.data)
            self.fail("EOF while parsing a string")
        digits = self.data[self.at : self.at + 4]
        if not _HEX.match(digits):
            self.at += next(i for i, digit in enumerate(digits, 1) if digit not in b"0123456789abcdefABCDEF")
            self.fail("invalid escape")
        self.at += 4
        return int(digits, 16)

    def number(self) -> int | float:
        """Read a number whose first byte is next: an int where serde_json keeps one, within 64 bits and not -0."""
        start = self.at
        integral = self._skip_number("EOF while parsing a value")
        text = self.data[start : self.at].decode("ascii")
        # int() refuses thousands of digits, and none so long is an integer for the daemon.
        if integral and text != "-0" and len(text) <= len("-9223372036854775808"):
            value = int(text)
            if -(2**63) <= value < 2**64:
                return value
        number = float(text)
        if isinf(number):
            self.fail("number out of range")
        return number

    def _skip_number(self, truncated: str) -> bool:
        """Step over a number of RFC 8259; True where it is an integer. ``truncated`` is said where the text ends."""
        data = self.data
        if data[self.at : self.at + 1] == b"-":
            self.at += 1
        first = data[self.at : self.at + 1]
        if first == b"0":
            self.at += 1
            if data[self.at : self.at + 1].isdigit():
                self.fail_next("invalid number")
        elif not self._skip_digits():
            self.fail_next("invalid number" if first else truncated)
        end_of_integer = self.at
        for marks, signs in (((b".",), ()), ((b"e", b"E"), (b"+", b"-"))):
            if data[self.at : self.at + 1] in marks:
                self.at += 2 if data[self.at + 1 : self.at + 2] in signs else 1
                if not self._skip_digits():
                    self.fail_next("invalid number" if self.at < len(data) else truncated)
        return self.at == end_of_integer

    def _skip_digits(self) -> bool:
        start = self.at
        if (digits := _DIGITS.match(self.data, start)) is not None:
            self.at = digits.end()
        return self.at > start

    def ignore_value(self) -> None:
        """Step over any value, checking its grammar only."""
        enclosing: list[bytes] = []
        while True:
            opened = self._ignore_scalar_or_open()
            if opened:
                enclosing.append(opened)
            if not self._ignore_to_next(enclosing, after_value=not opened):
                return
            if enclosing[-1] == b"{":
                self._ignore_key()

    def _ignore_scalar_or_open(self) -> bytes:
        byte = self.peek_value()
        match byte:
            case b"[" | b"{":
                self.at += 1
                return byte
            case b'"':
                self._ignore_string()
            case b"n" | b"t" | b"f":
                self.word()
            case _ if byte in b"-0123456789":
                self._skip_number("invalid number")
            case _:
                self.fail_next("expected value")
        return b""

    def _ignore_to_next(self, enclosing: list[bytes], *, after_value: bool) -> bool:
        """Close what ends here and step over a comma; False once nothing is open any more."""
        while enclosing:
            frame = enclosing[-1]
            byte = self.peek()
            if not byte:
                self.fail_next(f"EOF while parsing {'a list' if frame == b'[' else 'an object'}")
            if byte == b"," and after_value:
                self.at += 1
                return True
            if byte == (b"]" if frame == b"[" else b"}"):
                self.at += 1
                enclosing.pop()
                after_value = True
            elif after_value:
                self.fail_next(f"expected `,` or `{']' if frame == b'[' else '}'}`")
            else:
                return True
        return False

    def _ignore_key(self) -> None:
        byte = self.peek()
        if byte != b'"':
            self.fail_next("key must be a string" if byte else "EOF while parsing an object")
        self._ignore_string()
        self.colon()

    def _ignore_string(self) -> None:
        self.at += 1
        while self._plain(ignored=True) != b'"':
            byte = self._next_in_string()
            if byte == b"u":
                self._hex()
            elif byte not in _ESCAPES:
                self.fail("invalid escape")

    def colon(self) -> None:
        byte = self.peek()
        if byte != b":":
            self.fail_next("expected `:`" if byte else "EOF while parsing an object")
        self.at += 1


# Decoded JSON has no better type than Any; the views in documents.py give it one.
Value = Any


class Type(Protocol):
    """A type of the daemon's. Where a class has ``expected``, that is what serde says it wants."""

    def read(self, scanner: Scanner) -> Value: ...


_DEBUG_ESCAPES = {"\0": "\\0", "\t": "\\t", "\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def _debug(text: str) -> str:
    """The text as Rust's ``{:?}`` shows it: quoted, and nothing in it that could command a terminal."""
    shown = (_DEBUG_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text)
    return f'"{"".join(shown)}"'


def _refuse(scanner: Scanner, expected: str) -> NoReturn:
    """Say what stands here instead, as serde_json's peek_invalid_type does."""
    byte = scanner.peek_value()
    match byte:
        case b"n" | b"t" | b"f":
            seen = {None: "null", True: "boolean `true`", False: "boolean `false`"}[scanner.word()]
        case b'"':
            seen = f"string {_debug(scanner.string())}"
        case b"[":
            seen = "sequence"
        case b"{":
            seen = "map"
        case _ if byte in b"-0123456789":
            number = scanner.number()
            seen = f"integer `{number}`" if isinstance(number, int) else f"floating point `{number}`"
        case _:
            scanner.fail_next("expected value")
    scanner.fail(f"invalid type: {seen}, expected {expected}")


class String(msgspec.Struct, frozen=True):
    def read(self, scanner: Scanner) -> str:
        if scanner.peek_value() != b'"':
            _refuse(scanner, "a string")
        return scanner.string()


class Integer(msgspec.Struct, frozen=True):
    expected: str
    low: int
    high: int

    def read(self, scanner: Scanner) -> int:
        if scanner.peek_value() not in b"-0123456789":
            _refuse(scanner, self.expected)
        number = scanner.number()
        if isinstance(number, float):
            scanner.fail(f"invalid type: floating point `{number}`, expected {self.expected}")
        if not self.low <= number <= self.high:
            scanner.fail(f"invalid value: integer `{number}`, expected {self.expected}")
        return number


class Boolean(msgspec.Struct, frozen=True):
    def read(self, scanner: Scanner) -> bool:
        if scanner.peek_value() not in b"tf":
            _refuse(scanner, "a boolean")
        return bool(scanner.word())


class Optional(msgspec.Struct, frozen=True):
    of: Type

    def read(self, scanner: Scanner) -> Value:
        if scanner.peek_value() == b"n":
            return scanner.word()
        return self.of.read(scanner)


class Sequence(msgspec.Struct, frozen=True):
    of: Type

    def read(self, scanner: Scanner) -> list[Value]:
        if scanner.peek_value() != b"[":
            _refuse(scanner, "a sequence")
        scanner.at += 1
        items: list[Value] = []
        while next_element(scanner, first=not items):
            items.append(self.of.read(scanner))
        scanner.at += 1
        return items


def next_element(scanner: Scanner, *, first: bool) -> bool:
    """Step to an array's next element; False, and nothing read, at its end."""
    byte = scanner.peek()
    if byte == b"]":
        return False
    if not byte:
        scanner.fail_next("EOF while parsing a list")
    if first:
        return True
    if byte != b",":
        scanner.fail_next("expected `,` or `]`")
    scanner.at += 1
    if scanner.peek_value() == b"]":
        scanner.fail_next("trailing comma")
    return True


def _keys(scanner: Scanner) -> Iterator[str]:
    """Step through an object whose brace is next: after each key, to the colon and value that the caller reads."""
    scanner.at += 1
    byte = scanner.peek()
    while byte != b"}":
        if byte != b'"':
            scanner.fail_next("key must be a string" if byte else "EOF while parsing an object")
        yield scanner.string()
        byte = scanner.peek()
        if byte == b",":
            scanner.at += 1
            byte = scanner.peek_value()
            if byte == b"}":
                scanner.fail_next("trailing comma")
        elif byte != b"}":
            scanner.fail_next("expected `,` or `}`" if byte else "EOF while parsing an object")
    scanner.at += 1


class Map(msgspec.Struct, frozen=True):
    of: Type

    def read(self, scanner: Scanner) -> dict[str, Value]:
        if scanner.peek_value() != b"{":
            _refuse(scanner, "a map")
        values: dict[str, Value] = {}
        for key in _keys(scanner):
            scanner.colon()
            values[key] = self.of.read(scanner)
        return values


class Struct(msgspec.Struct, frozen=True):
    """``fields`` in the order of the Rust struct, by their names in JSON."""

    expected: str
    fields: Mapping[str, Type]

    def read(self, scanner: Scanner) -> dict[str, Value]:
        byte = scanner.peek_value()
        if byte == b"{":
            return self._read_object(scanner)
        if byte == b"[":
            return self._read_array(scanner)
        _refuse(scanner, self.expected)

    def _read_object(self, scanner: Scanner) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key in _keys(scanner):
            field = self.fields.get(key)
            if key in values:
                scanner.peek()
                scanner.fail(f"duplicate field `{key}`")
            scanner.colon()
            if field is None:
                scanner.ignore_value()
            else:
                values[key] = field.read(scanner)
        for key, field in self.fields.items():
            if key not in values and not isinstance(field, Optional):
                scanner.fail(f"missing field `{key}`")
        return values

    def _read_array(self, scanner: Scanner) -> dict[str, Value]:
        scanner.at += 1
        values: dict[str, Value] = {}
        for key, field in self.fields.items():
            if not next_element(scanner, first=not values):
                scanner.at += 1
                elements = "1 element" if len(self.fields) == 1 else f"{len(self.fields)} elements"
                scanner.fail(f"invalid length {len(values)}, expected {self.expected} with {elements}")
            values[key] = field.read(scanner)
        byte = scanner.peek()
        if byte == b",":
            scanner.at += 1
            scanner.fail_next("trailing comma" if scanner.peek() == b"]" else "trailing characters")
        if byte != b"]":
            scanner.fail_next("trailing characters" if byte else "EOF while parsing a list")
        scanner.at += 1
        return values
