"""Entries and findings as an operator names them: by a name in any spelling, or by the beginning of a digest or id."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ocitui.cache import CorruptIndexError, ImageName, InvalidNameError, NoSuchEntryError

from .failures import AmbiguousDigestError, UsageProblemError

if TYPE_CHECKING:
    from ocitui.cache import Descriptor, PackerCache
    from ocitui.cache.index import Key
    from ocitui.doctor.findings import Finding

_WHOLE = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def is_whole(text: str) -> bool:
    """Whether this is a digest that needs no index to be understood."""
    return _WHOLE.fullmatch(text) is not None


def find_digest(digests: Iterable[str], text: str) -> str:
    """The digest that ``text`` is, or begins, with or without the algorithm; ``text`` itself where none does.

    Raises AmbiguousDigestError with the candidates, UsageProblemError for a text without a single digit.
    """
    if not text.rpartition(":")[2]:
        raise UsageProblemError("a digest is needed, or its beginning", hint="ocitui list shows them")
    candidates = list(dict.fromkeys(digest for digest in digests if _begins(digest, text)))
    if text in candidates or not candidates:
        return text
    if len(candidates) > 1:
        raise AmbiguousDigestError(f"{text!r} begins {len(candidates)} digests: {', '.join(candidates)}")
    return candidates[0]


def _begins(digest: str, text: str) -> bool:
    return digest.startswith(text) or digest.rpartition(":")[2].startswith(text)


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
    from ocitui.cache.listing import CacheFiles, Listing

    with CacheFiles(directory) as files:
        listing = Listing.read(files)
    return [(digest, format_) for digest in listing.held() for format_ in listing.formats(digest)]


_LEAST_DIGITS = 4


class NoSuchFindingError(NoSuchEntryError):
    code = "no-such-finding"
    default_hint = "ocitui check shows the findings with their ids; --only also takes codes, digests and names"


def fingerprints(word: str, findings: Sequence[Finding]) -> list[str]:
    """The fingerprints that begin so. Raises UsageProblemError where these are several."""
    found = list(dict.fromkeys(one.fingerprint for one in findings if one.fingerprint.startswith(word)))
    if len(word) < _LEAST_DIGITS:
        return []
    if len(found) > 1:
        raise UsageProblemError(f"{word} begins the ids of {len(found)} findings", hint="give more of its digits")
    return found
