"""Repairs beside a daemon that writes, of an edit that was overwritten, and of what was left."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ocitui.cache import (
    Descriptor,
    ImageIndex,
    PackerCache,
    PlanChangedError,
    ReadOnlyError,
    TransactionKind,
    keep_backup,
    new_index,
)
from ocitui.cache.disk import Disk
from ocitui.cache.files import valid_digest
from ocitui.cache.ledger import Ledger, record_stored
from ocitui.doctor.assessment import Assessment, Case, Command, Confidence
from ocitui.doctor.check.cache_checks import known_history
from ocitui.doctor.check.entry_checks import PackedFile
from ocitui.doctor.check.examine import DeepChecks, Reading
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.findings import Depth, Severity, StepKind
from ocitui.doctor.repair.plan import RepairPlan, apply_plan, plan_repair
from ocitui.doctor.repair.steps import RepairOptions, RepairProgress, take_snapshot
from ocitui.doctor.salvage.sources import IndexSource
from tests.cache.support import entry
from tests.doctor.examine_support import OTHER_NAME, Sample, all_codes, codes, copied, digest_of, flipped, found
from tests.doctor.fault_makers import CASES
from tests.doctor.repair_support import (
    nobody_else_writes,
    planned,
    repaired,
    standing,
    undone,
    worse_than_info,
)
from tests.kratad import Memory
from tests.tools import ROOT

BY_NAME = {str(case): case for case in CASES}
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_else_writes(monkeypatch)


class Daemon:
    """Stores entries that have no files."""

    def __init__(self, index: Path) -> None:
        self.memory = Memory(index.parent)
        assert self.memory.load() == "loaded"
        self.stored: list[str] = []

    def store(self) -> None:
        one = entry(next(_numbers), name=f"theirs{len(self.stored)}:1")
        self.memory.take(one)
        self.stored.append(one["digest"])


class InvadedDisk(Disk):
    """The daemon stores before one of the steps of a repair."""

    def __init__(self, daemon: Daemon, at: int) -> None:
        super().__init__()
        self.daemon, self.left = daemon, at

    def step(self, operation: str, name: str) -> None:
        if self.left == 0:
            self.daemon.store()
        self.left -= 1


REPAIRS = ["entry-duplicate-twice", "format-unknown-case", "packed-empty-empty", "digest-invalid-short"]


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("case", REPAIRS)
async def test_what_the_daemon_stores_meanwhile_survives(
    case: str, every: int, made_sample: Sample, tmp_path: Path
) -> None:
    """At every step in the long proofs, at every second otherwise, which ones differs from case to case."""
    for at in range(len(case) % every, 200, every):
        sample = copied(made_sample, tmp_path / str(at))
        BY_NAME[case].make(sample)
        stood = ImageIndex.parse(sample.index.read_bytes())
        _, plan = await planned(sample.directory)
        disk = InvadedDisk(Daemon(sample.index), at)
        await apply_plan(PackerCache(sample.directory, disk=disk), plan)
        there = [descriptor.digest for descriptor in ImageIndex.parse(sample.index.read_bytes()).descriptors]
        assert set(disk.daemon.stored) <= set(there), at
        assert {one.digest for one in stood.descriptors} - set(there) <= {"sha256:abc"}, at
        if disk.left >= 0:
            break
    assert at > 10


def replaced_as_by_a_pull(sample: Sample, made_sample: Sample, *, writes_index: bool) -> None:
    """A packed file that was cut gives way to the whole one; the index is written last, as the daemon does."""
    new = sample.directory / "new"
    shutil.copyfile(made_sample.file("erofs"), new)
    new.replace(sample.file("erofs"))
    if writes_index:
        index = sample.index.read_bytes()
        sample.index.unlink()
        sample.index.write_bytes(index)


@pytest.mark.parametrize("when", ["after the check", "while all is read", "a judge has taken it"])
async def test_a_good_file_is_not_moved_aside_for_what_was_there_before(
    when: str, sample: Sample, made_sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(sample.file("erofs"), 4096)
    judge = Judge(sample.directory)
    if when == "while all is read":
        really = DeepChecks.run

        def run(checks: DeepChecks, group: Sequence[PackedFile]) -> list[Reading]:
            if group[0].digest == sample.digest:
                replaced_as_by_a_pull(sample, made_sample, writes_index=True)
            return really(checks, group)

        monkeypatch.setattr(DeepChecks, "run", run)
    report = await found(sample.directory, Depth.DEEP if when == "while all is read" else Depth.HEADER, judge=judge)
    if when != "while all is read":
        assert codes(report.findings) == {"packed-truncated"}
        replaced_as_by_a_pull(sample, made_sample, writes_index=when == "after the check")
    if when == "a judge has taken it":
        judge.take(judge.reading, [sample.file("erofs").name])
        assert [*judge.look()]
        assert codes(judge.findings()) == set()
    plan = await plan_repair(PackerCache(sample.directory), report)
    assert plan.steps == ()
    assert [(left.finding.code, left.why) for left in plan.left] == [("packed-truncated", "it is no longer so")]


async def test_what_only_a_deep_check_tells_is_of_the_file_that_it_read(
    sample: Sample, made_sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: BinaryIO, passed: Callable[[int], object]) -> str:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("ocitui.doctor.check.examine.hash_file", fail)
    report = await found(sample.directory, Depth.DEEP)
    assert len(report.deep_only) == len(report.shown()) == 4
    replaced_as_by_a_pull(sample, made_sample, writes_index=True)
    plan = await plan_repair(PackerCache(sample.directory), report, RepairOptions(even_if_gone=True))
    assert [left.finding.file for left in plan.left if left.why == "it is no longer so"] == [sample.file("erofs").name]
    assert [step.kind for step in plan.steps] == [StepKind.MOVE_ASIDE] * 3


async def test_what_a_judge_takes_later_is_not_what_a_plan_is_bound_to(sample: Sample, made_sample: Sample) -> None:
    os.truncate(sample.file("erofs"), 4096)
    judge, name = Judge(sample.directory), sample.file("erofs").name
    snapshot = take_snapshot(sample.directory, await found(sample.directory, Depth.HEADER, judge=judge))
    before = snapshot.seen_at(name)
    replaced_as_by_a_pull(sample, made_sample, writes_index=False)
    judge.take(judge.reading, [name])
    assert snapshot.seen_at(name) == before


async def test_entries_that_moved_meanwhile_are_mended_where_they_stand(sample: Sample) -> None:
    BY_NAME["digest-invalid-short"].make(sample)
    report = await found(sample.directory)
    sample.edit_index(lambda fields: fields["manifests"].pop(0))
    plan = await plan_repair(PackerCache(sample.directory), report)
    [step] = [step for step in plan.steps if step.kind is StepKind.DROP_ENTRY]
    [position] = step.change.remove
    assert plan.index is not None
    assert not valid_digest(plan.index.digests[position])


async def test_files_that_the_index_names_meanwhile_are_no_orphans(sample: Sample) -> None:
    index = sample.index.read_bytes()
    sample.edit_index(lambda fields: fields["manifests"].pop())
    report = await found(sample.directory)
    assert codes(report.findings) == {"orphan-entry"}
    sample.index.write_bytes(index)
    plan = await plan_repair(PackerCache(sample.directory), report, RepairOptions(trash_orphans=True))
    assert plan.steps == ()


async def test_a_plan_for_positions_is_bound_to_its_index(sample: Sample) -> None:
    backup = list(ImageIndex.parse(sample.index.read_bytes()).descriptors)
    sample.edit_index(lambda fields: fields["manifests"].pop(0))
    plan = await plan_with(sample, backup)
    assert [step.kind for step in plan.steps] == [StepKind.ADD_ENTRIES]
    Daemon(sample.index).store()
    before = standing(sample.directory)
    with pytest.raises(PlanChangedError):
        await repaired(sample.directory, plan)
    assert standing(sample.directory) == before


async def plan_with(sample: Sample, backup: list[Descriptor]) -> Any:
    assert keep_backup(sample.directory, new_index(one.raw for one in backup))
    report = await found(sample.directory)
    return await plan_repair(PackerCache(sample.directory), report)


async def test_an_index_that_was_written_twice_is_one_plan_and_one_transaction(sample: Sample) -> None:
    whole = sample.index.read_bytes()
    sample.index.write_bytes(whole + whole)
    report, plan = await planned(sample.directory)
    assert all_codes(report.findings) == {"index-unparsable"}
    (step,) = plan.steps
    assert (step.kind, plan.left) == (StepKind.REPLACE_INDEX, ())
    assert "with 4 entries: 4 of the index" in step.title
    done = await repaired(sample.directory, plan)
    assert (len(done.transactions), done.report.shown()) == (1, [])
    assert len(await PackerCache(sample.directory).list()) == 4
    await undone(sample.directory, done)
    assert sample.index.read_bytes() == whole + whole


async def test_the_index_that_was_written_twice(tmp_path: Path) -> None:
    index, twice = tmp_path / "index.json", (ROOT / "tests/cases/06-index-twice.json").read_bytes()
    index.write_bytes(twice)
    _, plan = await planned(tmp_path)
    (step,) = plan.made
    assert "with 7 entries: 7 of the index" in step.title
    done = await repaired(tmp_path, plan)
    assert len(done.transactions) == 1
    assert len(await PackerCache(tmp_path).list()) == 7
    await undone(tmp_path, done)
    assert index.read_bytes() == twice


@pytest.mark.parametrize("index", ["cut", "shrunk"])
async def test_a_lost_index_and_what_is_wrong_with_its_entries_are_one_transaction(sample: Sample, index: str) -> None:
    assert keep_backup(sample.directory, sample.index.read_bytes())
    if index == "cut":
        sample.index.write_bytes(sample.index.read_bytes()[:-200])
    else:
        sample.edit_index(lambda fields: fields.update(manifests=fields["manifests"][1:2]))
    sample.other_file("squashfs").unlink()
    sample.file("squashfs").write_bytes(b"")
    before = standing(sample.directory)
    _, plan = await planned(sample.directory, drop=True)
    assert {step.kind for step in plan.made} == {
        StepKind.REPLACE_INDEX if index == "cut" else StepKind.ADD_ENTRIES,
        StepKind.DROP_ENTRY,
    }
    assert plan.left == ()
    done = await repaired(sample.directory, plan)
    assert (len(done.transactions), done.report.shown()) == (1, [])
    assert [one.key for one in await PackerCache(sample.directory).list()] == [
        (sample.digest, "erofs"),
        (sample.digest, "tar"),
    ]
    # What was dropped is no loss to the next check, and comes back with the undo.
    report, again = await planned(sample.directory)
    assert codes(report.findings) == set()
    assert again.steps == ()
    await undone(sample.directory, done)
    assert standing(sample.directory) == before
    if index == "cut":
        # The index that the repair wrote is the newest backup, and what it lacks is no longer dropped.
        _, anew = await planned(sample.directory, drop=True)
        assert [step.title for step in anew.made] == [step.title for step in plan.made]


async def test_without_its_index_nothing_of_an_entry_is_edited(sample: Sample) -> None:
    assert keep_backup(sample.directory, sample.index.read_bytes())
    sample.index.write_bytes(b"{")
    sample.other_file("squashfs").unlink()
    _, plan = await planned(sample.directory, drop=True)
    first, drop = plan.steps
    assert (first.kind, drop.kind, drop.after) == (StepKind.REPLACE_INDEX, StepKind.DROP_ENTRY, True)
    without = plan.narrowed({drop.number})
    assert without.made == ()
    assert "with the step that brings entries back" in without.left[-1].why


async def test_entries_that_are_gone_come_back_where_they_stood(sample: Sample) -> None:
    whole = list(ImageIndex.parse(sample.index.read_bytes()).descriptors)
    sample.edit_index(lambda fields: fields.update(manifests=[]))
    Daemon(sample.index).store()
    theirs = ImageIndex.parse(sample.index.read_bytes()).descriptors[0]
    before = standing(sample.directory)
    plan = await plan_with(sample, whole)
    (step,) = [step for step in plan.steps if step.kind is StepKind.ADD_ENTRIES]
    done = await repaired(sample.directory, plan)
    mended = ImageIndex.parse(sample.index.read_bytes()).descriptors
    assert [one.as_dict() for one in mended] == [one.as_dict() for one in (*whole, theirs)]
    assert not step.loses
    await undone(sample.directory, done)
    assert standing(sample.directory) == before


async def test_a_deletion_that_came_back_is_one_finding_and_is_made_again(sample: Sample) -> None:
    daemon = Daemon(sample.index)
    cache = PackerCache(sample.directory)
    deleted = await cache.delete([(sample.other, "squashfs")])
    # Twenty transactions later the journal is compared whole, all the same.
    for _ in range(11):
        await cache.undo((await cache.delete([(sample.digest, "tar")])).id)
    daemon.store()
    report, plan = await planned(sample.directory)
    (finding,) = [one for one in report.findings if one.severity is not Severity.INFO and one.digest == sample.other]
    assert (finding.code, finding.name) == ("index-overwritten", OTHER_NAME)
    assert f"{OTHER_NAME} is back: the delete of transaction {deleted.id}" in finding.seen
    (step,) = plan.made
    assert step.kind is StepKind.REDO
    before = standing(sample.directory)
    done = await repaired(sample.directory, plan)
    assert [(one.kind, one.image_names) for one in done.transactions] == [(TransactionKind.REDO, [OTHER_NAME])]
    keys = [one.key for one in await cache.list()]
    assert (sample.other, "squashfs") not in keys
    assert daemon.stored[0] in [digest for digest, _ in keys]
    assert sample.other not in {one.digest for one in done.report.findings}
    await undone(sample.directory, done)
    assert standing(sample.directory) == before


async def test_an_import_that_went_is_one_finding_and_is_put_back(sample: Sample) -> None:
    whole = sample.index.read_bytes()
    cache = PackerCache(sample.directory)
    await cache.undo((await cache.delete([(sample.other, "squashfs")])).id)
    assert keep_backup(sample.directory, sample.index.read_bytes())
    sample.edit_index(lambda fields: fields["manifests"].pop())
    report, plan = await planned(sample.directory)
    assert all_codes(report.findings) == {"index-overwritten"}
    assert f"{OTHER_NAME} is gone: the undo of transaction" in report.findings[0].seen
    done = await repaired(sample.directory, plan)
    assert (len(done.transactions), done.report.shown()) == (1, [])
    assert ImageIndex.parse(sample.index.read_bytes()).digests == ImageIndex.parse(whole).digests


async def test_edits_made_again_are_each_of_its_own_finding(sample: Sample) -> None:
    """Though the name of an image may be the id of another transaction."""
    whole, cache = sample.index.read_bytes(), PackerCache(sample.directory)
    first = (await cache.delete([(sample.other, "squashfs")])).id
    second = (await cache.delete([(sample.digest, "tar")])).id
    (record,) = (sample.directory / ".ocitui" / "journal").glob(f"{first}.*")
    record.write_text(record.read_text().replace(OTHER_NAME, f"app:{second}"))
    sample.index.write_bytes(whole.replace(OTHER_NAME.encode(), f"app:{second}".encode()))
    _, plan = await planned(sample.directory)
    redone = {step.findings[0].digest: step.title for step in plan.steps if step.kind is StepKind.REDO}
    assert f"of transaction {first} " in redone[sample.other]
    assert f"of transaction {second} " in redone[sample.digest]


async def test_an_edit_made_again_is_of_one_transaction_with_the_rest(sample: Sample) -> None:
    daemon = Daemon(sample.index)
    await PackerCache(sample.directory).delete([(sample.other, "squashfs")])
    daemon.store()
    sample.file("squashfs").write_bytes(b"")
    _, plan = await planned(sample.directory)
    assert {step.kind for step in plan.made} >= {StepKind.REDO, StepKind.MOVE_ASIDE}
    done = await repaired(sample.directory, plan)
    assert [one.kind for one in done.transactions] == [TransactionKind.REPAIR]


async def test_an_import_whose_files_are_gone_too_is_left_with_the_reason(sample: Sample) -> None:
    cache = PackerCache(sample.directory)
    await cache.undo((await cache.delete([(sample.other, "squashfs")])).id)
    sample.edit_index(lambda fields: fields["manifests"].pop())
    sample.other_file("squashfs").unlink()
    _, plan = await planned(sample.directory, only=frozenset({"index-overwritten"}))
    assert plan.steps == ()
    assert "cannot come back" in plan.left[0].why


async def test_a_wipe_is_one_finding_whatever_was_imported_before(sample: Sample) -> None:
    cache = PackerCache(sample.directory)
    await cache.undo((await cache.delete([(sample.other, "squashfs")])).id)
    assert keep_backup(sample.directory, sample.index.read_bytes())
    sample.edit_index(lambda fields: fields.update(manifests=fields["manifests"][:1]))
    report, plan = await planned(sample.directory)
    assert all_codes(report.findings) == {"index-shrunk"}
    assert [step.kind for step in plan.made] == [StepKind.ADD_ENTRIES]
    assert len(plan.joined) == 4


def shrink(sample: Sample) -> bytes:
    """The index was seen whole; another program leaves one entry of it. Gives what it left."""
    assert keep_backup(sample.directory, sample.index.read_bytes())
    sample.edit_index(lambda fields: fields.update(manifests=fields["manifests"][:1]))
    return sample.index.read_bytes()


@pytest.mark.parametrize("seen", [True, False])
async def test_a_repair_that_was_undone_is_offered_again(sample: Sample, seen: bool) -> None:
    shrunk = shrink(sample)
    assert not seen or keep_backup(sample.directory, shrunk)
    report, plan = await planned(sample.directory)
    await repaired(sample.directory, plan)
    mended, cache = sample.index.read_bytes(), PackerCache(sample.directory)
    undo = await cache.undo()
    for _ in range(2):
        assert sample.index.read_bytes() == shrunk
        again, plan_again = await planned(sample.directory)
        assert all_codes(again.findings) == all_codes(report.findings) == {"index-shrunk"}
        assert [step.title for step in plan_again.made] == [step.title for step in plan.made]
        # An undo of that undo, and one of that, change nothing of it.
        back = await cache.undo(undo.id)
        assert sample.index.read_bytes() == mended
        assert all_codes((await found(sample.directory)).findings) == set()
        undo = await cache.undo(back.id)
    await repaired(sample.directory, plan_again)
    assert sample.index.read_bytes() == mended


async def test_the_backup_of_a_whole_index_outlives_the_undo_of_its_repair(sample: Sample) -> None:
    shutil.rmtree(sample.directory / ".ocitui", ignore_errors=True)
    sample.index.write_bytes(sample.index.read_bytes()[:-3])
    _, plan = await planned(sample.directory)
    done = await repaired(sample.directory, plan)
    mended = ImageIndex.parse(sample.index.read_bytes())
    assert keep_backup(sample.directory, mended)
    await undone(sample.directory, done)
    assert [one.digest for one in known_history(sample.directory, None).backup] == mended.digests


async def test_an_undo_of_a_repair_explains_what_the_repair_alone_had_made(sample: Sample) -> None:
    sample.edit_index(lambda fields: fields["manifests"].pop())
    shrunk = shrink(sample)
    report, plan = await planned(sample.directory, adopt=((sample.other, OTHER_NAME),))
    assert {step.kind for step in plan.made} == {StepKind.ADD_ENTRIES, StepKind.ADOPT}
    await undone(sample.directory, await repaired(sample.directory, plan))
    assert sample.index.read_bytes() == shrunk
    again, plan_again = await planned(sample.directory)
    assert [one.seen for one in again.findings] == [one.seen for one in report.findings]
    assert [len(plan.joined), len(plan_again.joined)] == [3, 3]


async def test_an_edit_that_was_done_again_and_undone_is_told_again(sample: Sample) -> None:
    cache = PackerCache(sample.directory)
    await cache.undo((await cache.delete([(sample.other, "squashfs")])).id)
    sample.edit_index(lambda fields: fields["manifests"].pop())
    report, plan = await planned(sample.directory)
    done = await repaired(sample.directory, plan)
    assert [one.kind for one in done.transactions] == [TransactionKind.REDO]
    await undone(sample.directory, done)
    again, plan_again = await planned(sample.directory)
    assert [one.seen for one in again.findings] == [one.seen for one in report.findings]
    assert [step.title for step in plan_again.made] == [step.title for step in plan.made]


async def test_an_undo_of_what_was_no_repair_is_a_deletion(sample: Sample) -> None:
    cache = PackerCache(sample.directory)
    restored = await cache.undo((await cache.delete([(sample.other, "squashfs")])).id)
    assert keep_backup(sample.directory, sample.index.read_bytes())
    await cache.undo(restored.id)
    assert all_codes((await found(sample.directory)).findings) == set()


def sources(plan: RepairPlan) -> list[tuple[str | None, str | None, str | None, bool]]:
    """Of each entry: its name, its format, what it is taken from, and whether it was taken out on purpose."""
    return [(one.name, one.format, one.taken_from, bool(one.removed_by)) for one in plan.joined]


async def test_the_journal_knows_what_came_after_the_backup(sample: Sample) -> None:
    cache = PackerCache(sample.directory)
    deleted = await cache.delete([(sample.other, "squashfs")])
    assert keep_backup(sample.directory, sample.index.read_bytes())
    await cache.undo(deleted.id)
    whole = ImageIndex.parse(sample.index.read_bytes())
    sample.index.write_bytes(sample.index.read_bytes()[:100])
    _, plan = await planned(sample.directory)
    assert sources(plan)[-1] == (OTHER_NAME, "squashfs", IndexSource.JOURNAL, False)
    done = await repaired(sample.directory, plan)
    assert (len(done.transactions), done.report.shown()) == (1, [])
    mended = ImageIndex.parse(sample.index.read_bytes())
    assert [one.as_dict() for one in mended.descriptors] == [one.as_dict() for one in whole.descriptors]


async def test_the_journal_alone_names_what_was_imported(sample: Sample) -> None:
    cache = PackerCache(sample.directory)
    await cache.undo((await cache.delete([(sample.other, "squashfs")])).id)
    shutil.rmtree(sample.directory / ".ocitui" / "backups")
    sample.index.write_bytes(b"{")
    _, plan = await planned(sample.directory)
    assert (OTHER_NAME, "squashfs", IndexSource.JOURNAL, False) in sources(plan)
    assert "1 of the journal" in plan.steps[0].title


@pytest.mark.parametrize("told_by", ["files", "index"])
async def test_what_was_deleted_on_purpose_is_not_salvaged(sample: Sample, told_by: str) -> None:
    before, cache = sample.index.read_bytes(), PackerCache(sample.directory)
    assert keep_backup(sample.directory, before)
    deleted = await cache.delete([(sample.other, "squashfs")])
    if told_by == "files":
        await cache.restore([one.trash for one in await cache.trash()])
        sample.index.write_bytes(b"{")
    else:
        # The daemon's memory wrote it back, and then it was damaged.
        sample.index.write_bytes(before + before)
    _, plan = await planned(sample.directory)
    assert sources(plan)[-1] == (OTHER_NAME, "squashfs", None, True)
    assert plan.joined[-1].removed_by == deleted.id
    assert "with 3 entries" in plan.steps[0].title
    await repaired(sample.directory, plan)
    assert sample.other not in {one.digest for one in await cache.list()}


async def test_what_was_stored_again_after_its_deletion_is_salvaged_under_its_name(sample: Sample) -> None:
    cache, kept = PackerCache(sample.directory), sample.directory.parent / "kept"
    shutil.copytree(sample.directory, kept)
    assert keep_backup(sample.directory, sample.index.read_bytes())
    await cache.delete([(sample.other, "squashfs")])
    for path in kept.glob(f"{sample.other}*"):
        shutil.copy(path, sample.directory)
    sample.index.write_bytes(b"{")
    _, plan = await planned(sample.directory)
    assert sources(plan)[-1] == (OTHER_NAME, "squashfs", IndexSource.JOURNAL, False)


async def test_an_edit_that_the_daemon_would_overwrite_is_left_out(sample: Sample) -> None:
    assert keep_backup(sample.directory, sample.index.read_bytes())
    sample.edit_index(lambda fields: fields.update(manifests=[]))
    sample.other_file("squashfs").write_bytes(b"")
    report, cache = await found(sample.directory, Depth.HEADER), PackerCache(sample.directory)
    emptied = Assessment(Case.MEMORY_EMPTIED, Confidence.LIKELY, (), (Command("", "stop it"),), ())
    plan = await plan_repair(cache, report, None, emptied)
    (step,) = plan.futile
    assert (step.kind, step.futile) == (StepKind.ADD_ENTRIES, emptied.futile)
    assert step not in plan.made
    assert emptied.futile in [left.why for left in plan.left]
    assert step not in plan.narrowed({"index-emptied"}).made
    assert step in plan.narrowed({step.number}).made
    assert step.number in (await plan_repair(cache, report, RepairOptions(even_if_futile=True), emptied)).chosen
    assert (await plan_repair(cache, report)).futile == ()


async def test_the_ledger_says_which_copy_is_good(sample: Sample, tmp_path: Path) -> None:
    path = sample.other_file("squashfs")
    record_stored(sample.directory, path)
    other = copied(sample, tmp_path / "other").directory
    content = path.read_bytes()
    (other / path.name).write_bytes(flipped(content, 40_000))
    path.unlink()
    _, plan = await planned(sample.directory, sources=(str(other),))
    assert plan.steps == ()
    (other / path.name).write_bytes(content)
    _, plan = await planned(sample.directory, sources=(str(other),))
    await repaired(sample.directory, plan)
    record = Ledger.open(sample.directory).sound.get(path.name)
    assert record is not None
    assert record.sha256 == digest_of(path)
    assert record.same_file(os.stat(path))


async def test_rot_is_restored_from_another_cache(sample: Sample, tmp_path: Path) -> None:
    path = sample.other_file("squashfs")
    record_stored(sample.directory, path)
    whole, stat = path.read_bytes(), path.stat()
    other = copied(sample, tmp_path / "other").directory
    path.write_bytes(flipped(whole, 40_000))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    _, plan = await planned(sample.directory, Depth.DEEP, sources=(str(other),))
    (step,) = plan.steps
    assert [finding.code for finding in step.findings] == ["packed-damaged"]
    done = await apply_plan(PackerCache(sample.directory), plan)
    assert worse_than_info(done.report.shown()) == {}
    assert path.read_bytes() == whole


async def test_a_reader_repairs_nothing(sample: Sample) -> None:
    sample.other_file("manifest.json").write_bytes(b"")
    _, plan = await planned(sample.directory)
    with pytest.raises(ReadOnlyError):
        await apply_plan(PackerCache(sample.directory, read_only=True), plan)


async def test_progress_is_told(sample: Sample) -> None:
    sample.other_file("manifest.json").write_bytes(b"")
    _, plan = await planned(sample.directory)
    told: list[RepairProgress] = []
    await apply_plan(PackerCache(sample.directory), plan, told.append)
    assert [one.doing for one in told] == ["mending", "checking again"]
