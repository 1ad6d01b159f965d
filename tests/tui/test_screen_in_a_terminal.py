"""The program in a real terminal: it starts, it leaves the terminal as it was, and a change under way ends whole."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocitui.cache import PackerCache, TransactionKind, TransactionState
from ocitui.last_resort import FAULT_STATUS
from tests.remote.support import near_ssh
from tests.tools import ROOT, need
from tests.tui.cache_support import BUSYBOX, SEVEN, TEA, make_cache, packed_path
from tests.tui.terminal_support import LIMIT_SECONDS, ProgramInPty, screen_on, slow_screen_on

pytestmark = pytest.mark.slow

SIGNALS = [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]


def _begin_deleting(program: ProgramInPty) -> None:
    program.wait_for("7 entries")
    program.press("d")
    program.wait_for("nothing is changed before y")
    program.press("y")


def _entries(cache: Path) -> int:
    return len(json.loads((cache / "index.json").read_bytes())["manifests"])


async def _assert_whole(cache: Path) -> None:
    """Either nothing of the deletion was done, or all of it; and all seven entries come back by undo."""
    states = [one.state for one in await PackerCache(cache).transactions()]
    assert set(states) <= {TransactionState.DONE}
    assert _entries(cache) == 7 - len(states)
    assert packed_path(cache, BUSYBOX).exists() is not bool(states)
    if states:
        await PackerCache(cache).undo()
    assert _entries(cache) == 7
    assert packed_path(cache, BUSYBOX).exists()


def test_it_starts_shows_and_quits(tmp_path: Path) -> None:
    with screen_on(make_cache(tmp_path / "image")) as program:
        program.wait_for("7 entries")
        assert not program.echoes()
        program.press("q")
        program.until(program.ended, "the end")
        assert program.status == 0
        program.until(lambda: b"\x1b[?1049l" in program.output, "the usual screen again")
        assert program.echoes()


def _is_pending(process: int, number: int) -> bool:
    """Whether it was sent and is not taken yet: one more of the same would be none."""
    status = Path(f"/proc/{process}/status").read_text()
    sets = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(pending >> (number - 1) & 1 for pending in sets)


def _is_stopped(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_ctrl_z_gives_the_shell_back_and_fg_goes_on(tmp_path: Path) -> None:
    with screen_on(make_cache(tmp_path / "image")) as program:
        program.wait_for("7 entries")
        for _ in range(2):
            program.press("\x1a")
            program.until(lambda: _is_stopped(program.process), "it stops")
            program.wait_for("\x1b[?1049l")
            assert program.echoes()
            os.kill(program.process, signal.SIGCONT)
            program.wait_for("7 entries")
            assert not program.echoes()
        program.press("q")
        program.until(program.ended, "the end")
        assert program.status == 0


_WITHOUT_STANDARD_ERROR = (
    "import os, runpy; os.dup2(os.open(os.devnull, os.O_WRONLY), 2); runpy.run_module('ocitui', run_name='__main__')"
)


def test_it_is_seen_wherever_standard_error_leads(tmp_path: Path) -> None:
    with ProgramInPty("-c", _WITHOUT_STANDARD_ERROR, str(make_cache(tmp_path / "image"))) as program:
        program.wait_for("7 entries")
        program.press("q")
        program.wait_for("\x1b[?1049l")
        program.until(program.ended, "the end")
        assert program.status == 0


async def test_ctrl_z_lets_a_transaction_end(tmp_path: Path) -> None:
    cache, marker = make_cache(tmp_path / "image"), tmp_path / "under way"
    with slow_screen_on(cache, marker) as program:
        _begin_deleting(program)
        program.until(marker.exists, "a transaction")
        program.press("\x1a")
        program.until(lambda: _is_stopped(program.process), "it stops")
        assert _entries(cache) == 6
        # It holds no lock that another program waits for.
        await _assert_whole(cache)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_ends_it_and_restores_the_terminal(tmp_path: Path, number: int, status: int) -> None:
    with screen_on(make_cache(tmp_path / "image")) as program:
        program.wait_for("7 entries")
        os.kill(program.process, number)
        program.until(program.ended, "the end")
        assert program.status == status
        for mode in ("\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l"):
            program.until(lambda mode=mode: mode.encode() in program.output, "the mode is off")  # type: ignore[misc]
        assert program.echoes()


@pytest.mark.parametrize(("number", "status"), SIGNALS)
async def test_a_deletion_under_way_is_finished(tmp_path: Path, number: int, status: int) -> None:
    cache, marker = make_cache(tmp_path / "image"), tmp_path / "under way"
    with slow_screen_on(cache, marker) as program:
        _begin_deleting(program)
        program.until(marker.exists, "a transaction")
        os.kill(program.process, number)
        program.until(program.ended, "the end")
        assert program.status == status
    assert _entries(cache) == 6
    await _assert_whole(cache)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_leaves_nothing_of_another_hosts_cache(
    number: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setenv("PATH", near_ssh(tmp_path / "near"))
    with ProgramInPty("-m", "ocitui", f"ssh://good{make_cache(tmp_path / 'image')}") as program:
        program.wait_for("asked")
        assert [one.name.startswith("ocitui-mirror-") for one in made.iterdir()] == [True]
        os.kill(program.process, number)
        program.until(program.ended, "the end")
        assert program.status == status
    assert not [*made.iterdir()]


async def test_a_second_signal_ends_it_whatever_it_waits_for(tmp_path: Path) -> None:
    cache, marker = make_cache(tmp_path / "image"), tmp_path / "under way"
    with slow_screen_on(cache, marker, "for-good") as program:
        _begin_deleting(program)
        program.until(marker.exists, "a transaction")
        os.kill(program.process, signal.SIGTERM)
        program.until(lambda: not _is_pending(program.process, signal.SIGTERM), "the first is taken")
        assert not program.ended(), "it waits for the transaction"
        os.kill(program.process, signal.SIGTERM)
        program.until(program.ended, "the end")
        assert program.status == 143
        assert program.echoes()
    # What it left half done, the next writer finishes or rolls back.
    await PackerCache(cache).delete([(TEA.digest, "squashfs")])
    await PackerCache(cache).undo()
    if _entries(cache) == 6:
        await PackerCache(cache).undo()
    assert _entries(cache) == 7
    assert packed_path(cache, BUSYBOX).exists()


_FAULTY = """
import sys
from pathlib import Path
from ocitui import __main__
from ocitui.tui.live import LiveCache

LABEL = "label-of-an-image"

async def fails(live):
    raise RuntimeError(LABEL)

LiveCache.{method} = fails
sys.argv[1:] = [sys.argv[1]]
__main__.main()
"""


@pytest.mark.parametrize("method", ["look", "follow_host"])
def test_what_nobody_foresaw_ends_it_with_a_line_and_a_file(tmp_path: Path, method: str) -> None:
    cache = make_cache(tmp_path / "image")
    with ProgramInPty("-c", _FAULTY.format(method=method), str(cache)) as program:
        program.until(program.ended, "the end")
        program.until(lambda: b"(send " in program.output, "the line")
        assert program.status == FAULT_STATUS
        assert program.echoes()
        screen, _, said = program.output.decode().rpartition("\x1b[?1049l")
        assert screen
        assert "ocitui: a fault of its own: RuntimeError in " in said
        assert "Traceback" not in said
        file = Path(said.partition("(send ")[2].partition(")")[0])
    report = file.read_text()
    file.unlink()
    assert "label-of-an-image" not in report + said
    assert str(tmp_path) not in report


async def test_a_line_that_goes_leaves_a_whole_deletion(tmp_path: Path) -> None:
    cache, marker = make_cache(tmp_path / "image"), tmp_path / "under way"
    with slow_screen_on(cache, marker) as program:
        _begin_deleting(program)
        program.until(marker.exists, "a transaction")
        os.close(program.fd)
        program.fd = -1
        program.until(program.ended, "the end", reading=False)
    await _assert_whole(cache)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
async def test_a_terminal_that_is_not_read(tmp_path: Path, number: int, status: int) -> None:
    cache = make_cache(tmp_path / "image")
    with screen_on(cache) as program:
        _begin_deleting(program)
        program.fill()
        assert program.waiting_bytes() > 0
        os.kill(program.process, number)
        program.until(program.ended, "the end", reading=False)
        assert program.status == status
    await _assert_whole(cache)


async def test_a_deletion_goes_on_while_nobody_reads(tmp_path: Path) -> None:
    cache, marker = make_cache(tmp_path / "image"), tmp_path / "under way"
    with slow_screen_on(cache, marker) as program:
        _begin_deleting(program)
        program.until(marker.exists, "a transaction", reading=False)
        program.fill()
        assert packed_path(cache, BUSYBOX).exists()
        marker.unlink()
        program.until(lambda: not packed_path(cache, BUSYBOX).exists(), "the deletion", reading=False)
        os.kill(program.process, signal.SIGTERM)
        program.until(program.ended, "the end", reading=False)
    await _assert_whole(cache)


class _Tmux:
    """A tmux server of its own, with one window."""

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", "-S", self._socket, *arguments], capture_output=True, text=True, check=False)
        return done.stdout

    def press(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + LIMIT_SECONDS
        while text not in (shown := self.run("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"never came: {text}\n{shown}"
            time.sleep(0.05)
        return shown


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[_Tmux]:
    need("tmux")
    server = _Tmux(tmp_path / "tmux")
    server.run("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh")
    yield server
    server.run("kill-server")


def test_in_tmux(tmp_path: Path, tmux: _Tmux) -> None:
    cache = make_cache(tmp_path / "image", SEVEN)
    command = shlex.join([sys.executable, "-m", "ocitui", str(cache)])
    tmux.press(f"cd {shlex.quote(str(ROOT))}; {command}; echo status=$?; stty -a | grep -o -- '-*echo '", "Enter")
    shown = tmux.wait_for("7 entries")
    assert len(shown.rstrip("\n").split("\n")) == 24
    tmux.press("j")
    tmux.wait_for("2 of 7")
    tmux.press("/")
    tmux.press("-l", "name:tea")
    tmux.wait_for("1/7")
    tmux.press("Enter", "d")
    tmux.wait_for("nothing is changed before y")
    tmux.press("Enter", "Escape")
    tmux.wait_for("2 of 7")
    tmux.press("q")
    tmux.wait_for("status=0")
    tmux.wait_for("\necho")


async def test_a_terminal_that_is_not_read_does_not_stop_a_repair(tmp_path: Path) -> None:
    cache, marker = make_cache(tmp_path / "image"), tmp_path / "under way"
    document = cache / f"{BUSYBOX.digest}.config.json"
    document.write_text("{")
    with slow_screen_on(cache, marker) as program:
        program.wait_for("high")
        program.press("m")
        program.wait_for("nothing is changed before y")
        program.press("y")
        program.until(marker.exists, "a transaction", reading=False)
        program.fill()
        assert document.exists()
        marker.unlink()
        program.until(lambda: not document.exists(), "the mend", reading=False)
        os.kill(program.process, signal.SIGTERM)
        program.until(program.ended, "the end", reading=False)
        assert program.status == 143
    [done] = await PackerCache(cache).transactions()
    assert (done.kind, done.state) == (TransactionKind.REPAIR, TransactionState.DONE)
    await PackerCache(cache).undo()
    assert document.read_text() == "{"


async def test_a_line_that_goes_leaves_a_whole_repair(tmp_path: Path) -> None:
    cache, marker = make_cache(tmp_path / "image"), tmp_path / "under way"
    index = (cache / "index.json").read_bytes()
    (cache / "index.json").write_bytes(index[: len(index) // 2])
    with slow_screen_on(cache, marker) as program:
        program.wait_for("corrupt")
        program.press("m")
        program.wait_for("nothing is changed before y")
        program.press("y")
        program.until(marker.exists, "a transaction")
        os.close(program.fd)
        program.fd = -1
        program.until(program.ended, "the end", reading=False)
    [done] = await PackerCache(cache).transactions()
    assert (done.kind, done.state) == (TransactionKind.REPAIR, TransactionState.DONE)
    assert _entries(cache) == 7
    await PackerCache(cache).undo()
    assert (cache / "index.json").read_bytes() == index[: len(index) // 2]
