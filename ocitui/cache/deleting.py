"""What deleting entries would do: shown before anything is done, and the same when it is."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from struct import Struct
from typing import overload

from .changes import Change, Discard, Seen
from .descriptors import Descriptor
from .disk import Folder
from .edits import Edit
from .errors import NoSuchEntryError, PlanChangedError
from .files import config_name, known_format, manifest_name, packed_name, usable_digest
from .index import ImageIndex, Key
from .names import PackedFormat

# Past so many entries one listing of the directory is cheaper than a look at each of their files.
_MANY = 500
_SEEN = Struct("QqqQ")
_FORMATS = tuple(PackedFormat)


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
        for name in names:
            if (found := root.lstat(name)) is not None:
                there.append(name)
                seen += _SEEN.pack(stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ino)
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


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """The entries that leave the index, the files that go to the trash, the files another format keeps in place.

    ``uncovered`` are other images that one of these names stands for afterwards: deleting what wins a name rolls it
    back to them. Two plans are equal where they would do the same to the same files.
    """

    keys: tuple[Key, ...]
    entries: tuple[Descriptor, ...]
    files: PlannedFiles
    kept: tuple[str, ...]
    uncovered: tuple[Descriptor, ...]

    @property
    def bytes_trashed(self) -> int:
        return self.files.bytes


def make_plan(root: Folder, index: ImageIndex, keys: Collection[Key]) -> DeletePlan:
    """Raises NoSuchEntryError where a key has no entry, or there is none to delete."""
    wanted = set(keys)
    if not wanted:
        raise NoSuchEntryError("no entry was named")
    positions = index.positions_of(wanted)
    in_order = dict.fromkeys((index.digests[at], index.formats[at]) for at in positions)
    for digest, format_ in wanted.difference(in_order):
        raise NoSuchEntryError(f"there is no entry {digest} in format {format_}")
    entries, left = tuple(index.descriptors.at(positions)), index.without_at(positions)
    gone, kept = discardable(root, left, in_order)
    names = dict.fromkeys(index.names[at] for at in positions)
    uncovered = [found for name in filter(None, names) if (found := _newly_winning(index, left, name))] if left else ()
    return DeletePlan(tuple(in_order), entries, PlannedFiles.look(root, gone), tuple(kept), tuple(uncovered))


def _newly_winning(index: ImageIndex, left: ImageIndex, name: str) -> Descriptor | None:
    """The entry that a name stands for afterwards, where that is another image than before."""
    before, after = index.position_of_name(name), left.position_of_name(name)
    if before is None or after is None or index.digests[before] == left.digests[after]:
        return None
    return left.descriptors[after]


def deletion(root: Folder, index: ImageIndex, keys: Collection[Key], agreed: DeletePlan | None = None) -> Change:
    """The change that takes entries out of the index, then their files to the trash.

    Raises NoSuchEntryError, and PlanChangedError where the plan is no longer the ``agreed`` one.
    """
    plan = make_plan(root, index, keys)
    if agreed is not None and agreed != plan:
        raise PlanChangedError("the cache has changed since the plan was shown")
    return Change(Edit(keys=frozenset(keys)), discard=tuple(plan.files))


def discardable(root: Folder, index: ImageIndex, keys: Collection[Key]) -> tuple[list[str], list[str]]:
    """The files that nothing needs once entries of these keys are gone, and those that stay for other formats.

    ``index`` is the one without them. A packed file that no entry names keeps its documents too.
    """
    gone, kept, decided = list[str](), list[str](), set[str]()
    is_there = _presence(root, len(keys))
    for digest, format_ in keys:
        if (known := known_format(format_)) is None or not usable_digest(digest):
            continue
        gone.append(packed_name(digest, known))
        if digest in decided:
            continue
        decided.add(digest)
        named, documents = {index.formats[at] for at in index.positions(digest)}, gone
        # There may be 100,000 digests: neither a list is made for each, nor is an enumeration gone through.
        for one in _FORMATS:
            if one is not known and (one in named or is_there(packed_name(digest, one))) and (digest, one) not in keys:
                documents = kept
        documents += manifest_name(digest), config_name(digest)
    return [*filter(is_there, gone)], [*filter(is_there, kept)]


def _presence(root: Folder, entries: int) -> Callable[[str], bool]:
    """Whether a name is in the directory, asked for the files of this many entries."""
    if entries > _MANY:
        return set(root.names()).__contains__
    return lambda name: root.lstat(name) is not None
