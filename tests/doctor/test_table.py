"""Each fault of the table: found, planned, repaired, checked again, undone, and the cache is byte for byte as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cache import index_file
from ocitui.doctor.findings import Severity
from tests.doctor.examine_support import Sample
from tests.doctor.fault_makers import CASES, FaultCase, as_parameters
from tests.doctor.repair_support import contents, left_by, planned, repaired, standing, undone, worse_than_info


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes these files meanwhile."""
    monkeypatch.setattr(index_file, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("ocitui.cache.publish.SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("ocitui.cache.mend_making.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("ocitui.cache.swaps.PATIENCE_SECONDS", 0.0)


ALLOWING = {"drop": True, "trash_orphans": True, "change_modes": True}


@pytest.mark.parametrize("case", as_parameters(CASES))
@pytest.mark.parametrize("options", [{}, ALLOWING], ids=["careful", "allowing"])
async def test_repaired_and_undone(case: FaultCase, options: dict[str, bool], sample: Sample) -> None:
    case.make(sample)
    before, bytes_before = standing(sample.directory), contents(sample.directory)
    report, plan = await planned(sample.directory, **options)
    assert standing(sample.directory) == before
    done = await repaired(sample.directory, plan)
    assert not bytes_before - contents(sample.directory)
    assert worse_than_info(done.remaining) == left_by(plan)
    assert len(done.transactions) <= 1
    await undone(sample.directory, done)
    assert standing(sample.directory) == before
