"""report, and the commands on one: nothing in it but what it says, and nothing out of it but what is in one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import signal
import stat
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cli.demo_cache import ALPINE
from ocitui.doctor import incident
from tests.cli.answering import answer
from tests.cli.conftest import Ocitui

SECRET = "hunter2-Kq8"


@pytest.fixture
def report(demo: Path, tmp_path: Path, ocitui: Ocitui) -> Path:
    assert ocitui("report", tmp_path / "incident", "-C", demo).status == 0
    return tmp_path / "incident"


def members(report: Path) -> dict[str, bytes]:
    with tarfile.open(report) as archive:
        return {one.name: (archive.extractfile(one) or io.BytesIO()).read() for one in archive}


def written(path: Path, content: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if change is not None:
                change(member)
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


@pytest.mark.parametrize(
    "words", [["check", "--read-only"], ["repair"], ["list"], ["why", "alpine:3.19"], ["verdict"], ["log"], ["zones"]]
)
def test_a_command_tells_of_it_what_it_told_on_the_host(
    words: list[str], demo: Path, report: Path, ocitui: Ocitui
) -> None:
    there = ocitui(*words, "-C", demo, "--json")
    here = ocitui(*words, "-C", report, "--json")

    def told(text: str) -> list[str]:
        """In an order of its own, as that in which directories are listed is none."""
        return sorted(line.partition('"started":')[0] for line in text.splitlines())

    assert (here.status, told(here.out)) == (there.status, told(there.out))


def test_people_are_told_whose_it_is_and_when(demo: Path, report: Path, ocitui: Ocitui) -> None:
    first = ocitui("check", "-C", report).out.splitlines()[0]
    assert first.startswith(f"on {os.uname().nodename}, in {demo}, as it was at 2")


def test_it_is_for_its_owner_and_replaces_nothing_unasked(
    demo: Path, report: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    before = report.read_bytes()
    assert ocitui("report", report, "-C", demo).status == 2
    answer(monkeypatch, "no", "yes")
    assert ocitui("report", report, "-C", demo).status == 130
    assert report.read_bytes() == before
    report.write_bytes(b"")
    assert ocitui("report", report, "-C", demo).status == 0
    assert report.read_bytes().startswith(b"\x1f\x8b")
    assert ocitui("report", demo / "inside", "-C", demo).status == 4
    assert sorted(report.parent.glob(".incident*")) == []


def seed(demo: Path) -> None:
    """Secrets in all that a document says, in files that nobody knows, in what is broken."""
    for path in demo.glob("*.config.json"):
        config = json.loads(path.read_bytes())
        run = {"Env": [f"TOKEN={SECRET}"], "Cmd": ["x", SECRET], "Labels": {"os": SECRET, SECRET: "digest"}}
        config |= {"config": run, "author": SECRET, "x": {"digest": SECRET}, SECRET: 1}
        config["history"] = [{"created_by": f"ARG {SECRET}", "comment": f'"\\n{SECRET}'}]
        path.write_text(json.dumps(config))
    manifests = sorted(demo.glob("*.manifest.json"))
    manifest = json.loads(manifests[0].read_bytes())
    manifest |= {"annotations": {"mediaType": SECRET, "a": SECRET}, "mediaType": SECRET}
    manifests[0].write_text(json.dumps(manifest))
    manifests[1].write_bytes(b'{"schemaVersion": "' + SECRET.encode() + b'", "config": ["' + SECRET.encode())
    manifests[2].write_bytes(b"password=" + SECRET.encode())
    manifests[3].write_bytes(b'{"mediaType": "\\q' + SECRET.encode() + b'"}')
    (demo / ".ocitui" / "imports").mkdir(parents=True, exist_ok=True)
    for name in ("auth.json", ".ocitui/imports/1.json", f"{ALPINE.digest}.tar"):
        (demo / name).write_bytes(SECRET.encode() * 40)


def test_no_secret_is_in_it(demo: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(demo)
    monkeypatch.setenv("TOKEN", SECRET)
    there = ocitui("check", "--read-only", "-C", demo, "--json", "--severity", "high")
    assert ocitui("report", tmp_path / "incident", "-C", demo).status == 0
    content = members(tmp_path / "incident")
    assert len(content) > 10
    assert [name for name, data in content.items() if SECRET.encode() in data + name.encode()] == []
    here = ocitui("check", "-C", tmp_path / "incident", "--json", "--severity", "high")
    codes = [[json.loads(line).get("code") for line in one.out.splitlines()] for one in (there, here)]
    assert codes[0] == codes[1]
    assert SECRET not in here.out


def test_a_document_is_as_long_as_it_was_and_its_own_digest_is_told(demo: Path, report: Path) -> None:
    raw = (demo / f"{ALPINE.digest}.config.json").read_bytes()
    content = members(report)
    facts = json.loads(content["incident.json"])
    [told] = [one for one in facts["files"] if one[0] == f"{ALPINE.digest}.config.json"]
    assert hashlib.sha256(raw).hexdigest() in told
    assert len(content[f"cache/{ALPINE.digest}.config.json"]) == len(raw)


@pytest.mark.parametrize(
    "words",
    [
        ["delete", ALPINE.digest, "--yes"],
        ["repair", "--apply", "--yes"],
        ["check", "--acknowledge", "abc"],
        ["check", "--depth", "deep"],
        ["files", ALPINE.digest],
        ["report", "again"],
    ],
)
def test_what_would_change_it_or_read_what_it_lacks_is_refused(words: list[str], report: Path, ocitui: Ocitui) -> None:
    before = report.read_bytes()
    done = ocitui(*words, "-C", report)
    assert done.status in (2, 4)
    assert done.err.startswith("ocitui: ")
    assert done.err.count("\n") == 1
    assert report.read_bytes() == before


def facts_with(content: dict[str, bytes], change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    facts = json.loads(content["incident.json"])
    change(facts)
    return {**content, "incident.json": json.dumps(facts).encode()}


def renamed(name: str, target: str | None = None) -> Callable[[dict[str, Any]], object]:
    """A first file of that name; a link where it has a target."""

    def change(facts: dict[str, Any]) -> None:
        mode = 0o100644 if target is None else 0o120777
        facts["files"].insert(0, [name, mode, 1, 1, 1, 0, 0, 5, 0, 0, None, target])

    return change


def numbered(place: int, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda facts: facts["files"][0].__setitem__(place, value)


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "up": renamed("../up"),
    "up by an escape": renamed("\\x2e\\x2e/up"),
    "absolute": renamed("/tmp/up"),
    "itself": renamed("."),
    "nul": renamed("a\0b"),
    "long": renamed("a" * 300),
    "twice": lambda facts: facts["files"].append(facts["files"][0]),
    "twice by an escape": lambda facts: (renamed("dir")(facts), renamed("\\x64ir")(facts)),
    "link up": renamed("link", "../../secret"),
    "through a link": lambda facts: (renamed("link", "/")(facts), renamed("link/x")(facts)),
    "no number": numbered(7, "x"),
    "negative": numbered(7, -1),
    "huge": numbered(7, 2**62),
    "mode": numbered(1, 1 << 20),
    "time": numbered(8, 2**70),
    "kept": numbered(10, 7),
    "version": lambda facts: facts.update(version=2),
    "disk": lambda facts: facts.update(disk=[1]),
    "files": lambda facts: facts.update(files={}),
    "daemon": lambda facts: facts.update(daemon="x"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_report_that_lies_is_refused_in_a_line(
    case: str, report: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    bad = written(tmp_path / "bad", facts_with(members(report), HOSTILE[case]))
    refused(ocitui, bad)
    assert list(folder.iterdir()) == []


def refused(ocitui: Ocitui, bad: Path) -> None:
    before = {*bad.parent.iterdir()}
    done = ocitui("check", "-C", bad)
    assert done.status == 4
    assert done.err.startswith(f"ocitui: {bad} is no report that can be opened: ")
    assert done.err.count("\n") == 1
    assert done.err.isprintable() or done.err[:-1].isprintable()
    assert {*bad.parent.iterdir()} == before


def test_members_that_it_does_not_tell_of_are_refused(report: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    content = members(report)
    for number, name in enumerate(("cache/../up", "../up", "/up", "cache/else", "cache/\x1b[2J")):
        refused(ocitui, written(tmp_path / f"bad{number}", {name: b"x", **content}))
    refused(ocitui, written(tmp_path / "less", {name: data for name, data in content.items() if "index" not in name}))
    refused(ocitui, written(tmp_path / "none", {"x": b"x"}))

    def link(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc", 0

    refused(ocitui, written(tmp_path / "links", content, link))


def test_a_cut_or_bent_one_is_refused(report: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    data, bad = report.read_bytes(), tmp_path / "bad"
    for size in (2, 10, len(data) // 2, len(data) - 9):
        bad.write_bytes(data[:size])
        refused(ocitui, bad)
    bent = bytearray(data)
    bent[len(bent) // 2] ^= 0xFF
    bad.write_bytes(bent)
    refused(ocitui, bad)
    bad.write_bytes(gzip.compress(b"no tar"))
    refused(ocitui, bad)


def test_a_bomb_is_not_unpacked(report: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident, "MOST_BYTES", 1 << 22)
    refused(ocitui, written(tmp_path / "bad", {**members(report), "kratad.log": bytes(1 << 23)}))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_without_an_end_is_not_taken_in(kind: bytes, tmp_path: Path, ocitui: Ocitui) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 1 << 30
    (tmp_path / "bad").write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(16 << 20)))
    refused(ocitui, tmp_path / "bad")
    assert "a header without an end" in ocitui("check", "-C", tmp_path / "bad").err


def test_another_file_is_no_directory(tmp_path: Path, ocitui: Ocitui) -> None:
    (tmp_path / "file").write_bytes(b"text")
    done = ocitui("check", "-C", tmp_path / "file")
    assert (done.status, "is not a directory" in done.err) == (4, True)


def test_metrics_of_it_are_of_the_cache_that_is_meant(demo: Path, report: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    assert ocitui("check", "-C", report, "--prometheus", tmp_path / "metrics").status == 1
    assert set(re.findall(r'cache="([^"]*)"', (tmp_path / "metrics").read_text())) == {str(demo)}


def test_nothing_is_exported_of_it(report: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    done = ocitui("export", "busybox:1.36", tmp_path / "there.tar", "-C", report)
    assert (done.status, "it is a report of" in done.err) == (4, True)


@pytest.mark.parametrize("where", ["ocitui.doctor.incident._open", "ocitui.cli.output.Call.answer"])
def test_a_signal_leaves_nothing_of_one_that_is_open(
    where: str, report: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is unpacked, and after what a loop ran, which has signals end the program at once behind it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def ended(*_: object, **__: object) -> None:
        assert [*(tmp_path / "tmp").iterdir()] != []
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(where, ended)
    assert ocitui("repair", "-C", report).status == 128 + signal.SIGTERM
    assert [*(tmp_path / "tmp").iterdir()] == []
