import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.tui.widgets.document_text import lex
from ocitui.words.documents import DOCUMENT_CHUNK, NotIndentedError, SupersededError, indent_document, indented_size

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
JSONISH = st.text(st.sampled_from('"\\{}[]:, \t-0123.eEtruefalsn\u0085é\x00x'))


def kinds(text: str, *, inside_string: bool = False) -> list[tuple[str, str]]:
    return [(part, kind) for part, kind in lex(text, inside_string=inside_string) if kind != "plain"]


def always() -> bool:
    return True


@given(st.text() | JSONISH, st.booleans())
def test_tokens_joined_are_the_line(text: str, inside_string: bool) -> None:
    parts = [part for part, _ in lex(text, inside_string=inside_string)]
    assert "".join(parts) == text
    assert all(parts)


@given(JSON)
def test_every_scalar_is_one_token_of_its_kind(value: object) -> None:
    scalars: dict[str, type | tuple[type, ...]] = {"string": str, "number": (int, float), "literal": (bool, type(None))}
    for text, kind in kinds(json.dumps(value, ensure_ascii=False)):
        if kind in scalars:
            assert isinstance(json.loads(text), scalars[kind])


@given(JSON, st.data())
def test_a_line_cut_within_a_string_goes_on_as_it_would_whole(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    runs = lex(text)
    strings = [at for at, (_, kind) in enumerate(runs) if kind in ("key", "string")]
    if not strings:
        return
    at = data.draw(st.sampled_from(strings))
    string, kind = runs[at]
    cut = data.draw(st.sampled_from([cut for cut in range(1, len(string)) if not escaped(string, cut)]))
    rest = "".join(part for part, _ in runs[at + 1 :])
    assert lex(string[cut:] + rest, inside_string=True) == [(string[cut:], kind), *runs[at + 1 :]]


def escaped(text: str, at: int) -> bool:
    before = text[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('  "a": 1,', [('"a"', "key"), (":", "punctuation"), ("1", "number"), (",", "punctuation")]),
        ('"a" : "b:c"', [('"a"', "key"), (":", "punctuation"), ('"b:c"', "string")]),
        ('"a\\":"', [('"a\\":"', "string")]),
        ('"a\\', [('"a\\', "string")]),
        ("-1.5e+3 true null", [("-1.5e+3", "number"), ("true", "literal"), ("null", "literal")]),
        ("trueish xtrue", []),
    ],
)
def test_kinds(text: str, expected: list[tuple[str, str]]) -> None:
    assert kinds(text) == expected


def test_a_line_that_begins_within_a_key() -> None:
    assert kinds('b\\"c": 1', inside_string=True) == [('b\\"c"', "key"), (":", "punctuation"), ("1", "number")]


@given(JSON)
def test_the_size_laid_out_is_foreseen(value: object) -> None:
    raw = json.dumps(value).encode()
    laid_out = len(indent_document(raw, always))
    assert laid_out <= indented_size(raw, always) <= 4 * laid_out + 16


def test_brackets_in_strings_and_escapes_across_chunks_do_not_count() -> None:
    for shift in range(3):
        text = b"[" + b" " * shift + b'"' + b"\\\\" * (DOCUMENT_CHUNK // 2) + b'\\"[[[[[[",1]'
        assert indented_size(text, always) < len(text) + 16


def test_what_would_grow_beyond_measure_is_not_laid_out() -> None:
    deep = b"[" * 900 + b",".join([b"1"] * 100_000) + b"]" * 900
    with pytest.raises(NotIndentedError, match="173M"):
        indent_document(deep, always)
    with pytest.raises(msgspec.DecodeError):
        indent_document(deep[:-1], always)
    with pytest.raises(NotIndentedError, match="deeply"):
        indent_document(b"[" * 100_000 + b"]" * 100_000, always)


def test_a_superseded_document_is_given_up() -> None:
    with pytest.raises(SupersededError):
        indent_document(b"[" + b"1," * DOCUMENT_CHUNK + b"1]", lambda: False)
