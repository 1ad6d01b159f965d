"""What is found of another host's cache here is what is found there."""

from __future__ import annotations

import ast
import os
import sys
import tempfile
from pathlib import Path

import pytest

from ocitui.cache import CacheDirectoryError
from ocitui.doctor import Depth, Finding
from ocitui.remote import HostMirror, SshPlace, mirror
from ocitui.remote.ssh import FarAnswerError
from tests.doctor.examine_support import Sample, copied, found, make_sample
from tests.doctor.fault_makers import CASES, FaultCase, as_parameters
from tests.tools import impatient


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("made"))


@pytest.fixture
def sample(made: Sample, tmp_path: Path) -> Sample:
    (tmp_path / "krata" / "cache").mkdir(parents=True)
    return copied(made, tmp_path / "krata" / "cache")


def told(findings: tuple[Finding, ...], directory: Path) -> list[tuple[str, ...]]:
    return sorted((one.code, one.file, one.seen.replace(str(directory), "")) for one in findings)


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ssh that leads to this machine, at once."""
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "ssh").write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    (tmp_path / "near" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'near'}:/usr/bin:{os.environ['PATH']}")


@pytest.mark.parametrize("case", as_parameters([case for case in CASES if case.depth is not Depth.DEEP]))
async def test_the_findings_are_those_of_a_check_there(
    case: FaultCase, sample: Sample, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    case.make(sample)
    there = await found(sample.directory, Depth.HEADER)
    async with HostMirror(SshPlace.parse(f"good{sample.directory}")) as mirror:
        await mirror.ask()
        here = await found(mirror.directory, Depth.HEADER)
    assert told(here.findings, mirror.directory) == told(there.findings, sample.directory)
    assert str(here.coverage).partition(";")[0] == str(there.coverage).partition(";")[0]
    assert not mirror.directory.exists()


HOSTILE = """
import hashlib, json, struct, sys, zlib
def record(**keys):
    told = json.dumps(keys).encode()
    data = zlib.compress(struct.pack(">I", len(told)) + told + keys.pop("raw", "").encode())
    sys.stdout.buffer.write(("%d %s\\n" % (len(data), hashlib.sha256(data).hexdigest())).encode() + data)
def name(path, mode=0o100644, size=1, leads=""):
    return [path, "m", [mode, 1, 1, 1, 0, 0, size, 0, 0], 0, leads]
sys.stdout.buffer.write(b"ocitui 1\\n")
"""


@pytest.mark.parametrize(
    "sent",
    [
        *(
            f"record(files=[name({path!r})])"
            for path in ("../x", "/etc/x", "a/b", ".", "..", "", "a\0b", ".ocitui/../x")
        ),
        'record(files=[name("x" * 300)])',
        'record(files=[name("x", leads="../../y", mode=0o120777)])',
        'record(files=[name(".ocitui", leads="x", mode=0o120777), name(".ocitui/y")])',
        'record(files=[name("x", size=1 << 60)])',
        'record(files=[name("x", size=-1)])',
        'record(files=[name("x")], pieces=[["x", 5, 3]], raw="abc")',
        'record(files=[name("x")], pieces=[["y", 0, 1]], raw="a")',
        'record(files=[["x"]])',
        'record(files="x" * 9)',
        'sys.stdout.buffer.write(b"3 " + hashlib.sha256(b"abc").hexdigest().encode() + b"\\nabc")',
        "data = zlib.compress(bytes(200 << 20), 9); "
        'sys.stdout.buffer.write(("%d %s\\n" % (len(data), hashlib.sha256(data).hexdigest())).encode() + data)',
        'record(failed=[2, "\\x1b[2Jgone"])',
        "pass",
    ],
)
async def test_nothing_of_a_hostile_host_leaves_the_mirror(
    sent: str, tmp_path: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "hostile.py"
    program.write_text(f"{HOSTILE}\ndef main(asked):\n    {sent}\n    sys.stdout.flush()\n    print('end 1')\n")
    monkeypatch.setattr(mirror, "_GATHERER", program)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "made"))
    (tmp_path / "made").mkdir()
    async with HostMirror(SshPlace.parse("good/srv")) as asked:
        with pytest.raises((FarAnswerError, CacheDirectoryError)) as raised:
            await asked.ask()
        assert raised.value.message.isprintable()
        assert not [one for one in (tmp_path / "made").rglob("*") if one.name in ("x", "y") and one.stat().st_size > 1]
        assert {one.name for one in tmp_path.iterdir()} <= {"made", "near", "hostile.py"}
    assert not list((tmp_path / "made").iterdir())


async def test_asked_again_a_host_sends_what_changed(sample: Sample, near: None) -> None:
    async with HostMirror(SshPlace.parse(f"good{sample.directory}")) as asked:
        await asked.ask()
        first = asked.taken
        assert first > len(sample.index.read_bytes())
        await asked.ask()
        assert asked.taken == 0
        sample.other_file("config.json").unlink()
        sample.other_file("manifest.json").write_bytes(b"{}")
        await asked.ask()
        assert asked.taken == 2
        here = await found(asked.directory, Depth.HEADER)
    there = await found(sample.directory, Depth.HEADER)
    assert told(here.findings, asked.directory) == told(there.findings, sample.directory)


def test_the_gatherer_is_python_of_3_6() -> None:
    source = Path(mirror.__file__).with_name("gatherer.py").read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
