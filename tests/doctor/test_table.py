"""Each fault of the table: found, planned, repaired, checked again, undone; then every byte is as it was before."""

from __future__ import annotations

from typing import Any

import pytest

from ocitui.cache import ImageIndex, IndexOutcome, PackerCache, keep_backup
from ocitui.doctor.findings import CATALOGUE, Answer, Depth, StepKind, Way
from ocitui.doctor.repair.plan import apply_plan
from tests.doctor.examine_support import Sample, codes
from tests.doctor.fault_makers import CASES, TABLE, FaultCase, as_parameters
from tests.doctor.repair_support import (
    contents,
    left_by,
    nobody_else_writes,
    planned,
    repaired,
    standing,
    undone,
    worse_than_info,
)
from tests.tools import CONFORMANCE, recorded

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_else_writes(monkeypatch)


INSTEAD: dict[StepKind | None, set[StepKind]] = {
    StepKind.RESTORE_FILE: {StepKind.MOVE_ASIDE, StepKind.DROP_ENTRY},
    StepKind.ADOPT: {StepKind.TRASH_ORPHAN},
}
"""What is done where no copy is found, or where the operator says so."""
ALLOWING = {"drop": True, "trash_orphans": True, "change_modes": True}


@pytest.mark.parametrize("case", as_parameters(CASES))
async def test_a_hit_that_cannot_come_back_stays(case: FaultCase, sample: Sample) -> None:
    """Damaged or not: nothing that a lookup finds goes to the trash by a plan that nobody changed."""
    case.make(sample)
    depth = max(case.depth, Depth.HEADER, key=lambda depth: depth.rank)
    report, plan = await planned(sample.directory, depth, come_back=False)
    finding = next(one for one in report.findings if one.code == case.code)
    if finding.answer is not Answer.HIT or finding.code in ("entry-duplicate", "index-not-a-file"):
        return
    assert not plan.bytes_trashed
    assert not [step for step in plan.steps if step.kind in (StepKind.MOVE_ASIDE, StepKind.DROP_ENTRY)]
    if TABLE[case.code].mended == "by itself":
        (left,) = [left for left in plan.left if left.finding == finding]
        assert Way.EVEN_IF_GONE in left.would
        _, plan = await planned(sample.directory, depth, come_back=False, even_if_gone=True)
        assert plan.made


@pytest.mark.parametrize("case", as_parameters(CASES))
@pytest.mark.parametrize("options", [{}, ALLOWING], ids=["careful", "allowing"])
async def test_repaired_and_undone(case: FaultCase, options: dict[str, Any], sample: Sample) -> None:
    case.make(sample)
    before, bytes_before = standing(sample.directory), contents(sample.directory)
    depth = max(case.depth, Depth.HEADER, key=lambda depth: depth.rank)
    report, plan = await planned(sample.directory, depth, even_if_gone=True, **options)
    assert case.code in {finding.code for finding in report.findings}
    mended = TABLE[case.code].mended
    assert (mended == "asked" and options) or bool(plan.made) == (mended == "by itself")
    step = CATALOGUE[case.code].step
    made = {one.kind for one in plan.steps if case.code in {finding.code for finding in one.findings}}
    assert made <= {step, *INSTEAD.get(step, set())}
    assert standing(sample.directory) == before
    done = await apply_plan(PackerCache(sample.directory), plan)
    assert not bytes_before - contents(sample.directory)
    assert worse_than_info(done.report.shown()) == left_by(plan)
    assert len(done.transactions) <= 1
    await undone(sample.directory, done)
    assert standing(sample.directory) == before


INDEX_CASES = [case for case in CASES if case.code.startswith("index-") or case.code == "descriptor-invalid"]
INDEX_CODES = {case.code for case in INDEX_CASES}


@pytest.mark.parametrize("case", as_parameters(INDEX_CASES))
async def test_an_index_with_a_backup_comes_back_whole(case: FaultCase, sample: Sample) -> None:
    sound = ImageIndex.parse(sample.index.read_bytes())
    assert keep_backup(sample.directory, sound)
    case.make(sample)
    before = standing(sample.directory)
    _, plan = await planned(sample.directory)
    done = await repaired(sample.directory, plan)
    assert codes(done.report.findings) == set()
    mended = ImageIndex.parse(sample.index.read_bytes())
    assert [descriptor.as_dict() for descriptor in mended.descriptors] == [one.as_dict() for one in sound.descriptors]
    await undone(sample.directory, done)
    assert standing(sample.directory) == before


@pytest.mark.parametrize("case", as_parameters(INDEX_CASES))
async def test_an_index_without_a_backup_keeps_every_entry(case: FaultCase, sample: Sample) -> None:
    sound = ImageIndex.parse(sample.index.read_bytes())
    case.make(sample)
    _, plan = await planned(sample.directory)
    (step,) = plan.steps
    done = await repaired(sample.directory, plan)
    mended = ImageIndex.parse(sample.index.read_bytes())
    assert sorted(mended_keys(mended)) == sorted(mended_keys(sound))
    assert worse_than_info(done.report.shown()) == left_by(plan)
    nameless = [one for one in mended.descriptors if one.image_name is None]
    assert bool(nameless) == bool(step.loses)
    assert all(one.digest.rpartition(":")[2][:12] in step.loses for one in nameless)


def mended_keys(index: ImageIndex) -> list[tuple[str, str]]:
    return [(descriptor.digest, descriptor.format or "") for descriptor in index.descriptors]


@pytest.mark.parametrize("record", recorded("indexes.json"), ids=lambda record: record["case"])
async def test_every_recorded_index(record: dict[str, Any], sample: Sample) -> None:
    """The answer is the daemon's, and a repair leaves an index that it loads."""
    sample.index.unlink()
    if record["input"] is not None:
        sample.index.write_bytes((CONFORMANCE / record["input"]).read_bytes())
    before = standing(sample.directory)
    report, plan = await planned(sample.directory)
    answers = {finding.answer for finding in report.findings if finding.code in INDEX_CODES}
    assert (Answer.WIPE in answers) == (record["outcome"] == "reset")
    assert (Answer.NO_START in answers) == (record["outcome"] == "error")
    done = await repaired(sample.directory, plan)
    assert done.report.verdict.outcome is IndexOutcome.LOADED
    assert worse_than_info(done.report.shown()) == left_by(plan)
    await undone(sample.directory, done)
    assert standing(sample.directory) == before
