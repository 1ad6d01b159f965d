"""Storing a packed image: its files first, the index last."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import replace

import msgspec

from .descriptors import ANNOTATION_IMAGE_NAME, ANNOTATION_PACKED_FORMAT, ANNOTATION_REFERENCE, Descriptor
from .disk import Folder
from .edits import removals
from .errors import InvalidPackedImageError
from .file_steps import moved_to_trash, placed_from
from .files import FileKind, file_names, usable_digest
from .index_file import IndexFile
from .journal import begin
from .lookup import PackedImage
from .records import Placed, Removed, TransactionKind
from .transactions import run
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
    annotations = {
        ANNOTATION_PACKED_FORMAT: packed.format.value,
        ANNOTATION_IMAGE_NAME: str(packed.name),
    }
    if packed.name.reference is not None:
        annotations[ANNOTATION_REFERENCE] = packed.name.reference
    return packed.descriptor.with_annotations(annotations)


def store(space: Workspace, base: IndexFile, packed: PackedImage) -> PackedImage:
    """Bring the image's three files in, then replace the entry of its digest and format by one at the end."""
    try:
        return _store(space, base, packed, copy=False)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another mount of the same file system: it can be copied from, not renamed from.
        return _store(space, base, packed, copy=True)


def _store(space: Workspace, base: IndexFile, packed: PackedImage, *, copy: bool) -> PackedImage:
    index = base.contents
    descriptor = entry_descriptor(packed)
    key = descriptor.key
    transaction = begin(TransactionKind.STORE)
    names = file_names(packed.digest, packed.format)
    placed, copied = _stage(space, packed, transaction.id, copy=copy)
    transaction = msgspec.structs.replace(
        transaction,
        displaced=moved_to_trash(space.root, transaction.id, [file.name for file in placed]),
        placed=placed,
        removed=removals(index, {key}) if index.by_key(*key) else [],
        added=[Removed(descriptor.raw.decode(), len(index))],
        opening=index.layout.opening.decode(),
        closing=index.layout.closing.decode(),
    )
    run(space, transaction, base, lambda current: current.without({key}).appended(descriptor))
    if copied:
        # The image is in the cache all the same where its source is on a file system that may not be written.
        with suppress(OSError):
            space.disk.unlink_outside(packed.path)
    path = space.directory / names[FileKind.PACKED]
    return replace(packed, path=path, descriptor=descriptor)


def _stage(space: Workspace, packed: PackedImage, transaction_id: str, *, copy: bool) -> tuple[list[Placed], bool]:
    """Everything that is to be placed, on disk; and whether the packed file is a copy."""
    names = file_names(packed.digest, packed.format)
    documents = _stage_documents(space, packed, transaction_id)
    target = space.root.lstat(names[FileKind.PACKED])
    if target is not None and stat.S_ISREG(target.st_mode) and os.path.samestat(target, os.stat(packed.path)):
        return documents, False
    draft = f"{transaction_id}.{FileKind.PACKED}"
    file = _stage_packed(space, packed, names[FileKind.PACKED], draft, copy=copy)
    return [file, *documents], file.path is None


def _stage_documents(space: Workspace, packed: PackedImage, transaction_id: str) -> list[Placed]:
    """The documents that are not in their place already, all written before the first is synced."""
    names = file_names(packed.digest, packed.format)
    drafts: dict[str, str] = {}
    for kind, raw in ((FileKind.CONFIG, packed.config.raw), (FileKind.MANIFEST, packed.manifest.raw)):
        if not _holds(space.root, names[kind], raw):
            drafts[f"{transaction_id}.{kind}"] = names[kind]
            space.disk.write_unsynced(space.staging, f"{transaction_id}.{kind}", raw)
    for draft in drafts:
        space.disk.sync_file(space.staging, draft)
    return [_placed(space.staging, draft, name) for draft, name in drafts.items()]


def _stage_packed(space: Workspace, packed: PackedImage, name: str, draft: str, *, copy: bool) -> Placed:
    """The packed file where it can be renamed from: where it is, or a copy in the staging folder."""
    found = os.lstat(packed.path)
    movable = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_dev == os.fstat(space.root.fd).st_dev
    if movable and not copy:
        space.disk.sync_path(packed.path)
        # What has to change places with it can do so only inside the cache.
        staging = None if space.root.lstat(name) is None else draft
        return placed_from(found, name, path=os.path.abspath(packed.path), staging=staging)
    space.disk.copy_in(packed.path, space.staging, draft)
    return _placed(space.staging, draft, name)


def _placed(staging: Folder, draft: str, name: str) -> Placed:
    found = staging.lstat(draft)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), draft)
    return placed_from(found, name, staging=draft)


def _holds(root: Folder, name: str, raw: bytes) -> bool:
    """Whether a regular file of this name has these bytes already."""
    found = root.lstat(name)
    if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != len(raw):
        return False
    try:
        return root.read(name) == raw
    except OSError:
        return False
