"""What can be asked of the packers, seen before anything is fetched."""

from __future__ import annotations

import re

from ocitui.cache import CacheError, PackedFormat

from .layer_errors import MissingToolError
from .packer_base import find_tool, help_of

# The levels that each compression takes; none takes no level (mksquashfs 4.6, mkfs.erofs 1.8).
_LEVELS: dict[PackedFormat, dict[str, range]] = {
    PackedFormat.SQUASHFS: {
        "gzip": range(1, 10),
        "lzo": range(1, 10),
        "lz4": range(0),
        "xz": range(0),
        "zstd": range(1, 23),
        "lzma": range(0),
    },
    PackedFormat.EROFS: {
        "lz4": range(0),
        "lz4hc": range(13),
        "lzma": range(110),
        "deflate": range(10),
        "libdeflate": range(13),
        "zstd": range(23),
    },
    PackedFormat.TAR: {},
}
COMPRESSIONS = tuple(dict.fromkeys(name for levels in _LEVELS.values() for name in levels))
_TOOLS = {PackedFormat.SQUASHFS: ("mksquashfs", "-help"), PackedFormat.EROFS: ("mkfs.erofs", "--help")}
_SQUASHFS_WORDS = re.compile(r"Compressors available.*?:((?:\s+\w+(?: \(default\))?$)+)", re.MULTILINE)
_EROFS_WORDS = re.compile(r"[Aa]vailable compressors are:(.*)")


class PackingChoiceError(CacheError):
    """A compression or level that the format does not have."""

    code = "packing-choice"
    default_hint = "leave out the compression and level to have the format's own"


def check_choice(format: PackedFormat, compression: str | None, level: int | None) -> None:
    """Raises PackingChoiceError where these do not go together."""
    levels = _LEVELS[format]
    if compression is not None and compression not in levels:
        offered = f"it has {', '.join(levels)}" if levels else "it is not compressed"
        raise PackingChoiceError(f"{format} has no compression {compression}: {offered}")
    if level is None:
        return
    if compression is None and format is not PackedFormat.SQUASHFS:
        raise PackingChoiceError(f"{format} is not compressed unless that is asked for, so it has no level")
    compression = compression or "gzip"
    allowed = levels[compression]
    if level not in allowed:
        said = f"levels {allowed[0]} to {allowed[-1]}" if allowed else "no levels"
        raise PackingChoiceError(f"{compression} in {format} has {said}, not {level}")


def check_tool(format: PackedFormat, compression: str | None) -> None:
    """See that the packer is installed and has the compression; it is run for that. Raises MissingToolError,
    PackerError."""
    if format is PackedFormat.TAR:
        return
    name, option = _TOOLS[format]
    tool = find_tool(name)
    if compression is None:
        return
    pattern = _SQUASHFS_WORDS if format is PackedFormat.SQUASHFS else _EROFS_WORDS
    found = pattern.search(help_of(tool, option))
    # A version that says it in other words is left to say so itself.
    offered = re.findall(r"\w+", found[1].replace("(default)", "")) if found else [compression]
    if compression not in offered:
        raise MissingToolError(
            f"{name} here does not compress with {compression}, only with {', '.join(offered)}",
            hint="choose one of these, or install a later version",
        )
