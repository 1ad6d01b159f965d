"""The three files of an entry: whether each is there, and is what the daemon takes for a file."""

from __future__ import annotations

import errno
from typing import NamedTuple

from ocitui.cache import FileKind, PackedFormat
from ocitui.cache.packed_file import PackedCheck, check_packed_file

from ..catalogue import CATALOGUE, GUEST_FAILS
from ..findings import Answer, Finding
from .descriptor_checks import Where
from .directory import CacheFiles, Fact

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


# No file of the format is smaller, so what is, was cut.
_SMALLEST = {PackedFormat.SQUASHFS: 96, PackedFormat.EROFS: 1024 + 128, PackedFormat.TAR: 1024}
_CUT = ("it is cut short", "it ends within", "the zero block")


def quick_standing(files: CacheFiles, fact: Fact | None, name: str, at: Where) -> Standing:
    """Whether a packed file is there and holds anything."""
    found = standing(files, fact, name, FileKind.PACKED, at)
    if found.size == 0:
        return Standing(
            None, CATALOGUE["packed-empty"].finding("it has no bytes", file=name, kind=FileKind.PACKED, **at)
        )
    return found


def check_header(files: CacheFiles, name: str, format: PackedFormat, at: Where) -> list[Finding]:
    """Look into a packed file that is there."""
    try:
        with files.open(name) as file:
            size = files.size(file)
            check = check_packed_file(file)
    except OSError as error:
        return [unreadable(error, name, FileKind.PACKED, at)]
    return judged(check, size, name, format, at)


def judged(check: PackedCheck, size: int, name: str, format: PackedFormat, at: Where) -> list[Finding]:
    """The finding of a look into a packed file, if any."""
    found, problem = check.found, check.problem or ""
    if size == 0:
        code, seen = "packed-empty", "it has no bytes"
    elif found is None and size < _SMALLEST[format]:
        code, seen = (
            "packed-truncated",
            f"it is cut short: {size} bytes, where the smallest {format} has {_SMALLEST[format]}",
        )
    elif found is None:
        code, seen = "packed-magic", problem
    elif found is not format:
        code, seen = "packed-magic", f"it is a {found}, and the entry says {format}"
    elif problem:
        code, seen = "packed-truncated" if problem.startswith(_CUT) else "packed-damaged", problem
    else:
        return []
    return [CATALOGUE[code].finding(seen, file=name, kind=FileKind.PACKED, **at)]
