"""The ledger: the sha256 of each packed file, as it was when it was stored or first read, and what deep checks found.

One line for each time a file was found sound, or damaged, appended to `.ocitui/ledger`; the last of a name counts. A
damage is remembered until a deep check finds the file sound, and holds as long as the file was not written since.
Every line ends with its own checksum, so that one that was torn, or rotted, is passed over. Writers take turns by
flock(2), and put a file with fewer lines in its place once most of them are old.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

from ocitui.cache import CacheError
from ocitui.cache.disk import Disk, Folder, storage_errors
from ocitui.cache.files import OWN_NAME, open_at_once

from .ledger_lines import (
    Damage,
    Damaged,
    Recorded,
    Sound,
    Stat,
    add_damage,
    damaged_line,
    no_longer_damaged,
    read_damaged,
    read_lines,
    sound_line,
)
from .own_folder import own_folder, taking_turns
from .reading import hash_file

__all__ = ["LEDGER_NAME", "Damage", "Ledger", "Recorded", "load_damaged", "record_stored"]

LEDGER_NAME = "ledger"
_LOCK_NAME, _DRAFT = "ledger.lock", "ledger.temporary"
_SLACK_LINES = 1000
_FORGOTTEN_SECONDS = 90 * 86_400


class Ledger:
    """The ledger of one cache. Reading takes no lock; any thread may call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._records: Sound = {}
        self._damaged: Damaged = {}
        self._waiting: list[bytes] = []
        self._lines = 0
        self.problem = ""

    @classmethod
    def open(cls, directory: Path) -> Ledger:
        """Read it; where it cannot be read it is empty, and ``problem`` says why."""
        ledger = cls(directory)
        try:
            data = _content(directory)
        except OSError as error:
            data, ledger.problem = b"", f"the ledger cannot be read: {error.strerror}"
        ledger._lines = read_lines(data, ledger._records, ledger._damaged)
        return ledger

    def __len__(self) -> int:
        return len(self._records)

    def look(self, name: str) -> Recorded | None:
        """What is known of the packed file of that name."""
        return self._records.get(name)

    def damage(self, name: str, found: Stat) -> Damage | None:
        """What a deep check found wrong with the packed file of that name, where it is still the same file."""
        return next((one for one in self._damaged.get(name, ()) if one.same_file(found)), None)

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
            no_longer_damaged(self._damaged, name, record)
            self._waiting.append(sound_line(name, record))
        return record

    def note_damage(
        self, name: str, found: Stat, code: str, seen: str, sha256: str = "", *, when: float | None = None
    ) -> Damage:
        """Note a damaged file by its finding, and the ``sha256`` that it ought to have, if that is what told; `flush`
        writes it down."""
        at = int(time.time() if when is None else when)
        damage = Damage(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, sha256, at, code, seen)
        with self._lock:
            add_damage(self._damaged, name, damage)
            self._waiting.append(damaged_line(name, damage))
        return damage

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
                if self._lines > 2 * (len(self._records) + len(self._damaged)) + _SLACK_LINES:
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
        """Write what counts of each name to a file that takes the ledger's place."""
        records: Sound = {}
        damaged: Damaged = {}
        read_lines(own.read(LEDGER_NAME), records, damaged)
        there, oldest = set(os.listdir(self._directory)), time.time() - _FORGOTTEN_SECONDS
        kept = {name: one for name, one in records.items() if name in there or one.checked > oldest}
        bad = {name: some for name, some in damaged.items() if name in there or some[-1].found > oldest}
        lines = [sound_line(name, record) for name, record in kept.items()]
        lines += [damaged_line(name, one) for name, some in bad.items() for one in some]
        disk = Disk()
        disk.unlink(own, _DRAFT)
        disk.write_new(own, _DRAFT, b"".join(lines))
        disk.replace(own, _DRAFT, own, LEDGER_NAME)
        disk.sync_folder(own)
        self._records, self._damaged, self._lines = kept, bad, len(lines)


def load_damaged(directory: Path) -> Damaged:
    """What deep checks found damaged, by name; none where there is no ledger. Raises OSError."""
    return read_damaged(_content(directory))


def _content(directory: Path) -> bytes:
    """The ledger's bytes, none where there is no ledger; a pipe in its place is not waited for. Raises OSError."""
    try:
        with open(directory / OWN_NAME / LEDGER_NAME, "rb", opener=open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            return file.read()
    except FileNotFoundError:
        return b""


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
