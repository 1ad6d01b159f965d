"""The screen's quick check: it agrees with `examine`, and looks again only at what changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocitui.cache import Descriptor, EntryKey, ImageIndex
from ocitui.cache.entries import entry_keys
from ocitui.doctor.check.directory import CacheFiles
from ocitui.doctor.check.live import EntryExaminer
from ocitui.doctor.findings import Depth
from tests.doctor.examine_support import Sample, all_codes, found
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
    """What a screen does with its examiner."""

    def __init__(self, sample: Sample) -> None:
        self.sample, self.reads = sample, list[str]()
        self.examiner = EntryExaminer(sample.directory, self._open)
        self.descriptors: list[Descriptor] = []
        self.keys: list[EntryKey] = []

    def _open(self, directory: Path) -> CacheFiles:
        files = Counting(directory)
        files.reads = self.reads
        return files

    def look(self, *names: str) -> set[EntryKey]:
        """The entries that changed; ``names`` are the only files that did, any of them where there are none."""
        descriptors = list(ImageIndex.parse(self.sample.index.read_bytes()).descriptors)
        if descriptors != self.descriptors:
            self.descriptors, self.keys = descriptors, entry_keys(descriptors)
        self.reads.clear()
        return set().union(*self.examiner.examine(self.descriptors, self.keys, names or None))

    def codes(self, position: int) -> set[str]:
        return {finding.code for finding in self.examiner.findings(self.keys[position])}


@pytest.fixture
def screen(sample: Sample) -> Screen:
    return Screen(sample)


def test_a_sound_cache_has_no_finding(screen: Screen) -> None:
    assert screen.look() == set()
    assert screen.examiner.with_findings() == []
    # Two digests, with two documents each, though there are four entries.
    assert len(screen.reads) == 4


@pytest.mark.parametrize("case", as_parameters(OF_ENTRIES))
async def test_it_finds_what_examine_finds(case: FaultCase, screen: Screen) -> None:
    screen.look()
    case.make(screen.sample)
    screen.look()
    mine = {finding for key in screen.keys for finding in screen.examiner.findings(key)}
    report = await found(screen.sample.directory)
    assert {finding.code for finding in mine} == all_codes(report.findings) == {case.code}
    assert {finding.fingerprint for finding in mine} == {
        one.fingerprint for one in report.findings if one.code == case.code
    }


def test_only_what_changed_is_read_again(screen: Screen) -> None:
    screen.look()
    config = screen.sample.other_file("config.json")
    config.write_bytes(b"{")
    assert screen.look(config.name) == {screen.keys[3]}
    assert screen.codes(3) == {"config-unparsable"}
    assert {name.partition(".")[0] for name in screen.reads} == {screen.sample.other}
    assert screen.look("unrelated") == set()
    assert screen.reads == []


def test_a_touched_file_is_read_and_nothing_changes(screen: Screen) -> None:
    screen.look()
    os.utime(screen.sample.other_file("manifest.json"))
    assert screen.look(screen.sample.other_file("manifest.json").name) == set()
    assert len(screen.reads) == 2


def test_a_fault_that_is_mended_goes(screen: Screen) -> None:
    packed = screen.sample.other_file("squashfs")
    content = packed.read_bytes()
    packed.unlink()
    assert screen.look() == {screen.keys[3]}
    packed.write_bytes(content)
    assert screen.look(packed.name) == {screen.keys[3]}
    assert screen.examiner.with_findings() == []


def test_a_shared_document_concerns_every_format(screen: Screen) -> None:
    screen.look()
    screen.sample.file("manifest.json").unlink()
    assert screen.look(screen.sample.file("manifest.json").name) == set(screen.keys[:3])
    found_at = [finding.position for key in screen.keys[:3] for finding in screen.examiner.findings(key)]
    assert found_at == [0, 1, 2]
    screen.sample.file("tar").write_bytes(b"")
    screen.look(screen.sample.file("tar").name)
    assert [screen.codes(position) for position in range(4)] == [
        {"file-missing"},
        {"file-missing"},
        {"file-missing", "packed-empty"},
        set(),
    ]


def test_entries_come_go_and_move(screen: Screen) -> None:
    screen.sample.other_file("config.json").unlink()
    screen.look()
    screen.sample.edit_index(lambda fields: fields["manifests"].pop(0))
    screen.look("index.json")
    assert screen.reads != []
    assert [finding.position for finding in screen.examiner.findings(screen.keys[2])] == [2]
    screen.sample.edit_index(lambda fields: fields["manifests"].pop(2))
    screen.look("index.json")
    assert screen.examiner.with_findings() == []


def test_who_stops_between_two_batches_loses_nothing(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.doctor.check.live._BATCH", 1)
    for suffix in ("config.json", "manifest.json"):
        screen.sample.other_file(suffix).unlink()
        screen.sample.file(suffix).unlink()
    index = ImageIndex.parse(screen.sample.index.read_bytes())
    steps = screen.examiner.examine(index.descriptors, entry_keys(index.descriptors))
    assert next(steps) == set()
    next(steps)
    steps.close()
    screen.look("nothing")
    assert len(screen.examiner.with_findings()) == 4


def test_a_directory_that_is_gone_leaves_all_as_it_was(screen: Screen) -> None:
    screen.sample.other_file("config.json").unlink()
    screen.look()
    before = screen.examiner.with_findings()
    elsewhere = screen.sample.directory.with_name("elsewhere")
    screen.sample.directory.rename(elsewhere)
    assert list(screen.examiner.examine(screen.descriptors, screen.keys)) == []
    assert screen.examiner.with_findings() == before
