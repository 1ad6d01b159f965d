"""The judge: it agrees with `examine`, looks again only at what changed, and forgets nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ocitui.cache import CacheDirectoryError, ImageIndex, PackerCache, keep_backup
from ocitui.cache.listing import CacheFiles
from ocitui.doctor.check.cache_checks import known_history
from ocitui.doctor.check.index_checks import History, read_index
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.findings import NOT_LOOKED, Depth
from tests.doctor.examine_support import Sample, all_codes, bad_positions, found
from tests.doctor.fault_makers import CASES, FaultCase, as_parameters

# Of the faults of single entries, those that a look at names and documents shows.
OF_ENTRIES = [
    case
    for case in CASES
    if case.depth is Depth.QUICK
    and not case.code.startswith(("index-", "descriptor-", "orphan-", "unknown-", "leftover-", "case-"))
    and case.code not in ("journal-damaged", "transaction-pending")
]


class Counting(CacheFiles):
    """Notes which documents are read."""

    reads: list[str]

    def read(self, name: str, size: int) -> bytes:
        self.reads.append(name)
        return super().read(name, size)


class Screen:
    """What a screen does with its judge."""

    def __init__(self, sample: Sample) -> None:
        self.sample, self.reads = sample, list[str]()
        self.judge = Judge(sample.directory, open_files=self._open)

    def _open(self, directory: Path) -> CacheFiles:
        files = Counting(directory)
        files.reads = self.reads
        return files

    def look(self, *names: str) -> set[str]:
        """The digests that were looked at; ``names`` are the only files that changed, any where there are none."""
        with CacheFiles(self.sample.directory) as files:
            reading = read_index(files, self.judge.reading.index)
        self.reads.clear()
        self.judge.take(reading, names or None)
        return {digest for digests in self.judge.look() for digest in digests}

    def codes(self, position: int) -> set[str]:
        return {finding.code for finding in self.judge.findings_at(position)}

    @property
    def words(self) -> list[str]:
        return [self.judge.state_at(position).word for position in range(self.judge.entries)]


@pytest.fixture
def screen(sample: Sample) -> Screen:
    return Screen(sample)


def test_a_sound_cache_has_no_finding(screen: Screen) -> None:
    assert screen.look() == {screen.sample.digest, screen.sample.other}
    assert screen.judge.findings() == ()
    assert screen.words == ["ok"] * 4
    # Two digests, with two documents each, though there are four entries.
    assert len(screen.reads) == 4


def test_what_was_not_looked_into_is_not_said_to_be_ok(sample: Sample) -> None:
    judge = Judge(sample.directory, headers=False)
    judge.read()
    assert [judge.state_at(0), judge.state_at(9)] == [NOT_LOOKED, NOT_LOOKED]
    for _ in judge.look():
        continue
    state = judge.state_at(0)
    assert (state.word, state.ok, state.bad, state.unknown, state.depth) == ("-", False, False, True, Depth.QUICK)


@pytest.mark.parametrize("case", as_parameters(OF_ENTRIES))
async def test_it_finds_what_examine_finds(case: FaultCase, screen: Screen) -> None:
    screen.look()
    case.make(screen.sample)
    screen.look()
    mine = set(screen.judge.entry_findings())
    report = await found(screen.sample.directory, Depth.HEADER)
    assert {finding.code for finding in mine} == all_codes(report.findings) == {case.code}
    assert mine == {one for one in report.findings if one.code == case.code}
    bad = bad_positions(screen.judge)
    assert bool(bad) is any(one.is_problem for one in mine)


def test_only_what_changed_is_read_again(screen: Screen) -> None:
    screen.look()
    config = screen.sample.other_file("config.json")
    config.write_bytes(b"{")
    assert screen.look(config.name) == {screen.sample.other}
    assert screen.codes(3) == {"config-unparsable"}
    assert {name.partition(".")[0] for name in screen.reads} == {screen.sample.other}
    assert screen.look("unrelated") == set()
    assert screen.reads == []


def test_a_whole_new_look_reads_only_what_changed(screen: Screen) -> None:
    screen.look()
    os.utime(screen.sample.other_file("manifest.json"), (1, 1))
    (screen.sample.directory / "unrelated").touch()
    assert screen.look() == {screen.sample.other}
    assert len(screen.reads) == 2
    assert screen.words == ["ok"] * 4


def test_a_fault_that_is_mended_goes(screen: Screen) -> None:
    packed = screen.sample.other_file("squashfs")
    content = packed.read_bytes()
    packed.unlink()
    assert screen.sample.other in screen.look()
    assert screen.words == ["ok", "ok", "ok", "no packed"]
    packed.write_bytes(content)
    assert screen.look(packed.name) == {screen.sample.other}
    assert screen.words == ["ok"] * 4


def test_a_shared_document_concerns_every_format(screen: Screen) -> None:
    screen.look()
    screen.sample.file("manifest.json").unlink()
    assert screen.look(screen.sample.file("manifest.json").name) == {screen.sample.digest}
    found_at = [one.position for position in range(3) for one in screen.judge.findings_at(position)]
    assert found_at == [0, 1, 2]
    assert len(screen.judge.findings()) == 1
    screen.sample.file("tar").write_bytes(b"")
    screen.look(screen.sample.file("tar").name)
    assert [screen.codes(position) for position in range(4)] == [
        {"file-missing"},
        {"file-missing"},
        {"file-missing", "packed-empty"},
        set(),
    ]


def test_all_that_is_wrong_with_a_descriptor_is_told(screen: Screen) -> None:
    index = json.loads(screen.sample.index.read_bytes())
    first = index["manifests"][0]
    first["annotations"]["io.containerd.image.name"] = "library/tool:2"
    index["manifests"].append(first)
    screen.sample.index.write_text(json.dumps(index))
    screen.look()
    assert screen.codes(0) == {"name-not-canonical", "entry-duplicate"}


def test_entries_come_go_and_move(screen: Screen) -> None:
    screen.sample.other_file("config.json").unlink()
    screen.look()
    screen.sample.edit_index(lambda fields: fields["manifests"].pop(0))
    screen.look("index.json")
    assert [finding.position for finding in screen.judge.findings_at(2)] == [2]
    assert [finding.position for finding in screen.judge.entry_findings()] == [2]
    screen.sample.edit_index(lambda fields: fields["manifests"].pop(2))
    screen.look("index.json")
    assert screen.judge.entry_findings() == []


@pytest.mark.slow
def test_the_files_are_judged_where_the_index_does_not_read(screen: Screen) -> None:
    screen.look()
    screen.sample.other_file("squashfs").write_bytes(b"")
    screen.sample.index.write_bytes(b"{")
    screen.look()
    [finding] = screen.judge.entry_findings()
    assert (finding.code, finding.digest, finding.position) == ("packed-empty", screen.sample.other, None)
    assert [one.code for one in screen.judge.look_at_cache() if one.is_problem] == ["index-unparsable"]


async def test_a_transaction_since_the_index_was_read_is_no_edit_that_was_undone(screen: Screen) -> None:
    screen.look()
    await PackerCache(screen.sample.directory).delete([(screen.sample.digest, "squashfs")])
    assert not {one.code for one in screen.judge.look_at_cache()} & {"index-overwritten", "index-shrunk"}
    screen.look()
    await PackerCache(screen.sample.directory).undo()
    assert not {one.code for one in screen.judge.look_at_cache()} & {"index-overwritten", "index-shrunk"}


@pytest.mark.slow
def test_a_history_is_not_held_against_an_index_that_was_taken_meanwhile(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.look()
    whole = screen.sample.index.read_bytes()
    keep_backup(screen.sample.directory, whole)

    def slowly(directory: Path, index: ImageIndex | None) -> History:
        known = known_history(directory, index)
        screen.sample.index.write_bytes(whole)
        screen.sample.edit_index(lambda fields: fields["manifests"].pop())
        screen.look()
        return known

    screen.sample.index.write_bytes(b"{")
    screen.look()
    monkeypatch.setattr("ocitui.doctor.check.cache_checks.known_history", slowly)
    assert "index-shrunk" not in {one.code for one in screen.judge.look_at_cache()}
    assert screen.judge.history is None


def test_files_that_went_with_the_index_were_not_looked_into(screen: Screen) -> None:
    screen.look()
    digest = screen.sample.digest
    assert screen.judge.depth_of(digest, "squashfs") is Depth.HEADER
    for path in screen.sample.directory.iterdir():
        path.unlink()
    screen.look()
    assert screen.judge.depth_of(digest, "squashfs") is Depth.QUICK


@pytest.mark.slow
def test_the_listing_has_the_index_as_it_was_read(screen: Screen) -> None:
    """Though who watches tells only of other names."""
    screen.look()
    screen.sample.index.write_bytes(b"{")
    screen.look("another")
    fact = screen.judge.listing.get("index.json")
    assert fact is not None
    assert fact.size == 1
    screen.sample.index.unlink()
    screen.look("another")
    assert "index.json" not in screen.judge.listing


def test_a_look_at_a_directory_that_is_away_is_none(screen: Screen) -> None:
    directory = screen.sample.directory
    with CacheFiles(directory) as files:
        screen.judge.take(read_index(files))
    away = directory.rename(directory.with_name("away"))
    assert list(screen.judge.look()) == []
    assert not screen.judge.complete
    away.rename(directory)
    assert len(list(screen.judge.look())) == 1
    assert screen.judge.complete


def test_who_stops_between_two_batches_loses_nothing(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.doctor.check.judge._BATCH", 1)
    for suffix in ("config.json", "manifest.json"):
        screen.sample.other_file(suffix).unlink()
        screen.sample.file(suffix).unlink()
    screen.judge.read()
    steps = screen.judge.look()
    assert len(next(steps)) == 1
    steps.close()
    assert len(screen.judge.pending) == 1
    screen.look("nothing")
    assert bad_positions(screen.judge) == [0, 1, 2, 3]


def test_a_directory_that_is_gone_leaves_all_as_it_was(screen: Screen) -> None:
    screen.sample.other_file("config.json").unlink()
    screen.look()
    before = screen.judge.findings()
    elsewhere = screen.sample.directory.with_name("elsewhere")
    screen.sample.directory.rename(elsewhere)
    with pytest.raises(CacheDirectoryError):
        screen.judge.take(screen.judge.reading)
    assert [*screen.judge.look()] == []
    assert screen.judge.findings() == before


async def test_what_a_deep_check_found_is_told_and_outlives_it(screen: Screen) -> None:
    screen.look()
    await found(screen.sample.directory, Depth.DEEP)
    screen.judge.remember()
    states = [screen.judge.state_at(position) for position in range(4)]
    assert {(state.word, state.depth) for state in states} == {("ok", Depth.DEEP)}
    assert all(state.checked is not None for state in states)
    flip(screen.sample.other_file("squashfs"))
    assert all_codes((await found(screen.sample.directory, Depth.DEEP)).findings) == {"packed-damaged"}
    screen.judge.remember()
    screen.look("nothing")
    assert screen.words == ["ok", "ok", "ok", "damaged"]
    again = Screen(screen.sample)
    again.look()
    assert again.words == screen.words


async def test_a_deep_check_that_may_not_write_is_known_here(screen: Screen) -> None:
    await found(screen.sample.directory, Depth.DEEP)
    flip(screen.sample.other_file("squashfs"))
    await found(screen.sample.directory, Depth.DEEP, ledger_writes=False, judge=screen.judge)
    assert screen.words == ["ok", "ok", "ok", "damaged"]
    screen.look()
    assert screen.words == ["ok", "ok", "ok", "damaged"]
    assert Judge(screen.sample.directory).remember() == set()


def test_the_first_entries_need_not_wait_for_the_listing(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.doctor.check.judge._BATCH", 1)
    with CacheFiles(screen.sample.directory) as files:
        screen.judge.begin(read_index(files))
    listed = list[int]()

    def items(files: CacheFiles) -> list[os.DirEntry[str]]:
        listed.append(1)
        return [*os.scandir(files.fd)]

    monkeypatch.setattr(CacheFiles, "items", items)
    looked = screen.judge.look()
    assert (next(looked), listed) == ([screen.sample.digest], [])
    assert screen.words == ["ok", "ok", "ok", "-"]
    assert [*looked] == [[screen.sample.other]]
    assert (screen.words, listed) == (["ok"] * 4, [1])


def flip(path: Path) -> None:
    """Change a byte as rot does: the file's stat stays as it is."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
