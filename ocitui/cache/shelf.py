"""A bounded folder of compressed copies in a cache's own folder, each named by its time and its content.

Safe beside other programs that do the same without a lock: a copy is written under a name of its own and renamed. A
copy never is a reason for anything else to fail: where it cannot be made, there is none.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from .disk import Folder
from .errors import StorageError

Step = Callable[[str, str], None]

# Left free for the daemon, whose next store else truncates its own index and cannot write it.
_LEFT_FREE = 1 << 20
_STALE_SECONDS = 3600.0
_NAME = re.compile(r"(\d{8}T\d{12})-(\d+)-([0-9a-f]{32})(\.shrunk)?\.json\.gz")


class Copy(NamedTuple):
    """``moment`` sorts by time, ``entries`` is how many an index has, ``content`` 32 hex digits of its sha256;
    ``pinned`` is whether it is the last one before a shrink. ``size`` is compressed, in bytes."""

    moment: str
    entries: int
    content: str
    pinned: bool
    size: int

    @property
    def name(self) -> str:
        return f"{self.moment}-{self.entries}-{self.content}{'.shrunk' if self.pinned else ''}.json.gz"

    @property
    def kept(self) -> float:
        """When it was made, in seconds since the epoch."""
        return datetime.strptime(self.moment, "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC).timestamp()


def now() -> str:
    """This moment, as it begins a transaction's id too."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """An open folder that holds at most ``most`` copies of at most ``most_bytes`` in all."""

    folder: Folder
    most: int
    most_bytes: int

    def copies(self) -> list[Copy]:
        """Every copy, newest first."""
        found = []
        for name in self.folder.names():
            match, there = _NAME.fullmatch(name), self.folder.lstat(name)
            if match and there and stat.S_ISREG(there.st_mode):
                moment, entries, content, pinned = match.groups()
                found.append(Copy(moment, int(entries), content, bool(pinned), there.st_size))
        return sorted(found, reverse=True)

    def read(self, copy: Copy) -> bytes:
        """The bytes that were copied. Raises StorageError where they cannot be read."""
        try:
            return zlib.decompress(self.folder.read(copy.name), wbits=31)
        except (OSError, zlib.error) as error:
            raise StorageError(f"the copy {copy.name} cannot be read: {error}", hint="take an older one") from error

    def put(self, copy: Copy, data: bytes, step: Step) -> Copy | None:
        """Make a copy durable; None where that leaves too little room. Raises OSError."""
        packed = compress(data)
        if self._free() < len(packed) + len(data) + _LEFT_FREE:
            return None
        copy = copy._replace(size=len(packed))
        part = f"{secrets.token_hex(8)}.part"
        try:
            self._write(part, packed, step)
            step("rename", copy.name)
            os.rename(part, copy.name, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        except OSError:
            with suppress(OSError):
                os.unlink(part, dir_fd=self.folder.fd)
            raise
        return copy

    def rename(self, copy: Copy, new: Copy) -> Copy | None:
        """Give a copy another time or pin; None where another program has removed or renamed it. Raises OSError."""
        try:
            os.rename(copy.name, new.name, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        except FileNotFoundError:
            return None
        return new

    def prune(self) -> None:
        """Remove the oldest beyond the bounds: never the newest, and never the newest that is pinned."""
        copies = self.copies()
        total, count = sum(copy.size for copy in copies), len(copies)
        for copy in self._expendable(copies):
            if count <= self.most and total <= self.most_bytes:
                break
            with suppress(OSError):
                os.unlink(copy.name, dir_fd=self.folder.fd)
            total, count = total - copy.size, count - 1
        self._clear_parts()

    def _expendable(self, copies: list[Copy]) -> list[Copy]:
        """What may go, in this order: pinned copies too where they fill half of the folder."""
        pinned = [copy for copy in copies if copy.pinned]
        spare = set(pinned[: max(1, self.most // 2)])
        loose = [copy for copy in copies[1:] if copy not in spare]
        return [*reversed(loose), *(copy for copy in reversed(pinned[1:]) if copy in spare and copy != copies[0])]

    def _write(self, name: str, data: bytes, step: Step) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        step("create", name)
        with open(os.open(name, flags, 0o644, dir_fd=self.folder.fd), "wb", buffering=0) as file:
            step("write", name)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            step("fsync", name)
            os.fsync(file.fileno())

    def _free(self) -> int:
        found = os.fstatvfs(self.folder.fd)
        return found.f_bavail * found.f_frsize

    def _clear_parts(self) -> None:
        """Remove what a program that died was writing."""
        for name in self.folder.names():
            found = self.folder.lstat(name) if name.endswith(".part") else None
            if found is not None and time.time() - found.st_mtime > _STALE_SECONDS:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self.folder.fd)


def compress(data: bytes) -> bytes:
    """Quickly, as a gzip file: 40 MB of an index in a tenth of a second, to a ninth of its size."""
    # Loaded only where something is written.
    from isal import isal_zlib

    packed: bytes = isal_zlib.compress(data, 1, 31)
    return packed
