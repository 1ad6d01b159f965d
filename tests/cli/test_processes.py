"""The command line as a process: terminals, pipes and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pexpect
import pytest

from ocitui.cli.demo_cache import ALPINE
from tests.cli.conftest import Ocitui

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-m", "ocitui"]
TIMEOUT = 60


def spawn(*words: str | Path, columns: int = 80) -> pexpect.spawn[str]:
    """A command on a terminal of its own."""
    return pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], *map(str, words)],
        encoding="utf-8",
        timeout=TIMEOUT,
        dimensions=(24, columns),
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )


def ended(child: pexpect.spawn[str]) -> tuple[str, int | None]:
    """What was left to be printed, and the status."""
    child.expect(pexpect.EOF)
    left = child.before or ""
    child.close()
    return left, child.exitstatus


def test_what_a_plan_reads_is_told_and_an_interrupt_ends_it(demo: Path) -> None:
    [file], trash = demo.glob(f"{ALPINE.digest}.[!mc]*"), demo / ".ocitui" / "trash"
    trash.mkdir(parents=True, exist_ok=True)
    os.truncate(file, 1 << 38)
    file.rename(trash / f"000001-0000~{file.name}")
    child = spawn("repair", "-C", demo)
    child.expect(rf"reading a copy of [^ ]*{ALPINE.digest[7:19]}[^ ]*  [0-9.]+[MG] of 256G")
    child.sendintr()
    text, status = ended(child)
    assert status == 130
    assert "interrupted by SIGINT" in text


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_list_fits_the_terminal(columns: int, demo: Path) -> None:
    text, status = ended(spawn("list", "-C", demo, columns=columns))
    lines = text.replace("\r", "").splitlines()
    assert status == 0
    assert len(lines) == 9
    assert max(map(len, lines)) <= columns
    assert lines[0].split()[0] == "NAME"
    assert lines[0].split()[-1] == "STATE"
    assert "\x1b" not in text


def test_show_is_laid_out_and_cleaned_on_a_terminal(demo: Path) -> None:
    (demo / f"{ALPINE.digest}.config.json").write_bytes(b'{"a":"\x9b31m \\u001b[2J \xc2\x9b"}')
    text, status = ended(spawn("show", ALPINE.digest, "config", "-C", demo))
    assert status == 0
    assert not set("\x1b\x9b") & set(text)
    text, _ = ended(spawn("show", ALPINE.digest, "-C", demo))
    assert '\r\n  "schemaVersion": 2,\r\n' in text


def test_a_document_that_does_not_parse_is_shown_with_the_place(demo: Path) -> None:
    (demo / f"{ALPINE.digest}.config.json").write_bytes(b'{\n"a": \x1b}')
    text, status = ended(spawn("show", ALPINE.digest, "config", "-C", demo))
    assert status == 0
    assert "line 2 column" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("typed", ["", "y", "no"])
def test_enter_does_not_confirm(typed: str, demo: Path) -> None:
    child = spawn("delete", ALPINE.digest, "-C", demo)
    child.expect("Type yes to confirm")
    child.sendline(typed)
    text, status = ended(child)
    assert status == 130
    assert "nothing was changed" in text
    assert (demo / f"{ALPINE.digest}.tar").exists()
    assert os.listdir(demo / ".ocitui" / "journal") == []


def test_yes_confirms(demo: Path) -> None:
    child = spawn("delete", ALPINE.digest, "-C", demo)
    child.expect("Type yes to confirm")
    child.sendline("yes")
    text, status = ended(child)
    assert status == 0
    assert "transaction" in text
    assert not (demo / f"{ALPINE.digest}.tar").exists()


@pytest.mark.parametrize("end", ["interrupt", "end of input"])
def test_a_question_can_be_left(end: str, demo: Path) -> None:
    child = spawn("delete", ALPINE.digest, "-C", demo)
    child.expect("leaves it:")
    child.sendintr() if end == "interrupt" else child.sendeof()
    text, status = ended(child)
    assert status == 130
    assert text.splitlines()[-1] == "ocitui: cancelled (nothing was changed)"
    assert (demo / f"{ALPINE.digest}.tar").exists()


def test_with_a_piped_output_the_question_is_on_standard_error(demo: Path, tmp_path: Path) -> None:
    command = f"{' '.join(PROGRAM)} delete {ALPINE.digest} -C {demo} --json > {tmp_path / 'out'}"
    child = pexpect.spawn("/bin/sh", ["-c", command], encoding="utf-8", timeout=TIMEOUT)
    child.expect(f"{ALPINE.digest}.tar")
    child.expect("leaves it:")
    child.sendline("yes")
    assert ended(child)[1] == 0
    assert '"transaction"' in (tmp_path / "out").read_text()


def test_a_reader_that_goes_away_is_no_error(demo: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "list", "-C", str(demo)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == ""
    assert process.wait(TIMEOUT) == 141


def test_an_output_that_takes_nothing_is_an_error(demo: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "list", "-C", str(demo)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 4
    assert done.stderr.startswith("ocitui: the output cannot be written")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_reason_to_fail(closed: str, demo: Path) -> None:
    command = f"{' '.join(PROGRAM)} list -C {demo} {closed}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_cannot_take_every_character(encoding: str, demo: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "list", "-C", str(demo)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=TIMEOUT,
    )
    assert b"odd?[31m?" in done.stdout


# Sends itself the signal between two steps of the transaction, then goes on.
INTERRUPTED = """
import os, signal, sys
from ocitui.cache.disk import Disk
from ocitui.cli.main import run
operation, number = sys.argv[1], int(sys.argv[2])
def step(self, doing, name):
    if doing == operation and not sent and name.endswith((".draft", "index.json")):
        sent.append(1)
        os.kill(os.getpid(), number)
sent = []
Disk.step = step
sys.exit(run(sys.argv[3:]))
"""


@pytest.mark.parametrize("operation", ["exchange", "create"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_transaction_end(number: signal.Signals, operation: str, demo: Path, ocitui: Ocitui) -> None:
    words = ["delete", ALPINE.digest, "--yes", "-C", str(demo)]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, operation, str(int(number)), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        # The tests themselves may run under nohup, which ignores one of them.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert done.returncode == 128 + number
    assert done.stderr == (
        f"ocitui: interrupted by {number.name} (a transaction that was begun has ended whole; see ocitui log)\n"
    )
    (transaction,) = ocitui("log", "--json", "-C", demo).json["transactions"]
    assert transaction["state"] == "done"
    assert not list(demo.glob(f"{ALPINE.digest}*"))
    assert ocitui("undo", "-C", demo).status == 0
    assert ocitui("list", "-C", demo, "--filter", "state:bad !site !queue", "--json").json["entries"] == []


HANGING = """
import signal, sys, threading
from ocitui.cache.disk import Disk
from ocitui.cli.main import run
def step(self, doing, name):
    if doing == "exchange":
        print("here", flush=True)
        threading.Event().wait()
Disk.step = step
# The tests themselves may run under nohup, which ignores one of them.
signal.signal(int(sys.argv[1]), signal.SIG_DFL)
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_another_signal_ends_it_whatever_it_waits_for(number: signal.Signals, demo: Path, ocitui: Ocitui) -> None:
    words = [str(int(number)), "delete", ALPINE.digest, "--yes", "-C", str(demo)]
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as program:
        assert program.stdout is not None
        assert b"here\n" in iter(program.stdout.readline, b"")
        # Two may come as one before the first is looked at.
        while program.poll() is None:
            program.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                program.wait(0.1)
    assert program.returncode == -number
    # What it left is rolled back by the next that writes.
    assert ocitui("delete", ALPINE.digest, "--yes", "-C", demo).status == 0
    assert [one["state"] for one in ocitui("log", "--json", "-C", demo).json["transactions"]] == ["done", "void"]


JUDGING = """
import signal, sys, threading
from ocitui.cache import index
from ocitui.cli import selectors
from ocitui.cli.main import run
def passing(judge, entries, filter_text):
    print("here", read, flush=True)
    # A signal that comes right before a wait begins is looked at once that has ended.
    while not threading.Event().wait(0.01):
        pass
    yield
def counted(*given):
    global read
    read += 1
    return read_once(*given)
read, read_once, index.read_once = 0, index.read_once, counted
selectors.passing = lambda *given: list(passing(*given))
# The tests themselves may run under nohup, which ignores one of them.
signal.signal(int(sys.argv[1]), signal.SIG_DFL)
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["list", "show", "delete"])
def test_a_signal_ends_what_judges_for_a_filter(command: str, number: signal.Signals, demo: Path) -> None:
    words = [str(int(number)), command, "--filter", "web", "-C", str(demo)]
    with subprocess.Popen(
        [sys.executable, "-c", JUDGING, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        try:
            assert program.stdout.readline() == "here 1\n", "it reads the index once"
            program.send_signal(number)
            assert program.wait(TIMEOUT) == 128 + number
        finally:
            program.kill()
        assert program.stderr.read() == f"ocitui: interrupted by {number.name} (nothing was changed)\n"


def test_nohup_is_heeded(demo: Path) -> None:
    words = ["delete", ALPINE.digest, "--yes", "-C", str(demo)]
    command = [sys.executable, "-c", INTERRUPTED, "exchange", str(int(signal.SIGHUP)), *words]
    done = subprocess.run(
        ["nohup", *command], capture_output=True, text=True, check=False, timeout=TIMEOUT, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0
