"""Imports that were interrupted: what they were to do, and what of it was downloaded.

A record lies in `.ocitui/imports` from an import's beginning to its end, locked by the program that carries it out; one
whose lock is free was interrupted, by a hangup, a signal or a crash.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import CacheDirectoryError, StorageError
from ocitui.cache.disk import Folder, storage_errors
from ocitui.cache.files import OWN_NAME, check_directory
from ocitui.cache.journal import new_id

from .blobs import BlobStore
from .errors import SourceError
from .requests import ImportRequest
from .staging import locked, own_folder

_FOLDER, _BLOBS, _SUFFIX = "imports", "blobs", ".json"
_DRAFT = ".new"


@dataclass(frozen=True, slots=True)
class UnfinishedImport:
    """``started`` is in seconds since the epoch."""

    id: str
    started: float
    request: ImportRequest


def blob_store(directory: Path) -> BlobStore:
    """Where blobs of a cache's imports are kept until their image is in."""
    return BlobStore(directory / OWN_NAME / _BLOBS)


@contextmanager
def recorded(directory: Path, request: ImportRequest) -> Iterator[str]:
    """Keep a record of an import while it runs; gives its id.

    It is removed at the end; where the program is told to leave meanwhile (anything but an Exception), it stays.
    Raises CacheDirectoryError, StorageError, ReadOnlyError, and SourceError where there is no such source.
    """
    request = request.with_absolute_paths()
    check_directory(directory)
    with own_folder(directory, _FOLDER) as folder:
        name = f"{new_id()}{_SUFFIX}"
        with storage_errors("note what is to be imported"):
            fd = _write(folder, name, request.to_json())
        try:
            yield name.removesuffix(_SUFFIX)
            _unlink(folder, name)
        except Exception:
            _unlink(folder, name)
            raise
        finally:
            os.close(fd)


def _write(folder: Folder, name: str, data: bytes) -> int:
    """A new record; gives the descriptor that holds its lock. A program killed before its end leaves a draft only."""
    with locked(folder):
        _remove_drafts(folder)
        draft = f"{name}{_DRAFT}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.rename(draft, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _remove_drafts(folder: Folder) -> None:
    for name in folder.names():
        if name.endswith(_DRAFT):
            os.unlink(name, dir_fd=folder.fd)


@contextmanager
def resumed(directory: Path, import_id: str) -> Iterator[ImportRequest]:
    """Go on with an interrupted import; gives what it was asked to do.

    Its record is held meanwhile and removed at the end, but stays where that is an error: it can be tried again.
    Raises CacheDirectoryError, StorageError, ReadOnlyError, and SourceError where there is no such record, or another
    program holds it.
    """
    check_directory(directory)
    with own_folder(directory, _FOLDER) as folder:
        name = f"{os.path.basename(import_id)}{_SUFFIX}"
        with _held(folder.path / name) as data:
            yield _decoded(data, import_id)
            _unlink(folder, name)


@contextmanager
def _held(path: Path) -> Iterator[bytes]:
    """A record that nobody else holds while this does."""
    with storage_errors("go on with an import"):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _no_record(path) from error
    with open(fd, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SourceError(
                f"another program goes on with the import {path.stem}", hint="ocitui imports lists the others"
            ) from error
        if not os.fstat(fd).st_nlink:
            raise _no_record(path)
        yield file.read()


def _no_record(path: Path) -> SourceError:
    return SourceError(f"there is no interrupted import {path.stem}", hint="ocitui imports lists them")


def _decoded(data: bytes, import_id: str) -> ImportRequest:
    try:
        return ImportRequest.from_json(data)
    except ValueError as error:
        raise SourceError(
            f"the record of the import {import_id} is damaged", hint=f"ocitui imports --forget {import_id} removes it"
        ) from error


def unfinished(directory: Path) -> list[UnfinishedImport]:
    """The imports that were interrupted, the oldest first; nothing is changed. Raises StorageError."""
    found = []
    with storage_errors("look for interrupted imports"):
        folder = directory / OWN_NAME / _FOLDER
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        for name in names:
            record = _read_free(folder / name) if name.endswith(_SUFFIX) else None
            if record is not None:
                found.append(record)
    return found


def forget(directory: Path, import_id: str) -> None:
    """Remove the record of an interrupted import; one that runs stays. Raises StorageError, ReadOnlyError."""
    try:
        with storage_errors("forget an import"), own_folder(directory, _FOLDER) as folder:
            name = f"{import_id}{_SUFFIX}"
            if "/" not in import_id and _read_free(folder.path / name, damaged=True) is not None:
                _unlink(folder, name)
    except CacheDirectoryError as error:
        raise StorageError(error.message) from error


def _read_free(path: Path, *, damaged: bool = False) -> UnfinishedImport | None:
    """A record that nobody holds; None for others, and for a damaged one unless that is asked for."""
    if not _is_file(path):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        started, data = os.fstat(fd).st_mtime, file.read()
    try:
        request = ImportRequest.from_json(data)
    except ValueError:
        if not damaged:
            return None
        request = ImportRequest(source="")
    return UnfinishedImport(path.name.removesuffix(_SUFFIX), started, request)


def _is_file(path: Path) -> bool:
    """Whether it is one that can be a record; what else lies there is not ours."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _unlink(folder: Folder, name: str) -> None:
    with storage_errors("remove the record of an import"), suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder.fd)
