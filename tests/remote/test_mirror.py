"""What is found of another host's cache here is what is found there."""

from __future__ import annotations

import ast
import asyncio
import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from ocitui.cache import CacheDirectoryError
from ocitui.cli.main import run
from ocitui.doctor import Depth, Finding
from ocitui.remote import HostMirror, SshPlace, mirror, survey
from ocitui.remote.mirror import HostFacts
from ocitui.remote.ssh import FarAnswerError
from ocitui.stand_in import ToldFile, as_there, as_told, fact_of, forget, forget_file, stand_in_file
from tests.cache.support import until
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        'record(files=[name("x", mode=0o010644, size=0)], pieces=[["x", 0, 0]])',
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
    program.write_text(gatherer(sent))
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


@pytest.mark.parametrize(("number", "advised"), [(13, True), (1, True), (2, False), (20, False)])
async def test_root_is_advised_where_he_may_see_more(
    number: int, advised: bool, tmp_path: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "refused.py"
    program.write_text(gatherer(f'record(failed=[{number}, "why"])'))
    monkeypatch.setattr(mirror, "_GATHERER", program)
    async with HostMirror(SshPlace.parse("good/srv")) as asked:
        with pytest.raises(CacheDirectoryError) as raised:
            await asked.ask()
    assert ("--sudo" in (raised.value.hint or "")) is advised


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [
        'n = name("x"); n[1] = "m" * (1 << 20); record(files=[n])',
        'record(gone=["m" * (70 << 20)])',
        "[record() for _ in range(70)]",
    ],
)
async def test_what_a_hostile_host_has_kept_is_bounded(
    sent: str, tmp_path: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "hostile.py"
    program.write_text(gatherer(sent))
    monkeypatch.setattr(mirror, "_GATHERER", program)
    monkeypatch.setattr(mirror, "_MOST_RECORDS", 64, raising=False)
    async with HostMirror(SshPlace.parse("good/srv")) as asked:
        with pytest.raises(FarAnswerError, match=r"no fact of a cache|more than 64 records"):
            await asked.ask()


HOST = """
base = {"node": "n", "user": "u", "uid": 0, "now": 5.0, "directory": "/d", "device": 1, "space": [1] * 10}
base.update(writable=True, locked=False, boot="btime 9\\n", socket=False, listens=None, krata=False, xen=None)
base.update(version="", daemons=[], loops=[])
def host(more=(), pieces=(), raw="", **keys):
    record(files=[name("x"), *more], pieces=pieces, raw=raw, host=dict(base, **keys))
def daemon(boot, started="1"):
    host(boot=boot, daemons=[[7, "7 (kratad) " + " ".join(["S"] + [started] * 30), "", "", "deleted"]])
def loop(size):
    host(loops=[["loop1", "x", {"size": size, "ro": "0", "dev": "7:1", "loop/offset": "0"}, [], []]])
"""


def gatherer(sent: str) -> str:
    return f"{HOSTILE}{HOST}\ndef main(asked):\n    {sent}\n    sys.stdout.flush()\n    print('end 1')\n"


@pytest.mark.parametrize(
    "sent",
    [
        "host(now=1e300)",
        "host(space=[-1] * 10)",
        "host(space=[1 << 70] * 10)",
        'daemon("btime \\n")',
        'daemon("btime " + "9" * 400 + "\\n")',
        'daemon("btime 9\\n", "9" * 40)',
        'daemon("btime x\\n")',
        'loop("9" * 4000)',
        'loop("9" * 30)',
        'host(version="9" * 300)',
        'host(node="n" * 300)',
    ],
)
async def test_a_host_that_tells_what_cannot_be_of_itself(
    sent: str, tmp_path: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "hostile.py"
    monkeypatch.setattr(mirror, "_GATHERER", program)
    async with HostMirror(SshPlace.parse("good/srv")) as asked:
        for one in ('daemon("btime 9\\n")', 'loop("8")'):
            program.write_text(gatherer(one))
            await asked.ask()
        program.write_text(gatherer(sent))
        with pytest.raises(FarAnswerError):
            await asked.ask()


async def test_of_two_hosts_at_once_each_is_told_until_it_ends(sample: Sample, tmp_path: Path, near: None) -> None:
    other = copied(sample, tmp_path / "krata")
    other.other_file("config.json").unlink()
    async with HostMirror(SshPlace.parse(f"good{sample.directory}")) as one:
        await one.ask()
        async with HostMirror(SshPlace.parse(f"good{other.directory}")) as two:
            await two.ask()
            assert fact_of(two.directory, "cache") == str(other.directory)
            assert "file-missing" in {one.code for one in (await found(two.directory, Depth.HEADER)).findings}
        assert fact_of(two.directory, "cache") is None
        assert fact_of(one.directory, "cache") == str(sample.directory)
        name = sample.index.name
        assert as_told(os.lstat(one.directory / name)).st_ino == sample.index.stat().st_ino
        assert as_there(f"{one.directory}/x") == f"{sample.directory}/x"
    assert fact_of(one.directory, "cache") is None


def test_nothing_is_told_of_a_file_that_came_in_the_place_of_another(tmp_path: Path) -> None:
    """A file system gives the number of a file that is gone to the next."""
    there = os.stat_result((0o100644, 5, 6, 1, 0, 0, 7, 0, 0, 0))
    (tmp_path / "a").touch()
    stand_in_file(tmp_path, tmp_path / "a", ToldFile(there))
    assert as_told(os.lstat(tmp_path / "a")) == there
    (tmp_path / "a").rename(tmp_path / "b")
    forget_file(tmp_path, tmp_path / "b")
    found = os.lstat(tmp_path / "b")
    assert as_told(found) == found
    stand_in_file(tmp_path, tmp_path / "b", ToldFile(there))
    forget(tmp_path)
    assert as_told(found) == found


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


async def test_asked_without_end_it_holds_no_more_than_one_answer(
    tmp_path: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent anew takes the place of what was; more pieces of what is there do not."""
    program = tmp_path / "hostile.py"
    monkeypatch.setattr(mirror, "_GATHERER", program)
    monkeypatch.setattr(mirror, "_MOST_BYTES", 250)
    link = 'name("l", mode=0o120777, leads="/")'
    async with HostMirror(SshPlace.parse("good/srv")) as asked:
        for sent in (
            f'host(more=[name("y", size=900), {link}], pieces=[["y", 0, 99], ["l", 0, 99]], raw="a" * 198)',
        ) * 5:
            program.write_text(gatherer(sent))
            await asked.ask()
        assert len([*asked.directory.parents[2].glob("elsewhere/*")]) == 1
        program.write_text(gatherer('host(pieces=[["y", 99, 99]], raw="a" * 99)'))
        with pytest.raises(FarAnswerError):
            await asked.ask()


@pytest.mark.parametrize("command", [["list", "--json"], ["fleet", "--json", "good"]])
def test_a_host_for_which_there_is_no_room_here(
    command: list[str], tmp_path: Path, near: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setenv("OCITUI_CACHE", "ssh://good/srv")
    assert run(command) == 4
    assert '"code": "storage"' in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gatherer", "sender"])
def test_what_runs_there_is_python_of_3_6(name: str) -> None:
    source = Path(mirror.__file__).with_name(f"{name}.py").read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


@pytest.mark.parametrize("step", ["ask", "_stand_in"])
async def test_of_a_survey_that_is_ended_nothing_is_left(
    step: str, sample: Sample, tmp_path: Path, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever step it is in, and in whichever order its hosts end."""
    (tmp_path / "made").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "made"))
    begun, go_on, stand_in = list[object](), threading.Event(), HostMirror._stand_in

    async def hang(asked: HostMirror) -> None:
        begun.append(asked)
        await asyncio.Event().wait()

    def held(asked: HostMirror, facts: HostFacts) -> None:
        begun.append(asked)
        go_on.wait(60)
        stand_in(asked, facts)

    monkeypatch.setattr(HostMirror, step, hang if step == "ask" else held)
    places = [SshPlace.parse(f"host{number}{sample.directory}") for number in range(4)]
    surveyed = asyncio.ensure_future(survey(places))
    await until(lambda: len(begun) == len(places))
    surveyed.cancel()
    asyncio.get_running_loop().call_later(0.1, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await surveyed
    assert not list((tmp_path / "made").iterdir())
