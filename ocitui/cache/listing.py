"""The names of a cache directory with their stat, in columns: by one listing, kept up to date name by name.

A row for each digest, in it a place for each file that its entries may have. Any other name has its own `Fact`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from copy import copy, deepcopy
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import msgspec

from ocitui.stand_in import as_told, told_file

from .errors import CacheDirectoryError
from .files import (
    MOST_DOCUMENT_BYTES,
    READ_FLAGS,
    USUAL_DIGEST,
    FileIdentity,
    FileKind,
    PackedFormat,
    bounded,
    check_directory,
    config_name,
    manifest_name,
    too_large,
    usual_digest,
    valid_digest,
)

FILE_SUFFIXES: dict[str, FileKind | PackedFormat] = {
    manifest_name("")[1:]: FileKind.MANIFEST,
    config_name("")[1:]: FileKind.CONFIG,
    **{str(format_): format_ for format_ in PackedFormat},
}
"""What follows the digest and a dot, in the order of a row's places."""
PLACE_OF_SUFFIX = {suffix: place for place, suffix in enumerate(FILE_SUFFIXES)}
MANIFEST_PLACE, CONFIG_PLACE, FIRST_PACKED, ROW_WIDTH = 0, 1, 2, len(FILE_SUFFIXES)
_ENDINGS = "|".join(re.escape(suffix) for suffix in FILE_SUFFIXES)
_USUAL = re.compile(rf"({USUAL_DIGEST})\.({_ENDINGS})").fullmatch
_ANY = re.compile(rf"([^/]+:[^/]+)\.({_ENDINGS})").fullmatch
_USUAL_LENGTH, _MORE_ROWS = 71, 256
_PLAIN_MASK, _PLAIN = 0o170000 | stat.S_IRUSR, stat.S_IFREG | stat.S_IRUSR
_TOLD_EVERY = 4096
_FILES_OF_ONE = 3


def is_plain(mode: int) -> bool:
    """Whether it is that of a regular file that its owner may read."""
    return mode & _PLAIN_MASK == _PLAIN


class Fact(msgspec.Struct, frozen=True, gc=False):
    """A name of the directory, links not followed. ``failed`` is the error where its stat could not be had, else 0."""

    mode: int
    size: int = 0
    modified_ns: int = 0
    changed_ns: int = 0
    inode: int = 0
    device: int = 0
    links: int = 1
    failed: int = 0

    @classmethod
    def of(cls, found: os.stat_result) -> Fact:
        times = found.st_mtime_ns, found.st_ctime_ns
        return cls(found.st_mode, found.st_size, *times, found.st_ino, found.st_dev, found.st_nlink)

    @property
    def identity(self) -> FileIdentity:
        """By which a file is known to be the same."""
        return self.device, self.inode, self.size, self.modified_ns

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def word(self) -> str:
        """What it is, for a message."""
        kinds = {
            stat.S_IFREG: "a regular file",
            stat.S_IFDIR: "a directory",
            stat.S_IFLNK: "a link",
            stat.S_IFIFO: "a pipe",
            stat.S_IFSOCK: "a socket",
        }
        return kinds.get(stat.S_IFMT(self.mode), "a device")


class CacheFiles(AbstractContextManager["CacheFiles"]):
    """An open cache directory, for reading. Every method raises OSError as the system does; a test may fail them."""

    def __init__(self, directory: Path) -> None:
        """Raises CacheDirectoryError where it cannot be opened and listed."""
        check_directory(directory)
        self.directory = directory
        try:
            self.fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CacheDirectoryError(f"{directory} cannot be opened: {error.strerror}") from error

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def items(self) -> Iterable[os.DirEntry[str]]:
        """Every name, as it is listed. Raises CacheDirectoryError."""
        try:
            with os.scandir(self.fd) as found:
                yield from found
        except OSError as error:
            raise CacheDirectoryError(f"{self.directory} cannot be listed: {error.strerror}") from error

    @staticmethod
    def lstat_item(item: os.DirEntry[str]) -> os.stat_result:
        return as_told(item.stat(follow_symlinks=False))

    def lstat(self, name: str) -> os.stat_result:
        return as_told(os.stat(name, dir_fd=self.fd, follow_symlinks=False))

    def fact(self, name: str) -> Fact | None:
        """None where nothing has the name."""
        try:
            return Fact.of(self.lstat(name))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return Fact(0, failed=getattr(error, "errno", None) or errno.EINVAL)

    def target(self, name: str) -> Fact | None:
        """What a link leads to; None where that is nothing, or lies outside the cache."""
        try:
            target = (self.directory / name).resolve(strict=True)
            found = os.stat(target)
        except (OSError, RuntimeError):
            return None
        if target.parent != self.directory.resolve():
            return None
        return Fact(found.st_mode, found.st_size)

    def open_fd(self, name: str) -> int:
        fd = os.open(name, READ_FLAGS, dir_fd=self.fd)
        if (told := told_file(fd)) is not None and told.error:
            os.close(fd)
            raise OSError(told.error, os.strerror(told.error), name)
        return fd

    def open(self, name: str) -> BinaryIO:
        """A regular file for reading, never waited for; what is none raises OSError."""
        return bounded(self.open_fd(name), name)

    def read(self, name: str, size: int) -> bytes:
        """A document whole; ``size`` is what it is thought to have. EFBIG for more than `MOST_DOCUMENT_BYTES`."""
        fd = self.open_fd(name)
        try:
            data = os.read(fd, min(size, MOST_DOCUMENT_BYTES) + 1)
            if len(data) == size <= MOST_DOCUMENT_BYTES:
                return data
            while (left := MOST_DOCUMENT_BYTES - len(data)) >= 0 and (more := os.read(fd, left + 1)):
                data += more
            if left < 0:
                raise too_large(MOST_DOCUMENT_BYTES)
            return data
        finally:
            os.close(fd)


class Listing:
    """Every name of a directory; `read` makes one, `refresh` looks at some names again. ``digests`` are those that have
    a row, in order, ``rows`` the number of each, and ``others`` the facts of all other names. A row whose files are
    gone stays, with nothing in it."""

    def __init__(self, digests: Iterable[str] = ()) -> None:
        """``digests`` are given the first rows, as they stand, so that their text is held once."""
        self.digests = list(dict.fromkeys(digests))
        self.rows = {digest: row for row, digest in enumerate(self.digests)}
        self.others: dict[str, Fact] = {}
        # One value for each place of each row, and of some rows to come; a mode of 0 is a name that is not there.
        self.modes, self.sizes, self._reserved = array("H"), array("q"), 0
        # By suffix, as hardly any cache has all formats: in each row the inode, and when content and inode changed.
        self._stats: list[tuple[array[int], array[int], array[int]] | None] = [None] * ROW_WIDTH
        self._reserve(len(self.digests))
        self.odd: dict[int, Fact] = {}
        """By place, what has more to it than the columns hold: several names, another device, no stat."""
        self._device = 0

    @classmethod
    def read(
        cls, files: CacheFiles, digests: Iterable[str] = (), told: Callable[[int, int], object] | None = None
    ) -> Listing:
        """List a directory, with one stat for each name. ``told`` is called now and then with how many names were seen,
        and how many these digests make likely; it may raise to stop. Raises CacheDirectoryError."""
        listing = cls(digests)
        listing._device = as_told(os.fstat(files.fd)).st_dev
        lstat, put, device = files.lstat_item, listing.put, listing._device
        rows, places, is_usual = listing.rows, PLACE_OF_SUFFIX, usual_digest
        modes, sizes, stats = listing.modes, listing.sizes, listing._stats
        likely = len(rows) * _FILES_OF_ONE
        # None is kept: each holds its stat.
        for at, item in enumerate(files.items()):
            name = item.name
            row, place = rows.get(name[:_USUAL_LENGTH]), places.get(name[_USUAL_LENGTH + 1 :])
            try:
                found = lstat(item)
                other = found.st_nlink != 1 or found.st_dev != device
                if row is None and place is not None and is_usual(name, 0, _USUAL_LENGTH):
                    row = listing.add_row(name[:_USUAL_LENGTH])
                if row is None or place is None or other or name[_USUAL_LENGTH] != ".":
                    put(name, Fact.of(found))
                else:
                    inodes, modified, changed = stats[place] or listing._stats_of(place)
                    inodes[row], modified[row], changed[row] = found.st_ino, found.st_mtime_ns, found.st_ctime_ns
                    place += row * ROW_WIDTH
                    modes[place], sizes[place] = found.st_mode, found.st_size
            except FileNotFoundError:
                continue
            except OSError as error:
                put(name, Fact(0, failed=error.errno or errno.EIO))
            if told is not None and not at % _TOLD_EVERY:
                told(at, max(at, likely))
        return listing

    def copy(self) -> Listing:
        """The same as it is now, for who goes on from it while this one is kept up to date."""
        same = copy(self)
        vars(same).update((name, copy(held)) for name, held in vars(self).items())
        same._stats = deepcopy(self._stats)
        return same

    def refresh(self, files: CacheFiles, names: Iterable[str]) -> set[str]:
        """Look at these names again; gives those that changed."""
        changed: set[str] = set()
        self._device = self._device or as_told(os.fstat(files.fd)).st_dev
        for name in names:
            before, now = self.get(name), files.fact(name)
            if before != now:
                changed.add(name)
                self.put(name, now)
        return changed

    def digests_changed(self, before: Listing) -> Iterator[str]:
        """The digests of which an older listing has a file otherwise, or not, and those of which only it has one."""
        if not before.digests:
            yield from self.held()
            return
        gone = (digest for digest in before.digests if digest not in self.rows)
        for digest in chain(self.digests, gone):
            if self._row(digest) != before._row(digest):
                yield digest

    def get(self, name: str) -> Fact | None:
        """A name's fact; None where nothing has the name."""
        found = self._place_of(name)
        return self.others.get(name) if found is None else self.fact(found)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def fact(self, place: int) -> Fact | None:
        """What is at a place of the columns."""
        if (fact := self.odd.get(place)) is not None:
            return fact
        mode = self.modes[place]
        if not mode:
            return None
        inode, modified, changed = self.stat_at(place)
        return Fact(mode, self.sizes[place], modified, changed, inode, self._device)

    def stat_at(self, place: int) -> tuple[int, int, int]:
        """The inode, and when the file and its inode were changed, in nanoseconds since the epoch."""
        row, suffix = divmod(place, ROW_WIDTH)
        inodes, modified, changed = self._stats_of(suffix)
        return inodes[row], modified[row], changed[row]

    def place(self, digest: str, suffix: int) -> int | None:
        """The place of a digest's file; None where the digest has no row."""
        row = self.rows.get(digest)
        return None if row is None else row * ROW_WIDTH + suffix

    def plain(self, place: int) -> bool:
        """Whether there is a regular file with one name that its owner may read."""
        return is_plain(self.modes[place]) and (not self.odd or place not in self.odd)

    def has(self, place: int) -> bool:
        return bool(self.modes[place]) or place in self.odd

    def __len__(self) -> int:
        """How many names there are."""
        return self.files + len(self.others)

    def name_at(self, place: int) -> str:
        return f"{self.digests[place // ROW_WIDTH]}.{_SUFFIX_AT[place % ROW_WIDTH]}"

    # What there is of each digest

    @property
    def files(self) -> int:
        """How many files of entries there are."""
        return self.there().count(1)

    @property
    def complete(self) -> int:
        """How many packed files have both documents beside them."""
        there = self.there()
        rows = [int.from_bytes(there[place::ROW_WIDTH]) for place in range(ROW_WIDTH)]
        whole = rows[MANIFEST_PLACE] & rows[CONFIG_PLACE]
        return sum((whole & packed).bit_count() for packed in rows[FIRST_PACKED:])

    def there(self) -> bytearray:
        """A 1 for each place where there is a file, else a 0."""
        there = bytearray(map(bool, self.modes))
        for place in self.odd:
            there[place] = 1
        return there

    @property
    def packed_bytes(self) -> int:
        """What all packed files hold."""
        return sum(sum(self.sizes[place::ROW_WIDTH]) for place in range(FIRST_PACKED, ROW_WIDTH))

    def held(self) -> Iterator[str]:
        """The digests of which there is a file."""
        there = self.there()
        rows = (there[at : at + ROW_WIDTH] for at in range(0, len(there), ROW_WIDTH))
        return (digest for digest, row in zip(self.digests, rows, strict=False) if 1 in row)

    def formats(self, digest: str) -> list[PackedFormat]:
        """The formats of its packed files."""
        if (row := self.rows.get(digest)) is None:
            return []
        at, modes, odd = row * ROW_WIDTH, self.modes, self.odd
        return [kind for place, kind in _FORMATS if modes[at + place] or at + place in odd]

    def incomplete(self, keys: Iterable[tuple[str, str | None]]) -> Iterator[int]:
        """Which of these digests and formats, by their number, lack one of their three files."""
        there, rows = self.there(), self.rows
        for number, (digest, format_) in enumerate(keys):
            row, place = rows.get(digest), PLACE_OF_SUFFIX.get(format_ or "", MANIFEST_PLACE)
            of_row = bytes(ROW_WIDTH) if row is None else there[row * ROW_WIDTH : row * ROW_WIDTH + ROW_WIDTH]
            if place < FIRST_PACKED or not (of_row[MANIFEST_PLACE] and of_row[CONFIG_PLACE] and of_row[place]):
                yield number

    def documents(self, digest: str) -> list[FileKind]:
        """Which of its two there are."""
        row = self.rows.get(digest)
        return [] if row is None else [kind for place, kind in _DOCUMENTS if self.has(row * ROW_WIDTH + place)]

    def _stats_of(self, suffix: int) -> tuple[array[int], array[int], array[int]]:
        """The columns of inodes, and of both times in nanoseconds, of all files with a suffix, by their rows."""
        if (columns := self._stats[suffix]) is None:
            columns = self._stats[suffix] = array("Q"), array("q"), array("q")
            _lengthen(columns, self._reserved)
        return columns

    def _reserve(self, rows: int) -> None:
        """Have room for so many rows more."""
        self._reserved += rows
        _lengthen((self.modes, self.sizes), rows * ROW_WIDTH)
        for columns in filter(None, self._stats):
            _lengthen(columns, rows)

    def _row(self, digest: str) -> tuple[object, ...]:
        """All that is known of a digest's files; empty where it has none."""
        row = self.rows.get(digest)
        if row is None:
            return ()
        places = slice(row * ROW_WIDTH, row * ROW_WIDTH + ROW_WIDTH)
        odd = [self.odd.get(place) for place in range(len(self.modes))[places]] if self.odd else _NOT_ODD
        modes = self.modes[places]
        stats = [tuple(map(itemgetter(row), at)) for mode, at in zip(modes, self._stats, strict=True) if mode and at]
        return (modes, self.sizes[places], stats, odd, self._device) if stats or any(odd) else ()

    def _place_of(self, name: str) -> int | None:
        row, suffix = self.rows.get(name[:_USUAL_LENGTH]), PLACE_OF_SUFFIX.get(name[_USUAL_LENGTH + 1 :])
        if row is not None and suffix is not None and name[_USUAL_LENGTH] == ".":
            return row * ROW_WIDTH + suffix
        part = part_of(name)
        return None if part is None else self.place(part[0], _PLACE_OF[part[1]])

    def put(self, name: str, fact: Fact | None) -> None:
        """Note what a name is by now; None where nothing has it."""
        part = part_of(name)
        if part is None:
            self.others.pop(name, None)
            if fact is not None:
                self.others[name] = fact
            return
        row = self.rows.get(part[0])
        if row is None:
            row = self.add_row(part[0])
        place = row * ROW_WIDTH + _PLACE_OF[part[1]]
        self.odd.pop(place, None)
        one = fact or Fact(0)
        self.modes[place], self.sizes[place] = one.mode, one.size
        inodes, modified, changed = self._stats_of(_PLACE_OF[part[1]])
        inodes[row], modified[row], changed[row] = one.inode, one.modified_ns, one.changed_ns
        if fact is not None and (fact.failed or fact.links != 1 or fact.device != self._device):
            self.odd[place] = fact

    def add_row(self, digest: str) -> int:
        """A row for a digest that has none yet."""
        row = self.rows[digest] = len(self.digests)
        self.digests.append(digest)
        if row >= self._reserved:
            self._reserve(_MORE_ROWS)
        return row


def _lengthen(columns: Iterable[array[int]], by: int) -> None:
    for column in columns:
        column.frombytes(bytes(by * column.itemsize))


_SUFFIX_AT = list(FILE_SUFFIXES)
_PLACE_OF = {kind: place for place, kind in enumerate(FILE_SUFFIXES.values())}
_FORMATS = [(place, kind) for place, kind in enumerate(FILE_SUFFIXES.values()) if isinstance(kind, PackedFormat)]
_DOCUMENTS = [(place, kind) for place, kind in enumerate(FILE_SUFFIXES.values()) if isinstance(kind, FileKind)]
_NOT_ODD = [None] * ROW_WIDTH


def part_of(name: str) -> tuple[str, FileKind | PackedFormat] | None:
    """The digest, and the kind of document or the format; None for a name that no entry's file has."""
    found = _USUAL(name) or _ANY(name)
    if found is None or (len(found[1]) != _USUAL_LENGTH and not valid_digest(found[1])):
        return None
    return found[1], FILE_SUFFIXES[found[2]]
