"""What is salvaged from a broken index: all that is whole, nothing that is not there, and the rest named."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import Descriptor, DocumentError, ImageIndex, examine_index
from ocitui.doctor.salvage.salvage import Gap, Salvage, salvage_entries
from ocitui.doctor.salvage.scan import Salvaged
from tests.cache.support import entry, index_bytes
from tests.doctor.damage import Damaged, mangled, overwritten, places, raw, sound_indexes
from tests.tools import CONFORMANCE, recorded

THREE = [entry(number) for number in range(3)]
SOUND = index_bytes(THREE)
RAWS = [descriptor.raw for descriptor in ImageIndex.parse(SOUND).descriptors]
HEAD = SOUND[: SOUND.index(RAWS[0])].strip()

PIECES = [b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b'"digest"', b'"manifests"', b"1", b"\n", b"\0"]
REPEATED = [
    b"{", b'{"', b'{"a":', b'{"a":[', b'{"a":{},', b'{"a":"', b'{"a":1} ', b"[", b'"', b'\\"', b'{"\\', b"{},", b"\0",
    b'{"digest":1},', b'{"digest":x ', b'{"manifests":[', b'{"manifests":[{},', b"{\0", b"\0{", b"\r\n{ ", b'"digest":',
]  # fmt: skip


def raws(found: Salvage) -> list[bytes]:
    return [item.raw for item in found.items]


def names(found: Salvage) -> list[str | None]:
    return [descriptor.image_name for descriptor in found.descriptors]


def gaps(data: bytes, found: Salvage) -> list[bytes]:
    return [data[gap.offset : gap.offset + gap.length] for gap in found.gaps]


def is_whole(data: bytes, gap: Gap) -> bool:
    try:
        return bool(Descriptor.parse(data[gap.offset : gap.offset + gap.length]))
    except DocumentError:
        return False


def extents(found: Iterable[Salvaged | Gap]) -> list[tuple[int, int]]:
    return [(one.offset, one.length) for one in found]


def check_places(data: bytes, found: Salvage) -> None:
    """Every item is in the bytes, and no two things that were found share one."""
    assert found.size == len(data)
    at = 0
    for offset, length in sorted(extents(found.items) + extents(found.gaps)):
        assert at <= offset
        assert length > 0
        at = offset + length
    assert at <= len(data)
    for item in found.items:
        assert item.descriptor is None or item.descriptor.raw == item.raw


def check_bytes(data: bytes, found: Salvage) -> None:
    check_places(data, found)
    for item in found.items:
        assert data[item.offset : item.offset + item.length] == item.raw


@pytest.mark.parametrize("record", [r for r in recorded("indexes.json") if r["input"]], ids=lambda r: str(r["case"]))
def test_recorded_indexes(record: dict[str, Any]) -> None:
    data = (CONFORMANCE / record["input"]).read_bytes()
    found, (verdict, index) = salvage_entries(data), examine_index(data)
    check_places(data, found)
    if index is not None:
        assert raws(found) == [descriptor.raw for descriptor in index.descriptors]
        assert found.gaps == ()
    else:
        # What the daemon loses is there again, or something says why it is not.
        assert found.items or found.gaps or not data.strip() or b'"digest"' not in data
    assert verdict.outcome == record["outcome"]


@given(sound_indexes())
def test_a_sound_index_is_all_there(data: bytes) -> None:
    found = salvage_entries(data)
    assert raws(found) == [descriptor.raw for descriptor in ImageIndex.parse(data).descriptors]
    assert found.gaps == ()
    assert found.refused == []
    check_bytes(data, found)


@given(sound_indexes(), st.data())
def test_a_truncated_index_keeps_what_came_before(data: bytes, draw: st.DataObject) -> None:
    end = draw.draw(st.integers(0, len(data)))
    found = salvage_entries(data[:end])
    assert raws(found) == [data[a:b] for a, b in places(data) if b <= end]
    check_bytes(data[:end], found)


@given(sound_indexes(), st.data())
def test_an_index_overwritten_here_and_there_keeps_what_was_not_touched(data: bytes, draw: st.DataObject) -> None:
    damaged = draw.draw(overwritten(Damaged.of(data)))
    found = salvage_entries(damaged.data)
    check_bytes(damaged.data, found)
    at = {item.offset: item for item in found.items}
    for start, end in places(data):
        place = damaged.place_of(start, end)
        if place is not None:
            assert place in at, (place, found.items, found.gaps)
            assert at[place].raw == data[start:end]
            assert at[place].descriptor is not None


@given(sound_indexes(), st.data())
def test_a_mangled_index_keeps_or_names_what_was_not_touched(data: bytes, draw: st.DataObject) -> None:
    """Where damage makes an entry the member of something else, it is told apart; where both are whole, it is there."""
    damaged = draw.draw(mangled(Damaged.of(data)))
    found = salvage_entries(damaged.data)
    check_bytes(damaged.data, found)
    told_apart = extents(found.items) + extents(gap for gap in found.gaps if is_whole(damaged.data, gap))
    for start, end in places(data):
        place = damaged.place_of(start, end)
        if place is not None:
            last = place + end - start
            assert any(offset <= place and last <= offset + length for offset, length in told_apart), (place, found)


@given(sound_indexes(), sound_indexes(), st.data())
def test_an_index_written_over_a_longer_one(old: bytes, new: bytes, draw: st.DataObject) -> None:
    shift = draw.draw(st.integers(0, max(0, len(old) - 1)))
    data = new + old[shift:]
    found = salvage_entries(data)
    check_bytes(data, found)
    current = [descriptor.raw for descriptor in ImageIndex.parse(new).descriptors]
    assert raws(found)[: len(current)] == current
    left = {(len(new) + a - shift, old[a:b]) for a, b in places(old) if a >= shift}
    assert left <= {(item.offset, item.raw) for item in found.items}


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    check_places(data, salvage_entries(data))


@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_any_json_like_bytes(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    check_bytes(data, salvage_entries(data))


@given(sound_indexes(), st.sampled_from(["utf-16", "utf-16-le", "utf-16-be"]), st.data())
def test_utf_16(data: bytes, encoding: str, draw: st.DataObject) -> None:
    text = data.decode()
    wide = text.encode(encoding)
    end = draw.draw(st.integers(0, len(wide) // 2)) * 2
    found = salvage_entries(wide[:end])
    check_places(wide[:end], found)
    edge = len("".encode(encoding))
    lengths = [(edge + 2 * utf16_units(data[:a]), edge + 2 * utf16_units(data[:b]), data[a:b]) for a, b in places(data)]
    assert [(i.offset, i.offset + i.length, i.raw) for i in found.items] == [one for one in lengths if one[1] <= end]


def utf16_units(data: bytes) -> int:
    return len(data.decode().encode("utf-16-le")) // 2


BROKEN = {
    "empty": (b"", [], []),
    "NULs in its place": (bytes(len(SOUND)), [], [bytes(len(SOUND))]),
    "trailing bytes": (SOUND + b"rest", RAWS, [b"rest"]),
    "trailing NULs": (SOUND + bytes(100), RAWS, [bytes(100)]),
    "a byte order mark": (b"\xef\xbb\xbf" + SOUND, RAWS, [b"\xef\xbb\xbf" + HEAD]),
    "a comment": (SOUND.replace(b"{", b"{ // by hand", 1), RAWS, [HEAD.replace(b"{", b"{ // by hand")]),
    "a trailing comma": (SOUND.replace(b"}\n  ]", b"},\n  ]"), RAWS, [b"]\n}"]),
    "no schemaVersion": (
        SOUND.replace(b'"schemaVersion": 2,', b""),
        RAWS,
        [HEAD.replace(b'"schemaVersion": 2,', b"")],
    ),
    "schemaVersion a float": (SOUND.replace(b": 2,", b": 2.0,", 1), RAWS, [HEAD.replace(b": 2,", b": 2.0,")]),
    "a comma is missing": (SOUND.replace(b"},\n    {", b"}\n    {", 1), RAWS, []),
    "the beginning is gone": (SOUND[SOUND.index(RAWS[0]) :], RAWS, []),
    "the beginning of a descriptor is gone": (
        SOUND[SOUND.index(RAWS[0]) + 9 :],
        RAWS[1:],
        [RAWS[0][9:]],
    ),
    "manifests is an object": (b'{"manifests":{"a":' + RAWS[0] + b',"b":' + RAWS[1] + b"}}", RAWS[:2], None),
    "manifests is a descriptor": (b'{"manifests":' + RAWS[0] + b"}", RAWS[:1], None),
    "the name of the list is damaged": (SOUND.replace(b'"manifests"', b'"m\x00nifests"'), RAWS, None),
    "the name of the list is gone": (SOUND.replace(b'"manifests"', b'"' + bytes(9) + b'"'), RAWS, None),
    "the name of the list is torn": (SOUND[SOUND.index(b'ests": [') :], RAWS, None),
    "only the list": (b"[" + b",".join(RAWS) + b"]", RAWS, None),
    "one after the other": (b"\n".join(RAWS), RAWS, None),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken(case: str) -> None:
    data, whole, lost = BROKEN[case]
    found = salvage_entries(data)
    assert raws(found) == whole
    assert found.refused == []
    assert lost is None or gaps(data, found) == lost


def test_a_hole_costs_what_it_touches_and_tells_what_can_still_be_read() -> None:
    start = SOUND.index(RAWS[1]) + RAWS[1].index(b'"size"')
    data = SOUND[:start] + bytes(20) + SOUND[start + 20 :]
    found = salvage_entries(data)
    assert raws(found) == [RAWS[0], RAWS[2]]
    told = [((THREE[1]["digest"],), ()), ((), ()), ((), ("image1:1",))]
    assert [(gap.digests, gap.names) for gap in found.gaps] == told
    assert (found.gaps[1].offset, found.gaps[1].length) == (start, 20)


@pytest.mark.parametrize("quote", [b'"annotations": {', b'"size": 201', b'"mediaType"'])
def test_a_hole_that_begins_and_ends_in_a_string_hides_no_other_entry(quote: bytes) -> None:
    """What stands after it would look whole, though on a level that is not its own."""
    start = SOUND.index(RAWS[1]) + RAWS[1].index(quote) + 1
    end = SOUND.index(RAWS[2]) + RAWS[2].index(b"mediaType")
    five = index_bytes([*THREE, entry(3), entry(4)])
    found = salvage_entries(five[:start] + bytes(end - start) + five[end:])
    assert names(found) == ["image0:1", "image3:1", "image4:1"]


@pytest.mark.parametrize(
    "change",
    [
        (b'"size": ', b'"size": NaN, "was": '),
        (b'"size": ', b'"size": "7", "was": '),
        (b'"digest"', b'"digests"'),
        (b'"size"', b'"size": 1, "size"'),
        (b"image1", b"image\\ud800"),
        (b"image1", b"image\xff"),
        (b"image1", b"image\x01"),
        (b'"image1:1"', b"null"),
    ],
)
def test_one_bad_descriptor_among_good_ones_is_told_apart(change: tuple[bytes, bytes]) -> None:
    bad = RAWS[1].replace(*change)
    found = salvage_entries(SOUND.replace(RAWS[1], bad))
    assert raws(found) == [RAWS[0], bad, RAWS[2]]
    assert [item.raw for item in found.refused] == [bad]
    assert [descriptor.raw for descriptor in found.descriptors] == [RAWS[0], RAWS[2]]
    assert found.gaps == ()


LIKE = json.dumps(entry(7)).encode()


@pytest.mark.parametrize(
    "holder",
    [
        b'"platform":' + LIKE,
        b'"x":{"manifests":[' + LIKE + b"]}",
        b'"x":[' + LIKE + b"," + LIKE + b"]",
        b'"x":{"y":' + LIKE + b"}",
    ],
)
@pytest.mark.parametrize("cut", ["whole", "end", "beginning", "both"])
def test_the_like_of_a_descriptor_in_another_is_none(holder: bytes, cut: str) -> None:
    one = b'{"mediaType":"m","digest":"sha256:1",' + holder + b',"size":1}'
    data = b'{"schemaVersion":2,"manifests":[' + RAWS[0] + b"," + one + b"," + RAWS[2] + b"]}"
    start, end = data.index(holder), data.index(holder) + len(holder)
    if cut in ("end", "both"):
        data = data[: end + 1] + bytes(len(data) - end - 1)
    if cut in ("beginning", "both"):
        data = bytes(start - 1) + data[start - 1 :]
    assert LIKE not in raws(salvage_entries(data))


def test_annotations_and_platforms_of_a_broken_descriptor_are_no_descriptors() -> None:
    fields = {
        **THREE[0],
        "platform": {"os": "linux", "architecture": "arm64"},
        "annotations": {"digest": "a", "b": "c"},
    }
    one = raw(fields)
    for data in (one[:-1], b"x" + one[1:], b'{"schemaVersion":2,"manifests":[' + one[:-1]):
        assert salvage_entries(data).items == ()


def test_the_index_of_an_index_is_no_entry() -> None:
    index = {"schemaVersion": 2, "manifests": THREE[:1], "subject": THREE[1], "annotations": {"digest": "x"}}
    assert names(salvage_entries(json.dumps(index).encode() + b"x")) == ["image0:1"]


def test_what_an_older_index_left_behind_wins_nothing() -> None:
    older = index_bytes([*THREE, entry(5, name="image0:1"), THREE[0], entry(6)])
    newer = index_bytes([entry(8), THREE[0]])
    found = salvage_entries(newer + older[len(newer) :])
    assert [item.stale for item in found.items] == [False, False, True, True, True]
    assert names(found) == ["image0:1", "image6:1", "image8:1", "image0:1"]
    assert found.descriptors[-1].digest == THREE[0]["digest"]


def test_two_whole_indexes_are_both_current() -> None:
    found = salvage_entries(index_bytes(THREE[:1]) + index_bytes(THREE[1:]))
    assert raws(found) == RAWS
    assert not any(item.stale for item in found.items)


def test_what_is_known_is_salvaged_as_it_would_be_anyway_and_held_once() -> None:
    data = index_bytes([entry(number) for number in range(40)])
    known = [*ImageIndex.parse(data).descriptors]
    for broken in (data[:-100], data[: len(data) // 2] + b"\xff" + data[len(data) // 2 + 1 :], b"[" + data):
        found = salvage_entries(broken, known)
        assert found == salvage_entries(broken)
        assert {*map(id, found.descriptors)} <= {*map(id, known)}


def test_duplicates_are_all_salvaged() -> None:
    found = salvage_entries(index_bytes([THREE[0], THREE[0]]) + b"x")
    assert raws(found) == [RAWS[0], RAWS[0]]


def test_utf_16_with_a_hole_and_utf_8_after_it() -> None:
    wide = SOUND.decode().encode("utf-16-le")
    hole = wide.index(RAWS[1].decode().encode("utf-16-le")) + 40
    found = salvage_entries(wide[:hole] + bytes(50) + wide[hole + 50 :] + SOUND)
    assert raws(found) == [RAWS[0], RAWS[2], *RAWS]


@pytest.mark.slow
@pytest.mark.parametrize("unit", REPEATED)
def test_hostile_repetition_ends(unit: bytes) -> None:
    """Were the work to grow with the square of the length, this would not end within the patience of anybody."""
    data = unit * (400_000 // len(unit))
    check_places(data, salvage_entries(data))
