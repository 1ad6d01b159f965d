"""Image names: krata's rule for splitting and printing them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ocitui.cache.errors import AmbiguousDigestError, CacheError, InvalidNameError
from ocitui.cache.files import PackedFormat
from ocitui.cache.names import DEFAULT_HOSTNAME, ImageName, find_entry
from tests.tools import recorded

# Texts out of the characters that mean something, so that most of them do.
NAMES = st.text(alphabet="ab.:/@+0159-é ", max_size=24) | st.text(max_size=24)


@pytest.mark.parametrize("record", recorded("names.jsonl"), ids=lambda record: repr(record["input"]))
def test_every_recorded_name_is_split_and_printed_as_krata_does(record: dict[str, Any]) -> None:
    if "error" in record:
        with pytest.raises(InvalidNameError):
            ImageName.parse(record["input"])
        return
    name = ImageName.parse(record["input"])
    parts = ("hostname", "port", "name", "reference", "digest")
    assert {part: getattr(name, part) for part in parts} == {part: record[part] for part in parts}
    assert str(name) == record["display"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpine", (DEFAULT_HOSTNAME, None, "library/alpine", None, None)),
        ("localhost:5000/foo", (DEFAULT_HOSTNAME, None, "localhost", "5000/foo", None)),
        ("localhost:5000/a/b:c", ("localhost", 5000, "a/b", "c", None)),
        ("host.io/a", ("host.io", None, "a", None, None)),
        ("a/b", (DEFAULT_HOSTNAME, None, "a/b", None, None)),
        ("a/b/c", ("a", None, "b/c", None, None)),
        ("a:t@sha256:b", (DEFAULT_HOSTNAME, None, "library/a", "t", "sha256:b")),
        ("a@sha256:b", (DEFAULT_HOSTNAME, None, "library/a", None, "sha256:b")),
        ("a:", (DEFAULT_HOSTNAME, None, "library/a", "", None)),
        ("", (DEFAULT_HOSTNAME, None, "library/", None, None)),
    ],
)
def test_the_rule_of_slashes_dots_and_colons(text: str, expected: tuple[object, ...]) -> None:
    name = ImageName.parse(text)
    assert (name.hostname, name.port, name.name, name.reference, name.digest) == expected


@pytest.mark.parametrize(
    ("port", "number"), [("0", 0), ("+80", 80), ("65535", 65_535), ("00080", 80), ("0" * 5000 + "1", 1)]
)
def test_a_port_is_any_spelling_of_sixteen_bits(port: str, number: int) -> None:
    assert ImageName.parse(f"h.io:{port}/x").port == number


@pytest.mark.parametrize("port", ["", "+", "-1", "++1", "65536", "9" * 5000, " 1", "1 ", "1_0", "٣", "1:2", "0x1"])
def test_any_other_port_is_refused(port: str) -> None:
    with pytest.raises(InvalidNameError, match="is not a port") as refused:
        ImageName.parse(f"h.io:{port}/x")
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, CacheError)
    assert refused.value.hint


def test_printing_leaves_out_the_default_host_and_one_library() -> None:
    assert str(ImageName.parse("mirror.gcr.io/library/alpine:3")) == "alpine:3"
    assert str(ImageName.parse("mirror.gcr.io/library/library/alpine")) == "library/alpine"
    assert str(ImageName.parse("mirror.gcr.io:443/library/alpine")) == "mirror.gcr.io:443/library/alpine"
    assert str(ImageName.parse("docker.io/library/alpine")) == "docker.io/library/alpine"


@given(NAMES)
def test_nothing_but_invalid_name_error_is_ever_raised(text: str) -> None:
    with suppress(InvalidNameError):
        str(ImageName.parse(text))


@given(NAMES)
@example("library/a")
@example("library/library/a")
@example("h.io:+080/a")
def test_a_printed_name_prints_the_same_again(text: str) -> None:
    # Not so below an explicit mirror.gcr.io/, which is left out: mirror.gcr.io/a.b:x/c comes back as another host.
    assume(not text.startswith(DEFAULT_HOSTNAME + "/"))
    try:
        printed = str(ImageName.parse(text))
    except InvalidNameError:
        return
    assert str(ImageName.parse(printed)) == printed


def test_below_an_explicit_default_host_a_printed_name_may_be_another() -> None:
    name = ImageName.parse("mirror.gcr.io/a.b/c")
    assert ImageName.parse(str(name)) == ImageName("a.b", None, "c", None, None) != name


A, B, C, D = (f"sha256:{digits * 16}" for digits in ("abcd", "abce", "0123", "feed"))
ODD = "not-a-digest"
DIGESTS = [A, B, A, C, ODD, D]
NAMED = ["app:1", "app:1", "app:2", "abcd", None, "app:2.erofs"]


@pytest.mark.parametrize(
    ("word", "digest", "by_name", "format"),
    [
        ("app:1", B, True, None),
        ("library/app:1", B, True, None),
        ("mirror.gcr.io/library/app:1", B, True, None),
        ("app:1.tar", B, True, "tar"),
        ("library/app:2.squashfs", A, True, "squashfs"),
        # The whole word first: as a name, as a digest, only then without its format.
        ("app:2.erofs", D, True, None),
        ("app:2.erofs.erofs", D, True, "erofs"),
        ("abcd", C, True, None),
        ("sha256:abcda", A, False, None),
        ("abce", B, False, None),
        ("0123", C, False, None),
        ("0123.erofs", C, False, "erofs"),
        (A, A, False, None),
        (A.removeprefix("sha256:"), A, False, None),
        (f"{A}.tar", A, False, "tar"),
        (ODD, ODD, False, None),
        ("not-a", ODD, False, None),
        ("beefbeef", "sha256:beefbeef", False, None),
        ("beef.tar", "sha256:beefbeef", False, "tar"),
    ],
)
def test_what_a_word_names(word: str, digest: str, by_name: bool, format: str | None) -> None:
    named = find_entry(word, DIGESTS, NAMED, ["sha256:beefbeef"])
    assert named is not None
    assert (named.digest, named.by_name, named.format) == (digest, by_name, format)


@pytest.mark.parametrize(
    "word",
    ["app", "app:3", "app:1.zip", "012", "sha2", "sha256", "ABCE", "beefbee0", "md5:abce", ".tar", "a:99999/b/c"],
)
def test_a_word_that_names_nothing(word: str) -> None:
    assert find_entry(word, DIGESTS, NAMED, ["sha256:beefbeef"]) is None


def test_what_a_name_overrules_is_told() -> None:
    found = find_entry("app:1.tar", DIGESTS, NAMED)
    assert found is not None
    assert found.overruled == (A,)


@pytest.mark.parametrize("word", ["sha256:abc", "sha256:", "sha512:0", ""])
def test_a_digest_that_is_too_short_is_told(word: str) -> None:
    with pytest.raises(AmbiguousDigestError, match="too short"):
        find_entry(word, DIGESTS, NAMED)


def test_two_answers_are_an_error_that_names_both() -> None:
    with pytest.raises(AmbiguousDigestError) as raised:
        find_entry("sha256:abcd.tar", [A, f"{A[:-1]}0"], [None, None])
    assert A in raised.value.message
    assert f"{A[:-1]}0" in raised.value.message
    with pytest.raises(AmbiguousDigestError) as raised:
        find_entry("library/app", [A, B], ["app", "library/app"])
    assert A in raised.value.message
    assert B in raised.value.message


def test_a_whole_digest_that_begins_another_is_itself() -> None:
    found = find_entry("sha256:abcd", ["sha256:abcd", "sha256:abcde"], [None, None])
    assert found is not None
    assert found.digest == "sha256:abcd"


def test_a_format_beside_another_one_is_an_error() -> None:
    found = find_entry("app:1.tar", DIGESTS, NAMED)
    assert found is not None
    assert (found.asked_format("tar"), found.asked_format(None)) == (PackedFormat.TAR, PackedFormat.TAR)
    with pytest.raises(AmbiguousDigestError, match=r"tar.*erofs"):
        found.asked_format("erofs")


@given(NAMES)
def test_any_text_names_something_or_nothing(text: str) -> None:
    with suppress(AmbiguousDigestError):
        find_entry(text, DIGESTS, NAMED)
