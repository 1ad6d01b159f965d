"""Metrics: what the text format asks for, and what a fleet's monitoring wants to know."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ocitui import __version__
from ocitui.cache import ConflictError, StorageError
from ocitui.cache.disk import write_outside
from ocitui.doctor.acknowledged import acknowledge
from ocitui.doctor.findings import Depth
from ocitui.doctor.metrics import prometheus, prometheus_of_failure
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
    assert values["ocitui_build_info", f'{cache},version="{__version__}"'] == 1
    assert values["ocitui_cache_check_success", cache] == 1
    assert values["ocitui_cache_check_last_success_timestamp_seconds", cache] == report.started


HELP = {
    "ocitui_build_info": "The version that wrote these metrics.",
    "ocitui_cache_check_success": "Whether the last check came to its end.",
    "ocitui_cache_check_timestamp_seconds": "When the check began.",
    "ocitui_cache_check_last_success_timestamp_seconds": "When the last check began that came to its end.",
    "ocitui_cache_findings": "Findings that are not acknowledged, by code and severity.",
    "ocitui_cache_findings_acknowledged": "Findings that are acknowledged.",
    "ocitui_cache_findings_by_severity": "Findings that are not acknowledged, by severity.",
    "ocitui_cache_findings_remembered": "Findings of an earlier deep check that still hold.",
    "ocitui_cache_index_verdict": "What the daemon would do with the index: 1 for the one that holds.",
    "ocitui_cache_entries": "Entries of the index.",
    "ocitui_cache_entries_by_state": "Entries that are ok, bad, or not looked into as far as that tells.",
    "ocitui_cache_packed_bytes": "Bytes of all packed files.",
    "ocitui_cache_checked_entries": "Entries checked at least so deep.",
    "ocitui_cache_unchecked": "What could not be checked.",
    "ocitui_cache_check_bytes_read": "Bytes of packed files that the check read.",
    "ocitui_cache_check_duration_seconds": "How long the check took.",
    "ocitui_cache_unread_files": "Packed files that no deep check has read as they are.",
    "ocitui_cache_oldest_deep_check_timestamp_seconds": (
        "When that packed file was read through whose last deep check is the oldest."
    ),
    "ocitui_cache_trash_bytes": "Bytes of the trash.",
    "ocitui_cache_unfinished_imports": "Imports that were interrupted.",
    "ocitui_cache_daemon_running": "Whether the cache's daemon is seen.",
}
"""Never another text for one of these names: two files of two versions on one host would break its collector."""


async def test_a_help_text_is_never_another(sample: Sample) -> None:
    text = prometheus(await found(sample.directory, Depth.DEEP))
    assert dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE)) == HELP


async def test_how_old_the_oldest_deep_check_is(sample: Sample) -> None:
    cache = f'cache="{sample.directory}"'
    before = samples(prometheus(await found(sample.directory)))
    assert before["ocitui_cache_unread_files", cache] == 4
    assert ("ocitui_cache_oldest_deep_check_timestamp_seconds", cache) not in before
    report = await found(sample.directory, Depth.DEEP)
    os.utime(sample.other_file("squashfs"), (1, 1))
    after = samples(prometheus(await found(sample.directory)))
    assert after["ocitui_cache_unread_files", cache] == 1, "what was written since was not read as it is"
    oldest = after["ocitui_cache_oldest_deep_check_timestamp_seconds", cache]
    assert int(report.started) <= oldest <= report.started + report.seconds + 1


async def test_what_is_told_beside_the_findings(sample: Sample) -> None:
    cache = f'cache="{sample.directory}"'
    own = sample.directory / ".ocitui"
    (own / "trash").mkdir(parents=True)
    (own / "trash" / "x").write_bytes(bytes(5000))
    (own / "imports").mkdir()
    (own / "imports" / "20240601T120000-abcd.json").write_text("{}")
    values = samples(prometheus(await found(sample.directory)))
    assert values["ocitui_cache_trash_bytes", cache] == 5000
    assert values["ocitui_cache_unfinished_imports", cache] == 1
    assert values["ocitui_cache_daemon_running", cache] == 0


async def test_a_cache_has_one_spelling(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(sample.directory)
    monkeypatch.chdir(tmp_path)
    for typed in (sample.directory, tmp_path / "link", Path("link"), Path("copy/../link")):
        cache = re.findall(r'cache="([^"]*)"', prometheus(await found(typed)))
        assert set(cache) == {str(sample.directory.resolve())}, typed


async def test_a_check_that_failed_says_so_and_when_one_last_did_not(sample: Sample, tmp_path: Path) -> None:
    path, cache = tmp_path / "x.prom", f'cache="{sample.directory}"'
    report = await found(sample.directory)
    path.write_text(prometheus(report))
    for _ in range(2):
        text = prometheus_of_failure(sample.directory, 5.5, path)
        path.write_text(text)
    assert samples(text) == {
        ("ocitui_build_info", f'{cache},version="{__version__}"'): 1,
        ("ocitui_cache_check_success", cache): 0,
        ("ocitui_cache_check_timestamp_seconds", cache): 5.5,
        ("ocitui_cache_check_last_success_timestamp_seconds", cache): report.started,
    }


@pytest.mark.parametrize("value", ["nan", "1e999", "-1", "9" * 400, "1 2", ""])
def test_what_was_no_time_is_not_believed(value: str, tmp_path: Path) -> None:
    path, name = tmp_path / "x.prom", "ocitui_cache_check_last_success_timestamp_seconds"
    path.write_text(f'{name}{{cache="{tmp_path}"}} {value}\n{name}{{cache="/other"}} 7\n')
    assert name not in prometheus_of_failure(tmp_path, 5.0, path)
    assert name not in prometheus_of_failure(tmp_path, 5.0, tmp_path / "absent")
    assert name not in prometheus_of_failure(tmp_path, 5.0, tmp_path)


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
