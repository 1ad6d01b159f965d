"""The playbook, by the real ansible: every host is a line of the report, whatever is wrong with it or with another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ocitui.cli.demo_cache import make_demo_cache
from tests.sshd import LoopbackHost, loopback_hosts, ssh_arguments
from tests.tools import ROOT, need

pytestmark = pytest.mark.slow
PLAYBOOK = Path(str(files("ocitui"))) / "deploy" / "playbook.yml"
COUNTS = {"critical": 0, "high": 0, "medium": 0, "warning": 0, "low": 0, "info": 0}
SOUND = {"state": "clean", "counts": COUNTS | {"info": 1}}


def program(folder: Path, ending: str = "") -> Path:
    """An ocitui for the far side; ``ending`` is a line of shell behind its output."""
    path = folder / f"ocitui-{len(ending)}"
    path.write_text(f'#!/bin/sh\nexport PYTHONPATH={ROOT}\n{sys.executable} -m ocitui "$@"\n{ending}\n')
    path.chmod(0o755)
    return path


def inventory(folder: Path, ports: dict[str, int], caches: dict[str, Path], **programs: Path) -> Path:
    """Each host with its port, its cache, and its ocitui where it has one of its own."""
    usual = program(folder)
    lines = [
        f"{name} ansible_port={port} ocitui_cache={caches[name]} ocitui_program={programs.get(name, usual)}"
        for name, port in ports.items()
    ]
    common = {
        "ansible_host": "127.0.0.1",
        "ansible_ssh_common_args": f"'{ssh_arguments(folder)}'",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ocitui_become": "false",
        "ocitui_report": folder / "report.json",
    }
    text = "\n".join([*lines, "[all:vars]", *(f"{name}={value}" for name, value in common.items())])
    (folder / "hosts").write_text(f"{text}\n")
    return folder / "hosts"


def play(folder: Path, hosts: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """The status of a run, its report and what it printed."""
    need("ansible-playbook")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ANSIBLE"))}
    environment |= {
        "HOME": str(folder),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["ansible-playbook", "-i", str(hosts), "-f", "10", *words, str(PLAYBOOK)],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    report = folder / "report.json"
    return (
        done.returncode,
        json.loads(report.read_text())["hosts"] if report.exists() else {},
        done.stdout + done.stderr,
    )


def closed_port(folder: Path) -> int:
    """One at which nobody listens any more."""
    with LoopbackHost(folder / "none") as host:
        return host.port


@pytest.fixture
def caches(tmp_path: Path) -> dict[str, Path]:
    """A demo cache with faults, a sound one that is empty, one whose index is cut, and one that is not there."""
    make_demo_cache(tmp_path / "faulty", packers=False)
    shutil.copytree(tmp_path / "faulty", tmp_path / "cut")
    os.truncate(tmp_path / "cut" / "index.json", 1500)
    (tmp_path / "sound").mkdir()
    return {name: tmp_path / name for name in ("faulty", "sound", "cut", "absent")}


def test_a_broken_host_is_a_line_and_holds_up_no_other(tmp_path: Path, caches: dict[str, Path]) -> None:
    with loopback_hosts(tmp_path, 2) as (one, two):
        ports = {"faulty": one.port, "cut": two.port, "absent": closed_port(tmp_path)}
        status, report, said = play(tmp_path, inventory(tmp_path, ports, caches))
    assert status == 2, said
    assert report["absent"] == {"state": "unreachable"}
    assert report["faulty"]["state"] == report["cut"]["state"] == "problems"
    assert report["cut"]["counts"]["critical"] == 1
    assert report["faulty"]["counts"]["critical"] == 0
    assert report["faulty"]["counts"]["high"] > 0
    assert "not examined: absent" in said


def test_what_a_host_says_is_counted_and_nothing_else(tmp_path: Path, caches: dict[str, Path]) -> None:
    """A program that lies, one that fails, and one that says more than it should."""
    lie = {"counts": {"severity": COUNTS | {"high": "{{ lookup('pipe', 'touch here') }}", "low": 3}}}
    (tmp_path / "lie").write_text(json.dumps(lie))
    lying = program(tmp_path, f"cat {tmp_path}/lie")
    with loopback_hosts(tmp_path, 1) as (host,):
        ports = dict.fromkeys(("sound", "cut", "absent", "faulty"), host.port)
        hosts = inventory(tmp_path, ports, caches, cut=lying, faulty=program(tmp_path, "echo no summary"))
        status, report, said = play(tmp_path, hosts)
    assert status == 2, said
    assert report == {
        "absent": {"state": "not examined"},
        "cut": {"state": "clean", "counts": COUNTS | {"low": 3}},
        "faulty": {"state": "not examined"},
        "sound": SOUND,
    }
    assert not (tmp_path / "here").exists()


@pytest.mark.long
def test_twenty_hosts_three_of_them_broken(tmp_path: Path, caches: dict[str, Path]) -> None:
    names = [f"host{number}" for number in range(20)]
    broken = {"host3": "cut", "host11": "absent"}
    with loopback_hosts(tmp_path, 20) as hosts:
        ports = {name: host.port for name, host in zip(names, hosts, strict=True)}
        ports["host17"] = closed_port(tmp_path)
        of_host = {name: caches[broken.get(name, "sound")] for name in names}
        status, report, said = play(tmp_path, inventory(tmp_path, ports, of_host))
    assert status == 2, said
    states = {name: report[name]["state"] for name in names}
    assert states.pop("host3") == "problems"
    assert states.pop("host11") == "not examined"
    assert states.pop("host17") == "unreachable"
    assert set(states.values()) == {"clean"}
    assert len(states) == 17


@pytest.mark.long
def test_where_all_is_well_it_ends_well(tmp_path: Path, caches: dict[str, Path]) -> None:
    with loopback_hosts(tmp_path, 1) as (host,):
        hosts = inventory(tmp_path, {"sound": host.port}, caches)
        # In check mode ansible says what would be installed, and the check itself runs.
        status, report, said = play(tmp_path, hosts, "--check", "-e", f"ocitui_deb={hosts}")
    assert (status, report) == (0, {"sound": SOUND}), said
    assert re.search(r"TASK \[Copy the package\] \**\nchanged: \[sound\]", said)
