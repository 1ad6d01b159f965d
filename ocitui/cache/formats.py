"""The formats in which the daemon packs a root filesystem."""

from __future__ import annotations

from enum import StrEnum


class PackedFormat(StrEnum):
    """A packed format; its value is the file's extension and the value of the format annotation."""

    SQUASHFS = "squashfs"
    EROFS = "erofs"
    TAR = "tar"
