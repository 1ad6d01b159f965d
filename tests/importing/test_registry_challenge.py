"""Challenges, by RFC 9110, 11.6.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.importing.registry.auth import Challenge, parse_challenges

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/alpine:pull,push",error="invalid_token"'
)


def test_scope_may_hold_commas() -> None:
    (challenge,) = parse_challenges([HUB])
    assert challenge.scheme == "bearer"
    assert challenge.parameters == {
        "realm": "https://auth.docker.io/token",
        "service": "registry.docker.io",
        "scope": "repository:library/alpine:pull,push",
        "error": "invalid_token",
    }


@pytest.mark.parametrize(
    ("field", "challenges"),
    [
        ('Basic realm="a"', [Challenge("basic", {"realm": "a"})]),
        ("Basic", [Challenge("basic")]),
        ("Negotiate, Basic realm=x", [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        ("Negotiate abc=, Basic", [Challenge("negotiate"), Challenge("basic")]),
        ('Basic realm="x", Negotiate a', [Challenge("basic", {"realm": "x"}), Challenge("negotiate")]),
        (
            'Bearer realm="a" , service = "b"\t,, Basic  realm="c"',
            [Challenge("bearer", {"realm": "a", "service": "b"}), Challenge("basic", {"realm": "c"})],
        ),
        (r'Bearer realm="a\"b\\c"', [Challenge("bearer", {"realm": 'a"b\\c'})]),
        ("Bearer realm=https://a/b?c,service=d", [Challenge("bearer", {"realm": "https://a/b?c", "service": "d"})]),
        ('BEARER Realm="a", REALM="b"', [Challenge("bearer", {"realm": "a"})]),
        ('Bearer realm="never ends', [Challenge("bearer")]),
        ("", []),
        (" , ,", []),
        ('="x"', []),
    ],
)
def test_one_field(field: str, challenges: list[Challenge]) -> None:
    assert parse_challenges([field]) == challenges


def test_several_fields() -> None:
    assert [challenge.scheme for challenge in parse_challenges(["Basic a=b", HUB])] == ["basic", "bearer"]


TOKENS = st.text("abcXYZ019!#$%&'*+.^_`|~-", min_size=1, max_size=8)
PARAMETERS = st.dictionaries(TOKENS.map(str.lower), st.text(max_size=12), min_size=1, max_size=4)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.lists(st.tuples(TOKENS, PARAMETERS), max_size=4), st.sampled_from([",", ", ", " ,, \t"]))
def test_whatever_is_written_is_read(challenges: list[tuple[str, dict[str, str]]], comma: str) -> None:
    written = comma.join(
        f"{scheme} " + comma.join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    assert parse_challenges([written]) == [Challenge(scheme.lower(), values) for scheme, values in challenges]


@given(st.lists(st.text(alphabet='ab="\\, \t', max_size=30), max_size=3))
def test_any_text_ends(fields: list[str]) -> None:
    parse_challenges(fields)
