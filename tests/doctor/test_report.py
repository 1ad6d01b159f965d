"""What is made of findings: their order, what was acknowledged, and what the host has to do with a cache."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import msgspec
import pytest

from ocitui.doctor.acknowledged import acknowledge, load_acknowledged, withdraw
from ocitui.doctor.check.cache_checks import check_host, locked
from ocitui.doctor.findings import CATALOGUE, Severity, in_order
from tests.doctor.examine_support import Sample, codes, found


async def test_the_worst_comes_first(sample: Sample) -> None:
    sample.other_file("config.json").unlink()
    (sample.directory / "notes").write_bytes(b"")
    sample.edit_entry(0, lambda entry: entry["annotations"].update({"io.containerd.image.name": "library/x:1"}))
    report = await found(sample.directory)
    ranks = [one.severity.rank for one in report.findings]
    assert ranks == sorted(ranks, reverse=True)
    assert report.worst is report.findings[0].severity is Severity.HIGH
    assert [one.code for one in report.shown(Severity.MEDIUM)] == ["file-missing"]
    assert report.fails(Severity.HIGH)
    assert not report.fails(Severity.CRITICAL)


async def test_an_acknowledged_finding_stays_so_until_it_changes(sample: Sample) -> None:
    sample.other_file("squashfs").write_bytes(b"")
    report = await found(sample.directory)
    acknowledge(sample.directory, report.shown())
    report = await found(sample.directory)
    assert (report.shown(), report.worst) == ([], None)
    assert [one.code for one in report.shown(acknowledged=True)] == ["packed-empty"]
    sample.other_file("squashfs").unlink()
    report = await found(sample.directory)
    assert [one.code for one in report.shown()] == ["file-missing"]
    sample.other_file("squashfs").write_bytes(b"")
    withdraw(sample.directory, list(load_acknowledged(sample.directory)))
    assert [one.code for one in (await found(sample.directory)).shown()] == ["packed-empty"]


async def test_acknowledgements_that_cannot_be_read_hide_nothing(sample: Sample) -> None:
    sample.other_file("squashfs").write_bytes(b"")
    acknowledge(sample.directory, (await found(sample.directory)).shown())
    (sample.directory / ".ocitui" / "acknowledged.json").write_bytes(b'[{"fingerprint"')
    report = await found(sample.directory)
    assert [one.code for one in report.shown()] == ["packed-empty"]
    assert any("acknowledged.json cannot be read" in note for note in report.notes)


def test_acknowledging_from_several_threads(tmp_path: Path) -> None:
    finding = CATALOGUE["orphan-file"].finding("seen")
    threads = [
        threading.Thread(target=acknowledge, args=(tmp_path, [msgspec.structs.replace(finding, path=str(number))]))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.file for one in load_acknowledged(tmp_path).values()} == {str(number) for number in range(8)}


def test_a_daemon_that_runs_is_told_of(tmp_path: Path) -> None:
    process = tmp_path / "proc" / "42"
    process.mkdir(parents=True)
    (process / "comm").write_text("kratad\n")
    (tmp_path / "cache").mkdir()
    findings = {one.code: one for one in check_host(tmp_path / "cache", 0, tmp_path / "proc")}
    assert findings["daemon-running"].seen.startswith("kratad runs as process 42")
    assert findings["daemon-running"].severity is Severity.INFO


def test_a_full_disk_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    fields = list(real)
    fields[4] = 1  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    assert "disk-full" in {one.code for one in check_host(tmp_path, 0, tmp_path)}


def test_a_full_disk_comes_first_of_its_severity() -> None:
    found = [CATALOGUE[code].finding("seen", position=0) for code in ("file-missing", "index-schema", "orphan-file")]
    found += [CATALOGUE["disk-full"].finding("seen")]
    assert [one.code for one in in_order(found)] == ["index-schema", "disk-full", "file-missing", "orphan-file"]


async def test_what_a_writer_at_work_has_there_is_not_left_over(sample: Sample) -> None:
    own = sample.directory / ".ocitui"
    (own / "staging").mkdir(parents=True)
    (own / "staging" / "x.packed").write_bytes(b"")
    os.utime(own / "staging" / "x.packed", (0, 0))
    with (own / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert locked(own)
        assert codes((await found(sample.directory)).findings) == set()
    assert not locked(own)
    assert codes((await found(sample.directory)).findings) == {"leftover-temporary"}
