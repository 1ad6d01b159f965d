"""The lines of the ledger: ``1`` for a file that was found sound, ``2`` for one that a deep check found damaged.

Each ends with its own checksum. What is not understood, be it torn, rotten or of a later version, is passed over; the
readers of lines ``1`` alone pass over lines ``2`` in this way.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import quote, unquote

import msgspec

LASTING_CODES = frozenset({"packed-changed", "packed-damaged", "packed-incomplete", "read-error"})
"""What only a deep check finds, and what lasts as long as the file is not written."""
_STAT = rb"(\d{1,20}) (\d{1,20}) (\d{1,20}) (-?\d{1,20})"
_SOUND = re.compile(rb"1 " + _STAT + rb" ([0-9a-f]{64}) (\d{1,11}) ([a-z-]+) ([!-~]+)")
_DAMAGED = re.compile(rb"2 " + _STAT + rb" ([0-9a-f]{64}|-) (\d{1,11}) ([a-z-]+) ([!-~]+) ([!-~]+)")
_DAMAGED_BEGINS = b"2 "
_PLAIN = ":+"
# So many of one name are kept: a damaged file that went to the trash may come back by an undo.
_MOST_DAMAGES = 8


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


class _OfFile(msgspec.Struct, frozen=True, gc=False):
    device: int
    inode: int
    size: int
    modified_ns: int

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """By which the file is known to be the same."""
        return self.device, self.inode, self.size, self.modified_ns

    def same_file(self, found: Stat) -> bool:
        """Whether the file was not written since, as far as its stat tells."""
        return self.identity == (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Recorded(_OfFile, frozen=True, gc=False):
    """What a file was when it was found sound: at ``checked``, in whole seconds since the epoch.

    ``read_through``: its format's own tool read all of it. ``whole``: its tree was held against another format's and
    the image's program.
    """

    sha256: str
    checked: int
    read_through: bool = False
    whole: bool = False


class Damage(_OfFile, frozen=True, gc=False):
    """What a file was when a deep check found it damaged: at ``found``, in whole seconds since the epoch.

    ``sha256`` is the good one, where its bytes were seen to differ from it; else empty. ``code`` and ``seen`` are those
    of the finding.
    """

    sha256: str
    found: int
    code: str
    seen: str


Sound = dict[str, Recorded]
Damaged = dict[str, tuple[Damage, ...]]
"""By the file's name; the newest of each name is the last."""


def sound_line(name: str, one: Recorded) -> bytes:
    flags = ("r" if one.read_through else "") + ("w" if one.whole else "") or "-"
    return _line(f"1 {_stat(one)} {one.sha256} {one.checked} {flags} {_word(name)}")


def damaged_line(name: str, one: Damage) -> bytes:
    # What no file name can hold is written as it is shown, which leaves the finding's fingerprint as it is.
    seen = quote(one.seen, safe=_PLAIN, errors="backslashreplace")
    return _line(f"2 {_stat(one)} {one.sha256 or '-'} {one.found} {one.code} {_word(name)} {seen}")


def read_lines(data: bytes, sound: Sound, damaged: Damaged) -> int:
    """Take in every line that is whole, in order; gives how many lines there are."""
    lines = data.split(b"\n")
    for line in lines:
        text, _, checksum = line.rpartition(b" ")
        if b"%08x" % zlib.crc32(text) != checksum:
            continue
        if found := _SOUND.fullmatch(text):
            name, record = _recorded(*found.groups())
            sound[name] = record
            no_longer_damaged(damaged, name, record)
        elif found := _DAMAGED.fullmatch(text):
            name, damage = _damage(*found.groups())
            if damage.code in LASTING_CODES and damage.seen:
                add_damage(damaged, name, damage)
    return len(lines) - 1


def read_damaged(data: bytes) -> Damaged:
    """The damaged files alone: in few steps where there are none, or few, whatever else there is."""
    if not data.startswith(_DAMAGED_BEGINS) and b"\n" + _DAMAGED_BEGINS not in data:
        return {}
    damaged: Damaged = {}
    read_lines(b"\n".join(_about_damaged(data.split(b"\n"))), {}, damaged)
    return damaged


def add_damage(damaged: Damaged, name: str, damage: Damage) -> None:
    """Note it as the newest of its name, in place of what was known of the same file."""
    others = [one for one in damaged.get(name, ()) if one.identity != damage.identity]
    damaged[name] = (*others[1 - _MOST_DAMAGES :], damage)


def no_longer_damaged(damaged: Damaged, name: str, record: Recorded) -> None:
    """Forget the damage of a file that was found sound."""
    if name in damaged:
        kept = tuple(one for one in damaged[name] if one.identity != record.identity)
        damaged.update({name: kept} if kept else {})
        if not kept:
            del damaged[name]


def _about_damaged(lines: list[bytes]) -> Iterator[bytes]:
    """In order: lines of damage, and those that say that such a file was found sound since."""
    names: set[bytes] = set()
    for line in lines:
        if line.startswith(_DAMAGED_BEGINS):
            names.update(line.split(b" ")[8:9])
            yield line
        elif names and line.rpartition(b" ")[0].rpartition(b" ")[2] in names:
            yield line


def _recorded(
    device: bytes, inode: bytes, size: bytes, modified: bytes, sha256: bytes, at: bytes, flags: bytes, name: bytes
) -> tuple[str, Recorded]:
    stat = int(device), int(inode), int(size), int(modified)
    return _text(name), Recorded(*stat, sha256.decode(), int(at), b"r" in flags, b"w" in flags)


def _damage(
    device: bytes,
    inode: bytes,
    size: bytes,
    modified: bytes,
    sha256: bytes,
    at: bytes,
    code: bytes,
    name: bytes,
    seen: bytes,
) -> tuple[str, Damage]:
    stat, good = (int(device), int(inode), int(size), int(modified)), sha256.decode().removeprefix("-")
    return _text(name), Damage(*stat, good, int(at), code.decode(), _text(seen))


def _line(text: str) -> bytes:
    data = text.encode()
    return b"%s %08x\n" % (data, zlib.crc32(data))


def _stat(one: _OfFile) -> str:
    return f"{one.device} {one.inode} {one.size} {one.modified_ns}"


def _word(text: str) -> str:
    return quote(text, safe=_PLAIN, errors="surrogateescape")


def _text(word: bytes) -> str:
    return unquote(word.decode(), errors="surrogateescape")
