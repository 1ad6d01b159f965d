"""Archives that hold an image: plain tars are read in place, compressed ones as a stream.

A compressed archive is passed over once to see what it holds, its documents kept in memory (bounded), and once more
when its layers are wanted. Layers are taken where they lie, or unpacked into the blob store from a compressed archive.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import msgspec

from ocitui.contents import (
    TAR_BLOCK,
    ByteReader,
    ChunkReader,
    FileReader,
    Kind,
    TarEntry,
    TarError,
    TarReader,
    is_header,
)
from ocitui.threads import Stop, in_thread, on_loop

from ..errors import LayerError, UnreadableSourceError, UnsoundSourceError, raised_with
from ..layers.layers import (
    LONGEST_MAGIC,
    Compression,
    LayerLimits,
    LayerSource,
    compression_of,
    decompressed,
    readable_compression,
)
from ..staging import BlobProgress, BlobStore, PartialBlob
from .images import LARGEST_CONFIG, Layer, blob_name, open_regular

_MOST_MEMBERS = 200_000
_MOST_NAMES = 32 << 20  # characters, of all members
_CHUNK = 1 << 20
_MOST_LINKS = 16
# What is kept of a compressed archive: every document of a sound one fits.
_MOST_KEPT = 64 << 20
_MOST_BEHIND = 64 << 20
_TOP = ("oci-layout", "manifest.json", "index.json")
_OF_SYSTEMS = ("bin/sh", "etc/passwd", "etc/os-release", "usr/bin/env", "usr/lib/os-release")


class Member(msgspec.Struct, frozen=True):
    """A file or a link of the archive; ``link`` is the name it stands for, as names are in the archive."""

    name: str
    offset: int
    size: int
    link: str | None = None


def read_members(reader: ByteReader) -> Iterator[Member]:
    """The members in order; the reader stands as `TarReader` has it. Raises TarError, UnreadableSourceError."""
    named = 0
    for count, entry in enumerate(TarReader(reader), 1):
        if count > _MOST_MEMBERS:
            raise UnreadableSourceError(f"the archive has more than {_MOST_MEMBERS} members: it holds no image")
        member = _member(entry)
        if member is not None:
            named += len(member.name) + len(member.link or "")
            if named > _MOST_NAMES:
                raise UnreadableSourceError("the archive's names are too long: it holds no image")
            yield member


def _member(entry: TarEntry) -> Member | None:
    name = clean(entry.name.decode("utf-8", "surrogateescape"))
    if entry.segments is not None:
        raise UnreadableSourceError(
            f"the archive has a sparse file, {name or ''}", hint="make it anew as a tar without such files"
        )
    if name is not None and entry.kind is Kind.FILE:
        return Member(name, entry.offset, entry.size)
    if name is None or entry.kind not in (Kind.HARD_LINK, Kind.SYMLINK):
        return None
    target = entry.link.decode("utf-8", "surrogateescape")
    if entry.kind is Kind.SYMLINK and not target.startswith("/"):
        target = posixpath.join(posixpath.dirname(name), target)
    return Member(name, entry.offset, 0, clean(target) or "")


def clean(name: str) -> str | None:
    """A name as the archive's members are looked up by: without `./` and a leading slash; None where it leads out."""
    name = posixpath.normpath(name.lstrip("/") or ".")
    return None if name == "." or name.split("/", 1)[0] == ".." else name


class Archive:
    """What an archive holds, by name; where a name comes twice, the last counts."""

    def __init__(self, path: Path, stop: Stop, limits: LayerLimits | None = None) -> None:
        """Look through it. Raises UnreadableSourceError, also where it unpacks to more than the layers may;
        AbandonedError once ``stop`` is set."""
        self.path, self._most = path, (limits or LayerLimits()).unpacked_bytes
        self._members: dict[str, Member] = {}
        self._kept: dict[str, bytes] = {}
        self._starts: dict[str, bytes] = {}
        kept = 0
        with opened(path, stop, self._most) as (reader, self.compressed):
            for member in read_members(reader):
                stop.check()
                self._members[member.name] = member
                self._kept.pop(member.name, None)
                if self.compressed and kept + member.size <= _MOST_KEPT:
                    kept += self._keep(member, reader)
            # Only its end tells whether it was cut, or something follows it.
            if self.compressed and self._members and reader.skip(_MOST_BEHIND) == _MOST_BEHIND:
                raise UnreadableSourceError(f"{path} goes on for long after the end of its tar")
        if not self._members:
            raise UnreadableSourceError(f"{path} holds no file")
        self._folder = self._find_folder()

    def _find_folder(self) -> str:
        """The folder that all of an image stands in, where it is not at the top; empty where it is."""
        if any(name in self._members for name in _TOP):
            return ""
        tops = {name.partition("/")[0] for name in self._members if name.count("/") == 1 and name.endswith(_TOP)}
        return f"{tops.pop()}/" if len(tops) == 1 else ""

    @property
    def is_root_filesystem(self) -> bool:
        """Whether it is what `docker export` writes: the files of a system, and no image."""
        return any(self._members.get(name) is not None for name in _OF_SYSTEMS)

    def _keep(self, member: Member, reader: ByteReader) -> int:
        """Keep a file's first bytes, and all of one that may be a document: it begins with a brace or bracket."""
        if member.link is not None or not member.size:
            return 0
        start = self._starts[member.name] = reader.read(min(LONGEST_MAGIC, member.size))
        if start[:1] not in (b"{", b"[") or member.size > LARGEST_CONFIG:
            return 0
        self._kept[member.name] = start + reader.read(member.size - len(start))
        return member.size

    def find(self, name: str) -> Member | None:
        """The file of that name, links followed; None where there is none."""
        return self._followed(name)[0]

    def _followed(self, name: str) -> tuple[Member | None, str]:
        """The same, and where the last link leads."""
        found, target = self._members.get(self._folder + (clean(name) or "")), ""
        for _ in range(_MOST_LINKS):
            if found is None or found.link is None:
                return found, target
            target = found.link or "what is outside"
            found = self._members.get(found.link)
        return None, target

    def member(self, name: str, what: str) -> Member:
        """The same. Raises UnsoundSourceError where there is none: ``what`` it would have been."""
        member, target = self._followed(name)
        if member is None:
            why = f"is a link to {target}, which is no file" if target else "is not"
            raise UnsoundSourceError(f"{what} {why} in {self.path}")
        return member

    def read(self, name: str, largest: int) -> bytes | None:
        """A document's bytes; None where it is not there. Raises UnreadableSourceError for one that is too large."""
        member = self.find(name)
        if member is None:
            return None
        if member.size > largest:
            raise UnreadableSourceError(f"{name} in {self.path} has {member.size} bytes, too many for a document")
        if self.compressed:
            kept = self._kept.get(member.name)
            if kept is None:
                raise UnreadableSourceError(f"{name} in {self.path} is no JSON document")
            return kept
        return self._beginning(member, member.size)

    def compression(self, member: Member) -> Compression:
        """What a file is compressed with. Raises UnreadableSourceError."""
        if self.compressed:
            return compression_of(self._starts.get(member.name, b""))
        return compression_of(self._beginning(member, LONGEST_MAGIC))

    def _beginning(self, member: Member, most: int) -> bytes:
        with _reading(self.path), open_regular(self.path) as file:
            file.seek(member.offset)
            return file.read(min(most, member.size))

    async def fetch(
        self,
        layers: Sequence[Layer],
        blobs: BlobStore,
        progress: BlobProgress,
        members: Mapping[str, Member] | None = None,
    ) -> list[LayerSource]:
        """The layers in place, or unpacked where the archive is compressed; ``members`` are their files by digest, else
        they stand where a layout has them. Raises SourceError, StorageError."""
        if members is None:
            members = {layer.digest: self.member(blob_name(layer.digest), f"layer {layer.digest}") for layer in layers}
        if not self.compressed:
            found = [(layer, members[layer.digest]) for layer in layers]
            return [in_place(layer, self.path, member.offset, member.size, progress) for layer, member in found]
        await self._unpack(members, layers, blobs, progress)
        return [in_place(layer, blobs.directory / layer.digest, 0, layer.size, progress) for layer in layers]

    async def _unpack(
        self, members: Mapping[str, Member], layers: Sequence[Layer], blobs: BlobStore, progress: BlobProgress
    ) -> None:
        report = on_loop(progress)
        sizes = {layer.digest: layer.size for layer in layers}

        def unpack(stop: Stop) -> None:
            missing = {
                members[digest]: digest for digest, size in sizes.items() if not blobs.find_whole(digest, size, stop)
            }
            for member, chunks in self.contents(missing.keys(), stop):
                digest = missing[member]
                with closing(PartialBlob(blobs.directory, digest, sizes[digest], blobs.disk)) as blob:
                    blob.open()
                    blob.restart()
                    for chunk in chunks:
                        blob.write(chunk)
                        report(digest, blob.done, blob.size)
                    blob.finish()

        blobs.make_directory()
        # One for all: what two archives share is unpacked once.
        async with blobs.turn(Archive):
            await blobs.when_free(lambda: in_thread(unpack))

    def digests(self, members: Collection[Member], stop: Stop) -> dict[Member, str]:
        """Their digests, in one pass over the archive. Raises as `contents` does."""
        digests = {}
        for member, chunks in self.contents(set(members), stop):
            hashed = hashlib.sha256()
            for chunk in chunks:
                hashed.update(chunk)
            digests[member] = f"sha256:{hashed.hexdigest()}"
        return digests

    def contents(self, wanted: Set[Member], stop: Stop) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each wanted member and its bytes, to be read at once. Raises UnreadableSourceError, AbandonedError."""
        if wanted:
            with opened(self.path, stop, self._most) as (reader, _):
                for member in read_members(reader):
                    if member in wanted:
                        yield member, self._chunks(member, reader, stop)

    def _chunks(self, member: Member, reader: ByteReader, stop: Stop) -> Iterator[bytes]:
        left = member.size
        while left:
            stop.check()
            with _reading(self.path):
                chunk = reader.read(min(_CHUNK, left))
            if not chunk:
                raise UnreadableSourceError(f"{self.path}: the archive is cut")
            left -= len(chunk)
            yield chunk


@contextmanager
def opened(path: Path, stop: Stop, most: int) -> Iterator[tuple[ByteReader, bool]]:
    """The archive as a tar, and whether it is compressed, when it may unpack to ``most`` bytes: by its first bytes,
    whatever it is called."""
    with _reading(path), open_regular(path) as file:
        compression = readable_compression(file.read(LONGEST_MAGIC))
        file.seek(0)
        if compression is Compression.NONE:
            yield FileReader(file), False
        else:
            chunks = decompressed(iter(lambda: file.read(_CHUNK), b""), compression)
            first = next(chunks, b"")
            inner = compression_of(first)
            if inner is not Compression.NONE and not is_header(first[:TAR_BLOCK]):
                hint = compression.hint
                raise UnreadableSourceError(f"it is compressed twice, with {inner} and then {compression}", hint=hint)
            yield ChunkReader(_heeding(stop, most, chain((first,), chunks))), True


def _heeding(stop: Stop, most: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    left = most
    for chunk in chunks:
        stop.check()
        left -= len(chunk)
        if left < 0:
            hint = raised_with("--max-bytes")
            raise UnreadableSourceError(f"the archive unpacks to more than {most} bytes, the limit", hint=hint)
        yield chunk


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say what cannot be read, and why. Raises UnreadableSourceError."""
    try:
        yield
    except UnreadableSourceError as error:
        if str(path) in error.message:
            raise
        raise UnreadableSourceError(f"{path}: {error.message}", hint=error.hint) from error
    except (LayerError, TarError) as error:
        hint = "" if error.hint == error.default_hint else error.hint
        raise UnreadableSourceError(f"{path}: {error.message}", hint=hint) from error
    except OSError as error:
        raise UnreadableSourceError(f"cannot read {path}: {error.strerror or error}") from error


def in_place(layer: Layer, path: Path, offset: int, length: int, progress: BlobProgress) -> LayerSource:
    """The layer where it lies. Raises UnsoundSourceError for another length than its own."""
    if length != layer.size:
        raise UnsoundSourceError(f"layer {layer.digest} has {length} bytes in {path}, the manifest says {layer.size}")
    progress(layer.digest, length, length)
    return layer.at(path, offset)
