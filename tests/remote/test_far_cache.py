"""`ocitui -C ssh://HOST`: what is asked of another host's cache, and that nothing of it is changed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ocitui.cli.main import run
from ocitui.tui import ScreenOptions
from tests.doctor.examine_support import NAME, Sample, copied, make_sample
from tests.remote.support import Hosts
from tests.tools import need

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("made"))


@pytest.fixture
def sample(made: Sample, tmp_path: Path) -> Sample:
    (tmp_path / "krata").mkdir()
    return copied(made, tmp_path / "krata")


@pytest.mark.parametrize("words", [("list",), ("why", NAME), ("show", NAME), ("zones",)])
def test_it_tells_what_it_would_there(
    words: tuple[str, ...], sample: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    there = run([*words, "--json", "-C", str(sample.directory)])
    told = json.loads(capsys.readouterr().out)
    here = run([*words, "--json", "-C", f"ssh://good{sample.directory}"])
    assert (here, without_program(json.loads(capsys.readouterr().out))) == (there, without_program(told))


def without_program(told: dict[str, Any]) -> dict[str, Any]:
    """For what an image runs its packed file is read, which stays there."""
    for one in told.get("formats", []):
        one["program"] = None
        one["links"] = [link for link in one["links"] if link["title"] != "program"]
    return told


def test_a_check_over_there(sample: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    sample.other_file("config.json").unlink()
    before = sorted(sample.directory.rglob("*"))
    assert run(["check", "-C", f"ssh://good{sample.directory}"]) == 1
    said = capsys.readouterr().out
    assert "file-missing" in said or "is not there" in said
    assert "ocitui-mirror" not in said
    assert sorted(sample.directory.rglob("*")) == before


def test_a_signal_leaves_nothing_of_a_mirror(
    sample: Sample, near: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def ended(*_: object) -> None:
        assert [*(tmp_path / "tmp").iterdir()] != []
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("ocitui.cli.output.Call.answer", ended)
    assert run(["zones", "-C", f"ssh://good{sample.directory}"]) == 128 + signal.SIGTERM
    assert [*(tmp_path / "tmp").iterdir()] == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("delete", NAME, "--yes"), 2, "only on the host"),
        (("repair",), 2, "only on the host"),
        (("files", NAME), 2, "only on the host"),
        (("trash", "restore", "1"), 2, "ocitui trash restore -C /"),
        (("check", "--depth", "deep"), 4, "no packed files"),
        (("check", "--acknowledge", "abc"), 4, "over ssh"),
    ],
)
def test_what_is_done_only_there_is_refused(
    words: tuple[str, ...],
    status: int,
    said: str,
    sample: Sample,
    hosts: Hosts,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*words, "-C", f"ssh://good{sample.directory}"]) == status
    told = capsys.readouterr().err
    assert said in told
    assert "host" in told


@pytest.mark.parametrize(
    ("place", "code"),
    [("ssh://locked/", "login-refused"), ("ssh://nopython/", "no-python"), ("ssh://good/nowhere", "cache-directory")],
)
def test_a_host_that_tells_nothing(place: str, code: str, hosts: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--json", "-C", place]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_the_environment_may_name_a_host(
    sample: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCITUI_CACHE", f"ssh://good{sample.directory}")
    assert run(["list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["cache"], len(told["entries"])) == (str(sample.directory), 4)
    assert run(["delete", NAME]) == 2
    assert "only on the host" in capsys.readouterr().err
    assert run(["fleet", "--json", "nopython"]) == 4


@pytest.mark.parametrize(
    ("place", "directory"), [("ssh://locked", "/var/lib/krata/cache/image"), ("ssh://good/nowhere", "/nowhere")]
)
def test_a_check_of_a_host_that_tells_nothing_is_measured_as_one_that_failed(
    place: str, directory: str, hosts: Hosts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = tmp_path / "ocitui.prom"
    assert run(["check", "-C", place, "--prometheus", str(metrics), "--json"]) == 4
    assert f'ocitui_cache_check_success{{cache="{directory}"}} 0' in metrics.read_text()
    assert json.loads(capsys.readouterr().out)["cache"] == directory


def test_as_root_there(sample: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--sudo", "--json", "-C", f"ssh://sudo{sample.directory}"]) == 0
    assert len(json.loads(capsys.readouterr().out)["entries"]) == 4
    assert run(["list", "--sudo", "-C", f"ssh://nosudo{sample.directory}"]) == 4
    assert "sudo on nosudo refuses" in capsys.readouterr().err
    assert run(["list", "--sudo", "-C", str(sample.directory)]) == 2
    assert "--sudo is for a cache that is reached over ssh" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--sudo", "-C", "ssh://{}"], ["ssh://{}", "--sudo"]])
def test_the_screen_as_root_there(
    words: list[str], sample: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo` is a word of the tests' own there, which the other server refuses."""
    opened = list[Path]()

    def open_screen(options: ScreenOptions) -> int:
        assert options.mirror is not None
        opened.append(Path(options.mirror.there))
        return 0

    monkeypatch.setattr("ocitui.cli.main.why_no_screen", lambda: None)
    monkeypatch.setattr("ocitui.tui.app.run_screen", open_screen)
    for way, status in (("sudo", 0), ("nosudo", 4)):
        assert run([word.format(f"{way}{sample.directory}") for word in words]) == status
    assert opened == [sample.directory]
    assert run(["--sudo", str(sample.directory)]) == 2


def test_a_fleet(
    sample: Sample, made: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sample.other_file("config.json").unlink()
    listed = tmp_path / "hosts"
    listed.write_text("locked  # asks\nnopython\n\ngood/nowhere\n")
    named = [f"good{made.directory}", f"noisy{sample.directory}"]
    assert run(["fleet", "--json", "--inventory", str(listed), *named]) == 4
    rows = json.loads(capsys.readouterr().out)["hosts"]
    told = {(row["host"], (row["error"] or {}).get("code"), row["standing"]) for row in rows}
    assert told == {
        ("locked", "login-refused", "unreached"),
        ("nopython", "no-python", "unreached"),
        ("good", "cache-directory", "problems"),
        ("good", None, "clean"),
        ("noisy", None, "problems"),
    }
    assert [row["standing"] for row in rows] == ["problems", "problems", "unreached", "unreached", "clean"]
    assert run(["fleet", *named]) == 1
    said = capsys.readouterr().out
    assert said.index("noisy") < said.index("good")
    assert "1 host with problems, 1 host without a problem" in said


def test_an_inventory_of_ansible(
    made: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    need("ansible-inventory")
    listed = tmp_path / "hosts.ini"
    listed.write_text(
        f"[caches]\nweb1 ansible_host=locked\nweb2 ansible_host=nopython ansible_port={hosts.ports['nopython']}\n"
    )
    assert run(["fleet", "--json", "--inventory", str(listed)]) == 4
    told = {(row["host"], row["error"]["code"]) for row in json.loads(capsys.readouterr().out)["hosts"]}
    assert told == {("locked", "login-refused"), (f"nopython:{hosts.ports['nopython']}", "no-python")}
