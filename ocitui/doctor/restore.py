"""Where a good copy of a file can be had: on the shelves of this host first, then from what the operator names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ocitui.cache import CacheError, Descriptor, FileKind, PackedFormat, Place, Seen

from .mends.steps import Fetch, FetchKind


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
