"""Documents read into the daemon's types, by the rules of serde and serde_json.

A known key twice is an error, an unknown one is ignored; a map takes the last of two equal keys; null is absent for
an optional field only; a struct may also be written as an array of all its fields in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from .serde_scanner import Scanner

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
        case b"n":
            scanner.identifier(b"null")
            seen = "null"
        case b"t":
            scanner.identifier(b"true")
            seen = "boolean `true`"
        case b"f":
            scanner.identifier(b"false")
            seen = "boolean `false`"
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


@dataclass(frozen=True, slots=True)
class String:
    expected: str = "a string"

    def read(self, scanner: Scanner) -> str:
        if scanner.peek_value() != b'"':
            _refuse(scanner, self.expected)
        return scanner.string()


@dataclass(frozen=True, slots=True)
class Integer:
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


@dataclass(frozen=True, slots=True)
class Boolean:
    expected: str = "a boolean"

    def read(self, scanner: Scanner) -> bool:
        match scanner.peek_value():
            case b"t":
                scanner.identifier(b"true")
                return True
            case b"f":
                scanner.identifier(b"false")
                return False
            case _:
                _refuse(scanner, self.expected)


@dataclass(frozen=True, slots=True)
class Optional:
    of: Type

    def read(self, scanner: Scanner) -> Value:
        if scanner.peek_value() == b"n":
            scanner.identifier(b"null")
            return None
        return self.of.read(scanner)


@dataclass(frozen=True, slots=True)
class Sequence:
    expected: str
    of: Type

    def read(self, scanner: Scanner) -> list[Value]:
        if scanner.peek_value() != b"[":
            _refuse(scanner, self.expected)
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


def next_key(scanner: Scanner, *, first: bool) -> str | None:
    """Read an object's next key; None, and nothing read, at its end."""
    byte = scanner.peek()
    if byte == b"}":
        return None
    if not byte:
        scanner.fail_next("EOF while parsing an object")
    if not first:
        if byte != b",":
            scanner.fail_next("expected `,` or `}`")
        scanner.at += 1
        byte = scanner.peek_value()
        if byte == b"}":
            scanner.fail_next("trailing comma")
    if byte != b'"':
        scanner.fail_next("key must be a string")
    return scanner.string()


@dataclass(frozen=True, slots=True)
class Map:
    expected: str
    of: Type

    def read(self, scanner: Scanner) -> dict[str, Value]:
        if scanner.peek_value() != b"{":
            _refuse(scanner, self.expected)
        scanner.at += 1
        values: dict[str, Value] = {}
        first = True
        while (key := next_key(scanner, first=first)) is not None:
            first = False
            scanner.colon()
            values[key] = self.of.read(scanner)
        scanner.at += 1
        return values


@dataclass(frozen=True, slots=True)
class Struct:
    """``fields`` in the order of the Rust struct, by their names in JSON."""

    expected: str
    fields: Mapping[str, Type]

    def read(self, scanner: Scanner) -> dict[str, Value]:
        match scanner.peek_value():
            case b"{":
                return self._read_object(scanner)
            case b"[":
                return self._read_array(scanner)
            case _:
                _refuse(scanner, self.expected)

    def _read_object(self, scanner: Scanner) -> dict[str, Value]:
        scanner.at += 1
        values: dict[str, Value] = {}
        first = True
        while (key := next_key(scanner, first=first)) is not None:
            first = False
            field = self.fields.get(key)
            if key in values:
                scanner.peek()
                scanner.fail(f"duplicate field `{key}`")
            scanner.colon()
            if field is None:
                scanner.ignore_value()
            else:
                values[key] = field.read(scanner)
        scanner.at += 1
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
