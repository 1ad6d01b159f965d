"""A packed file without its content: its size, its magic, its superblock, a tar's headers."""

from __future__ import annotations

from ocitui.cache import FileKind, PackedFormat
from ocitui.cache.superblock import PackedCheck, check_packed_file

from .catalogue import CATALOGUE
from .descriptor_checks import Where
from .file_checks import Standing, standing, unreadable
from .files import CacheFiles, Fact
from .findings import Finding

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
