"""The index edited: whatever its layout, only what was asked for changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocitui.cache import Descriptor, DocumentError, ImageIndex, PackerCache
from ocitui.cache.index import entry_keys
from tests.cache.support import entry, index_bytes, stored
from tests.tools import examples

pytestmark = pytest.mark.slow

SPACES = [b"", b" ", b"\n", b"\r\n", b"\t", b"  ", b"\n    ", b"\r\n\t"]
GAPS = [space + b"," + other for space in SPACES[:5] for other in SPACES]
BEFORE = [
    b'{"schemaVersion":2,"manifests":[',
    b'{\n  "schemaVersion": 2,\n  "mediaType": "m",\n  "manifests": [',
    b'\n{"x":[{"manifests":[]}],"schemaVersion":2, "manifests" : [',
    b'{\r\n\t"schemaVersion": 2,\r\n\t"manifests": [',
    b'{\n    "annotations": {"a": "]"},\n    "schemaVersion": 2,\n    "manifests": [',
]
AFTER = [b"]}", b"]\n}\n", b'],"artifactType":"["}', b'] , "later": {"manifests": [1]}}\n\n', b"]\r\n}"]
RAWS = [
    lambda fields: json.dumps(fields).encode(),
    lambda fields: json.dumps(fields, separators=(",", ":")).encode(),
    lambda fields: json.dumps(fields, indent=2).encode(),
    lambda fields: json.dumps(fields, indent="\t").encode().replace(b"\n", b"\r\n"),
    lambda fields: json.dumps(fields, indent=2).encode().replace(b"\n", b"\n    "),
    lambda fields: json.dumps({"unknown": {"digest": "é", "deep": [{}]}, **fields, "later": None}).encode(),
    lambda fields: json.dumps(fields).encode().replace(b"sha256", b"sha25\\u0036"),
]


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """Few descriptors are many blocks where a block is small."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_BLOCK", 600), ("_SMALLEST_BLOCK", 100), ("_FULL_BLOCK", 2)):
            patch.setattr(f"ocitui.cache.descriptors.{name}", value)
        yield


@dataclass(frozen=True)
class Drawn:
    """An index with its descriptors' own bytes, the white space around them, and the numbers of the entries."""

    data: bytes
    raws: list[bytes]
    numbers: list[int]


@st.composite
def indexes(draw: st.DrawFn) -> Drawn:
    numbers = draw(st.lists(st.integers(0, 6), max_size=6))
    even = draw(st.booleans())
    write, gap = draw(st.sampled_from(RAWS)), draw(st.sampled_from(GAPS))
    raws = [(write if even else draw(st.sampled_from(RAWS)))(entry(number)) for number in numbers]
    data = draw(st.sampled_from(BEFORE)) + draw(st.sampled_from(SPACES))
    for at, raw in enumerate(raws):
        data += (b"" if at == 0 else gap if even else draw(st.sampled_from(GAPS))) + raw
    return Drawn(data + (draw(st.sampled_from(SPACES)) if raws else b"") + draw(st.sampled_from(AFTER)), raws, numbers)


def digests(index: ImageIndex) -> list[str]:
    return [descriptor.digest for descriptor in index.descriptors]


def read_back(index: ImageIndex) -> ImageIndex:
    """The index as another program would find it; the same as it is held."""
    data = index.data
    again = ImageIndex.parse(data)
    assert again.data == data
    assert [d.raw for d in again.descriptors] == [d.raw for d in index.descriptors]
    assert [d["digest"] for d in json.loads(data)["manifests"]] == digests(index)
    for descriptor in index.descriptors:
        assert index.by_key(*descriptor.key) == again.by_key(*descriptor.key)
        name = descriptor.image_name or ""
        assert index.by_name(name) == again.by_name(name)
    return again


@given(indexes())
def test_read_and_written_unchanged(drawn: Drawn) -> None:
    index = ImageIndex.parse(drawn.data)
    assert index.data == drawn.data
    assert [d.raw for d in index.descriptors] == drawn.raws
    assert ImageIndex.parse(drawn.data, index).data == drawn.data


@given(indexes(), indexes())
def test_a_difference_is_told_by_positions(before: Drawn, after: Drawn) -> None:
    old, new = ImageIndex.parse(before.data), ImageIndex.parse(after.data)
    new = ImageIndex.parse(after.data, old)
    changes = new.difference(old)
    was = dict(zip(entry_keys(old.descriptors), old.descriptors, strict=True))
    now = dict(zip(entry_keys(new.descriptors), new.descriptors, strict=True))
    assert new.keys() == list(now)
    assert [new.keys()[at] for at in changes.added] == [key for key in now if key not in was]
    assert [old.keys()[at] for at in changes.removed] == [key for key in was if key not in now]
    assert [new.keys()[at] for at in changes.changed] == [key for key in now if key in was and was[key] != now[key]]
    beginning, end = changes.beginning, changes.end
    assert old.descriptors[:beginning] == new.descriptors[:beginning]
    assert old.descriptors[len(old) - end :] == new.descriptors[len(new) - end :]
    assert (beginning + end == len(old) == len(new)) is (list(old.descriptors) == list(new.descriptors))


@given(indexes(), st.data())
def test_one_edit_is_told_as_one(drawn: Drawn, data: st.DataObject) -> None:
    index = ImageIndex.parse(drawn.data)
    grown = index.appended(Descriptor.from_dict(entry(9)))
    assert grown.difference(index)[2:] == ([len(index)], [], [])
    assert index.difference(grown)[2:] == ([], [len(index)], [])
    assert index.difference(index)[2:] == ((), (), ())
    if index:
        at = data.draw(st.integers(0, len(index) - 1))
        left = index.without_at({at})
        changes = left.difference(index)
        assert [index.digests[at] for at in changes.removed] == [index.digests[at]]


@given(indexes())
def test_places_are_told_of_digests_keys_names_and_bytes(drawn: Drawn) -> None:
    index = ImageIndex.parse(drawn.data)
    everything = list(index.descriptors)
    # Few lookups look through the columns, many make tables of them.
    for _ in range(4):
        for one in everything:
            places = [at for at, other in enumerate(everything) if other.digest == one.digest]
            assert [*index.positions(one.digest)] == places
            assert all([*index.positions(one.digest, hint)] == places for hint in range(-1, len(index) + 1))
            assert index.positions_of({one.key}) == [at for at in places if everything[at].format == one.format]
            named = [at for at, other in enumerate(everything) if other.image_name == one.image_name]
            assert index.position_of_name(one.image_name or "") == named[-1]
            same = [at for at, other in enumerate(everything) if other == one]
            assert index.places({one.raw, b"{}", b"no descriptor"}) == {one.raw: same}
        assert (index.positions("none"), index.position("none", None), index.position_of_name("none")) in (
            ([], None, None),
            ((), None, None),
        )


@given(indexes(), st.slices(6))
def test_descriptors_are_a_sequence(drawn: Drawn, cut: slice) -> None:
    index = ImageIndex.parse(drawn.data)
    everything = [Descriptor.parse(raw) for raw in drawn.raws]
    assert index.descriptors[cut] == everything[cut]
    assert [*reversed(index.descriptors)] == everything[::-1]
    for at in range(-len(everything), len(everything)):
        assert index.descriptors[at] == everything[at]
    with pytest.raises(IndexError):
        index.descriptors[len(everything)]


def told(data: bytes, previous: ImageIndex | None = None) -> str | list[bytes]:
    """The descriptors' bytes, or where they are refused."""
    try:
        return [descriptor.raw for descriptor in ImageIndex.parse(data, previous).descriptors]
    except DocumentError as error:
        return f"{error.message} at line {error.line} column {error.column}"


@given(indexes(), indexes(), st.integers(0, 400))
def test_what_stands_as_it_did_is_read_as_any_other(before: Drawn, after: Drawn, cut: int) -> None:
    previous = ImageIndex.parse(before.data)
    for data in (after.data, after.data[:-cut], before.data[:-cut], before.data[:cut] + after.data):
        assert told(data, previous) == told(data)


@given(indexes(), st.data())
def test_what_stands_twice_is_not_taken_for_both(drawn: Drawn, data: st.DataObject) -> None:
    raws = drawn.raws * 3
    whole = ImageIndex.parse(BEFORE[0] + b",".join(raws) + AFTER[0])
    start = data.draw(st.integers(0, len(raws)))
    less = raws[:start] + raws[data.draw(st.integers(start, len(raws))) :]
    again = ImageIndex.parse(BEFORE[0] + b",".join(less) + AFTER[0], whole)
    assert [descriptor.raw for descriptor in again.descriptors] == less


@given(indexes(), st.lists(st.tuples(st.integers(0, 8), st.sampled_from([None, *GAPS])), max_size=3))
def test_an_edited_index_goes_on_as_one_that_was_read(drawn: Drawn, placed: list[tuple[int, bytes | None]]) -> None:
    new = Descriptor.from_dict(entry(9))
    index = ImageIndex.parse(drawn.data).inserted([(at, new, gap) for at, gap in placed])
    for edited in (index, index.without_at({1, 3}), index.appended(new).without_at({0})):
        if len(edited) > 1:
            read = ImageIndex.parse(edited.data)
            assert edited.appended(new).data == read.appended(new).data
            gaps = [gap for at in range(len(read)) if (gap := read.gap(at)) is not None]
            added = read.appended(new).gap(len(read) - 1)
            assert added is not None
            assert gaps.count(added) == max(map(gaps.count, gaps))


@given(indexes(), st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.booleans()), max_size=6))
def test_the_hash_is_that_of_the_bytes_whatever_was_hashed_before(
    drawn: Drawn, edits: list[tuple[int, bool, bool]]
) -> None:
    index, new = ImageIndex.parse(drawn.data), Descriptor.from_dict(entry(9))
    for at, is_appended, is_hashed in [(0, True, True), *edits, (8, False, True)]:
        if is_hashed:
            assert index.sha256 == hashlib.sha256(index.data).hexdigest()
        index = index.appended(new) if is_appended else index.without_at({at}).inserted([(at, new, None)])
    assert index.sha256 == hashlib.sha256(index.data).hexdigest()


@given(indexes(), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), max_size=6))
def test_an_edited_index_holds_what_is_read_in_its_bytes(drawn: Drawn, edits: list[tuple[int, int]]) -> None:
    index, new = ImageIndex.parse(drawn.data), Descriptor.from_dict(entry(9))
    for at, what in edits:
        # None of them asks for all bytes.
        index = (index.appended(new), index.inserted([(at, new, b",")]), index.without_at({at}))[what]
    held = [(index.start(at), index.raw(at)) for at in range(len(index))], index.brackets, index.sha256
    read = ImageIndex.parse(index.data)
    assert held == ([(read.start(at), read.raw(at)) for at in range(len(read))], read.brackets, read.sha256)


@pytest.mark.parametrize("gap", [b" , ", b",\n  "])
def test_the_last_entry_that_stays_remembers_the_gap_between_the_others(gap: bytes) -> None:
    data = BEFORE[0] + gap.join(RAWS[1](entry(number)) for number in range(3)) + AFTER[0]
    left = ImageIndex.parse(data).without_at({0, 2}).appended(Descriptor.from_dict(entry(9)))
    assert left.gap(0) == gap


def around(index: ImageIndex) -> tuple[bytes, bytes]:
    """What stands outside the array's brackets."""
    return index.data[: index.descriptors.first], index.data[index.descriptors.last :]


def test_where_entries_go_the_old_text_does_too() -> None:
    """It may be 40 MB, and would live as long as the new index."""
    index = ImageIndex.parse(index_bytes([entry(number) for number in range(9)]))
    index.data  # in one piece  # noqa: B018
    for edited in (index.without_at({0}), index.without_at({8})):
        assert not any(isinstance(part, memoryview) and part.obj is index.data for part in edited.descriptors.parts)
    assert index.appended(Descriptor.from_dict(entry(9))).descriptors.parts[0]


@given(indexes(), st.integers(0, 6))
def test_an_entry_is_appended(drawn: Drawn, number: int) -> None:
    index = ImageIndex.parse(drawn.data)
    new = index.appended(Descriptor.from_dict(entry(number)))
    again = read_back(new)
    assert [d.raw for d in again.descriptors[:-1]] == drawn.raws
    assert again.descriptors[-1].as_dict() == entry(number)
    assert around(again) == around(index)
    if drawn.raws:
        assert new.data.startswith(drawn.data[: drawn.data.rindex(drawn.raws[-1]) + len(drawn.raws[-1])])


@given(indexes(), st.sets(st.integers(0, 6)))
def test_entries_are_taken_out(drawn: Drawn, doomed: set[int]) -> None:
    index = ImageIndex.parse(drawn.data)
    keys = {Descriptor.from_dict(entry(number)).key for number in doomed}
    again = read_back(index.without(keys))
    kept = [raw for number, raw in zip(drawn.numbers, drawn.raws, strict=True) if number not in doomed]
    assert [d.raw for d in again.descriptors] == kept
    assert around(again) == around(index)


@given(indexes(), st.lists(st.tuples(st.integers(0, 8), st.integers(10, 14)), max_size=4))
def test_entries_are_put_in(drawn: Drawn, placed: list[tuple[int, int]]) -> None:
    index = ImageIndex.parse(drawn.data)
    newcomers = [(at, Descriptor.from_dict(entry(number)), None) for at, number in placed]
    again = read_back(index.inserted(newcomers))
    expected: list[str] = []
    for position in range(len(drawn.raws) + 1):
        expected += [d.digest for at, d, _ in newcomers if min(at, len(drawn.raws)) == position]
        expected += digests(index)[position : position + 1]
    assert digests(again) == expected


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indexes(), st.sets(st.integers(0, 6), min_size=1), st.booleans())
async def test_a_delete_undone_leaves_the_same_bytes(
    tmp_path: Path, drawn: Drawn, doomed: set[int], restart: bool
) -> None:
    keys = {Descriptor.from_dict(entry(number)).key for number in doomed & set(drawn.numbers)}
    if not keys:
        return
    (tmp_path / "index.json").write_bytes(drawn.data)
    cache = PackerCache(tmp_path)
    transaction = await cache.delete([(digest, format_) for digest, format_ in keys if format_])
    deleted = (tmp_path / "index.json").read_bytes()
    undo = await (PackerCache(tmp_path) if restart else cache).undo(transaction.id)
    assert (tmp_path / "index.json").read_bytes() == drawn.data
    await PackerCache(tmp_path).undo(undo.id)
    assert (tmp_path / "index.json").read_bytes() == deleted


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indexes(), st.integers(0, 6))
async def test_a_store_undone_leaves_the_same_bytes(tmp_path: Path, drawn: Drawn, number: int) -> None:
    (tmp_path / "index.json").write_bytes(drawn.data)
    await stored(PackerCache(tmp_path), tmp_path / "source", str(number))
    await PackerCache(tmp_path).undo()
    assert (tmp_path / "index.json").read_bytes() == drawn.data


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_appended_looks_as_the_daemon_writes_it(count: int) -> None:
    index = ImageIndex.parse(index_bytes(entry(number) for number in range(count)))
    for number in range(count, count + 3):
        index = index.appended(Descriptor.from_dict(entry(number)))
    assert index.data == index_bytes(entry(number) for number in range(count + 3))


async def test_a_first_store_writes_what_the_daemon_would(tmp_path: Path) -> None:
    image = await stored(PackerCache(tmp_path), tmp_path / "source", "one", name="host/a:1")
    assert (tmp_path / "index.json").read_bytes() == index_bytes([image.descriptor.as_dict()])
