"""What nobody foresaw: one line, a status of its own, and a file that holds nothing of the cache or the host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ocitui.last_resort import FAULT_STATUS, tell
from tests.tools import ROOT

SECRET = "a-label-that-is-nobodys-business"
_PROGRAM = """
import sys
from ocitui import __main__
from ocitui.cache import errors
from ocitui.cli import {module}

def fails(*_, **__):
    from threading import Thread
    secret = {secret!r}
    try:
        {{}}[secret]
    except KeyError as error:
        {how}

{module}.{function} = fails
sys.argv[1:] = {arguments!r}
__main__.main()
"""
_HOW = {
    "raised": "raise ValueError(secret) from error",
    "of the system": "raise ZeroDivisionError(secret)",
    "in a thread": "one = Thread(target=lambda: {}[secret]); one.start(); one.join(); return 0",
}


@pytest.mark.parametrize("how", _HOW)
def test_a_command_ends_with_one_line_and_a_file_to_send(how: str, tmp_path: Path) -> None:
    program = _PROGRAM.format(
        module="main", function="_run", secret=SECRET, how=_HOW[how], arguments=["list", "-C", str(tmp_path / SECRET)]
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == FAULT_STATUS
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("ocitui: a fault of its own: ")
    (file,) = tmp_path.glob("ocitui-fault-*")
    assert line.endswith(f"(send {file})")
    assert file.stat().st_mode & 0o777 == 0o600
    report = file.read_text()
    assert SECRET not in report + line.replace(str(file), "")
    assert str(ROOT) not in report
    assert str(tmp_path) not in report


@pytest.mark.parametrize("before", ["", "sys.stderr = open('other', 'w')"])
@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full"])
def test_where_nobody_is_there_to_be_told(before: str, shell: str, tmp_path: Path) -> None:
    """What has the number of standard error in its place holds nothing of it."""
    program = (
        f"import sys\n{before}\nfrom ocitui.last_resort import tell\n"
        "other = open('other', 'w')\nstatus = tell(ValueError())\nother.close()\nsys.exit(status)"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {shell}', sys.executable, program],
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert done.returncode == FAULT_STATUS
    assert (tmp_path / "other").read_text() == ""
    assert len([*tmp_path.glob("ocitui-fault-*")]) == 1


def test_where_no_file_can_be_written(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def full(**_: object) -> tuple[int, str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    assert tell(ValueError(SECRET)) == FAULT_STATUS
    assert capfd.readouterr().err == (
        "ocitui: a fault of its own: ValueError (no file could be written: No space left on device)\n"
    )


def test_a_fault_as_deep_as_it_gets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def deeper(left: int) -> int:
        return deeper(left - 1)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        deeper(-1)
    except RecursionError as error:
        tell(ExceptionGroup("many", [error, ValueError(SECRET)]))
    (file,) = tmp_path.glob("ocitui-fault-*")
    assert "RecursionError" in file.read_text()
    assert SECRET not in file.read_text()
    assert len(file.read_text().splitlines()) < 300


def test_an_interruption_before_anything_was_begun() -> None:
    program = """
import sys
from ocitui import __main__
def interrupted(_): raise KeyboardInterrupt
__main__._run = interrupted
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ocitui: interrupted\n")


def test_an_interruption_that_python_drops_comes_once_more() -> None:
    """In a callback of a weak reference, as the lock of a module that is loaded has one."""
    program = """
import signal, weakref
from ocitui import __main__
class Lock: pass
def interrupted(_):
    lock = Lock()
    watched = weakref.ref(lock, lambda _: signal.raise_signal(signal.SIGINT))
    del lock
    signal.pause()
    return 0
__main__._run = interrupted
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ocitui: interrupted\n")


def test_a_report_is_written_whatever_the_locale(tmp_path: Path) -> None:
    program = (
        "import linecache, sys\nfrom ocitui.last_resort import tell\n"
        "line = 'raise ValueError  # \\u2026\\n'\nlinecache.cache['a.py'] = (1, None, [line], 'a.py')\n"
        "try:\n    exec(compile(line, 'a.py', 'exec'))\nexcept ValueError as error:\n    sys.exit(tell(error))"
    )
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), **locale},
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (FAULT_STATUS, 1)
    (report,) = tmp_path.iterdir()
    assert "…" in report.read_text(encoding="utf-8")
