"""What all packers share: their options, their tools, and how they end."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ocitui.cache import CacheError, PackedFormat, StorageError

from ..errors import MissingToolError, PackerError
from ..layers.tar_headers import Xattrs

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


_PACKAGES = {"mksquashfs": "squashfs-tools", "mkfs.erofs": "erofs-utils", "tar": "tar"}
# What tools say of a full disk; tar speaks of the block that did not fit.
_NO_ROOM = ("No space left on device", "Wrote only")


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How to pack. ``compression`` and ``level`` are the packer's own words; None leaves the format's default."""

    compression: str | None = None
    """squashfs: gzip; erofs: not compressed."""
    level: int | None = None
    """squashfs in gzip: 6, a third of the CPU of level 9 for 0.7 % more bytes."""
    memory_mib: int = 64
    """What mksquashfs may use for buffers; a quarter of all memory by its own default, which makes it slower."""
    patience: float = 600
    """Seconds that a packer may take nothing, or need after its input has ended."""


@dataclass(frozen=True, slots=True)
class RootDirectory:
    """The root's own metadata, for packers that do not read ``./``."""

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Xattrs


class Packer(Protocol):
    """Takes a tar, piece by piece; then `finish` or `abort`. ``warnings`` are complete once it has finished."""

    warnings: list[str]

    def write(self, data: memoryview) -> None:
        """Raises PackerError, StorageError."""

    def finish(self) -> None:
        """The file is whole and on the disk. Raises PackerError, StorageError."""

    def abort(self) -> None:
        """Nothing of it is left."""


class FedPacker:
    """A packer that is an outside program, fed with the tar."""

    _process: PackerProcess

    def __init__(self, output: Path, options: PackOptions) -> None:
        self.warnings: list[str] = []
        self._output = output
        self._options = options

    def write(self, data: memoryview) -> None:
        try:
            self._process.write(data)
        except PackerError as error:
            raise self._explained(error) from error

    def finish(self) -> None:
        try:
            self._end()
        except PackerError as error:
            raise self._explained(error) from error
        sync_file(self._output)

    def abort(self) -> None:
        self._process.kill()
        self._output.unlink(missing_ok=True)

    def _end(self) -> None:
        """Wait for the program, and see whether it did all."""
        self._process.finish()
        self.warnings += heard(self._process)

    def _explained(self, error: PackerError) -> PackerError | StorageError:
        return no_room(self._output) if any(words in self._process.said for words in _NO_ROOM) else error


def heard(process: PackerProcess) -> list[str]:
    """The lines that a program wrote to its error output."""
    return [line.strip() for line in process.said.splitlines() if line.strip()]


def find_tool(name: str) -> str:
    """Its path. Raises MissingToolError, which names the Debian package."""
    found = shutil.which(name)
    if found is None:
        package = _PACKAGES[name]
        raise MissingToolError(f"{name} is not installed", hint=f"apt install {package}, or choose another format")
    return found


def help_of(tool: str, option: str) -> str:
    """All that a tool says of its options, wherever and with whatever status it says it. Raises PackerError."""
    try:
        said = subprocess.run([tool, option], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackerError(f"{tool} does not run: {error}") from error
    return (said.stdout + said.stderr).decode("utf-8", "replace")


def create_file(output: Path) -> int:
    """A new file, open for writing. Raises StorageError."""
    try:
        return os.open(output, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror}") from error


def sync_file(output: Path) -> None:
    """Raises StorageError."""
    try:
        fd = os.open(output, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror}") from error


def no_room(output: Path) -> StorageError:
    return StorageError(f"no room for {output}", hint="free some room, or choose another place; nothing was packed")


# The levels that each compression takes; none takes no level (mksquashfs 4.6, mkfs.erofs 1.8).
_LEVELS: dict[PackedFormat, dict[str, range]] = {
    PackedFormat.SQUASHFS: {
        "gzip": range(1, 10),
        "lzo": range(1, 10),
        "lz4": range(0),
        "xz": range(0),
        "zstd": range(1, 23),
        "lzma": range(0),
    },
    PackedFormat.EROFS: {
        "lz4": range(0),
        "lz4hc": range(13),
        "lzma": range(110),
        "deflate": range(10),
        "libdeflate": range(13),
        "zstd": range(23),
    },
    PackedFormat.TAR: {},
}
COMPRESSIONS = tuple(dict.fromkeys(name for levels in _LEVELS.values() for name in levels))
_TOOLS = {PackedFormat.SQUASHFS: ("mksquashfs", "-help"), PackedFormat.EROFS: ("mkfs.erofs", "--help")}
_SQUASHFS_WORDS = re.compile(r"Compressors available.*?:((?:\s+\w+(?: \(default\))?$)+)", re.MULTILINE)
_EROFS_WORDS = re.compile(r"[Aa]vailable compressors are:(.*)")


class PackingChoiceError(CacheError):
    """A compression or level that the format does not have."""

    code = "packing-choice"
    default_hint = "leave out the compression and level to have the format's own"


def check_choice(format: PackedFormat, compression: str | None, level: int | None) -> None:
    """Raises PackingChoiceError where these do not go together."""
    levels = _LEVELS[format]
    if compression is not None and compression not in levels:
        offered = f"it has {', '.join(levels)}" if levels else "it is not compressed"
        raise PackingChoiceError(f"{format} has no compression {compression}: {offered}")
    if level is None:
        return
    if compression is None and format is not PackedFormat.SQUASHFS:
        raise PackingChoiceError(f"{format} is not compressed unless that is asked for, so it has no level")
    compression = compression or "gzip"
    allowed = levels[compression]
    if level not in allowed:
        said = f"levels {allowed[0]} to {allowed[-1]}" if allowed else "no levels"
        raise PackingChoiceError(f"{compression} in {format} has {said}, not {level}")


def check_tool(format: PackedFormat, compression: str | None) -> None:
    """See that the packer is installed and has the compression; it is run for that. Raises MissingToolError,
    PackerError."""
    if format is PackedFormat.TAR:
        return
    name, option = _TOOLS[format]
    tool = find_tool(name)
    if compression is None:
        return
    pattern = _SQUASHFS_WORDS if format is PackedFormat.SQUASHFS else _EROFS_WORDS
    found = pattern.search(help_of(tool, option))
    # A version that says it in other words is left to say so itself.
    offered = re.findall(r"\w+", found[1].replace("(default)", "")) if found else [compression]
    if compression not in offered:
        raise MissingToolError(
            f"{name} here does not compress with {compression}, only with {', '.join(offered)}",
            hint="choose one of these, or install a later version",
        )
