"""The units: systemd finds nothing wrong with them, what they run can run in them, and nothing is replaced unasked."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Ocitui
from tests.tools import need

NAMES = [f"ocitui-{work}.{part}" for work in ("scrub", "prune") for part in ("service", "timer")]
_PR_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "prune.toml"
    path.write_text('unused = "30d"\n')
    return path


@pytest.fixture
def installed(tmp_path: Path, demo: Path, policy: Path, ocitui: Ocitui) -> Path:
    """A folder with all units of the demo's cache."""
    into = tmp_path / "units"
    into.mkdir()
    words = ("--policy", policy, "--prometheus", tmp_path / "ocitui.prom", "--into", into)
    assert ocitui("units", "-C", demo, "--install", "--yes", *words).status == 0
    assert sorted(os.listdir(into)) == sorted(NAMES)
    return into


def test_systemd_has_nothing_to_say(installed: Path) -> None:
    need("systemd-analyze")
    paths = [str(installed / name) for name in NAMES]
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("work", ["scrub", "prune"])
def test_they_expose_little(work: str, installed: Path) -> None:
    """Without any of it the figure is 9.6."""
    need("systemd-analyze")
    path = str(installed / f"ocitui-{work}.service")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=35", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def setting(unit: Path, name: str) -> list[str]:
    """The words of a setting."""
    (found,) = re.finditer(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    return found[1].split()


def allowed(groups: list[str]) -> set[str]:
    """The system calls of these groups, and of the groups in them."""
    calls = set[str]()
    for group in groups:
        done = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
        words = [line.strip() for line in done.stdout.splitlines()[1:]]
        calls |= {word for word in words if re.fullmatch(r"\w+", word)}
        calls |= allowed([word for word in words if word.startswith("@")])
    return calls


def refuse_executable_memory() -> None:
    """As MemoryDenyWriteExecute does."""
    ctypes.CDLL(None).prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("work", "status"), [("scrub", 1), ("prune", 0)])
def test_what_they_run_keeps_to_its_system_calls(work: str, status: int, installed: Path, tmp_path: Path) -> None:
    need("systemd-analyze", "strace")
    unit, trace = installed / f"ocitui-{work}.service", tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), *setting(unit, "ExecStart")]
    done = subprocess.run(
        command, cwd="/", capture_output=True, text=True, check=False, preexec_fn=refuse_executable_memory
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert status in {0, *map(int, setting(unit, "SuccessExitStatus") if work == "scrub" else ())}
    used = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", trace.read_text(), re.MULTILINE))
    assert len(used) > 30
    assert ("ioprio_set" in used) is (work == "scrub")
    assert used - allowed(setting(unit, "SystemCallFilter")) == set()


def test_a_scrub_writes_only_where_it_may(installed: Path, tmp_path: Path, demo: Path) -> None:
    writable = setting(installed / "ocitui-scrub.service", "ReadWritePaths")
    assert writable == [f"-{demo}", f"-{tmp_path}", "-/tmp"]


def test_they_are_printed_and_nothing_is_written(demo: Path, ocitui: Ocitui, tmp_path: Path) -> None:
    done = ocitui("units", "-C", demo, "--into", tmp_path / "units")
    assert done.status == 0
    assert f"# {tmp_path}/units/ocitui-scrub.service" in done.out
    assert f" check -C {demo} --depth deep --older-than 30d --max-rate 50M/s\n" in done.out
    assert "ocitui-prune" not in done.out, "there is no policy"
    assert not (tmp_path / "units").exists()


def test_a_changed_unit_is_replaced_only_when_that_is_agreed_to(
    installed: Path, policy: Path, demo: Path, ocitui: Ocitui
) -> None:
    changed = installed / "ocitui-scrub.timer"
    own = changed.read_text().replace("OnCalendar=daily", "OnCalendar=weekly")
    changed.write_text(own)
    words = ("units", "-C", demo, "--policy", policy, "--into", installed, "--install")
    refused = ocitui(*words, "--json")
    assert refused.status == 2
    states = {one["name"]: one["state"] for one in refused.json["units"]}
    assert states["ocitui-scrub.timer"] == "changed"
    assert changed.read_text() == own
    done = ocitui(*words, "--yes")
    assert {"-OnCalendar=weekly", "+OnCalendar=daily"} <= set(done.out.splitlines())
    assert "OnCalendar=daily" in changed.read_text()
    assert "systemctl enable --now ocitui-scrub.timer ocitui-prune.timer" in done.out
    again = ocitui(*words)
    assert (again.status, again.out.splitlines()[0]) == (0, "all of them are there as they are")


@pytest.mark.parametrize("name", ["a b", "a%b", 'a"b', "a$b", "a\\b", "a\nb", "ä"])
def test_a_path_that_systemd_would_read_otherwise_is_refused(name: str, tmp_path: Path, ocitui: Ocitui) -> None:
    done = ocitui("units", "-C", tmp_path / name)
    assert (done.status, done.out) == (2, "")
    assert "a unit cannot hold the path" in done.err


def test_what_is_no_policy_is_refused(tmp_path: Path, ocitui: Ocitui) -> None:
    (tmp_path / "bad.toml").write_text("unused = yes")
    assert ocitui("units", "--policy", tmp_path / "bad.toml", "-C", tmp_path).status == 4


def test_a_unit_runs_the_program_as_which_it_was_started(
    demo: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"ExecStart={sys.executable} -m ocitui check" in ocitui("units", "-C", demo).out
    program = tmp_path / "bin" / "ocitui"
    program.parent.mkdir()
    program.touch()
    if os.getuid() == 0:
        os.chown(program.parent, 1234, -1)
    monkeypatch.setattr(sys, "argv", [str(program)])
    words = ("units", "-C", demo, "--install", "--yes", "--into", tmp_path)
    said = ocitui(*words).out
    assert f"ExecStart={program} check" in (tmp_path / "ocitui-scrub.service").read_text()
    assert f"note: root would run {program}, which belongs to another user" in said


def test_where_they_cannot_be_written(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    done = ocitui("units", "-C", demo, "--install", "--yes", "--into", tmp_path / "nowhere")
    assert (done.status, done.err.count("\n")) == (4, 1)
    assert ocitui("units", "-C", demo, "--install", "--yes", "--into", demo).status == 4


def test_an_empty_file_is_replaced_too(tmp_path: Path, demo: Path, ocitui: Ocitui) -> None:
    """To systemd it is a unit that is masked."""
    (tmp_path / "ocitui-scrub.timer").touch()
    done = ocitui("units", "-C", demo, "--install", "--yes", "--into", tmp_path)
    assert (done.status, "changed  " in done.out) == (0, True)
    assert (tmp_path / "ocitui-scrub.timer").stat().st_size > 0


def test_no_unit_is_of_a_report(tmp_path: Path, demo: Path, ocitui: Ocitui) -> None:
    """What stands for its cache is gone when the command has ended."""
    assert ocitui("report", tmp_path / "incident", "-C", demo).status == 0
    done = ocitui("units", "-C", tmp_path / "incident", "--install", "--yes", "--into", tmp_path)
    assert (done.status, [*tmp_path.glob("ocitui-*")]) == (4, [])
    assert "give the command on that host" in done.err
