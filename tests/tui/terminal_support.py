"""The program in a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.tools import ROOT
from tests.tui.line_support import Terminal

LIMIT_SECONDS = 60.0
_ENVIRONMENT = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}


class ProgramInPty:
    """Runs Python with these arguments in a pty; the exit status is the shell's, 128 and the signal's number."""

    def __init__(self, *arguments: str) -> None:
        self.output = b""
        self._terminal, self._decoder = Terminal((80, 24)), getincrementaldecoder("utf-8")()
        self._display: list[str] = []
        self.status: int | None = None
        self.process, self.fd = pty.fork()
        if self.process == 0:
            os.environ.update(_ENVIRONMENT)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
            os.execv(sys.executable, [sys.executable, *arguments])
        self.resize(80, 24)

    @property
    def display(self) -> list[str]:
        """What the terminal shows, line by line. It is asked for far more often than something comes."""
        self._display = self._display or list(self._terminal.screen.display)
        return self._display

    def resize(self, width: int, height: int) -> None:
        self._terminal.resize((width, height))
        self._display = []
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def read(self) -> None:
        """Take what was written, waiting a moment for it."""
        if select.select([self.fd], [], [], 0.02)[0]:
            try:
                read = os.read(self.fd, 1 << 16)
            except OSError:
                return
            self.output += read
            self._terminal.feed(self._decoder.decode(read))
            self._display = []

    def wait_to_see(self, text: str) -> None:
        """Read until the screen, still of its first size, shows this, whatever of it was written last."""
        self.until(lambda: any(text in row for row in self.display), text)

    def wait_for(self, text: str) -> None:
        """Read until this was written; what was written up to it is dropped."""
        self.until(lambda: text.encode() in self.output, text)
        self.output = self.output.partition(text.encode())[2]

    def until(self, condition: Callable[[], bool], what: str, *, reading: bool = True) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"never came: {what}; last: {self.output[-2000:]!r}"
            if reading:
                self.read()
            else:
                time.sleep(0.02)

    def cpu_ticks(self) -> int:
        """How long it has worked, in hundredths of a second: proc(5), utime and stime of its stat."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def waiting_bytes(self) -> int:
        """What the program wrote and nobody read."""
        return int(struct.unpack("i", fcntl.ioctl(self.fd, termios.FIONREAD, b"\0" * 4))[0])

    def fill(self) -> None:
        """Stop reading, and have it repaint until the terminal takes no more."""
        still, before = 0, -1
        while still < 20:
            for width in (79, 80):
                self.resize(width, 24)
                os.kill(self.process, signal.SIGWINCH)
                time.sleep(0.01)
            still, before = (still + 1 if self.waiting_bytes() == before else 0), self.waiting_bytes()

    def echoes(self) -> bool:
        """Whether the terminal echoes what is typed, as a shell's does and a screen's does not."""
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def ended(self) -> bool:
        if self.status is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def __enter__(self) -> ProgramInPty:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if not self.ended():
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        if self.fd >= 0:
            os.close(self.fd)


def screen_on(cache: Path) -> ProgramInPty:
    """The program as an operator starts it."""
    return ProgramInPty("-m", "ocitui", str(cache))


def slow_screen_on(cache: Path, marker: Path, *more: str) -> ProgramInPty:
    """The screen on a disk that stands still once a transaction has begun to move things, while ``marker`` is there."""
    return ProgramInPty(str(Path(__file__).with_name("slow_screen.py")), str(cache), str(marker), *more)
