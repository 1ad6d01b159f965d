"""A source as it is looked at before an import, for the form and the commands: what it holds, what the cache has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec

from ocitui.cache import CacheError, ImageName, PackedFormat, PackerCache, StorageError

from .errors import SourceError
from .image_import import ImportRequest, answers_then, formats_found
from .packing.packing import tool_of
from .sources.images import ListedImage, SourceImage, SourceKind, SourceListing
from .sources.opening import (
    PackedSource,
    inspect_packed,
    name_in,
    open_source,
    prefix_of,
    received,
    recognise_source,
    standard_input,
)
from .sources.references import Logins
from .staging import BlobStore


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
        verdicts = [f"{one.names[0] if one.names else one.digest}: {one.problem}" for one in bad[:most]]
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
            seen = await inspect_source(msgspec.structs.replace(request, source=kept))
            if seen.refusal is not None and seen.listing is not None:
                name_in(seen.refusal, seen.listing.source)
            listing = seen.listing and msgspec.structs.replace(seen.listing, source=request.source)
            return msgspec.structs.replace(seen, listing=listing)
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


def _kept(cache: PackerCache, inspection: Inspection) -> tuple[int, int]:
    if inspection.image is not None and inspection.kind is SourceKind.REGISTRY:
        with suppress(StorageError):  # an import will tell what cannot be read
            return BlobStore(cache.directory).kept_of(inspection.image.layer_sizes)
    return 0, 0


def pinned_request(request: ImportRequest, inspection: Inspection) -> ImportRequest:
    """The same import, of the very image that was shown: a tag may stand for another by the time it is fetched."""
    if inspection.kind is not SourceKind.REGISTRY or inspection.image is None or "@" in request.source:
        return request
    return msgspec.structs.replace(request, source=f"{request.source}@{inspection.image.digest}")


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


def missing_packers() -> dict[PackedFormat, str]:
    """The formats that cannot be packed here, and what to install; looks through PATH."""
    missing = {}
    for format_ in PackedFormat:
        try:
            tool_of(format_, None)
        except CacheError as error:
            missing[format_] = error.hint.partition(",")[0]
    return missing
