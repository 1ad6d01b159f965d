"""Entries as an operator names them: by a name in any spelling, or by the beginning of a digest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ocitui.cache import CorruptIndexError, Descriptor, ImageName, InvalidNameError, NoSuchEntryError, PackerCache
from ocitui.cache.index import Key
from ocitui.cache.listing import CacheFiles, Listing

from .digests import find_digest


async def find_keys(cache: PackerCache, words: Sequence[str]) -> frozenset[Key] | None:
    """The entries that these words name; None, which is all, where there is no word.

    Where the daemon would not load the index, the files tell what entries there are. Raises NoSuchEntryError,
    AmbiguousDigestError, CacheDirectoryError.
    """
    if not words:
        return None
    try:
        descriptors: Sequence[Descriptor] = await cache.list()
        keys: Collection[Key] = [descriptor.key for descriptor in descriptors]
    except CorruptIndexError:
        descriptors, keys = (), keys_of_files(cache.directory)
    return frozenset(key for word in words for key in _named(word, descriptors, keys))


def carries(descriptor: Descriptor, word: str) -> bool:
    """Whether a descriptor has this name, as it is written or as krata spells it."""
    return descriptor.image_name is not None and descriptor.image_name in (word, spelled(word))


def spelled(word: str) -> str:
    """A name as krata spells it; what is none stays as it is."""
    try:
        return str(ImageName.parse(word))
    except InvalidNameError:
        return word


def _named(word: str, descriptors: Iterable[Descriptor], keys: Collection[Key]) -> list[Key]:
    named = [descriptor.key for descriptor in descriptors if carries(descriptor, word)]
    if named:
        return named
    digest = find_digest((digest for digest, _ in keys), word)
    found = [key for key in keys if key[0] == digest]
    if not found:
        raise NoSuchEntryError(f"there is no entry {word}")
    return found


def keys_of_files(directory: Path) -> list[Key]:
    """The digests and formats of which there is a packed file. Raises CacheDirectoryError."""
    with CacheFiles(directory) as files:
        listing = Listing.read(files)
    return [(digest, format_) for digest in listing.held() for format_ in listing.formats(digest)]
