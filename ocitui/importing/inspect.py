"""An import as it is asked for, and its source as it is looked at before: what it holds, what the cache has of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ocitui.cache import CacheError, DocumentError, ImageName, PackedFormat, PackerCache, StorageError

from .errors import SourceError
from .layers.layers import LayerLimits
from .packing.packing import PackOptions
from .sources.images import ListedImage, SourceImage, SourceKind, SourceListing, parse_platform
from .sources.opening import (
    PackedFiles,
    PackedSource,
    find_packed_files,
    inspect_packed,
    name_in,
    open_source,
    prefix_of,
    received,
    recognise_source,
    standard_input,
)
from .sources.references import Logins, Reference, RegistryOptions, SourceOptions, home_path
from .staging import BlobStore

_VERSION = 2


class LaterRequestError(ValueError):
    """A later ocitui wrote it."""


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``source`` in skopeo's spelling, or a path. ``name`` is None for what the source calls the image. ``rename`` lets
    it take over an entry of the same digest and format, ``repoint`` stand for another image than now; ``again`` brings
    in what the cache has already. ``packer`` is a program that is to pack where ocitui can. ``complete_config`` adds a
    history to a config that has none. ``manifest`` and ``config`` are of packed files. ``authfile`` is where
    credentials are: no secret is in here."""

    source: str
    name: str | None = None
    format: PackedFormat = PackedFormat.SQUASHFS
    platform: str | None = None
    compression: str | None = None
    level: int | None = None
    packer: str | None = None
    max_bytes: int | None = None
    max_entries: int | None = None
    tls_ca: str | None = None
    plain_http: bool = False
    authfile: str | None = None
    mirror: str | None = None
    manifest: str | None = None
    config: str | None = None
    complete_config: bool = False
    rename: bool = False
    repoint: bool = False
    again: bool = False

    @classmethod
    def from_json(cls, data: bytes) -> ImportRequest:
        """What `to_json` wrote, or the first version, without its own. Raises ValueError, LaterRequestError."""
        fields = json.loads(data)
        if isinstance(fields, dict) and fields.pop("version", 1) not in (1, _VERSION):
            raise LaterRequestError
        return msgspec.convert(fields, ImportRequest)

    def to_json(self) -> bytes:
        """In ASCII, so that paths that are not UTF-8 pass as the surrogates they are."""
        return json.dumps({"version": _VERSION, **msgspec.to_builtins(self)}).encode("ascii")

    @property
    def image_name(self) -> ImageName | None:
        """Raises InvalidNameError."""
        return ImageName.parse(self.name) if self.name else None

    def source_options(
        self, notify: Callable[[str], None] = lambda message: None, logins: Logins | None = None
    ) -> SourceOptions:
        """How to open the source; ``notify`` is told why a registry is asked again. Raises NoSuchImageError."""
        platform = None if self.platform is None else parse_platform(self.platform)
        registry = RegistryOptions.typed(self.tls_ca, self.plain_http, self.authfile, self.mirror)
        registry = replace(registry, notify=notify, logins=logins or {})
        return SourceOptions(platform, registry, self.complete_config, self.pack_options.limits)

    @property
    def registry(self) -> str:
        """The host of the registry that would be asked; empty for other sources. Raises SourceError."""
        found = recognise_source(self.source) if standard_input(self.source) is None else None
        return Reference.parse(found.rest).asked_of(self.mirror) if found and found.kind is SourceKind.REGISTRY else ""

    def packed_files(self, format: PackedFormat | None = None) -> PackedFiles:
        """The files of a packed source. Raises SourceError, also where they are named as of another ``format``."""
        manifest, config = (home_path(file) if file else None for file in (self.manifest, self.config))
        return find_packed_files(self.source, manifest, config, format)

    @property
    def pack_options(self) -> PackOptions:
        """How to flatten and pack."""
        usual = LayerLimits()
        limits = LayerLimits(self.max_bytes or usual.unpacked_bytes, self.max_entries or usual.entries)
        return PackOptions(self.compression, self.level, self.packer, limits)

    def with_absolute_paths(self) -> ImportRequest:
        """The same, whatever the working directory is later. Raises SourceError where there is no such source."""
        found = recognise_source(self.source)
        source, name = self.source, self.name
        if found.kind is SourceKind.PACKED:
            # An entry of another cache has a name there, which its file does not tell.
            name = name or found.name or None
        if found.kind is SourceKind.REGISTRY:
            # A bare name would be that of a directory, where there is one.
            source = f"docker://{found.rest}"
        else:
            rest = found.rest.removeprefix("./")
            source = f"{found.kind}:{os.path.join(os.getcwd(), rest)}"
        files = {
            field: os.path.abspath(os.path.expanduser(path))
            for field in ("tls_ca", "authfile", "manifest", "config")
            if (path := getattr(self, field)) is not None
        }
        return replace(self, source=source, name=name, **files)

    @property
    def lasting_source(self) -> str:
        """The source, whatever the working directory is later; empty where it is gone."""
        with suppress(SourceError):
            return self.with_absolute_paths().source
        return ""


# It reads the type before there are threads, two of which may not convert to it for the first time together.
_DECODER = msgspec.json.Decoder(ImportRequest)


class Inspection(msgspec.Struct, frozen=True):
    """``listing`` is None for packed files, which ``packed`` is about; ``image`` is the one that would be taken, and
    where there is none ``refusal`` says why."""

    kind: SourceKind
    listing: SourceListing | None = None
    image: SourceImage | None = None
    packed: PackedSource | None = None
    refusal: CacheError | None = None

    @property
    def digest(self) -> str | None:
        """The digest it would be stored under."""
        if self.packed is not None:
            return self.packed.digest
        return self.image.digest if self.image else None

    @property
    def name(self) -> ImageName | None:
        """What the source calls the image."""
        return self.image.image_name if self.image else None

    @property
    def images(self) -> tuple[ListedImage, ...]:
        return self.listing.images if self.listing else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of it, each once, but for what the refusal says itself."""
        said = self.refusal.message if self.refusal else ""
        bad, most = [one for one in self.images if one.problem and one.problem != said], 10
        verdicts = [f"{one.names[0] if one.names else one.digest or 'one'}: {one.problem}" for one in bad[:most]]
        verdicts += [f"{len(bad) - most} more are no images"] if len(bad) > most else []
        listed = self.listing.notes if self.listing else ()
        notes = (*(self.image.notes if self.image else ()), *listed, *verdicts)
        return tuple(note for note in dict.fromkeys(notes) if note not in said)

    def is_taken(self, image: ListedImage) -> bool:
        """Whether it is this one that would be taken."""
        return self.image is not None and (image.digest, image.names) == (self.image.digest, self.image.names)

    def format(self, asked: PackedFormat) -> PackedFormat | None:
        """The format it would be stored in: that of packed files cannot be chosen."""
        return self.packed.format if self.packed is not None else asked

    @property
    def can_be_taken(self) -> bool:
        return self.image is not None or (self.packed is not None and not self.packed.problems)


class Standing(msgspec.Struct, frozen=True):
    """What the cache has of it: whether an entry of that digest and format is ``there``, what it is ``called``, and
    whether that name ``wins``, stands for it already. ``kept`` bytes and ``layers`` whole layers are not fetched again.
    ``displaced`` is the digest that the asked name gives now, where that is another. It will be a hit in the formats
    ``hits``, and is one now only in those that it ``misses`` then."""

    there: bool = False
    called: str = ""
    wins: bool = False
    kept: int = 0
    layers: int = 0
    displaced: str = ""
    hits: tuple[PackedFormat, ...] = ()
    misses: tuple[PackedFormat, ...] = ()

    def is_other(self, name: str) -> bool:
        """Whether the entry has another name, which the new one would take over."""
        return self.there and self.called != name


async def inspect_source(
    request: ImportRequest,
    notify: Callable[[str], None] = lambda message: None,
    format: PackedFormat | None = None,
    directory: Path | None = None,
    logins: Logins | None = None,
) -> Inspection:
    """Look at a source; ``notify`` is told why a registry is asked again, ``format`` is what packed files must be.
    Standard input is kept in the cache ``directory`` meanwhile. Raises SourceError, and what `received` raises."""
    if standard_input(request.source) is not None:
        async with received(request.source, directory, lambda done, total: None) as kept:
            seen = await inspect_source(replace(request, source=kept))
            if seen.refusal is not None and seen.listing is not None:
                name_in(seen.refusal, seen.listing.source)
            listing = seen.listing and replace(seen.listing, source=request.source)
            return replace(seen, listing=listing)
    options = request.source_options(notify, logins)
    found = await asyncio.to_thread(recognise_source, request.source)
    if found.kind is SourceKind.PACKED:
        return Inspection(found.kind, packed=await asyncio.to_thread(inspect_packed, request.packed_files(format)))
    async with aclosing(await open_source(request.source, options)) as source:
        listing = await source.listing()
        try:
            return Inspection(source.kind, listing, await source.resolve())
        except SourceError as error:
            return Inspection(source.kind, listing, refusal=error)


async def standing_of(cache: PackerCache, inspection: Inspection, request: ImportRequest) -> Standing:
    """What the cache has of what was found. Raises CacheError."""
    format_ = inspection.format(request.format)
    if inspection.digest is None or format_ is None:
        return Standing()
    kept, layers = await asyncio.to_thread(_kept, cache, inspection)
    index = await cache.index()
    there, displaced = index.by_key(inspection.digest, format_), ""
    name = ImageName.parse(request.name) if request.name else None
    answers = await answers_then(cache, name, inspection.digest, format_) if name else ((), ())
    if name and (now := index.by_name(str(name))) and now.digest != inspection.digest:
        displaced = now.digest if await formats_found(cache, name) else ""
    called = there.image_name or "" if there else ""
    winner = index.by_name(called) if called else None
    wins = winner is not None and there is not None and winner.key == there.key
    return Standing(there is not None, called, wins, kept, layers, displaced, *answers)


async def formats_found(cache: PackerCache, name: ImageName, digest: str = "") -> list[PackedFormat]:
    """The formats in which the daemon finds what a name gives, or would if it gave this digest."""
    found = []
    for format in PackedFormat:
        with suppress(DocumentError):
            image = None if digest else await cache.resolve(name, format)
            wanted = image.digest if image else digest
            if wanted and await cache.recall(name, wanted, format) is not None:
                found.append(format)
    return found


async def answers_then(
    cache: PackerCache, name: ImageName, digest: str, format: PackedFormat
) -> tuple[tuple[PackedFormat, ...], tuple[PackedFormat, ...]]:
    """The formats in which a name will be a hit once it is that image's, and those in which it is one only now."""
    hits = {format, *await formats_found(cache, name, digest)}
    now = await formats_found(cache, name)
    return tuple(one for one in PackedFormat if one in hits), tuple(one for one in now if one not in hits)


def _kept(cache: PackerCache, inspection: Inspection) -> tuple[int, int]:
    if inspection.image is not None and inspection.kind is SourceKind.REGISTRY:
        with suppress(StorageError):  # an import will tell what cannot be read
            return BlobStore(cache.directory).kept_of(inspection.image.layer_sizes)
    return 0, 0


def pinned_request(request: ImportRequest, inspection: Inspection) -> ImportRequest:
    """The same import, of the very image that was shown: a tag may stand for another by the time it is fetched."""
    if inspection.kind is not SourceKind.REGISTRY or inspection.image is None or "@" in request.source:
        return request
    return replace(request, source=f"{request.source}@{inspection.image.digest}")


def chosen_source(text: str, inspection: Inspection, number: int) -> tuple[str, str | None]:
    """How to write the image of that number: the source, and the platform where only that tells it from others."""
    image = inspection.images[number]
    same_names = [other for other in inspection.images if other.names == image.names]
    platform = str(image.platform) if image.platform else None
    if inspection.kind is SourceKind.REGISTRY:
        alone = platform is not None and [str(other.platform) for other in same_names].count(platform) == 1
        return (text, platform) if alone else (f"{text.partition('@')[0]}@{image.digest}", None)
    found = recognise_source(text)
    base = f"{prefix_of(text)}{found.path}"
    if inspection.kind is SourceKind.DOCKER_ARCHIVE:
        return (f"{base}:{image.names[0]}" if image.names else f"{base}:@{number}"), None
    if image.names and len(same_names) == 1:
        return f"{base}:{image.names[0]}", None
    return f"{base}@{image.digest}", None
