"""Metrics: what the text format asks for, and what a fleet's monitoring wants to know."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ocitui.cache import ConflictError, StorageError
from ocitui.cache.disk import write_outside
from ocitui.doctor.acknowledged import acknowledge
from ocitui.doctor.findings import Depth
from ocitui.doctor.report import prometheus
from tests.doctor.examine_support import Sample, found

_SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\} (-?[0-9.e+-]+)')


def samples(text: str) -> dict[tuple[str, str], float]:
    """Every value by its metric and labels; the text is held to the format's rules."""
    found: dict[tuple[str, str], float] = {}
    described: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, _ = line.split(" ", 3)
            described.append((word, name))
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample is not None, line
        assert ("TYPE", sample[1]) in described
        assert (sample[1], sample[2]) not in found
        found[sample[1], sample[2]] = float(sample[3])
    assert text.endswith("\n")
    assert len(set(described)) == len(described)
    assert {name for word, name in described if word == "HELP"} == {name for word, name in described if word == "TYPE"}
    return found


STATES = ("ok", "bad", "unknown")


async def test_what_is_told(sample: Sample) -> None:
    sample.other_file("squashfs").write_bytes(b"")
    report = await found(sample.directory, Depth.HEADER)
    values = samples(prometheus(report))
    cache = f'cache="{sample.directory}"'
    assert values["ocitui_cache_findings", f'{cache},code="packed-empty",severity="high"'] == 1
    assert values["ocitui_cache_findings_by_severity", f'{cache},severity="critical"'] == 0
    assert values["ocitui_cache_findings_by_severity", f'{cache},severity="high"'] == 1
    assert values["ocitui_cache_entries", cache] == 4
    states = {state: values["ocitui_cache_entries_by_state", f'{cache},state="{state}"'] for state in STATES}
    assert states == {"ok": 3, "bad": 1, "unknown": 0}
    assert values["ocitui_cache_packed_bytes", cache] == report.packed_bytes
    assert values["ocitui_cache_index_verdict", f'{cache},verdict="loaded"'] == 1
    assert values["ocitui_cache_index_verdict", f'{cache},verdict="reset"'] == 0
    assert values["ocitui_cache_checked_entries", f'{cache},depth="header"'] == 3
    assert values["ocitui_cache_check_timestamp_seconds", cache] == report.started
    assert values["ocitui_cache_check_duration_seconds", cache] == report.seconds


async def test_an_acknowledged_finding_is_counted_apart(sample: Sample) -> None:
    sample.other_file("squashfs").write_bytes(b"")
    acknowledge(sample.directory, (await found(sample.directory)).shown())
    values = samples(prometheus(await found(sample.directory)))
    of_high = {name: value for (name, labels), value in values.items() if 'severity="high"' in labels}
    assert of_high == {"ocitui_cache_findings_by_severity": 0, "ocitui_cache_findings_acknowledged": 1}


async def test_labels_are_escaped(tmp_path: Path) -> None:
    directory = tmp_path / 'a"b\\c\nd\udcff'
    directory.mkdir()
    text = prometheus(await found(directory))
    assert r"a\"b\\c\nd?" in text
    samples(text)


async def test_the_file_is_put_in_place_at_once(sample: Sample, tmp_path: Path) -> None:
    report = await found(sample.directory)
    path = tmp_path / "ocitui.prom"
    path.write_text("old")
    inode = path.stat().st_ino
    write_outside(report.directory, path, prometheus(report), replace=True)
    assert path.read_text() == prometheus(report)
    assert path.stat().st_ino != inode
    assert path.stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(tmp_path)) == ["copy", "ocitui.prom"]


@pytest.mark.parametrize("name", ["index.json", "new.prom", ".ocitui/ledger"])
async def test_no_file_of_the_cache_is_written_over(name: str, sample: Sample) -> None:
    report, before = await found(sample.directory), (sample.directory / "index.json").read_bytes()
    with pytest.raises(ConflictError):
        write_outside(report.directory, sample.directory / name, prometheus(report), replace=True)
    assert (sample.directory / "index.json").read_bytes() == before


async def test_where_it_cannot_be_written(sample: Sample, tmp_path: Path) -> None:
    report = await found(sample.directory)
    with pytest.raises(StorageError):
        write_outside(report.directory, tmp_path / "absent" / "ocitui.prom", prometheus(report), replace=True)
    (tmp_path / "folder.prom").mkdir()
    with pytest.raises(StorageError):
        write_outside(report.directory, tmp_path / "folder.prom", prometheus(report), replace=True)
    assert sorted(os.listdir(tmp_path)) == ["copy", "folder.prom"]
