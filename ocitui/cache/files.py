"""The files of a cache directory: how they are named after a digest, how they are looked at, and what a packed one says
of itself: its format by magic, and whether the file is all of what it claims to be.

squashfs and erofs are judged by their superblocks (https://dr-emann.github.io/squashfs/, Linux fs/erofs/erofs_fs.h), a
tar by the walk over its headers: a flipped bit in the content shows in none. What stands behind a file system's own
end, such as a dm-verity tree or a signature, is told and is no damage: the kernel mounts it all the same.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ocitui.stand_in import told_file

from .errors import CacheDirectoryError, StorageError


class PackedFormat(StrEnum):
    """A packed format; its value is the file's extension and the value of the format annotation."""

    SQUASHFS = "squashfs"
    EROFS = "erofs"
    TAR = "tar"


INDEX_NAME = "index.json"
OWN_NAME = ".ocitui"
LONGEST_NAME = 255
"""Bytes of a directory entry."""
MOST_DOCUMENT_BYTES = 64 << 20
"""The largest manifest or config that is read; OCI registries take 4 MiB."""
MOST_INDEX_BYTES = 1 << 30
"""The largest index that is read: of two million entries."""
ANY_SIZE = 1 << 62
"""For what is only read piece by piece."""
READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MOST_KERNEL_BYTES = 16 << 20
_CHUNK = 1 << 20
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_DIGEST = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([0-9a-fA-F]{32,})")
USUAL_DIGEST = "sha256:[0-9a-f]{64}"
usual_digest = re.compile(USUAL_DIGEST).fullmatch
"""What nearly every digest is found to be at once."""
_FORMATS: dict[str | None, PackedFormat] = {str(format_): format_ for format_ in PackedFormat}
_LONGEST_DIGEST = 200  # bytes; with the suffixes and a transaction's id the name must fit a directory entry


Key = tuple[str, str | None]
"""Digest and format: what the daemon recalls an entry by."""


class FileKind(StrEnum):
    """The three files of an entry."""

    PACKED = "packed"
    MANIFEST = "manifest"
    CONFIG = "config"


def usable_digest(digest: str) -> bool:
    """Whether a digest may become part of a file name: anything else could leave the directory, and is a miss."""
    if usual_digest(digest):
        return True
    if not digest or "/" in digest or "\\" in digest or "\0" in digest or ".." in digest:
        return False
    return len(digest.encode(errors="surrogatepass")) <= _LONGEST_DIGEST


def valid_digest(digest: str) -> bool:
    """Whether it is ``algorithm:hex`` of the algorithm's length (image-spec, descriptor.md, "Digests")."""
    if usual_digest(digest):
        return True
    found = _DIGEST.fullmatch(digest)
    return found is not None and len(found[2]) == _HEX_DIGITS.get(found[1], len(found[2])) and usable_digest(digest)


def packed_name(digest: str, format: PackedFormat) -> str:
    return f"{digest}.{format}"


def manifest_name(digest: str) -> str:
    return f"{digest}.manifest.json"


def config_name(digest: str) -> str:
    return f"{digest}.config.json"


def file_names(digest: str, format: PackedFormat) -> dict[FileKind, str]:
    """The three files of an entry by their kind."""
    return {
        FileKind.PACKED: packed_name(digest, format),
        FileKind.MANIFEST: manifest_name(digest),
        FileKind.CONFIG: config_name(digest),
    }


def known_format(format: str | None) -> PackedFormat | None:
    """The format an annotation names; None for one the daemon does not have."""
    return _FORMATS.get(format)


def regular_file(path: Path) -> os.stat_result | None:
    """The stat of a regular file, or of one behind a link; None for whatever the daemon takes as a miss."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


FileIdentity = tuple[int, int, int, int]
"""Device, inode, size in bytes and mtime in nanoseconds: another once the file was written to."""


def file_identity(found: os.stat_result) -> FileIdentity:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def identity_of(path: Path) -> FileIdentity | None:
    """That of the file at a path; None where there is none."""
    try:
        return file_identity(os.stat(path))
    except OSError:
        return None


def usable_name(name: str) -> bool:
    """Whether a file may have this name directly in a directory, and JSON hold it: one component, no `.` or `..`."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return len(name.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def open_bounded(path: Path | str, limit: int = ANY_SIZE, *, dir_fd: int | None = None, follow: bool = True) -> FileIO:
    """Open a regular file of at most ``limit`` bytes to read, unbuffered; whoever writes to a pipe is not waited for.
    ``path`` is relative to the directory of ``dir_fd``; unless ``follow``, a link in its place is an error. Raises
    OSError: EISDIR or EINVAL for what is no regular file, EFBIG for a larger one."""
    return bounded(os.open(path, READ_FLAGS | (0 if follow else os.O_NOFOLLOW), dir_fd=dir_fd), path, limit)


def bounded(fd: int, path: Path | str, limit: int = ANY_SIZE) -> FileIO:
    """What `open_bounded` gives, of a file descriptor, which is closed where it is none of such a file."""
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if found.st_size > limit:
            raise too_large(limit)
        return open(fd, "rb", buffering=0)
    except BaseException:
        os.close(fd)
        raise


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """A file descriptor, which is closed in the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def read_bounded(path: Path | str, limit: int, *, dir_fd: int | None = None, follow: bool = True) -> bytes:
    """All of such a file. Raises OSError as `open_bounded` does, EFBIG too where it grows meanwhile."""
    with open_bounded(path, limit, dir_fd=dir_fd, follow=follow) as file:
        return read_to_end(file, limit)


def read_to_end(file: BinaryIO, limit: int) -> bytes:
    """What is left of an open file. Raises OSError with EFBIG where that is more than ``limit`` bytes."""
    size = os.fstat(file.fileno()).st_size
    if size > limit:
        raise too_large(limit)
    # One byte more than it has tells the end without another look.
    data: bytes = file.read(size + 1)
    while len(data) <= limit and (more := file.read(_CHUNK)):
        data += more
    if len(data) > limit:
        raise too_large(limit)
    return data


def too_large(limit: int) -> OSError:
    return OSError(errno.EFBIG, f"it has more than {limit} bytes")


def read_kernel_file(path: Path, errors: str = "replace") -> str:
    """A file of /proc or /sys as text; empty where there is none, as once a process or a device is gone."""
    try:
        return read_bounded(path, _MOST_KERNEL_BYTES).decode(errors=errors)
    except OSError:
        return ""


def read_regular(path: Path, limit: int = MOST_DOCUMENT_BYTES) -> bytes:
    """A document's bytes, behind a link too. Raises StorageError where it cannot be read, or is larger than that."""
    try:
        return read_bounded(path, limit)
    except OSError as error:
        told = f"cannot read {path.name}: {error.strerror}"
        raise StorageError(told, hint="the daemon fails on it too; move it aside") from error


def check_directory(directory: Path) -> None:
    """Raises CacheDirectoryError unless this is a directory that can be listed."""
    try:
        os.scandir(directory).close()
    except FileNotFoundError:
        raise CacheDirectoryError(f"{directory} does not exist") from None
    except NotADirectoryError:
        raise CacheDirectoryError(f"{directory} is not a directory") from None
    except OSError as error:
        told = f"{directory} cannot be read: {error.strerror}"
        raise CacheDirectoryError(told, hint="start ocitui as a user who may read it") from error


BLOCK = 512
_ZERO = bytes(BLOCK)
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_TYPE = 156
# Links, devices, directories and pipes have no body, whatever their size field says.
_BODILESS = frozenset(b"123456")
_PAX, _PAX_GLOBAL, _OLD_SPARSE = ord("x"), ord("g"), ord("S")
_LONGEST_PAX = 1 << 24
_MOST_DIGITS = 20  # more than any file's size has; int() refuses thousands
_PAX_RECORD = re.compile(rb"(\d{1,9}) ")


def tar_problem(fd: int, size: int) -> str | None:
    """Why a tar of ``size`` bytes is not whole, None where it is. Raises OSError."""
    at, pax_size = 0, None
    while True:
        header = os.pread(fd, BLOCK, at)
        if len(header) < BLOCK:
            return f"it is cut short: it ends at byte {at + len(header)} without two zero blocks"
        if header == _ZERO:
            second = os.pread(fd, BLOCK, at + BLOCK)
            return None if second == _ZERO else f"the zero block at byte {at} is followed by no second one"
        problem = _header_problem(header)
        if problem is not None:
            return f"the header at byte {at}: {problem}"
        at += BLOCK * (1 + _sparse_maps(fd, header, at + BLOCK))
        kind, length = header[_TYPE], _number(header[_SIZE])
        if length is None or length < 0:
            return f"the header before byte {at} has no valid size"
        if kind == _PAX:
            if length > _LONGEST_PAX:
                return f"the extended header before byte {at} has {length} bytes"
            pax_size = _pax_size(os.pread(fd, length, at))
        elif kind != _PAX_GLOBAL and chr(kind) not in "LK":
            length = 0 if kind in _BODILESS else length if pax_size is None else pax_size
            pax_size = None
        if at + length > size:
            return f"it is cut short: {size} bytes, and the file whose body begins at byte {at} has {length}"
        at += -(-length // BLOCK) * BLOCK


def _header_problem(header: bytes) -> str | None:
    if header == _ZERO:
        return "a zero block"
    wanted = _number(header[_CHECKSUM])
    unsigned = sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")
    if wanted == unsigned:
        return None
    # Old archivers summed the bytes as signed characters.
    signed = unsigned - 256 * sum(byte > 127 for byte in (*header[:148], *header[156:]))
    return None if wanted == signed else "its checksum is wrong"


def _number(field: bytes) -> int | None:
    """A number in octal digits, or in base 256 where the first bit says so."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.partition(b"\0")[0].strip()
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return None


def _pax_size(body: bytes) -> int | None:
    """The size an extended header gives, which overrules the header's; its records are ``LENGTH KEY=VALUE\\n``."""
    at, size = 0, None
    while found := _PAX_RECORD.match(body, at):
        length = int(found[1])
        key, _, value = body[found.end() : at + length - 1].partition(b"=")
        if key == b"size" and value.isdigit():
            size = int(value.lstrip(b"0")[:_MOST_DIGITS] or b"0")
        at += max(length, 1)
    return size


def _sparse_maps(fd: int, header: bytes, at: int) -> int:
    """How many further blocks the map of an old GNU sparse file takes, from ``at`` on."""
    more, count = header[_TYPE] == _OLD_SPARSE and header[482], 0
    while more:
        block = os.pread(fd, BLOCK, at + count * BLOCK)
        count += 1
        more = len(block) == BLOCK and block[504]
    return count


_PAGE = 4096
_SQUASHFS_MAGIC = b"hsqs"
_SQUASHFS = struct.Struct("<4s8xI4x2xH4x2H8x7Q")
_ABSENT = 2**64 - 1
_TAR_RECORD = 10_240
_EROFS_AT = 1024
_EROFS_MAGIC = 0xE0F5E1E2.to_bytes(4, "little")
_EROFS = struct.Struct("<3IB23xI40xI")
_EROFS_HAS_CHECKSUM = 1
_EROFS_READ_FEATURES = 0x7F
"""The incompatible features under which sizes and names are where they are read here: up to xattr prefixes, which is
all that mkfs.erofs sets by itself; not 48-bit block addresses, nor a metadata box."""
_EROFS_BLOCK_BITS = range(9, 17)
_HEAD = _EROFS_AT + _EROFS.size
_CASTAGNOLI = 0x82F63B78


class PackedCheck(NamedTuple):
    """``found`` is the format by magic, None for none that is known; ``problem`` is why the file is not whole,
    ``unchecked`` why that could not be told, and ``tail`` how many bytes stand behind the file system's end."""

    found: PackedFormat | None
    problem: str | None = None
    unchecked: str = ""
    tail: int = 0


SOUND_PACKED = {format_: PackedCheck(format_) for format_ in PackedFormat}
"""What a file of each format is that is all well: this very one."""


def check_packed(path: Path) -> PackedCheck:
    """Look into a packed file. Raises StorageError where it cannot be read."""
    try:
        with open_bounded(path) as file:
            return check_packed_file(file.fileno(), os.fstat(file.fileno()).st_size)
    except OSError as error:
        told = f"cannot read {path}: {error.strerror}"
        raise StorageError(told, hint="see that the file is there and readable") from error


def check_packed_file(fd: int, size: int) -> PackedCheck:
    """Look into an open packed file of ``size`` bytes, or give what is told of it. Raises OSError."""
    if (told := told_file(fd)) is not None and isinstance(told.check, PackedCheck):
        return told.check
    if size == 0:
        return PackedCheck(None, "it is empty")
    head = os.pread(fd, _HEAD, 0)
    if head.startswith(_SQUASHFS_MAGIC):
        return _check_squashfs(head, size)
    if len(head) >= BLOCK and _header_problem(head[:BLOCK]) is None:
        return _checked(PackedFormat.TAR, tar_problem(fd, size))
    if head[_EROFS_AT : _EROFS_AT + 4] == _EROFS_MAGIC:
        return _check_erofs(fd, head, size)
    if size <= _TAR_RECORD and not any(head):
        return _checked(PackedFormat.TAR, tar_problem(fd, size))  # an archive of nothing
    return PackedCheck(None, "it begins as no squashfs, erofs or tar does")


def _checked(found: PackedFormat, problem: str | None, tail: int = 0) -> PackedCheck:
    return SOUND_PACKED[found] if problem is None and not tail else PackedCheck(found, problem, tail=tail)


def _check_squashfs(head: bytes, size: int) -> PackedCheck:
    found = PackedFormat.SQUASHFS
    if len(head) < _SQUASHFS.size:
        return PackedCheck(found, f"it ends within its superblock: {size} bytes")
    _, block_size, block_log, major, minor, used, ids, xattrs, inodes, directories, fragments, export = (
        _SQUASHFS.unpack_from(head)
    )
    if (major, minor) != (4, 0):
        return PackedCheck(found, f"its version is {major}.{minor}, not 4.0")
    if block_log > 20 or block_size != 1 << block_log:
        return PackedCheck(found, f"its block size {block_size} is not 2 to the power of {block_log}")
    if size < used:
        return PackedCheck(found, f"it is cut short: {size} of {used} bytes")
    # They stand in order: inodes, directories, fragments (which may be absent), ids.
    in_order = inodes < directories < ids if fragments == _ABSENT else inodes < directories < fragments < ids
    if not in_order:
        return PackedCheck(found, "its tables are out of order")
    # The last of those, and those that may be absent.
    whole = ids < used and (xattrs < used or xattrs == _ABSENT) and (export < used or export == _ABSENT)
    tail = max(0, size - -(-used // _PAGE) * _PAGE)
    return _checked(found, None if whole else "a table of it lies beyond its end", tail)


def _check_erofs(fd: int, head: bytes, size: int) -> PackedCheck:
    found = PackedFormat.EROFS
    if len(head) < _HEAD:
        return PackedCheck(found, f"it ends within its superblock: {size} bytes")
    _, checksum, features, block_bits, blocks, incompatible = _EROFS.unpack_from(head, _EROFS_AT)
    if block_bits not in _EROFS_BLOCK_BITS:
        return PackedCheck(found, f"its block size is 2 to the power of {block_bits}")
    block_size, unread = 1 << block_bits, incompatible & ~_EROFS_READ_FEATURES
    if size < blocks * block_size and not unread:
        return PackedCheck(found, f"it is cut short: {size} bytes where its superblock says {blocks * block_size}")
    if features & _EROFS_HAS_CHECKSUM:
        covered = bytearray(os.pread(fd, block_size - _EROFS_AT % block_size, _EROFS_AT))
        covered[4:8] = bytes(4)
        if crc32c(covered) != checksum:
            return PackedCheck(found, "the checksum of its superblock is wrong")
    if unread:
        return PackedCheck(found, unchecked=f"it has features that are not read here (0x{unread:x})")
    return _checked(found, None, size - blocks * block_size)


def crc32c(data: bytes | bytearray) -> int:
    """CRC-32C as erofs keeps it: begun with all ones, not inverted at the end."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_CASTAGNOLI if byte & 1 else 0)
        table.append(byte)
    return tuple(table)
