"""A report: what explains an incident, in one archive to send; and the cache opened from it, as it was on that host.

It is a gzip-compressed tar. `incident.json`, its last member, has the facts of the host and of each file of the cache;
below `cache/` lie the index, what ocitui keeps in `.ocitui`, and the documents, redacted. Of packed files there is what
their headers say, and their size. Opened, each file has its place in a directory of ours, with the bytes that there
are, and is judged as it is told to have been (`ocitui.stand_in`).
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import platform
import stat
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from gzip import GzipFile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, BinaryIO, cast

import msgspec

from ocitui import __version__
from ocitui.cache import (
    BACKUPS_NAME,
    FILE_SUFFIXES,
    INDEX_NAME,
    JOURNAL_NAME,
    LEDGER_NAME,
    MOST_DOCUMENT_BYTES,
    MOST_INDEX_BYTES,
    OWN_NAME,
    SOUND_PACKED,
    TRASH_NAME,
    CacheError,
    CacheFiles,
    FileKind,
    Ledger,
    PackedCheck,
    PackedFormat,
    check_packed_file,
    open_bounded,
    read_bounded,
    read_config,
    read_manifest,
)
from ocitui.host import (
    DaemonState,
    Leftover,
    LoopUse,
    Zones,
    daemon_leftovers,
    find_daemon,
    read_zones,
    unit_log,
    users_of,
)
from ocitui.stand_in import ToldFile, file_system, forget, may_write, stand_in, stand_in_bytes, stand_in_file
from ocitui.text import escaped, unescaped

from .acknowledged import ACKNOWLEDGED_NAME
from .assessment import process_trouble
from .check.cache_checks import locked, taken_file_missing
from .redaction import redacted

_FACTS, _BELOW, _LOG = "incident.json", "cache/", "kratad.log"
_VERSION = 1
# What ocitui writes there itself, and no secret of an image or a registry.
_KEPT_FOLDERS = frozenset((JOURNAL_NAME, BACKUPS_NAME, "corrupt"))
_KEPT_FILES = frozenset((LEDGER_NAME, ACKNOWLEDGED_NAME, "told"))
_DEEPEST = 3
_MOST_FILES, _MOST_FACTS, _MOST_OWN = 2_000_000, 512 << 20, 64 << 20
MOST_BYTES = 4 << 30
"""Of what is in a report, uncompressed; what would be more is left out when one is made, and refused."""
_MOST_TEXT = 1 << 20
_BLOCK, _BUFFER = 1 << 20, 1 << 14
# Of headers, padding, and what is read ahead of a member.
_MOST_BETWEEN = 64 << 10
_PACKED = tuple(f".{format_}" for format_ in PackedFormat)
_READERS: dict[str, Callable[[bytes], object]] = {
    f".{suffix}": read_manifest if kind is FileKind.MANIFEST else read_config
    for suffix, kind in FILE_SUFFIXES.items()
    if not isinstance(kind, PackedFormat)
}


I64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ReportError(CacheError):
    code = "report"
    default_hint = "ocitui report FILE makes one, on the host of the cache"


class PackedTold(msgspec.Struct, frozen=True, array_like=True):
    """What the header of a packed file says, as `PackedCheck` has it."""

    found: PackedFormat | None
    problem: str | None = None
    unchecked: str = ""
    tail: int = 0


class KeptFile(msgspec.Struct, frozen=True, array_like=True):
    """A name in the cache, at a path below it with odd bytes spelt. ``kept`` is how many bytes of it are in the report,
    None: it has only its place. ``target`` is where a link leads: a name beside it, ``/`` out of the cache, empty to
    nothing. ``sha256`` is of its true bytes, where they are known; ``error`` that of opening it, else 0."""

    path: str
    mode: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
    inode: Natural
    device: Natural
    links: Natural
    uid: Natural
    gid: Natural
    size: Natural
    modified_ns: I64
    changed_ns: I64
    kept: Natural | None = None
    target: str | None = None
    check: PackedTold | None = None
    sha256: str = ""
    error: Annotated[int, msgspec.Meta(ge=0, le=4095)] = 0

    @property
    def stat(self) -> os.stat_result:
        """As the host had it."""
        times = self.modified_ns // 10**9, self.modified_ns // 10**9, self.changed_ns // 10**9
        numbers = self.mode, self.inode, self.device, self.links, self.uid, self.gid, self.size, *times
        more = {"st_atime_ns": self.modified_ns, "st_mtime_ns": self.modified_ns, "st_ctime_ns": self.changed_ns}
        return os.stat_result(numbers, more)


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a host, and what a report holds of its cache. ``when`` is in seconds since the epoch, ``disk`` the
    ten numbers of statvfs(3), ``taken`` why a zone's file is not in a tar, by role and digest."""

    version: int
    host: str
    cache: str
    when: float
    versions: dict[str, str]
    daemon: DaemonState
    trouble: str
    zones: Zones
    loops: dict[str, list[LoopUse]]
    leftovers: list[Leftover]
    disk: Annotated[list[Natural], msgspec.Meta(min_length=10, max_length=10)] | None
    writable: bool
    locked: bool
    taken: dict[str, str]
    files: list[KeptFile]
    notes: list[str]


# Built here, before there are threads: msgspec crashes when two of them decode a type for the first time together.
_decode = msgspec.json.Decoder(Incident, dec_hook=lambda kind, value: Path(value)).decode
_encode = msgspec.json.Encoder(enc_hook=str).encode


# Making one


def write_report(directory: Path, file: BinaryIO) -> Incident:
    """Put what explains an incident into an open file. Raises CacheDirectoryError, OSError."""
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive, CacheFiles(directory) as files:
        packing = _Packing(directory, files, archive)
        packing.run()
        incident = _incident(directory, packing)
        for name, text in ((_LOG, unit_log()[-_MOST_TEXT:]), (_FACTS, _encode(incident))):
            _add(archive, name, text)
    return incident


def _incident(directory: Path, packing: _Packing) -> Incident:
    daemon, zones = find_daemon(directory), read_zones(directory, ask=False)
    disk: list[int] | None = None
    with suppress(OSError):
        disk = [*file_system(directory)]
    needs = {(need.digest, need.role) for _, need in zones.needs() if need.role.path}
    return Incident(
        version=_VERSION,
        host=os.uname().nodename,
        cache=os.path.abspath(directory),
        when=time.time(),
        versions={"ocitui": __version__, "python": platform.python_version(), "kernel": os.uname().release},
        daemon=daemon,
        trouble=process_trouble(daemon.process),
        zones=zones,
        loops={name: list(uses) for name, uses in users_of(directory).items()},
        leftovers=daemon_leftovers(directory),
        disk=disk,
        writable=may_write(directory),
        locked=locked(directory / OWN_NAME),
        taken={f"{role} {digest}": taken_file_missing(directory, digest, role) for digest, role in sorted(needs)},
        files=packing.told,
        notes=packing.notes,
    )


class _Packing:
    """Goes over the names of a cache: what of each is put into the archive, and what is told of it."""

    def __init__(self, directory: Path, files: CacheFiles, archive: tarfile.TarFile) -> None:
        self._directory, self._files, self._archive = directory, files, archive
        self.told, self.notes = list[KeptFile](), list[str]()
        self._left = MOST_BYTES // 2
        ledger = Ledger.open(directory)
        self._hashes = {one.identity: one.sha256 for one in ledger.sound.values()}

    def run(self) -> None:
        for item in self._files.items():
            if item.name != OWN_NAME:
                self._take(Path(item.name))
        if os.path.lexists(self._directory / OWN_NAME):
            self._walk(Path(OWN_NAME))

    def _walk(self, below: Path) -> None:
        """A folder of ours, and what is in it; never through a link."""
        place = self._directory / below
        self._take(below)
        if len(below.parts) > _DEEPEST or not stat.S_ISDIR(_mode(place)):
            return
        with suppress(OSError):
            for name in sorted(os.listdir(place)):
                if stat.S_ISDIR(_mode(place / name)):
                    self._walk(below / name)
                else:
                    self._take(below / name)

    def _take(self, path: Path) -> None:
        place = self._directory / path
        try:
            found = os.lstat(place)
        except OSError as error:
            self.notes.append(f"{escaped(os.fsencode(path))}: {error.strerror}")
            return
        more: dict[str, Any] = {}
        try:
            if stat.S_ISLNK(found.st_mode):
                more = self._of_link(path, place)
            elif stat.S_ISREG(found.st_mode):
                more = self._of_file(path, place, found)
        except OSError as error:
            more = {"error": error.errno or errno.EIO}
        numbers = found.st_mode, found.st_ino, found.st_dev, found.st_nlink, found.st_uid, found.st_gid
        times = found.st_mtime_ns, found.st_ctime_ns
        self.told.append(KeptFile(escaped(os.fsencode(path)), *numbers, found.st_size, *times, **more))

    def _of_link(self, path: Path, place: Path) -> dict[str, Any]:
        if path.name == INDEX_NAME and place.is_file():
            # The daemon reads it through a link.
            return {"target": "/", "kept": self._keep(path, read_bounded(place, MOST_INDEX_BYTES))}
        if self._files.target(path.name) is not None and len(path.parts) == 1:
            return {"target": escaped(os.fsencode(place.resolve().name))}
        return {"target": "/" if place.exists() else ""}

    def _of_file(self, path: Path, place: Path, found: os.stat_result) -> dict[str, Any]:
        in_trash = path.parts[:-1] == (OWN_NAME, TRASH_NAME)
        if path.parts == (INDEX_NAME,):
            return {"kept": self._keep(path, read_bounded(place, MOST_INDEX_BYTES))}
        if len(path.parts) == 1 or in_trash:
            if (read := next((one for end, one in _READERS.items() if path.name.endswith(end)), None)) is not None:
                return self._of_document(path, read_bounded(place, MOST_DOCUMENT_BYTES), read)
            if path.name.endswith(_PACKED):
                with open_bounded(place) as file:
                    check = PackedTold(*check_packed_file(file.fileno(), found.st_size))
                identity = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
                return {"check": check, "sha256": self._hashes.get(identity, "")}
        elif (len(path.parts) == 2 and path.name in _KEPT_FILES) or path.parts[1] in _KEPT_FOLDERS:
            return {"kept": self._keep(path, read_bounded(place, _MOST_OWN, follow=False))}
        return {}

    def _of_document(self, path: Path, raw: bytes, read: Callable[[bytes], object]) -> dict[str, Any]:
        sha256 = hashlib.sha256(raw).hexdigest()
        return {"kept": self._keep(path, redacted(raw, read, sha256)), "sha256": sha256}

    def _keep(self, path: Path, data: bytes) -> int | None:
        """Put bytes into the archive, where there is room for them."""
        name = escaped(os.fsencode(path))
        self._left -= len(data)
        if self._left < 0:
            self.notes.append(f"{name} is left out: the report would be too large")
            return None
        _add(self._archive, _BELOW + name, data)
        return len(data)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
    archive.addfile(member, io.BytesIO(data))


def _mode(path: Path) -> int:
    with suppress(OSError):
        return os.lstat(path).st_mode
    return 0


# Opening one


def is_report(path: Path) -> bool:
    """Whether it is a file that begins as a report does."""
    with suppress(OSError), open_bounded(path) as file:
        return file.read(2) == b"\x1f\x8b"
    return False


@contextmanager
def opened_report(path: Path) -> Iterator[Path]:
    """The cache of a report, as it was, in a directory of ours that is removed in the end. Raises ReportError."""
    with TemporaryDirectory(prefix="ocitui-report-") as folder:
        directory = Path(folder, "store", "cache", "image")
        directory.mkdir(parents=True)
        try:
            _open(path, directory, Path(folder, "outside"))
            yield directory
        finally:
            forget(directory)


def _open(path: Path, directory: Path, outside: Path) -> None:
    """Raises ReportError."""
    try:
        incident = _facts(path)
        _Unpacking(directory, outside, incident).run(path)
    except (OSError, ValueError, EOFError, OverflowError, zlib.error, tarfile.TarError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ReportError(f"{path} is no report that can be opened: {why}") from error
    stand_in(directory, {"form": "a report", **msgspec.structs.asdict(incident)})


def _facts(path: Path) -> Incident:
    for name, size, body in _members(path):
        if name == _FACTS:
            if size > _MOST_FACTS:
                raise ValueError(f"{_FACTS} has {size} bytes")
            incident = _decode(body.read())
            if incident.version != _VERSION:
                raise ValueError(f"it is of version {incident.version}, and this ocitui reads {_VERSION}")
            if len(incident.files) > _MOST_FILES:
                raise ValueError(f"it tells of {len(incident.files)} files")
            return incident
    raise ValueError(f"it has no {_FACTS}")


def _members(path: Path) -> Iterator[tuple[str, int, BinaryIO]]:
    """The name, size and bytes of each. Raises what reading a compressed archive raises, ValueError for what no report
    holds."""
    with (
        open_bounded(path) as file,
        GzipFile(fileobj=file, mode="rb") as plain,
        tarfile.open(fileobj=cast(Any, bounded := _Bounded(plain)), mode="r|", bufsize=_BUFFER) as archive,
    ):
        for member in archive:
            bounded.allow(member.size)
            body = archive.extractfile(member) if member.type == tarfile.REGTYPE and not member.issparse() else None
            if body is None:
                raise ValueError(f"{ascii(member.name)[:80]} is no plain file")
            yield member.name, member.size, cast(BinaryIO, body)


class _Bounded:
    """What is decompressed, up to what a report may have, and no more of it than its members account for: `tarfile`
    takes a header in whole."""

    def __init__(self, plain: GzipFile) -> None:
        self._plain, self._left, self._allowed = plain, MOST_BYTES, _MOST_BETWEEN

    def allow(self, size: int) -> None:
        """A member of that size was met."""
        self._allowed = size + _MOST_BETWEEN

    def read(self, size: int) -> bytes:
        data = self._plain.read(size)
        self._left -= len(data)
        self._allowed -= len(data)
        if self._left < 0:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        if self._allowed < 0:
            raise ValueError("it has a header without an end")
        return data


class _Unpacking:
    """Makes the names of a cache anew in ``directory``; links out of it lead to ``outside``."""

    def __init__(self, directory: Path, outside: Path, incident: Incident) -> None:
        self._directory, self._outside, self._incident = directory, outside, incident
        outside.mkdir()
        self._wanted = {one.path: one for one in incident.files}
        if len(self._wanted) != len(incident.files):
            raise ValueError("it tells of one name twice")

    def run(self, path: Path) -> None:
        """Raises ValueError, OSError for what is none of a cache's names, and what `_members` raises."""
        # Folders before what is in them; links come last, so that nothing is written through one.
        for one in sorted(self._incident.files, key=lambda one: (stat.S_ISLNK(one.mode), one.path.count("/"))):
            self._make(one)
        for name, size, body in _members(path):
            if name not in (_FACTS, _LOG):
                wanted = self._wanted.pop(name.removeprefix(_BELOW), None) if name.startswith(_BELOW) else None
                if wanted is None or wanted.kept != size:
                    raise ValueError(f"it holds {ascii(name)[:80]}, of which it tells something else")
                self._fill(wanted, body)
        if missing := [one.path for one in self._wanted.values() if one.kept is not None]:
            raise ValueError(f"it lacks {ascii(missing[0])[:80]}")
        for one in sorted(self._incident.files, key=lambda one: -one.path.count("/")):
            self._tell(one)

    def _place(self, one: KeptFile) -> Path:
        parts = unescaped(one.path.encode()).split(b"/")
        if len(parts) > _DEEPEST + 2 or any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
            raise ValueError(f"{ascii(one.path)[:80]} is no name in a cache")
        return self._directory / os.fsdecode(b"/".join(parts))

    def _make(self, one: KeptFile) -> None:
        place, kind = self._place(one), stat.S_IFMT(one.mode)
        if kind == stat.S_IFDIR:
            place.mkdir(mode=0o700)
        elif kind == stat.S_IFLNK:
            place.symlink_to(self._target(one))
        elif kind == stat.S_IFREG:
            with open(place, "xb", opener=_private) as file:
                file.truncate(one.size)
        else:
            os.mkfifo(place, 0o600)

    def _target(self, one: KeptFile) -> str:
        """What a link is to lead to: a name beside it, a file of ours, or nothing."""
        if one.target == "/":
            out = self._outside / f"{len(os.listdir(self._outside))}"
            out.touch(0o600)
            return str(out)
        target = unescaped((one.target or "").encode())
        if b"/" in target or b"\0" in target or target in (b".", b".."):
            raise ValueError(f"{ascii(one.path)[:80]} leads out of its cache")
        return os.fsdecode(target) or str(self._outside / "nothing")

    def _fill(self, one: KeptFile, body: BinaryIO) -> None:
        place = self._place(one)
        if stat.S_ISLNK(one.mode) and one.target == "/":
            place = place.readlink()
        elif not stat.S_ISREG(one.mode):
            raise ValueError(f"{ascii(one.path)[:80]} is no file that has bytes")
        document = place.name.endswith(tuple(_READERS))
        with open(os.open(place, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), "wb") as file:
            if document:
                data = body.read(MOST_DOCUMENT_BYTES + 1)
                file.write(data)
                if one.sha256 and hashlib.sha256(data).hexdigest() != one.sha256:
                    stand_in_bytes(data, f"sha256:{one.sha256}")
            else:
                while data := body.read(_BLOCK):
                    file.write(data)

    def _tell(self, one: KeptFile) -> None:
        place = self._place(one)
        if one.kept is None or "/" not in one.path:
            check = None if one.check is None else PackedCheck(*msgspec.structs.astuple(one.check))
            if check is not None and check.found is not None and check == SOUND_PACKED[check.found]:
                check = SOUND_PACKED[check.found]
            hashed = one.sha256 if one.kept is None else ""
            stand_in_file(self._directory, place, ToldFile(one.stat, check, hashed, one.error))
        os.utime(place, ns=(one.modified_ns, one.modified_ns), follow_symlinks=False)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
