"""What is to change, bound to what was seen: an edit of the index or a new one, files out, files in, modes.

`PackerCache.change` makes one as a single transaction and `PackerCache.undo` reverses it, byte for byte. A change says
of everything it names what it was when it was planned; where that is different by now, nothing is done.

`publish` may make an edit more than once, each time on what another program left. So an edit by positions counts: what
it took out or put in already it does not take out or put in again. An edit by keys means a digest and format, whatever
the bytes of their entries, and may be made on any index."""

from __future__ import annotations

import hashlib
import os
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, overload

import msgspec

from .descriptors import ANNOTATION_PACKED_FORMAT, Descriptor, name_annotations
from .disk import OUTSIDE, Folder
from .errors import DocumentError, InvalidPackedImageError, NoSuchEntryError, PlanChangedError
from .files import INDEX_NAME, Key, PackedFormat, config_name, known_format, manifest_name, packed_name, usable_digest
from .index import EMPTY_INDEX, ImageIndex, Placement
from .listing import FILE_SUFFIXES
from .records import ChangeMode, RecordedDescriptor, neighbour_of

if TYPE_CHECKING:
    from .lookup import PackedImage


class Seen(NamedTuple):
    """What a name of the cache directory was, links not followed; ``kind`` is the file type of its mode."""

    kind: int
    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Seen:
        return cls(stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ino)

    @classmethod
    def at(cls, folder: Folder, name: str) -> Seen | None:
        """What has a name in a folder; None where nothing has. Raises OSError."""
        found = folder.lstat(name)
        return None if found is None else cls.of(found)


def see(path: Path) -> Seen | None:
    """What stands at a path, for a change to be bound to; None where nothing does. Raises OSError."""
    return Seen.at(OUTSIDE, str(path))


class IndexSeen(NamedTuple):
    """What index.json was: the sha256 of a regular file's bytes, or what else stood there; neither if it is absent."""

    sha256: str = ""
    other: Seen | None = None

    @classmethod
    def of_bytes(cls, data: bytes) -> IndexSeen:
        return cls(hashlib.sha256(data).hexdigest())


def see_index(directory: Path) -> IndexSeen:
    """What index.json is, for a change to be bound to; a link is not followed. Raises OSError."""
    with Folder.open(directory) as root:
        return see_index_in(root)


def see_index_in(root: Folder) -> IndexSeen:
    """The same in an open directory."""
    if sha256 := root.sha256(INDEX_NAME):
        return IndexSeen(sha256)
    return IndexSeen(other=Seen.at(root, INDEX_NAME))


class Remove(msgspec.Struct, frozen=True):
    """A descriptor that leaves the index: its position, from 0, and its bytes there."""

    position: int
    raw: bytes


class Insert(msgspec.Struct, frozen=True):
    """A descriptor that comes in, verbatim: before the one that has ``position`` now, or at the end."""

    raw: bytes
    position: int | None = None


class IndexEdit(msgspec.Struct, frozen=True):
    """An edit of an index the daemon loads; what other programs write meanwhile survives it. The same bytes removed and
    inserted move a descriptor. The descriptors it removes bind it, and ``seen``, if given, the whole index."""

    remove: tuple[Remove, ...] = ()
    insert: tuple[Insert, ...] = ()
    seen: IndexSeen | None = None

    def bound(self, index: ImageIndex | None) -> Edit:
        """The edit, of the index as it is now. Raises PlanChangedError where that is not what was seen, or is gone."""
        if index is None:
            raise PlanChangedError("index.json is gone")
        if self.seen is not None and IndexSeen(index.sha256) != self.seen:
            raise PlanChangedError("index.json has changed since the plan was shown")
        for one in self.remove:
            there = index.descriptors[one.position : one.position + 1] if one.position >= 0 else []
            if [descriptor.raw for descriptor in there] != [one.raw]:
                raise PlanChangedError(f"entry {one.position} of the index has changed since the plan was shown")
        doomed = {one.position for one in self.remove}
        left, gone = index.without_at(doomed), sorted(doomed)

        def position_in_left(position: int | None) -> int:
            before = len(index) if position is None else max(position, 0)
            return min(before - bisect_left(gone, before), len(left))

        coming = [(position_in_left(one.position), Descriptor.parse(one.raw)) for one in self.insert]
        return Edit(removals(index, doomed), arrivals(left, coming))


class IndexReplacement(msgspec.Struct, frozen=True):
    """A new index.json for one that is corrupt, of another kind, or absent; what stood there goes to the trash whole.
    ``data`` must be an index the daemon loads; `new_index` makes one. An undo brings back the file of that name in the
    ``trash`` instead, whatever it is, or leaves none (neither)."""

    seen: IndexSeen
    data: bytes | None = None
    trash: str | None = None


class Discard(msgspec.Struct, frozen=True):
    """What goes to the trash from the cache directory, of any kind; ``aside`` is its name there, if not the usual."""

    name: str
    seen: Seen
    aside: str = ""

    @property
    def size(self) -> int:
        return self.seen.size


class Place(msgspec.Struct, frozen=True):
    """A file that comes in under a name of the cache directory; what stands there (``seen``) goes to the trash, under
    the name ``aside`` where one is given.

    It is made of ``data``, or is the file at ``path``, or the one of that name in the trash. A file at a path is moved,
    unless it cannot be; then it is copied, and stays. With ``take`` it goes in any case: a link to a file, or one of
    several names, too, and what was copied is removed once it is in. ``source`` binds the change to that file.
    """

    name: str
    seen: Seen | None = None
    data: bytes | None = None
    path: Path | None = None
    trash: str | None = None
    take: bool = False
    source: Seen | None = None
    aside: str = ""

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.data, self.path, self.trash)) != 1:
            raise ValueError(f"{self.name} needs data, a path or a file of the trash, and one of them only")


class Change(msgspec.Struct, frozen=True):
    """What is to change, in one transaction: files in, modes, the index, files out. A name may stand in it once."""

    index: IndexEdit | IndexReplacement | Edit | None = None
    discard: tuple[Discard, ...] = ()
    place: tuple[Place, ...] = ()
    modes: tuple[ChangeMode, ...] = ()

    def __bool__(self) -> bool:
        return self.index is not None or bool(self.discard or self.place or self.modes)

    def names(self) -> Iterator[str]:
        """Every name of the cache directory in it, index.json apart."""
        for part in (self.discard, self.place, self.modes):
            yield from (item.name for item in part)


def new_index(raws: Iterable[bytes]) -> ImageIndex:
    """An index of these descriptors, in order, as the daemon lays it out. Raises DocumentError where it refuses one."""
    head, _, tail = EMPTY_INDEX.partition(b"[]")
    descriptors = [*raws]
    data = b"%b[%b]%b" % (head, b",".join(descriptors), tail)
    with suppress(ValueError, RecursionError, DocumentError):
        # All at once, unless one of them is odd: then each is looked at alone.
        data = msgspec.json.format(data, indent=2)
        data += b"\n"
        index = ImageIndex.parse(data)
        if len(index) == len(descriptors):
            return index
    index = ImageIndex.empty()
    return index.inserted([(0, Descriptor.parse(index.laid_out(raw)), None) for raw in descriptors])


# Past so many entries one listing of the directory is cheaper than a look at each of their files.
_MANY = 500
_SEEN = Struct("QqqQ")
_PACKED = tuple(packed_name("", one) for one in PackedFormat)


@dataclass(slots=True)
class PlannedFiles(Sequence[Discard]):
    """Files that go to the trash, with their ``bytes`` in all. What they were is packed: there may be 300,000."""

    names: list[str]
    seen: bytearray
    bytes: int

    @classmethod
    def look(cls, root: Folder, names: Iterable[str]) -> PlannedFiles:
        """Those of the names that are there. Raises OSError."""
        there, seen, size = list[str](), bytearray(), 0
        lstat, pack, kind_of = root.lstat, _SEEN.pack, stat.S_IFMT
        for name in names:
            if found := lstat(name):
                there.append(name)
                seen += pack(kind_of(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ino)
                size += found.st_size
        return cls(there, seen, size)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Discard]:
        return map(Discard, self.names, starmap(Seen, _SEEN.iter_unpack(self.seen)))

    @overload
    def __getitem__(self, at: int) -> Discard: ...
    @overload
    def __getitem__(self, at: slice) -> list[Discard]: ...
    def __getitem__(self, at: int | slice) -> Discard | list[Discard]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        return Discard(self.names[at], Seen(*_SEEN.unpack_from(self.seen, at * _SEEN.size)))


class DeletePlan(msgspec.Struct, frozen=True):
    """The entries that leave the index, the files that go to the trash, the files another format keeps in place.
    ``uncovered`` are other images that one of these names stands for afterwards: deleting what wins a name rolls it
    back to them. Two plans are equal where they would do the same to the same files."""

    keys: tuple[Key, ...]
    entries: Sequence[Descriptor]
    files: PlannedFiles
    kept: tuple[str, ...]
    uncovered: tuple[Descriptor, ...]

    @property
    def bytes_trashed(self) -> int:
        return self.files.bytes


class PointPlan(msgspec.Struct, frozen=True):
    """``entry`` stands at ``position`` now and goes to the end, where it wins ``name``, which stands for ``winner``
    until then; nothing is deleted. ``trouble`` is why the daemon would not have the image all the same, empty where it
    would."""

    name: str
    entry: Descriptor
    position: int
    winner: Descriptor
    trouble: str = ""

    @property
    def needed(self) -> bool:
        """Whether the name stands for another image now."""
        return self.winner.digest != self.entry.digest

    @property
    def then(self) -> str:
        """What the daemon will do."""
        then = f"{self.name} resolves to {self.entry.digest}"
        return f"{then}, no longer to {self.winner.digest}" if self.needed else f"{then} already"


def make_plan(root: Folder, index: ImageIndex, keys: Collection[Key]) -> DeletePlan:
    """Raises NoSuchEntryError where a key has no entry, or there is none to delete."""
    wanted = set(keys)
    if not wanted:
        raise NoSuchEntryError("no entry was named")
    going = index.positions_of(wanted)
    in_order = dict.fromkeys((index.digests[at], index.formats[at]) for at in going)
    for digest, format_ in wanted.difference(in_order):
        raise NoSuchEntryError(f"there is no entry {digest} in format {format_}")
    entries, left = index.descriptors.at(going), index.without_at(going)
    gone, documents = discardable(root, left, in_order)
    kept = tuple(name for name in documents if root.lstat(name) is not None)
    names = dict.fromkeys(index.names[at] for at in going)
    uncovered = [found for name in filter(None, names) if (found := _newly_winning(index, left, name))] if left else ()
    return DeletePlan(tuple(in_order), entries, PlannedFiles.look(root, gone), kept, tuple(uncovered))


def _newly_winning(index: ImageIndex, left: ImageIndex, name: str) -> Descriptor | None:
    """The entry that a name stands for afterwards, where that is another image than before."""
    before, after = index.position_of_name(name), left.position_of_name(name)
    if before is None or after is None or index.digests[before] == left.digests[after]:
        return None
    return left.descriptors[after]


def as_entry(directory: Path, packed: PackedImage) -> PackedImage:
    """An image as it is once stored: its file there, the daemon's annotations. Raises InvalidPackedImageError."""
    digest = packed.digest
    if packed.descriptor.digest != digest:
        raise InvalidPackedImageError(f"the descriptor is for {packed.descriptor.digest}, the image is {digest}")
    if not usable_digest(digest):
        raise InvalidPackedImageError(f"{digest!r} cannot be a file name, so the daemon would never find it")
    try:
        found = os.stat(packed.path)
    except (OSError, ValueError) as error:
        raise InvalidPackedImageError(f"{packed.path} cannot be read: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidPackedImageError(f"{packed.path} is not a regular file")
    annotations = {ANNOTATION_PACKED_FORMAT: packed.format.value, **name_annotations(packed.name)}
    descriptor = packed.descriptor.with_annotations(annotations)
    return msgspec.structs.replace(packed, path=directory / packed_name(digest, packed.format), descriptor=descriptor)


def storing(root: Folder, entry: PackedImage, source: Path) -> Change:
    """The change that brings an entry's files in, the packed one from ``source``, and then replaces what the index has
    of its digest and format by one at the end."""
    places = tuple(_places(root, entry, source))
    return Change(Edit(keys=frozenset([entry.descriptor.key]), appended=entry.descriptor), place=places)


def _places(root: Folder, entry: PackedImage, source: Path) -> Iterator[Place]:
    """The files that are not in their place already."""
    name, there = entry.path.name, root.lstat(entry.path.name)
    if there is None or not stat.S_ISREG(there.st_mode) or not os.path.samestat(there, os.stat(source)):
        yield Place(name, Seen.of(there) if there else None, path=source, take=True)
    documents = {config_name(entry.digest): entry.config.raw, manifest_name(entry.digest): entry.manifest.raw}
    for name, raw in documents.items():
        found = root.lstat(name)
        if found is None or not _holds(root, name, found, raw):
            yield Place(name, Seen.of(found) if found else None, data=raw)


def _holds(root: Folder, name: str, found: os.stat_result, raw: bytes) -> bool:
    """Whether a regular file of this name has these bytes already."""
    if not stat.S_ISREG(found.st_mode) or found.st_size != len(raw):
        return False
    with suppress(OSError):
        return root.read(name, len(raw)) == raw
    return False


def deletion(root: Folder, index: ImageIndex, keys: Collection[Key], agreed: DeletePlan | None = None) -> Change:
    """The change that takes entries and files out, if as ``agreed``. Raises NoSuchEntryError, PlanChangedError."""
    plan = make_plan(root, index, keys)
    if agreed is not None and agreed != plan:
        raise PlanChangedError("the cache has changed since the plan was shown")
    return Change(Edit(keys=frozenset(keys)), discard=tuple(plan.files))


def discardable(root: Folder, index: ImageIndex, keys: Collection[Key]) -> tuple[list[str], list[str]]:
    """The names of files that nothing needs once entries of these keys are gone, as they are from ``index``, and of
    documents that stay for other formats; there or not. A packed file that no entry names keeps its documents too."""
    gone, kept, decided = list[str](), list[str](), set[str]()
    files = {
        packed_name(digest, known): digest
        for digest, format_ in keys
        if (known := known_format(format_)) is not None and usable_digest(digest)
    }
    shared = (_shared_in_listing if len(keys) > _MANY else _shared_one_by_one)(root, index, files)
    for name, digest in files.items():
        gone.append(name)
        if digest not in decided:
            decided.add(digest)
            documents = kept if digest in shared else gone
            documents += manifest_name(digest), config_name(digest)
    return gone, kept


def _shared_in_listing(root: Folder, index: ImageIndex, files: Mapping[str, str]) -> set[str]:
    """The digests that have another packed file than these in the directory, or an entry in the index."""
    shared = {name.rpartition(".")[0] for name in root.names() if name.endswith(_PACKED) and name not in files}
    entries = zip(index.digests, index.formats, strict=True)
    shared.update(digest for digest, format_ in entries if known_format(format_) is not None)
    return shared


def _shared_one_by_one(root: Folder, index: ImageIndex, files: Mapping[str, str]) -> set[str]:
    """Those of the digests of these files for which the same holds."""
    return {
        digest
        for digest in {*files.values()}
        for one in PackedFormat
        if (name := packed_name(digest, one)) not in files
        and (index.position(digest, one) is not None or root.lstat(name) is not None)
    }


Recorded = Sequence[RecordedDescriptor]


class Edit(msgspec.Struct, frozen=True):
    """Descriptors that go (``out``) and come (``into``), by their bytes and the positions they have before and after.
    With ``keys`` (None: not by keys) every entry of these goes too, and of ``into`` comes what has no entry of its key
    then. ``appended`` comes in at the end, where it wins its name, laid out like the others. ``gaps``, the white space
    after the opening bracket and before the closing one, are to stand there where none of the old entries stays."""

    out: Recorded = ()
    into: Recorded = ()
    keys: frozenset[Key] | None = None
    appended: Descriptor | None = None
    gaps: tuple[bytes, bytes] | None = None

    def on(self, base: ImageIndex) -> Callable[[ImageIndex], ImageIndex]:
        """The edit as `publish` makes it, begun on ``base``."""
        return self._by_position(base) if self.keys is None else self._by_key

    def _by_key(self, current: ImageIndex) -> ImageIndex:
        left = current.without(self.keys or ())
        if self.appended is not None:
            return left.appended(self.appended)
        return self._with_gaps(left, [one for one in self.into if left.by_key(*one.descriptor.key) is None])

    def _by_position(self, base: ImageIndex) -> Callable[[ImageIndex], ImageIndex]:
        wanted = {one.raw.encode() for one in (*self.out, *self.into)}
        had = _counts(base, wanted)

        def edit(current: ImageIndex) -> ImageIndex:
            has = _counts(current, wanted)
            out, into = self.out, self.into
            if has != had:
                out, into = _still_to_do(out, into, had, has)
            return self._with_gaps(current.without_at(positions(current, out)), into)

        return edit

    def _with_gaps(self, left: ImageIndex, into: Recorded) -> ImageIndex:
        edited = left.inserted(placements(left, into)) if into else left
        # Empty brackets have nothing before what they close with, however it was written.
        if self.gaps is None or left.descriptors or (self.gaps[0] and not edited.descriptors):
            return edited
        return edited.with_gaps(*self.gaps)


def positions(index: ImageIndex, wanted: Recorded) -> set[int]:
    """Where these descriptors stand, equal ones each at the nearest place; those that are gone have none."""
    places = index.places({one.raw.encode() for one in wanted})
    found: set[int] = set()
    for one in wanted:
        free = [place for place in places.get(one.raw.encode(), ()) if place not in found]
        if free:
            found.add(min(free, key=lambda place: abs(place - one.position)))
    return found


def placements(left: ImageIndex, returning: Recorded) -> list[Placement]:
    """Where descriptors go: before their neighbour, or where they were when that one is gone."""
    places = _neighbours(left, {one.before for one in returning if one.before is not None})
    placed: list[Placement] = []
    for earlier, one in enumerate(sorted(returning, key=lambda one: one.position)):
        expected = min(one.position - earlier, len(left))
        at = len(left)
        if one.before is not None:
            at = min(places.get(one.before, [expected]), key=lambda place: abs(place - expected))
        placed.append((at, one.descriptor, one.gap.encode() if one.gap else None))
    return placed


def _neighbours(left: ImageIndex, wanted: Collection[str]) -> dict[str, list[int]]:
    """Where the entries stand that records know as neighbours: by their identity, or by their bytes as version 1."""
    found = left.places({one.encode() for one in wanted if not one.startswith("#")})
    places = {raw.decode(): positions for raw, positions in found.items()}
    if any(one.startswith("#") for one in wanted):
        for at, identity in enumerate(left.identities()):
            if (known := neighbour_of(identity)) in wanted:
                places.setdefault(known, []).append(at)
    return places


def arrivals(left: ImageIndex, wanted: Sequence[tuple[int, Descriptor]]) -> list[RecordedDescriptor]:
    """The record of descriptors that come in, each before the one that has that position in ``left``."""
    return [
        RecordedDescriptor(
            descriptor.raw.decode(), position + earlier, _neighbour_at(left, position) if position < len(left) else None
        )
        for earlier, (position, descriptor) in enumerate(sorted(wanted, key=lambda one: one[0]))
    ]


def _neighbour_at(index: ImageIndex, position: int) -> str:
    return neighbour_of((index.digests[position], index.formats[position], index.names[position]))


def removals(index: ImageIndex, positions: Collection[int]) -> list[RecordedDescriptor]:
    """The entries at these positions, each with the next entry that stays and the gap that goes with it."""
    going = set(positions)
    first_kept = next((at for at in range(len(index)) if at not in going), len(index))
    removed: list[RecordedDescriptor] = []
    following, before = len(index), None
    for position in sorted(going, reverse=True):
        if position + 1 < following:
            before = _neighbour_at(index, position + 1)
        following = position
        gap = index.gap(position if position < first_kept else position - 1)
        removed.append(
            RecordedDescriptor(index.raw(position).decode(), position, before, gap.decode() if gap else None)
        )
    return removed[::-1]


def _counts(index: ImageIndex, raws: Collection[bytes]) -> Counter[bytes]:
    return Counter({raw: len(places) for raw, places in index.places(raws).items()})


def _still_to_do(
    out: Recorded, into: Recorded, had: Counter[bytes], has: Counter[bytes]
) -> tuple[list[RecordedDescriptor], list[RecordedDescriptor]]:
    """What is left of an edit on an index that another program, or this one, has changed since it was begun."""
    leaving, coming = (Counter(one.raw.encode() for one in part) for part in (out, into))
    to_take, to_put = Counter[bytes](), Counter[bytes]()
    for raw in {*leaving, *coming}:
        gone, more = max(0, had[raw] - has[raw]), max(0, has[raw] - had[raw])
        to_take[raw] = min(has[raw], max(0, leaving[raw] - gone))
        # What only moves is put back as often as it is taken; what another program removed stays away.
        moved = min(coming[raw], to_take[raw])
        to_put[raw] = max(moved, coming[raw] - max(leaving[raw] - to_take[raw], more))
    return _as_many(out, to_take), _as_many(into, to_put)


def _as_many(wanted: Recorded, counts: Counter[bytes]) -> list[RecordedDescriptor]:
    """As many of each as is left to do, the last ones where not all are."""
    left = Counter(counts)
    kept: list[RecordedDescriptor] = []
    for one in reversed(wanted):
        raw = one.raw.encode()
        if left[raw] > 0:
            left[raw] -= 1
            kept.append(one)
    return kept[::-1]


def needed(index: ImageIndex, name: str) -> bool:
    """Whether an entry of the index has this file."""
    for suffix, kind in FILE_SUFFIXES.items():
        digest = name.removesuffix(f".{suffix}")
        if digest != name:
            formats = {index.formats[at] for at in index.positions(digest)}
            return kind in formats if isinstance(kind, PackedFormat) else not formats.isdisjoint(PackedFormat)
    return False
