"""OCI image layouts (image-spec, image-layout.md), a directory or the same inside a tar, and what `docker save` writes.

From Docker 25 on, an archive that `manifest.json` lists is an OCI layout as well, whose manifest is taken. Before, no
manifest is kept: one is made here, always the same for the same archive, and its digest is no registry's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REFERENCE,
    BlobDescriptor,
    Platform,
    read_to_end,
    regular_file,
)
from ocitui.threads import Stop, in_thread

from ..errors import NoSuchImageError, SourceError, UnreadableSourceError, UnsoundSourceError
from ..layers.layers import Compression, Layers, LayerSource
from ..staging import BlobProgress, BlobStore, unheard
from .archive import Archive, Member, in_place
from .images import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    LARGEST_CONFIG,
    LARGEST_DOCUMENT,
    Layer,
    Leaf,
    ListedImage,
    SourceImage,
    SourceKind,
    SourceListing,
    blob_name,
    check_bytes,
    choose,
    decoded,
    digest_of,
    fields_of,
    find_leaves,
    first_name,
    media_type_of,
    open_regular,
    read_checked,
    read_config,
    read_image,
    read_index,
    read_manifest,
)
from .references import SourceOptions, same_image


class DirectoryFiles:
    """A layout that is a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str, largest: int) -> bytes | None:
        """A document's bytes, None where it is not there. Raises UnreadableSourceError."""
        path = self.path / name
        try:
            with open_regular(path) as file:
                return read_to_end(file, largest)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnreadableSourceError(f"cannot read {path}: {error.strerror}") from error

    async def fetch(self, layers: Sequence[Layer], blobs: BlobStore, progress: BlobProgress) -> list[LayerSource]:
        placed = []
        for layer in layers:
            path = self.path / blob_name(layer.digest)
            if (found := regular_file(path)) is None:
                raise UnsoundSourceError(f"layer {layer.digest} is not in {self.path}")
            placed.append(in_place(layer, path, 0, found.st_size, progress))
        return placed


LayoutFiles = DirectoryFiles | Archive
"""The files of a layout, by their names in it."""


class Recognised(msgspec.Struct, frozen=True):
    """What a source's text means: for a registry ``rest`` is the name, for files ``path`` and what is wanted there."""

    kind: SourceKind
    rest: str
    path: Path
    name: str | None = None
    digest: str | None = None
    number: int | None = None


class OciSource:
    """An OCI layout, in a directory or an archive."""

    private = False

    def __init__(self, kind: SourceKind, files: LayoutFiles, wanted: Recognised, options: SourceOptions) -> None:
        self.kind, self._files, self._wanted, self._options = kind, files, wanted, options

    async def listing(self) -> SourceListing:
        """All images of the layout. Raises SourceError."""
        images = [await self._listed(leaf) for leaf in await self._images()]
        return SourceListing(str(self._files.path), tuple(images))

    async def _listed(self, leaf: Leaf) -> ListedImage:
        try:
            return (await self._read(leaf, None)).listed()
        except SourceError as error:
            return ListedImage(leaf.names, leaf.digest, leaf.platform, None, None, error.message)

    async def resolve(self) -> SourceImage:
        """The image that was asked for. Raises SourceError."""
        leaves = self._selected(await self._images())
        if len({leaf.digest for leaf in leaves}) > 1:
            leaves = [leaf if leaf.platform else await self._known(leaf) for leaf in leaves]
        return await self._read(choose(leaves, self._options.platform), self._options.platform)

    async def _known(self, leaf: Leaf) -> Leaf:
        """The leaf with the platform that its config says, or why it has none."""
        try:
            return replace(leaf, platform=(await self._read(leaf, None)).platform)
        except SourceError as error:
            return replace(leaf, error=error)

    async def fetch(self, image: SourceImage, blobs: BlobStore, progress: BlobProgress = unheard) -> Layers:
        for layer in await self._files.fetch(image.layers, blobs, progress):
            yield layer

    async def aclose(self) -> None:
        """Nothing is held open."""

    async def _leaves(self) -> list[Leaf]:
        """All manifests of the layout."""
        return await find_leaves(await asyncio.to_thread(read_roots, self._files), self._blob)

    async def _images(self) -> list[Leaf]:
        leaves = await self._leaves()
        if not leaves:
            raise NoSuchImageError(f"{self._files.path} holds no image")
        return leaves

    async def _read(self, leaf: Leaf, wanted: Platform | None) -> SourceImage:
        if leaf.error is not None:
            raise leaf.error
        name = first_name(leaf.names, self._wanted.name)
        return await read_image(leaf, wanted, name, self._blob, complete=self._options.complete)

    async def _blob(self, descriptor: BlobDescriptor, largest: int) -> bytes:
        raw = await asyncio.to_thread(self._files.read, blob_name(descriptor.digest), largest)
        if raw is None:
            raise NoSuchImageError(
                f"{descriptor.digest} is not in {self._files.path}", hint="get the image again, whole"
            )
        return raw

    def _selected(self, leaves: Sequence[Leaf]) -> list[Leaf]:
        name, digest = self._wanted.name, self._wanted.digest
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
    raw = files.read("oci-layout", LARGEST_DOCUMENT)
    if raw is None:
        raise UnreadableSourceError(f"{files.path} is no OCI layout: it has no file oci-layout")
    version = fields_of(f"oci-layout in {files.path}", raw).get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise UnreadableSourceError(f"{files.path} is an OCI layout of version {version!r}; this reads 1.x")
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


def _is_called(leaf: Leaf, name: str) -> bool:
    return name in leaf.names or any(same_image(name, other) for other in leaf.names if "/" in other)


_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
# What is of neither of the first two has no media type: nobody looks at it but here.
_SUFFIXES = {one: f".{one}" for one in (Compression.GZIP, Compression.ZSTD, Compression.BZIP2, Compression.XZ)}


def make_manifest(
    archive: Archive, config: str, config_raw: bytes, layers: Sequence[str], stop: Stop
) -> tuple[bytes, dict[str, Member]]:
    """A manifest of the layers, which stand in the archive by these names, and their files by digest. A layer that is
    not compressed has its diff_id for a digest, so it need not be read here. Raises SourceError."""
    diff_ids = read_config(f"the config {config}", config_raw).value.rootfs.diff_ids
    if len(diff_ids) != len(layers):
        raise UnsoundSourceError(f"manifest.json names {len(layers)} layers for {config}, which has {len(diff_ids)}")
    members = [archive.member(name, f"the layer {name}") for name in layers]
    suffixes = {member: suffix for member in members if (suffix := _SUFFIXES.get(archive.compression(member)))}
    read = archive.digests(suffixes, stop)
    digests = [read.get(member, diff_id) for member, diff_id in zip(members, diff_ids, strict=True)]
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _descriptor(DOCKER_CONFIG, len(config_raw), digest_of(config_raw)),
        "layers": [
            _descriptor(_LAYER + suffixes.get(member, ""), member.size, digest)
            for member, digest in zip(members, digests, strict=True)
        ],
    }
    return msgspec.json.encode(document), dict(zip(digests, members, strict=True))


def _descriptor(media_type: str, size: int, digest: str) -> dict[str, str | int]:
    return {"mediaType": media_type, "size": size, "digest": digest}


LOCAL_DIGEST = (
    "docker save kept no manifest: one was made for this archive, and no registry knows the image by its digest"
)
SAVED_DIGEST = "docker save wrote this manifest for uncompressed layers: a registry knows the image by another digest"
_LOCAL = frozenset({LOCAL_DIGEST, SAVED_DIGEST})
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_UNCOMPRESSED = frozenset({"application/vnd.oci.image.layer.v1.tar", _LAYER})


class Saved(msgspec.Struct, frozen=True, rename="lower"):
    """One image of `manifest.json`, by its keys in lower case: Go reads them without regard to that."""

    config: str
    layers: list[str] | None = None
    repotags: list[str] | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.repotags or ())


_decode_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode
_convert_saved = partial(msgspec.convert, type=list[Saved])


def _decode_saved(raw: bytes) -> list[Saved]:
    """Raises msgspec.MsgspecError."""
    found: list[Saved] = _convert_saved(
        [{key.lower(): value for key, value in one.items()} for one in _decode_objects(raw)]
    )
    return found


class DockerSource(OciSource):
    """A Docker archive that was looked through, whether or not it is an OCI layout as well."""

    def __init__(self, archive: Archive, wanted: Recognised, options: SourceOptions) -> None:
        super().__init__(SourceKind.DOCKER_ARCHIVE, archive, wanted, options)
        self._archive = archive
        self._kept: dict[str, bytes] | None = None
        self._members: dict[str, dict[str, Member]] = {}

    async def listing(self) -> SourceListing:
        """All images of the archive. Raises SourceError."""
        listed, notes = list[ListedImage](), dict[str, None]()
        for saved in self._saved():
            try:
                image = await self._read_saved(saved, None)
            except SourceError as error:
                listed.append(ListedImage(saved.tags, "", None, None, None, error.message))
            else:
                listed.append(image.listed())
                notes |= dict.fromkeys(image.notes if _LOCAL.intersection(image.notes) else ())
        return SourceListing(str(self._archive.path), tuple(listed), tuple(notes))

    async def resolve(self) -> SourceImage:
        """The image that was asked for. Raises SourceError."""
        return await self._read_saved(self._chosen(self._saved()), self._options.platform)

    async def fetch(self, image: SourceImage, blobs: BlobStore, progress: BlobProgress = unheard) -> Layers:
        for layer in await self._archive.fetch(image.layers, blobs, progress, self._members.get(image.digest)):
            yield layer

    def _saved(self) -> list[Saved]:
        raw = self._archive.read("manifest.json", LARGEST_DOCUMENT)
        if raw is None:
            if self._archive.find("repositories"):
                raise UnreadableSourceError(
                    f"{self._archive.path} has no manifest.json, only repositories: it is of Docker before 1.10",
                    hint="load it with docker load, and save it again with a newer Docker",
                )
            if self._archive.is_root_filesystem:
                raise UnreadableSourceError(
                    f"{self._archive.path} is a root filesystem, as docker export writes it, and no image",
                    hint="`skopeo copy tarball:FILE oci-archive:image.tar` makes an archive of an image of it",
                )
            raise UnreadableSourceError(f"{self._archive.path} is no Docker archive: it has no manifest.json")
        saved = decoded(f"manifest.json in {self._archive.path}", raw, _decode_saved)
        if not saved:
            raise NoSuchImageError(f"{self._archive.path} holds no image")
        return saved

    def _chosen(self, images: Sequence[Saved]) -> Saved:
        name, number = self._wanted.name, self._wanted.number
        if number is not None:
            if number < len(images):
                return images[number]
            raise NoSuchImageError(f"{self._archive.path} holds {len(images)} images, none has number {number}")
        found = [saved for saved in images if name is None or any(same_image(name, tag) for tag in saved.tags)]
        if len({saved.config for saved in found}) == 1:
            return found[0]
        tags = ", ".join(tag for saved in images for tag in saved.tags) or "none with a tag"
        if found:
            raise NoSuchImageError(
                f"{self._archive.path} holds several images: {tags}", hint="name one after the path and a colon"
            )
        raise NoSuchImageError(f"{self._archive.path} holds no {name}; it holds {tags}")

    async def _read_saved(self, saved: Saved, wanted: Platform | None) -> SourceImage:
        config_raw = await asyncio.to_thread(self._config, saved)
        kept = raw = (await self._kept_manifests()).get(digest_of(config_raw))
        if raw is None:
            names = saved.layers or []
            made = await in_thread(lambda stop: make_manifest(self._archive, saved.config, config_raw, names, stop))
            raw, self._members[digest_of(made[0])] = made
        documents = {digest_of(document): document for document in (raw, config_raw)}

        async def read(descriptor: BlobDescriptor, largest: int) -> bytes:
            return documents[descriptor.digest]

        leaf = Leaf(BlobDescriptor(DOCKER_MANIFEST, digest_of(raw), len(raw)), saved.tags)
        name = first_name(saved.tags, self._wanted.name)
        image = await read_image(leaf, wanted, name, read, complete=self._options.complete)
        if kept is None:
            return replace(image, notes=(*image.notes, LOCAL_DIGEST))
        if any(layer.media_type in _UNCOMPRESSED for layer in image.layers):
            return replace(image, notes=(*image.notes, SAVED_DIGEST))
        return image

    def _config(self, saved: Saved) -> bytes:
        raw = self._archive.read(saved.config, LARGEST_CONFIG)
        if raw is None:
            raise UnsoundSourceError(f"the config {saved.config} is not in {self._archive.path}")
        stem = saved.config.rpartition("/")[2].removesuffix(".json")
        if _HEX.fullmatch(stem):
            check_bytes(f"the config {saved.config}", raw, f"sha256:{stem}")
        return raw

    async def _kept_manifests(self) -> dict[str, bytes]:
        """The manifests that the archive holds as an OCI layout, by their configs' digests. Raises SourceError."""
        if self._kept is None:
            kept: dict[str, bytes] = {}
            is_layout = self._archive.find("index.json") and self._archive.find("oci-layout")
            for leaf in await self._leaves() if is_layout else ():
                what = f"the manifest {leaf.digest}"
                with suppress(NoSuchImageError):  # a layout may hold an index only in part
                    raw = await read_checked(what, leaf.descriptor, LARGEST_DOCUMENT, self._blob)
                    kept.setdefault(read_manifest(what, raw).value.config.digest, raw)
            self._kept = kept
        return self._kept
