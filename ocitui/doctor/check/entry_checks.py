"""One digest's entries: their three files, what the documents say, and what the packed files' headers do; in few steps
where nothing is wrong, else with care."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from ocitui.cache import Descriptor, DocumentError, FileKind, PackedFormat
from ocitui.cache.documents import Platform, read_config, read_manifest
from ocitui.cache.listing import CONFIG, MANIFEST, PLACES, WIDTH, CacheFiles, Listing, is_plain
from ocitui.cache.packed_file import SOUND, check_packed_file

from ..catalogue import CATALOGUE
from ..findings import Finding
from .descriptor_checks import Where, where
from .document_checks import Carriers, DocumentChecks, document_place, platform_disagrees
from .file_checks import look_at_header, packed_standing

_LARGEST_USUAL = 1 << 22
"""Bytes; of a larger document the careful checks speak."""
DOCUMENTS_LOOKED = 1
_FORMAT_AT = {PLACES[format_]: str(format_) for format_ in PackedFormat}
_SOUND_AT = {PLACES[format_]: sound for format_, sound in SOUND.items()}
Expected = tuple[int, int, Platform | None]
"""What an entry says: the place of its packed file in the listing, the size of its manifest in bytes, its platform."""
_FORMATS: dict[str | None, PackedFormat] = {str(format_): format_ for format_ in PackedFormat}


class Described(NamedTuple):
    """What the two documents of a digest say of the image; ``manifest_type`` is None where the manifest does not."""

    manifest_type: str | None
    config_type: str
    platform: Platform


@lru_cache(1024)
def _described(
    manifest_type: str | None, config_type: str, architecture: str, system: str, variant: str | None
) -> Described:
    """The same one for all images that are alike."""
    return Described(manifest_type, config_type, Platform(architecture, system, variant=variant))


class PackedFile(NamedTuple):
    """A packed file that is there, for the deeper checks; ``size`` in bytes."""

    digest: str
    format: PackedFormat
    size: int
    descriptor: Descriptor
    position: int | None = None

    @property
    def name(self) -> str:
        return f"{self.digest}.{self.format}"

    @property
    def at(self) -> Where:
        """What a finding says of its entry: the first of this digest and format."""
        return where(self.descriptor, self.position)


class DigestCheck(NamedTuple):
    """What is wrong with the files of a digest, into which of its packed files was looked, and why not into others."""

    findings: tuple[Finding, ...]
    looked_into: tuple[PackedFormat, ...]
    unchecked: tuple[tuple[str, str], ...]


def look_usually(
    files: CacheFiles,
    listing: Listing,
    digest: str,
    row: int,
    entries: list[Expected],
    *,
    headers: bool,
    described: dict[str, Described] | None = None,
) -> int:
    """Look at a digest's files in few steps: how far was looked, a bit for each place of the listing. 0 where something
    is not as usual, so that `check_digest` has to tell. What the documents say goes into ``described``.

    Few calls, because this goes over every entry of the largest caches.
    """
    at, odd, looked = row * WIDTH, listing.odd, DOCUMENTS_LOOKED
    modes, sizes = listing.modes[at : at + WIDTH], listing.sizes[at : at + WIDTH]
    if (
        not entries
        or (odd and not odd.keys().isdisjoint(range(at, at + WIDTH)))
        or not is_plain(modes[MANIFEST])
        or not is_plain(modes[CONFIG])
        or max(sizes[MANIFEST], sizes[CONFIG]) > _LARGEST_USUAL
    ):
        return 0
    try:
        manifest = files.read(f"{digest}.manifest.json", sizes[MANIFEST])
        if len(manifest) != sizes[MANIFEST] or f"sha256:{sha256(manifest).hexdigest()}" != digest:
            return 0
        said = read_manifest(manifest)
        raw = files.read(f"{digest}.config.json", sizes[CONFIG])
        if f"sha256:{sha256(raw).hexdigest()}" != said.config.digest:
            return 0
        config = read_config(raw)
        if len(said.layers) != len(config.rootfs.diff_ids):
            return 0
        for place, expected_size, platform in entries:
            if (
                not place
                or expected_size != sizes[MANIFEST]
                or not sizes[place]
                or not is_plain(modes[place])
                or (platform is not None and platform_disagrees(platform, config))
            ):
                return 0
            if headers and not looked >> place & 1:
                fd = files.open_fd(f"{digest}.{_FORMAT_AT[place]}")
                try:
                    if check_packed_file(fd, sizes[place]) is not _SOUND_AT[place]:
                        return 0
                finally:
                    os.close(fd)
                looked |= 1 << place
    except (OSError, DocumentError):
        return 0
    if described is not None:
        types = said.media_type, said.config.media_type
        described[digest] = _described(*types, config.architecture, config.os, config.variant)
    return looked


def check_digest(
    files: CacheFiles, listing: Listing, digest: str, carriers: Carriers, *, headers: bool = True
) -> DigestCheck:
    """Check every file of a digest; reads its two documents, and looks into the packed files where ``headers``."""
    documents = DocumentChecks(files, listing, digest, carriers, document_place(carriers)).run()
    findings, missing = list(documents.findings), documents.missing
    looked, unchecked = list[PackedFormat](), list[tuple[str, str]]()
    there = lonely = 0
    for format_, (_, descriptor) in first_of_formats(carriers):
        name, at = f"{digest}.{format_}", where(descriptor)
        found = packed_standing(files, listing.get(name), name, at)
        if found.finding is not None:
            if found.missing and len(missing) == 2:
                lonely += 1
                findings.append(_nothing_there(at))
            else:
                findings.append(found.finding)
            continue
        there += 1
        if headers:
            look = look_at_header(files, name, format_, at)
            findings += look.findings
            unchecked += [(name, look.unchecked)] if look.unchecked else []
            looked += [format_] if look.read and not look.unchecked else []
    if not lonely or there:
        findings += missing
    return DigestCheck(tuple(findings), tuple(looked), tuple(unchecked))


def first_of_formats(carriers: Carriers) -> Iterable[tuple[PackedFormat, tuple[int | None, Descriptor]]]:
    """Each format of the digest once, with its first entry."""
    found: dict[PackedFormat, tuple[int | None, Descriptor]] = {}
    for carrier in carriers:
        format_ = _FORMATS.get(carrier[1].format)
        if format_ is not None and format_ not in found:
            found[format_] = carrier
    return found.items()


def _nothing_there(at: Where) -> Finding:
    return CATALOGUE["file-missing"].finding("none of its three files is there", kind=FileKind.PACKED, **at)
