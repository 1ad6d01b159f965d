"""Header checks: every truncation of a packed file is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocitui.doctor.check.directory import CacheFiles
from ocitui.doctor.check.file_checks import check_header
from ocitui.doctor.findings import Depth, Finding
from tests.doctor.examine_support import EROFS, SQUASHFS, TAR, Sample, found

CUTS = 100


def header_findings(directory: Path, path: Path, format: str) -> list[Finding]:
    formats = {"squashfs": SQUASHFS, "erofs": EROFS, "tar": TAR}
    at = {"digest": "d", "format": format, "name": "n", "position": 0}
    with CacheFiles(directory) as files:
        return check_header(files, path.name, formats[format], at)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["squashfs", "erofs", "tar"])
def test_every_truncation_is_found(format: str, sample: Sample) -> None:
    path = sample.file(format)
    content = path.read_bytes()
    # The last block of a tar is padding beyond its two zero blocks.
    end = len(content.rstrip(b"\0")) if format == "tar" else len(content) - 1
    codes = []
    for step in range(CUTS):
        path.write_bytes(content[: end * step // CUTS])
        codes += [(finding.code, step) for finding in header_findings(sample.directory, path, format)]
    assert codes == [("packed-empty", 0), *(("packed-truncated", step) for step in range(1, CUTS))]


async def test_a_truncated_file_is_found_in_its_cache(sample: Sample) -> None:
    os.truncate(sample.other_file("squashfs"), 20_000)
    report = await found(sample.directory, Depth.HEADER)
    assert [(one.code, one.position) for one in report.shown()] == [("packed-truncated", 3)]
    assert str(report.coverage) == "4 entries: 4 header"
