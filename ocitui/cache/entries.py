"""Entries: what an operator sees of each descriptor, its files' state included."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from .descriptors import Descriptor

EntryKey = tuple[str, str, str, int]
"""Digest, format, image name, and how many equal ones stand before it: an entry's identity while it is listed."""


class FileKind(StrEnum):
    """The three files of an entry."""

    PACKED = "packed"
    MANIFEST = "manifest"
    CONFIG = "config"


class EntryState(msgspec.Struct, frozen=True):
    """What is wrong with an entry's files; ``word`` is short enough for a column."""

    missing: tuple[FileKind, ...] = ()
    irregular: tuple[FileKind, ...] = ()
    unusable: str = ""  # why no lookup can reach a file: the digest or the format
    unknown: bool = False  # the directory was not listed yet
    problem: str = ""  # what a look into the files found

    @property
    def ok(self) -> bool:
        return not (self.missing or self.irregular or self.unusable or self.unknown or self.problem)

    @property
    def bad(self) -> bool:
        return not self.ok and not self.unknown

    @property
    def word(self) -> str:
        if self.ok:
            return "ok"
        if self.unknown:
            return "…"
        if self.unusable or self.problem:
            return self.unusable or self.problem
        if len(self.missing) == len(FileKind):
            return "no files"
        words = [f"no {kind}" for kind in self.missing] + [f"{kind} no file" for kind in self.irregular]
        return ", ".join(words)


OK = EntryState()
UNKNOWN = EntryState(unknown=True)


@cache
def file_state(missing: tuple[FileKind, ...], irregular: tuple[FileKind, ...]) -> EntryState:
    """One shared object for each combination, as there may be 100,000 entries."""
    return EntryState(missing, irregular)


@cache
def unusable_state(reason: str) -> EntryState:
    return EntryState(unusable=reason)


@cache
def problem_state(word: str) -> EntryState:
    return EntryState(problem=word)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One row: a descriptor, and what the directory holds for it.

    ``name`` is krata's spelling without the tag; ``packed_size`` is in bytes and ``modified``, the packed file's
    mtime, in seconds since the epoch, None while there is no such file; ``platform`` is empty where unknown. ``used``
    names the loop devices that hold the packed file, empty where none does or nobody looked.
    """

    key: EntryKey
    name: str
    reference: str
    digest: str
    format: str
    platform: str
    packed_size: int | None
    modified: float | None
    state: EntryState
    descriptor: Descriptor
    used: str = ""

    @property
    def short_digest(self) -> str:
        """Twelve digits of the digest, without its algorithm."""
        return self.digest.rpartition(":")[2][:12]


def entry_keys(descriptors: Iterable[Descriptor]) -> list[EntryKey]:
    """The key of each descriptor, in order."""
    return identity_keys((one.digest, one.format, one.image_name) for one in descriptors)


def identity_keys(identities: Iterable[tuple[str, str | None, str | None]]) -> list[EntryKey]:
    """The key of each entry by its digest, format and image name, in order."""
    seen: dict[tuple[str, str, str], int] = {}
    keys: list[EntryKey] = []
    for digest, format_, name in identities:
        identity = (digest, format_ or "", name or "")
        nth = seen.get(identity, 0)
        seen[identity] = nth + 1
        keys.append((*identity, nth))
    return keys


def name_without_tag(descriptor: Descriptor) -> str:
    name = descriptor.image_name or ""
    return name.removesuffix(f":{descriptor.reference}") if descriptor.reference else name
