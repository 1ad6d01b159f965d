"""One import from its source to the index: asked for, found, fetched, flattened, packed, stored.

Everything is made in folders of ours inside the cache's file system. Until the last step, which is one transaction, the
cache is as it was; what was downloaded is kept when an import does not come to its end. What is asked for is recorded
in `.ocitui/imports` meanwhile, with absolute paths, and locked by the program that carries it out: a record whose lock
is free is of an import that was interrupted, by a hangup, a signal or a crash, and can be gone on with.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ocitui.cache import (
    INDEX_NAME,
    ConflictError,
    Disk,
    DocumentError,
    Folder,
    ImageName,
    PackedFormat,
    PackedImage,
    PackerCache,
    ReadOnlyError,
    RecordedSource,
    StorageError,
    TransactionKind,
    check_directory,
    check_packed,
    open_bounded,
    open_own_folder,
    packed_name,
    read_to_end,
    record_stored,
    storage_errors,
)
from ocitui.contents import ContentsError, TreeLines, keep_lines, read_through
from ocitui.threads import Stop, in_thread, on_loop, settled

from .errors import NamedOtherwiseError, RepointsNameError, SourceError, UnsoundSourceError
from .inspect import ImportRequest, LaterRequestError, answers_then, formats_found
from .layers.layers import Layers
from .packing.packing import PackedLayers, PackOptions, flatten_and_pack, packer_of
from .progress import ImportPhase, ImportProgress, ProgressCall, Tracker
from .sources.images import COMPLETED, Source, SourceImage, SourceKind, check_platform, packed_image
from .sources.opening import (
    STANDARD_INPUT,
    PackedSource,
    inspect_packed,
    open_source,
    received,
    recognise_source,
    regular_size,
    standard_input,
)
from .sources.references import Logins
from .staging import (
    BlobProgress,
    BlobStore,
    check_room,
    import_folder,
    locked,
    staging_folder,
    while_there_is_room,
)

_DAMAGED, _LATER = "it is damaged", "it is of a later ocitui"
_FOLDER, _SUFFIX = "imports", ".json"
_DRAFT = ".new"
_MOST_BYTES = 1 << 20
_DISK = Disk()


class UnfinishedImport(msgspec.Struct, frozen=True):
    """``started`` is in seconds since the epoch. ``problem`` is why the record, and so the request, is not known."""

    id: str
    started: float
    request: ImportRequest
    problem: str = ""

    @property
    def can_be_forgotten(self) -> bool:
        return self.problem != _LATER

    def require_readable(self) -> None:
        """Raises SourceError, with what can be done."""
        if self.problem:
            removes = f"ocitui imports --forget {self.id} removes it"
            hint = removes if self.can_be_forgotten else "that one goes on with it, or forgets it"
            raise SourceError(f"the record of the import {self.id} cannot be read: {self.problem}", hint=hint)


@contextmanager
def recorded_import(directory: Path, request: ImportRequest, resumes: str = "") -> Iterator[str]:
    """Keep a record of an import while it runs; gives its id. It stays where the program is told to leave (anything
    but an Exception), or one that is gone on with, whose id ``resumes`` is, fails again. Raises CacheDirectoryError,
    StorageError, ReadOnlyError, SourceError where there is no such source or record, or another program holds it."""
    if not resumes:
        request = request.with_absolute_paths()
    check_directory(directory)
    with import_folder(directory, _DISK, _FOLDER) as folder, ExitStack() as stack:
        import_id = resumes or f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}"
        name = f"{os.path.basename(import_id)}{_SUFFIX}"
        if resumes:
            _take_up(folder, name, import_id, stack)
        else:
            with storage_errors("note what is to be imported"):
                _write(folder, name, request.to_json(), stack)
        try:
            yield import_id
        except Exception:
            if not resumes:
                _conclude(folder, name)
            raise
        _conclude(folder, name)


def _write(folder: Folder, name: str, data: bytes, stack: ExitStack) -> None:
    """A new record, locked as long as the stack stands. A program killed before its end leaves a draft only."""
    with locked(folder):
        for left in folder.names():
            if left.endswith(_DRAFT):
                _DISK.unlink(folder, left)
        draft = f"{name}{_DRAFT}"
        fd = _DISK.create(folder, draft, 0o600)
        stack.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        _DISK.write(fd, draft, data)
        _DISK.rename(folder, draft, folder, name)


def _take_up(folder: Folder, name: str, import_id: str, stack: ExitStack) -> None:
    """Hold the record of an interrupted import as long as the stack stands. Raises SourceError, StorageError."""
    with storage_errors("go on with an import"):
        try:
            data = _hold(folder, name, fcntl.LOCK_EX, stack)
        except FileNotFoundError as error:
            message = f"there is no interrupted import {import_id}"
            raise SourceError(message, hint="ocitui imports lists them") from error
        except BlockingIOError as error:
            message = f"another program goes on with the import {import_id}"
            raise SourceError(message, hint="ocitui imports lists the others") from error
    _decoded(import_id, 0.0, data).require_readable()


def _hold(folder: Folder, name: str, lock: int, stack: ExitStack) -> bytes:
    """A record, held as long as the stack stands. Raises OSError: BlockingIOError where another program holds it."""
    file = stack.enter_context(folder.open_file(name, _MOST_BYTES))
    fcntl.flock(file, lock | fcntl.LOCK_NB)
    if not os.fstat(file.fileno()).st_nlink:
        raise FileNotFoundError(name)
    return read_to_end(file, _MOST_BYTES)


def _decoded(import_id: str, started: float, data: bytes) -> UnfinishedImport:
    request, problem = ImportRequest(source=""), ""
    try:
        request = ImportRequest.from_json(data)
    except LaterRequestError:
        problem = _LATER
    except (ValueError, RecursionError):
        problem = _DAMAGED
    return UnfinishedImport(import_id, started, request, problem)


def unfinished_imports(directory: Path) -> list[UnfinishedImport]:
    """The imports that were interrupted, oldest first, also where a record cannot be read. Raises StorageError."""
    records = []
    with (
        storage_errors("look for interrupted imports"),
        suppress(FileNotFoundError, ConflictError),
        open_own_folder(directory, _FOLDER) as folder,
    ):
        for name in sorted(folder.names()):
            with ExitStack() as stack:
                if name.endswith(_SUFFIX) and (record := _read_free(folder, name, stack)):
                    records.append(record)
    return records


def forget_import(directory: Path, import_id: str) -> None:
    """Remove the record of an interrupted import; one that runs stays. Raises StorageError, ReadOnlyError, and
    SourceError for one of a later ocitui."""
    with (
        storage_errors("forget an import"),
        import_folder(directory, _DISK, _FOLDER) as folder,
        # Held until it is removed, so that nobody goes on with it in between.
        ExitStack() as stack,
    ):
        name = f"{import_id}{_SUFFIX}"
        one = None if "/" in import_id else _read_free(folder, name, stack)
        if one is not None:
            if not one.can_be_forgotten:
                one.require_readable()
            _DISK.unlink(folder, name)


def _read_free(folder: Folder, name: str, stack: ExitStack) -> UnfinishedImport | None:
    """A record that nobody holds, held as long as the stack stands; None for others."""
    found = folder.lstat(name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    try:
        data = _hold(folder, name, fcntl.LOCK_SH, stack)
    except (FileNotFoundError, BlockingIOError):
        return None
    except OSError:
        data = b""  # what cannot be read is damaged
    return _decoded(name.removesuffix(_SUFFIX), found.st_mtime, data)


def _conclude(folder: Folder, name: str) -> None:
    """Remove the record of an import that is over, whose outcome stands whether or not that can be done."""
    with suppress(OSError):
        _DISK.unlink(folder, name)


class ImportOutcome(StrEnum):
    """STORED: packed and brought in. CACHED: it was there under this name. RENAMED: it was there under another."""

    STORED = "stored"
    CACHED = "cached"
    RENAMED = "renamed"


class ImportResult(msgspec.Struct, frozen=True):
    """``notes`` are for the operator; ``source`` and ``lines``, which tell what is in it, are what is to be
    noted of a stored one, ``sha256`` that of its packed file where it is known."""

    image: PackedImage
    outcome: ImportOutcome
    notes: tuple[str, ...] = ()
    source: RecordedSource | None = None
    lines: TreeLines | None = None
    sha256: str = ""


def note_stored(directory: Path, result: ImportResult) -> None:
    """Note in the cache's ledger what was stored, by reading its packed file unless its hash is known, and keep
    what is in that. Where it cannot be done, the first deep check does it."""
    record_stored(directory, result.image.path, result.sha256 or None, source=result.source)
    if result.lines is not None:
        keep_lines(directory, result.image.path, result.lines)


async def image_there(cache: PackerCache, digest: str, format: PackedFormat, name: ImageName) -> PackedImage | None:
    """The image that is in the cache, whatever its name is; None where there is none, or its files are not whole, so
    that it is brought in once more."""
    with suppress(DocumentError):
        if there := await cache.recall(name, digest, format):
            check = await asyncio.to_thread(check_packed, there.path)
            return there if check.problem is None and check.found is format else None
    return None


async def find_cached(
    cache: PackerCache, digest: str, format: PackedFormat, name: ImageName, asked: ImportRequest, notes: tuple[str, ...]
) -> ImportResult | None:
    """The image that is in the cache, under its name: at most that is set, or made to win. None as `image_there`.
    Raises NamedOtherwiseError, RepointsNameError."""
    if (there := await image_there(cache, digest, format, name)) is None:
        return None
    await check_name(cache, digest, format, name, asked)
    # The daemon takes the name's last entry for its digest alone, and looks for the format then.
    winner = (await cache.index()).by_name(str(name))
    if there.descriptor.image_name == str(name) and winner is not None and winner.digest == digest:
        return ImportResult(there, ImportOutcome.CACHED, notes)
    stored = await store_settled(cache, replace(there, name=name))
    return ImportResult(stored, ImportOutcome.RENAMED, notes)


_ATTEMPTS = 3
_CHUNK = 1 << 20


class ImportDesk:
    """What the imports of one program have in common; it belongs to one event loop."""

    def __init__(self, cache: PackerCache) -> None:
        self.cache, self.blobs = cache, BlobStore(cache.directory, cache.disk)


async def import_image(
    desk: ImportDesk,
    request: ImportRequest,
    progress: ProgressCall | None = None,
    logins: Logins | None = None,
    start: bytes = b"",
) -> ImportResult:
    """Bring an image in; ``logins`` are for this time only, ``start`` was read of standard input already. A cancelled
    call leaves the cache as it was, or with the whole image, and no process; what was downloaded stays. Raises
    SourceError, NamedOtherwiseError, NoRoomError, LayerError, PackerError (MissingToolError before anything is
    fetched), WorkerError, and as `PackerCache.store`."""
    if desk.cache.read_only:
        raise ReadOnlyError("cannot import an image: the cache was opened read-only")
    await desk.cache.index()  # one that cannot be written is no reason to download first
    tracker = Tracker(progress)
    if standard_input(request.source) is not None:
        heard, most = tracker.copied, request.max_bytes
        async with received(request.source, desk.cache.directory, heard, most, start) as source:
            done = await import_image(desk, replace(request, source=source), progress)
            return replace(done, source=done.source and replace(done.source, text=STANDARD_INPUT))
    tracker.enter(ImportPhase.INSPECT)
    found = await asyncio.to_thread(recognise_source, request.source)
    if found.kind is SourceKind.PACKED:
        return await _import_packed_files(desk, await asyncio.to_thread(request.with_absolute_paths), tracker)
    async with aclosing(await open_source(request.source, request.source_options(tracker.note, logins))) as source:
        return await _import_from(desk, source, request, tracker)


async def _import_from(desk: ImportDesk, source: Source, request: ImportRequest, tracker: Tracker) -> ImportResult:
    image = await source.resolve()
    name = request.image_name or image.image_name
    if name is None:
        raise SourceError(f"{request.source} says no name for the image", hint="give it one with --name")
    # Who waits finds the image in the cache then.
    key = (image.digest, request.format)
    async with desk.blobs.turn(key, lambda: tracker.enter(ImportPhase.WAIT)) as turn:
        if turn.result is not None or not request.again:
            cached = await find_cached(desk.cache, image.digest, request.format, name, request, image.notes)
            if cached is not None:
                await asyncio.to_thread(clear_blobs, desk.blobs, image)
                return cached
        await check_name(desk.cache, image.digest, request.format, name, request)
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

    packer = await asyncio.to_thread(packer_of, request.format, request.compression, request.level, request.packer)
    with staging_folder(desk.cache.directory, desk.cache.disk) as folder, desk.blobs.wanted(_digests_of(image)):
        output = folder / f"packed.{request.format}"
        tracker.expect_layers(image.layer_sizes, remote=source.kind is SourceKind.REGISTRY)
        options, downloaded = request.pack_options, tracker.downloaded
        made = await fetch_and_pack(source, image, desk.blobs, output, request.format, options, downloaded, packing)
        tracker.enter(ImportPhase.STORE)
        packed = packed_image(name, output, request.format, image.manifest, image.config, image.digest)
        stored = await store_settled(desk.cache, packed)
    await asyncio.to_thread(clear_blobs, desk.blobs, image)
    private = source.private or COMPLETED in image.notes
    recorded = RecordedSource(request.lasting_source, private=private, packer=packer)
    return ImportResult(stored, ImportOutcome.STORED, (*image.notes, *made.warnings), recorded, made.lines)


async def fetch_and_pack(
    source: Source,
    image: SourceImage,
    blobs: BlobStore,
    output: Path,
    format: PackedFormat | None,
    options: PackOptions,
    downloaded: BlobProgress,
    packing: ProgressCall,
) -> PackedLayers:
    """Fetch an image's layers, read each as it comes, and pack them, where there is room for both and while the cache
    has room for its next writes. Raises SourceError, NoRoomError, StorageError, and as `flatten_and_pack`, also where
    there is no ``format``."""
    await asyncio.to_thread(_check_room_first, source, image, blobs, packs=format is not None)
    coming = set[str]()

    async def held(stack: ExitStack) -> Layers:
        coming.update(layer.digest for layer in image.layers)
        async with aclosing(source.fetch(image, blobs, downloaded)) as layers:
            async for layer in layers:
                if not stack.enter_context(blobs.held([layer.path])):
                    raise _BlobGoneError
                coming.discard(layer.digest)
                yield layer

    def heard(now: ImportProgress) -> None:
        # How far the others have come says more.
        if not coming:
            packing(now)

    sizes = [layer.size for layer in image.layers]
    for _ in range(_ATTEMPTS):
        with ExitStack() as stack, suppress(_BlobGoneError):
            work = flatten_and_pack(held(stack), sizes, output, format, options, heard)
            return await while_there_is_room(blobs.cache, work)
    raise SourceError("another program removes what is downloaded", hint="end that program, then try again")


class _BlobGoneError(Exception):
    """Another program removed what was downloaded."""


def _check_room_first(source: Source, image: SourceImage, blobs: BlobStore, *, packs: bool) -> None:
    """Room for what is to be downloaded, and for any packed file as large as the layers: how large it will be is known
    only later, and `while_there_is_room` sees to that. Raises NoRoomError, StorageError."""
    layers = sum(image.layer_sizes.values())
    to_come = layers - blobs.kept_of(image.layer_sizes)[0] if source.kind is SourceKind.REGISTRY else 0
    check_room(blobs.cache, to_come + (layers if packs else 0))


def clear_blobs(blobs: BlobStore, image: SourceImage) -> None:
    """What cannot be removed is no reason to fail: the image is in, and the store says what it holds."""
    with suppress(StorageError):
        blobs.clear(_digests_of(image))


def _digests_of(image: SourceImage) -> set[str]:
    return {digest for layer in image.layers for digest in (layer.digest, layer.diff_id)}


async def _import_packed_files(desk: ImportDesk, request: ImportRequest, tracker: Tracker) -> ImportResult:
    name = request.image_name
    if name is None:
        raise SourceError("packed files say no name for the image", hint="give it one with --name")
    found = await asyncio.to_thread(inspect_packed, request.packed_files())
    wanted = request.source_options().platform
    notes = check_platform(found.config.value.platform, wanted) if found.config else ()
    if found.digest and found.format and not found.problems and not request.again:
        cached = await find_cached(desk.cache, found.digest, found.format, name, request, notes)
        if cached is not None:
            return cached
    tracker.enter(ImportPhase.COPY)
    done = await import_packed(desk.cache, found, name, request, on_loop(tracker.copied))
    return replace(done, notes=(*notes, *done.notes))


Copied = Callable[[int, int], None]
"""Called with the bytes copied and the bytes there are; from a thread of its own."""


async def import_packed(
    cache: PackerCache,
    source: PackedSource,
    name: ImageName,
    asked: ImportRequest | None = None,
    progress: Copied | None = None,
) -> ImportResult:
    """Bring a source in under a name, as a copy of its file, which is read through where it lies in another cache.
    A cancelled call leaves nothing of it, or all. Raises SourceError, NamedOtherwiseError, RepointsNameError,
    NoRoomError, and what `PackerCache.store` raises."""
    image, asked = source.image(name), asked or ImportRequest(source="")
    recorded, lines, notes = RecordedSource(asked.source), None, tuple[str, ...]()
    await check_name(cache, image.digest, image.format, name, asked)
    if _is_in_place(cache, image):
        return ImportResult(await store_settled(cache, image), ImportOutcome.STORED, source=recorded)
    with staging_folder(cache.directory, cache.disk) as folder:
        staged, told = replace(image, path=folder / "packed"), str(image.path)
        await in_thread(lambda stop: _copy(cache, image, staged.path, progress, stop))
        if os.path.exists(image.path.with_name(INDEX_NAME)):
            lines, notes = await in_thread(lambda stop: read_candidate(staged.path, image.format, told, stop))
        stored = await store_settled(cache, staged)
    return ImportResult(stored, ImportOutcome.STORED, notes, recorded, lines)


def read_candidate(
    path: Path, format: PackedFormat, name: str, stop: Stop, content: str = ""
) -> tuple[TreeLines | None, tuple[str, ...]]:
    """What is in a packed file, called ``name``, that is to be stored, once all of it was read; and what that left
    open. Raises UnsoundSourceError where it is damaged, or has not the digest ``content`` (empty: not known) that its
    tree should have, StorageError, AbandonedError."""
    lines = None
    with storage_errors(f"read {name}"), open_bounded(path) as file:
        through = read_through(file, format, stop)
        try:
            lines = TreeLines.of(through.tree, stop) if through.tree is not None and through.hashed else None
        except ContentsError as error:
            raise UnsoundSourceError(f"{name} cannot be read: {error.message}") from error
    if through.problem:
        raise UnsoundSourceError(f"{name} is damaged: {through.problem}")
    if lines is not None and content not in ("", lines.content):
        raise UnsoundSourceError(f"{name} holds the tree {lines.content}, said was {content}")
    return lines, (f"{name} was not read through: {through.unchecked}",) if through.unchecked else ()


def _copy(cache: PackerCache, image: PackedImage, copy: Path, progress: Copied | None, stop: Stop) -> None:
    """Copy what was inspected. Raises SourceError where it changes, StorageError, NoRoomError, AbandonedError."""
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


async def check_name(
    cache: PackerCache, digest: str, format: PackedFormat, name: ImageName, asked: ImportRequest
) -> None:
    """Raises NamedOtherwiseError where an entry would lose its name, as there is one for a digest and format, and
    RepointsNameError where the name gives another image now, unless these are ``asked`` for."""
    index = await cache.index()
    winner = None if asked.repoint else index.by_name(str(name))
    if winner is not None and winner.digest != digest and await formats_found(cache, name):
        missed = (await answers_then(cache, name, digest, format))[1]
        then = f"; in {', '.join(missed)} it would be a miss then" if missed else ""
        raise RepointsNameError(f"{name} is {winner.digest} now, which the daemon finds{then}")
    there = index.by_key(digest, format)
    if there is not None and there.image_name != str(name) and not asked.rename:
        raise NamedOtherwiseError(
            f"the cache has {digest} in format {format} as {there.image_name or 'an entry without a name'}"
        )


def _is_in_place(cache: PackerCache, image: PackedImage) -> bool:
    """Whether the source is the very file the entry is to have."""
    with suppress(OSError):
        return image.path.samefile(cache.directory / packed_name(image.digest, image.format))
    return False
