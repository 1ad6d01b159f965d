"""Plans: what is in them by itself, what only when it is asked for, and how they are narrowed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from ocitui.cache import (
    ConflictError,
    Descriptor,
    Discard,
    ImageIndex,
    ImageName,
    PackedFormat,
    PackerCache,
    keep_backup,
)
from ocitui.cache.descriptors import Columns
from ocitui.doctor.check.index_checks import NO_HISTORY
from ocitui.doctor.findings import Depth, StepKind
from ocitui.doctor.repair.plan import RepairPlan, plan_repair
from ocitui.doctor.repair.steps import Fate, RepairOptions, take_snapshot
from tests.doctor.examine_support import NAME, OTHER_NAME, Sample, codes, found
from tests.doctor.fault_makers import CASES, drop
from tests.doctor.repair_support import (
    left_by,
    nobody_else_writes,
    planned,
    repaired,
    standing,
    undone,
    worse_than_info,
)

BY_NAME = {str(case): case for case in CASES}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_else_writes(monkeypatch)


def kinds(plan: RepairPlan) -> list[StepKind]:
    return [step.kind for step in plan.steps]


@pytest.fixture
def several(sample: Sample) -> Sample:
    """Faults of several kinds and entries."""
    for name in ("packed-truncated-erofs", "manifest-unparsable-empty", "entry-duplicate-twice"):
        BY_NAME[name].make(sample)
    return sample


async def test_one_look_at_the_loop_devices_serves_a_plan(several: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    report, look = await found(several.directory), Mock(return_value=[])
    monkeypatch.setattr("ocitui.host.loop_devices._loops", look)
    await plan_repair(PackerCache(several.directory), report, RepairOptions())
    look.assert_called_once()


async def test_steps_are_numbered_and_say_what_they_do(several: Sample) -> None:
    _, plan = await planned(several.directory)
    assert [step.number for step in plan.steps] == list(range(1, len(plan.steps) + 1))
    assert kinds(plan) == [StepKind.DROP_ENTRY, StepKind.MOVE_ASIDE, StepKind.MOVE_ASIDE]
    for step in plan.steps:
        assert step.title
        assert step.then
        assert step.findings
        assert sum(file.size for file in step.files) == step.bytes_trashed
    assert plan.bytes_trashed == sum(step.bytes_trashed for step in plan.steps)
    assert all(left.why and left.would for left in plan.left)


@pytest.mark.parametrize("how", ["number", "code", "digest", "fingerprint"])
async def test_narrowed(several: Sample, how: str) -> None:
    _, plan = await planned(several.directory)
    step = next(step for step in plan.steps if "erofs" in step.title)
    (finding,) = step.findings
    wanted: dict[str, int | str] = {
        "number": step.number,
        "code": finding.code,
        "digest": finding.digest.partition(":")[2][:12],
        "fingerprint": finding.fingerprint,
    }
    narrow = plan.narrowed([wanted[how]])
    assert narrow.made == (step,)
    assert narrow.bytes_trashed == step.bytes_trashed
    done = await repaired(several.directory, narrow)
    assert codes(done.report.shown()) == {"entry-duplicate", "manifest-unparsable", "file-missing"}
    assert codes([left.finding for left in narrow.left]) == codes(done.report.shown())


async def test_only_some_findings(several: Sample) -> None:
    _, plan = await planned(several.directory, only=frozenset({"entry-duplicate"}))
    assert kinds(plan) == [StepKind.DROP_ENTRY]
    assert plan.left == ()


async def test_what_is_acknowledged_is_left_alone(several: Sample) -> None:
    report = await found(several.directory)
    known = frozenset(finding.fingerprint for finding in report.findings)
    plan = await plan_repair(PackerCache(several.directory), report.with_acknowledged(known))
    assert plan.steps == ()


async def test_a_shorter_digest_names_nothing(several: Sample) -> None:
    _, plan = await planned(several.directory)
    assert plan.narrowed([several.digest.partition(":")[2][:6]]).made == ()


async def test_nothing_is_dropped_or_trashed_unasked(sample: Sample) -> None:
    sample.other_file("squashfs").unlink()
    drop(0)(sample)
    _, plan = await planned(sample.directory)
    assert plan.steps == ()
    assert {left.finding.code for left in plan.left} == {"file-missing", "orphan-entry"}
    _, asked = await planned(sample.directory, drop=True, trash_orphans=True)
    assert set(kinds(asked)) == {StepKind.DROP_ENTRY, StepKind.TRASH_ORPHAN}


async def test_dropping_says_which_name_goes_and_keeps_shared_documents(sample: Sample) -> None:
    sample.file("erofs").unlink()
    sample.other_file("squashfs").unlink()
    before = standing(sample.directory)
    _, plan = await planned(sample.directory, drop=True)
    shared, alone = plan.steps
    assert shared.files == ()
    assert shared.loses == ""
    assert OTHER_NAME in alone.loses
    assert len(alone.files) == 2
    done = await repaired(sample.directory, plan)
    assert codes(done.report.shown()) == set()
    await undone(sample.directory, done)
    assert standing(sample.directory) == before


async def test_an_orphan_adopted_under_a_name_that_is_given(sample: Sample) -> None:
    drop(3)(sample)
    before = standing(sample.directory)
    _, plan = await planned(sample.directory, adopt=((sample.other, "team/new:1"),))
    assert kinds(plan) == [StepKind.ADOPT]
    done = await repaired(sample.directory, plan)
    assert codes(done.report.shown()) == set()
    cache = PackerCache(sample.directory)
    resolved = await cache.resolve(ImageName.parse("team/new:1"), PackedFormat.SQUASHFS)
    assert resolved is not None
    assert resolved.digest == sample.other
    await undone(sample.directory, done)
    assert standing(sample.directory) == before


async def test_an_orphan_adopted_as_it_once_was(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ImageIndex.parse(sample.index.read_bytes())
    keep_backup(sample.directory, whole)
    drop(3)(sample)
    monkeypatch.setattr("ocitui.doctor.check.cache_checks.known_history", lambda *_: NO_HISTORY)
    report = await found(sample.directory)
    cache = PackerCache(sample.directory)
    plan = await plan_repair(cache, report)
    assert plan.steps == ()
    assert OTHER_NAME in plan.left[0].would
    plan = await plan_repair(cache, report, RepairOptions(adopt_known=True))
    assert kinds(plan) == [StepKind.ADOPT]
    await repaired(sample.directory, plan)
    assert [one.as_dict() for one in await cache.list()] == [one.as_dict() for one in whole.descriptors]


async def test_an_adopted_orphan_takes_no_name_from_another(sample: Sample) -> None:
    drop(3)(sample)
    _, plan = await planned(sample.directory, adopt=((sample.other, NAME),))
    (step,) = plan.steps
    assert "point" in step.then
    await repaired(sample.directory, plan)
    resolved = await PackerCache(sample.directory).resolve(ImageName.parse(NAME), PackedFormat.SQUASHFS)
    assert resolved is not None
    assert resolved.digest == sample.digest


@pytest.mark.parametrize("suffix", ["squashfs", "manifest.json", "config.json"])
async def test_what_is_no_entry_is_not_adopted(sample: Sample, suffix: str) -> None:
    drop(3)(sample)
    path = sample.other_file(suffix)
    path.write_bytes(path.read_bytes()[:-5000])
    _, plan = await planned(sample.directory, adopt=((sample.other, "team/new:1"),))
    assert plan.steps == ()
    assert all("adopt" in left.why for left in plan.left)


async def test_a_name_is_given(sample: Sample) -> None:
    BY_NAME["name-missing-absent"].make(sample)
    _, without = await planned(sample.directory)
    assert without.steps == ()
    _, wrong = await planned(sample.directory, names=((sample.other, "a.b:99999/x/y"),))
    assert wrong.steps == ()
    _, plan = await planned(sample.directory, names=((sample.other, "library/tool:3"),))
    done = await repaired(sample.directory, plan)
    assert codes(done.report.shown()) == set()
    assert ImageIndex.parse(sample.index.read_bytes()).descriptors[3].image_name == "tool:3"


async def test_another_spelling_is_only_offered(sample: Sample) -> None:
    BY_NAME["name-not-canonical-library"].make(sample)
    before = sample.index.read_bytes()
    _, plan = await planned(sample.directory)
    assert plan.made == ()
    await repaired(sample.directory, plan)
    assert sample.index.read_bytes() == before
    done = await repaired(sample.directory, plan.narrowed(["name-not-canonical"]))
    assert codes(done.report.shown()) == set()


async def test_a_lost_name_is_given_to_a_lost_index(sample: Sample) -> None:
    sample.index.unlink()
    _, plan = await planned(sample.directory, names=((sample.other, OTHER_NAME), (sample.digest, NAME)))
    (step,) = plan.steps
    assert step.loses == ""
    assert len(plan.joined) == 4
    done = await repaired(sample.directory, plan)
    assert codes(done.report.findings) == set()


async def test_an_orphan_of_before_the_backup_stays_one(sample: Sample) -> None:
    drop(3)(sample)
    keep_backup(sample.directory, sample.index.read_bytes())
    sample.index.write_bytes(b"")
    _, plan = await planned(sample.directory)
    done = await repaired(sample.directory, plan)
    assert codes(done.report.shown()) == {"orphan-entry"}
    assert len(ImageIndex.parse(sample.index.read_bytes())) == 3


async def test_what_goes_keeps_its_mode(sample: Sample) -> None:
    BY_NAME["wrong-mode-packed"].make(sample)
    BY_NAME["config-digest-other"].make(sample)
    before = standing(sample.directory)
    _, plan = await planned(sample.directory, drop=True, change_modes=True)
    assert set(kinds(plan)) == {StepKind.DROP_ENTRY, StepKind.CHANGE_MODE}
    done = await repaired(sample.directory, plan)
    assert codes(done.report.shown()) == set()
    await undone(sample.directory, done)
    assert standing(sample.directory) == before


async def test_two_steps_do_not_share_a_file(several: Sample) -> None:
    _, plan = await planned(several.directory)
    step = next(step for step in plan.steps if step.kind is StepKind.MOVE_ASIDE)
    [going] = step.change.discard
    change = replace(step.change, discard=(Discard(going.name, going.seen._replace(size=1)),))
    again = replace(step, number=99, change=change)
    twice = replace(plan, steps=(*plan.steps, again), chosen=plan.chosen | {99})
    with pytest.raises(ConflictError):
        twice.composed()


async def test_an_index_that_cannot_be_read_is_not_replaced(sample: Sample) -> None:
    sample.index.unlink()
    sample.index.symlink_to(sample.index.name)
    _, plan = await planned(sample.directory)
    done = await repaired(sample.directory, plan)
    assert codes(done.report.shown()) <= {"name-missing", "read-error", "index-not-a-file"}
    if plan.steps:
        await undone(sample.directory, done)
    assert os.readlink(sample.index) == sample.index.name


async def test_a_plan_says_that_the_last_entry_goes(sample: Sample) -> None:
    sample.edit_index(lambda fields: fields.update(manifests=[{**fields["manifests"][0], "digest": "sha256:0"}]))
    _, plan = await planned(sample.directory)
    assert left_by(plan) == {("index-emptied", "", "index.json"): 1}
    assert "beside 4 entries complete on disk" in plan.left[0].finding.seen
    assert codes([left.finding for left in plan.narrowed(()).left]) == {"digest-invalid", "orphan-entry"}
    done = await repaired(sample.directory, plan)
    assert worse_than_info(done.report.shown()) == left_by(plan)
    assert done.report.shown()[0].fingerprint == plan.left[0].finding.fingerprint
    _, plan = await planned(sample.directory)
    assert kinds(plan) == [StepKind.ADD_ENTRIES]


async def test_a_file_that_gives_way_is_told_by_its_own_size(sample: Sample) -> None:
    sample.index.write_bytes(b"")
    _, plan = await planned(sample.directory)
    [step] = [step for step in plan.made if step.kind is StepKind.REPLACE_INDEX]
    assert [(file.fate, file.size) for file in step.files] == [(Fate.REPLACED, 0)]


async def test_one_entry_that_repeats_is_taken_out_once_where_another_is_gone_by_now(sample: Sample) -> None:
    sample.edit_index(lambda fields: fields.update(manifests=[fields["manifests"][at] for at in (0, 0, 0, 3)]))
    report = await found(sample.directory)
    assert [one.position for one in report.findings if one.code == "entry-duplicate"] == [0, 1]
    sample.edit_index(lambda fields: fields["manifests"].pop(0))
    plan = await plan_repair(PackerCache(sample.directory), report)
    [step] = [step for step in plan.steps if step.kind is StepKind.DROP_ENTRY]
    assert (len(step.findings), step.change.remove) == (1, (0,))
    assert "an entry that repeats" in step.title
    assert [left.why for left in plan.left if left.finding.code == "entry-duplicate"] == ["it is no longer so"]


@pytest.mark.parametrize("again", [0, 1])
async def test_of_two_edits_that_were_undone_the_one_that_was_made_again_is_no_longer_so(
    sample: Sample, again: int
) -> None:
    """Though both findings are about the same file, and of no one entry."""
    whole, cache = sample.index.read_bytes(), PackerCache(sample.directory)
    edits = [
        [(sample.digest, "tar"), (sample.digest, "erofs")],
        [(sample.digest, "squashfs"), (sample.other, "squashfs")],
    ]
    deleted = [(await cache.delete(keys)).id for keys in edits]
    sample.index.write_bytes(whole)
    report = await found(sample.directory)
    assert [(one.code, one.digest) for one in report.findings if one.code == "index-overwritten"] == [
        ("index-overwritten", "")
    ] * 2
    await cache.delete(edits[again])
    plan = await plan_repair(cache, report, RepairOptions(only=frozenset({"index-overwritten"})))
    [step] = plan.steps
    assert f"of transaction {deleted[1 - again]} " in step.title
    [left] = plan.left
    assert f"of transaction {deleted[again]} " in left.finding.seen
    assert left.why == "it is no longer so"


async def test_a_plan_for_one_entry_makes_no_descriptor_of_the_others(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = take_snapshot(sample.directory, await found(sample.directory, Depth.HEADER))
    really, made = Columns.made, list[int]()

    def note(columns: Columns, start: int, stop: int) -> Iterator[Descriptor]:
        made.extend(range(start, stop))
        return really(columns, start, stop)

    monkeypatch.setattr(Columns, "made", note)
    assert len(snapshot.descriptors) == 4
    assert [one.digest for one in snapshot.carrying(sample.other)] == [sample.other]
    assert made == [3]
