"""Imports as processes that are interrupted: what is left of them, and what is gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocitui.cli.main import run
from ocitui.text import human_size
from tests.cli.conftest import Ocitui
from tests.cli.import_support import LARGE, downloaded, make_layout, put_image, running, snapshot, staged, stall
from tests.importing.image_makers import Made, make_image
from tests.importing.pulling import write_auths
from tests.importing.registry_server import FaultyRegistry, Reply
from tests.importing.test_flatten_worker import has_ended
from tests.tools import wait_for

pytestmark = pytest.mark.slow

TIMEOUT = 60
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]
CAME = 3 << 19


@dataclass(frozen=True, slots=True)
class Started:
    """An import under way; ``mark`` is in the environment of all it starts."""

    process: subprocess.Popen[str]
    mark: str

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send it the signal; gives its status and what it said, once nothing of it is left."""
        processes = []
        for pid in marked(self.mark):
            with suppress(ProcessLookupError):  # an earlier signal may have ended it
                processes.append(os.pidfd_open(pid))
        self.process.send_signal(number)
        said = self.process.communicate(timeout=TIMEOUT)[1]
        assert all(has_ended(process) for process in processes)
        assert marked(self.mark) == []
        return self.process.returncode, said


def marked(mark: str) -> list[int]:
    """The processes that run with this in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                is_mine = mark.encode() in (process / "environ").read_bytes()
            except OSError:
                continue
            if is_mine:
                found.append(int(process.name))
    return found


def start(tmp_path: Path, *words: str | Path, path: Path | None = None) -> Started:
    mark = f"OCITUI_TEST_MARK={tmp_path}"
    environment = {**os.environ, "OCITUI_TEST_MARK": str(tmp_path)}
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    process = subprocess.Popen(
        # The tests themselves may run under nohup.
        ["env", "--default-signal=HUP", sys.executable, "-m", "ocitui", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    return Started(process, mark)


@pytest.fixture(scope="module")
def made_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    layout = make_layout(tmp_path_factory.mktemp("first") / "layout", ("first:1", make_image(b"first")))
    assert run(["import", str(layout), "--format", "tar", "-C", str(directory)]) == 0
    return directory


@pytest.fixture
def cache(tmp_path: Path, made_cache: Path) -> Path:
    """A cache with one image in it."""
    return Path(shutil.copytree(made_cache, tmp_path / "cache"))


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with running(FaultyRegistry()) as serving:
        yield serving


@pytest.fixture
def image(registry: FaultyRegistry) -> Made:
    """One whose second layer stops coming in the middle."""
    image = put_image(registry, b"small", LARGE)
    stall(registry, image, layer=1, after=CAME)
    return image


CHALLENGE = Reply(401, {"WWW-Authenticate": 'Bearer realm="/token",service="s"'})


@pytest.mark.parametrize("command", ["inspect", "import"])
@pytest.mark.parametrize("silent", ["/manifests/", "/token", "/blobs/", "a helper"])
def test_ctrl_c_while_a_registry_is_asked_is_one_line(
    command: str, silent: str, registry: FaultyRegistry, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(registry, b"small")
    asked = tmp_path / "asked"
    if silent == "a helper":
        helper = tmp_path / "bin" / "docker-credential-slow"
        helper.parent.mkdir()
        helper.write_text(f"#!/bin/sh\n: > {asked}\nexec tail -f /dev/null\n")
        helper.chmod(0o755)
        authfile = tmp_path / "auth.json"
        authfile.write_text('{"credsStore": "slow"}')
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(authfile))
        registry.always("/v2/", CHALLENGE)
    else:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write_auths(tmp_path / "auth.json", registry.host)))
        registry.always(silent, Reply(body=b"{}", cut=1, stall=True))
        if silent == "/token":
            registry.always("/v2/", CHALLENGE)
    started = start(tmp_path, command, f"{registry.host}/team/app:1.0", "-C", cache, path=tmp_path / "bin")
    wait_for(lambda: asked.exists() or registry.asked(silent), f"it waits for {silent}")
    status, said = started.end(signal.SIGINT)
    assert status == 130
    (line,) = said.splitlines()[-1:]
    assert line.startswith("ocitui: cancelled (" if command == "import" else "ocitui: interrupted by SIGINT (")
    assert "Traceback" not in said
    assert said.count("ocitui: ") == 1
    assert staged(cache) == []


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_in_the_middle_of_a_download(
    number: signal.Signals, registry: FaultyRegistry, image: Made, tmp_path: Path, cache: Path, ocitui: Ocitui
) -> None:
    before = snapshot(cache)
    words = [f"{registry.host}/team/app:1.0", "--format", "tar", "-C", str(cache)]
    started = start(tmp_path, "import", *words)
    wait_for(lambda: downloaded(cache) > 1 << 20, "a megabyte came")
    status, said = started.end(number)
    kept = downloaded(cache)
    assert snapshot(cache) == before
    if number is not signal.SIGKILL:
        assert status == 128 + number
        assert 1 << 20 < kept <= len(image.layers[0]) + CAME
        assert said.count("\n") == 2
    listed = ocitui("imports", "-C", cache, "--json").json
    assert listed["downloaded"] == kept
    registry.rules.clear()
    registry.requests.clear()
    if number is signal.SIGINT:
        assert f"ocitui: cancelled ({human_size(kept)} that were downloaded are kept, see ocitui imports)\n" in said
        assert listed["imports"] == []
        assert ocitui("import", *words).status == 0
    else:
        assert [one["source"] for one in listed["imports"]] == [f"docker://{words[0]}"]
        done = ocitui("imports", "--go-on", "-C", cache, "--json")
        assert (done.status, done.json["imports"][0]["outcome"]) == (0, "stored")
    ranges = [request.headers["range"] for request in registry.requests if "range" in request.headers]
    assert len(ranges) == 1
    assert staged(cache) == []
    assert downloaded(cache) == 0
    assert ocitui("imports", "-C", cache, "--json").json["imports"] == []


@pytest.fixture
def slow_packer(tmp_path: Path) -> tuple[Path, Path]:
    """A mksquashfs that begins and does not go on: the directory it is in, and the file that says that it began."""
    said, tools = tmp_path / "began", tmp_path / "tools"
    tools.mkdir()
    program = tools / "mksquashfs"
    program.write_text(
        '#!/bin/sh\ncase "$1" in -help|-version) printf "\\n-tar\\t\\n"; exit;; esac\n'
        f'echo > "$2"; echo > {said}; exec tail -f /dev/null\n'
    )
    program.chmod(0o755)
    return tools, said


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_in_the_middle_of_packing(
    number: signal.Signals, slow_packer: tuple[Path, Path], tmp_path: Path, cache: Path, ocitui: Ocitui
) -> None:
    before = snapshot(cache)
    tools, began = slow_packer
    layout = make_layout(tmp_path / "layout", ("second:1", make_image(LARGE)))
    started = start(tmp_path, "import", layout, "--packer", "mksquashfs", "-C", cache, path=tools)
    wait_for(began.exists, "the packer began")
    # One that is being replaced by another program shows no environment for a moment.
    wait_for(lambda: len(marked(started.mark)) >= 3, "all that it started runs")
    assert len(staged(cache)) == 1
    status, said = started.end(number)
    assert snapshot(cache) == before
    left = ocitui("imports", "-C", cache, "--json").json
    if number is signal.SIGKILL:
        assert status == -number
    else:
        assert status == 128 + number
        assert staged(cache) == []
    if number is signal.SIGINT:
        assert said.endswith("ocitui: cancelled (the cache is as it was)\n")
        assert left["imports"] == []
    else:
        assert [one["source"] for one in left["imports"]] == [f"oci:{layout}"]
    other = make_layout(tmp_path / "other", ("third:1", make_image(b"third")))
    done = ocitui("import", other, "--format", "tar", "-C", cache)
    assert done.status == 0
    assert ("1 import was interrupted earlier; ocitui imports" in done.err) == (number is not signal.SIGINT)
    assert staged(cache) == []


def test_a_second_signal_changes_nothing(
    registry: FaultyRegistry, image: Made, tmp_path: Path, cache: Path, ocitui: Ocitui
) -> None:
    started = start(tmp_path, "import", f"{registry.host}/team/app:1.0", "-C", cache, "--format", "tar")
    wait_for(lambda: downloaded(cache) > 1 << 20, "a megabyte came")
    started.process.send_signal(signal.SIGTERM)
    status, said = started.end(signal.SIGTERM)
    assert status in (128 + signal.SIGTERM, -signal.SIGTERM)  # it may come when all is done but the words
    assert len(ocitui("imports", "-C", cache, "--json").json["imports"]) == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("moment", range(12))
def test_an_interrupt_at_any_moment_is_one_line(moment: int, tmp_path: Path, cache: Path) -> None:
    """From the first module that is loaded to the last: each is another moment on a machine that is busy."""
    before = snapshot(cache)
    layout = make_layout(tmp_path / "layout", ("second:1", make_image(LARGE)))
    # It interrupts itself as it loads, or comes to, what an import needs.
    modules = [
        *("ocitui.cli.main", "click", "ocitui.cli.commands.import_", "ocitui.cache", "ocitui.importing", "msgspec"),
        *("ocitui.cli.import_run", "ocitui.doctor", "ocitui.cli.progress", "asyncio", "ocitui.words", "ocitui.host"),
    ]
    program = f"""
import os, signal, sys
from ocitui.__main__ import main
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {modules[moment]!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
sys.argv[1:] = ["import", {str(layout)!r}, "-C", {str(cache)!r}, "--format", "tar"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    # Python itself ends by the signal where it came amid code that was made at run time; a shell sees 130 then, too.
    assert done.returncode in (130, -signal.SIGINT)
    assert done.stderr.startswith("ocitui: interrupted")
    assert done.stderr.count("\n") == 1
    assert (snapshot(cache), staged(cache)) == (before, [])
