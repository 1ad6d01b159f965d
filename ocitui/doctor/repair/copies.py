"""Where a good copy of a file can be had: the trash, its siblings, a loop device, what the operator names."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from ocitui.cache import CacheError, Descriptor, FileKind, PackedFormat, Place, Seen, StorageError
from ocitui.cache.files import OWN_NAME, config_name, read_bounded
from ocitui.cache.ledger import Damage, Ledger
from ocitui.cache.packed_file import check_packed

from ..check.document_checks import has_digest
from ..loop_devices import LoopUse
from .snapshot import Snapshot
from .steps import Fetch, FetchKind


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that is to be restored: ``name`` in the cache, of the entry ``digest``.

    ``content`` is the digest that its bytes must have; empty for a packed file of which no sha256 was recorded. One is
    then taken that is whole as far as its headers tell, unless ``strictly``: its bytes must be known, or be made of the
    image's layers. ``size`` in bytes is that of a document where it is known (else 0). ``carriers`` are the descriptors
    of the entry's digest.
    """

    name: str
    digest: str
    kind: FileKind
    format: PackedFormat | None = None
    content: str = ""
    size: int = 0
    strictly: bool = False
    carriers: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """A good copy: its bytes, a file of the trash, or what is fetched when the plan is carried out.

    ``where`` says in words where it comes from; ``size`` is in bytes, 0 where it shows only later.
    """

    where: str
    size: int
    data: bytes | None = None
    trash: str | None = None
    source: Seen | None = None
    fetch: FetchKind | None = None
    origin: str = ""
    sha256: str = ""

    def place(self, wanted: WantedFile, there: Seen | None) -> Place | None:
        """How it comes in where it need not be fetched; ``there`` is what stands in its place."""
        if self.fetch is not None:
            return None
        return Place(wanted.name, there, data=self.data, trash=self.trash, source=self.source)

    def to_fetch(self, wanted: WantedFile, there: Seen | None) -> Fetch | None:
        if self.fetch is None or wanted.format is None:
            return None
        return Fetch(wanted.name, there, self.fetch, self.origin, wanted.digest, wanted.format, self.size, self.sha256)


class Shelf(Protocol):
    """One place where copies may be."""

    @property
    def label(self) -> str:
        """The place in words, as in "not found in LABEL"."""

    async def find(self, wanted: WantedFile) -> Copy | None:
        """A copy that was looked at and is good, as far as the place can tell; nothing is written.

        Raises CacheError where the place cannot be looked at."""

    async def close(self) -> None: ...


@dataclass(slots=True)
class Restorer:
    """The places in the order in which they are asked; ``notes`` are what could not be looked at, and why."""

    shelves: Sequence[Shelf]
    notes: list[str] = field(default_factory=list)

    async def find(self, wanted: WantedFile) -> Copy | None:
        """The first good copy. Never raises for what a place holds."""
        for shelf in self.shelves:
            try:
                copy = await shelf.find(wanted)
            except CacheError as error:
                self._note(f"{shelf.label}: {error.message}")
                continue
            if copy is not None:
                return copy
        return None

    @property
    def labels(self) -> str:
        """Where was looked, in words."""
        *first, last = [shelf.label for shelf in self.shelves] or ["no place"]
        return f"{', '.join(first)} or {last}" if first else last

    async def close(self) -> None:
        for shelf in self.shelves:
            await shelf.close()

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


Users = Mapping[str, Sequence[LoopUse]]
"""The loop devices that hold files of the cache, by the file's name."""
_DEVICE_CHUNK = 1 << 20


class DeviceShelf:
    """What a guest still has for its disk, though the cache has it no more."""

    label = "a loop device"

    def __init__(self, users: Users) -> None:
        self._users = users

    async def find(self, wanted: WantedFile) -> Copy | None:
        return await asyncio.to_thread(self._find, wanted) if wanted.name in self._users else None

    async def close(self) -> None:
        """Nothing is held open."""

    def _find(self, wanted: WantedFile) -> Copy | None:
        for use in self._users.get(wanted.name, ()):
            if use.deleted and not use.partial and wanted.format is not None and use.readable_size:
                with suppress(OSError):
                    sha256 = _good(use, wanted)
                    if sha256 is not None:
                        return Copy(
                            f"{use.device}, which still holds the deleted file",
                            use.readable_size,
                            fetch=FetchKind.DEVICE,
                            origin=str(use.device),
                            sha256=sha256,
                        )
        return None


def _good(use: LoopUse, wanted: WantedFile) -> str | None:
    """The sha256 of what the device holds, where that is the file or nobody can tell; None where it is another.

    Whether it is whole by its headers is seen once it was read back: a device has no size of its own.
    """
    wants = wanted.content.removeprefix("sha256:")
    if not wants and wanted.strictly:
        return None
    hashed = _sha256(use)
    return hashed if wants in ("", hashed) else None


def _sha256(use: LoopUse) -> str:
    hashed, left = hashlib.sha256(), use.readable_size
    with open(os.open(use.device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as device:
        while left and (chunk := device.read(min(_DEVICE_CHUNK, left))):
            hashed.update(chunk)
            left -= len(chunk)
    return hashed.hexdigest()


_TRASH = "trash"
_CHUNK = 1 << 20
_LARGEST_DOCUMENT = 1 << 26


class TrashShelf:
    """What earlier transactions took out of the cache, the newest first."""

    label = "the trash"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folder = directory / OWN_NAME / _TRASH
        self._ledger = Ledger(directory)
        self._names: dict[str, list[str]] | None = None

    async def find(self, wanted: WantedFile) -> Copy | None:
        if self._names is None:
            self._names = await asyncio.to_thread(self._listed)
            self._ledger = await asyncio.to_thread(Ledger.open, self._directory)
        names = self._names.get(wanted.name)
        # A thread for each of 100,000 files that nobody trashed would take minutes.
        return await asyncio.to_thread(self._find, wanted, names) if names else None

    async def close(self) -> None:
        """Nothing is held open."""

    def _find(self, wanted: WantedFile, names: list[str]) -> Copy | None:
        for name in names:
            path = self._folder / name
            with suppress(OSError, CacheError):
                copy = self._document(path, wanted) if wanted.format is None else self._packed(path, wanted)
                if copy is not None:
                    return copy
        return None

    def _listed(self) -> dict[str, list[str]]:
        """The names in the trash by the name that each file had, the newest first."""
        names: dict[str, list[str]] = {}
        with suppress(OSError):
            for name in sorted(os.listdir(self._folder), reverse=True):
                names.setdefault(name.partition("~")[2], []).append(name)
        return names

    def _document(self, path: Path, wanted: WantedFile) -> Copy | None:
        """Its bytes are copied, so that what took it to the trash can be undone all the same."""
        raw = read_document(path)
        return Copy(self.label, len(raw), data=raw) if has_digest(raw, wanted.content) else None

    def _packed(self, path: Path, wanted: WantedFile) -> Copy | None:
        found = os.lstat(path)
        if wanted.format is None or not stat.S_ISREG(found.st_mode):
            return None
        if is_known_damaged(self._ledger.damage(wanted.name, found), wanted):
            return None
        known = good_packed(path, wanted)
        if known is None:
            return None
        return Copy(self.label + known.words, found.st_size, trash=path.name, source=Seen.of(found))


class SiblingShelf:
    """The same config beside another manifest of the cache: images of one build may share it."""

    label = "the documents of other entries"

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._by_size: dict[int, list[str]] | None = None

    async def find(self, wanted: WantedFile) -> Copy | None:
        if wanted.kind is not FileKind.CONFIG:
            return None
        if self._by_size is None:
            self._by_size = self._configs()
        names = [name for name in self._by_size.get(wanted.size, []) if name != wanted.name]
        return await asyncio.to_thread(self._find, wanted, names) if names else None

    async def close(self) -> None:
        """Nothing is held open."""

    def _find(self, wanted: WantedFile, names: list[str]) -> Copy | None:
        for name in names:
            with suppress(OSError):
                raw = read_document(self._snapshot.directory / name)
                if has_digest(raw, wanted.content):
                    return Copy(f"{name} beside it", len(raw), data=raw)
        return None

    def _configs(self) -> dict[int, list[str]]:
        """The configs of the cache by their size in bytes."""
        ending, names = config_name(""), dict[int, list[str]]()
        listing = self._snapshot.listing
        for name in sorted(f"{digest}{ending}" for digest in listing.held()):
            fact = listing.get(name)
            if fact is not None and fact.regular:
                names.setdefault(fact.size, []).append(name)
        return names


def read_document(path: Path | str) -> bytes:
    """A small regular file's bytes, never through a link. Raises OSError."""
    return read_bounded(path, _LARGEST_DOCUMENT, follow=False)


class Goodness(NamedTuple):
    """What is to be said of a good packed file, and its sha256 where it was read (else empty)."""

    words: str
    sha256: str = ""


def good_packed(path: Path, wanted: WantedFile, recorded: str = "") -> Goodness | None:
    """What makes a packed file good; None where it is not.

    Its bytes are read where something tells what they have to be: what is wanted, or ``recorded``, the sha256 that
    another ledger has of it. Raises OSError, StorageError.
    """
    if wanted.format is None or not is_whole(path, wanted.format):
        return None
    wants = wanted.content.removeprefix("sha256:")
    if not (wants or recorded):
        return None if wanted.strictly else Goodness(" (whole by its headers; no sha256 of it was recorded)")
    hashed = sha256_of(path)
    if hashed == wants:
        return Goodness("", hashed)
    # Another packing of the same image, which is as it was when it was recorded.
    return Goodness(" (packed another time)", hashed) if hashed == recorded else None


def is_known_damaged(damage: Damage | None, wanted: WantedFile) -> bool:
    """Whether a deep check found the file damaged, and reading it would not tell."""
    return damage is not None and not (damage.sha256 and wanted.content)


def is_whole(path: Path, format: PackedFormat) -> bool:
    """Whether a file is of the format, and all there as far as its headers tell. Raises StorageError."""
    check = check_packed(path)
    return check.found is format and not check.problem


def sha256_of(path: Path) -> str:
    """In hexadecimal. Raises StorageError."""
    hashed = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                hashed.update(chunk)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return hashed.hexdigest()
