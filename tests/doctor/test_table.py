"""Each fault of the table: found, planned, repaired, checked again, undone; then every byte is as it was before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doctor.examine_support import Sample
from tests.doctor.fault_makers import CASES, FaultCase, as_parameters
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


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_else_writes(monkeypatch)


ALLOWING = {"drop": True, "trash_orphans": True, "change_modes": True}


@pytest.mark.parametrize("case", as_parameters(CASES))
@pytest.mark.parametrize("options", [{}, ALLOWING], ids=["careful", "allowing"])
async def test_repaired_and_undone(case: FaultCase, options: dict[str, Any], sample: Sample) -> None:
    case.make(sample)
    before, bytes_before = standing(sample.directory), contents(sample.directory)
    _, plan = await planned(sample.directory, **options)
    assert standing(sample.directory) == before
    done = await repaired(sample.directory, plan)
    assert not bytes_before - contents(sample.directory)
    assert worse_than_info(done.remaining) == left_by(plan)
    assert len(done.transactions) <= 1
    await undone(sample.directory, done)
    assert standing(sample.directory) == before
