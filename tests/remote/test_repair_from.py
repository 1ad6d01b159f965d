"""`repair --from ssh://HOST`: over real ssh, on the command line and on the screen."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import record_stored
from ocitui.cli.main import run
from tests.cache.support import index_bytes, until
from tests.doctor.examine_support import NAME, OTHER_NAME, Sample, copied, make_sample
from tests.doctor.repair_support import standing
from tests.remote.support import Hosts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("made"))


@pytest.fixture
def sample(made: Sample, tmp_path: Path) -> Sample:
    return copied(made, tmp_path / "here")


@pytest.fixture
def there(made: Sample, tmp_path: Path) -> Sample:
    """The same cache on another host, with its hashes on record."""
    one = copied(made, tmp_path / "there")
    for path in one.directory.glob("*.squashfs"):
        record_stored(one.directory, path)
    return one


def repair(capsys: pytest.CaptureFixture[str], sample: Sample, *words: str) -> tuple[int, dict[str, Any]]:
    status = run(["repair", "--json", *words, "-C", str(sample.directory)])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, told


def test_documents_and_a_packed_file(
    sample: Sample, there: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    before, source = standing(there.directory), f"ssh://noisy{there.directory}"
    whole = {name: one.content for name, one in standing(sample.directory).items()}
    for suffix in ("config.json", "squashfs"):
        sample.other_file(suffix).unlink()
    status, told = repair(capsys, sample, "--from", source)
    assert status == 1
    assert [step["source"].partition(" ")[0] for step in told["plan"]["steps"]] == [source] * 2
    assert not sample.other_file("squashfs").exists()
    status, told = repair(capsys, sample, "--from", source, "--apply", "--yes")
    assert (status, told["clean"]) == (0, True)
    assert {name: one.content for name, one in standing(sample.directory).items()} == whole
    assert standing(there.directory) == before


def test_a_file_that_was_written_to_since_the_host_was_asked_is_not_stored(
    sample: Sample, there: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = there.other_file("squashfs")
    sample.other_file("squashfs").unlink()

    def write(*_: object) -> None:
        data = path.read_bytes()
        path.write_bytes(data[:5000] + b"\0" * 64 + data[5064:])

    monkeypatch.setattr("ocitui.cli.output.Call.agree", write)
    before = standing(sample.directory)
    status, told = repair(capsys, sample, "--from", f"ssh://good{there.directory}", "--apply", "--yes")
    assert status == 4
    assert "is not stored" in told["error"]["message"]
    assert standing(sample.directory) == before


def test_names_of_a_wiped_index_side_by_side(
    sample: Sample, there: Sample, hosts: Hosts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a host that is reached, of one that is not, and of a cache beside it that calls an image otherwise."""
    hosts.alias("gone", 1)
    beside = Path(shutil.copytree(there.directory, tmp_path / "beside"))
    (beside / "index.json").write_bytes((beside / "index.json").read_bytes().replace(b"team/tool:2", b"team/tool:3"))
    sample.index.write_bytes(index_bytes([]))
    sources = [f"ssh://good{there.directory}", "ssh://gone", f"cache:{beside}"]
    words = [word for source in sources for word in ("--from", source)]
    assert run(["repair", *words, "-C", str(sample.directory)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        f"{NAME} is",
        f"{OTHER_NAME} is",
        "team/tool:3 is",
        "others call it otherwise",
        "ssh://gone was not asked: gone cannot be reached",
        "how many say so decides nothing",
    ):
        assert part in said
    status, told = repair(capsys, sample, *words, "--apply", "--yes", "--name", f"{sample.other[7:19]}={OTHER_NAME}")
    assert (status, told["clean"]) == (0, True)
    claims = {(one["name"], tuple(one["by"]), bool(one["why_not"])) for one in told["plan"]["claims"]}
    assert claims == {(NAME, (sources[0], sources[2]), False)}
    names = {
        one["annotations"]["io.containerd.image.name"] for one in json.loads(sample.index.read_bytes())["manifests"]
    }
    assert names == {NAME, OTHER_NAME}


def test_one_that_is_killed_while_it_fetches_leaves_all_as_it_was(
    sample: Sample, there: Sample, hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.proxied("frozen", "freeze", 100_000)
    path = sample.other_file("squashfs")
    path.unlink()
    before, command = standing(sample.directory), [sys.executable, "-m", "ocitui", "repair", "--apply", "--yes"]
    command += ["--from", f"ssh://frozen{there.directory}", "-C", str(sample.directory)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(until(lambda: any(sample.directory.glob(".ocitui/import/*/*.squashfs")), "the file that comes"))
    finally:
        running.kill()
    assert running.wait() == -signal.SIGKILL
    assert standing(sample.directory) == before
    status, told = repair(capsys, sample, "--from", f"ssh://good{there.directory}", "--apply", "--yes")
    assert (status, told["clean"]) == (0, True)
    assert path.read_bytes() == there.other_file("squashfs").read_bytes()
    assert not [*sample.directory.glob(".ocitui/import/*/*")]


@pytest.mark.parametrize("text", ["ssh://-oProxyCommand=x", "ssh://", "ssh://a b", "ssh://host:99999"])
def test_what_names_no_host_is_refused(sample: Sample, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = repair(capsys, sample, "--from", text)
    assert (status, told["error"]["code"]) == (2, "invalid-place")


def test_what_was_not_compared_with_its_layers_is_said(
    sample: Sample, there: Sample, near: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of layers no other host's cache is asked: it has none."""

    async def none(_: object) -> list[str]:
        return []

    monkeypatch.setattr("ocitui.doctor.layers.registry_origins", none)
    source = f"ssh://good{there.directory}"
    assert run(["repair", "--depth", "layers", "--from", source, "-C", str(sample.directory)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not compared with its layers: they are nowhere at hand" in said
    assert "ssh:" not in said
