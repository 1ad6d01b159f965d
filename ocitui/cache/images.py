"""Images of the cache, as they go in and come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .descriptors import Descriptor
from .documents import Document, ImageConfiguration, ImageManifest
from .formats import PackedFormat
from .names import ImageName


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedImage:
    """A packed root filesystem at ``path``, with the documents it was made from."""

    name: ImageName
    digest: str
    path: Path
    format: PackedFormat
    descriptor: Descriptor
    config: Document[ImageConfiguration]
    manifest: Document[ImageManifest]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedImage:
    """What a name stands for in one format."""

    name: ImageName
    digest: str
    descriptor: Descriptor
    manifest: Document[ImageManifest]
