"""Header checks: every truncation of a packed file is found."""

from __future__ import annotations

import os
import shutil

import pytest

from ocitui.cache.files import FileKind
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.findings import Depth, Finding, Severity
from tests.doctor.examine_support import Sample, all_codes, codes, found
from tests.doctor.repair_support import planned
from tests.tools import ROOT

CUTS = 100


def header_findings(sample: Sample, format: str) -> list[Finding]:
    judge = Judge(sample.directory)
    judge.read()
    assert [*judge.look()]
    return [one for one in judge.findings_of(sample.digest, format) if one.kind is FileKind.PACKED]


@pytest.mark.parametrize("format", ["squashfs", "erofs", "tar"])
def test_every_truncation_is_found(format: str, sample: Sample) -> None:
    path = sample.file(format)
    content = path.read_bytes()
    # The last block of a tar is padding beyond its two zero blocks.
    end = len(content.rstrip(b"\0")) if format == "tar" else len(content) - 1
    codes = []
    for step in range(CUTS):
        path.write_bytes(content[: end * step // CUTS])
        codes += [(finding.code, step) for finding in header_findings(sample, format)]
    assert codes == [("packed-empty", 0), *(("packed-truncated", step) for step in range(1, CUTS))]


async def test_a_truncated_file_is_found_in_its_cache(sample: Sample) -> None:
    os.truncate(sample.other_file("squashfs"), 20_000)
    report = await found(sample.directory, Depth.HEADER)
    assert [(one.code, one.position) for one in report.shown()] == [("packed-truncated", 3)]
    assert str(report.coverage) == "4 entries: 4 header"


async def test_what_stands_behind_a_file_system_is_told_and_never_moved(sample: Sample) -> None:
    """As a dm-verity tree or a signature does; the kernel mounts it."""
    for path in (sample.file("squashfs"), sample.file("erofs")):
        path.write_bytes(path.read_bytes() + bytes(8192))
    report = await found(sample.directory, Depth.HEADER)
    assert [(one.code, one.severity, one.format) for one in report.findings if one.code.startswith("packed")] == [
        ("packed-tail", Severity.INFO, "squashfs"),
        ("packed-tail", Severity.INFO, "erofs"),
    ]
    judge = Judge(sample.directory)
    judge.read()
    assert len([*judge.look()]) == 1
    assert [judge.state_at(position).word for position in range(4)] == ["ok"] * 4
    _, plan = await planned(sample.directory)
    assert plan.steps == ()


async def test_an_erofs_with_features_that_are_not_read_is_not_checked(sample: Sample) -> None:
    path = sample.file("erofs")
    content = bytearray(path.read_bytes())
    content[1024 + 8 : 1024 + 12] = bytes(4)
    content[1024 + 80 : 1024 + 84] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    for depth in (Depth.HEADER, Depth.DEEP):
        report = await found(sample.directory, depth)
        assert all_codes(report.findings) == set()
        assert any("features that are not read" in text for text in report.coverage.unchecked)
    judge = Judge(sample.directory)
    judge.read()
    assert len([*judge.look()]) == 1
    states = [judge.state_at(position) for position in range(4)]
    assert [(state.word, state.ok) for state in states] == [("ok", True), ("-", False), ("ok", True), ("ok", True)]


async def test_a_squashfs_with_a_tail_is_sound_and_stays(sample: Sample) -> None:
    shutil.copy(ROOT / "tests/cases/10-squashfs-with-tail.squashfs", sample.other_file("squashfs"))
    for depth in (Depth.QUICK, Depth.HEADER):
        report, plan = await planned(sample.directory, depth)
        assert codes(report.findings) == set()
        assert ("packed-tail" in all_codes(report.findings)) == (depth is not Depth.QUICK)
        assert plan.steps == ()
        assert plan.left == ()
