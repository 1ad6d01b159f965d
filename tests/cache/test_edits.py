"""An edit by positions: equal entries told apart, made again without harm, and reversed byte for byte."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import Descriptor, ImageIndex
from ocitui.cache.changes import Edit, arrivals, positions, removals
from tests.cache.support import entry, index_bytes
from tests.cache.test_index_editing import Drawn, indexes

Places = list[tuple[int, int]]


def edit_of(index: ImageIndex, doomed: set[int], coming: Places) -> Edit:
    """Out with these positions, in with entries of these numbers before those positions of what is left."""
    out = {at for at in doomed if at < len(index)}
    left = index.without_at(out)
    wanted = [(min(at, len(left)), Descriptor.from_dict(entry(number))) for at, number in coming]
    return Edit(removals(index, out), arrivals(left, wanted))


def raws(index: ImageIndex) -> list[bytes]:
    return [descriptor.raw for descriptor in index.descriptors]


@given(indexes(), st.sets(st.integers(0, 6)), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), max_size=4))
def test_its_reverse_gives_the_same_bytes(drawn: Drawn, doomed: set[int], coming: Places) -> None:
    index = ImageIndex.parse(drawn.data)
    edit = edit_of(index, doomed, coming)
    there = ImageIndex.parse(edit.on(index)(index).data)
    assert Counter(raws(there)) == Counter(raws(index)) - Counter(one.raw.encode() for one in edit.out) + Counter(
        one.raw.encode() for one in edit.into
    )
    assert [there.descriptors[one.position].raw for one in edit.into] == [one.raw.encode() for one in edit.into]
    gaps = index.brackets
    back = Edit(edit.into, edit.out, gaps=gaps).on(there)(there)
    assert back.data == drawn.data


@given(indexes(), st.sets(st.integers(0, 6)), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), max_size=4))
def test_made_twice_it_does_no_more(drawn: Drawn, doomed: set[int], coming: Places) -> None:
    index = ImageIndex.parse(drawn.data)
    edit = edit_of(index, doomed, coming).on(index)
    once = edit(index)
    assert Counter(raws(edit(once))) == Counter(raws(once))


def test_of_equal_entries_the_one_at_its_place_goes() -> None:
    index = ImageIndex.parse(index_bytes([entry(1), entry(2), entry(1), entry(3), entry(1)]))
    for at in (0, 2, 4):
        (removed,) = removals(index, {at})
        assert positions(index, [removed]) == {at}
        edited = Edit([removed], []).on(index)(index)
        assert raws(edited) == [raw for position, raw in enumerate(raws(index)) if position != at]


def test_what_another_program_removed_does_not_come_back_by_a_move() -> None:
    index = ImageIndex.parse(index_bytes([entry(1), entry(2)]))
    moved = removals(index, {0})
    edit = Edit(moved, arrivals(index.without_at({0}), [(1, index.descriptors[0])])).on(index)
    assert raws(edit(index)) == raws(index)[::-1]
    theirs = index.without_at({0})
    assert raws(edit(theirs)) == raws(theirs)


def test_a_moved_entry_is_last_also_behind_what_another_program_appended() -> None:
    index = ImageIndex.parse(index_bytes([entry(1), entry(2)]))
    moved = removals(index, {0})
    edit = Edit(moved, arrivals(index.without_at({0}), [(1, index.descriptors[0])])).on(index)
    theirs = index.appended(Descriptor.from_dict(entry(3)))
    assert raws(edit(theirs)) == [*raws(theirs)[1:], raws(index)[0]]
