"""Where a good copy of a file can be had: the trash, its siblings, a loop device, what the operator names."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from ocitui.cache import (
    INDEX_NAME,
    OWN_NAME,
    READ_FLAGS,
    TRASH_NAME,
    CacheError,
    Descriptor,
    FileKind,
    ImageName,
    InvalidNameError,
    Ledger,
    PackedFormat,
    Place,
    Seen,
    Sources,
    check_packed_file,
    config_name,
    hash_file,
    list_trash,
    manifest_name,
    open_bounded,
    packed_name,
    usual_digest,
)
from ocitui.contents import ContentsError, TreeLines, TreeStore, read_through
from ocitui.host import Loops, LoopUse
from ocitui.importing import (
    CACHE_PREFIX,
    NoSuchImageError,
    PackedFiles,
    Reference,
    SourceError,
    SourceImage,
    SourceKind,
    SourceOptions,
    UnreadableSourceError,
    UnsupportedSourceError,
    find_packed_files,
    home_path,
    open_source,
    recognise_source,
)
from ocitui.stand_in import as_told
from ocitui.threads import Stop, in_thread

from ..check.entry_checks import has_digest, read_document
from ..check.examine import incomplete, otherwise, without_program
from ..findings import Way
from .steps import Fetch, FetchKind, Peer, ProgressCall, RepairOptions, RepairProgress, Snapshot, StepChange


class OtherFormats(msgspec.Struct):
    """The packed files that a cache has of an image, but that of ``format``; ``ledger`` is the cache's."""

    directory: Path
    digest: str
    format: PackedFormat | None
    ledger: Ledger
    _lines: list[tuple[PackedFormat, TreeLines]] | None = None

    def lines(self, stop: Stop) -> Sequence[tuple[PackedFormat, TreeLines]]:
        """The lines of those that a deep check finds sound, read when first asked for. Raises AbandonedError."""
        if self._lines is None:
            self._lines = [*self._read(stop)]
        return self._lines

    def tree_on_record(self, name: str) -> str:
        """The digest of the tree that a packed file had as the ledger knows it, or was last found to have; empty where
        none is kept."""
        record = self.ledger.sound.get(name)
        kept = TreeStore(self.directory, self.ledger).read(name, record.sha256 if record is not None else "")
        return kept[1].content if kept else ""

    def _read(self, stop: Stop) -> Iterator[tuple[PackedFormat, TreeLines]]:
        store = TreeStore(self.directory, self.ledger)
        for format in (one for one in PackedFormat if one is not self.format):
            name = packed_name(self.digest, format)
            with suppress(OSError), open_bounded(self.directory / name, follow=False) as opened:
                found, known = os.fstat(opened.fileno()), self.ledger.sound.get(name)
                check = check_packed_file(opened.fileno(), found.st_size)
                if check.problem or check.found is not format or self.ledger.damage(name, found) is not None:
                    continue
                if known is not None and hash_file(opened, lambda _: stop.check()) != known.sha256:
                    continue
                if known is not None and (kept := store.read(name, known.sha256)):
                    yield format, kept[1]
                    continue
                through = read_through(opened, format, stop)
                if through.tree is not None and through.hashed:
                    with suppress(ContentsError):
                        yield format, TreeLines.of(through.tree, stop)


class WantedFile(msgspec.Struct, frozen=True):
    """A file that is to be restored: ``name`` in the cache, of the entry ``digest``. ``content`` is the digest that its
    bytes must have; empty for a packed file without a recorded sha256. ``tree`` is the digest of its tree, as it is on
    record (empty: it is not): one of other bytes with the same tree is as good. Where neither is known, one is taken
    that could be read through, lacks nothing that the sound ``others`` of the image's formats hold, and holds
    ``program`` (empty: not known); ``strictly`` only one whose bytes somebody has on record, or made of the image's
    layers; ``by_layers`` only one made of these. ``size`` is that of a document (0: not known). ``carriers`` are the
    descriptors of the entry's digest."""

    name: str
    digest: str
    kind: FileKind
    format: PackedFormat | None = None
    content: str = ""
    tree: str = ""
    size: int = 0
    strictly: bool = False
    by_layers: bool = False
    program: str = ""
    carriers: tuple[Descriptor, ...] = ()
    others: OtherFormats | None = None


class Copy(msgspec.Struct, frozen=True):
    """A good copy: its bytes, a file of the trash, or what is fetched when the plan is carried out. ``where`` says in
    words where it comes from; ``size`` is in bytes, 0 where it shows only later."""

    where: str
    size: int
    data: bytes | None = None
    trash: str | None = None
    source: Seen | None = None
    fetch: FetchKind | None = None
    origin: str = ""
    sha256: str = ""

    def change(self, wanted: WantedFile, there: Seen | None) -> StepChange:
        """How it comes in, or is fetched first; ``there`` is what stands in its place."""
        if self.fetch is None or wanted.format is None:
            return StepChange(place=(Place(wanted.name, there, data=self.data, trash=self.trash, source=self.source),))
        fetch = self.fetch, self.origin, wanted.digest, wanted.format, self.size, self.sha256
        proof = wanted.by_layers, wanted.content, wanted.tree, wanted.program
        return StepChange(fetch=(Fetch(wanted.name, there, *fetch, *proof),))


class Copies(Protocol):
    """One place where copies may be."""

    label: str
    """The place in words, as in "not found in LABEL"."""

    async def find(self, wanted: WantedFile, told: Restorer) -> Copy | None:
        """A copy that is good: one of a packed file was read through, whatever the depth of the check. Nothing is
        written. ``told`` may hear of it from any thread. Raises CacheError where the place cannot be looked at."""


class Restorer(msgspec.Struct):
    """The places in the order they are asked; ``notes`` tell what could not be looked at, or was refused, and why;
    ``called`` is what the operator calls the directories that stand in them."""

    places: Sequence[Copies] = ()
    notes: list[str] = []
    progress: ProgressCall = lambda now: None
    called: Mapping[str, str] = {}

    async def find(self, wanted: WantedFile) -> Copy | None:
        """The first good copy. Never raises for what a place holds."""
        for place in self.places:
            try:
                copy = await place.find(wanted, self)
            except CacheError as error:
                self.note(f"{place.label}: {error.message}")
                continue
            if copy is not None:
                return copy
        return None

    @property
    def labels(self) -> str:
        """Where was looked, in words: there are always some."""
        *first, last = [place.label for place in self.places]
        return f"{', '.join(first)} or {last}"

    def note(self, note: str) -> None:
        """What was found in a place and is not good, and why."""
        for directory, text in self.called.items():
            note = note.replace(directory, text)
        if note not in self.notes:
            self.notes.append(note)


class DeviceCopies:
    """What a guest still has for its disk, though the cache has it no more."""

    label = "a loop device"

    def __init__(self, loops: Loops) -> None:
        self._loops = loops

    async def find(self, wanted: WantedFile, told: Restorer) -> Copy | None:
        uses = self._loops.get(wanted.name)
        return await in_thread(lambda stop: self._find(wanted, uses, told, stop)) if uses else None

    def _find(self, wanted: WantedFile, uses: Sequence[LoopUse], told: Restorer, stop: Stop) -> Copy | None:
        for use in uses:
            if not use.deleted or use.partial or wanted.format is None or not use.readable_size:
                continue
            words, size = f"{use.device}, which still holds the deleted file", use.readable_size
            offered = Copy(words, size, fetch=FetchKind.DEVICE, origin=str(use.device))
            if (copy := good_packed(use.device, wanted, offered, told, stop)) is not None:
                return copy
        return None


class TrashCopies:
    """What earlier transactions took out of the cache, the newest first."""

    label = "the trash"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ledger = Ledger(directory)
        self._names: dict[str, list[str]] | None = None

    async def find(self, wanted: WantedFile, told: Restorer) -> Copy | None:
        if self._names is None:
            self._names = {}  # It is listed once, though it may fail.
            self._names = await asyncio.to_thread(self._listed)
            self._ledger = await asyncio.to_thread(Ledger.open, self._directory)
        names = self._names.get(wanted.name)
        # A thread for each of 100,000 files that nobody trashed would take minutes.
        return await in_thread(lambda stop: self._find(wanted, names, told, stop)) if names else None

    def _find(self, wanted: WantedFile, names: list[str], told: Restorer, stop: Stop) -> Copy | None:
        for name in names:
            path = self._directory / OWN_NAME / TRASH_NAME / name
            with suppress(OSError):
                if wanted.format is None:
                    # Its bytes are copied, so that what took it to the trash can be undone all the same.
                    copy = document_at(path, wanted, self.label)
                elif stat.S_ISREG((found := os.lstat(path)).st_mode):
                    offered = Copy(self.label, 0, trash=name, source=Seen.of(found))
                    copy = good_packed(path, wanted, offered, told, stop, self._ledger)
                else:
                    continue
                if copy is not None:
                    return copy
        return None

    def _listed(self) -> dict[str, list[str]]:
        """The names in the trash by the name that each file had, the newest first. Raises StorageError."""
        names: dict[str, list[str]] = {}
        for file in list_trash(self._directory):
            names.setdefault(file.name, []).append(file.trash)
        return names


class SiblingCopies:
    """The same config beside another manifest of the cache: images of one build may share it."""

    label = "the documents of other entries"

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    async def find(self, wanted: WantedFile, told: Restorer) -> Copy | None:
        if wanted.kind is not FileKind.CONFIG:
            return None
        names = [name for name in self._by_size.get(wanted.size, []) if name != wanted.name]
        return await asyncio.to_thread(self._find, wanted, names) if names else None

    def _find(self, wanted: WantedFile, names: list[str]) -> Copy | None:
        directory = self._snapshot.directory
        return next(filter(None, (document_at(directory / one, wanted, f"{one} beside it") for one in names)), None)

    @cached_property
    def _by_size(self) -> dict[int, list[str]]:
        """The configs of the cache by their size in bytes."""
        names, listing = dict[int, list[str]](), self._snapshot.listing
        for name in sorted(map(config_name, listing.held())):
            fact = listing.get(name)
            if fact is not None and fact.regular:
                names.setdefault(fact.size, []).append(name)
        return names


def right_document(path: Path, digest: str, told: Restorer | None = None) -> bytes | None:
    """The bytes of a document that has this digest; None where it has not, of which ``told`` hears, or is not there."""
    with suppress(OSError):
        raw = read_document(path)
        if has_digest(raw, digest):
            return raw
        if told is not None:
            told.note(f"{path} is refused: its bytes have not the digest {digest}")
    return None


def document_at(path: Path, wanted: WantedFile, where: str, told: Restorer | None = None) -> Copy | None:
    """A document that is wanted, where it is the right one."""
    raw = right_document(path, wanted.content, told)
    return None if raw is None else Copy(where, len(raw), data=raw)


class NotGoodError(Exception):
    """What is wrong with a copy."""


def good_packed(
    path: Path, wanted: WantedFile, offered: Copy, told: Restorer, stop: Stop, ledger: Ledger | None = None
) -> Copy | None:
    """The copy that is ``offered``, with what makes it good, all of which is read, unless it is to be brought from
    another host; None where it is refused or not there, or only what is made of layers will do. ``ledger`` is that of
    the cache it lies in, or lay in; ``offered`` has the size of what has none, and the sha256 that another host has on
    record of it."""
    if wanted.by_layers:
        return None
    try:
        with open(os.open(path, READ_FLAGS), "rb", buffering=0) as opened:
            return _looked_through(opened, path, offered, wanted, told, stop, ledger)
    except FileNotFoundError:
        return None
    except (NotGoodError, OSError) as error:
        told.note(f"{path} is refused: {getattr(error, 'strerror', None) or error}")
        return None


def _looked_through(
    opened: BinaryIO, path: Path, offered: Copy, wanted: WantedFile, told: Restorer, stop: Stop, ledger: Ledger | None
) -> Copy:
    """Raises NotGoodError, OSError, AbandonedError."""
    found = as_told(os.fstat(opened.fileno()))
    if not offered.size and not stat.S_ISREG(found.st_mode):
        raise NotGoodError("it is no regular file")
    size = offered.size or found.st_size
    check = check_packed_file(opened.fileno(), size)
    if check.problem or check.found is not wanted.format:
        raise NotGoodError(check.problem or f"it is {check.found}, not {wanted.format}")
    damage, is_far = ledger.damage(wanted.name, found) if ledger is not None else None, offered.fetch is FetchKind.HOST
    wants = wanted.content.removeprefix("sha256:")
    if damage is not None and (is_far or not (damage.sha256 and wants)):
        raise NotGoodError(damage.seen)
    record = ledger.sound.get(wanted.name) if ledger is not None else None
    recorded = record.sha256 if record is not None else offered.sha256
    if is_far and (record is None or not record.same_file(found)):
        raise NotGoodError("its sha256 is not on record there; `ocitui check --depth deep` on that host records it")
    here = wanted.others.ledger.sound.get(wanted.name) if wanted.others is not None and not wants else None
    if is_far and here is not None and here.sha256 == recorded:
        raise NotGoodError("its bytes are those that are to be replaced")
    if wanted.strictly and not (wants or recorded):
        raise NotGoodError("nobody recorded its sha256, so that it may lack as much as what it is to replace")
    hashed, words = recorded, ""
    if not is_far:
        now = RepairProgress(f"reading a copy of {wanted.name}", 0, size)

        def passed(read: int) -> None:
            nonlocal now
            stop.check()
            now = msgspec.structs.replace(now, done=now.done + read)
            told.progress(now)

        hashed = hash_file(opened, passed)
    if hashed != wants:
        if wanted.strictly and not wants and hashed != recorded:
            raise NotGoodError(f"its sha256 is {hashed}, which nobody recorded")
        known, through, tree = _trees_here(wanted, stop), "it is read through once it is here", ""
        if wants and not known:
            raise NotGoodError(f"its sha256 is {hashed}, and neither that nor its tree is on record")
        if not is_far:
            told.progress(RepairProgress(f"reading what is in a copy of {wanted.name}"))
            through, tree = _read_copy(opened, wanted, stop)
        elif lines := TreeStore(path.parent).read(wanted.name, hashed):
            tree = lines[1].content
        if known and tree not in known and (tree or not is_far):
            raise NotGoodError("its tree is not the one on record" if tree else f"its tree is not known: {through}")
        proof = "no sha256 of it was recorded" if hashed != recorded else "only the record there vouches for it"
        words = f" ({through}; {'packed another time, with the tree on record' if known else proof})"
    return msgspec.structs.replace(offered, where=offered.where + words, size=size, sha256=hashed)


def _trees_here(wanted: WantedFile, stop: Stop) -> frozenset[str]:
    """The digests of trees, one of which a packed file of other bytes than are on record is to have: as it is on record
    itself, else as the other formats of the image have it; none where nothing of the file is on record."""
    if wanted.tree or not wanted.content or wanted.others is None:
        return frozenset(filter(None, [wanted.tree]))
    return frozenset(lines.content for _, lines in wanted.others.lines(stop))


def _read_copy(opened: BinaryIO, wanted: WantedFile, stop: Stop) -> tuple[str, str]:
    """Read a packed file as a guest would; gives how far that could be done, and the digest of its tree (empty: it is
    not known). Raises NotGoodError where it is damaged, or lacks its program or what the other formats hold, or cannot
    be compared with them, OSError, AbandonedError."""
    assert wanted.format is not None
    through = read_through(opened, wanted.format, stop)
    if through.problem:
        raise NotGoodError(f"reading it through failed: {through.problem}")
    seen = digest = ""
    if through.tree is not None:
        seen, others = without_program(through.tree, wanted.program), wanted.others
        beside = others.lines(stop) if others is not None and through.hashed else ()
        if beside or (wanted.tree and through.hashed):
            try:
                lines = TreeLines.of(through.tree, stop)
                seen = incomplete(lines, beside, stop) or otherwise(lines, beside, stop) or seen
            except ContentsError as error:
                raise NotGoodError(str(error)) from error
            digest = lines.content
    if seen:
        raise NotGoodError(seen)
    return f"not read through: {through.unchecked}" if through.unchecked else "read through", digest


class FilesCopies:
    """Files as a cache has them, those of another one or of one image; their bytes tell what they are."""

    def __init__(self, text: str, files: Peer | PackedFiles) -> None:
        self.label, self._files = text, files
        self._ledger: Ledger | None = None

    async def find(self, wanted: WantedFile, told: Restorer) -> Copy | None:
        return await in_thread(lambda stop: self._find(wanted, told, stop))

    def _find(self, wanted: WantedFile, told: Restorer, stop: Stop) -> Copy | None:
        files, is_far = self._files, False
        if isinstance(files, Peer):
            is_far, there = files.far, files.directory
            self._ledger = self._ledger or Ledger.open(there)
            documents = there / manifest_name(wanted.digest), there / config_name(wanted.digest)
            files = PackedFiles(there / wanted.name, *documents, wanted.format)
        if wanted.format is None:
            path = files.manifest if wanted.kind is FileKind.MANIFEST else files.config
            return document_at(path, wanted, self.label, told)
        # A file of that name is this image only where the manifest beside it has the digest.
        if right_document(files.manifest, wanted.digest) is None or files.format not in (None, wanted.format):
            return None
        kind, origin = (FetchKind.HOST, self.label) if is_far else (FetchKind.COPY, str(files.packed.absolute()))
        offered = Copy(self.label, 0, fetch=kind, origin=origin)
        return good_packed(files.packed, wanted, offered, told, stop, self._ledger)


class RecordedCopies:
    """The sources that images were imported from; registries only where these may be asked."""

    label = "where it was imported from"

    def __init__(self, sources: Sources, access: SourceOptions, *, registries: bool) -> None:
        self._sources: dict[str, dict[str, None]] = {}
        for name, source in sources.items():
            self._sources.setdefault(name.rpartition(".")[0], {})[source.text] = None
        self._access, self._registries = access, registries
        self._places: dict[str, Copies] = {}

    async def find(self, wanted: WantedFile, told: Restorer) -> Copy | None:
        for text in self._sources.get(wanted.digest, ()):
            try:
                if (place := await asyncio.to_thread(self._place, text)) is not None:
                    copy = await place.find(wanted, told)
                    if copy is not None:
                        return copy
            except (CacheError, ValueError, OSError) as error:
                why = error.message if isinstance(error, CacheError) else error
                told.note(f"it was imported from {text}: {why}")
        return None

    def _place(self, text: str) -> Copies | None:
        """Raises SourceError where it is no more."""
        if text not in self._places:
            found = recognise_source(text)
            if found.kind is not SourceKind.REGISTRY:
                self._places[text] = copies_named(text, self._access)
            elif self._registries:
                self._places[text] = LayerCopies(text, partial(origins_in, text, self._access), self._access)
        return self._places.get(text)


def places(snapshot: Snapshot, options: RepairOptions, loops: Loops, hosts: Sequence[Peer]) -> list[Copies]:
    """Where copies are looked for, in order; ``hosts`` are what was reached of caches on these. Raises SourceError for
    a source that is none."""
    found: list[Copies] = [TrashCopies(snapshot.directory), DeviceCopies(loops), SiblingCopies(snapshot)]
    reached = {peer.text: FilesCopies(peer.text, peer) for peer in hosts}
    here = (text for text in options.sources if options.hosts is None or not options.hosts.leads_to(text))
    named = reached | {text: copies_named(text, options.access) for text in here}
    found += [named[text] for text in options.sources if text in named]
    recorded = snapshot.judge.remembered.sources
    found += [RecordedCopies(recorded, options.access, registries=options.registry)] if recorded else []
    if options.registry:
        found.append(LayerCopies("the registry of its name", registry_origins, options.access))
    return found


def copies_named(text: str, access: SourceOptions) -> Copies:
    """What an operator names as a source. Raises SourceError where it is none, a registry among them."""
    if (peer := peer_here(text)) is not None:
        return FilesCopies(text, peer)
    kind = recognise_source(text).kind
    if kind is SourceKind.REGISTRY:
        raise UnsupportedSourceError(
            f"{text} is no layout, archive, packed file or other cache",
            hint=f"{Way.REGISTRY} for what the entries' own names give",
        )
    if kind is SourceKind.PACKED:
        if not os.path.isfile((files := find_packed_files(text)).packed):
            raise UnreadableSourceError(f"{files.packed} does not exist")
        return FilesCopies(text, files)
    return LayerCopies(text, partial(origins_in, text, access), access, text)


def peer_here(text: str) -> Peer | None:
    """Another cache of this host, by its directory, before which ``cache:`` may stand; None for any other source."""
    path = home_path(text.removeprefix(CACHE_PREFIX))
    is_layout = os.path.exists(path / "oci-layout") and path == home_path(text)
    return Peer(text, path) if os.path.exists(path / INDEX_NAME) and not is_layout else None


class LayerCopies:
    """Images with their layers, each read when it is first asked for. ``origins`` tells the sources that may hold that
    of a file; a copy comes from ``where``, as an operator calls it (empty: from the origin)."""

    def __init__(
        self, label: str, origins: Callable[[WantedFile], Awaitable[list[str]]], access: SourceOptions, where: str = ""
    ) -> None:
        self.label, self._find_origins, self._access, self._where = label, origins, access, where
        self._origins: dict[str, list[str]] = {}
        self._images: dict[str, SourceImage | None] = {}

    async def find(self, wanted: WantedFile, told: Restorer) -> Copy | None:
        """Every origin is asked before the failure of one is raised."""
        if not usual_digest(wanted.digest):
            return None
        if wanted.digest not in self._origins:
            self._origins[wanted.digest] = await self._find_origins(wanted)
        failure: CacheError | None = None
        for origin in self._origins[wanted.digest]:
            try:
                if origin not in self._images:
                    self._images[origin] = await resolved(origin, wanted.digest, self._access)
            except CacheError as error:
                failure = error
                continue
            image = self._images[origin]
            if image is not None and (copy := copy_of(image, wanted, self._where or origin, origin)) is not None:
                return copy
        if failure is not None:
            raise failure
        return None


async def origins_in(text: str, access: SourceOptions, wanted: WantedFile) -> list[str]:
    """An image of a registry, a layout or an archive by its digest; where that names none in it, by its place. Raises
    SourceError."""
    found = await asyncio.to_thread(recognise_source, text)
    if found.kind is SourceKind.REGISTRY:
        return [_by_digest(Reference.parse(found.rest), wanted.digest)]
    path = found.path.absolute()
    async with aclosing(await open_source(text, access)) as source:
        kind = source.kind
        if kind is not SourceKind.DOCKER_ARCHIVE:
            return [f"{kind}:{path}@{wanted.digest}"]
        listed = (await source.listing()).images
    return [f"{kind}:{path}:@{number}" for number, image in enumerate(listed) if image.digest == wanted.digest]


async def registry_origins(wanted: WantedFile) -> list[str]:
    """NAME@DIGEST for each name of the digest in the index, without its tag: nothing else is asked for."""
    origins: dict[str, None] = {}
    for descriptor in wanted.carriers:
        with suppress(SourceError, InvalidNameError):
            if descriptor.image_name:
                # Read by the distribution grammar: krata takes localhost:5000/foo for a name with a tag.
                reference = Reference.parse(str(ImageName.parse(descriptor.image_name)))
                origins[_by_digest(reference, wanted.digest)] = None
    return list(origins)


def _by_digest(reference: Reference, digest: str) -> str:
    return f"docker://{reference.domain}/{reference.path}@{digest}"


async def resolved(origin: str, digest: str, access: SourceOptions) -> SourceImage | None:
    """The image of a digest, its documents checked; None where the source does not have it. Raises SourceError."""
    async with aclosing(await open_source(origin, access)) as source:
        with suppress(NoSuchImageError):
            image = await source.resolve()
            return image if image.digest == digest else None
    return None


def copy_of(image: SourceImage, wanted: WantedFile, where: str, origin: str) -> Copy | None:
    """A document of an image, or its layers as what a packed file is made of."""
    if wanted.format is not None:
        return Copy(f"the layers in {where}", image.size, fetch=FetchKind.IMPORT, origin=origin)
    raw = image.manifest.raw if wanted.kind is FileKind.MANIFEST else image.config.raw
    return Copy(where, len(raw), data=raw) if has_digest(raw, wanted.content) else None
