"""What an import is asked to do, as it was typed, and the record of it while it runs, so that it can be gone on with.

A record lies in `.ocitui/imports` from an import's beginning to its end, locked by the program that carries it out; one
whose lock is free was interrupted, by a hangup, a signal or a crash.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ocitui.cache import (
    ConflictError,
    Disk,
    Folder,
    ImageName,
    PackedFormat,
    check_directory,
    open_own_folder,
    read_to_end,
    storage_errors,
)

from .errors import SourceError
from .layers.layers import LayerLimits
from .packing.packing import PackOptions
from .sources.images import SourceKind, parse_platform
from .sources.opening import PackedFiles, SourceOptions, find_packed_files, optional_path, recognise_source
from .sources.references import RegistryOptions
from .staging import import_folder, locked

_VERSION = 2
_DAMAGED, _LATER = "it is damaged", "it is of a later ocitui"


class LaterRequestError(ValueError):
    """A later ocitui wrote it."""


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``source`` in skopeo's spelling, or a path. ``name`` is None for what the source calls the image.

    ``rename`` lets the name take over an entry of the same digest and format; ``again`` fetches and packs an image that
    the cache has already. ``manifest`` and ``config`` are for packed files only, paths that do not stand beside them.
    No secret is in here: ``authfile`` is where credentials are.
    """

    source: str
    name: str | None = None
    format: PackedFormat = PackedFormat.SQUASHFS
    platform: str | None = None
    compression: str | None = None
    level: int | None = None
    max_bytes: int | None = None
    max_entries: int | None = None
    tls_ca: str | None = None
    plain_http: bool = False
    authfile: str | None = None
    mirror: str | None = None
    manifest: str | None = None
    config: str | None = None
    rename: bool = False
    again: bool = False

    @classmethod
    def from_json(cls, data: bytes) -> ImportRequest:
        """What `to_json` wrote, or the first version, without its own. Raises ValueError, LaterRequestError."""
        fields = json.loads(data)
        if isinstance(fields, dict) and fields.pop("version", 1) not in (1, _VERSION):
            raise LaterRequestError(_LATER)
        return msgspec.convert(fields, ImportRequest)

    def to_json(self) -> bytes:
        """In ASCII, so that paths that are not UTF-8 pass as the surrogates they are."""
        return json.dumps({"version": _VERSION, **msgspec.to_builtins(self)}).encode("ascii")

    @property
    def image_name(self) -> ImageName | None:
        """Raises InvalidNameError."""
        return ImageName.parse(self.name) if self.name else None

    def source_options(self, notify: Callable[[str], None] = lambda message: None) -> SourceOptions:
        """How to open the source; ``notify`` is told why a registry is asked again. Raises NoSuchImageError."""
        tls_ca, authfile = optional_path(self.tls_ca), optional_path(self.authfile)
        registry = RegistryOptions(tls_ca, self.plain_http, authfile, self.mirror, notify=notify)
        return SourceOptions(parse_platform(self.platform) if self.platform else None, registry)

    def packed_files(self, format: PackedFormat | None = None) -> PackedFiles:
        """The files of a packed source. Raises SourceError, also where they are named as of another ``format``."""
        return find_packed_files(self.source, optional_path(self.manifest), optional_path(self.config), format)

    @property
    def pack_options(self) -> PackOptions:
        """How to flatten and pack."""
        usual = LayerLimits()
        limits = LayerLimits(self.max_bytes or usual.unpacked_bytes, self.max_entries or usual.entries)
        return PackOptions(self.compression, self.level, limits=limits)

    def with_absolute_paths(self) -> ImportRequest:
        """The same, whatever the working directory is later. Raises SourceError where there is no such source."""
        found = recognise_source(self.source)
        source = self.source
        if found.kind is not SourceKind.REGISTRY:
            rest = found.rest.removeprefix("./")
            source = f"{found.kind}:{os.path.join(os.getcwd(), rest)}"
        files = {
            name: os.path.abspath(os.path.expanduser(path))
            for name in ("tls_ca", "authfile", "manifest", "config")
            if (path := getattr(self, name)) is not None
        }
        return msgspec.structs.replace(self, source=source, **files)


# It reads the type before there are threads, two of which may not convert to it for the first time together.
_DECODER = msgspec.json.Decoder(ImportRequest)


_FOLDER, _SUFFIX = "imports", ".json"
_DRAFT = ".new"
_MOST_BYTES = 1 << 20
_DISK = Disk()


@dataclass(frozen=True, slots=True)
class UnfinishedImport:
    """``started`` is in seconds since the epoch. ``problem`` is why the record cannot be read, and the request an empty
    one then; a damaged one can still be forgotten."""

    id: str
    started: float
    request: ImportRequest
    problem: str = ""

    @property
    def can_be_forgotten(self) -> bool:
        return self.problem != _LATER

    def require_readable(self) -> None:
        """Raises SourceError, with what can be done."""
        if self.problem:
            removes = f"ocitui imports --forget {self.id} removes it"
            hint = removes if self.can_be_forgotten else "that one goes on with it, or forgets it"
            raise SourceError(f"the record of the import {self.id} cannot be read: {self.problem}", hint=hint)


@contextmanager
def recorded_import(directory: Path, request: ImportRequest, resumes: str = "") -> Iterator[str]:
    """Keep a record of an import while it runs; gives its id. ``resumes`` is that of an interrupted one to go on with.

    It is removed at the end; where the program is told to leave meanwhile (anything but an Exception), it stays.
    Raises CacheDirectoryError, StorageError, ReadOnlyError, SourceError where there is no such source, and for one that
    is gone on with as `resumed` does.
    """
    if resumes:
        with resumed(directory, resumes):
            yield resumes
        return
    request = request.with_absolute_paths()
    check_directory(directory)
    with import_folder(directory, _DISK, _FOLDER) as folder, ExitStack() as stack:
        import_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}"
        name = f"{import_id}{_SUFFIX}"
        with storage_errors("note what is to be imported"):
            _write(folder, name, request.to_json(), stack)
        try:
            yield import_id
        except Exception:
            _conclude(folder, name)
            raise
        _conclude(folder, name)


def _write(folder: Folder, name: str, data: bytes, stack: ExitStack) -> None:
    """A new record, locked as long as the stack stands. A program killed before its end leaves a draft only."""
    with locked(folder):
        for left in folder.names():
            if left.endswith(_DRAFT):
                _DISK.unlink(folder, left)
        draft = f"{name}{_DRAFT}"
        fd = _DISK.create(folder, draft, 0o600)
        stack.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        _DISK.write(fd, draft, data)
        _DISK.rename(folder, draft, folder, name)


@contextmanager
def resumed(directory: Path, import_id: str) -> Iterator[ImportRequest]:
    """Go on with an interrupted import; gives what it was asked to do.

    Its record is held meanwhile and removed at the end, but stays where that is an error: it can be tried again.
    Raises CacheDirectoryError, StorageError, ReadOnlyError, and SourceError where there is no such record, or another
    program holds it.
    """
    check_directory(directory)
    with import_folder(directory, _DISK, _FOLDER) as folder, ExitStack() as stack:
        name = f"{os.path.basename(import_id)}{_SUFFIX}"
        with storage_errors("go on with an import"):
            try:
                data = _hold(folder, name, fcntl.LOCK_EX, stack)
            except FileNotFoundError as error:
                message = f"there is no interrupted import {import_id}"
                raise SourceError(message, hint="ocitui imports lists them") from error
            except BlockingIOError as error:
                message = f"another program goes on with the import {import_id}"
                raise SourceError(message, hint="ocitui imports lists the others") from error
        found = _decoded(import_id, 0.0, lambda: data)
        found.require_readable()
        yield found.request
        _conclude(folder, name)


def _hold(folder: Folder, name: str, lock: int, stack: ExitStack) -> bytes:
    """A record, held as long as the stack stands. Raises OSError: BlockingIOError where another program holds it."""
    file = stack.enter_context(folder.open_file(name, _MOST_BYTES))
    fcntl.flock(file, lock | fcntl.LOCK_NB)
    if not os.fstat(file.fileno()).st_nlink:
        raise FileNotFoundError(name)
    return read_to_end(file, _MOST_BYTES)


def _decoded(import_id: str, started: float, read: Callable[[], bytes]) -> UnfinishedImport:
    request, problem = ImportRequest(source=""), ""
    try:
        request = ImportRequest.from_json(read())
    except LaterRequestError:
        problem = _LATER
    except (FileNotFoundError, BlockingIOError):
        raise
    except (OSError, ValueError, RecursionError):
        problem = _DAMAGED
    return UnfinishedImport(import_id, started, request, problem)


def unfinished_imports(directory: Path) -> list[UnfinishedImport]:
    """The imports that were interrupted, the oldest first, those too whose records cannot be read; nothing is changed.
    Raises StorageError."""
    records = []
    with (
        storage_errors("look for interrupted imports"),
        suppress(FileNotFoundError, ConflictError),
        open_own_folder(directory, _FOLDER) as folder,
    ):
        for name in sorted(folder.names()):
            with ExitStack() as stack:
                if name.endswith(_SUFFIX) and (record := _read_free(folder, name, stack)):
                    records.append(record)
    return records


def forget_import(directory: Path, import_id: str) -> None:
    """Remove the record of an interrupted import, damaged or not; one that runs stays. Raises StorageError,
    ReadOnlyError, and SourceError for one of a later ocitui."""
    with (
        storage_errors("forget an import"),
        import_folder(directory, _DISK, _FOLDER) as folder,
        # Held until it is removed, so that nobody goes on with it in between.
        ExitStack() as stack,
    ):
        name = f"{import_id}{_SUFFIX}"
        one = None if "/" in import_id else _read_free(folder, name, stack)
        if one is not None:
            if not one.can_be_forgotten:
                one.require_readable()
            _DISK.unlink(folder, name)


def _read_free(folder: Folder, name: str, stack: ExitStack) -> UnfinishedImport | None:
    """A record that nobody holds, held as long as the stack stands; None for others."""
    found = folder.lstat(name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    with suppress(FileNotFoundError, BlockingIOError):
        return _decoded(name.removesuffix(_SUFFIX), found.st_mtime, lambda: _hold(folder, name, fcntl.LOCK_SH, stack))
    return None


def _conclude(folder: Folder, name: str) -> None:
    """Remove the record of an import that is over, whose outcome stands whether or not that can be done."""
    with suppress(OSError):
        _DISK.unlink(folder, name)
