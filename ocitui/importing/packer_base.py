"""What all packers share: their options, their tools, and how they end."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ocitui.cache import StorageError

from .layer_errors import MissingToolError, PackerError
from .packer_process import PackerProcess
from .pax import Xattrs

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
