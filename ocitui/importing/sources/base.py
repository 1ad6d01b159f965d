"""What every source gives: a listing before anything is written, one image of it, and its layers as files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol

from ocitui.cache import Document, ImageConfiguration, ImageManifest, ImageName, Platform
from ocitui.cache.files import open_bounded

from ..blobs import BlobStore
from ..errors import UnreadableSourceError
from ..layers.layers import LayerSource


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. Raises OSError, UnreadableSourceError for a pipe, device or socket."""
    try:
        return BufferedReader(open_bounded(path))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _irregular(path) from error


def refuse_irregular(path: Path) -> None:
    """Raises UnreadableSourceError where something is there that is neither a file nor a directory."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise _irregular(path)


def _irregular(path: Path) -> UnreadableSourceError:
    return UnreadableSourceError(f"{path} is no regular file", hint="copy what it gives into a file, and name that")


BlobProgress = Callable[[str, int, int], None]
"""Called with a blob's digest, its bytes that are there, and all its bytes; on the event loop."""


class SourceKind(StrEnum):
    OCI_LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    REGISTRY = "docker"
    PACKED = "packed"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as the manifest describes it; ``diff_id`` is the digest of the tar inside, by the config."""

    digest: str
    size: int
    media_type: str
    diff_id: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image that a source holds. ``platform`` and ``size`` (config and layers) are None where not known yet."""

    names: tuple[str, ...]
    digest: str
    platform: Platform | None
    size: int | None
    layers: int | None


@dataclass(frozen=True, slots=True)
class SourceListing:
    """What a source holds, in its own order. ``notes`` are for the operator's eyes."""

    source: str
    kind: SourceKind
    images: tuple[ListedImage, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image, its documents read and their digests checked, its layers not fetched yet.

    ``image_name`` is krata's spelling of what was asked or of what the source calls it, None where it says no name.
    ``digest_is_local``: no registry knows the manifest under this digest, because the archive keeps none.
    """

    names: tuple[str, ...]
    image_name: ImageName | None
    digest: str
    manifest: Document[ImageManifest]
    config: Document[ImageConfiguration]
    layers: tuple[Layer, ...]
    digest_is_local: bool = False
    notes: tuple[str, ...] = ()

    @property
    def platform(self) -> Platform:
        return self.config.value.platform

    @property
    def size(self) -> int:
        """The bytes of the config and of all different layers."""
        return self.manifest.value.config.size + sum({layer.digest: layer.size for layer in self.layers}.values())

    def listed(self) -> ListedImage:
        return ListedImage(self.names, self.digest, self.platform, self.size, len(self.layers))


class Source(Protocol):
    """A place that holds images, to be closed at the end."""

    @property
    def kind(self) -> SourceKind: ...

    async def listing(self) -> SourceListing:
        """All that it holds. Raises SourceError."""

    async def resolve(self) -> SourceImage:
        """The image that was asked for: by name or digest, and by platform. Raises SourceError."""

    async def fetch(
        self, image: SourceImage, blobs: BlobStore, progress: BlobProgress | None = None
    ) -> list[LayerSource]:
        """The image's layers in order, as files. What was downloaded or unpacked has its digest; what lies in place
        is of the right size, and is hashed by who reads it, once. Raises SourceError, StorageError."""

    async def close(self) -> None: ...
