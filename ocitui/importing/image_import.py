"""One import from its source to the index: found, fetched, flattened, packed, stored.

Everything is made in folders of ours inside the cache's file system. Until the last step, which is one transaction,
the cache is as it was; what was downloaded is kept when an import does not come to its end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ocitui.cache import (
    DocumentError,
    ImageName,
    PackedFormat,
    PackedImage,
    PackerCache,
    ReadOnlyError,
    StorageError,
    TransactionKind,
    check_packed,
    open_bounded,
    packed_name,
    storage_errors,
)
from ocitui.threads import Stop, in_thread, on_loop, settled

from .blobs import BlobProgress, BlobStore
from .errors import NamedOtherwiseError, SourceError
from .packing.packing import PackOptions, check_tool, flatten_and_pack
from .progress import ImportPhase, ImportProgress, ProgressCall, Tracker
from .requests import ImportRequest
from .sources.images import Source, SourceImage, SourceKind, check_platform, packed_image
from .sources.opening import PackedSource, inspect_packed, open_source, recognise_source, regular_size
from .staging import check_room, staging_folder, while_there_is_room


class ImportOutcome(StrEnum):
    """STORED: packed and brought in. CACHED: it was there under this name, and nothing was done. RENAMED: it was there,
    and the name now stands for it; nothing was packed."""

    STORED = "stored"
    CACHED = "cached"
    RENAMED = "renamed"


@dataclass(frozen=True, slots=True)
class ImportResult:
    """``notes`` are for the operator: what could not be kept, what to know of the digest."""

    image: PackedImage
    outcome: ImportOutcome
    notes: tuple[str, ...] = ()


async def find_cached(
    cache: PackerCache, digest: str, format: PackedFormat, name: ImageName, rename: bool, notes: tuple[str, ...]
) -> ImportResult | None:
    """The image that is in the cache, under its name: at most that is set, or made to win. None where there is none, or
    its files are not whole, so that it is brought in once more. Raises NamedOtherwiseError."""
    there = None
    with suppress(DocumentError):
        there = await cache.recall(name, digest, format)
    if there is None:
        return None
    check = await asyncio.to_thread(check_packed, there.path)
    if check.problem is not None or check.found is not format:
        return None
    await check_name(cache, digest, format, name, rename)
    # The daemon takes the name's last entry for its digest alone, and looks for the format then.
    winner = (await cache.index()).by_name(str(name))
    if there.descriptor.image_name == str(name) and winner is not None and winner.digest == digest:
        return ImportResult(there, ImportOutcome.CACHED, notes)
    stored = await store_settled(cache, replace(there, name=name))
    return ImportResult(stored, ImportOutcome.RENAMED, notes)


_ATTEMPTS = 3
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ImportDesk:
    """What the imports of one program have in common; it belongs to one event loop."""

    cache: PackerCache
    blobs: BlobStore

    @classmethod
    def of(cls, cache: PackerCache) -> ImportDesk:
        return cls(cache, BlobStore(cache.directory, disk=cache.disk))


async def import_image(desk: ImportDesk, request: ImportRequest, progress: ProgressCall | None = None) -> ImportResult:
    """Bring an image in. A cancelled call leaves the cache as it was, or with the whole image, and no process; what was
    downloaded stays. Who wants to go on with it later keeps a record of it: `requests.recorded`.

    Raises SourceError, NamedOtherwiseError, NoRoomError, LayerError, PackerError (MissingToolError before anything is
    fetched), WorkerError, and what `PackerCache.store` raises.
    """
    if desk.cache.read_only:
        raise ReadOnlyError("cannot import an image: the cache was opened read-only")
    name = request.image_name
    await desk.cache.index()  # one that cannot be written is no reason to download first
    tracker = Tracker(progress)
    tracker.enter(ImportPhase.INSPECT)
    found = await asyncio.to_thread(recognise_source, request.source)
    if found.kind is SourceKind.PACKED:
        return await _import_packed_files(desk, request, name, tracker)
    source = await open_source(request.source, request.source_options(tracker.note))
    try:
        return await _import_from(desk, source, request, tracker)
    finally:
        await source.close()


async def _import_from(desk: ImportDesk, source: Source, request: ImportRequest, tracker: Tracker) -> ImportResult:
    image = await source.resolve()
    name = request.image_name or image.image_name
    if name is None:
        raise SourceError(f"{request.source} says no name for the image", hint="give it one with --name")
    # Who waits finds the image in the cache then.
    key = (image.digest, request.format)
    async with desk.blobs.turns.hold(key, lambda: tracker.enter(ImportPhase.WAIT)) as turn:
        if turn.result is not None or not request.again:
            cached = await find_cached(desk.cache, image.digest, request.format, name, request.rename, image.notes)
            if cached is not None:
                await asyncio.to_thread(clear_blobs, desk.blobs, image)
                return cached
        await check_name(desk.cache, image.digest, request.format, name, request.rename)
        turn.result = result = await _bring_in(desk, source, image, name, request, tracker)
        return result


async def _bring_in(
    desk: ImportDesk, source: Source, image: SourceImage, name: ImageName, request: ImportRequest, tracker: Tracker
) -> ImportResult:
    def packing(said: ImportProgress) -> None:
        if said.phase is ImportPhase.WRITE and not said.done and request.format is PackedFormat.TAR:
            # Now that it is known how much it is; what is compressed takes less, nobody knows how much.
            check_room(desk.cache.directory, said.total)
        tracker.flattened(said)

    await asyncio.to_thread(check_tool, request.format, request.compression)
    await asyncio.to_thread(_check_room_first, desk, source, image)
    with staging_folder(desk.cache.directory, desk.cache.disk) as folder, desk.blobs.wanted(_digests_of(image)):
        output = folder / f"packed.{request.format}"
        tracker.expect_layers(image.layer_sizes, remote=source.kind is SourceKind.REGISTRY)
        options, downloaded = request.pack_options, tracker.downloaded
        warnings = await fetch_and_pack(source, image, desk.blobs, output, request.format, options, downloaded, packing)
        tracker.enter(ImportPhase.STORE)
        packed = packed_image(name, output, request.format, image.manifest, image.config, image.digest)
        stored = await store_settled(desk.cache, packed)
    await asyncio.to_thread(clear_blobs, desk.blobs, image)
    return ImportResult(stored, ImportOutcome.STORED, (*image.notes, *warnings))


async def fetch_and_pack(
    source: Source,
    image: SourceImage,
    blobs: BlobStore,
    output: Path,
    format: PackedFormat,
    options: PackOptions,
    downloaded: BlobProgress,
    packing: ProgressCall,
) -> tuple[str, ...]:
    """Fetch the layers of an image and pack them, while the cache has room for its next writes.

    Gives what could not be kept. Raises SourceError, NoRoomError, StorageError, and what `flatten_and_pack` raises.
    """
    for _ in range(_ATTEMPTS):
        layers = await while_there_is_room(blobs.cache, source.fetch(image, blobs, downloaded))
        with blobs.held(layer.path for layer in layers) as whole:
            if whole:
                work = flatten_and_pack(layers, output, format, options, packing)
                return await while_there_is_room(blobs.cache, work)
    raise SourceError("another program removes what is downloaded", hint="end that program, then try again")


def _check_room_first(desk: ImportDesk, source: Source, image: SourceImage) -> None:
    """Room for what is to be downloaded and for the packed file, which is taken to be as large as the layers.

    How large it will be is known only later: `while_there_is_room` sees to the rest. Raises NoRoomError.
    """
    sizes = image.layer_sizes
    to_come = 0
    if source.kind is SourceKind.REGISTRY:
        there = {blob.digest: blob.size for blob in desk.blobs.stored()}
        to_come = sum(max(size - there.get(digest, 0), 0) for digest, size in sizes.items())
    check_room(desk.cache.directory, to_come + sum(sizes.values()))


def clear_blobs(blobs: BlobStore, image: SourceImage) -> None:
    """What cannot be removed is no reason to fail: the image is in, and the store says what it holds."""
    with suppress(StorageError):
        blobs.clear(_digests_of(image))


def _digests_of(image: SourceImage) -> set[str]:
    return {digest for layer in image.layers for digest in (layer.digest, layer.diff_id)}


async def _import_packed_files(
    desk: ImportDesk, request: ImportRequest, name: ImageName | None, tracker: Tracker
) -> ImportResult:
    if name is None:
        raise SourceError("packed files say no name for the image", hint="give it one with --name")
    found = await inspect_packed(request.packed_files())
    wanted = request.source_options().platform
    notes = check_platform(found.config.value.platform, wanted) if found.config else ()
    if found.digest and found.format and not found.problems and not request.again:
        cached = await find_cached(desk.cache, found.digest, found.format, name, request.rename, notes)
        if cached is not None:
            return cached
    tracker.enter(ImportPhase.COPY)
    copied = on_loop(tracker.copied)
    stored = await import_packed(desk.cache, found, name, rename=request.rename, progress=copied)
    return ImportResult(stored, ImportOutcome.STORED, notes)


Copied = Callable[[int, int], None]
"""Called with the bytes copied and the bytes there are; from a thread of its own."""


async def import_packed(
    cache: PackerCache, source: PackedSource, name: ImageName, *, rename: bool = False, progress: Copied | None = None
) -> PackedImage:
    """Bring a source in under a name; its file is copied, so it stays as it is.

    An entry of the same digest and format keeps its name unless ``rename``. A cancelled call leaves nothing of it, or
    all. Raises SourceError, NamedOtherwiseError, NoRoomError, and what `PackerCache.store` raises.
    """
    image = source.image(name)
    if cache.read_only:
        raise ReadOnlyError("cannot import an image: the cache was opened read-only")
    await check_name(cache, image.digest, image.format, name, rename)
    if _is_in_place(cache, image):
        return await store_settled(cache, image)
    with staging_folder(cache.directory, cache.disk) as folder:
        staged = replace(image, path=folder / "packed")
        await in_thread(lambda stop: _copy(cache, image, staged.path, progress, stop))
        return await store_settled(cache, staged)


def _copy(cache: PackerCache, image: PackedImage, copy: Path, progress: Copied | None, stop: Stop) -> None:
    """Copy the packed file. Raises SourceError where it is not what was inspected, or changes meanwhile; StorageError,
    NoRoomError, AbandonedError."""
    source = image.path
    check_room(cache.directory, regular_size(source))
    with storage_errors("stage the packed file"), open_bounded(source) as original, cache.disk.writing(copy) as write:
        before = os.fstat(original.fileno())
        done = 0
        while chunk := original.read(_CHUNK):
            stop.check()
            write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, before.st_size)
        after = os.fstat(original.fileno())
    if done != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise SourceError(f"{source} changed while it was read", hint="try again once nothing writes to it")
    check = check_packed(copy)
    if check.problem or check.found is not image.format:
        raise SourceError(f"{source} changed since it was inspected", hint="inspect it again")


async def store_settled(cache: PackerCache, packed: PackedImage) -> PackedImage:
    """The transaction; who is cancelled meanwhile goes on once it has ended, as its file is still being moved."""
    try:
        return await cache.store(packed, kind=TransactionKind.IMPORT)
    finally:
        await settled(cache.close())


async def check_name(cache: PackerCache, digest: str, format: PackedFormat, name: ImageName, rename: bool) -> None:
    """Raises NamedOtherwiseError where an entry would lose its name, as there is one for a digest and format."""
    there = (await cache.index()).by_key(digest, format)
    if there is not None and there.image_name != str(name) and not rename:
        raise NamedOtherwiseError(
            f"the cache has {digest} in format {format} as {there.image_name or 'an entry without a name'}"
        )


def _is_in_place(cache: PackerCache, image: PackedImage) -> bool:
    """Whether the source is the very file the entry is to have."""
    with suppress(OSError):
        return image.path.samefile(cache.directory / packed_name(image.digest, image.format))
    return False
