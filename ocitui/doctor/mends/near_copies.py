"""Copies on this host: in the trash, and under another name of the cache."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ocitui.cache import CacheError, FileKind, PackedFormat, Seen, StorageError
from ocitui.cache.files import OWN_NAME, config_name
from ocitui.cache.superblock import check_packed

from ..document_checks import has_digest
from ..ledger import Damage, Ledger
from ..restore import Copy, WantedFile
from .scene import Scene

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

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
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
                raw = read_document(self._scene.directory / name)
                if has_digest(raw, wanted.content):
                    return Copy(f"{name} beside it", len(raw), data=raw)
        return None

    def _configs(self) -> dict[int, list[str]]:
        """The configs of the cache by their size in bytes."""
        ending, names = config_name(""), dict[int, list[str]]()
        for name, fact in sorted(self._scene.facts.items()):
            if fact.regular and name.endswith(ending):
                names.setdefault(fact.size, []).append(name)
        return names


def read_document(path: Path) -> bytes:
    """A small regular file's bytes, never through a link. Raises OSError."""
    with open(path, "rb", opener=_open_itself) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_DOCUMENT:
            raise OSError(0, "no document", str(path))
        return file.read()


def _open_itself(path: str, flags: int) -> int:
    """Neither what a link leads to, nor waiting for whoever writes to a FIFO."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


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
