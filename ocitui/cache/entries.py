"""Entries: what the index and the directory say of each descriptor. Whether that is right, the doctor judges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from .files import FileKind, reachable_files
from .listing import Listing

if TYPE_CHECKING:
    from .descriptors import Descriptor

EntryKey = tuple[str, str, str, int]
"""Digest, format, image name, and how many equal ones stand before it: an entry's identity while it is listed."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A descriptor, and what the directory holds for it.

    ``name`` is krata's spelling without the tag; ``packed_size`` is in bytes and ``modified``, the packed file's mtime,
    in seconds since the epoch, None while there is no such file; ``platform`` is empty where unknown.
    """

    key: EntryKey
    name: str
    reference: str
    digest: str
    format: str
    platform: str
    packed_size: int | None
    modified: float | None
    descriptor: Descriptor


def entry_keys(descriptors: Iterable[Descriptor]) -> list[EntryKey]:
    """The key of each descriptor, in order."""
    return identity_keys((one.digest, one.format, one.image_name) for one in descriptors)


def identity_keys(identities: Iterable[tuple[str, str | None, str | None]]) -> list[EntryKey]:
    """The key of each entry by its digest, format and image name, in order."""
    seen: dict[tuple[str, str, str], int] = {}
    keys: list[EntryKey] = []
    for digest, format_, name in identities:
        identity = (digest, format_ or "", name or "")
        nth = seen.get(identity, 0)
        seen[identity] = nth + 1
        keys.append((*identity, nth))
    return keys


def list_entries(descriptors: Sequence[Descriptor], listing: Listing) -> list[Entry]:
    """An entry for each descriptor, in order."""
    return [make_entry(key, d, listing) for key, d in zip(entry_keys(descriptors), descriptors, strict=True)]


def make_entry(key: EntryKey, descriptor: Descriptor, listing: Listing) -> Entry:
    platform = descriptor.platform
    fact = listing.get(name) if (name := packed_file(descriptor)) else None
    there = fact if fact is not None and fact.regular else None
    return Entry(
        key,
        name_without_tag(descriptor.image_name, descriptor.reference),
        descriptor.reference or "",
        descriptor.digest,
        descriptor.format or "",
        str(platform) if platform else "",
        there.size if there else None,
        there.modified_ns / 1e9 if there else None,
        descriptor,
    )


def names_of(descriptor: Descriptor) -> dict[FileKind, str]:
    """The names of an entry's files; empty where no lookup can reach any."""
    return reachable_files(descriptor.digest, descriptor.format)


def packed_file(descriptor: Descriptor) -> str:
    """The name of its packed file; empty where it can have none."""
    return names_of(descriptor).get(FileKind.PACKED, "")


def name_without_tag(image_name: str | None, reference: str | None) -> str:
    name = image_name or ""
    return name.removesuffix(f":{reference}") if reference else name
