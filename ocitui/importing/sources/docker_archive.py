"""Docker archives: what `docker save` writes, listed by `manifest.json`.

From Docker 25 on such an archive is an OCI layout as well, whose manifest is taken. Before, no manifest is kept: one is
made here, always the same for the same archive, and its digest is no registry's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from ocitui.cache import Platform
from ocitui.threads import Stop, in_thread

from ..blobs import BlobProgress, BlobStore
from ..errors import NoSuchImageError, UnreadableSourceError, UnsoundSourceError
from ..layers.layers import Compression, LayerSource
from .archive import Archive, Member, digests_of
from .image_tree import first_name, image_of
from .images import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    LARGEST_CONFIG,
    LARGEST_DOCUMENT,
    SourceImage,
    SourceKind,
    SourceListing,
    check_bytes,
    digest_of,
    parse_config,
    read_config,
    read_manifest,
)
from .oci_layout import OciSource, Selection
from .references import same_image

_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_SUFFIXES = {Compression.GZIP: ".gzip", Compression.ZSTD: ".zstd"}


def make_manifest(
    archive: Archive, config: str, config_raw: bytes, layers: Sequence[str], stop: Stop
) -> tuple[bytes, dict[str, Member]]:
    """A manifest of the layers, which stand in the archive by these names, and their files by digest.

    Raises SourceError.

    A layer that is not compressed has its diff_id for a digest, so it need not be read here.
    """
    diff_ids = parse_config(f"the config {config}", config_raw).value.rootfs.diff_ids
    if len(diff_ids) != len(layers):
        raise UnsoundSourceError(f"manifest.json names {len(layers)} layers for {config}, which has {len(diff_ids)}")
    members = [_member(archive, name) for name in layers]
    suffixes = [_SUFFIXES.get(archive.compression(member), "") for member in members]
    read = digests_of(archive, [member for member, suffix in zip(members, suffixes, strict=True) if suffix], stop)
    digests = [read.get(member, diff_id) for member, diff_id in zip(members, diff_ids, strict=True)]
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _descriptor(DOCKER_CONFIG, len(config_raw), digest_of(config_raw)),
        "layers": [
            _descriptor(_LAYER + suffix, member.size, digest)
            for member, suffix, digest in zip(members, suffixes, digests, strict=True)
        ],
    }
    return msgspec.json.encode(document), dict(zip(digests, members, strict=True))


def _member(archive: Archive, name: str) -> Member:
    member = archive.find(name)
    if member is None:
        raise UnsoundSourceError(f"the layer {name} is not in {archive.path}")
    return member


def _descriptor(media_type: str, size: int, digest: str) -> dict[str, str | int]:
    return {"mediaType": media_type, "size": size, "digest": digest}


LOCAL_DIGEST = (
    "docker save kept no manifest: one was made for this archive, and no registry knows the image by its digest"
)
SAVED_DIGEST = "docker save wrote this manifest for uncompressed layers: a registry knows the image by another digest"
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_UNCOMPRESSED = frozenset({"application/vnd.oci.image.layer.v1.tar", _LAYER})


class Saved(msgspec.Struct, frozen=True, rename="pascal"):
    """One image of `manifest.json`."""

    config: str
    layers: list[str] | None = None
    repo_tags: list[str] | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.repo_tags or ())


_decode_saved = msgspec.json.Decoder(list[Saved]).decode


class DockerSource:
    """A Docker archive that was looked through. ``number`` asks for an image by its place (`:@0`)."""

    kind = SourceKind.DOCKER_ARCHIVE

    def __init__(self, archive: Archive, selection: Selection, number: int | None = None) -> None:
        self._archive = archive
        self._selection = selection
        self._number = number
        self._kept: dict[str, bytes] | None = None
        self._members: dict[str, dict[str, Member]] = {}

    async def listing(self) -> SourceListing:
        """All images of the archive. Raises SourceError."""
        images = [await self._read(saved, None) for saved in self._saved()]
        notes = dict.fromkeys(note for image in images for note in image.notes if image.digest_is_local)
        return SourceListing(
            str(self._archive.path), self.kind, tuple(image.listed() for image in images), tuple(notes)
        )

    async def resolve(self) -> SourceImage:
        """The image that was asked for. Raises SourceError."""
        return await self._read(self._selected(self._saved()), self._selection.platform)

    async def fetch(
        self, image: SourceImage, blobs: BlobStore, progress: BlobProgress | None = None
    ) -> list[LayerSource]:
        return await self._archive.fetch(image.layers, blobs, progress, self._members.get(image.digest))

    async def close(self) -> None:
        """Nothing is held open."""

    def _saved(self) -> list[Saved]:
        raw = self._archive.read("manifest.json", LARGEST_DOCUMENT)
        if raw is None:
            if self._archive.find("repositories"):
                raise UnreadableSourceError(
                    f"{self._archive.path} has no manifest.json, only repositories: it is of Docker before 1.10",
                    hint="load it with docker load, and save it again with a newer Docker",
                )
            raise UnreadableSourceError(f"{self._archive.path} is no Docker archive: it has no manifest.json")
        try:
            saved = _decode_saved(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnsoundSourceError(f"manifest.json in {self._archive.path}: {error}") from error
        if not saved:
            raise NoSuchImageError(f"{self._archive.path} holds no image")
        return saved

    def _selected(self, images: Sequence[Saved]) -> Saved:
        if self._number is not None:
            if self._number < len(images):
                return images[self._number]
            raise NoSuchImageError(f"{self._archive.path} holds {len(images)} images, none has number {self._number}")
        name = self._selection.name
        found = [saved for saved in images if name is None or any(same_image(name, tag) for tag in saved.tags)]
        if len({saved.config for saved in found}) == 1:
            return found[0]
        tags = ", ".join(tag for saved in images for tag in saved.tags) or "none with a tag"
        if found:
            raise NoSuchImageError(
                f"{self._archive.path} holds several images: {tags}", hint="name one after the path and a colon"
            )
        raise NoSuchImageError(f"{self._archive.path} holds no {name}; it holds {tags}")

    async def _read(self, saved: Saved, wanted: Platform | None) -> SourceImage:
        config = await asyncio.to_thread(self._config, saved)
        raw = (await self._kept_manifests()).get(digest_of(config))
        if raw is not None:
            return self._image(saved, raw, config, wanted, local=False)
        layers = saved.layers or []
        made, members = await in_thread(lambda stop: make_manifest(self._archive, saved.config, config, layers, stop))
        self._members[digest_of(made)] = members
        return self._image(saved, made, config, wanted, local=True)

    def _image(self, saved: Saved, raw: bytes, config_raw: bytes, wanted: Platform | None, local: bool) -> SourceImage:
        manifest = read_manifest(f"the manifest of {saved.config}", raw)
        config = read_config(f"the config {saved.config}", config_raw, manifest.value)
        image = image_of(saved.tags, first_name(saved.tags), manifest, config, wanted)
        if local:
            return replace(image, digest_is_local=True, notes=(*image.notes, LOCAL_DIGEST))
        if any(layer.media_type in _UNCOMPRESSED for layer in image.layers):
            return replace(image, digest_is_local=True, notes=(*image.notes, SAVED_DIGEST))
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
            self._kept = {}
            if self._archive.find("index.json") and self._archive.find("oci-layout"):
                layout = OciSource(self.kind, self._archive, Selection())
                async for raw in layout.manifests():
                    manifest = read_manifest("a manifest", raw).value
                    self._kept.setdefault(manifest.config.digest, raw)
        return self._kept
