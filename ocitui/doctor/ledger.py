"""The ledger: the sha256 of each packed file, as it was when it was stored or first read.

One line for each time a file was found sound, appended to `.ocitui/ledger`; the last of a name counts. Every line ends
with its own checksum, so that one that was torn, or rotted, is passed over. Writers take turns by flock(2), and put a
file with fewer lines in its place once most of them are old.
"""

from __future__ import annotations

import os
import re
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

import msgspec

from ocitui.cache import CacheError
from ocitui.cache.disk import Disk, Folder, storage_errors
from ocitui.cache.files import OWN_NAME

from .own_folder import own_folder, taking_turns
from .reading import hash_file

LEDGER_NAME = "ledger"
_LOCK_NAME, _DRAFT = "ledger.lock", "ledger.temporary"
_LINE = re.compile(rb"1 (\d+) (\d+) (\d+) (-?\d+) ([0-9a-f]{64}) (\d+) ([a-z-]+) (\S+)")
_PLAIN = ":+"
_SLACK_LINES = 1000
_FORGOTTEN_SECONDS = 90 * 86_400


class Stat(Protocol):
    """A file's stat, as far as it is known by it."""

    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """What a file was when it was found sound: at ``checked``, in whole seconds since the epoch.

    ``read_through``: its format's own tool read all of it. ``whole``: its tree was held against another format's and
    the image's program.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    sha256: str
    checked: int
    read_through: bool = False
    whole: bool = False

    def same_file(self, found: Stat) -> bool:
        """Whether the file was not written since, as far as its stat tells."""
        return (self.device, self.inode, self.size, self.modified_ns) == (
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
        )


class Ledger:
    """The ledger of one cache. Reading takes no lock; any thread may call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._records: dict[str, Recorded] = {}
        self._waiting: list[bytes] = []
        self._lines = 0
        self.problem = ""

    @classmethod
    def open(cls, directory: Path) -> Ledger:
        """Read it; where it cannot be read it is empty, and ``problem`` says why."""
        ledger = cls(directory)
        try:
            data = (directory / OWN_NAME / LEDGER_NAME).read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            data, ledger.problem = b"", f"the ledger cannot be read: {error.strerror}"
        ledger._lines = _read(data, ledger._records)
        return ledger

    def __len__(self) -> int:
        return len(self._records)

    def look(self, name: str) -> Recorded | None:
        """What is known of the packed file of that name."""
        return self._records.get(name)

    def record(
        self,
        name: str,
        found: Stat,
        sha256: str,
        *,
        checked: float | None = None,
        read_through: bool = False,
        whole: bool = False,
    ) -> Recorded:
        """Note a sound file; `flush` writes it down."""
        record = Recorded(
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            sha256,
            int(time.time() if checked is None else checked),
            read_through,
            whole,
        )
        with self._lock:
            self._records[name] = record
            self._waiting.append(_line(name, record))
        return record

    def flush(self) -> None:
        """Make what was noted durable. Raises ReadOnlyError, StorageError; it then stays noted for the next time."""
        with self._lock:
            if not self._waiting:
                return
            with (
                storage_errors("write to the ledger"),
                own_folder(self._directory) as own,
                taking_turns(own, _LOCK_NAME),
            ):
                self._append(own, b"".join(self._waiting))
                self._lines += len(self._waiting)
                self._waiting.clear()
                if self._lines > 2 * len(self._records) + _SLACK_LINES:
                    self._compact(own)

    @staticmethod
    def _append(own: Folder, lines: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(LEDGER_NAME, flags, 0o644, dir_fd=own.fd)
        try:
            size = os.fstat(fd).st_size
            torn = bool(size) and os.pread(fd, 1, size - 1) != b"\n"
            data = memoryview(b"\n" * torn + lines)
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def _compact(self, own: Folder) -> None:
        """Write the last line of each name to a file that takes the ledger's place."""
        records: dict[str, Recorded] = {}
        _read(own.read(LEDGER_NAME), records)
        there, oldest = set(os.listdir(self._directory)), time.time() - _FORGOTTEN_SECONDS
        kept = {name: one for name, one in records.items() if name in there or one.checked > oldest}
        disk = Disk()
        disk.unlink(own, _DRAFT)
        disk.write_new(own, _DRAFT, b"".join(_line(name, record) for name, record in kept.items()))
        disk.replace(own, _DRAFT, own, LEDGER_NAME)
        disk.sync_folder(own)
        self._records, self._lines = kept, len(kept)


def record_stored(directory: Path, packed: Path, sha256: str | None = None) -> None:
    """Note a packed file of the cache that was just stored; it is read where its hash is not given.

    Does nothing where the ledger cannot be written: the first deep check notes it then.
    """
    with suppress(OSError, CacheError):
        with open(packed, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            sha256 = sha256 or hash_file(file, lambda size: None)
        ledger = Ledger(directory)
        ledger.record(packed.name, found, sha256.removeprefix("sha256:"))
        ledger.flush()


def _line(name: str, record: Recorded) -> bytes:
    flags = ("r" if record.read_through else "") + ("w" if record.whole else "") or "-"
    text = (
        f"1 {record.device} {record.inode} {record.size} {record.modified_ns} {record.sha256} {record.checked} {flags} "
        f"{quote(name, safe=_PLAIN, errors='surrogateescape')}"
    ).encode()
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _read(data: bytes, into: dict[str, Recorded]) -> int:
    """Take in every line that is whole; gives how many lines there are."""
    lines = data.split(b"\n")
    for line in lines:
        text, _, checksum = line.rpartition(b" ")
        if b"%08x" % zlib.crc32(text) == checksum and (found := _LINE.fullmatch(text)):
            device, inode, size, modified, sha256, checked, flags, name = found.groups()
            into[unquote(name.decode(), errors="surrogateescape")] = Recorded(
                int(device),
                int(inode),
                int(size),
                int(modified),
                sha256.decode(),
                int(checked),
                b"r" in flags,
                b"w" in flags,
            )
    return len(lines) - 1
