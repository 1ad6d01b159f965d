"""The strict reader: what serde_json and the daemon's types accept, and what they say where they refuse.

The texts and places of the errors are those of serde_json 1.0.87, which was run on the same bytes.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import documents as schema
from ocitui.cache.documents import read_strictly
from ocitui.cache.errors import DocumentError
from ocitui.cache.strict_json import Struct
from tests.cache.grammar import document
from tests.tools import CONFORMANCE, recorded

FULL = (
    b'{"mediaType":"m","digest":"d","size":1,"urls":["u"],"annotations":{"k":"v"},'
    b'"platform":{"architecture":"amd64","os":"linux","os_version":"1","os_features":["f"],"variant":"v8","features":[]},'
    b'"artifactType":"t","data":"ZA=="}'
)
SCHEMAS = [schema.DESCRIPTOR, schema.IMAGE_MANIFEST, schema.IMAGE_CONFIGURATION, schema.IMAGE_INDEX]


def descriptor(more: bytes = b"", *, size: bytes = b"1") -> bytes:
    """A descriptor with these members besides the three it must have."""
    return b'{"mediaType":"m","digest":"d","size":' + size + b"," * bool(more) + more + b"}"


def read(raw: bytes) -> dict[str, Any]:
    return read_strictly(raw, schema.DESCRIPTOR)


def refusal(raw: bytes, strict: Struct = schema.DESCRIPTOR) -> str:
    """What the daemon would log."""
    with pytest.raises(DocumentError) as refused:
        read_strictly(raw, strict)
    error = refused.value
    return f"{error.message} at line {error.line} column {error.column}"


def accepted(raw: bytes, strict: Struct = schema.DESCRIPTOR) -> bool:
    try:
        read_strictly(raw, strict)
    except DocumentError:
        return False
    return True


LOADED_OR_RESET = [record for record in recorded("indexes.json") if record["outcome"] in ("loaded", "reset")]


@pytest.mark.parametrize("record", LOADED_OR_RESET, ids=lambda record: record["case"])
def test_every_recorded_index_is_accepted_or_refused_as_the_daemon_does(record: dict[str, Any]) -> None:
    raw = (CONFORMANCE / record["input"]).read_bytes()
    assert accepted(raw, schema.IMAGE_INDEX) is (record["outcome"] == "loaded")
    if record["outcome"] == "loaded":
        entries = read_strictly(raw, schema.IMAGE_INDEX)["manifests"]
        assert [_kept(entry) for entry in entries] == record["list"]


def _kept(fields: dict[str, Any]) -> dict[str, Any]:
    """What the daemon writes back: no null."""
    return {key: _kept(value) if key == "platform" else value for key, value in fields.items() if value is not None}


def test_every_field_is_read() -> None:
    fields = read(FULL)
    assert list(fields) == list(schema.DESCRIPTOR.fields)
    assert fields["annotations"] == {"k": "v"}
    assert list(fields["platform"]) == list(schema.PLATFORM.fields)


@pytest.mark.parametrize("name", ["urls", "annotations", "platform", "artifactType", "data"])
def test_an_optional_field_may_be_null(name: str) -> None:
    assert read(descriptor(b'"%s":null' % name.encode()))[name] is None


@pytest.mark.parametrize("name", ["mediaType", "digest", "size"])
def test_a_required_field_may_be_neither_null_nor_absent(name: str) -> None:
    others = [
        b'"%s":%s' % (key, value) for key, value in ((b"mediaType", b'"m"'), (b"digest", b'"d"'), (b"size", b"1"))
    ]
    without = [member for member in others if name.encode() not in member]
    assert refusal(b"{" + b",".join(without) + b"}").startswith(f"missing field `{name}`")
    assert refusal(b"{" + b",".join([*without, b'"%s":null' % name.encode()]) + b"}").startswith("invalid type: null")


@pytest.mark.parametrize("name", [b"digest", b"\\u0064igest", b"diges\\u0074", b"size", b"\\u0073ize"])
def test_a_known_field_twice_is_refused_in_any_spelling(name: bytes) -> None:
    plain = name.replace(b"\\u0064", b"d").replace(b"\\u0074", b"t").replace(b"\\u0073", b"s").decode()
    assert refusal(descriptor(b'"%s":1' % name)).startswith(f"duplicate field `{plain}`")


def test_an_optional_field_twice_is_refused_even_where_both_are_null() -> None:
    assert refusal(descriptor(b'"data":null,"data":null')) == "duplicate field `data` at line 1 column 57"


def test_unknown_fields_and_the_keys_inside_them_may_repeat() -> None:
    assert "x" not in read(descriptor(b'"x":1,"x":{"digest":1,"digest":2},"":0,"":0'))


def test_a_map_takes_the_last_of_equal_keys() -> None:
    assert read(descriptor(b'"annotations":{"a":"1","b":"2","\\u0061":"3"}'))["annotations"] == {"a": "3", "b": "2"}


def test_a_struct_may_be_an_array_of_all_its_fields() -> None:
    fields = read(b'["m","d",1,null,null,["amd64","linux",null,null,null,null],null,null]')
    assert (fields["mediaType"], fields["size"], fields["platform"]["os"]) == ("m", 1, "linux")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"[]", "invalid length 0, expected struct Descriptor with 8 elements at line 1 column 2"),
        (b'["m","d",1]', "invalid length 3, expected struct Descriptor with 8 elements at line 1 column 11"),
        (b'["m","d",1,null,null,null,null,null,1]', "trailing characters at line 1 column 37"),
        (b'["m","d",1,null,null,null,null,null,]', "trailing comma at line 1 column 37"),
        (b'["m","d",1,null,null,null,null,null', "EOF while parsing a list at line 1 column 35"),
        (b'["m" "d"]', "expected `,` or `]` at line 1 column 6"),
    ],
)
def test_an_array_must_hold_each_field_once(raw: bytes, message: str) -> None:
    assert refusal(raw) == message


@pytest.mark.parametrize("size", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_a_size_is_any_signed_integer_of_64_bits(size: int) -> None:
    assert read(descriptor(size=b"%d" % size))["size"] == size


@pytest.mark.parametrize(
    "size",
    [
        b"-0", b"1.0", b"1e2", b"1E+2", b"0.0", b"-0e0", b"%d" % 2**63, b"%d" % (-(2**63) - 1), b"%d" % 2**64,
        b"9" * 30, b"-" + b"9" * 30, b"9" * 5000, b"1e400", b"1e-400", b"01", b"-01", b"+1", b"1.", b".5", b"1e",
        b"0x1", b"-", b"1_0", b"NaN", b"Infinity", b'"1"', b"true", b"[1]", b"\xd9\xa3",
    ],
)  # fmt: skip
def test_anything_else_is_no_size(size: bytes) -> None:
    assert not accepted(descriptor(size=size))


@pytest.mark.parametrize(("version", "ok"), [(0, True), (2**32 - 1, True), (2**32, False), (-1, False), (2**64, False)])
def test_a_schema_version_is_an_unsigned_integer_of_32_bits(version: int, ok: bool) -> None:
    assert accepted(b'{"schemaVersion":%d,"manifests":[]}' % version, schema.IMAGE_INDEX) is ok


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (b"%d" % 2**63, "invalid value: integer `9223372036854775808`, expected i64 at line 1 column 56"),
        (b'"1"', 'invalid type: string "1", expected i64 at line 1 column 40'),
        (b"null", "invalid type: null, expected i64 at line 1 column 41"),
        (b"true", "invalid type: boolean `true`, expected i64 at line 1 column 41"),
        (b"[]", "invalid type: sequence, expected i64 at line 1 column 37"),
        (b"{}", "invalid type: map, expected i64 at line 1 column 37"),
        (b"1e400", "number out of range at line 1 column 42"),
        (b"01", "invalid number at line 1 column 39"),
        (b"-", "invalid number at line 1 column 39"),
        (b"nul", "expected ident at line 1 column 41"),
        (b"+1", "expected value at line 1 column 38"),
        (b"", "expected value at line 1 column 38"),
    ],
)
def test_a_wrong_number_is_told_by_what_stands_there(size: bytes, message: str) -> None:
    assert refusal(descriptor(size=size)) == message


@pytest.mark.parametrize(
    "number",
    [b"-0", b"1" * 30, b"1" * 5000, b"1e400", b"-1E-99999999999999999999", b"0.1e+2", b"1" * 400 + b".5"],
)
def test_an_ignored_number_may_be_any_of_json(number: bytes) -> None:
    assert accepted(descriptor(b'"x":' + number))
    assert accepted(descriptor(b'"x":[' + number + b"]"))


@pytest.mark.parametrize("number", [b"-", b"01", b"1.", b".1", b"1e", b"1e+", b"--1", b"+1", b"1_0", b"0x1", b"NaN"])
def test_an_ignored_number_must_still_be_json(number: bytes) -> None:
    assert not accepted(descriptor(b'"x":' + number))
    assert not accepted(descriptor(b'"x":{"y":' + number + b"}"))


@pytest.mark.slow
@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":[', b"]}]")])
def test_ignored_values_may_be_of_any_depth(opened: bytes, closed: bytes) -> None:
    depth = 100_000
    assert accepted(descriptor(b'"x":' + opened * depth + b"0" + closed * depth))
    depth = 10_000  # beyond Python's own limit
    assert not accepted(descriptor(b'"x":' + opened * depth + b"0" + closed * (depth - 1)))
    assert not accepted(descriptor(b'"urls":' + opened * depth + b"0" + closed * depth))
    assert not accepted(opened * depth)


@pytest.mark.parametrize(
    "value",
    [
        b"nul", b"nulll", b"True", b"undefined", b"[1,]", b"[,1]", b"[1 2]", b"[1", b"[1}", b'{"a"}', b'{"a":}',
        b"{a:1}", b'{"a":1,}', b'{,"a":1}', b'{"a":1 "b":2}', b'{"a":1]', b"{1:1}", b'"', b"'a'", b'"\\x"', b'"\\u12"',
        b'"\\u12g4"', b'"\n"', b'"\x00"', b"// c\n1", b"/**/1", b"\xa01", b"\x0b1", b"\x0c1", b"",
    ],
)  # fmt: skip
def test_an_ignored_value_must_still_be_json(value: bytes) -> None:
    assert not accepted(descriptor(b'"x":' + value))


@pytest.mark.parametrize(
    "text", [b"\\ud800", b"\\udc00", b"\\ud800\\u0041", b"\\udc00\\ud800", b"\xff", b"\xed\xa0\x80"]
)
def test_text_that_is_no_unicode_passes_only_where_it_is_ignored(text: bytes) -> None:
    assert accepted(descriptor(b'"x":"%s"' % text))
    assert accepted(descriptor(b'"x":{"%s":["%s"]}' % (text, text)))
    assert not accepted(descriptor(b'"data":"%s"' % text))
    assert not accepted(descriptor(b'"annotations":{"%s":""}' % text))
    # The key of an unknown field is read before it is known to be unknown.
    assert not accepted(descriptor(b'"%s":1' % text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\\ud800", "unexpected end of hex escape at line 1 column 54"),
        (b"\\ud800\\n", "unexpected end of hex escape at line 1 column 55"),
        (b"\\ud800\\u0041", "lone leading surrogate in hex escape at line 1 column 59"),
        (b"\\udc00", "lone leading surrogate in hex escape at line 1 column 53"),
        (b"\\u12g4", "invalid escape at line 1 column 52"),
        (b"\\x", "invalid escape at line 1 column 49"),
        (b"\xff", "invalid unicode code point at line 1 column 49"),
        (b"\x1f", "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 48"),
    ],
)
def test_wrong_text_is_told_by_its_place(text: bytes, message: str) -> None:
    assert refusal(descriptor(b'"data":"%s"' % text)) == message


def test_every_escape_is_read() -> None:
    raw = descriptor(rb'"data":"\"\\\/\b\f\n\r\t\u0000\u00E9\ud83d\uDE00"')
    assert read(raw)["data"] == '"\\/\b\f\n\r\t\0é😀'


@pytest.mark.parametrize("char", [b"\x7f", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xf4\x8f\xbf\xbf"])
def test_any_other_character_may_stand_in_a_string_as_it_is(char: bytes) -> None:
    assert read(descriptor(b'"data":"%s"' % char))["data"] == char.decode()


@pytest.mark.parametrize("char", [bytes([code]) for code in range(0x20)])
def test_no_control_character_may(char: bytes) -> None:
    assert not accepted(descriptor(b'"data":"%s"' % char))
    assert not accepted(descriptor(b'"x":"%s"' % char))
    assert not accepted(descriptor(b'"x":{"%s":1}' % char))


def test_a_refused_string_is_shown_as_rust_shows_it_and_commands_no_terminal() -> None:
    message = refusal(descriptor(size=rb'"a\"\\\u001b\u0000\n\t\u009b\u202e\u00e9"'))
    assert message.startswith(r'invalid type: string "a\"\\\u{1b}\0\n\t\u{9b}\u{202e}é", expected i64')


@pytest.mark.parametrize("space", [b" ", b"\t", b"\n", b"\r", b" \r\n\t"])
def test_white_space_may_stand_between_all_tokens(space: bytes) -> None:
    tokens = [b"{", b'"mediaType"', b":", b'"m"', b",", b'"digest"', b":", b'"d"', b",", b'"size"', b":", b"1", b"}"]
    assert accepted(space + space.join(tokens) + space)
    for other in (b"\x0b", b"\x0c", b"\xc2\xa0", b"\xef\xbb\xbf", b"\x00"):
        assert not accepted(other.join(tokens))


@pytest.mark.parametrize("after", [b"x", b"{}", b",", b"]", b"\x00", b"\xef\xbb\xbf", b"//"])
def test_nothing_but_white_space_may_follow(after: bytes) -> None:
    assert refusal(descriptor() + b" \n" + after) == "trailing characters at line 2 column 1"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "EOF while parsing a value at line 1 column 0"),
        (b" \n\n", "EOF while parsing a value at line 3 column 0"),
        (b"null", "invalid type: null, expected struct Descriptor at line 1 column 4"),
        (b"\xef\xbb\xbf{}", "expected value at line 1 column 1"),
        (b"{", "EOF while parsing an object at line 1 column 1"),
        (b"{,}", "key must be a string at line 1 column 2"),
        (b"{1:1}", "key must be a string at line 1 column 2"),
        (b'{"digest"}', "expected `:` at line 1 column 10"),
        (b'{"digest":"d" "size":1}', "expected `,` or `}` at line 1 column 15"),
        (b'{"digest":"d",}', "trailing comma at line 1 column 15"),
        (b'{"urls":["u",]}', "trailing comma at line 1 column 14"),
        (b'{"urls":{}}', "invalid type: map, expected a sequence at line 1 column 8"),
        (b'{"annotations":[]}', "invalid type: sequence, expected a map at line 1 column 15"),
        (b'{"x":[1}', "expected `,` or `]` at line 1 column 8"),
        (b'{"x":-', "invalid number at line 1 column 6"),
        (b'{"x":"\n', "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6"),
        (b'{\n "digest": "d",\n "digest"', "duplicate field `digest` at line 3 column 9"),
        (b"{}", "missing field `mediaType` at line 1 column 2"),
    ],
)
def test_an_error_is_told_as_serde_json_tells_it(raw: bytes, message: str) -> None:
    assert refusal(raw) == message


def test_a_cut_document_is_refused_wherever_it_is_cut() -> None:
    told = {end: refusal(FULL[:end]) for end in range(len(FULL))}
    assert {end: message for end, message in told.items() if not message.startswith("EOF while parsing")} == {}


@given(st.binary(max_size=60), st.sampled_from(SCHEMAS))
def test_any_bytes_are_accepted_or_refused(raw: bytes, strict: Struct) -> None:
    accepted(raw, strict)


@given(st.sampled_from(SCHEMAS).flatmap(lambda strict: st.tuples(st.just(strict), document(strict))))
def test_a_refusal_points_into_the_document(case: tuple[Struct, bytes]) -> None:
    strict, raw = case
    if not accepted(raw, strict):
        with pytest.raises(DocumentError) as refused:
            read_strictly(raw, strict)
        lines = raw.split(b"\n")
        assert 1 <= refused.value.line <= len(lines)
        assert 0 <= refused.value.column <= len(lines[refused.value.line - 1])
