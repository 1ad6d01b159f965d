"""The filter language, word by word and against any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.doctor.findings import Depth, EntryState, Severity
from tests.doctor.entries_support import NOT_LOOKED, Made, entries_of

DIGEST = "sha256:" + "ab" * 32
ENTRY = Made(DIGEST, "Registry.io/team/Web:v1", reference="v1", platform="linux/arm64", size=3 * 2**20)
BROKEN = ENTRY.but(size=None, state=EntryState("no packed", Severity.HIGH, Depth.HEADER))
UNKNOWN = ENTRY.but(size=None, state=NOT_LOOKED)
WORDS = st.text(alphabet="!:<>size0189.kmgtbadweo²٣", min_size=1, max_size=12) | st.text(min_size=1, max_size=12)


def passes(text: str, entry: Made = ENTRY) -> bool:
    return entries_of([entry]).passing(text) == [0]


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "web", "WEB", "web:v1", "squash", "arm64", DIGEST[:20], "ok", "web v1", "!nginx", "!!web",
        "name:team", "NAME:TEAM", "tag:v", "digest:abab", "format:squashfs", "platform:linux", "state:ok", "tag:",
        "size>1M", "size>3071k", "size<3.5M", "SIZE<1GiB", "size<4MB", "size>0",
        "size>0B", "size>512B", "size<1.5P", "size<8E", "!size>1G", "web !tag:v2",
    ],
)  # fmt: skip
def test_passes(text: str) -> None:
    assert passes(text)


@pytest.mark.parametrize(
    "text",
    [
        "nginx", "web nginx", "!web", "!!!web", "name:v1", "tag:web", "digest:sha512", "format:erofs", "state:bad",
        "size>3M", "size<3M", "size>1T", "!", "size>", "size>x", "other:web", "web!",
    ],
)  # fmt: skip
def test_does_not_pass(text: str) -> None:
    assert not passes(text)


def test_bad_is_every_entry_that_is_known_not_to_be_ok() -> None:
    assert passes("state:bad", BROKEN)
    assert passes("!state:bad", UNKNOWN)
    assert passes("state:packed", BROKEN)


def test_an_entry_without_a_packed_file_has_no_size_to_compare() -> None:
    assert not passes("size<1T", BROKEN)
    assert not passes("size>0", BROKEN)


def test_an_age_is_that_of_the_packed_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: ENTRY.modified + 36 * 3600)
    assert passes("age>35h")
    assert passes("age<2d !age>1w")
    assert not passes("age>1.6d")
    assert not passes("age>0h", BROKEN)


def test_a_field_of_a_name_is_no_mistake() -> None:
    entries = entries_of([ENTRY, ENTRY.but(name="stage:1.0")])
    assert entries.misunderstood("stage:1 !name:web size>1M age<2h 10:20 other:x") is None
    assert entries.misunderstood("web !stat:ok") == ("there is no field stat", "state:ok may be meant")


@pytest.mark.parametrize("text", ["!arch:amd64", "web !arch:", "!!!arch:amd64", "!sha512:00", "!image:web"])
def test_what_would_leave_out_nothing_is_refused(text: str) -> None:
    field = text.rpartition("!")[2].partition(":")[0]
    meant = "the fields are name, tag, digest, format, platform, state, used"
    assert entries_of([ENTRY]).misunderstood(text) == (f"there is no field {field}", meant)
    told = [ENTRY.but(name="arch:amd64-image:web"), ENTRY.but(digest=f"sha512:{'00' * 64}")]
    assert entries_of(told).misunderstood(text) is None


@pytest.mark.parametrize(
    "text", ["!web:v1", "!:v1", "!team/web:", f"!{DIGEST[:15]}", "!!arch:amd64", "arch:x", "image:web"]
)
def test_what_leaves_out_something_or_finds_nothing_is_not(text: str) -> None:
    assert entries_of([ENTRY]).misunderstood(text) is None


def test_what_is_said_to_be_meant_is_understood() -> None:
    entries = entries_of([ENTRY])
    assert entries.misunderstood("ages:3d") == ("there is no field ages", "age>3d may be meant")
    assert entries.misunderstood("sizes=3M") == ("there is no field sizes", "size>3M may be meant")
    assert entries.misunderstood("ages>web") == ("ages>web is no filter", "only size and age are compared")


def test_a_word_that_is_understood_costs_no_look_at_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked at every key, of 100,000 entries."""
    entries = entries_of([ENTRY])
    monkeypatch.setattr(entries, "names", None)
    assert entries.misunderstood("state:bad !name:web size>1M age<2h alpine alpine:3.19") is None


@given(st.text(max_size=40) | st.lists(WORDS).map(" ".join))
def test_any_text_is_a_filter(text: str) -> None:
    passes(text)


@pytest.mark.parametrize("text", ["!" * 100_000 + "web", "size>" + "9" * 10_000, "(" * 1000, "web " * 10_000])
def test_a_long_text_is_a_filter_too(text: str) -> None:
    passes(text)


@given(WORDS.filter(lambda word: len(word.split()) == 1 and word == word.strip()), st.sampled_from([ENTRY, BROKEN]))
def test_an_exclamation_mark_makes_the_complement(word: str, entry: Made) -> None:
    assert passes(f"!{word}", entry) is not passes(word, entry)


@given(st.lists(WORDS, max_size=4))
def test_words_are_joined_by_and(words: list[str]) -> None:
    assert passes(" ".join(words)) is all(passes(word) for word in words)
