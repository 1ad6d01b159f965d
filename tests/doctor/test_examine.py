"""`examine` as its callers know it: what it tells, cancellation, what came before, and read-only caches."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from ocitui.cache import PackerCache, keep_backup
from ocitui.cache.listing import CacheFiles
from ocitui.doctor.check.examine import ExamineOptions, examine
from ocitui.doctor.findings import Depth, Finding, Severity
from ocitui.doctor.report import Progress
from ocitui.threads import Stop, in_parallel
from tests.cache.support import tree, until
from tests.doctor.examine_support import Sample, all_codes, codes, found
from tests.tools import recorded

CONFORMANCE = Path(__file__).parent.parent / "conformance"


async def test_progress_counts_up_to_everything(sample: Sample) -> None:
    told: list[Progress] = []
    report = await examine(sample.directory, ExamineOptions(Depth.DEEP), told.append)
    await asyncio.sleep(0)
    # Each begins with nothing; of one that takes long this may be told more than once.
    assert list(dict.fromkeys(one.phase for one in told)) == ["files", "entries", "deep"]
    assert {one.phase for one in told if not one.entries} == {"files", "entries", "deep"}
    assert all(one.entries <= one.entries_total and one.bytes <= one.bytes_total for one in told)
    assert report.coverage.bytes_read == told[-1].bytes_total == report.packed_bytes


def test_rate_and_time_left() -> None:
    progress = Progress("deep", 1, 4, 100, 400, 2.0)
    assert (progress.rate, progress.seconds_left) == (50.0, 6.0)
    assert Progress("quick", 1, 4, seconds=2.0).seconds_left == 6.0
    assert Progress("quick", 0, 4).seconds_left is None


def test_an_error_ends_the_work_of_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended, done = threading.Event(), threading.Event(), list[int]()

    class Pool(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., None], /, *args: object, **kwargs: object) -> Future[None]:  # type: ignore[override]
            future = super().submit(fn, *args, **kwargs)
            future.add_done_callback(lambda _: ended.set())
            return future

    def work(item: int) -> None:
        if not item:
            began.wait()
            raise ValueError("the first")
        began.set()
        ended.wait()
        done.append(item)

    monkeypatch.setattr("ocitui.threads.ThreadPoolExecutor", Pool)
    with pytest.raises(ValueError, match="the first"):
        in_parallel(range(100), work, 2, Stop())
    assert done == [1]


async def test_all_is_told_before_the_report(sample: Sample) -> None:
    sample.other_file("config.json").unlink()
    progress, told = list[Progress](), list[Finding]()
    report = await examine(sample.directory, ExamineOptions(Depth.HEADER), progress.append, told.extend)
    assert told
    assert set(told) == set(report.findings)
    assert progress


async def test_a_cancelled_check_ends_its_threads(sample: Sample) -> None:
    running = asyncio.ensure_future(found(sample.directory, Depth.DEEP, max_rate=1.0))

    def checking() -> bool:
        return any(thread.name.startswith("ocitui-check") for thread in threading.enumerate())

    await until(checking, "a thread that checks")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not checking()


@pytest.mark.slow
async def test_a_cancelled_check_goes_on_where_it_was(sample: Sample) -> None:
    rate = min(path.stat().st_size for path in sample.directory.glob("sha256:*.*fs")) * 4.0

    def cancel(progress: Progress) -> None:
        # Told before the end is, however late the loop comes to it.
        if progress.phase == "deep" and progress.entries:
            running.cancel()

    running = asyncio.ensure_future(
        examine(sample.directory, ExamineOptions(Depth.DEEP, jobs=1, max_rate=rate), cancel)
    )
    with pytest.raises(asyncio.CancelledError):
        await running
    report = await found(sample.directory, Depth.DEEP, older_than=3600.0)
    assert 0 < report.coverage.earlier <= 4


async def test_nothing_of_the_cache_is_written(sample: Sample) -> None:
    before = tree(sample.directory)
    times = {path: path.stat().st_mtime_ns for path in sample.directory.iterdir()}
    await found(sample.directory, Depth.DEEP)
    assert tree(sample.directory) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.fixture
def mounted(sample: Sample, tmp_path: Path) -> Iterator[Path]:
    """The same cache, mounted read-only."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", "--bind", sample.directory, place], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


async def test_a_read_only_file_system(mounted: Path) -> None:
    report = await found(mounted, Depth.DEEP)
    assert codes(report.findings) == set()
    assert "cache-read-only" in {one.code for one in report.findings}
    assert report.coverage.entries == 4
    assert any("not recorded" in note for note in report.notes)


@pytest.mark.parametrize("case", recorded("indexes.json"), ids=lambda case: case["case"])
async def test_every_index_the_daemon_would_not_load_has_a_finding(
    case: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.0)
    if case["input"]:
        (tmp_path / "index.json").write_bytes((CONFORMANCE / case["input"]).read_bytes())
    report = await found(tmp_path)
    answers = {finding.answer for finding in report.findings if finding.code.startswith(("index-", "descriptor-"))}
    wanted = {"created": {"miss"}, "loaded": set(), "reset": {"wipe"}, "error": {"no-start"}}
    assert answers == wanted[case["outcome"]]
    assert report.verdict.outcome == case["outcome"]


@pytest.mark.parametrize("case", recorded("documents.json"), ids=lambda case: f"{case['kind']}-{case['case']}")
async def test_every_document_the_daemon_fails_on_has_a_finding(case: dict[str, str], sample: Sample) -> None:
    sample.other_file(f"{case['kind']}.json").write_bytes(base64.b64decode(case["base64"]))
    report = await found(sample.directory)
    unreadable = {f"{case['kind']}-unparsable", "config-no-history", "manifest-is-index"}
    assert bool(all_codes(report.findings) & unreadable) is (case["recall"] == "error")


async def test_a_torn_write_is_no_fault(sample: Sample) -> None:
    whole = sample.index.read_bytes()
    sample.index.write_bytes(whole[:100])
    running = asyncio.ensure_future(found(sample.directory))
    await asyncio.sleep(0)
    sample.index.write_bytes(whole)
    assert all_codes((await running).findings) == set()


async def test_an_entry_deleted_during_the_check_is_not_missing(sample: Sample) -> None:
    class Deleting(CacheFiles):
        """Deletes an entry, as another program would, once the index was read."""

        done = False

        def items(self) -> Iterable[os.DirEntry[str]]:
            if not self.done:
                Deleting.done = True
                asyncio.run(PackerCache(sample.directory).delete([(sample.other, "squashfs")]))
            return super().items()

    report = await found(sample.directory, open_files=Deleting)
    assert all_codes(report.findings) == set()
    assert report.entries == 3


async def test_entries_of_the_backup_that_are_gone(sample: Sample) -> None:
    keep_backup(sample.directory, sample.index.read_bytes())
    sample.edit_index(lambda fields: fields.update(manifests=fields["manifests"][3:]))
    report = await found(sample.directory)
    assert codes(report.findings) == {"index-shrunk"}
    assert "3 entries of the newest backup are gone: busybox:1.36" in report.findings[0].seen
    # It stays so when the shrunken index was seen, and kept, too.
    keep_backup(sample.directory, sample.index.read_bytes())
    assert codes((await found(sample.directory)).findings) == {"index-shrunk"}


async def test_an_entry_of_the_backup_that_gave_way_to_another(sample: Sample) -> None:
    """The number of entries is what it was."""
    keep_backup(sample.directory, sample.index.read_bytes())
    sample.edit_index(lambda fields: fields["manifests"][0].update(digest="sha256:" + "5" * 64))
    assert "index-shrunk" in codes((await found(sample.directory)).findings)
    keep_backup(sample.directory, sample.index.read_bytes())
    assert "index-shrunk" in codes((await found(sample.directory)).findings)


async def test_entries_that_we_deleted_are_not_missed(sample: Sample) -> None:
    keep_backup(sample.directory, sample.index.read_bytes())
    async with await PackerCache.open(sample.directory) as cache:
        await cache.delete([(sample.digest, "tar")])
    report = await found(sample.directory)
    assert codes(report.findings) == set()


async def test_an_edit_that_the_daemon_undid(sample: Sample) -> None:
    before = sample.index.read_bytes()
    async with await PackerCache.open(sample.directory) as cache:
        deleted = await cache.delete([(sample.digest, "tar")])
    sample.index.write_bytes(before)
    report = await found(sample.directory)
    assert codes(report.findings) == {"index-overwritten"}
    assert deleted.id in report.findings[0].seen


async def test_an_empty_directory_is_a_new_cache(tmp_path: Path) -> None:
    report = await found(tmp_path, Depth.DEEP)
    assert [(one.code, one.severity) for one in report.findings if one.code.startswith("index")] == [
        ("index-missing", Severity.INFO)
    ]
    assert not report.fails(Severity.INFO)
    assert str(report.coverage) == "0 entries"


async def test_files_are_checked_without_an_index(sample: Sample) -> None:
    sample.index.unlink()
    os.truncate(sample.file("erofs"), 8192)
    report = await found(sample.directory, Depth.HEADER)
    assert [(one.code, one.format) for one in report.shown()] == [("index-missing", ""), ("packed-truncated", "erofs")]
