"""What is told of another host, asked where its machine, and the files of its cache, would be looked at.

Of a cache that is here nothing is told, and a look costs one test. What a report tells is taken in by `doctor.incident`
and what is asked over ssh by `remote.mirror`; it holds for this process until it is forgotten.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class ToldFile(NamedTuple):
    """A file whose bytes are elsewhere: its stat there, what its header says, its sha256 where that is on record, and
    the error where it could not be opened."""

    stat: os.stat_result
    check: Any = None
    sha256: str = ""
    error: int = 0


_PLAIN = re.compile(r"[ !#-\[\]-~]+").fullmatch

_machines: dict[str, Mapping[str, Any]] = {}
_files: dict[tuple[int, int], ToldFile] = {}
_told_in: dict[Path, set[tuple[int, int]]] = {}
_digests: dict[bytes, set[str]] = {}


def stand_in(directory: Path, facts: Mapping[str, Any]) -> None:
    """From now on ``directory`` is that of the host which these facts are of."""
    _machines[os.path.realpath(directory)] = facts


def stand_in_file(directory: Path, path: Path, told: ToldFile) -> None:
    """What is told of the file of a cache of which this one has only the place."""
    _files[key := _key(path)] = told
    _told_in.setdefault(directory, set()).add(key)


def stand_in_bytes(data: bytes, digest: str) -> None:
    """Bytes that were something else, of which this was the digest."""
    _digests.setdefault(hashlib.sha256(data).digest(), set()).add(digest)


def forget_file(directory: Path, path: Path) -> None:
    """Before it is removed, as another file may get its inode."""
    key = _key(path)
    _told_in.get(directory, set()).discard(key)
    _files.pop(key, None)


def forget(directory: Path) -> None:
    """Nothing is told of this cache any more; before it is removed."""
    _machines.pop(os.path.realpath(directory), None)
    for key in _told_in.pop(directory, ()):
        _files.pop(key, None)
    if not _told_in:
        _digests.clear()


def _key(path: Path) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def as_there(text: str) -> str:
    """A text for people or programs with the path that is meant, in place of that at which a cache is looked at here;
    one that would have to be escaped stays away."""
    for place, facts in [*_machines.items()]:
        if _PLAIN(facts["cache"]):
            text = text.replace(place, facts["cache"])
    return text


def fact_of(directory: Path, what: str) -> Any:
    """A fact of the host whose cache this directory is; None where that is this host."""
    return _machines[place].get(what) if _machines and (place := os.path.realpath(directory)) in _machines else None


def told_file(fd: int) -> ToldFile | None:
    """What is told of an open file; None of one that is all here."""
    return _told(os.fstat(fd)) if _files else None


def as_told(found: os.stat_result) -> os.stat_result:
    """The stat that a file had there."""
    there = _told(found) if _files else None
    return found if there is None else there.stat


def _told(found: os.stat_result) -> ToldFile | None:
    return _files.get((found.st_dev, found.st_ino))


def told_sha256(fd: int) -> str:
    """The sha256 that is on record of an open file's bytes that are not here; empty of those that are. Raises OSError
    where none is on record."""
    there = told_file(fd)
    if there is not None and not there.sha256:
        refuse_told(fd)
    return "" if there is None else there.sha256


def refuse_told(fd: int) -> None:
    """Raises OSError for an open file whose bytes are not here."""
    if told_file(fd) is not None:
        raise OSError(errno.ENODATA, "its bytes are on its host")


def told_digests(data: bytes) -> Container[str]:
    """The digests of what these bytes were."""
    return _digests.get(hashlib.sha256(data).digest(), ()) if _digests else ()


def file_system(directory: Path) -> os.statvfs_result:
    """Raises OSError."""
    numbers = fact_of(directory, "disk")
    if numbers is None and fact_of(directory, "form") is not None:
        raise OSError(errno.ENODATA, "its host could not tell")
    return os.statvfs(directory) if numbers is None else os.statvfs_result(numbers)


def may_write(directory: Path) -> bool:
    """Whether this user may, or whoever made the report might."""
    writable: bool | None = fact_of(directory, "writable")
    return os.access(directory, os.W_OK | os.X_OK) if writable is None else writable
