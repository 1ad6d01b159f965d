"""What the directory holds for each entry: one listing, kept up to date name by name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .descriptors import Descriptor
from .entries import (
    OK,
    UNKNOWN,
    Entry,
    EntryKey,
    EntryState,
    FileKind,
    entry_keys,
    file_state,
    name_without_tag,
    unusable_state,
)
from .errors import CacheDirectoryError
from .files import file_names, known_format, packed_name, usable_digest


class FileFact(NamedTuple):
    """One name of the directory, links followed; ``size`` in bytes, ``modified`` in seconds since the epoch.

    Documents are not looked at more closely than the listing does: their size is 0 here.
    """

    regular: bool
    size: int = 0
    modified: float = 0.0


class Listing:
    """The names in a cache directory, by one pass over it."""

    def __init__(self, facts: dict[str, FileFact]) -> None:
        self.facts = facts

    @classmethod
    def read(cls, directory: Path) -> Listing:
        """List a directory: no stat for a document, one for a packed file. Raises CacheDirectoryError."""
        facts: dict[str, FileFact] = {}
        try:
            with os.scandir(directory) as found:
                for item in found:
                    facts[item.name] = _fact(item)
        except OSError as error:
            raise CacheDirectoryError(f"{directory} cannot be listed: {error.strerror}") from error
        return cls(facts)

    def refresh(self, directory: Path, names: Iterable[str]) -> set[str]:
        """Look at these names again; gives those that changed."""
        changed: set[str] = set()
        for name in names:
            before, now = self.facts.get(name), _look(directory / name)
            if now is None:
                self.facts.pop(name, None)
            else:
                self.facts[name] = now
            if now != before:
                changed.add(name)
        return changed

    def entries(self, descriptors: list[Descriptor]) -> list[Entry]:
        """An entry for each descriptor, in order."""
        return [self.entry(key, d) for key, d in zip(entry_keys(descriptors), descriptors, strict=True)]

    def entry(self, key: EntryKey, descriptor: Descriptor) -> Entry:
        packed = self._packed(descriptor)
        return make_entry(key, descriptor, self.state(descriptor), packed)

    def state(self, descriptor: Descriptor) -> EntryState:
        """What is wrong with an entry's files."""
        format_ = known_format(descriptor.format)
        if format_ is None:
            return unusable_state("no format" if descriptor.format is None else "bad format")
        if not usable_digest(descriptor.digest):
            return unusable_state("bad digest")
        facts = self.facts
        found = [(kind, facts.get(name)) for kind, name in file_names(descriptor.digest, format_).items()]
        if all(fact is not None and fact.regular for _, fact in found):
            return OK
        missing = tuple(kind for kind, fact in found if fact is None)
        return file_state(missing, tuple(kind for kind, fact in found if fact is not None and not fact.regular))

    def _packed(self, descriptor: Descriptor) -> FileFact | None:
        format_ = known_format(descriptor.format)
        fact = self.facts.get(packed_name(descriptor.digest, format_)) if format_ else None
        return fact if fact is not None and fact.regular else None


def make_entry(
    key: EntryKey, descriptor: Descriptor, state: EntryState = UNKNOWN, packed: FileFact | None = None
) -> Entry:
    """An entry of what is known; UNKNOWN while the directory was not listed."""
    platform = descriptor.platform
    return Entry(
        key,
        name_without_tag(descriptor),
        descriptor.reference or "",
        descriptor.digest,
        descriptor.format or "",
        str(platform) if platform else "",
        packed.size if packed else None,
        packed.modified if packed else None,
        state,
        descriptor,
    )


def names_of(descriptor: Descriptor) -> dict[FileKind, str]:
    """The names of an entry's files; empty where no lookup can reach any."""
    format_ = known_format(descriptor.format)
    if format_ is None or not usable_digest(descriptor.digest):
        return {}
    return file_names(descriptor.digest, format_)


def _fact(item: os.DirEntry[str]) -> FileFact:
    try:
        if item.name.endswith(".json"):
            return FileFact(item.is_file())
        found = item.stat()
    except OSError:
        return FileFact(False)
    return FileFact(stat.S_ISREG(found.st_mode), found.st_size, found.st_mtime)


def _look(path: Path) -> FileFact | None:
    """A name's fact; None where nothing has it. A dangling link is a name that is not a regular file."""
    try:
        found = os.stat(path)
    except OSError:
        return FileFact(False) if os.path.lexists(path) else None
    if path.name.endswith(".json"):
        return FileFact(stat.S_ISREG(found.st_mode))
    return FileFact(stat.S_ISREG(found.st_mode), found.st_size, found.st_mtime)
