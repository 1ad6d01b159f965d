"""The digest of a tree: the same for one image in all formats, on every host, whoever packed it.

It is the sha256 of a text, a line a path in the order of their bytes, that `help/contents.md` fixes. Three levels come
of it: ``content`` leaves out what some packers lose (the root's attributes, times, extended attributes), ``xattrs`` has
the attributes that all formats hold, ``full`` has all. What no format keeps alike is in none: sizes and link counts of
directories, modes of symbolic links, sockets, sparseness.

The text is kept beside the packed file that it is of, so that what is inside can be told and compared without it:
`.ocitui/lines` has one for each packed file, of the level ``full``, compressed, behind which stands, where zstd passes
over it, what finds a path in a tar without reading all of its headers. It is of a file with a certain sha256,
so that what comes back by an undo, or came from elsewhere, finds its own, and what changed none. Where one is damaged
or cut it is as if it were not there; nothing but time is lost. It stays when its file goes, until there is no room.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ocitui.cache import (
    LINES_NAME,
    CacheError,
    Disk,
    Folder,
    Ledger,
    PackedFormat,
    StorageError,
    open_own_folder,
    storage_errors,
    taking_turns,
)
from ocitui.stand_in import as_told
from ocitui.text import escaped, unescaped
from ocitui.threads import Stop

from .tree import (
    MOST_LISTED,
    ROOT,
    BulkReader,
    DamagedError,
    IndexedReader,
    Inode,
    PackedTree,
    UnreadableFormatError,
    open_tree,
)
from .unpacking import unpack_zstd

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK = 1 << 20
_XATTRS = (b"user.", b"trusted.", b"security.")
_SORTS = {
    stat.S_IFDIR: "d",
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
    stat.S_IFIFO: "p",
}


TEXT_HEAD = re.compile("packed-tree 1 (content|xattrs|full)")
"""The first line of a digest's text."""
_MTIME = re.compile(r" mtime=-?\d+")


class TreeLevel(StrEnum):
    """How much of a tree a digest is of."""

    CONTENT = "content"
    XATTRS = "xattrs"
    FULL = "full"


def tree_digest(
    tree: PackedTree, level: TreeLevel, stop: Stop, passed: Callable[[int], object] = lambda size: None
) -> str:
    """``sha256:`` and the hash of `digest_lines`. Raises ContentsError, also where a part of the tree is damaged,
    OSError, AbandonedError."""
    return text_digest(digest_lines(tree, level, stop, passed))


def text_digest(lines: Iterable[str]) -> str:
    """``sha256:`` and the hash of a text."""
    hashed = hashlib.sha256()
    for line in lines:
        hashed.update(line.encode())
    return f"sha256:{hashed.hexdigest()}"


def digest_lines(
    tree: PackedTree,
    level: TreeLevel,
    stop: Stop,
    passed: Callable[[int], object] = lambda size: None,
    hash_of: Callable[[int], bytes] | None = None,
) -> Iterator[str]:
    """The text of a digest, line by line; ``passed`` is told the bytes of files that were read, which all are but those
    whose hash is known, unless ``hash_of`` gives the sha256 of an entry. Raises as `tree_digest`."""
    if tree.damage:
        raise DamagedError(f"it has no digest, as a part of it cannot be read: {tree.damage[0][1]}")
    hash_of = hash_of or _hashed(tree, stop, passed)
    first = {number: "" for number, next in pairwise(sorted(tree.numbers)) if number == next}
    yield f"packed-tree 1 {level}\n"
    for path, entry in sorted_entries(tree):
        stop.check()
        sort, name, number = _SORTS[tree.kind(entry)], _spelled(path), tree.numbers[entry]
        if number in first and sort != "d":
            if first[number]:
                yield f"{name} {sort} link={first[number]}\n"
                continue
            first[number] = name
        yield f"{name} {sort}{_attributes(tree, entry, sort, hash_of)}{_more(tree, entry, level)}\n"


def at_level(line: str, level: TreeLevel) -> str:
    """What a line of the level ``full`` is at another."""
    if line.startswith("packed-tree "):
        return f"packed-tree 1 {level}\n"
    if level is TreeLevel.FULL:
        return line
    if line.startswith("/ "):
        return "/ d\n"
    return line.partition(" mtime=")[0].rstrip("\n") + "\n" if level is TreeLevel.CONTENT else _MTIME.sub("", line, 1)


def sorted_entries(tree: PackedTree) -> Iterator[tuple[bytes, int]]:
    """All that a digest is of, by the bytes of their paths, which stand before them. Raises DamagedError where these
    are longer together than a tree's are."""
    paths = _paths(tree)
    for entry in sorted(range(len(tree)), key=paths.__getitem__):
        if tree.kind(entry) in _SORTS:
            yield paths[entry], entry


def kept_xattrs(tree: PackedTree, entry: int) -> dict[bytes, bytes]:
    """Those of its extended attributes that all formats hold. Raises ContentsError, OSError."""
    return {name: value for name, value in tree.xattrs(entry).items() if name.startswith(_XATTRS)}


def _attributes(tree: PackedTree, entry: int, sort: str, hash_of: Callable[[int], bytes]) -> str:
    """What every level has of an entry but the root; each behind a blank, here and in `_more`."""
    if entry == ROOT:
        return ""
    owner = f" {tree.uids[entry]}:{tree.gids[entry]}"
    if sort == "l":
        return f"{owner} ->{_escaped(tree.target(entry))}"
    told = f" {stat.S_IMODE(tree.modes[entry]):04o}{owner}"
    if sort == "f":
        return f"{told} {tree.sizes[entry]} sha256:{hash_of(entry).hex()}"
    return told + " {},{}".format(*tree.devices.get(entry, (0, 0))) if sort in "bc" else told


def _more(tree: PackedTree, entry: int, level: TreeLevel) -> str:
    """What only some levels have of it."""
    told = ""
    if level is TreeLevel.CONTENT or (entry == ROOT and level is TreeLevel.XATTRS):
        return told
    if level is TreeLevel.FULL:
        if entry == ROOT:
            told = f" {stat.S_IMODE(tree.modes[ROOT]):04o} {tree.uids[ROOT]}:{tree.gids[ROOT]}"
        told += f" mtime={tree.mtimes[entry]}"
    if kept := kept_xattrs(tree, entry):
        told += "".join(f" x:{_escaped(name)}={value.hex()}" for name, value in sorted(kept.items()))
    return told


def _hashed(tree: PackedTree, stop: Stop, passed: Callable[[int], object]) -> Callable[[int], bytes]:
    """What gives the sha256 of a regular file, once all are known."""

    def keep(entry: int, hash: bytes) -> None:
        tree.hashes[tree.numbers[entry]] = hash

    hash_files(tree, keep, stop, passed)
    return lambda entry: tree.hashes[tree.numbers[entry]]


def hash_files(
    tree: PackedTree,
    take: Callable[[int, bytes], object],
    stop: Stop,
    passed: Callable[[int], object] = lambda size: None,
) -> None:
    """Have the sha256 of the regular files taken that is not known, of each inode by one of its entries, in the order
    in which they lie. Raises ContentsError, OSError, AbandonedError, and what ``take`` raises."""
    left = tree.files_as_listed(tree.hashes)
    if isinstance(tree.reader, BulkReader):
        is_taken = bytearray(len(tree))

        def take_one(entry: int, hash: bytes) -> None:
            is_taken[entry] = True
            take(entry, hash)
            passed(tree.sizes[entry])

        tree.reader.hash_files(tree, left, take_one, stop)
        left = [entry for entry in left if not is_taken[entry]]
    for entry in sorted(left, key=tree.place):
        take(entry, body_hash(tree, entry, stop, passed))


def body_hash(tree: PackedTree, entry: int, stop: Stop, passed: Callable[[int], object] = lambda size: None) -> bytes:
    """The sha256 of a regular file, read where it is not known. Raises ContentsError, OSError, AbandonedError."""
    if known := tree.hashes.get(tree.numbers[entry]):
        return known
    hashed, size, at = hashlib.sha256(), tree.sizes[entry], 0
    # Of an empty one too, which may be one that could not be read.
    while not at or at < size:
        stop.check()
        data = tree.reader.read(tree.references[entry], at, min(size - at, _CHUNK))
        hashed.update(data)
        passed(len(data))
        at += len(data)
        if not data:
            break
    return hashed.digest()


def _paths(tree: PackedTree) -> list[bytes]:
    """Of all entries. Raises DamagedError where they are longer together than a tree's are."""
    paths, left = [b""], MOST_LISTED
    for entry in range(1, len(tree)):
        before = paths[tree.parents[entry]]
        path = before + b"/" + tree.name(entry) if before else tree.name(entry)
        left -= len(path)
        if left < 0:
            raise DamagedError(f"its paths are longer than {MOST_LISTED:,} bytes together")
        paths.append(path)
    return paths


def _spelled(path: bytes) -> str:
    return "/" + _escaped(path)


def _escaped(text: bytes) -> str:
    return escaped(text).replace(" ", r"\x20")


# The text, kept

MOST_KEPT, MOST_KEPT_BYTES, MOST_TEXT = 10_000, 1 << 30, MOST_LISTED
"""How many are kept, how many bytes they take, and how long a text may be."""
_LINES_AT_ONCE = 256
_LARGEST, _LONGEST_HEAD, _LEFT_FREE = 16 << 20, 256, 256 << 20
_LOCK, _DRAFT = "lines.lock", "draft.temporary"
# A checksum of all that follows, the packed file's sha256, the digest of its content; behind it the text, compressed.
_HEAD = re.compile(rb"ocitui-lines 1 ([0-9a-f]{64}) (([0-9a-f]{64}) (sha256:[0-9a-f]{64})\n)")
_LINE = re.compile(
    r"(/[!-~]*) (?:([flbcp]) link=(/[!-~]*)|([dflbcp])(?: ([0-7]{4}))?(?: (\d{1,10}):(\d{1,10}))?"
    r"(?: (\d{1,19}) sha256:([0-9a-f]{64})| ->([!-~]*)| (\d{1,10}),(\d{1,10}))?"
    r"(?: mtime=(-?\d{1,19}))?((?: x:[!-~]+=(?:[0-9a-f]{2})*)*))\n?"
)
_KINDS = dict(
    zip("dflbcp", (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO), strict=True)
)
_LINK_MODE = 0o777
# What begins a frame that zstd passes over (RFC 8878, 3.1.2), and its size; the last four bytes have that without them.
_FRAME, _PASSED_OVER = struct.Struct("<II"), 0x184D2A5F


class TreeLines(NamedTuple):
    """The text of the level ``full``, behind it the index of a reader that has one, and the digest of the level
    ``content``."""

    packed: bytes
    content: str

    @classmethod
    def of(cls, tree: PackedTree, stop: Stop, hash_of: Callable[[int], bytes] | None = None) -> TreeLines:
        """Those of a tree, by what `digest_lines` makes. Raises ContentsError, OSError, AbandonedError."""
        lines = cls.made(digest_lines(tree, TreeLevel.FULL, stop, hash_of=hash_of))
        if isinstance(tree.reader, IndexedReader) and (index := tree.reader.path_index(tree)):
            data = zstd.compress(index)
            frame = (_FRAME.pack(_PASSED_OVER, len(data) + 4), data, len(data).to_bytes(4, "little"))
            packed = b"".join((lines.packed, *frame))
            # Lines that are too long with it are kept without.
            return lines._replace(packed=packed) if len(packed) <= _LARGEST - _LONGEST_HEAD else lines
        return lines

    @classmethod
    def made(cls, lines: Iterable[str]) -> TreeLines:
        """Of lines of the level ``full``, with their ends. Raises UnreadableFormatError where they are too long."""
        packing, packed, content, left = zstd.ZstdCompressor(), list[bytes](), hashlib.sha256(), MOST_TEXT
        coming = iter(lines)
        while some := [*islice(coming, _LINES_AT_ONCE)]:
            text = "".join(some)
            left -= len(text)
            if left < 0:
                raise UnreadableFormatError(f"its lines are longer than {MOST_TEXT:,} bytes together")
            packed.append(packing.compress(text.encode()))
            content.update("".join([at_level(line, TreeLevel.CONTENT) for line in some]).encode())
        return cls(b"".join((*packed, packing.flush())), f"sha256:{content.hexdigest()}")

    @property
    def path_index(self) -> bytes:
        """What `open_tree` finds paths by; empty where there is none."""
        size = int.from_bytes(self.packed[-4:], "little")
        begin = len(self.packed) - 4 - size
        if self.packed[max(begin - _FRAME.size, 0) : begin] == _FRAME.pack(_PASSED_OVER, size + 4):
            with suppress(DamagedError):
                return unpack_zstd(self.packed[begin:-4], MOST_LISTED)
        return b""

    def at(self, level: TreeLevel) -> Iterator[str]:
        """The lines of a level, with their ends. Raises DamagedError."""
        text = unpack_zstd(self.packed, MOST_TEXT).decode("ascii", "replace")
        return (at_level(line, level) for line in text.splitlines(keepends=True))

    def tree(self, packed: Callable[[], PackedTree] | None = None) -> PackedTree:
        """What they tell. Its bodies are those of a tree that is opened when the first is read. Raises
        ContentsError."""
        return tree_of_lines(self.at(TreeLevel.FULL), packed)[1]


class TreeStore:
    """The lines that a cache has; any thread may call. ``ledger`` tells which packed file is still the one that they
    are of; where none is given, what it has of a file is read when that is asked for, as for one or two."""

    def __init__(self, directory: Path, ledger: Ledger | None = None, disk: Disk | None = None) -> None:
        self._directory, self._disk = directory, disk or Disk()
        self._ledger = ledger
        self._sizes: dict[str, int] = {}
        self.full = False
        """Whether it takes no more, as there was no room: then no file is worth reading for its lines."""

    def read(self, name: str, sha256: str = "") -> tuple[str, TreeLines] | None:
        """The lines of the packed file of that name, behind the sha256 that it has then; only of one with this sha256,
        where it is given."""
        with suppress(OSError, CacheError), open_own_folder(self._directory, LINES_NAME) as folder:
            data = folder.read(name, _LARGEST)
            found = _HEAD.match(data)
            if found is not None and _sha256(memoryview(data)[found.start(2) :]) == found[1]:
                of, lines = found[3].decode(), TreeLines(data[found.end() :], found[4].decode())
                return (of, lines) if sha256 in ("", of) else None
        return None

    def right(self, path: Path, file: BinaryIO | None = None) -> TreeLines | None:
        """The lines of a packed file of the cache as it is now, or was when it was opened as ``file``, as far as its
        stat tells."""
        found = self.read(path.name)
        if found is None:
            return None
        ledger = self._ledger or Ledger.open(self._directory, path.name)
        known = ledger.sound.get(path.name)
        with suppress(OSError):
            now = as_told(os.lstat(path) if file is None else os.fstat(file.fileno()))
            is_same = known is not None and known.sha256 == found[0] and known.same_file(now)
            return found[1] if is_same and ledger.damage(path.name, now) is None else None
        return None

    def keep(self, name: str, sha256: str, lines: TreeLines) -> None:
        """Store the lines of a packed file with this sha256, if there is room. Raises StorageError, ReadOnlyError,
        LockedError, ConflictError."""
        rest = b"%b %b\n%b" % (sha256.encode(), lines.content.encode(), lines.packed)
        data = b"ocitui-lines 1 %b %b" % (_sha256(rest), rest)
        with (
            storage_errors("keep what is in a packed file"),
            open_own_folder(self._directory, LINES_NAME, making=self._disk) as folder,
            taking_turns(folder, self._disk, _LOCK),
        ):
            if folder.free() < len(data) + _LEFT_FREE or not self._has_room(folder, len(data)):
                self.full = True
            elif len(data) <= _LARGEST:
                self._disk.rewrite(folder, _DRAFT, name, data, folder.file_mode)
                self._sizes[name] = len(data)

    def _has_room(self, folder: Folder, size: int) -> bool:
        """Whether there is room for so many bytes more; where there is none, the lines of files that are gone go."""
        if self._sizes and _fits(self._sizes, size):
            return True
        self._sizes = sizes = {name: folder.size(name) for name in folder.names()}
        if not _fits(sizes, size):
            for name in (one for one in [*sizes] if one != _LOCK and not os.path.lexists(self._directory / one)):
                self._disk.unlink(folder, name)
                del sizes[name]
        return _fits(sizes, size)


def _sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _fits(sizes: Mapping[str, int], size: int) -> bool:
    return len(sizes) < MOST_KEPT and sum(sizes.values()) + size <= MOST_KEPT_BYTES


def open_lazily(path: Path, file: BinaryIO, format: PackedFormat, stop: Stop) -> PackedTree:
    """The tree inside the open packed file of a cache at ``path``, as far as it is asked for: of a tar by what is kept
    of it, where that is at hand. Raises as `open_tree`."""
    index = b""
    if format is PackedFormat.TAR and (kept := TreeStore(path.parent).right(path, file)):
        index = kept.path_index
    return open_tree(file, format, stop, whole=False, index=index)


def keep_lines(directory: Path, packed: Path, lines: TreeLines) -> None:
    """Store what is in a packed file of the cache that `record_stored` noted, and that is still as it was then. Where
    that cannot be done, the first deep check does it."""
    with suppress(OSError, CacheError):
        known = Ledger.open(directory, packed.name).sound.get(packed.name)
        if known is not None and known.same_file(os.lstat(packed)):
            TreeStore(directory).keep(packed.name, known.sha256, lines)


def read_lines(path: Path) -> tuple[TreeLevel, PackedTree]:
    """What a file tells that has lines as `ocitui digest --lines` prints them. Raises ContentsError, StorageError."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_TEXT + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="see that it is readable") from error
    if len(text) > MOST_TEXT:
        raise UnreadableFormatError(f"{path} has more than {MOST_TEXT:,} bytes")
    try:
        return tree_of_lines(text.decode("ascii", "replace").splitlines(keepends=True))
    except DamagedError as error:
        raise DamagedError(f"{path}: {error.message}", hint="ocitui digest --lines ENTRY prints such lines") from error


def tree_of_lines(lines: Iterable[str], packed: Callable[[], PackedTree] | None = None) -> tuple[TreeLevel, PackedTree]:
    """The tree that the lines of a digest tell, and their level; of what the level has not, it has zeros. The hashes of
    its bodies are known; read they can be only of a ``packed`` tree. Raises DamagedError, UnreadableFormatError."""
    lines = iter(lines)
    head = TEXT_HEAD.fullmatch(next(lines, "").rstrip("\n"))
    if head is None:
        raise DamagedError("it does not begin as the lines of a tree do")
    reading = _Lines(packed)
    for number, line in enumerate(lines, 2):
        try:
            reading.take(line, number)
        except (ValueError, OverflowError, KeyError, TypeError) as error:
            raise DamagedError(f"its line {number} is none of a tree") from error
    if reading.tree is None:
        raise DamagedError("it has no line of the root")
    return TreeLevel(head[1]), reading.tree


class _Lines:
    """Lines as they become a tree, and its reader."""

    def __init__(self, packed: Callable[[], PackedTree] | None) -> None:
        self.tree: PackedTree | None = None
        self._packed = cache(packed) if packed is not None else None
        self._entries = dict[bytes, int]()
        self._last = b""
        self._targets, self._xattrs = dict[int, bytes](), dict[int, dict[bytes, bytes]]()

    def take(self, line: str, number: int) -> None:
        """Take in a line. Raises DamagedError, ValueError, KeyError, OverflowError, TypeError for what is none."""
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(line)
        path, link, sort = _bytes(found[1])[1:], found[3], found[4]
        if link is None:
            # Of the root only the level full tells more.
            mode, uid, gid = (found[5] or "0", found[6] or 0, found[7] or 0) if not path else found.group(5, 6, 7)
            mode = _LINK_MODE if sort == "l" else int(mode, 8)
            size, device = 0, (0, 0)
            if sort == "f":
                size = int(found[8])
            elif sort == "l":
                self._targets[number] = target = _bytes(found[10])
                size = len(target)
            elif sort in "bc":
                device = int(found[11]), int(found[12])
            mtime = int(found[13] or 0)
            node = Inode(_KINDS[sort] | mode, int(uid), int(gid), size, mtime, number, number, device)
            if found[14]:
                self._xattrs[number] = dict(map(_xattr, found[14].split(" ")[1:]))
        else:
            tree = self._known()
            node = tree.node(self._entries[_bytes(link)[1:]])
            if stat.S_IFMT(node.mode) != _KINDS[found[2]]:
                raise ValueError(link)
        self._add(path, node)
        if link is None and sort == "f":
            self._known().hashes[number] = bytes.fromhex(found[9])

    def _known(self) -> PackedTree:
        if self.tree is None:
            raise DamagedError("it does not begin with the root")
        return self.tree

    def _add(self, path: bytes, node: Inode) -> None:
        if self.tree is None:
            if path or not stat.S_ISDIR(node.mode):
                raise DamagedError("it does not begin with the root")
            self.tree = PackedTree(self, node)
            self._entries[b""] = ROOT
            return
        folder, _, name = path.rpartition(b"/")
        parent = self._entries[folder]
        if path <= self._last or not stat.S_ISDIR(self.tree.modes[parent]):
            raise ValueError(path)
        self._last = path
        self._entries[path] = self.tree.add(parent, name, node)

    def target(self, reference: int) -> bytes:
        return self._targets[reference]

    def xattrs(self, reference: int) -> Mapping[bytes, bytes]:
        return self._xattrs.get(reference, {})

    def read(self, reference: int, at: int, size: int) -> bytes:
        if self._packed is None:
            raise UnreadableFormatError("of its files only the hashes are kept")
        # Each line became an entry, from the second on.
        tree, entry = self._known(), reference - 2
        packed = self._packed()
        found = packed.find(tree.path(entry))
        if found is None or (packed.kind(found), packed.sizes[found]) != (stat.S_IFREG, tree.sizes[entry]):
            raise DamagedError("it is another file than it was")
        return packed.reader.read(packed.references[found], at, size)

    def place(self, reference: int) -> tuple[int, ...]:
        return (reference,)

    def after_hole(self, reference: int, at: int) -> int:
        return at


def _bytes(word: str) -> bytes:
    return unescaped(word.encode()) if "\\" in word else word.encode()


def _xattr(word: str) -> tuple[bytes, bytes]:
    name, _, value = word.removeprefix("x:").rpartition("=")
    return _bytes(name), bytes.fromhex(value)
