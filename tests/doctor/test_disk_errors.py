"""A disk that fails is a finding, never an error of ours."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ocitui.cache import CacheDirectoryError, PackerCache, keep_backup
from ocitui.cache.backups import keep_corrupt
from ocitui.cache.listing import CacheFiles
from ocitui.doctor.assessment import gather
from ocitui.doctor.check.cache_checks import keep_index
from ocitui.doctor.findings import Answer, Depth, Finding, Severity
from tests.doctor.examine_support import Sample, all_codes, found


class BadDisk(CacheFiles):
    """Fails with one error where a file's name ends so."""

    def __init__(self, directory: Path, ending: str, code: int, *, at_stat: bool = False) -> None:
        super().__init__(directory)
        self._ending, self._code, self._at_stat = ending, code, at_stat

    def _fail(self, name: str) -> None:
        if name.endswith(self._ending):
            raise OSError(self._code, os.strerror(self._code), name)

    def lstat(self, name: str) -> os.stat_result:
        if self._at_stat:
            self._fail(name)
        return super().lstat(name)

    def lstat_item(self, item: os.DirEntry[str]) -> os.stat_result:  # type: ignore[override]
        return self.lstat(item.name)

    def open_fd(self, name: str) -> int:
        self._fail(name)
        return super().open_fd(name)


def bad_disk(ending: str, code: int = errno.EIO, *, at_stat: bool = False) -> Callable[[Path], CacheFiles]:
    return lambda directory: BadDisk(directory, ending, code, at_stat=at_stat)


async def the_finding(sample: Sample, open_files: Callable[[Path], CacheFiles], depth: Depth) -> Finding:
    report = await found(sample.directory, depth, open_files=open_files)
    (finding,) = (one for one in report.findings if one.severity is not Severity.INFO)
    return finding


@pytest.mark.parametrize("at_stat", [False, True])
@pytest.mark.parametrize("kind", ["manifest", "config"])
async def test_a_document_that_cannot_be_read(kind: str, at_stat: bool, sample: Sample) -> None:
    disk = bad_disk(f"{sample.other}.{kind}.json", at_stat=at_stat)
    finding = await the_finding(sample, disk, Depth.DEEP)
    assert (finding.code, finding.kind, finding.answer) == ("read-error", kind, Answer.ERROR)
    assert (finding.digest, finding.position) == (sample.other, 3)


@pytest.mark.parametrize("depth", [Depth.HEADER, Depth.DEEP])
async def test_a_packed_file_that_cannot_be_read(depth: Depth, sample: Sample) -> None:
    finding = await the_finding(sample, bad_disk(f"{sample.other}.squashfs"), depth)
    assert (finding.code, finding.kind, finding.answer) == ("read-error", "packed", Answer.HIT)


async def test_an_index_that_cannot_be_read(sample: Sample) -> None:
    report = await found(sample.directory, Depth.HEADER, open_files=bad_disk("index.json"))
    assert all_codes(report.findings) == {"read-error"}
    (finding,) = (one for one in report.findings if one.code == "read-error")
    assert (finding.file, finding.answer, finding.severity) == ("index.json", Answer.NO_START, Severity.CRITICAL)
    # The files are looked at all the same.
    assert str(report.coverage) == "4 entries: 4 header"


async def test_what_this_user_may_not_read_is_no_fault_of_the_disk(sample: Sample) -> None:
    finding = await the_finding(sample, bad_disk(f"{sample.other}.config.json", errno.EACCES), Depth.QUICK)
    assert (finding.code, finding.answer) == ("wrong-mode", Answer.IGNORED)


async def test_an_error_in_the_middle_of_a_file(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: BinaryIO, passed: Callable[[int], object]) -> str:
        passed(1)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("ocitui.doctor.check.examine.hash_file", fail)
    report = await found(sample.directory, Depth.DEEP)
    assert all_codes(report.findings) == {"read-error"}
    assert len([one for one in report.findings if one.code == "read-error"]) == 4


@pytest.mark.parametrize("place", ["absent", "file", "unlistable"])
async def test_no_directory(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache"
    if place == "file":
        path.write_bytes(b"")
    if place == "unlistable":
        path.mkdir()

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CacheDirectoryError):
        await found(path)


async def test_a_document_too_large_to_be_one(sample: Sample) -> None:
    path = sample.other_file("manifest.json")
    os.truncate(path, 1 << 40)
    finding = await the_finding(sample, CacheFiles, Depth.QUICK)
    assert finding.code == "manifest-unparsable"
    assert "was not read" in finding.seen


async def test_an_index_too_large_to_be_one(sample: Sample) -> None:
    os.truncate(sample.index, 1 << 40)
    finding = await the_finding(sample, CacheFiles, Depth.QUICK)
    assert finding.code == "index-unparsable"


async def test_a_file_replaced_by_a_pipe_meanwhile_is_not_waited_for(sample: Sample) -> None:
    class Late(CacheFiles):
        def open(self, name: str) -> BinaryIO:
            if name.endswith(".tar") and not stat.S_ISFIFO(os.stat(name, dir_fd=self.fd).st_mode):
                os.unlink(name, dir_fd=self.fd)
                os.mkfifo(name, dir_fd=self.fd)
            return super().open(name)

    finding = await the_finding(sample, Late, Depth.DEEP)
    assert (finding.code, finding.format) == ("read-error", "tar")


@pytest.mark.parametrize("calls", ["opened", "listed", "looked at"])
@pytest.mark.parametrize("place", ["", "journal", "backups", "corrupt", "staging", "trash", "ledger", "acknowledged"])
async def test_our_own_folder_that_cannot_be_read(
    place: str, calls: str, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_backup(sample.directory, sample.index.read_bytes())
    keep_corrupt(sample.directory, b"{")
    await PackerCache(sample.directory).delete([(sample.digest, "tar")])
    bad = sample.directory / ".ocitui" / place
    failing = {"opened": ["open"], "listed": ["listdir", "scandir"], "looked at": ["stat", "lstat", "fstat"]}[calls]
    for name in failing:
        fail_at(monkeypatch, name, bad)
    keep_index(sample.directory)
    gather(sample.directory)
    report = await found(sample.directory, Depth.DEEP)
    # What the journal would explain, it cannot.
    told = {"journal-damaged"} if place in ("", "journal", "backups", "corrupt") else set[str]()
    assert told <= all_codes(report.findings) <= {"journal-damaged", "index-shrunk"}


def fail_at(monkeypatch: pytest.MonkeyPatch, call: str, bad: Path) -> None:
    """Have a call of the system fail for a path and what lies in it, however it is named."""
    really = getattr(os, call)

    def fail(what: int | str | Path = ".", *args: Any, dir_fd: int | None = None, **named: Any) -> Any:
        at = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.path.join(at, what)
        if os.path.abspath(path).startswith(str(bad)):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return really(what, *args, **named, **({} if dir_fd is None else {"dir_fd": dir_fd}))

    monkeypatch.setattr(os, call, fail)
