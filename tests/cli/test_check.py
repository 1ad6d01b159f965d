"""check: what it shows, what it prints for programs, what it keeps, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import list_backups
from ocitui.cli import options
from ocitui.cli.commands import check as checking
from ocitui.cli.demo_cache import ALPINE, BUSYBOX, FORGOTTEN, QUEUE, SITE
from ocitui.cli.output import InterruptedBySignalError
from ocitui.doctor import acknowledged
from ocitui.doctor.acknowledged import load_acknowledged
from ocitui.doctor.check import examine
from ocitui.doctor.findings import Depth, Severity
from ocitui.doctor.report import Report
from tests.cache.support import corrupt_copies
from tests.cli.conftest import Ocitui, Outcome, rot, widest

BAD = ("file-missing", "packed-truncated", "orphan-entry")


def lines_of(done: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def findings_of(done: Outcome) -> list[dict[str, Any]]:
    return [line for line in lines_of(done) if line["type"] == "finding"]


def id_of(ocitui: Ocitui, cache: Path, code: str) -> str:
    found = findings_of(ocitui("check", "-C", cache, "--json"))
    fingerprint: str = next(line["fingerprint"] for line in found if line["code"] == code)
    return fingerprint


def test_as_many_files_are_read_at_once_as_an_examination_reads() -> None:
    (jobs,) = [one for one in checking.check_command.params if one.name == "jobs"]
    assert jobs.default == examine.ExamineOptions().jobs


def test_the_light_copies_of_the_doctor_s_words_agree() -> None:
    assert tuple(depth.value for depth in Depth) == options.DEPTHS
    assert tuple(severity.value for severity in Severity) == checking.SEVERITIES


def test_the_demo_s_faults_are_shown_worst_first_and_fit_the_screen(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", demo)
    assert done.status == 1
    assert done.err == ""
    titles = [line for line in done.out.splitlines() if line.startswith(("CRITICAL", "HIGH", "LOW"))]
    assert titles == ["HIGH  file-missing", "HIGH  packed-truncated", "LOW  orphan-entry"]
    assert widest(done.out, demo) <= 80
    assert f"({SITE.digest[7:19]} tar)" in done.out
    assert "index.json  loaded: the daemon would load" in done.out
    assert "2 high, 1 low; not shown: 2 info (--all)" in done.out


def test_what_is_not_shown_and_how_it_would_be(demo: Path, ocitui: Ocitui) -> None:
    assert "2 high, 1 low, 2 info (--all without --severity)" in _said(ocitui, demo, "--severity", "critical")
    assert "2 info (without --severity)" in _said(ocitui, demo, "--severity", "critical", "--all")
    assert "not shown" not in _said(ocitui, demo, "--all")


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (["--depth", "quick"], "ocitui repair shows"),
        (["--depth", "deep"], "ocitui repair shows"),
        (["--depth", "deep", "--read-only"], "ocitui repair --depth deep shows"),
    ],
)
def test_the_repair_it_names_finds_the_same(demo: Path, ocitui: Ocitui, options: list[str], command: str) -> None:
    rot(demo, ocitui)
    if "--read-only" in options:
        shutil.rmtree(demo / ".ocitui")
        # Without a recorded sha256 a tar shows damage only in its headers or its tree.
        (demo / f"{ALPINE.digest}.tar").write_bytes(bytes(10240))
    assert _said(ocitui, demo, *options).splitlines()[-1].startswith(command)


def test_what_a_deep_check_found_is_told_by_every_other(demo: Path, ocitui: Ocitui, tmp_path: Path) -> None:
    rot(demo, ocitui)
    assert "packed-damaged" not in _said(ocitui, demo)
    deep = by_code(ocitui, demo, "--depth", "deep")["packed-damaged"]
    assert deep["found"] is None
    for depth in ("quick", "header"):
        again = by_code(ocitui, demo, "--depth", depth)["packed-damaged"]
        assert {**again, "found": None} == deep
        assert again["found"] > 0
        assert "found by the deep check of 20" in " ".join(_said(ocitui, demo, "--depth", depth).split())
    ocitui("check", "-C", demo, "--prometheus", tmp_path / "metrics")
    assert 'code="packed-damaged",severity="high"} 1' in (tmp_path / "metrics").read_text()
    assert ocitui("check", "-C", demo, "--acknowledge", deep["fingerprint"][:8]).status == 1
    for depth in ("quick", "deep"):
        assert by_code(ocitui, demo, "--depth", depth)["packed-damaged"]["acknowledged"]


def by_code(ocitui: Ocitui, demo: Path, *options: str) -> dict[str, dict[str, Any]]:
    return {line["code"]: line for line in findings_of(ocitui("check", "-C", demo, "--json", *options))}


def _said(ocitui: Ocitui, demo: Path, *options: str) -> str:
    return ocitui("check", "-C", demo, *options).out


def test_what_is_said_of_a_finding(demo: Path, ocitui: Ocitui) -> None:
    (demo / f"{BUSYBOX.digest}.tar").write_bytes(b"")
    done = ocitui("check", "-C", demo, "--entry", "busybox:1.36")
    block = done.out.split("\n\n")[1].splitlines()
    assert block[0] == "HIGH  packed-empty"
    assert block[1].split()[1:] == ["busybox:1.36", f"({BUSYBOX.digest[7:19]}", "tar)"]
    assert [line[:12].strip() for line in block if line[2:3] != " "][2:] == ["daemon", "mend"]


def test_json_is_an_object_a_line_and_the_last_is_the_summary(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", demo, "--json")
    assert done.status == 1
    *found, summary = lines_of(done)
    assert all({"schema", "version", "host", "cache", "type"} <= set(line) for line in [*found, summary])
    assert {line["code"] for line in found} >= set(BAD)
    assert {"code", "severity", "entry", "file", "seen", "daemon", "mend", "loses", "fingerprint"} <= set(found[0])
    missing = next(line for line in found if line["code"] == "file-missing")
    assert missing["entry"]["digest"] == SITE.digest
    assert missing["file"] == f"{SITE.digest}.config.json"
    assert summary["type"] == "summary"
    assert summary["counts"]["severity"]["high"] == 2
    assert summary["counts"]["code"]["orphan-entry"] == 1
    assert summary["verdict"]["outcome"] == "loaded"
    assert summary["coverage"]["header"] == summary["coverage"]["entries"] == 8
    assert summary["clean"] is False


def test_a_sound_cache_is_clean(krata_cache: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", krata_cache)
    assert done.status == 0
    assert "nothing wrong: the cache is clean, by a check to the depth header" in done.out
    assert ocitui("check", "-C", krata_cache, "--json").status == 0


@pytest.mark.parametrize(("bound", "status"), [("low", 1), ("warning", 1), ("medium", 1), ("high", 1), ("critical", 0)])
def test_fail_on_sets_what_fails(bound: str, status: int, demo: Path, ocitui: Ocitui) -> None:
    assert ocitui("check", "-C", demo, "--fail-on", bound).status == status


def test_info_is_shown_only_when_asked_for(demo: Path, ocitui: Ocitui) -> None:
    assert "INFO" not in ocitui("check", "-C", demo).out
    assert "INFO  name-duplicate" in ocitui("check", "-C", demo, "--all").out
    assert "INFO  name-duplicate" in ocitui("check", "-C", demo, "--severity", "info").out
    assert "LOW" not in ocitui("check", "-C", demo, "--severity", "medium").out
    severities = {line["severity"] for line in findings_of(ocitui("check", "-C", demo, "--json", "--severity", "high"))}
    assert severities == {"high"}


def test_depth_says_how_far_it_looked(demo: Path, ocitui: Ocitui) -> None:
    quick = ocitui("check", "-C", demo, "--depth", "quick")
    assert "8 entries: 8 quick" in quick.out
    assert "packed-truncated" not in quick.out
    deep = lines_of(ocitui("check", "-C", demo, "--depth", "deep", "--json"))[-1]
    assert deep["coverage"]["deep"] > 0
    assert deep["coverage"]["bytes_read"] > 0


@pytest.mark.parametrize("words", [[QUEUE.digest], [QUEUE.digest[7:15]], ["quay.io/example/queue:7.2"]])
def test_one_entry_is_checked_by_digest_or_name(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", demo, "--json", "--entry", *words)
    assert {line["code"] for line in findings_of(done)} == {"packed-truncated"}
    assert lines_of(done)[-1]["coverage"]["entries"] == 1


def test_of_some_entries_it_never_says_that_the_cache_is_clean(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", demo, "--entry", "debian:12")
    assert (done.status, "nothing wrong with what was looked at" in done.out) == (0, True)
    assert "the cache is clean" not in done.out


@pytest.mark.parametrize("kept", [-100, 0])
def test_an_index_that_is_lost_is_told_whatever_is_looked_at(kept: int, demo: Path, ocitui: Ocitui) -> None:
    data, code = (demo / "index.json").read_bytes(), "index-unparsable"
    (demo / "index.json").write_bytes(data[:kept])
    whole = by_code(ocitui, demo)[code]
    done = ocitui("check", "-C", demo, "--json", "--entry", ALPINE.digest)
    assert {one["code"]: one for one in findings_of(done)} == {code: whole}
    assert (done.status, lines_of(done)[-1]["clean"]) == (1, False)
    said = ocitui("check", "-C", demo, "--entry", ALPINE.digest).out
    assert f"CRITICAL  {code}" in said
    assert "nothing wrong" not in said


def test_an_entry_that_is_not_there(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", demo, "--entry", "nowhere:1")
    assert (done.status, done.out) == (1, "")
    assert "there is no entry nowhere:1" in done.err


@pytest.mark.parametrize("word", [FORGOTTEN.digest, FORGOTTEN.digest[7:]])
def test_files_without_an_entry_are_none(word: str, demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", demo, "--entry", word)
    assert (done.status, done.out) == (1, "")
    assert f"there are files of {word}, but no entry" in done.err
    assert "orphan-entry" in done.err


def test_a_finding_that_is_acknowledged_stays_so_until_it_changes(demo: Path, ocitui: Ocitui) -> None:
    statuses = [
        ocitui("check", "-C", demo, "--acknowledge", id_of(ocitui, demo, code)[:8]).status for code in sorted(BAD)
    ]
    assert statuses == [1, 1, 0]
    done = ocitui("check", "-C", demo)
    assert done.status == 0
    assert "3 acknowledged (--all)" in done.out
    assert "(acknowledged)" in ocitui("check", "-C", demo, "--all").out
    marked = {line["code"]: line["acknowledged"] for line in findings_of(ocitui("check", "-C", demo, "--json"))}
    assert marked["file-missing"] is True
    assert marked["name-duplicate"] is False
    os.truncate(demo / f"{QUEUE.digest}.tar", 7 * 512)
    assert ocitui("check", "-C", demo).status == 1


def test_what_was_acknowledged_can_be_forgotten(demo: Path, ocitui: Ocitui) -> None:
    fingerprint = id_of(ocitui, demo, "orphan-entry")
    as_json = ocitui("check", "-C", demo, "--acknowledge", fingerprint, "--json")
    assert lines_of(as_json)[-1]["acknowledged"] == 1
    assert [line["code"] for line in findings_of(as_json) if line["acknowledged"]] == ["orphan-entry"]
    assert "orphan-entry" in ocitui("check", "-C", demo, "--forget", fingerprint[:6]).out
    assert ocitui("check", "-C", demo, "--forget", fingerprint[:6]).status == 1
    ocitui("check", "-C", demo, "--acknowledge", fingerprint)
    assert "orphan-entry" in ocitui("check", "-C", demo, "--forget-acknowledged").out


def test_no_such_finding_can_be_acknowledged(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", demo, "--acknowledge", "0123456789abcdef")
    assert (done.status, done.out) == (1, "")
    assert "no finding has the id" in done.err
    assert not (demo / ".ocitui" / "acknowledged.json").exists()


def test_an_id_is_understood_alike_wherever_it_is_typed(
    demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few digits name nothing, and those of several are for the one who typed them to tell apart."""
    fingerprint = id_of(ocitui, demo, "orphan-entry")
    accepted = ocitui("check", "-C", demo, "--acknowledge", fingerprint[:3], "--json")
    assert accepted.status == 1
    assert not any(line["acknowledged"] for line in findings_of(accepted))
    ocitui("check", "-C", demo, "--acknowledge", fingerprint)
    forgotten = ocitui("check", "-C", demo, "--forget", fingerprint[:3])
    assert forgotten.status == 1
    assert "no acknowledged finding has the id" in forgotten.err
    known = load_acknowledged(demo)
    monkeypatch.setattr(acknowledged, "load_acknowledged", lambda _: known | {f"{fingerprint[:8]}{'0' * 8}": None})
    several = ocitui("check", "-C", demo, "--forget", fingerprint[:8])
    assert (several.status, "begins the ids of 2 findings" in several.err) == (2, True)


def test_corrupt_bytes_are_copied_aside_and_a_sound_index_is_kept(demo: Path, ocitui: Ocitui) -> None:
    index = demo / "index.json"
    sound = index.read_bytes()
    ocitui("check", "-C", demo)
    assert len(list_backups(demo)) == 1
    index.write_bytes(sound[:700])
    done = ocitui("check", "-C", demo)
    assert done.status == 1
    assert "CRITICAL  index-unparsable" in done.out
    assert "mend the index" in done.out
    [(name, kept)] = corrupt_copies(demo).items()
    assert kept == sound[:700]
    assert name in done.out.replace("\n", "").replace(" ", "")
    assert index.read_bytes() == sound[:700]


def test_read_only_keeps_nothing(demo: Path, ocitui: Ocitui) -> None:
    assert ocitui("check", "-C", demo, "--read-only", "--depth", "deep").status == 1
    assert not (demo / ".ocitui").exists()
    refused = ocitui("check", "-C", demo, "--read-only", "--acknowledge", "0123", "--json")
    assert refused.status == 4
    assert lines_of(refused)[-1]["error"]["code"] == "read-only"


def test_metrics(demo: Path, ocitui: Ocitui, tmp_path: Path) -> None:
    done = ocitui("check", "-C", demo, "--prometheus", "-")
    assert done.status == 1
    assert all(line.startswith(("#", "ocitui_cache_", "ocitui_build_info{")) for line in done.out.splitlines())
    target = tmp_path / "ocitui.prom"
    assert "HIGH" in ocitui("check", "-C", demo, "--prometheus", target).out
    assert f'severity="high"}} {2}' in target.read_text()
    assert [path.name for path in tmp_path.glob("*prom*")] == ["ocitui.prom"]
    assert ocitui("check", "-C", demo, "--prometheus", tmp_path / "nowhere" / "x.prom").status == 4
    assert ocitui("check", "-C", demo, "--prometheus", "-", "--json").status == 2


def test_a_check_that_fails_writes_that_it_did(
    demo: Path, ocitui: Ocitui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "ocitui.prom"
    ocitui("check", "-C", demo, "--prometheus", target)
    success = [line for line in target.read_text().splitlines() if "_last_success_timestamp_seconds{" in line]

    async def interrupted(*args: Any) -> Report:
        raise InterruptedBySignalError(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(examine, "examine", interrupted)
        assert ocitui("check", "-C", demo, "--prometheus", target).status == 143
    assert f'check_success{{cache="{demo}"}} 0' in target.read_text()
    shutil.rmtree(demo)
    assert ocitui("check", "-C", demo, "--prometheus", target).status == 4
    for written in (target.read_text(), ocitui("check", "-C", demo, "--prometheus", "-").out):
        assert f'check_success{{cache="{demo}"}} 0\n' in written
        assert "ocitui_cache_entries" not in written
    assert len(success) == 1
    assert success[0] in target.read_text()
    lost = ocitui("check", "-C", demo, "--prometheus", tmp_path / "nowhere" / "x.prom")
    assert (lost.status, lost.err.startswith(f"ocitui: {demo} does not exist")) == (4, True)


def test_what_cannot_be_checked_is_4_and_in_json_one_line(demo: Path, ocitui: Ocitui) -> None:
    shutil.rmtree(demo)
    assert ocitui("check", "-C", demo).status == 4
    done = ocitui("check", "-C", demo, "--json")
    assert done.status == 4
    (line,) = lines_of(done)
    assert line["error"]["code"] == "cache-directory"


def test_a_long_list_is_cut_unless_all_of_it_is_wanted(demo: Path, ocitui: Ocitui) -> None:
    for number in range(30):
        (demo / f"sha256:{number:012x}{0:052x}.config.json").write_bytes(b"{}")
    assert "and 20 more; --all shows them" in ocitui("check", "-C", demo).out
    assert f"{29:012x}" in ocitui("check", "-C", demo, "--all").out


def test_an_interrupted_check_shows_what_it_found(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = examine.examine

    async def interrupted(*args: Any) -> Report:
        await whole(*args)
        raise InterruptedBySignalError(signal.SIGINT)

    monkeypatch.setattr(examine, "examine", interrupted)
    done = ocitui("check", "-C", demo)
    assert done.status == 130
    assert "HIGH  file-missing" in done.out
    assert "that is what was found so far" in done.out
    as_json = ocitui("check", "-C", demo, "--json")
    assert as_json.status == 130
    assert lines_of(as_json)[-1]["error"]["code"] == "interrupted"


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_check_quietly(demo: Path) -> None:
    command = [sys.executable, "-m", "ocitui", "check", "--json", "-C", str(demo)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141


@pytest.mark.parametrize(
    "words",
    [
        ["--depth", "deeper"],
        ["--fail-on", "info"],
        ["--jobs", "0"],
        ["--max-rate", "fast"],
        ["--older-than", "yesterday"],
        ["--severity", "bad"],
    ],
)
def test_usage(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("check", "-C", demo, *words)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1


def test_rates_and_spans_are_understood(demo: Path, ocitui: Ocitui) -> None:
    words = ["--max-rate", "900M/s", "--older-than", "30d", "--jobs", "3", "--depth", "deep"]
    assert ocitui("check", "-C", demo, *words).status == 1
    assert "found sound earlier" in ocitui("check", "-C", demo, *words).out


@pytest.mark.slow
@pytest.mark.parametrize("words", [["check"], ["repair"], ["trash"], ["why", "alpine:3.19"]])
def test_the_doctor_imports_nothing_of_the_screen(words: list[str], demo: Path) -> None:
    code = "import sys; from ocitui.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, *words, "-C", str(demo)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert not set(done.stderr.split()) & {"textual", "rich", "watchfiles", "httpx"}


@pytest.mark.parametrize("words", [["repair"], ["point"], ["trash", "restore"], ["trash", "empty"]])
def test_what_writes_can_be_refused_and_can_wait(words: list[str], ocitui: Ocitui) -> None:
    help_text = ocitui(*words, "--help").out
    assert "--read-only" in help_text
    assert "--wait SECONDS" in help_text
    assert "--json" in help_text


def test_a_name_cannot_command_the_terminal(demo: Path, ocitui: Ocitui) -> None:
    for path in demo.glob("*.config.json"):
        path.unlink()
    done = ocitui("check", "-C", demo)
    assert "\x1b" not in done.out
    assert "odd" in done.out


def test_orphans_of_the_demo_are_found_by_their_digest(demo: Path, ocitui: Ocitui) -> None:
    found = findings_of(ocitui("check", "-C", demo, "--json"))
    assert [line["entry"]["digest"] for line in found if line["code"] == "orphan-entry"] == [FORGOTTEN.digest]
