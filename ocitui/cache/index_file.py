"""index.json on disk: looked at cheaply, read patiently, judged."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from .errors import CacheDirectoryError, ConflictError, CorruptIndexError
from .files import INDEX_NAME, MOST_INDEX_BYTES, check_directory, open_bounded, read_to_end
from .index import ImageIndex, examine_index
from .verdict import IndexOutcome, Verdict

PATIENCE_SECONDS = 1.0
"""How long a file that does not read is taken for one being written."""
# File times advance with the kernel's tick, 10 ms at the coarsest.
_CLOCK_GRAIN_NS = 20_000_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.05


class Signature(NamedTuple):
    """What changes whenever a file does."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class IndexFile(msgspec.Struct, frozen=True):
    """One reading of index.json. ``data`` is kept only where it is not sound; ``index`` only where it is."""

    signature: Signature | None
    verdict: Verdict
    index: ImageIndex | None
    data: bytes | None = None
    settled: bool = True
    """False where the file had changed so shortly before that another change may not show in the signature."""

    @property
    def exists(self) -> bool:
        return self.signature is not None

    @property
    def contents(self) -> ImageIndex:
        """The index; an empty one where there is no file."""
        return ImageIndex.empty() if self.index is None else self.index

    def require_sound(self, directory: Path) -> None:
        """Raises CorruptIndexError where the daemon would reset or refuse."""
        if not self.verdict.sound:
            path = directory / INDEX_NAME
            raise CorruptIndexError(
                f"{path} is corrupt: {self.verdict.place}; {self.verdict.consequence}", verdict=self.verdict
            )


def look(directory: Path) -> Signature | None:
    """The signature of index.json, links followed as the daemon does; None where there is none."""
    try:
        # A path made of parts costs more than the look.
        found = os.stat(f"{directory}/{INDEX_NAME}")
    except OSError:
        return None
    return _signature(found)


def refuse_link(directory: Path) -> None:
    """Raises ConflictError where index.json is a link: what it leads to is not ours to write."""
    if os.path.islink(f"{directory}/{INDEX_NAME}"):
        raise ConflictError("index.json is a link and is not written", hint="replace the link with the file itself")


def read_once(directory: Path, previous: ImageIndex | None = None) -> IndexFile:
    """Read index.json as it is now, quicker where it is much like ``previous``.

    Raises CacheDirectoryError where the directory or the file cannot be read.
    """
    try:
        with open_bounded(directory / INDEX_NAME, MOST_INDEX_BYTES) as file:
            found, data = os.fstat(file.fileno()), read_to_end(file, MOST_INDEX_BYTES)
    except FileNotFoundError:
        check_directory(directory)
        return IndexFile(None, Verdict(IndexOutcome.CREATED), None)
    except OSError as error:
        check_directory(directory)
        if error.errno in (errno.EISDIR, errno.EINVAL):
            kind = "a directory" if error.errno == errno.EISDIR else "not a regular file"
            return IndexFile(look(directory), Verdict(IndexOutcome.ERROR, message=f"it is {kind}"), None, b"")
        denied = isinstance(error, PermissionError)
        raise CacheDirectoryError(
            f"{directory / INDEX_NAME} cannot be read: {error.strerror}",
            hint="start ocitui as a user who may read it" if denied else "look at the disk's health",
        ) from error
    settled = abs(time.time_ns() - found.st_mtime_ns) > _CLOCK_GRAIN_NS
    verdict, index = examine_index(data, previous)
    return IndexFile(_signature(found), verdict, index, data if index is None else None, settled)


def read_patiently(directory: Path, previous: ImageIndex | None = None) -> IndexFile:
    """Read index.json, and again for PATIENCE_SECONDS while it does not read: it may be being written."""
    seen = read_once(directory, previous)
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, _FIRST_PAUSE
    while not seen.verdict.sound and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
        if look(directory) != seen.signature:
            seen = read_once(directory, previous)
    return seen


def _signature(found: os.stat_result) -> Signature:
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
