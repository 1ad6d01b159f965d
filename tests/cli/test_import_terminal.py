"""Imports on a terminal: the line that is drawn, the question, ctrl+c, a terminal that is not read or hangs up."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocitui.cli.output import cell_width
from ocitui.text import human_size
from tests.cli.conftest import Ocitui
from tests.cli.import_support import LARGE, downloaded, make_layout, put_image, running, snapshot, stall
from tests.cli.test_processes import PROGRAM, TIMEOUT, ended, spawn
from tests.importing.image_makers import make_image
from tests.importing.registry_server import FaultyRegistry
from tests.tools import wait_for

pytestmark = pytest.mark.slow

CAME = 3 << 19


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with running(FaultyRegistry()) as serving:
        yield serving


@pytest.mark.parametrize("columns", [40, 80])
def test_the_line_fits_and_is_cleared(columns: int, registry: FaultyRegistry, cache: Path) -> None:
    stall(registry, put_image(registry, b"small", LARGE), layer=1, after=CAME)
    child = spawn(
        "import", f"{registry.host}/team/app:1.0", "-C", cache, "--format", "tar", "--name", "a:1", columns=columns
    )
    child.expect("download  ")
    wait_for(lambda: downloaded(cache) > 1 << 20, "a megabyte came")
    child.sendintr()
    text, status = ended(child)
    assert status == 130
    drawn, _, said = text.rpartition("\r\x1b[K")
    lines = [line.removesuffix("\x1b[K") for line in f"download  {drawn}".replace("^C", "").split("\r")]
    assert max(map(cell_width, lines)) < columns
    kept = downloaded(cache)
    assert 1 << 20 < kept <= CAME + len(b"small") * 100
    assert said == f"ocitui: cancelled ({human_size(kept)} that were downloaded are kept, see ocitui imports)\r\n"


@pytest.mark.parametrize(("typed", "status", "name"), [("yes", 0, "b:1"), ("y", 130, "a:1")])
def test_who_is_there_chooses_the_name(
    typed: str, status: int, name: str, tmp_path: Path, cache: Path, ocitui: Ocitui
) -> None:
    layout = make_layout(tmp_path / "layout", ("v1", make_image()))
    words = ["import", f"oci:{layout}", "--format", "tar", "-C", str(cache), "--name"]
    assert ocitui(*words, "a:1").status == 0
    child = spawn(*words, "b:1")
    child.expect("would be named b:1 instead; nothing is packed again")
    child.expect("Type yes to confirm")
    child.sendline(typed)
    assert ended(child)[1] == status
    assert ocitui("list", "-C", cache, "--json").json["entries"][0]["name"] == name


def on_terminal(terminal: int, *words: str | Path) -> subprocess.Popen[bytes]:
    """A command with this as its own terminal, which tells it when it hangs up."""
    command = ["env", "--default-signal=HUP", "setsid", "--ctty", "--wait", *PROGRAM, *map(str, words)]
    return subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)


def test_a_terminal_that_is_not_read_holds_no_import_up(tmp_path: Path, cache: Path) -> None:
    layout = make_layout(tmp_path / "layout", ("a/b:1", make_image(LARGE)))
    master, terminal = os.openpty()
    termios.tcflow(terminal, termios.TCOOFF)
    process = on_terminal(terminal, "import", layout, "--format", "tar", "-C", cache)
    wait_for((cache / "index.json").exists, "the image is in")
    assert process.poll() is None
    termios.tcflow(terminal, termios.TCOON)
    assert process.wait(TIMEOUT) == 0
    assert b"imported a/b:1 as tar" in os.read(master, 1 << 16)
    os.close(terminal)
    os.close(master)


def test_a_terminal_that_hangs_up_leaves_the_import_to_go_on_with(
    registry: FaultyRegistry, cache: Path, ocitui: Ocitui
) -> None:
    stall(registry, put_image(registry, LARGE), layer=0, after=CAME)
    master, terminal = os.openpty()
    words = [f"{registry.host}/team/app:1.0", "--format", "tar", "-C", str(cache)]
    process = on_terminal(terminal, "import", *words)
    os.close(terminal)
    wait_for(lambda: downloaded(cache) > 1 << 20, "a megabyte came")
    os.close(master)
    assert process.wait(TIMEOUT) == 128 + signal.SIGHUP
    assert 1 << 20 < downloaded(cache) <= CAME
    assert snapshot(cache) == {}
    assert len(ocitui("imports", "-C", cache, "--json").json["imports"]) == 1
