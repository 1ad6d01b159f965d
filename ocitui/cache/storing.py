"""Storing a packed image: its files first, the index last."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import msgspec

from .changes import Change, Edit, Place, Seen
from .descriptors import ANNOTATION_IMAGE_NAME, ANNOTATION_PACKED_FORMAT, ANNOTATION_REFERENCE, Descriptor
from .disk import Folder
from .errors import InvalidPackedImageError
from .files import MOST_DOCUMENT_BYTES, FileKind, file_names, usable_digest
from .lookup import PackedImage
from .records import TransactionKind
from .transactions import About, make
from .workspace import Workspace


def check(packed: PackedImage) -> None:
    """Raises InvalidPackedImageError where the image cannot be an entry of the cache."""
    if packed.descriptor.digest != packed.digest:
        raise InvalidPackedImageError(f"the descriptor is for {packed.descriptor.digest}, the image is {packed.digest}")
    if not usable_digest(packed.digest):
        raise InvalidPackedImageError(f"{packed.digest!r} cannot be a file name, so the daemon would never find it")
    try:
        found = os.stat(packed.path)
    except (OSError, ValueError) as error:
        raise InvalidPackedImageError(f"{packed.path} cannot be read: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidPackedImageError(f"{packed.path} is not a regular file")


def entry_descriptor(packed: PackedImage) -> Descriptor:
    """The image's descriptor with the annotations the daemon writes when it stores."""
    annotations = {ANNOTATION_PACKED_FORMAT: packed.format.value, ANNOTATION_IMAGE_NAME: str(packed.name)}
    if packed.name.reference is not None:
        annotations[ANNOTATION_REFERENCE] = packed.name.reference
    return packed.descriptor.with_annotations(annotations)


def store(space: Workspace, packed: PackedImage, kind: TransactionKind) -> PackedImage:
    """Bring the image's three files in, then replace the entry of its digest and format by one at the end."""
    descriptor = entry_descriptor(packed)
    edit = Edit(keys=frozenset([descriptor.key]), appended=descriptor)
    make(space, Change(edit, place=tuple(_places(space.root, packed))), About(kind))
    path = space.directory / file_names(packed.digest, packed.format)[FileKind.PACKED]
    return msgspec.structs.replace(packed, path=path, descriptor=descriptor)


def _places(root: Folder, packed: PackedImage) -> Iterator[Place]:
    """The files that are not in their place already."""
    names = file_names(packed.digest, packed.format)
    target = root.lstat(names[FileKind.PACKED])
    there = Seen.of(target) if target is not None else None
    if target is None or not stat.S_ISREG(target.st_mode) or not os.path.samestat(target, os.stat(packed.path)):
        yield Place(names[FileKind.PACKED], there, path=packed.path, take=True)
    for kind, raw in ((FileKind.CONFIG, packed.config.raw), (FileKind.MANIFEST, packed.manifest.raw)):
        found = root.lstat(names[kind])
        if found is None or not _holds(root, names[kind], found, raw):
            yield Place(names[kind], Seen.of(found) if found else None, data=raw)


def _holds(root: Folder, name: str, found: os.stat_result, raw: bytes) -> bool:
    """Whether a regular file of this name has these bytes already."""
    if not stat.S_ISREG(found.st_mode) or found.st_size != len(raw):
        return False
    try:
        return root.read(name, MOST_DOCUMENT_BYTES) == raw
    except OSError:
        return False
