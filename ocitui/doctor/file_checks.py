"""The three files of an entry: whether each is there, and is what the daemon takes for a file."""

from __future__ import annotations

import errno
from typing import NamedTuple

from ocitui.cache import FileKind

from .catalogue import CATALOGUE, GUEST_FAILS
from .descriptor_checks import Where
from .files import CacheFiles, Fact
from .findings import Answer, Finding

_DENIED = (errno.EACCES, errno.EPERM)


class Standing(NamedTuple):
    """What there is of a file: its size where it can be read, None where it cannot; and what is wrong with it."""

    size: int | None
    finding: Finding | None = None
    missing: bool = False


def standing(files: CacheFiles, fact: Fact | None, name: str, kind: FileKind, at: Where) -> Standing:
    """Look at one file's fact, and through a link that stays in the cache."""
    if fact is None:
        seen = f"the {kind} file is not there"
        return Standing(None, CATALOGUE["file-missing"].finding(seen, file=name, kind=kind, **at), missing=True)
    if fact.failed:
        return Standing(None, unreadable(OSError(fact.failed, ""), name, kind, at))
    if fact.regular:
        return Standing(fact.size)
    if fact.link:
        return _through_link(files, name, kind, at)
    return Standing(None, CATALOGUE["file-not-regular"].finding(f"it is {fact.word}", file=name, kind=kind, **at))


def _through_link(files: CacheFiles, name: str, kind: FileKind, at: Where) -> Standing:
    fault, target = CATALOGUE["file-not-regular"], files.target(name)
    if target is not None and target.regular:
        return Standing(target.size)
    if target is not None:
        return Standing(None, fault.finding(f"it is a link to {target.word}", file=name, kind=kind, **at))
    if not (files.directory / name).exists():
        return Standing(None, fault.finding("it is a link to nothing", file=name, kind=kind, **at))
    followed = "it follows the link out of the cache"
    finding = fault.finding(
        "it is a link out of the cache", file=name, kind=kind, answer=Answer.HIT, daemon=followed, **at
    )
    return Standing(None, finding)


def unreadable(error: OSError, name: str, kind: FileKind, at: Where) -> Finding:
    """A file that the disk does not give, or that this user may not read."""
    reason = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
    if error.errno in _DENIED:
        return CATALOGUE["wrong-mode"].finding(f"this user may not read it: {reason}", file=name, kind=kind, **at)
    seen = f"it cannot be read: {reason}"
    fault = CATALOGUE["read-error"]
    if kind is FileKind.PACKED:
        return fault.finding(seen, file=name, kind=kind, answer=Answer.HIT, daemon=GUEST_FAILS, **at)
    return fault.finding(seen, file=name, kind=kind, **at)
