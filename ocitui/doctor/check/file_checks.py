"""The three files of an entry: whether each is there, and is what the daemon takes for a file."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NamedTuple

from ocitui.cache import FileKind, PackedFormat
from ocitui.cache.listing import CacheFiles, Fact
from ocitui.cache.packed_file import PackedCheck, check_packed_file

from ..catalogue import CATALOGUE, GUEST_FAILS
from ..findings import Answer, Finding
from .descriptor_checks import Where

_DENIED = (errno.EACCES, errno.EPERM)


class FileLook(NamedTuple):
    """What there is of a file: its size where it can be read, None where it cannot; and what is wrong with it."""

    size: int | None
    finding: Finding | None = None
    missing: bool = False


def standing(files: CacheFiles, fact: Fact | None, name: str, kind: FileKind, at: Where) -> FileLook:
    """Look at one file's fact, and through a link that stays in the cache."""
    if fact is None:
        seen = f"the {kind} file is not there"
        return FileLook(None, CATALOGUE["file-missing"].finding(seen, kind=kind, **at), missing=True)
    if fact.failed:
        return FileLook(None, unreadable(OSError(fact.failed, ""), kind, at))
    if fact.regular:
        return FileLook(fact.size)
    if fact.link:
        return _through_link(files, name, kind, at)
    return FileLook(None, CATALOGUE["file-not-regular"].finding(f"it is {fact.word}", kind=kind, **at))


def _through_link(files: CacheFiles, name: str, kind: FileKind, at: Where) -> FileLook:
    fault, target = CATALOGUE["file-not-regular"], files.target(name)
    if target is not None and target.regular:
        return FileLook(target.size)
    if target is not None:
        return FileLook(None, fault.finding(f"it is a link to {target.word}", kind=kind, **at))
    if not (files.directory / name).exists():
        return FileLook(None, fault.finding("it is a link to nothing", kind=kind, **at))
    followed = "it follows the link out of the cache"
    finding = fault.finding("it is a link out of the cache", kind=kind, answer=Answer.HIT, daemon=followed, **at)
    return FileLook(None, finding)


def unreadable(error: OSError, kind: FileKind, at: Where) -> Finding:
    """A file that the disk does not give, or that this user may not read."""
    reason = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
    if error.errno in _DENIED:
        return CATALOGUE["wrong-mode"].finding(f"this user may not read it: {reason}", kind=kind, **at)
    seen = f"it cannot be read: {reason}"
    fault = CATALOGUE["read-error"]
    if kind is FileKind.PACKED:
        return fault.finding(seen, kind=kind, answer=Answer.HIT, daemon=GUEST_FAILS, **at)
    return fault.finding(seen, kind=kind, **at)


# No file of the format is smaller, so what is, was cut.
_SMALLEST = {PackedFormat.SQUASHFS: 96, PackedFormat.EROFS: 1024 + 128, PackedFormat.TAR: 1024}
_CUT = ("it is cut short", "it ends within", "the zero block")


class HeaderLook(NamedTuple):
    """What a look into a packed file came to: whether it was read, and why that does not tell whether it is whole."""

    findings: list[Finding]
    read: bool = True
    unchecked: str = ""


def packed_standing(files: CacheFiles, fact: Fact | None, name: str, at: Where) -> FileLook:
    """Whether a packed file is there and holds anything."""
    found = standing(files, fact, name, FileKind.PACKED, at)
    if found.size == 0:
        return FileLook(None, CATALOGUE["packed-empty"].finding("it has no bytes", kind=FileKind.PACKED, **at))
    return found


def look_at_header(files: CacheFiles, name: str, format: PackedFormat, at: Where) -> HeaderLook:
    """Look into a packed file that is there."""
    try:
        with files.open(name) as file:
            size = files.size(file)
            check = check_packed_file(file.fileno(), size)
    except OSError as error:
        return HeaderLook([unreadable(error, FileKind.PACKED, at)], read=False)
    return HeaderLook([*_judged(check, size, format, at)], unchecked=check.unchecked)


def _judged(check: PackedCheck, size: int, format: PackedFormat, at: Where) -> Iterator[Finding]:
    """The finding of a look into a packed file, if any."""
    found, problem, code = check.found, check.problem or "", ""
    if size == 0:
        code, seen = "packed-empty", "it has no bytes"
    elif found is None and size < _SMALLEST[format]:
        least = f"{size} bytes, where the smallest {format} has {_SMALLEST[format]}"
        code, seen = "packed-truncated", f"it is cut short: {least}"
    elif found is None:
        code, seen = "packed-magic", problem
    elif found is not format:
        code, seen = "packed-magic", f"it is {found} by its magic, and the entry says {format}"
    elif problem:
        code, seen = "packed-truncated" if problem.startswith(_CUT) else "packed-damaged", problem
    elif check.tail:
        code, seen = "packed-tail", f"{check.tail} bytes stand behind the end of its file system"
    if code:
        yield CATALOGUE[code].finding(seen, kind=FileKind.PACKED, **at)
