"""The files of a cache directory: how they are named after a digest, and how they are looked at."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import BinaryIO

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
