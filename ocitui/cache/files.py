"""The files of a cache directory: how they are named after a digest, and how they are looked at."""

from __future__ import annotations

import os
import re
import stat
from enum import StrEnum
from pathlib import Path

from .errors import CacheDirectoryError, StorageError
from .names import PackedFormat

INDEX_NAME = "index.json"
OWN_NAME = ".ocitui"
DEFAULT_DIRECTORY = Path("/var/lib/krata/cache/image")
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_DIGEST = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([0-9a-fA-F]{32,})")
_LONGEST_DIGEST = 200  # bytes; with the suffixes and a transaction's id the name must fit a directory entry


class FileKind(StrEnum):
    """The three files of an entry."""

    PACKED = "packed"
    MANIFEST = "manifest"
    CONFIG = "config"


def usable_digest(digest: str) -> bool:
    """Whether a digest may become part of a file name: anything else could leave the directory, and is a miss."""
    if not digest or "/" in digest or "\\" in digest or "\0" in digest or ".." in digest:
        return False
    return len(digest.encode(errors="surrogatepass")) <= _LONGEST_DIGEST


def valid_digest(digest: str) -> bool:
    """Whether it is ``algorithm:hex`` of the algorithm's length (image-spec, descriptor.md, "Digests")."""
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
    return next((known for known in PackedFormat if known == format), None)


def regular_file(path: Path) -> os.stat_result | None:
    """The stat of a regular file, or of one behind a link; None for whatever the daemon takes as a miss."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def read_regular(path: Path) -> bytes:
    """A file's bytes. Raises StorageError where it cannot be read."""
    try:
        # By an opener, since `open` leaves a descriptor that it was given open where it refuses it: a directory's.
        with open(path, "rb", opener=open_at_once) as file:
            return file.read()
    except OSError as error:
        raise StorageError(
            f"cannot read {path.name}: {error.strerror}", hint="the daemon fails on it too; move it aside"
        ) from error


def open_at_once(path: str, flags: int) -> int:
    """Never wait for whoever writes to a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK)


def check_directory(directory: Path) -> None:
    """Raises CacheDirectoryError unless this is a directory that can be listed."""
    try:
        os.scandir(directory).close()
    except FileNotFoundError:
        raise CacheDirectoryError(f"{directory} does not exist") from None
    except NotADirectoryError:
        raise CacheDirectoryError(f"{directory} is not a directory") from None
    except OSError as error:
        raise CacheDirectoryError(
            f"{directory} cannot be read: {error.strerror}", hint="start ocitui as a user who may read it"
        ) from error
