"""Entries that came from another cache, by a tar or piece by piece: read through, and stored as imports are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from ocitui.cache import (
    Descriptor,
    ImageName,
    InvalidNameError,
    PackedFormat,
    PackerCache,
    ReadOnlyError,
    open_bounded,
    storage_errors,
)
from ocitui.contents import ContentsError, TreeLines, read_through
from ocitui.importing import (
    ImportOutcome,
    ImportPhase,
    ImportRequest,
    ImportResult,
    PackedSource,
    ProgressCall,
    SourceError,
    Tracker,
    UnsoundSourceError,
    check_name,
    find_cached,
    inspect_packed,
    note_stored,
    staging_folder,
    store_settled,
    while_there_is_room,
)
from ocitui.threads import Stop, in_thread, on_loop

from .cache_tar import ArrivedEntry, CacheTarReader


class _Verified(msgspec.Struct, frozen=True):
    """What came, once all that is in it was read."""

    entry: ArrivedEntry
    found: PackedSource
    lines: TreeLines | None
    notes: tuple[str, ...]


async def receive_cache_tar(
    cache: PackerCache,
    chunks: Callable[[Stop], Iterator[bytes]],
    asked: ImportRequest,
    most: int,
    progress: ProgressCall | None = None,
) -> list[ImportResult]:
    """Bring the entries of a cache in a tar in, none before all were verified; ``most`` bounds what they take. Raises
    UnsoundSourceError, NoRoomError, NamedOtherwiseError, RepointsNameError, and as `PackerCache.store`."""
    if cache.read_only:
        raise ReadOnlyError("cannot import entries: the cache was opened read-only")
    await cache.index()
    tracker = Tracker(progress)
    tar = CacheTarReader(chunks, on_loop(tracker.copied), most)
    index = await in_thread(tar.index)
    # Before gigabytes come for nothing.
    await check_names(cache, index.descriptors, asked)
    with staging_folder(cache.directory, cache.disk) as folder:
        coming = in_thread(lambda stop: tar.entries(index, folder, cache.disk, cache.directory, stop))
        return await store_arrived(cache, await while_there_is_room(cache.directory, coming), asked, tracker)


async def check_names(cache: PackerCache, descriptors: Sequence[Descriptor], asked: ImportRequest) -> None:
    """Raises SourceError for an entry that has no name to be stored by, and as `check_name`."""
    if asked.name and len(descriptors) > 1:
        raise SourceError(f"{len(descriptors)} entries cannot have one name", hint="leave out --name")
    for descriptor in descriptors:
        format = PackedFormat(descriptor.format or "")
        await check_name(cache, descriptor.digest, format, _name_of(descriptor, asked), asked)


def _name_of(descriptor: Descriptor, asked: ImportRequest) -> ImageName:
    if asked.image_name is not None:
        return asked.image_name
    if not descriptor.image_name:
        hint = "export it alone, and ocitui import --name gives it one"
        raise SourceError(f"{descriptor.digest} has no name where it comes from", hint=hint)
    try:
        return ImageName.parse(descriptor.image_name)
    except InvalidNameError as error:
        raise UnsoundSourceError(f"{descriptor.digest} has a name that is none: {error.message}") from error


async def store_arrived(
    cache: PackerCache, arrived: Sequence[ArrivedEntry], asked: ImportRequest, tracker: Tracker
) -> list[ImportResult]:
    """Store what came, each entry in a transaction, once all of them are verified. Raises as `receive_cache_tar`."""
    tracker.enter(ImportPhase.FINISH)
    verified = [await in_thread(partial(_verified, entry)) for entry in arrived]
    await check_names(cache, [entry.descriptor for entry in arrived], asked)
    tracker.enter(ImportPhase.STORE)
    return [await _stored(cache, one, asked) for one in verified]


def _verified(entry: ArrivedEntry, stop: Stop) -> _Verified:
    """Raises UnsoundSourceError, StorageError, AbandonedError."""
    packed, format = entry.files.packed, PackedFormat(entry.descriptor.format or "")
    found, lines = inspect_packed(entry.files), None
    if found.problems:
        text = "; ".join(found.problems).replace(f"{packed.parent}/", "")
        raise UnsoundSourceError(f"{packed.name} is not sound: {text}")
    with storage_errors(f"read {packed.name}"), open_bounded(packed) as file:
        through = read_through(file, format, stop)
        try:
            lines = TreeLines.of(through.tree, stop) if through.tree is not None and through.hashed else None
        except ContentsError as error:
            raise UnsoundSourceError(f"{packed.name} cannot be read: {error.message}") from error
    if through.problem:
        raise UnsoundSourceError(f"{packed.name} is damaged: {through.problem}")
    if lines is not None and entry.content not in ("", lines.content):
        raise UnsoundSourceError(f"{packed.name} holds the tree {lines.content}, said was {entry.content}")
    notes = (f"{packed.name} was not read through: {through.unchecked}",) if through.unchecked else ()
    return _Verified(entry, found, lines, notes)


async def _stored(cache: PackerCache, one: _Verified, asked: ImportRequest) -> ImportResult:
    entry, name = one.entry, _name_of(one.entry.descriptor, asked)
    image = one.found.image(name)
    if not asked.again:
        cached = await find_cached(cache, image.digest, image.format, name, asked, one.notes)
        if cached is not None:
            return cached
    stored = await store_settled(cache, image)
    result = ImportResult(stored, ImportOutcome.STORED, one.notes, entry.source, one.lines, entry.sha256)
    await asyncio.to_thread(note_stored, cache.directory, result)
    return result
