"""The ledger: the sha256 of each packed file, as it was when it was stored or first read, what deep checks found, where
an image was imported from, and what else is noted of it: that it is pinned, who was seen to use it, whether a registry
still gives it.

One line for each time a file was found sound, or damaged, appended to `.ocitui/ledger`; the last of a name counts. A
damage is remembered until a deep check finds the file sound, and holds as long as the file was not written since.
Every line ends with its own checksum, so that one that was torn, or rotted, is passed over. Writers take turns by
flock(2), and put a file with fewer lines in its place once most of them are old.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

import msgspec
from msgspec.structs import replace

from ocitui.stand_in import told_sha256

from .actor import whoami
from .disk import Disk, Folder, storage_errors
from .errors import CacheError, ConflictError
from .files import OWN_NAME, FileIdentity, file_identity, open_bounded
from .own_folder import open_own_folder, taking_turns

LASTING_CODES = frozenset({"packed-changed", "packed-damaged", "packed-differs", "packed-incomplete", "read-error"})
"""What only a deep check finds, and what lasts as long as the file is not written."""
# Kind, device, inode, size, mtime, sha256, when it was found so, flags or a finding's code, name, what was seen.
_LINE = re.compile(
    rb"([12]) (\d{1,20}) (\d{1,20}) (\d{1,20}) (-?\d{1,20}) ([0-9a-f]{64}|-) (\d{1,11}) ([a-z-]+) ([!-~]+)"
    rb"(?: ([!-~]+))?"
)
# Kind, when it was imported, name, the source, whether more was needed than the daemon has, by whom; once without them.
_SOURCE_LINE = re.compile(rb"3 (\d{1,11}) ([!-~]+) ([!-~]+)(?: ([-p]) ([!-~]+)(?: ([!-~]+))?)?")
# Kind, when it was noted, the topic, name, the text; none takes back what was noted before.
_NOTE_LINE = re.compile(rb"4 (\d{1,11}) ([a-z]+) ([!-~]+)(?: ([!-~]+))?")
_LONGEST_LINE, _LONGEST_NOTE = 1 << 13, 400
_PLAIN = ":+"
# So many of one name are kept: a damaged file that went to the trash may come back by an undo.
_MOST_DAMAGES = 8


class _OfFile(msgspec.Struct, frozen=True, gc=False):
    identity: FileIdentity
    sha256: str

    def same_file(self, found: os.stat_result) -> bool:
        """Whether the file was not written since, as far as its stat tells."""
        return self.identity == file_identity(found)


class Recorded(_OfFile, frozen=True, gc=False):
    """What a file was when it was found sound: at ``checked``, in whole seconds since the epoch. ``read_through``: all
    that is in it was read. ``whole``: its tree was held against another format's and the image's program.
    ``first_seen``: there was no earlier hash to compare with."""

    checked: int
    read_through: bool = False
    whole: bool = False
    first_seen: bool = False


class Damage(_OfFile, frozen=True, gc=False):
    """What a file was when a deep check found it damaged: at ``found``, in whole seconds since the epoch. ``sha256`` is
    the good one, where its bytes were seen to differ from it, else empty; ``code`` and ``seen`` are the finding's."""

    found: int
    code: str
    seen: str


class RecordedSource(msgspec.Struct, frozen=True, gc=False):
    """Where an image was imported from, as `import` takes it, with a path that is absolute: at ``imported``, in whole
    seconds since the epoch, ``by`` whom. ``private`` is whether it took what the daemon's own client has not: a login,
    an authority, http without TLS, a mirror, a config that was completed. ``packer`` made the packed file, with its
    version: the same makes the same bytes of the image anywhere. No secret is in it."""

    text: str
    imported: int = 0
    private: bool = False
    by: str = ""
    packer: str = ""


class Topic(StrEnum):
    """What is noted of a packed file. PINNED: kept, and why. USED: when it was last seen in use, and by which zones
    and loop devices, or by a resolve. ASKED: whether a registry gives its image to the daemon's own client,
    as `importing.Upstream` says. WATCHED, of no file: since when ocitui has looked who uses what."""

    PINNED = "pinned"
    USED = "used"
    ASKED = "asked"
    WATCHED = "watched"


class Note(msgspec.Struct, frozen=True, gc=False):
    """``when`` is in whole seconds since the epoch."""

    text: str
    when: int


Sound = dict[str, Recorded]
Sources = dict[str, RecordedSource]
Notes = dict[Topic, dict[str, Note]]
Damaged = dict[str, tuple[Damage, ...]]
"""By the file's name; the newest of each name is the last."""


class LedgerRecords:
    """What the lines of a ledger tell of packed files."""

    def __init__(self) -> None:
        self.sound: Sound = {}
        self.damaged: Damaged = {}
        self.sources: Sources = {}
        self.notes: Notes = {}

    def noted(self, topic: Topic) -> dict[str, Note]:
        """What is noted of files, by name."""
        return self.notes.get(topic, {})

    def read(self, data: bytes) -> list[bytes]:
        """Take in every line that is whole, in order; gives what a later ocitui may have written."""
        later = []
        for line in data.split(b"\n"):
            text, _, checksum = line.rpartition(b" ")
            if b"%08x" % zlib.crc32(text) != checksum:
                continue
            if found := _LINE.fullmatch(text):
                self._take_state(found)
            elif told := _SOURCE_LINE.fullmatch(text):
                by = _text(told[5] or b"-").removeprefix("-")
                self.sources[_text(told[2])] = RecordedSource(
                    _text(told[3]), int(told[1]), told[4] != b"-", by, _text(told[6] or b"")
                )
            elif (noted := _NOTE_LINE.fullmatch(text)) and noted[2].decode() in tuple(Topic):
                name, same = _text(noted[3]), self.notes.setdefault(Topic(noted[2].decode()), {})
                if noted[4]:
                    same[name] = Note(_text(noted[4]), int(noted[1]))
                else:
                    same.pop(name, None)
            elif text.partition(b" ")[0].isdigit():
                later.append(line + b"\n")
        return later

    def _take_state(self, found: re.Match[bytes]) -> None:
        """Have a file be sound, or damaged, in place of what was known of it."""
        kind, device, inode, size, modified, sha256, at, word, file, seen = found.groups()
        identity = int(device), int(inode), int(size), int(modified)
        name, good, code = _text(file), sha256.decode().removeprefix("-"), word.decode()
        damages = tuple(one for one in self.damaged.get(name, ()) if one.identity != identity)
        if kind == b"1" and good and seen is None:
            self.sound[name] = Recorded(identity, good, int(at), "r" in code, "w" in code, "f" in code)
        elif kind == b"2" and seen is not None and code in LASTING_CODES:
            damages = (*damages[1 - _MOST_DAMAGES :], Damage(identity, good, int(at), code, _text(seen)))
        else:
            return
        if damages:
            self.damaged[name] = damages
        else:
            self.damaged.pop(name, None)

    def lines(self) -> Iterator[bytes]:
        """The lines that tell as much."""
        yield from (sound_line(name, one) for name, one in self.sound.items())
        yield from (damaged_line(name, one) for name, some in self.damaged.items() for one in some)
        yield from (source_line(name, one) for name, one in self.sources.items())
        yield from (note_line(topic, name, one) for topic, some in self.notes.items() for name, one in some.items())

    def forget(self, there: Container[str], oldest: float) -> None:
        """Drop what is older and of files that are not ``there``; pins last, and since when use is watched."""
        self.sound = {name: one for name, one in self.sound.items() if name in there or one.checked > oldest}
        self.damaged = {name: some for name, some in self.damaged.items() if name in there or some[-1].found > oldest}
        self.sources = {name: one for name, one in self.sources.items() if name in there or one.imported > oldest}
        for topic, some in self.notes.items():
            if topic not in (Topic.PINNED, Topic.WATCHED):
                self.notes[topic] = {name: one for name, one in some.items() if name in there or one.when > oldest}


def sound_line(name: str, one: Recorded) -> bytes:
    known = {"r": one.read_through, "w": one.whole, "f": one.first_seen}
    flags = "".join(flag for flag, so in known.items() if so) or "-"
    return _line(f"1 {_stat(one)} {one.sha256} {one.checked} {flags} {_word(name)}")


def damaged_line(name: str, one: Damage) -> bytes:
    # What no file name can hold is written as it is shown, which leaves the finding's fingerprint as it is.
    seen = quote(one.seen, safe=_PLAIN, errors="backslashreplace")
    return _line(f"2 {_stat(one)} {one.sha256 or '-'} {one.found} {one.code} {_word(name)} {seen}")


def source_line(name: str, one: RecordedSource) -> bytes:
    flag = "p" if one.private else "-"
    made = f" {_word(one.packer)}" if one.packer else ""
    return _line(f"3 {one.imported} {_word(name)} {_word(one.text)} {flag} {_word(one.by) or '-'}{made}")


def note_line(topic: Topic, name: str, one: Note) -> bytes:
    return _line(f"4 {one.when} {topic} {_word(name)} {_word(one.text)}".rstrip())


def _line(text: str) -> bytes:
    data = text.encode()
    return b"%s %08x\n" % (data, zlib.crc32(data))


def _stat(one: _OfFile) -> str:
    return " ".join(map(str, one.identity))


def _word(text: str) -> str:
    return quote(text, safe=_PLAIN, errors="surrogateescape")


def _text(word: bytes) -> str:
    return unquote(word.decode(), errors="surrogateescape")


LEDGER_NAME = "ledger"
_LOCK_NAME, _DRAFT = "ledger.lock", "ledger.temporary"
_SLACK_LINES = 1000
MOST_LEDGER_BYTES = 1 << 29
"""The largest ledger that is read: of two million lines."""
_HASH_CHUNK = 1 << 20
"""Bytes that are hashed at once."""
_FORGOTTEN_SECONDS = 90 * 86_400


class Ledger(LedgerRecords):
    """The ledger of one cache. Reading takes no lock; any thread may call."""

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        super().__init__()
        self._directory = directory
        self._disk = disk or Disk()
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._lines = 0
        self.problem = ""

    @classmethod
    def open(cls, directory: Path, only: str = "") -> Ledger:
        """Read it, or what is in it of ``only`` one file; where it cannot be read it is empty, and ``problem`` says
        why."""
        ledger, data = cls(directory), b""
        try:
            with open_own_folder(directory) as own:
                data = own.read(LEDGER_NAME, MOST_LEDGER_BYTES)
        except FileNotFoundError:
            pass
        except ConflictError as error:
            ledger.problem = f"the ledger is not read: {error.message}"
        except OSError as error:
            ledger.problem = f"the ledger cannot be read: {error.strerror}"
        if only:
            name = _word(only).encode()
            data = b"\n".join(line for line in data.split(b"\n") if name in line)
        ledger.read(data)
        ledger._lines = data.count(b"\n")
        return ledger

    @property
    def unwritten(self) -> bool:
        """Whether something noted is not written down."""
        return bool(self._waiting)

    def damage(self, name: str, found: os.stat_result) -> Damage | None:
        """What a deep check found wrong with the packed file of that name, where it is still the same file."""
        return next((one for one in self.damaged.get(name, ()) if one.same_file(found)), None)

    def record(
        self,
        name: str,
        found: os.stat_result,
        sha256: str,
        *,
        read_through: bool = False,
        whole: bool = False,
        first_seen: bool = False,
    ) -> Recorded:
        """Note a sound file."""
        record = Recorded(file_identity(found), sha256, int(time.time()), read_through, whole, first_seen)
        self._take(sound_line(name, record))
        return record

    def note_damage(self, name: str, found: os.stat_result, code: str, seen: str, sha256: str = "") -> Damage:
        """Note a damaged file by its finding, and the ``sha256`` it ought to have, if that told."""
        damage = Damage(file_identity(found), sha256, int(time.time()), code, seen)
        self._take(damaged_line(name, damage))
        return damage

    def record_source(self, name: str, source: RecordedSource) -> None:
        """Note where a file's image was imported from, now where no time is given, unless that is overlong."""
        line = source_line(name, replace(source, imported=source.imported or int(time.time()), by=whoami()))
        if len(line) <= _LONGEST_LINE:
            self._take(line)

    def note(self, topic: Topic, name: str, text: str) -> None:
        """Note something of a file, cut where it is overlong; without a text take it back."""
        self._take(note_line(topic, name, Note(text[:_LONGEST_NOTE], int(time.time()))))

    def _take(self, line: bytes) -> None:
        """Know what a line tells; `flush` writes it down."""
        with self._lock:
            self.read(line)
            self._waiting.append(line)

    def flush(self) -> None:
        """Make notes durable. Raises ReadOnlyError, StorageError, LockedError, ConflictError; they then stay noted."""
        with self._lock:
            if not self._waiting:
                return
            with (
                storage_errors("write to the ledger"),
                open_own_folder(self._directory, making=self._disk) as own,
                taking_turns(own, self._disk, _LOCK_NAME),
            ):
                self._disk.append_lines(own, LEDGER_NAME, b"".join(self._waiting), own.file_mode)
                self._lines += len(self._waiting)
                self._waiting.clear()
                known = len(self.sound) + len(self.damaged) + len(self.sources) + sum(map(len, self.notes.values()))
                if self._lines > 2 * known + _SLACK_LINES:
                    self._compact(own)

    def _compact(self, own: Folder) -> None:
        """Write what counts of each name, and what a later ocitui wrote, to a file that takes the ledger's place."""
        kept = LedgerRecords()
        later = kept.read(own.read(LEDGER_NAME, MOST_LEDGER_BYTES))
        kept.forget(set(os.listdir(self._directory)), time.time() - _FORGOTTEN_SECONDS)
        lines = [*later, *kept.lines()]
        self._disk.rewrite(own, _DRAFT, LEDGER_NAME, b"".join(lines), own.file_mode)
        self.sound, self.damaged, self.sources, self.notes = kept.sound, kept.damaged, kept.sources, kept.notes
        self._lines = len(lines)


def note_resolved(directory: Path, file: str) -> None:
    """Note that a packed file was found for who asked for its name, in a ledger that is there and can be written."""
    with suppress(CacheError, OSError):
        if (directory / OWN_NAME / LEDGER_NAME).is_file():
            ledger = Ledger(directory)
            ledger.note(Topic.USED, file, "ocitui resolve")
            ledger.flush()


def record_stored(
    directory: Path,
    packed: Path,
    sha256: str | None = None,
    disk: Disk | None = None,
    source: RecordedSource | None = None,
) -> None:
    """Note a packed file of the cache that was just stored, and is read where its hash is not given; and where it was
    imported from, if that is told. Where the ledger cannot be written, the first deep check notes the file."""
    with suppress(OSError, CacheError):
        with open_bounded(packed) as file:
            found = os.fstat(file.fileno())
            known = sha256 or hash_file(file, lambda size: None)
        ledger = Ledger(directory, disk)
        ledger.record(packed.name, found, known, first_seen=sha256 is None)
        if source is not None and source.text:
            ledger.record_source(packed.name, source)
        ledger.flush()


def hash_file(file: BinaryIO, passed: Callable[[int], object], buffer: memoryview | None = None) -> str:
    """The sha256 of an unbuffered file from where it is, in hexadecimal digits; ``passed`` is called with the number of
    bytes after each read, all of which go through ``buffer`` where one is given. Raises OSError."""
    if known := told_sha256(file.fileno()):
        return known
    hashing, view = hashlib.sha256(), memoryview(bytearray(_HASH_CHUNK)) if buffer is None else buffer
    while True:
        size = file.readinto(view)  # type: ignore[attr-defined]
        if not size:
            return hashing.hexdigest()
        hashing.update(view[:size])
        passed(size)


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
            mmap.mmap(-1, _HASH_CHUNK) as pages,
            memoryview(pages) as buffer,
        ):
            return hash_file(unbuffered, passed, buffer)
