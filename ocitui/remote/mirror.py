"""Another host's cache, read here: a sparse copy of what says how its entries are, which the judge takes for the cache.

`gatherer` ships facts: of each name its stat, of documents, index and what is ours all bytes, of packed files what says
whether they are whole; and what the host tells of itself. They land in a directory of ours, which lives as long as
it is asked, and the same code as on that host judges them, to the depth of headers. Asked again, it sends what changed.

A host is not believed more than any input: a name is one component, no link leads out of the cache, and bytes, names
and records are counted.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ocitui.cache import OWN_NAME, TRASH_NAME, CacheDirectoryError, StorageError
from ocitui.doctor import process_trouble
from ocitui.host import Kernel, LoopUse, domains_of, find_daemon, users_of, zones_in
from ocitui.stand_in import ToldFile, forget, forget_file, stand_in, stand_in_file
from ocitui.text import printable
from ocitui.threads import settled

from .far_files import FarFiles
from .ssh import Connection, FarAnswerError, Patience, SshPlace, program_of

_GATHERER = Path(__file__).with_name("gatherer.py")
_MOST_NAMES, _MOST_BYTES, _MOST_RAW, _MOST_RECORDS = 600_000, 2 << 30, 64 << 20, 1 << 14
_LARGEST_FILE, _DEEPEST = 1 << 43, 4  # bytes; components of a path
_DATABASE, _FORM = "/krata.db", "a mirror over ssh"


_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_LATEST = 1e11  # in seconds since the epoch; what can be told of as a date
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=_LATEST)]
_Name = Annotated[str, msgspec.Meta(max_length=255)]


class _Sent(msgspec.Struct):
    """A name of the cache: its path, the mark of what it was, its stat, the error of reading it, where a link leads."""

    path: str
    mark: Annotated[str, msgspec.Meta(max_length=64)]
    stat: tuple[int, int, int, int, int, int, int, int, int]
    failed: int
    leads: str


class _Loop(msgspec.Struct, array_like=True):
    name: str
    path: str
    told: dict[str, str]
    holders: list[str]
    mounts: list[str]


class HostFacts(msgspec.Struct):
    """What a host says of itself, beside the names of the cache."""

    node: _Name
    user: _Name
    uid: int
    now: _Seconds
    directory: str
    device: _Number
    space: tuple[_Number, _Number, _Number, _Number, _Number, _Number, _Number, _Number, _Number, _Number]
    writable: bool
    locked: bool
    boot: str
    daemons: list[tuple[int, str, str, str, str]]
    socket: bool
    listens: bool | None
    krata: bool
    loops: list[_Loop]
    xen: tuple[list[str], list[str]] | None
    version: _Name


class _Record(msgspec.Struct):
    files: list[list[Any]] = []
    pieces: list[tuple[str, int, int]] = []
    gone: list[str] = []
    host: HostFacts | None = None
    failed: tuple[int, str] | None = None


_RECORDS = msgspec.json.Decoder(_Record)
# It reads the type before there are threads, two of which may not convert to one for the first time together.
_SENT = msgspec.json.Decoder(_Sent)


class HostMirror:
    """A host's cache as it was when it was asked. Within `async with`, `ask` asks it, as often as wanted; ``directory``
    is then what stands for the cache, ``facts`` what the host said of itself, ``taken`` the bytes that came last."""

    def __init__(
        self, place: SshPlace, *, sudo: bool = False, patience: Patience | None = None, shared: bool = False
    ) -> None:
        """Raises StorageError."""
        self.place, self._sudo = place, sudo
        self._connection = Connection(place, patience=patience or Patience(), shared=shared)
        self.there = place.there
        try:
            self._root = Path(tempfile.mkdtemp(prefix="ocitui-mirror-"))
            self.directory = self._root / "krata" / "cache" / "image"
            self.directory.mkdir(0o700, parents=True)
        except OSError as error:
            raise StorageError(f"what {place.name} tells cannot be kept here: {error.strerror}") from error
        stand_in(self.directory, {"form": _FORM, "host": place.name, "cache": self.there})
        self.facts: HostFacts | None = None
        self._marks, self._sizes, self.taken = dict[str, str](), dict[str, int](), 0
        # The bytes that lie here of each name, and of all: however often it is asked, they are no more than one answer.
        self._held, self._holds = Counter[str](), 0
        self._elsewhere, self._numbers = dict[str, Path](), count()

    async def __aenter__(self) -> HostMirror:
        try:
            await self._connection.__aenter__()
        except BaseException:
            await settled(asyncio.to_thread(self.remove))
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._connection.__aexit__()
        finally:
            await settled(asyncio.to_thread(self.remove))

    def remove(self) -> None:
        """End it: for who asked once, and does not stay within `async with`."""
        forget(self.directory)
        shutil.rmtree(self._root, ignore_errors=True)

    @property
    def trash_bytes(self) -> int:
        """What the trash there holds."""
        return sum(size for path, size in self._sizes.items() if path.startswith(f"{OWN_NAME}/{TRASH_NAME}/"))

    async def jump(self) -> str:
        """The host through which the operator's configuration leads there, empty without one. Raises RemoteError."""
        told = (await self._connection.configuration()).get("proxyjump", "none")
        return "" if told == "none" else told

    async def ask(self) -> HostFacts:
        """Have the host tell what changed since it was asked last. Raises RemoteError, CacheDirectoryError."""
        facts, came, self.taken = None, 0, 0
        request = {"directory": self.there, "known": list(self._marks.values())}
        async with self._connection.ask(program_of(_GATHERER, request), sudo=self._sudo) as records:
            async for data in records:
                if (came := came + 1) > _MOST_RECORDS:
                    raise FarAnswerError(f"{self.place.name} sends more than {_MOST_RECORDS} records")
                # It makes nothing any more once what there is may be removed.
                facts = await settled(asyncio.to_thread(self._take, data)) or facts
        if facts is None:
            raise FarAnswerError(f"{self.place.name} told nothing of itself")
        self.facts = facts
        try:
            await settled(asyncio.to_thread(self._stand_in, facts))
        except (OSError, ValueError, LookupError, OverflowError) as error:
            raise FarAnswerError(f"what {self.place.name} tells of itself makes no sense") from error
        return facts

    def _take(self, data: bytes) -> HostFacts | None:
        """Land a record. Raises FarAnswerError where it is not one, CacheDirectoryError where it says so."""
        try:
            raw = _inflated(data)
            length = struct.unpack_from(">I", raw)[0]
            record = _RECORDS.decode(raw[4 : 4 + length])
            for told in record.files:
                self._take_file(_sent(told))
            at = 4 + length
            for path, offset, size in record.pieces:
                self._take_piece(path, offset, raw[at : at + size])
                at += size
        except (msgspec.MsgspecError, struct.error, zlib.error, ValueError, OverflowError) as error:
            why = printable(str(error).encode("utf-8", "backslashreplace"))
            raise FarAnswerError(f"{self.place.name} sends what is no fact of a cache: {why}") from error
        except OSError as error:
            raise FarAnswerError(f"what {self.place.name} sends cannot be kept: {error.strerror}") from error
        gone = {*record.gone}
        for path in [path for path, mark in self._marks.items() if mark in gone]:
            self._remove(path)
        if record.failed is not None:
            number, text = record.failed
            error_text = printable(text.encode("utf-8", "backslashreplace")).strip("'")
            as_root = ", or read it as root: --sudo" if number in (errno.EACCES, errno.EPERM) else ""
            hint = f"name the directory there, as in ssh://{self.place.name}/DIR{as_root}"
            raise CacheDirectoryError(f"{self.there} on {self.place.name} cannot be read: {error_text}", hint=hint)
        return record.host

    def _take_file(self, sent: _Sent) -> None:
        """Make what stands for a name. Raises ValueError for a name that can be none of a cache, OSError."""
        path, (mode, inode, device, links, uid, gid, size, modified, changed) = self._at(sent.path), sent.stat
        if not 0 <= size < _LARGEST_FILE and stat.S_ISREG(mode):
            raise ValueError(f"a file of {size} bytes")
        if len(self._sizes) >= _MOST_NAMES:
            raise ValueError(f"more than {_MOST_NAMES} names")
        if not (stat.S_ISDIR(mode) and path.is_dir() and not path.is_symlink()):
            if os.path.lexists(path):
                self._remove(sent.path)
            self._make(path, sent, mode, size)
        if not path.is_symlink():
            with suppress(OverflowError, OSError):
                os.utime(path, ns=(modified, modified))
        self._marks[sent.path], self._sizes[sent.path] = sent.mark, size if stat.S_ISREG(mode) else 0
        if sent.leads == "/":
            self._sizes[sent.path] = _LARGEST_FILE
        if "/" not in sent.path:
            times = {"st_atime_ns": modified, "st_mtime_ns": modified, "st_ctime_ns": changed}
            seconds = (modified // 10**9, modified // 10**9, changed // 10**9)
            found = os.stat_result((mode, inode, device, links, uid, gid, size, *seconds), times)
            if mode:
                stand_in_file(self.directory, path, ToldFile(found, error=sent.failed))

    def _make(self, path: Path, sent: _Sent, mode: int, size: int) -> None:
        if sent.path == _DATABASE and sent.failed:
            # A link to itself: what may not be read, rather than what is not there.
            path.symlink_to(path.name)
        elif stat.S_ISREG(mode):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, size)
                os.fchmod(fd, mode & 0o777 | 0o600)
            finally:
                os.close(fd)
        elif stat.S_ISDIR(mode):
            path.mkdir(mode & 0o777 | 0o700)
        elif stat.S_ISLNK(mode):
            path.symlink_to(self._lead(sent))
        elif mode:
            os.mkfifo(path, 0o600)

    def _lead(self, sent: _Sent) -> Path | str:
        """Where a link leads: to another name of its directory, or where a slash says so to a file of elsewhere."""
        if sent.leads == "/":
            self._elsewhere[sent.path] = file = self._root / "elsewhere" / str(next(self._numbers))
            file.parent.mkdir(exist_ok=True)
            file.touch()
            return file
        return self._one_name(sent.leads) if sent.leads else self._root / "nowhere"

    def _take_piece(self, name: str, offset: int, data: bytes) -> None:
        path, size = self._elsewhere.get(name) or self._at(name), self._sizes.get(name, 0)
        self.taken += len(data)
        self._holds += len(data)
        if offset < 0 or offset + len(data) > size or max(self.taken, self._holds) > _MOST_BYTES:
            raise ValueError(f"{len(data)} bytes at {offset} of a file of {size}")
        self._held[name] += len(data)
        # What stands for a pipe would wait for a reader.
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = os.fstat(fd).st_mtime_ns
            os.pwrite(fd, data, offset)
            os.utime(fd, ns=(before, before))
        finally:
            os.close(fd)

    def _at(self, path: str) -> Path:
        """Where a name lands. Raises ValueError where that is not within the cache, or the database beside it."""
        if path == _DATABASE:
            return self._root / "krata" / path[1:]
        names = path.split("/")
        if len(names) > _DEEPEST or (len(names) > 1 and names[0] != OWN_NAME):
            raise ValueError(f"the path {path!r}")
        at = self.directory
        for name in names:
            if at != self.directory and at.is_symlink():
                raise ValueError(f"a link on the way to {path!r}")
            at = at / self._one_name(name)
        return at

    @staticmethod
    def _one_name(name: str) -> str:
        if not name or "/" in name or "\0" in name or name in (".", "..") or len(os.fsencode(name)) > 255:
            raise ValueError(f"the name {name!r}")
        return name

    def _remove(self, path: str) -> None:
        if path in self._elsewhere:
            self._elsewhere.pop(path).unlink(missing_ok=True)
        for known in (self._marks, self._sizes):
            known.pop(path, None)
        self._holds -= self._held.pop(path, 0)
        at = self._at(path)
        with suppress(FileNotFoundError):
            forget_file(self.directory, at)
            if at.is_dir() and not at.is_symlink():
                shutil.rmtree(at)
                for one in [one for one in self._marks if one.startswith(f"{path}/")]:
                    self._remove(one)
            else:
                at.unlink()

    def _stand_in(self, facts: HostFacts) -> None:
        """Have the mirror stand for that host. Raises ValueError, LookupError, OverflowError, OSError where what it
        tells cannot be."""
        self._write_host(facts)
        proc = self._root / "proc"
        daemon = find_daemon(self.directory, proc)
        if not 0 <= (daemon.since or 0) <= _LATEST:
            raise ValueError(f"a daemon of {daemon.since}")
        if not daemon.running:
            daemon = msgspec.structs.replace(daemon, listens=facts.listens)
        uses = users_of(self.directory, Kernel(self._root / "sys", self._root / "dev", proc))
        loops = {name: [self._there(use) for use in of_file] for name, of_file in uses.items()}
        domains = domains_of(*facts.xen) if facts.xen else None
        device = os.stat_result((stat.S_IFDIR, 0, facts.device, *[0] * 7))
        stand_in_file(self.directory, self.directory, ToldFile(device))
        told = {
            "form": _FORM,
            "host": facts.node,
            "cache": self.there,
            "login": self.place.login,
            "when": facts.now,
            "asked": time.time(),
            "daemon": daemon,
            "trouble": process_trouble(daemon.process, proc),
            "loops": loops,
            "zones": zones_in(self.directory, loops, lambda: domains, ask=False),
            "leftovers": [],
            "disk": facts.space,
            "writable": facts.writable,
            "locked": facts.locked,
        }
        stand_in(self.directory, told)

    def _there(self, use: LoopUse) -> LoopUse:
        if use.readable_size >= _LARGEST_FILE:
            raise ValueError(f"a device of {use.readable_size} bytes")
        path = use.path.replace(str(self.directory), self.there)
        return msgspec.structs.replace(use, device=Path("/dev", use.device.name), path=path)

    def _write_host(self, facts: HostFacts) -> None:
        """What the host's system tells, under the names that the kernel has for it."""
        proc, block, store = self._root / "proc", self._root / "sys" / "block", self._root / "krata"
        for folder in (proc, block):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        _write(proc / "stat", facts.boot)
        database = store / "krata.db"
        leads = {"same": str(database), "deleted": f"{database} (deleted)", "other": str(self._root / "o" / "krata.db")}
        for process, *told, serves in facts.daemons:
            place = proc / str(abs(process))
            (place / "fd").mkdir(parents=True, exist_ok=True)
            for part, text in zip(("comm", "stat", "status", "wchan"), ("kratad", *told), strict=True):
                _write(place / part, text)
            if serves in leads:
                (place / "fd" / "3").symlink_to(leads[serves])
        mounts = []
        for loop in facts.loops[:1024]:
            device = block / f"loop{int(loop.name.removeprefix('loop'))}"
            for part in ("loop", "holders"):
                (device / part).mkdir(parents=True, exist_ok=True)
            for holder in loop.holders:
                _write(device / "holders" / self._one_name(holder), "")
            for part in ("size", "ro", "dev", "loop/offset"):
                _write(device / part, loop.told.get(part, ""))
            _write(device / "loop" / "backing_file", f"{self.directory}/{loop.path}\n")
            mounts += loop.mounts
        (proc / "self").mkdir(exist_ok=True)
        _write(proc / "self" / "mountinfo", "\n".join(mounts))
        for mark, there in ((store / "daemon.socket", facts.socket), (store / "host.uuid", facts.krata)):
            mark.touch() if there else mark.unlink(missing_ok=True)


class SshPeers(msgspec.Struct, frozen=True):
    """Caches of other hosts for a repair, each written ``ssh://[USER@]HOST[:PORT][/DIR]``, read as root by ``sudo``."""

    sudo: bool = False

    def leads_to(self, text: str) -> bool:
        """Whether a source is on another host. Raises InvalidPlaceError."""
        return text.startswith("ssh://") and bool(SshPlace.parse(text))

    @asynccontextmanager
    async def look(self, text: str) -> AsyncIterator[Path]:
        """A mirror of it. Raises RemoteError, CacheDirectoryError."""
        mirror = HostMirror(SshPlace.parse(text), sudo=self.sudo)
        try:
            await mirror.ask()
            yield mirror.directory
        finally:
            await settled(asyncio.to_thread(mirror.remove))

    def connect(self, text: str) -> FarFiles:
        """Its files. Raises RemoteError within."""
        return FarFiles(SshPlace.parse(text), sudo=self.sudo)


def _sent(told: list[Any]) -> _Sent:
    """Raises ValueError where it is something else."""
    return msgspec.convert(dict(zip(_Sent.__struct_fields__, told, strict=True)), _Sent)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _inflated(data: bytes) -> bytes:
    """Raises ValueError where it is more than a record holds, zlib.error."""
    inflating = zlib.decompressobj()
    raw = inflating.decompress(data, _MOST_RAW)
    if inflating.unconsumed_tail or not inflating.eof:
        raise ValueError("a record that is larger than it says")
    return raw
