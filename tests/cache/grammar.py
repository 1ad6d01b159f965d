"""JSON as an operator's disk may hold it: built along the daemon's types, then bent and broken."""

from __future__ import annotations

from hypothesis import strategies as st

from ocitui.cache.strict_json import Boolean, Integer, Map, Optional, Sequence, String, Struct, Type

Text = st.SearchStrategy[bytes]

SCALARS = [
    b"null", b"true", b"false", b"0", b"-0", b"-1", b"2", b"1.0", b"1.5", b"1e2", b"-0.0", b"0e1", b"1e400", b"1e-400",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809",
    b"18446744073709551616", b"4294967295", b"4294967296", b"1" * 30, b"1" * 5000, b"00", b"01", b"-", b"+1", b"1.",
    b".5", b"1e", b"1e+", b"nul", b"tru", b"NaN", b"Infinity", b"'x'", b"//", b"\x00", b"\xa0",
]  # fmt: skip
STRINGS = [
    b"", b"a", b"sha256:ab", b"\xc3\xa9", b"\\u0041", b"\\ud83d\\ude00", b"\\ud800", b"\\udc00", b"\\ud800\\u0041",
    b"\\u0000", b"\\u12", b"\\x", b"\\", b'\\"', b"\\\\", b"\\/", b"\x7f", b"\x00", b"\x1f", b"\n", b"\xff", b"\xc3",
    b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"-0", b":-0,", b" -0 ", b"\xef\xbb\xbf",
]  # fmt: skip
_PLAIN = st.sampled_from([b"a", b"b", b"sha256:ab", b"\\u0041"])
_SPACE = st.sampled_from([b"", b"", b"", b"", b" ", b"\n", b"\t", b"\r\n"])
_SCALAR = st.sampled_from(SCALARS)
_NUMBER = st.sampled_from([b"2", b"0", b"428"])
_ODD_NUMBER = st.just(b"-0") | _SCALAR
_STRING = st.sampled_from(STRINGS).map(lambda text: b'"' + text + b'"')


def _join(parts: list[bytes], brackets: bytes, space: bytes) -> bytes:
    inner = (space + b"," + space).join(parts)
    return brackets[:1] + space + inner + space + brackets[1:]


def _array(items: Text, most: int = 2) -> Text:
    return st.builds(_join, st.lists(items, max_size=most), st.just(b"[]"), _SPACE)


def _object(keys: Text, values: Text, most: int = 3) -> Text:
    pairs = st.builds(lambda key, value: b'"' + key + b'":' + value, keys, values)
    return st.builds(_join, st.lists(pairs, max_size=most), st.just(b"{}"), _SPACE)


ANY_VALUE = st.recursive(
    _SCALAR | _STRING, lambda inner: _array(inner) | _object(st.sampled_from(STRINGS), inner), max_leaves=4
)
# What a daemon skips without a look at more than its grammar.
_UNKNOWN_VALUES = st.sampled_from([b"1", b"-0", b'{"x":1,"x":2}', b"[-0]", b'"\\ud800"', b'"\xff"', b"[[[]]]", b'"-0"'])
_UNKNOWN_KEYS = st.sampled_from([b"a", b"\\u0061", b"", b"x", b"os.version", b"platform"])


ODDITIES = ["repeated", "unknown", "array", "escaped", "missing", "number", "string", "type"]
"""What a document may have that is odd, and mostly wrong."""


def odd(draw: st.DrawFn, oddities: frozenset[str], kind: str) -> bool:
    """True now and then, in a document that may have oddities of this kind."""
    return kind in oddities and draw(st.integers(0, 3)) == 3


@st.composite
def value_of(draw: st.DrawFn, type_: Type, oddities: frozenset[str]) -> bytes:
    """JSON for one of the daemon's types, with oddities of these kinds."""
    if odd(draw, oddities, "type"):
        return draw(ANY_VALUE)
    match type_:
        case Optional():
            return b"null" if draw(st.integers(0, 5)) == 5 else draw(value_of(type_.of, oddities))
        case String():
            return draw(_STRING) if odd(draw, oddities, "string") else b'"' + draw(_PLAIN) + b'"'
        case Integer():
            return draw(_ODD_NUMBER if odd(draw, oddities, "number") else _NUMBER)
        case Boolean():
            return draw(st.sampled_from([b"true", b"false"]))
        case Sequence():
            return draw(_array(value_of(type_.of, oddities)))
        case Map():
            return draw(_object(_PLAIN, value_of(type_.of, oddities)))
        case Struct():
            return draw(_struct(type_, oddities))
    raise AssertionError(type_)


@st.composite
def _struct(draw: st.DrawFn, type_: Struct, oddities: frozenset[str]) -> bytes:
    space = draw(_SPACE)
    if odd(draw, oddities, "array"):
        return _join([draw(value_of(field, oddities)) for field in type_.fields.values()], b"[]", space)
    members: list[tuple[bytes, bytes]] = []
    for name, field in type_.fields.items():
        present = draw(st.booleans()) if isinstance(field, Optional) else not odd(draw, oddities, "missing")
        if present:
            key = draw(_escaped(name)) if odd(draw, oddities, "escaped") else name.encode()
            members.append((key, draw(value_of(field, oddities))))
    if odd(draw, oddities, "unknown"):
        members.append((draw(_UNKNOWN_KEYS), draw(_UNKNOWN_VALUES)))
    if members and odd(draw, oddities, "repeated"):
        members.append(draw(st.sampled_from(members)))
    if draw(st.integers(0, 9)) == 9:
        members = draw(st.permutations(members))
    return _join([b'"' + key + b'":' + value for key, value in members], b"{}", space)


@st.composite
def _escaped(draw: st.DrawFn, name: str) -> bytes:
    """A name with one of its letters written as an escape."""
    key = name.encode()
    at = draw(st.integers(0, len(key) - 1))
    return key[:at] + b"\\u%04x" % key[at] + key[at + 1 :]


@st.composite
def document(draw: st.DrawFn, type_: Struct) -> bytes:
    """A whole document, perhaps with oddities, cut short, with a wrong byte, or with more after it."""
    oddities = draw(st.frozensets(st.sampled_from(ODDITIES), max_size=2))
    raw = draw(value_of(type_, oddities))
    at = draw(st.integers(0, len(raw) - 1))
    match draw(st.integers(0, 11)):
        case 9:
            return raw[:at]
        case 10:
            return raw[:at] + draw(st.binary(min_size=1, max_size=1)) + raw[at + 1 :]
        case 11:
            return raw + draw(st.sampled_from([b"x", b"{}", b"\x00", b",", b"\xef\xbb\xbf", b" \n"]))
    return raw
