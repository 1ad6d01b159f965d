"""One outside program that packs: fed through a pipe, heard on its error output, killed rather than waited for."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .layer_errors import PackerError

_PIPE_BYTES = 1 << 20
_KEPT_OUTPUT = 1 << 16
_PR_SET_PDEATHSIG = 1
_F_SETPIPE_SZ = 1031


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a program is to run as."""

    uid: int
    gid: int


class PackerProcess:
    """A running program. It dies with its parent, and where nobody ends it properly it is to be killed.

    ``patience`` is how many seconds it may take nothing, or work on after the end of its input; ``keep`` is a file
    descriptor that it is to have.
    """

    def __init__(
        self, command: Sequence[str], patience: float, *, fed: bool, owner: Owner | None = None, keep: int | None = None
    ) -> None:
        self.name = Path(command[0]).name
        self._patience = patience
        self._said = bytearray()
        # Whoever reads this process's error output to its end waits for the packer, too.
        lifeline = os.dup(2)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "LC_ALL": "C"},
                user=owner.uid if owner else None,
                group=owner.gid if owner else None,
                extra_groups=[] if owner else None,
                pass_fds=(lifeline,) if keep is None else (lifeline, keep),
                preexec_fn=die_with_parent,  # noqa: PLW1509  the worker has no other thread when it starts a packer
            )
        except OSError as error:
            raise PackerError(f"cannot start {self.name}: {error.strerror}") from error
        finally:
            os.close(lifeline)
        self._poll = select.poll()
        assert self._process.stderr is not None
        self._errors = self._process.stderr.fileno()
        os.set_blocking(self._errors, False)
        self._poll.register(self._errors, select.POLLIN)
        self._is_heard = True
        self._input = self._open_input()

    @property
    def said(self) -> str:
        """What it wrote to its error output; the beginning, where that is long."""
        return self._said.decode("utf-8", "replace").strip()

    def write(self, data: memoryview) -> None:
        """Feed it. Raises PackerError where it ends or stalls."""
        self._poll.register(self._input, select.POLLOUT)
        try:
            while data:
                if self._wait(self._patience, self._input):
                    data = data[os.write(self._input, data) :]
        except BrokenPipeError:
            self._input_refused()
        finally:
            self._poll.unregister(self._input)

    def finish(self) -> None:
        """End its input and wait for it. Raises PackerError where it fails, or is still busy when patience ends."""
        self._close_input()
        deadline = time.monotonic() + self._patience
        while self._is_heard:
            self._wait(deadline - time.monotonic(), -1)
        try:
            code = self._process.wait(max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            self._stalled()
        self._close_errors()
        if code:
            raise PackerError(f"{self.name} failed with {_describe(code)}: {self._last_words()}")

    def kill(self) -> None:
        """End it at once, **before** its input ends: an input that ends between two entries is success to it."""
        self._process.kill()
        self._process.wait()
        self._close_input()
        self._close_errors()

    def _open_input(self) -> int:
        if self._process.stdin is None:
            return -1
        fd = self._process.stdin.fileno()
        os.set_blocking(fd, False)
        _widen(fd)
        return fd

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _close_errors(self) -> None:
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _wait(self, seconds: float, wanted: int) -> bool:
        """Hear what it says until ``wanted`` is ready. Raises PackerError once the time is over."""
        ready = self._poll.poll(max(seconds, 0) * 1000)
        if not ready:
            self._stalled()
        if any(fd == self._errors for fd, _ in ready):
            self._hear()
        return any(fd == wanted for fd, _ in ready)

    def _hear(self) -> None:
        heard = os.read(self._errors, 1 << 16)
        self._said += heard[: _KEPT_OUTPUT - len(self._said)]
        if not heard:
            self._poll.unregister(self._errors)
            self._is_heard = False

    def _input_refused(self) -> None:
        """It closed its input, so it is ending: what it says last is the reason."""
        self.finish()
        raise PackerError(f"{self.name} ended before its input did: {self._last_words()}")

    def _stalled(self) -> None:
        raise PackerError(f"{self.name} did nothing for {self._patience:.0f} seconds, and was ended")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return "; ".join(lines[-3:])[-500:] or "it did not say why"


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _widen(fd: int) -> None:
    """A wide pipe saves switches between the two; where it is not granted, a narrow one does."""
    with suppress(OSError):
        fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
