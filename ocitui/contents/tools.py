"""Outside programs and files that are read whole: bounded in time, memory and rate."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import pwd
import select
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import BinaryIO

import msgspec

from ocitui.cache import HASH_CHUNK, hash_file, open_bounded
from ocitui.host import find_program
from ocitui.threads import Stop

_KEPT_OUTPUT = 1 << 16
_LOOK_SECONDS = 0.1
_CHUNK = 1 << 18
_NOBODY = "nobody"
# How long a program may take: so long, and for a large file so many bytes a second.
_LEAST_SECONDS, _LEAST_RATE = 60.0, 4 << 20
# No file, no core, 1 GiB; set by the process itself, as in a container root may not bound that of another user.
_BOUNDED = ("/bin/sh", "-c", f'ulimit -f 0 && ulimit -c 0 && ulimit -v {1 << 20} && exec "$@" || exit 126', "sh")
_NOT_STARTED = (126, 127)
Sink = Callable[[bytes], object]


class NotCheckedError(Exception):
    """A program could not tell; the text says why."""


class Said(msgspec.Struct, frozen=True):
    """How a program ended, and the beginning of what it wrote to its error output, or to both where that was asked."""

    code: int
    errors: str


class Tool:
    """One program, for one packed file that is open. `path` is the name under which it finds the file."""

    def __init__(self, name: str, file: BinaryIO, stop: Stop) -> None:
        """Raises NotCheckedError where it is not installed, or could only be run as root."""
        program = find_program(name)
        if program is None:
            raise NotCheckedError(f"{name} is not installed")
        self._program, self._fd, self._stop = program, file.fileno(), stop
        self._name, self.path = name, f"/proc/self/fd/{self._fd}"
        self._size = os.fstat(self._fd).st_size
        self._user = _unprivileged(name, self._fd)

    def run(self, arguments: Sequence[str | bytes], sink: Sink | None = None) -> Said:
        """Run it to its end; its output goes to ``sink``, or with its errors. Raises NotCheckedError where it cannot be
        started, or ran out of time or memory, AbandonedError when the work is to end."""
        with ExitStack() as stack:
            try:
                private = stack.enter_context(tempfile.TemporaryDirectory(prefix="ocitui-"))
                process = subprocess.Popen(
                    [*_BOUNDED, self._program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE if sink else subprocess.STDOUT,
                    env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
                    cwd=private if self._user is None else "/",
                    user=self._user,
                    group=self._user,
                    extra_groups=None if self._user is None else [],
                    pass_fds=(self._fd,),
                    bufsize=0,
                )
            except OSError as error:
                # No fault of the file: too many processes, or no memory for one more.
                raise NotCheckedError(f"{self._name} cannot be started: {error.strerror}") from error
            stack.enter_context(process)
            stack.callback(process.kill)
            said = self._hear(process, sink)
        if said.code in _NOT_STARTED:
            raise NotCheckedError(f"{self._name} cannot be started: {said.errors.rpartition(': ')[2]}")
        if said.code == -signal.SIGKILL or any(word in said.errors.lower() for word in _NO_MEMORY):
            raise NotCheckedError(f"{self._name} ran out of memory")
        return said

    def _hear(self, process: subprocess.Popen[bytes], sink: Sink | None) -> Said:
        deadline = time.monotonic() + max(_LEAST_SECONDS, self._size / _LEAST_RATE)
        kept = bytearray()

        def keep(data: bytes) -> None:
            kept.extend(data[: _KEPT_OUTPUT - len(kept)])

        sinks = {pipe.fileno(): keep for pipe in (process.stderr,) if pipe is not None}
        assert process.stdout is not None
        sinks[process.stdout.fileno()] = sink or keep  # type: ignore[assignment]
        poll = select.poll()
        for fd in sinks:
            poll.register(fd, select.POLLIN)
        while sinks:
            self._stop.check()
            if time.monotonic() > deadline:
                raise NotCheckedError(f"{self._name} took too long, and was ended")
            for fd, _ in poll.poll(_LOOK_SECONDS * 1000):
                data = os.read(fd, _CHUNK)
                if data:
                    sinks[fd](data)
                else:
                    poll.unregister(fd)
                    del sinks[fd]
        try:
            code = process.wait(max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            raise NotCheckedError(f"{self._name} took too long, and was ended") from None
        return Said(code, kept.decode("utf-8", "replace").strip())


_NO_MEMORY = ("out of memory", "cannot allocate memory", "malloc failed", "enomem")


def _unprivileged(name: str, fd: int) -> int | None:
    """Whom to run it as: nobody instead of root; None stands for who runs this."""
    if os.geteuid() != 0:
        return None
    if not os.fstat(fd).st_mode & stat.S_IROTH:
        raise NotCheckedError(f"only root may read the file, and {name} is not run as root")
    try:
        return pwd.getpwnam(_NOBODY).pw_uid
    except KeyError:
        raise NotCheckedError(f"there is no user {_NOBODY}, and {name} is not run as root") from None


# ioprio_set(2) has no wrapper in the C library; its number differs by machine.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "i686": 289, "ppc64le": 273, "s390x": 282}
_WHO_PROCESS, _CLASS_IDLE, _CLASS_SHIFT = 1, 3, 13


def hash_past_cache(path: str, directory: int, passed: Callable[[int], object]) -> str:
    """The sha256 of what the disk itself holds, as far as its page cache can be passed by. Raises OSError."""
    with open_bounded(path, dir_fd=directory) as file:
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            direct = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return hash_file(file, passed)
        # O_DIRECT wants memory that begins at a page, which a mapping does.
        with (
            open(direct, "rb", buffering=0) as unbuffered,
            mmap.mmap(-1, HASH_CHUNK) as pages,
            memoryview(pages) as buffer,
        ):
            return hash_file(unbuffered, passed, buffer)


def be_idle() -> bool:
    """Let this thread, and what it starts, read only when nobody else does; False where that is not to be had."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is None:
        return False
    idle = _CLASS_IDLE << _CLASS_SHIFT
    return bool(ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, 0, idle) == 0)
