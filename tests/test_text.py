"""How text, sizes and times are shown."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.text import REPLACEMENT, Column, clean, fit_columns, human_age, human_size, parse_size, timestamp

_DAY = 86_400


@given(st.text(alphabet=st.characters()) | st.text(alphabet="a\x1b\x9b\x7f\u202e\u2066\ud800\U000e0041é"))
def test_clean_text_commands_no_terminal(text: str) -> None:
    cleaned = clean(text)
    assert {unicodedata.category(char) for char in cleaned}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert {unicodedata.bidirectional(char) for char in cleaned}.isdisjoint(
        {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )
    assert len(cleaned) == len(text)
    assert clean(cleaned) == cleaned
    cleaned.encode()


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\n", "\x7f", "\x9b", "\xad", "\u200b", "\u202e", "\ufeff", "\udcff"])
def test_a_character_that_deceives_is_replaced(char: str) -> None:
    assert clean(f"a{char}é") == f"a{REPLACEMENT}é"


@pytest.mark.parametrize("text", ["", "alpine:3.19", "é", "日本語", "a\xa0b", REPLACEMENT])
def test_other_text_is_left_alone(text: str) -> None:
    assert clean(text) is text or clean(text) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500M", 500 << 20), ("1.5t", 3 << 39), ("64GiB", 64 << 30), ("2kb", 2048)]
    + [("0", 0), ("0.1", 0), ("8.0E", 8 << 60)]
    + [(text, None) for text in ("", "M", "-1", "1X", "1 G", "1e3", "1" * 16, "\u0661", "1.G")],
)
def test_a_size_is_read_as_people_write_it(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@given(st.integers(0, 2**64))
def test_a_size_takes_five_characters_at_most(size: int) -> None:
    assert len(human_size(size)) <= 5


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (None, "-"), (0, "0B"), (1023, "1023B"), (1024, "1.0K"), (1945, "1.9K"), (10_188, "9.9K"), (10_189, "10K"),
        (1024**2 - 513, "1023K"), (1024**2 - 512, "1.0M"), (2**40, "1.0T"), (2**63 - 1, "8.0E"),
    ],
)  # fmt: skip
def test_sizes_are_powers_of_1024(size: int | None, shown: str) -> None:
    assert human_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"), (-5, "0s"), (0.5, "0s"), (59.9, "59s"), (60, "1m"), (3_599, "59m"), (86_399, "23h"),
        (_DAY, "1d"), (14 * _DAY - 1, "13d"), (14 * _DAY, "2w"), (63 * _DAY - 1, "8w"), (63 * _DAY, "2mo"),
        (365 * _DAY, "12mo"), (730 * _DAY - 1, "24mo"), (730 * _DAY, "2y"), (36_500 * _DAY, "100y"),
    ],
)  # fmt: skip
def test_an_age_is_told_in_its_largest_unit_that_counts_two(seconds: float | None, shown: str) -> None:
    assert human_age(seconds) == shown


@given(st.floats(0, 99 * 366 * _DAY))
def test_an_age_takes_four_cells_at_most_and_is_never_told_too_old(seconds: float) -> None:
    shown = human_age(seconds)
    assert len(shown) <= 4
    number, unit = re.fullmatch(r"(\d+)(s|m|h|d|w|mo|y)", shown).groups()  # type: ignore[union-attr]
    length = {"s": 1, "m": 60, "h": 3_600, "d": _DAY, "w": 7 * _DAY, "mo": 30.4 * _DAY, "y": 365 * _DAY}[unit]
    assert int(number) * length <= seconds < (int(number) + 1) * length


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"), (0, "1970-01-01 00:00:00Z"), (-1, "1969-12-31 23:59:59Z"), (1_767_225_600, "2026-01-01 00:00:00Z"),
        (10**12, "@1000000000000"), (-(10**12), "@-1000000000000"), (2.0**63, "@9223372036854775808"),
    ],
)  # fmt: skip
def test_a_time_is_shown_in_utc_and_any_time_can_be_shown(seconds: float | None, shown: str) -> None:
    assert timestamp(seconds) == shown


@pytest.mark.parametrize(
    ("widths", "room", "shown"),
    [
        ([12, 60], 40, [12, 27]),
        ([60, 12], 40, [27, 12]),
        ([60, 50], 41, [20, 20]),
        ([60, 50], 10, [8, 1]),
        ([1 << 40, 1 << 40], 41, [20, 20]),
    ],
)
def test_where_room_is_short_the_widest_column_gives_way(widths: list[int], room: int, shown: list[int]) -> None:
    assert fit_columns([Column("A", shrink=True), Column("B", shrink=True)], widths, room, 1) == [0, 1]
    assert widths == shown
