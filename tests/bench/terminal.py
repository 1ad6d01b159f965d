"""A program in a terminal of its own, for measuring: what it writes, when, and what it costs."""

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
from collections.abc import Sequence
from types import TracebackType

_LIMIT_SECONDS = 60.0


class TerminalRun:
    """Runs a command in a pty of 80x24; `output` is everything it wrote so far."""

    def __init__(self, command: Sequence[str], size: tuple[int, int] = (80, 24)) -> None:
        self.output = b""
        self.started = time.perf_counter()
        self.process, self._fd = pty.fork()
        if self.process == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8", PYTHONDONTWRITEBYTECODE="")
            os.execv(command[0], list(command))
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def read(self, seconds: float) -> bytes:
        """What comes within so many seconds; stops early once something came."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return b""
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:
            return b""
        self.output += data
        return data

    def wait_for(self, text: bytes, start: int = 0) -> float:
        """Seconds from now until ``text`` is written after offset ``start``. Raises TimeoutError."""
        begun = time.perf_counter()
        while text not in self.output[start:]:
            if time.perf_counter() - begun > _LIMIT_SECONDS:
                raise TimeoutError(f"{text!r} was not written; last: {self.output[-400:]!r}")
            self.read(0.05)
        return time.perf_counter() - begun

    def settle(self, quiet: float = 0.5) -> None:
        """Read until nothing is written for ``quiet`` seconds."""
        while self.read(quiet):
            continue

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def cpu_seconds(self) -> float:
        """CPU time of the process so far, proc(5)."""
        with open(f"/proc/{self.process}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """The peak of its resident memory."""
        with open(f"/proc/{self.process}/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))

    def __enter__(self) -> TerminalRun:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self._fd)


def python(*arguments: str) -> list[str]:
    """A command of the interpreter that runs the tests."""
    return [sys.executable, *arguments]
