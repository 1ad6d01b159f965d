"""Each fault, made in a copy of a sound cache, is found with its code and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cache import index
from ocitui.doctor.findings import CATALOGUE, Depth, Severity
from tests.doctor.examine_support import Sample, all_codes, codes, found
from tests.doctor.fault_makers import CASES, FaultCase, as_parameters


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes these files meanwhile."""
    monkeypatch.setattr(index, "PATIENCE_SECONDS", 0.0)


@pytest.mark.parametrize("depth", [Depth.QUICK, Depth.HEADER, Depth.DEEP])
async def test_a_sound_cache_has_no_finding(sample: Sample, depth: Depth) -> None:
    report = await found(sample.directory, depth)
    assert all_codes(report.findings) == set()
    reached = {"quick": "4 quick", "header": "4 header", "deep": "4 header, 4 deep, 4 first seen"}
    assert str(report.coverage) == f"4 entries: {reached[depth]}"


async def test_the_sample_of_krata(krata_cache: Path) -> None:
    report = await found(krata_cache, Depth.HEADER)
    assert all_codes(report.findings) == {"latest-never-resolves"}
    assert str(report.coverage) == "7 entries: 7 header"


@pytest.mark.parametrize("case", as_parameters(CASES))
async def test_found_with_its_code_and_nothing_else(case: FaultCase, sample: Sample) -> None:
    case.make(sample)
    report = await found(sample.directory, max(case.depth, Depth.HEADER, key=lambda depth: depth.rank))
    severity = CATALOGUE[case.code].severity
    wanted = {case.code}
    if severity is Severity.INFO:
        assert all_codes(report.findings) == wanted
    else:
        assert codes(report.findings) == wanted
    finding = next(one for one in report.findings if one.code == case.code)
    assert (finding.severity, finding.answer) == (severity, case.answer)
    assert finding.file.endswith(case.file)
    assert finding.seen
    assert finding.daemon


@pytest.mark.parametrize("case", as_parameters([case for case in CASES if case.depth is not Depth.QUICK]))
async def test_a_quick_check_does_not_look_into_packed_files(case: FaultCase, sample: Sample) -> None:
    case.make(sample)
    assert codes((await found(sample.directory)).findings) == set()
