"""The three sources joined: nothing dropped, the order kept that decides who wins a name, each fact with its source."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ocitui.cache import (
    Descriptor,
    EntryKey,
    ExpectedEntries,
    ImageIndex,
    ImageName,
    PackedFormat,
    examine_index,
    judge_index,
)
from ocitui.doctor.salvage.salvage import FoundEntry, NameHint, Told, salvage_entries
from ocitui.doctor.salvage.sources import IndexSource, JoinedEntries, JoinedEntry, PeerNames, merged
from tests.cache.support import entry, index_bytes
from tests.doctor.test_rebuild import rebuilt

INDEX, BACKUP, FILES = IndexSource.INDEX, IndexSource.BACKUP, IndexSource.FILES


def proposed(entries: Iterable[JoinedEntry]) -> list[Descriptor]:
    """The descriptors of the new index, in order."""
    return [entry.descriptor for entry in entries if entry.descriptor is not None]


def descriptor(number: int, name: str = "", **fields: Any) -> Descriptor:
    made = entry(number, name=name or None)
    return Descriptor.from_dict({**made, **fields})


def on_disk(number: int, modified: float = 0.0, **fields: Any) -> FoundEntry:
    """An entry as the files tell it."""
    made = entry(number)
    made["annotations"] = {"dev.krata.oci.packer.format": "squashfs"}
    one = Descriptor.from_dict({**made, **fields})
    return FoundEntry(one.digest, PackedFormat.SQUASHFS, (), modified, modified, lambda *_: Told(one))


def names(entries: Iterable[JoinedEntry]) -> list[str | None]:
    return [one.name for one in entries]


A, B, C, D = (descriptor(number) for number in range(4))


def test_without_a_backup_and_files_the_index_stays_as_it_is() -> None:
    joined = JoinedEntries([A, B], [], [])
    assert proposed(joined) == [A, B]
    assert [one.sources for one in joined] == [(INDEX,), (INDEX,)]
    assert [one.problems for one in joined] == [("there is no packed file",)] * 2


def test_without_an_index_the_backup_is_the_order() -> None:
    joined = JoinedEntries([], [C, A, B], [on_disk(0), on_disk(1)])
    assert proposed(joined) == [C, A, B]
    assert [one.taken_from for one in joined] == [BACKUP] * 3
    assert [one.sources for one in joined] == [(BACKUP,), (BACKUP, FILES), (BACKUP, FILES)]


def test_what_a_hole_took_comes_back_where_it_was() -> None:
    assert proposed(JoinedEntries([A, D], [A, B, C, D], [])) == [A, B, C, D]


def test_what_was_stored_since_the_backup_comes_after_what_was_there() -> None:
    new = descriptor(9, "image1:1")
    joined = JoinedEntries([new], [A, B], [])
    assert proposed(joined) == [A, B, new]
    winner = ImageIndex.parse(index_bytes(one.as_dict() for one in proposed(joined))).by_name("image1:1")
    assert winner is not None
    assert winner.digest == new.digest


def test_an_entry_that_was_stored_again_stays_behind_what_it_overtook() -> None:
    older, newer = descriptor(1, "app:1"), descriptor(2, "app:1")
    assert proposed(JoinedEntries([C, older], [older, newer, C], [])) == [newer, C, older]


def test_what_only_the_files_tell_comes_last_by_the_times_of_the_manifests() -> None:
    joined = JoinedEntries([A], [], [on_disk(3, 30.0), on_disk(2, 20.0), on_disk(0, 99.0)])
    assert [one.digest for one in joined] == [A.digest, C.digest, D.digest]
    assert [one.lost for one in joined] == [(), ("name",), ("name",)]
    assert names(joined) == ["image0:1", None, None]


def test_the_operator_gives_a_name() -> None:
    joined = JoinedEntries([], [], [on_disk(0)], {(A.digest, "squashfs"): ImageName.parse("alpine:3.19")})
    assert names(joined) == ["alpine:3.19"]
    assert joined[0].lost == ()
    (made,) = proposed(joined)
    assert made.reference == "3.19"


def test_what_the_files_do_not_tell_is_listed_and_not_proposed() -> None:
    found = on_disk(0)
    broken = FoundEntry(found.digest, found.format, ("the manifest is missing",), 1.0, None, lambda *_: Told())
    (one,) = JoinedEntries([], [], [broken])
    assert proposed([one]) == []
    assert one.lost == ("name", "descriptor")
    assert one.problems == ("the manifest is missing",)


def test_an_entry_without_its_files_is_kept_with_its_problem() -> None:
    found = FoundEntry(A.digest, PackedFormat.SQUASHFS, ("the manifest is missing",), 1.0, None, lambda *_: Told())
    joined = JoinedEntries([], [A, B], [found])
    assert proposed(joined) == [A, B]
    assert [one.problems for one in joined] == [("the manifest is missing",), ("there is no packed file",)]
    assert joined[0].sources == (BACKUP, FILES)


def test_conflicts_are_told_with_their_sources() -> None:
    left, found = descriptor(0, size=5), on_disk(0, platform={"os": "linux", "architecture": "arm64"})
    (one,) = JoinedEntries([left], [A], [found])
    assert one.descriptor == left
    assert [(fact.what, fact.told) for fact in one.conflicts] == [
        ("size", ((INDEX, "5"), (BACKUP, str(A.size)), (FILES, str(A.size))))
    ]
    assert [fact.what for fact in one.facts] == ["name", "size", "media type", "platform"]


def test_two_names_of_one_entry_are_both_proposed() -> None:
    renamed = descriptor(0, "other:2")
    joined = JoinedEntries([renamed], [A], [])
    assert names(joined) == ["image0:1", "other:2"]
    assert [fact.told for one in joined for fact in one.conflicts] == [((INDEX, "other:2"), (BACKUP, "image0:1"))] * 2


def test_equal_entries_of_an_index_that_reads_are_all_kept() -> None:
    assert proposed(JoinedEntries([A, A, B], [A, B], [])) == [A, A, B]


def test_an_index_that_was_written_twice_holds_each_entry_once() -> None:
    data = index_bytes([entry(0), entry(1), entry(2)])
    assert proposed(JoinedEntries(salvage_entries(data + data))) == proposed(
        JoinedEntries(salvage_entries(data + b"x"))
    )
    moved = index_bytes([entry(1), entry(0)])
    assert names(JoinedEntries(salvage_entries(data + moved))) == ["image2:1", "image1:1", "image0:1"]


def test_a_name_that_can_be_read_beside_a_digest_is_a_hint() -> None:
    data = index_bytes([entry(0), entry(1), entry(2)])
    broken = data.replace(b'"size"', b'"size?', 1)
    refused = b'"size": "x", "was"'.join(broken.rsplit(b'"size"', 1))
    joined = JoinedEntries(salvage_entries(refused), [], [on_disk(0), on_disk(1), on_disk(2)])
    assert names(joined) == ["image1:1", None, None]
    hints = {one.digest: [hint.text for hint in one.hints] for one in joined}
    assert hints == {A.digest: ["image0:1"], B.digest: [], C.digest: ["image2:1"]}
    assert joined[-1].hints[0] == NameHint("image2:1", joined[-1].hints[0].source)


def test_a_real_cache_whose_index_is_gone(krata_cache: Path) -> None:
    index = ImageIndex.parse((krata_cache / "index.json").read_bytes())
    found = rebuilt(krata_cache)
    joined = JoinedEntries([], index.descriptors, found)
    assert proposed(joined) == list(index.descriptors)
    assert all(one.sources == (BACKUP, FILES) and not one.problems for one in joined)
    made = JoinedEntries([], [], found)
    assert {one.lost for one in made} == {("name",)}
    assert judge_index(index_bytes(one.as_dict() for one in proposed(made))) == "loaded"


History = tuple[list[int], list[int], set[int], set[int]]
"""The order at a backup, the order now, what the damage took of it, and what was stored between."""


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Entries are stored, for the first time or again, and each store puts its entry at the end."""
    backup = draw(st.lists(st.integers(0, 7), unique=True))
    now = list(backup)
    stored = draw(st.lists(st.integers(0, 12), max_size=8))
    for one in stored:
        now = [*(other for other in now if other != one), one]
    return backup, now, draw(st.sets(st.integers(0, 12))), set(stored)


@given(histories())
def test_the_order_is_the_one_that_was_as_far_as_it_can_be_known(
    history: History,
) -> None:
    """What was stored again can be known by its place only where something that is left shows that it has moved."""
    backup, now, lost, again = history
    left = [one for one in now if one not in lost]
    result = [int(digest) for digest, *_ in merged(keys(left), keys(backup))]
    assert sorted(result) == sorted({*left, *backup})
    assert [one for one in result if one in left] == left
    unmoved = [one for one in result if one not in again]
    assert unmoved == [one for one in now if one in unmoved]
    new = [one for one in result if one not in backup]
    assert not new or set(result[result.index(new[0]) :]) <= set(left)


def keys(numbers: list[int]) -> list[EntryKey]:
    return [(str(number), "", "", 0) for number in numbers]


def test_what_the_journal_called_an_entry_stands_before_what_peers_call_its_image() -> None:
    """Once, whatever these call another format of it, of which nothing here tells."""
    noted, (_, peer) = descriptor(0, "app:1"), examine_index(index_bytes([entry(0, name=f"app:{n}") for n in (2, 3)]))
    assert peer is not None
    tar = replace(on_disk(0), format=PackedFormat.TAR)
    expected = ExpectedEntries((), {}, {noted.key: noted})
    joined = JoinedEntries([], [], [on_disk(0), tar], {}, expected, PeerNames({"peer": peer}))
    assert [(one.format, one.name) for one in joined] == [("squashfs", "app:1"), ("tar", "app:2"), ("tar", "app:3")]


def test_a_name_that_the_journal_tells_of_is_not_taken_for_another_image() -> None:
    noted, (_, peer) = descriptor(1, "app:1"), examine_index(index_bytes([entry(0, name="app:1")]))
    assert peer is not None
    expected = ExpectedEntries((), {}, {noted.key: noted})
    joined = JoinedEntries([], [], [on_disk(0, 9.0), on_disk(1)], {}, expected, PeerNames({"peer": peer}))
    assert {one.digest: one.name for one in joined} == {noted.digest: "app:1", descriptor(0).digest: None}
