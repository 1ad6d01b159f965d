"""Layers that lie in files: taken where they lie, or unpacked into the blob store from a compressed archive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ocitui.threads import Stop, in_thread, on_loop

from ..blobs import BlobStore
from ..errors import UnreadableSourceError, UnsoundSourceError
from ..layers.layers import LayerSource
from ..layers.tar_headers import ByteReader
from ..partial_blob import BusyError, PartialBlob
from .archive import Archive, Member
from .base import BlobProgress, Layer

_CHUNK = 1 << 20


def in_place(layer: Layer, path: Path, offset: int, length: int, progress: BlobProgress | None) -> LayerSource:
    """The layer where it lies; who reads it hashes it. Raises UnsoundSourceError for another length than its own."""
    if length != layer.size:
        raise UnsoundSourceError(f"layer {layer.digest} has {length} bytes in {path}, the manifest says {layer.size}")
    if progress is not None:
        progress(layer.digest, length, length)
    return LayerSource(path, layer.digest, layer.size, layer.diff_id, layer.media_type, offset)


async def places_in(
    archive: Archive,
    members: Mapping[str, Member],
    layers: Sequence[Layer],
    blobs: BlobStore,
    progress: BlobProgress | None,
) -> list[LayerSource]:
    """The layers of an archive, ``members`` by digest: in place, or unpacked where it is compressed.

    Raises SourceError, StorageError.
    """
    if not archive.compressed:
        found = [(layer, members[layer.digest]) for layer in layers]
        return [in_place(layer, archive.path, member.offset, member.size, progress) for layer, member in found]
    await _unpack(archive, members, {layer.digest: layer.size for layer in layers}, blobs, progress)
    return [in_place(layer, blobs.directory / layer.digest, 0, layer.size, progress) for layer in layers]


async def _unpack(
    archive: Archive,
    members: Mapping[str, Member],
    sizes: Mapping[str, int],
    blobs: BlobStore,
    progress: BlobProgress | None,
) -> None:
    report = on_loop(progress)

    def unpack(stop: Stop) -> None:
        missing = {members[digest]: digest for digest, size in sizes.items() if not blobs.find_whole(digest, size)}
        if missing:
            archive.pass_over(set(missing), lambda member, reader: unpack_one(missing[member], member, reader), stop)

    def unpack_one(digest: str, member: Member, reader: ByteReader) -> None:
        blob = PartialBlob.open(blobs.directory, digest, sizes[digest], disk=blobs.disk)
        try:
            blob.restart_here()
            _copy(member, reader, blob, report)
            blob.finish_here()
        finally:
            blob.close_here()

    blobs.make_directory()
    async with blobs.unpacking:
        while True:
            try:
                await in_thread(unpack)
                return
            except BusyError:
                await blobs.pause()


def _copy(member: Member, reader: ByteReader, blob: PartialBlob, report: BlobProgress) -> None:
    for chunk in chunks_of(member, reader):
        blob.append_here(chunk)
        report(blob.digest, blob.done, blob.size)


def digests_of(archive: Archive, members: Sequence[Member], stop: Stop) -> dict[Member, str]:
    """The digests of these files of an archive, in one pass over it. Raises UnreadableSourceError."""
    digests = {}

    def take(member: Member, reader: ByteReader) -> None:
        hashed = hashlib.sha256()
        for chunk in chunks_of(member, reader):
            stop.check()
            hashed.update(chunk)
        digests[member] = f"sha256:{hashed.hexdigest()}"

    if members:
        archive.pass_over(set(members), take, stop)
    return digests


def chunks_of(member: Member, reader: ByteReader) -> Iterator[bytes]:
    """All bytes of the file that the reader stands at. Raises UnreadableSourceError where the archive ends before."""
    left = member.size
    while left:
        chunk = reader.read(min(_CHUNK, left))
        if not chunk:
            raise UnreadableSourceError("the archive is cut")
        left -= len(chunk)
        yield chunk
