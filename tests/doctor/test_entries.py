"""Where the entries of one index stand in another: what keeps marks, cursor and states on their entries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.doctor.entries_support import Made, digest_of, entries_of

numbers = st.lists(st.integers(0, 6), max_size=10)


def made(some: list[int]) -> list[Made]:
    return [Made(digest_of(number), f"image{number}:1") for number in some]


@given(numbers, numbers)
def test_every_entry_that_is_in_both_is_found_once(old: list[int], new: list[int]) -> None:
    moves = entries_of(made(new)).moves_from(entries_of(made(old)))
    to = [moves.to(position) for position in range(len(old))]
    found = [position for position in to if position is not None]
    assert len(set(found)) == len(found)
    assert all(new[there] == old[position] for position, there in enumerate(to) if there is not None)
    for number in set(old):
        assert sum(old[at] == number for at, there in enumerate(to) if there is not None) == min(
            old.count(number), new.count(number)
        )
    assert {there for at, there in enumerate(to) if there != at and there is not None and there < moves.head} == set()


@given(numbers, numbers)
def test_a_value_goes_with_its_entry(old: list[int], new: list[int]) -> None:
    moves = entries_of(made(new)).moves_from(entries_of(made(old)))
    carried = moves.carry([f"{number}" for number in old], "new")
    assert len(carried) == len(new)
    assert all(value in ("new", f"{number}") for value, number in zip(carried, new, strict=True))
    assert carried.count("new") == len(new) - sum(moves.to(at) is not None for at in range(len(old)))
    assert all(carried[at] == f"{number}" for at, number in enumerate(new) if at not in moves.touched)


def test_the_same_index_moves_nothing() -> None:
    entries = entries_of(made([1, 2, 3]))
    moves = entries.moves_from(entries)
    assert [moves.to(position) for position in range(3)] == [0, 1, 2]
    assert len(moves.touched) == 0


def test_of_equal_entries_as_many_stay_as_there_are() -> None:
    moves = entries_of(made([9, 1, 1])).moves_from(entries_of(made([1, 1, 1])))
    assert sorted(str(moves.to(position)) for position in range(3)) == ["1", "2", "None"]


def test_an_entry_that_says_something_else_is_the_same_and_touched() -> None:
    before = made([1, 2, 3])
    after = [before[0], before[1].but(reference="2"), before[2]]
    moves = entries_of(after).moves_from(entries_of(before))
    assert [moves.to(position) for position in range(3)] == [0, 1, 2]
    assert 1 in moves.touched
    assert 0 not in moves.touched
