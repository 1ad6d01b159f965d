"""What an import comes to, and images that the cache has already: found, named anew, never packed again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import StrEnum

from ocitui.cache import DocumentError, ImageName, PackedFormat, PackedImage, PackerCache, TransactionKind
from ocitui.cache.packed_file import check_packed
from ocitui.threads import settled

from .errors import NamedOtherwiseError


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


async def find_cached(cache: PackerCache, digest: str, format: PackedFormat, name: ImageName) -> PackedImage | None:
    """The image in the cache; None also where its files are not whole, so that it is brought in once more."""
    try:
        there = await cache.recall(name, digest, format)
    except DocumentError:
        return None
    if there is None:
        return None
    check = await asyncio.to_thread(check_packed, there.path)
    return there if check.found is format and check.problem is None else None


async def keep_cached(
    cache: PackerCache, there: PackedImage, name: ImageName, rename: bool, notes: tuple[str, ...]
) -> ImportResult:
    """Nothing is fetched or packed; at most the name is set, or made to win."""
    await check_name(cache, there.digest, there.format, name, rename)
    index = await cache.index()
    # The daemon takes the name's last entry for its digest alone, and looks for the format then.
    winner = index.by_name(str(name))
    if there.descriptor.image_name == str(name) and winner is not None and winner.digest == there.digest:
        return ImportResult(there, ImportOutcome.CACHED, notes)
    stored = await store_settled(cache, replace(there, name=name))
    return ImportResult(stored, ImportOutcome.RENAMED, notes)


async def check_name(cache: PackerCache, digest: str, format: PackedFormat, name: ImageName, rename: bool) -> None:
    """Raises NamedOtherwiseError where an entry would lose its name, as there is one for a digest and format."""
    there = (await cache.index()).by_key(digest, format)
    if there is not None and there.image_name != str(name) and not rename:
        raise NamedOtherwiseError(
            f"the cache has {digest} in format {format} as {there.image_name or 'an entry without a name'}"
        )


async def store_settled(cache: PackerCache, packed: PackedImage) -> PackedImage:
    """The transaction; who is cancelled meanwhile goes on once it has ended, as its file is still being moved."""
    try:
        return await cache.store(packed, kind=TransactionKind.IMPORT)
    finally:
        await settled(cache.close())
