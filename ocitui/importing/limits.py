"""How much layers may ask for before they are taken for an attack."""

from __future__ import annotations

from dataclasses import dataclass

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """Bounds for one image. They are generous: real images stay far below, and each may be raised."""

    unpacked_bytes: int = 64 * _GIB
    """Of all layers together once decompressed, and of any one size that a header claims."""
    entries: int = 1_000_000
    """In all layers together: what an entry takes in memory is bounded by `metadata_bytes` and about 200 bytes."""
    header_bytes: int = 1 << 20
    """Of one PAX header, long name or long link; Go's archive/tar has the same bound."""
    metadata_bytes: int = 256 << 20
    """Of the names, link targets and extended attributes of all entries together."""
    path_bytes: int = 4096
    """Of a path, parents resolved: Linux's PATH_MAX."""
    depth: int = 512
    """Directories above an entry."""
