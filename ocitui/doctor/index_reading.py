"""index.json as it lies there, sound or not: what it is, its bytes, and what the daemon would make of them."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from ocitui.cache import CacheDirectoryError, ImageIndex, IndexOutcome, Verdict
from ocitui.cache.files import INDEX_NAME
from ocitui.cache.index_file import Signature, look, read_patiently

from .files import CacheFiles, Fact

# Beyond any index of a cache; more would only fill the memory.
_LARGEST = 1 << 30


@dataclass(frozen=True, slots=True)
class IndexReading:
    """``fact`` is None where there is no index.json; ``failure`` is why it could not be read, ``code`` that
    error's number.

    ``index`` is there where the daemon would load it, ``data`` where it would not.
    """

    fact: Fact | None
    verdict: Verdict
    index: ImageIndex | None = None
    data: bytes | None = None
    failure: str = ""
    code: int = 0
    signature: Signature | None = None

    @property
    def sound(self) -> bool:
        return self.index is not None


def read_index(files: CacheFiles, previous: ImageIndex | None = None) -> IndexReading:
    """Read it, again for a second while it does not read. Raises CacheDirectoryError where the directory is gone."""
    fact = files.fact(INDEX_NAME)
    if fact is not None and not fact.link and not fact.regular and not fact.failed:
        return IndexReading(fact, Verdict(IndexOutcome.ERROR, message=f"it is {fact.word}"), signature=_look(files))
    try:
        _try_open(files, fact)
        seen = read_patiently(files.directory, previous)
    except CacheDirectoryError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or fact is None:
            raise
        return _unreadable(fact, cause)
    except OSError as error:
        return _unreadable(fact or Fact(0), error)
    fact = files.fact(INDEX_NAME)
    return IndexReading(fact, seen.verdict, seen.index, seen.data, signature=seen.signature)


def same_index(files: CacheFiles, reading: IndexReading) -> bool:
    """Whether index.json is the file it was when it was read."""
    return _look(files) == reading.signature


def _look(files: CacheFiles) -> Signature | None:
    return look(files.directory)


def _unreadable(fact: Fact, error: OSError) -> IndexReading:
    reason = error.strerror or str(error)
    verdict = Verdict(IndexOutcome.ERROR, message=reason)
    return IndexReading(fact, verdict, failure=reason, code=error.errno or errno.EIO)


def _try_open(files: CacheFiles, fact: Fact | None) -> None:
    """Raises OSError where it cannot be read at all, or is too large to be an index."""
    if fact is None:
        return
    try:
        found = os.stat(INDEX_NAME, dir_fd=files.fd)
    except FileNotFoundError:
        return
    if stat.S_ISREG(found.st_mode):
        files.open(INDEX_NAME).close()
        if found.st_size > _LARGEST:
            raise OSError(errno.EFBIG, f"it has {found.st_size} bytes, which no index has")
