"""A report: opened elsewhere, the cache is judged as it was judged on its host, and no secret is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackerCache, index
from ocitui.doctor import assess, examine, gather, opened_report, plan_repair, write_report
from ocitui.doctor.findings import Depth
from ocitui.words import assessment_json, finding_json, plan_json
from tests.doctor.examine_support import Sample, found
from tests.doctor.fault_makers import CASES, FaultCase, as_parameters


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes these files meanwhile."""
    monkeypatch.setattr(index, "PATIENCE_SECONDS", 0.0)


def reported(directory: Path, to: Path) -> Path:
    with open(to, "xb") as file:
        write_report(directory, file)
    return to


async def judged(directory: Path) -> dict[str, Any]:
    """What is found, and planned, without the place where the cache lies."""
    report = await examine(directory)
    assessment = assess(gather(directory, judge=report.judge))
    plan = await plan_repair(PackerCache(directory, read_only=True), report, assessment=assessment)
    told = {
        "findings": [finding_json(one) for one in report.findings],
        "coverage": str(report.coverage),
        "assessment": assessment_json(assessment),
        "plan": plan_json(plan),
    }
    text = json.dumps(told, default=str).replace(str(directory), "CACHE")
    answer: dict[str, Any] = json.loads(text)
    return answer


@pytest.mark.parametrize("case", as_parameters(CASES))
async def test_a_report_is_judged_as_its_host_was(case: FaultCase, sample: Sample, tmp_path: Path) -> None:
    case.make(sample)
    if case.depth is Depth.DEEP:
        await found(sample.directory, Depth.DEEP)
    there = await judged(sample.directory)
    file = reported(sample.directory, tmp_path / "report")
    with opened_report(file) as directory:
        assert await judged(directory) == there
    assert not directory.exists()
