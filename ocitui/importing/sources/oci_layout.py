"""OCI image layouts (image-spec, image-layout.md): a directory, or the same inside a tar, read in place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ocitui.cache import ANNOTATION_IMAGE_NAME, ANNOTATION_REFERENCE, Platform
from ocitui.cache.documents import BlobDescriptor
from ocitui.cache.files import regular_file

from ..blobs import BlobProgress, BlobStore
from ..errors import NoSuchImageError, UnreadableSourceError, UnsoundSourceError
from ..layers.layers import LayerSource
from .archive import in_place
from .image_tree import Leaf, choose, find_leaves, first_name, read_checked, read_image
from .images import (
    LARGEST_DOCUMENT,
    Layer,
    ListedImage,
    SourceImage,
    SourceKind,
    SourceListing,
    blob_name,
    fields_of,
    media_type_of,
    open_regular,
    read_index,
)
from .references import same_image


class LayoutFiles(Protocol):
    """The files of a layout, by their names in it: a directory's, or an `Archive`."""

    @property
    def path(self) -> Path: ...

    def read(self, name: str, largest: int) -> bytes | None:
        """A document's bytes, None where it is not there. Raises UnreadableSourceError."""

    async def fetch(
        self, layers: Sequence[Layer], blobs: BlobStore, progress: BlobProgress | None
    ) -> list[LayerSource]: ...


class DirectoryFiles:
    """A layout that is a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str, largest: int) -> bytes | None:
        path = self.path / name
        try:
            with open_regular(path) as file:
                raw = file.read(largest + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnreadableSourceError(f"cannot read {path}: {error.strerror}") from error
        if len(raw) > largest:
            raise UnreadableSourceError(f"{path} has more than {largest} bytes, too many for a document")
        return raw

    async def fetch(
        self, layers: Sequence[Layer], blobs: BlobStore, progress: BlobProgress | None
    ) -> list[LayerSource]:
        placed = []
        for layer in layers:
            path = self.path / blob_name(layer.digest)
            if (found := regular_file(path)) is None:
                raise UnsoundSourceError(f"layer {layer.digest} is not in {self.path}")
            placed.append(in_place(layer, path, 0, found.st_size, progress))
        return placed


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for of a layout or an archive: a name or a digest, and a platform; None is what there is."""

    name: str | None = None
    digest: str | None = None
    platform: Platform | None = None


class OciSource:
    """An OCI layout, in a directory or an archive."""

    def __init__(self, kind: SourceKind, files: LayoutFiles, selection: Selection) -> None:
        self.kind = kind
        self._files = files
        self._selection = selection

    async def listing(self) -> SourceListing:
        """All images of the layout. Raises SourceError."""
        leaves = await self.leaves()
        images = [await self._listed(leaf) for leaf in leaves]
        return SourceListing(str(self._files.path), self.kind, tuple(images))

    async def _listed(self, leaf: Leaf) -> ListedImage:
        try:
            return (await self._read(leaf, None)).listed()
        except UnsoundSourceError:
            raise
        except NoSuchImageError:  # a layout may hold an index only in part
            return ListedImage(leaf.names, leaf.digest, leaf.platform, None, None)

    async def resolve(self) -> SourceImage:
        """The image that was asked for. Raises SourceError."""
        leaves = self._selected(await self.leaves())
        if len({leaf.digest for leaf in leaves}) > 1:
            leaves = [await self._with_platform(leaf) for leaf in leaves]
        leaf = choose(leaves, self._selection.platform)
        return await self._read(leaf, self._selection.platform)

    async def fetch(
        self, image: SourceImage, blobs: BlobStore, progress: BlobProgress | None = None
    ) -> list[LayerSource]:
        return await self._files.fetch(image.layers, blobs, progress)

    async def close(self) -> None:
        """Nothing is held open."""

    async def leaves(self) -> list[Leaf]:
        """All manifests of the layout. Raises SourceError."""
        roots = await asyncio.to_thread(read_roots, self._files)
        leaves = await find_leaves(roots, self._blob)
        if not leaves:
            raise NoSuchImageError(f"{self._files.path} holds no image")
        return leaves

    async def manifests(self) -> AsyncIterator[bytes]:
        """The bytes of all manifests that are here. Raises SourceError."""
        for leaf in await find_leaves(await asyncio.to_thread(read_roots, self._files), self._blob):
            if await asyncio.to_thread(self._files.read, blob_name(leaf.digest), LARGEST_DOCUMENT) is not None:
                yield await read_checked(f"the manifest {leaf.digest}", leaf.descriptor, LARGEST_DOCUMENT, self._blob)

    async def _with_platform(self, leaf: Leaf) -> Leaf:
        if leaf.platform is not None:
            return leaf
        return replace(leaf, platform=(await self._read(leaf, None)).platform)

    async def _read(self, leaf: Leaf, wanted: Platform | None) -> SourceImage:
        return await read_image(leaf, wanted, first_name(leaf.names), self._blob)

    async def _blob(self, descriptor: BlobDescriptor, largest: int) -> bytes:
        raw = await asyncio.to_thread(self._files.read, blob_name(descriptor.digest), largest)
        if raw is None:
            raise NoSuchImageError(
                f"{descriptor.digest} is not in {self._files.path}", hint="get the image again, whole"
            )
        return raw

    def _selected(self, leaves: Sequence[Leaf]) -> list[Leaf]:
        name, digest = self._selection.name, self._selection.digest
        found = [
            leaf
            for leaf in leaves
            if (name is None or _is_called(leaf, name)) and (digest is None or digest in (leaf.digest, *leaf.indexes))
        ]
        if not found:
            names = ", ".join(dict.fromkeys(name for leaf in leaves for name in leaf.names)) or "none with a name"
            raise NoSuchImageError(f"{self._files.path} holds no {digest or name}; it holds {names}")
        return found


def read_roots(files: LayoutFiles) -> list[tuple[BlobDescriptor, tuple[str, ...]]]:
    """What `index.json` lists, with its names. Raises UnreadableSourceError, UnsoundSourceError."""
    _check_version(files)
    raw = files.read("index.json", LARGEST_DOCUMENT)
    if raw is None:
        raise UnreadableSourceError(f"{files.path} is no OCI layout: it has no index.json")
    what = f"index.json in {files.path}"
    media_type_of(what, raw)
    return [(descriptor, names_of(descriptor.annotations)) for descriptor in read_index(what, raw)]


def names_of(annotations: Mapping[str, str] | None) -> tuple[str, ...]:
    """An image's names, the whole one first, which containerd and Docker write."""
    found = [(annotations or {}).get(key) for key in (ANNOTATION_IMAGE_NAME, ANNOTATION_REFERENCE)]
    return tuple(dict.fromkeys(name for name in found if name))


def _check_version(files: LayoutFiles) -> None:
    raw = files.read("oci-layout", LARGEST_DOCUMENT)
    if raw is None:
        raise UnreadableSourceError(f"{files.path} is no OCI layout: it has no file oci-layout")
    version = fields_of(f"oci-layout in {files.path}", raw).get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise UnreadableSourceError(f"{files.path} is an OCI layout of version {version!r}; this reads 1.x")


def _is_called(leaf: Leaf, name: str) -> bool:
    return name in leaf.names or any(same_image(name, other) for other in leaf.names if "/" in other)
