"""What deleting entries would do: shown before anything is done, and the same when it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .descriptors import Descriptor
from .disk import Folder, storage_errors
from .edits import discardable, removals
from .errors import NoSuchEntryError, PlanChangedError
from .file_steps import moved_to_trash
from .index import ImageIndex, Key
from .index_file import IndexFile
from .journal import begin
from .records import Moved, Transaction, TransactionKind
from .transactions import run
from .workspace import Workspace


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that goes to the trash; ``size`` in bytes, ``modified_ns`` its mtime."""

    name: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """The entries that leave the index, the files that go to the trash, the files another format keeps in place.

    ``uncovered`` are other images that one of these names stands for afterwards: deleting what wins a name rolls it
    back to them. Two plans are equal where they would do the same to the same files.
    """

    keys: tuple[Key, ...]
    entries: tuple[Descriptor, ...]
    files: tuple[PlannedFile, ...]
    kept: tuple[str, ...]
    uncovered: tuple[Descriptor, ...]

    @property
    def bytes_trashed(self) -> int:
        return sum(file.size for file in self.files)


def plan_for_reader(directory: Path, index: ImageIndex, keys: Collection[Key]) -> DeletePlan:
    """The plan without the lock, for showing. Raises NoSuchEntryError, StorageError."""
    with storage_errors("look at the files"), Folder.open(directory) as root:
        return make_plan(root, index, keys)


def make_plan(root: Folder, index: ImageIndex, keys: Collection[Key]) -> DeletePlan:
    """Raises NoSuchEntryError where a key has no entry, or there is none to delete."""
    wanted = set(keys)
    if not wanted:
        raise NoSuchEntryError("no entry was named")
    for digest, format_ in wanted:
        if index.position(digest, format_) is None:
            raise NoSuchEntryError(f"there is no entry {digest} in format {format_}")
    entries = tuple(map(index.descriptors.__getitem__, index.positions_of(wanted)))
    left = index.without(wanted)
    in_order = dict.fromkeys(d.key for d in entries)
    gone, kept = discardable(root, left, in_order)
    files = tuple(PlannedFile(m.name, m.size, m.modified_ns) for m in moved_to_trash(root, "", gone))
    names = dict.fromkeys(d.image_name for d in entries if d.image_name)
    uncovered = tuple(found for name in names if (found := _newly_winning(index, left, name)))
    return DeletePlan(tuple(in_order), entries, files, tuple(kept), uncovered)


def _newly_winning(index: ImageIndex, left: ImageIndex, name: str) -> Descriptor | None:
    """The entry that a name stands for afterwards, where that is another image than before."""
    before, after = index.by_name(name), left.by_name(name)
    return after if before is not None and after is not None and before.digest != after.digest else None


def delete(space: Workspace, base: IndexFile, keys: Collection[Key], agreed: DeletePlan | None) -> Transaction:
    """Take entries out of the index, then their files to the trash.

    Raises NoSuchEntryError, and PlanChangedError where the plan is no longer the ``agreed`` one.
    """
    index = base.contents
    plan = make_plan(space.root, index, keys)
    if agreed is not None and agreed != plan:
        raise PlanChangedError("the cache has changed since the plan was shown")
    wanted = set(keys)
    transaction = begin(TransactionKind.DELETE)
    transaction = msgspec.structs.replace(
        transaction,
        removed=removals(index, wanted),
        discarded=[
            Moved(file.name, f"{transaction.id}~{file.name}", file.size, file.modified_ns) for file in plan.files
        ],
        opening=index.layout.opening.decode(),
        closing=index.layout.closing.decode(),
    )
    return run(space, transaction, base, lambda current: current.without(wanted))
