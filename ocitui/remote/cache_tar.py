"""A cache in a tar, as `ocitui export` writes and `ocitui import` reads it: entries on their way to another cache.

First a comment that says so, and how many bytes come; then index.json, with the descriptors of these entries alone; of
each entry the manifest, the config and the packed file, under the names that they have in a cache; and at last
`.ocitui/export.json`, an `ExportRecord`: without it, and the end of the tar behind it, nothing that came counts.

Entries that are pulled come without a tar, in parts that are kept, and are verified and stored like those.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from ocitui.cache import (
    INDEX_NAME,
    MOST_DOCUMENT_BYTES,
    OWN_NAME,
    CacheError,
    Descriptor,
    Disk,
    DocumentError,
    ImageIndex,
    ImageName,
    InvalidNameError,
    Key,
    Ledger,
    PackedFormat,
    PackerCache,
    ReadOnlyError,
    RecordedSource,
    StorageError,
    config_name,
    file_identity,
    file_names,
    identity_of,
    known_format,
    manifest_name,
    new_index,
    open_bounded,
    storage_errors,
    usual_digest,
)
from ocitui.contents import ChunkReader, Kind, TarEntry, TarError, TarReader, TreeLines, TreeStore
from ocitui.importing import (
    CACHE_TAR,
    BlobStore,
    ImportOutcome,
    ImportPhase,
    ImportRequest,
    ImportResult,
    PackedFiles,
    PackedSource,
    ProgressCall,
    SourceError,
    Tracker,
    UnsoundSourceError,
    check_name,
    check_room,
    find_cached,
    image_there,
    inspect_packed,
    note_stored,
    raised_with,
    read_candidate,
    staging_folder,
    store_settled,
    tar_header,
    tar_padding,
    while_there_is_room,
)
from ocitui.stand_in import as_told
from ocitui.text import human_size, printable
from ocitui.threads import Stop, in_thread, on_loop

from .far_files import FarFiles

Write = Callable[[bytes], object]
Passed = Callable[[int, int], object]
"""Called with the bytes that passed, and how many there are; 0 where that is not known. From a thread of its own."""

_CHUNK = 1 << 20
_RECORD_NAME = f"{OWN_NAME}/export.json"
_MOST_INDEX, MOST_ENTRIES = 16 << 20, 10_000
_MOST_DOCUMENTS = 256 << 20
"""Of all entries together, which are held in memory."""
# Of headers, padding, and what is read ahead of a member.
_MOST_BETWEEN, _MOST_HEADER = 64 << 10, 4 << 10
_COMMENT = b"%d comment=%b%020d\n"


class ExportError(CacheError):
    code = "export"
    default_hint = "what was written is not whole, and no import takes it; ocitui check tells what is wrong"


class ExportedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """``content`` is the digest of the tree inside a packed file, ``source`` where its image was imported from; both
    where they are known."""

    size: int
    sha256: str
    content: str = ""
    source: RecordedSource | None = None


class ExportRecord(msgspec.Struct, frozen=True):
    """What was sent, by name; index.json too."""

    files: dict[str, ExportedFile]


# Read before there are threads.
_RECORD = msgspec.json.Decoder(ExportRecord)


class ExportedEntry(msgspec.Struct, frozen=True):
    """An entry that is to be sent; ``sha256`` is the one its packed file was recorded with, if it was."""

    descriptor: Descriptor
    found: PackedSource
    sha256: str = ""
    content: str = ""
    source: RecordedSource | None = None

    @property
    def documents(self) -> dict[str, bytes]:
        """Its manifest and config, by their names."""
        if self.found.manifest is None or self.found.config is None:
            return {}
        digest = self.descriptor.digest
        return {manifest_name(digest): self.found.manifest.raw, config_name(digest): self.found.config.raw}

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Its packed file, to be read as one that nobody wrote to, nor put another in its place, while it was open.
        Raises ExportError, StorageError."""
        path = self.found.files.packed
        with storage_errors(f"open {path.name}"):
            file = open_bounded(path)
        with file:
            before = os.fstat(file.fileno())
            yield file
            same = file_identity(before) == file_identity(os.fstat(file.fileno())) == identity_of(path)
            if before.st_size != self.found.size or not same:
                raise self._changed()

    def chunks(self, file: BinaryIO, stop: Stop) -> Iterator[bytes]:
        """All that its packed file holds. Raises ExportError, StorageError, AbandonedError."""
        left = self.found.size
        while left:
            stop.check()
            with storage_errors(f"read {self.found.files.packed.name}"):
                chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise self._changed()
            left -= len(chunk)
            yield chunk

    def check_hash(self, sha256: str) -> None:
        """Raises ExportError where its packed file was recorded with another sha256."""
        if self.sha256 not in ("", sha256):
            name = self.found.files.packed.name
            raise ExportError(f"{name} is damaged: its sha256 is {sha256}, recorded is another")

    def _changed(self) -> ExportError:
        what = f"{self.found.files.packed.name} was changed while it was read"
        return ExportError(what, hint="try again once nothing writes to it")


def entries_to_export(directory: Path, index: ImageIndex, keys: Iterable[Key]) -> list[ExportedEntry]:
    """These entries, whole as far as their documents and headers tell, in the order of the index: the daemon finds the
    last of a name. Raises ExportError, StorageError."""
    keys = [*keys]
    last = {(index.digests[at], index.formats[at]): at for at in index.positions_of(keys)}
    ledger = Ledger.open(directory)
    store = TreeStore(directory, ledger)
    keys.sort(key=lambda key: last.get(key, -1))
    return [_entry(directory, index.by_key(*key), ledger, store) for key in keys]


def _entry(directory: Path, descriptor: Descriptor | None, ledger: Ledger, store: TreeStore) -> ExportedEntry:
    format = known_format(descriptor.format) if descriptor else None
    if descriptor is None or format is None or not usual_digest(descriptor.digest):
        what = f"{descriptor.digest} as {descriptor.format}" if descriptor else "what was named"
        raise ExportError(f"{what} is no entry that another cache could take", hint="ocitui list shows the entries")
    files = packed_files_in(directory, descriptor.digest, format)
    name = files.packed.name
    with storage_errors(f"look at {name}"):
        found = as_told(os.stat(files.packed))
    entry = ExportedEntry(descriptor, inspect_packed(files), source=ledger.sources.get(name))
    damage = ledger.damage(name, found)
    if entry.found.problems or damage is not None:
        why = damage.seen if damage is not None else "; ".join(entry.found.problems)
        raise ExportError(f"{name} is not whole: {why}", hint="nothing was written; ocitui repair shows what mends it")
    sound, lines = ledger.sound.get(name), store.right(files.packed)
    return msgspec.structs.replace(
        entry,
        sha256=sound.sha256 if sound is not None and sound.same_file(found) else "",
        content=lines.content if lines is not None else "",
    )


def packed_files_in(directory: Path, digest: str, format: PackedFormat) -> PackedFiles:
    """The files of an entry, in a cache or where one is brought together."""
    packed, manifest, config = (directory / name for name in file_names(digest, format).values())
    return PackedFiles(packed, manifest, config, format)


def write_cache_tar(entries: Sequence[ExportedEntry], write: Write, passed: Passed, stop: Stop) -> int:
    """Write entries as a tar, each file read once; gives the bytes of the files. Raises ExportError where one changes
    meanwhile, or is not what was recorded of it, or where they are too many, StorageError, AbandonedError, and what
    ``write`` raises."""
    documents = sum(len(raw) for entry in entries for raw in entry.documents.values())
    if len(entries) > MOST_ENTRIES or documents > _MOST_DOCUMENTS:
        most = f"{MOST_ENTRIES:,} entries, or {human_size(_MOST_DOCUMENTS)} of documents"
        what = f"{len(entries):,} entries are more than one import takes: {most}"
        raise ExportError(what, hint="nothing was written; export them in parts, as by --filter")
    files = dict[str, ExportedFile]()
    sizes = [entry.found.size + sum(map(len, entry.documents.values())) for entry in entries]
    done, total = 0, sum(sizes)
    comment = _COMMENT % (len(CACHE_TAR) + 32, CACHE_TAR, total)
    _write_member(write, b"pax_global_header", comment, ord("g"))

    def send(name: str, raw: bytes) -> None:
        files[name] = ExportedFile(len(raw), hashlib.sha256(raw).hexdigest())
        _write_member(write, name.encode(), raw)

    send(INDEX_NAME, new_index(entry.descriptor.raw for entry in entries).data)
    for entry in entries:
        for name, raw in entry.documents.items():
            if name not in files:
                send(name, raw)
        path, hashing = entry.found.files.packed, hashlib.sha256()
        write(tar_header(path.name.encode(), Kind.FILE, 0o644, 0, 0, entry.found.size, 0))
        with entry.opened() as file:
            for chunk in entry.chunks(file, stop):
                hashing.update(chunk)
                write(chunk)
                done += len(chunk)
                passed(done, total)
        write(bytes(tar_padding(entry.found.size)))
        entry.check_hash(hashing.hexdigest())
        files[path.name] = ExportedFile(entry.found.size, hashing.hexdigest(), entry.content, entry.source)
    passed(total, total)
    _write_member(write, _RECORD_NAME.encode(), msgspec.json.encode(ExportRecord(files)))
    write(bytes(1024))
    return total


def _write_member(write: Write, name: bytes, raw: bytes, kind: int = Kind.FILE) -> None:
    write(tar_header(name, kind, 0o644, 0, 0, len(raw), 0) + raw + bytes(tar_padding(len(raw))))


class ArrivedEntry(msgspec.Struct, frozen=True):
    """An entry whose ``files`` came, in a folder of ours; its packed file has this ``sha256``, and was said to hold a
    tree of the digest ``content``, or nothing was said."""

    descriptor: Descriptor
    files: PackedFiles
    sha256: str
    content: str = ""
    source: RecordedSource | None = None


class _Latest(Stop):
    """That of the call that reads now, for who was begun by an earlier one."""

    now = Stop()

    def check(self) -> None:
        self.now.check()


class CacheTarReader:
    """A cache in a tar as it comes: first its index, then the rest. ``most`` are the bytes that its packed files may
    have together. All that is not as it has to be raises UnsoundSourceError."""

    def __init__(self, chunks: Callable[[Stop], Iterator[bytes]], passed: Passed, most: int) -> None:
        self._source, self._passed, self._left = chunks, passed, most
        self._most = most
        self._stop, self._total = _Latest(), 0
        self._reader = ChunkReader(self._chunks())
        self._tar = TarReader(self._reader, most_header=_MOST_HEADER)
        self._members = iter(self._tar)
        self._came, self._allowed, self._documents = 0, _MOST_BETWEEN, 0
        self._files = dict[str, ExportedFile]()

    def _chunks(self) -> Iterator[bytes]:
        """What comes, no more of it than the members that were met account for."""
        with storage_errors("read what comes"):
            for chunk in self._source(self._stop):
                self._stop.check()
                if not self._came:
                    self._total = _announced(chunk)
                self._came += len(chunk)
                if self._came - len(chunk) > self._allowed:
                    raise UnsoundSourceError("what comes has no end, and holds nothing that an export does")
                self._passed(self._came, max(self._total, self._came) if self._total else 0)
                if chunk:
                    yield chunk

    def index(self, stop: Stop) -> ImageIndex:
        """The index, in which all is known and nothing twice."""
        self._stop.now = stop
        raw = self._document(INDEX_NAME, _MOST_INDEX)
        try:
            index = ImageIndex.parse(raw)
        except DocumentError as error:
            raise UnsoundSourceError(f"its index.json is none: {error.message}") from error
        if not 0 < len(index) <= MOST_ENTRIES:
            raise UnsoundSourceError(f"its index.json has {len(index):,} entries; it may have 1 to {MOST_ENTRIES:,}")
        keys = {*zip(index.digests, index.formats, strict=True)}
        known = all(usual_digest(digest) and known_format(format) for digest, format in keys)
        if len(keys) != len(index) or not known:
            raise UnsoundSourceError("its index.json has entries twice, or of a digest or format that is none")
        return index

    def entries(self, index: ImageIndex, folder: Path, disk: Disk, cache: Path, stop: Stop) -> list[ArrivedEntry]:
        """Bring all files of the index's entries into a folder, as far as there is room in the cache, and hold them
        against the record at the end. Raises NoRoomError, StorageError, AbandonedError, too."""
        self._stop.now, came = stop, list[tuple[Descriptor, PackedFiles]]()
        for descriptor in index.descriptors:
            files = packed_files_in(folder, descriptor.digest, PackedFormat(descriptor.format or ""))
            came.append((descriptor, files))
            for path in (files.manifest, files.config):
                if path.name not in self._files:
                    raw = self._document(path.name, min(MOST_DOCUMENT_BYTES, _MOST_DOCUMENTS - self._documents))
                    self._documents += len(raw)
                    with disk.writing(path) as write:
                        write(raw)
            self._packed(files.packed, disk, cache)
        told = self._record()
        for name, file in self._files.items():
            said = told.get(name)
            if said is None or (said.size, said.sha256) != (file.size, file.sha256):
                raise UnsoundSourceError(f"{name} did not come as it was sent: its sha256 is {file.sha256}")
        return [
            ArrivedEntry(descriptor, files, said.sha256, said.content, _bounded(said.source))
            for descriptor, files in came
            for said in [told[files.packed.name]]
        ]

    def _record(self) -> dict[str, ExportedFile]:
        came, raw = {**self._files}, self._document(_RECORD_NAME, MOST_DOCUMENT_BYTES)
        self._files = came
        try:
            told = _RECORD.decode(raw).files
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnsoundSourceError("the record at its end cannot be read") from error
        if self._next() is not None or not self._tar.ended:
            raise UnsoundSourceError("it does not end behind its record")
        return told

    def _next(self) -> TarEntry | None:
        self._allowed = self._came + _MOST_BETWEEN
        try:
            return next(self._members, None)
        except TarError as error:
            raise UnsoundSourceError(f"what came is cut, or is no export: {error.message}") from error

    def _member(self, name: str) -> TarEntry:
        member = self._next()
        if member is None:
            raise UnsoundSourceError(f"what came is cut: {name} is missing, and all behind it")
        if member.name != name.encode() or member.kind is not Kind.FILE or member.segments is not None:
            raise UnsoundSourceError(f"where {name} should come it has {printable(member.name[:200])}")
        self._allowed += member.size
        return member

    def _document(self, name: str, most: int) -> bytes:
        size = self._member(name).size
        if size > most:
            raise UnsoundSourceError(f"its {name} has {human_size(size)}, more than {human_size(most)}")
        raw = self._reader.read(size)
        if len(raw) < size:
            raise UnsoundSourceError(f"what came is cut in {name}")
        self._files[name] = ExportedFile(size, hashlib.sha256(raw).hexdigest())
        return raw

    def _packed(self, path: Path, disk: Disk, cache: Path) -> None:
        size, hashing = self._member(path.name).size, hashlib.sha256()
        self._left -= size
        if self._left < 0:
            more = f"its packed files have more than {human_size(self._most)} together"
            raise UnsoundSourceError(more, hint=raised_with("--max-bytes"))
        check_room(cache, size)
        came = 0
        with storage_errors(f"keep {path.name}"), disk.writing(path) as write:
            for part in self._reader.parts(size):
                hashing.update(part)
                write(bytes(part))
                came += len(part)
        if came < size:
            raise UnsoundSourceError(f"what came is cut in {path.name}")
        self._files[path.name] = ExportedFile(size, hashing.hexdigest())


def _announced(start: bytes) -> int:
    """How many bytes are to come, by the comment; for the progress alone."""
    digits = start.partition(CACHE_TAR)[2][:20]
    return int(digits) if len(digits) == 20 and digits.isdigit() else 0


_LONGEST_SOURCE = 4096


def _bounded(source: RecordedSource | None) -> RecordedSource | None:
    """A source as it may be recorded: what no operator typed so is left out."""
    if source is None or not all(
        len(text) <= _LONGEST_SOURCE and text.isprintable() for text in (source.text, source.packer)
    ):
        return None
    return msgspec.structs.replace(source, imported=0)


class _Verified(msgspec.Struct, frozen=True):
    """What came, once all that is in it was read; ``content`` is the digest of its tree, whose lines lie beside it,
    None where it has none."""

    entry: ArrivedEntry
    found: PackedSource
    content: str | None
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
    tracker = Tracker(progress)
    tar = CacheTarReader(chunks, on_loop(tracker.copied), most)
    index = await in_thread(tar.index)
    await check_names(cache, index.descriptors, asked)
    with staging_folder(cache.directory, cache.disk) as folder:
        coming = in_thread(lambda stop: tar.entries(index, folder, cache.disk, cache.directory, stop))
        arrived = await while_there_is_room(cache.directory, coming)
        tracker.enter(ImportPhase.FINISH)
        verified = [await in_thread(partial(_verified, entry, cache.disk)) for entry in arrived]
        return await store_arrived(cache, index.descriptors, verified, asked, tracker)


async def pull_entries(
    cache: PackerCache,
    entries: Sequence[ExportedEntry],
    files: FarFiles,
    asked: ImportRequest,
    progress: ProgressCall | None = None,
) -> list[ImportResult]:
    """Bring entries of another host's cache in, of which its mirror tells: packed files that are not here come by
    ``files``. None is stored before all were verified, and what came is kept until then. Raises FarFileError,
    RemoteError, and as `receive_cache_tar`."""
    tracker, blobs, missing = Tracker(progress), BlobStore(cache.directory, cache.disk), list[ExportedEntry]()
    tracker.enter(ImportPhase.INSPECT)
    descriptors = [one.descriptor for one in entries]
    await check_names(cache, descriptors, asked)
    for one in entries:
        key = one.descriptor.digest, PackedFormat(one.descriptor.format or "")
        if asked.again or await image_there(cache, *key, _name_of(one.descriptor, asked)) is None:
            sha256 = one.sha256 or await files.sha256(one.found.files.packed.name, one.found.size)
            missing.append(msgspec.structs.replace(one, sha256=sha256))
    sizes = {f"sha256:{one.sha256}": one.found.size for one in missing}
    check_room(cache.directory, sum(sizes.values()) - blobs.kept_of(sizes)[0])
    with staging_folder(cache.directory, cache.disk) as folder:
        coming = _pulled(missing, files, blobs, folder, tracker)
        verified = await while_there_is_room(cache.directory, coming)
        done = await store_arrived(cache, descriptors, verified, asked, tracker, blobs)
    # What cannot be removed is no reason to fail: the store says what it holds.
    with suppress(StorageError):
        blobs.clear(sizes)
    return done


async def _pulled(
    entries: Sequence[ExportedEntry], files: FarFiles, blobs: BlobStore, folder: Path, tracker: Tracker
) -> list[_Verified]:
    """Bring packed files into a folder, under the names that they have in a cache, and verify each before the next
    comes; of one that is not sound nothing is kept."""
    sizes = [one.found.size for one in entries]

    async def bring(one: ExportedEntry, before: int) -> _Verified:
        there, digest = one.found.files, f"sha256:{one.sha256}"
        name, here = there.packed.name, msgspec.structs.replace(there, packed=folder / there.packed.name)
        arrived, lent = ArrivedEntry(one.descriptor, here, one.sha256, one.content, _bounded(one.source)), False
        try:
            while not lent:
                # Wrong bytes are removed by the store; what it has, and is told of otherwise, is right.
                await blobs.fetch(
                    digest,
                    one.found.size,
                    lambda blob: files.fetch(name, blob.size, blob.append, blob.done),
                    lambda _, done, __: tracker.copied(before + done, sum(sizes)),
                )
                lent = await asyncio.to_thread(blobs.lend, digest, here.packed)
            tracker.enter(ImportPhase.FINISH)
            return await in_thread(partial(_verified, arrived, blobs.disk))
        except UnsoundSourceError as error:
            if lent:
                await asyncio.to_thread(blobs.clear, [digest])
            error.message = error.message if name in error.message else f"{name}: {error.message}"
            raise

    return [await bring(one, sum(sizes[:number])) for number, one in enumerate(entries)]


async def check_names(cache: PackerCache, descriptors: Sequence[Descriptor], asked: ImportRequest) -> None:
    """Before gigabytes come for nothing. Raises ReadOnlyError, SourceError for an entry that has no name to be stored
    by, and as `check_name`."""
    if cache.read_only:
        raise ReadOnlyError("cannot import entries: the cache was opened read-only")
    if asked.name and len(descriptors) > 1:
        raise SourceError(f"{len(descriptors)} entries cannot have one name", hint="leave out --name")
    for descriptor in descriptors:
        format = PackedFormat(descriptor.format or "")
        await check_name(cache, descriptor.digest, format, _name_of(descriptor, asked), asked)


def _name_of(descriptor: Descriptor, asked: ImportRequest) -> ImageName:
    if asked.image_name is not None:
        return asked.image_name
    hint = "bring it in alone: --name gives it one"
    if not descriptor.image_name or not descriptor.image_name.isprintable():
        raise SourceError(f"{descriptor.digest} has no name that can be shown where it comes from", hint=hint)
    try:
        return ImageName.parse(descriptor.image_name)
    except InvalidNameError as error:
        raise UnsoundSourceError(f"{descriptor.digest} has a name that is none: {error.message}") from error


async def store_arrived(
    cache: PackerCache,
    descriptors: Sequence[Descriptor],
    verified: Sequence[_Verified],
    asked: ImportRequest,
    tracker: Tracker,
    blobs: BlobStore | None = None,
) -> list[ImportResult]:
    """Store what came, lent by ``blobs`` if these are given, each entry in a transaction; those of the descriptors that
    did not come are in the cache. Raises as `receive_cache_tar`."""
    await check_names(cache, descriptors, asked)
    tracker.enter(ImportPhase.STORE)
    came = {one.entry.descriptor.key: one for one in verified}
    return [await _stored(cache, one, came.get(one.key), asked, blobs) for one in descriptors]


def _verified(entry: ArrivedEntry, disk: Disk, stop: Stop) -> _Verified:
    """Raises UnsoundSourceError, StorageError, AbandonedError."""
    packed, format = entry.files.packed, PackedFormat(entry.descriptor.format or "")
    found = inspect_packed(entry.files)
    if found.problems:
        text = "; ".join(found.problems).replace(f"{packed.parent}/", "")
        raise UnsoundSourceError(f"{packed.name} is not sound: {text}")
    lines, notes = read_candidate(packed, format, packed.name, stop, entry.content)
    if lines is not None:
        with disk.writing(_lines_beside(packed)) as write:
            write(lines.packed)
    return _Verified(entry, found, lines and lines.content, notes)


def _lines_beside(packed: Path) -> Path:
    """Where the lines of a packed file are kept until it is stored: of 10,000 entries they are more than fit into
    memory."""
    return packed.with_name(f"{packed.name}.lines")


async def _stored(
    cache: PackerCache, descriptor: Descriptor, one: _Verified | None, asked: ImportRequest, blobs: BlobStore | None
) -> ImportResult:
    """None came of what was in the cache. Raises SourceError where that is gone."""
    format, name = PackedFormat(descriptor.format or ""), _name_of(descriptor, asked)
    if one is None or not asked.again:
        cached = await find_cached(cache, descriptor.digest, format, name, asked, one.notes if one else ())
        if cached is not None:
            return cached
    if one is None:
        raise SourceError(f"{name} was taken out of the cache meanwhile", hint="pull it again")
    entry, lines = one.entry, None
    with blobs.giving(f"sha256:{entry.sha256}", entry.files.packed) if blobs is not None else nullcontext():
        stored = await store_settled(cache, one.found.image(name))
    if one.content is not None:
        lines = TreeLines(await asyncio.to_thread(_lines_beside(entry.files.packed).read_bytes), one.content)
    result = ImportResult(stored, ImportOutcome.STORED, one.notes, entry.source, lines, entry.sha256)
    await asyncio.to_thread(note_stored, cache.directory, result)
    return result
