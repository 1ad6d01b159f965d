"""What is to change, bound to what was seen: an edit of the index or a new one, files out, files in, modes.

`PackerCache.change` makes one as a single transaction and `PackerCache.undo` reverses it, byte for byte. A change says
of everything it names what it was when it was planned; where that is different by now, nothing is done.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .descriptors import Descriptor
from .disk import Folder
from .errors import DocumentError
from .files import INDEX_NAME
from .index import EMPTY_INDEX, ImageIndex
from .records import ChangeMode

if TYPE_CHECKING:
    from .edits import Edit


class Seen(NamedTuple):
    """What a name of the cache directory was, links not followed; ``kind`` is the file type of its mode."""

    kind: int
    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Seen:
        return cls(stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ino)


def see(path: Path) -> Seen | None:
    """What stands at a path, for a change to be bound to; None where nothing does. Raises OSError."""
    try:
        return Seen.of(os.lstat(path))
    except FileNotFoundError:
        return None


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
    found = root.lstat(INDEX_NAME)
    return IndexSeen(other=Seen.of(found) if found else None)


@dataclass(frozen=True, slots=True)
class Remove:
    """A descriptor that leaves the index: its position, from 0, and its bytes there."""

    position: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Insert:
    """A descriptor that comes in, verbatim: before the one that has ``position`` now, or at the end."""

    raw: bytes
    position: int | None = None


@dataclass(frozen=True, slots=True)
class IndexEdit:
    """An edit of an index the daemon loads; what other programs write meanwhile survives it.

    The same bytes removed and inserted move a descriptor; nothing is lost by that. ``seen`` may bind the edit to the
    whole index; the descriptors it removes always bind it.
    """

    remove: tuple[Remove, ...] = ()
    insert: tuple[Insert, ...] = ()
    seen: IndexSeen | None = None


@dataclass(frozen=True, slots=True)
class IndexReplacement:
    """A new index.json for one that is corrupt, of another kind, or absent; what stood there goes to the trash whole.

    ``data`` must be an index the daemon loads; `new_index` makes one. An undo brings back the file of that name in the
    ``trash`` instead, whatever it is, or leaves none (neither).
    """

    seen: IndexSeen
    data: bytes | None = None
    trash: str | None = None


@dataclass(frozen=True, slots=True)
class Discard:
    """A name of the cache directory that goes to the trash: a file, a link, a FIFO, or a directory with all in it.

    ``aside`` is what it is to be called there, empty for its usual name.
    """

    name: str
    seen: Seen
    aside: str = ""

    @property
    def size(self) -> int:
        return self.seen.size


@dataclass(frozen=True, slots=True)
class Place:
    """A file that comes in under a name of the cache directory; what stands there (``seen``) goes to the trash, under
    the name ``aside`` where one is given.

    It is made of ``data``, or is the file at ``path``, or the one of that name in the trash. A file at a path is moved,
    unless ``copy`` is set or it cannot be; then it is copied, and stays. With ``take`` it goes in any case: a link to a
    file, or one of several names, too, and what was copied is removed once it is in. ``source`` binds the change to
    that file.
    """

    name: str
    seen: Seen | None = None
    data: bytes | None = None
    path: Path | None = None
    trash: str | None = None
    copy: bool = False
    take: bool = False
    source: Seen | None = None
    aside: str = ""

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.data, self.path, self.trash)) != 1:
            raise ValueError(f"{self.name} needs data, a path or a file of the trash, and one of them only")


@dataclass(frozen=True, slots=True)
class Change:
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


def new_index(raws: Iterable[bytes]) -> bytes:
    """The bytes of `index_of` these descriptors. Raises DocumentError."""
    return index_of(raws).data


def index_of(raws: Iterable[bytes]) -> ImageIndex:
    """An index with these descriptors, in order, as the daemon lays one out.

    Raises DocumentError where the daemon would refuse a descriptor.
    """
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
