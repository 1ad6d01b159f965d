"""A mend made: everything it names is looked at again, what comes in is staged, then one transaction."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import Counter
from pathlib import Path

import msgspec

from .changes import ChangeMode, Discard, IndexEdit, IndexReplacement, IndexSeen, Mend, Place, Seen, see_index_in
from .descriptors import Descriptor
from .edits import arrivals, removals_at
from .errors import ConflictError, CorruptIndexError, PlanChangedError
from .file_steps import mode_of, moved_to_trash, placed_from
from .files import INDEX_NAME, OWN_NAME
from .index import EMPTY_INDEX, ImageIndex, examine_index, judge_index
from .index_file import PATIENCE_SECONDS, IndexFile, read_patiently, refuse_link
from .journal import begin
from .records import Mode, Moved, Placed, Removed, Swap, Transaction, TransactionKind
from .transactions import run_marked
from .verdict import IndexOutcome
from .workspace import Workspace

_PAUSE = 0.01


def make_mend(space: Workspace, mend: Mend, previous: ImageIndex | None = None) -> Transaction:
    """Make a mend, as one transaction.

    Raises PlanChangedError where something it names is not what was seen; CorruptIndexError where it edits an index
    that does not read, or would write one; ConflictError, DocumentError, OSError.
    """
    try:
        return _make(space, mend, previous, copy=False)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another mount of the same file system: it can be copied from, not renamed from.
        return _make(space, mend, previous, copy=True)


def _make(space: Workspace, mend: Mend, previous: ImageIndex | None, *, copy: bool) -> Transaction:
    _check_names(mend)
    base = _base(space, mend.index, previous) if isinstance(mend.index, IndexEdit) else None
    for name, seen in [*((d.name, d.seen) for d in mend.discard), *((p.name, p.seen) for p in mend.place)]:
        _check_seen(space, name, seen)
    transaction = begin(TransactionKind.MEND)
    transaction = msgspec.structs.replace(
        transaction,
        marked=True,
        displaced=moved_to_trash(space.root, transaction.id, [place.name for place in mend.place if place.seen]),
        modes=[_mode(space, change) for change in mend.modes],
        discarded=moved_to_trash(space.root, transaction.id, [item.name for item in mend.discard]),
    )
    if base is not None and isinstance(mend.index, IndexEdit):
        transaction = _with_edit(transaction, mend.index, base.contents)
    if isinstance(mend.index, IndexReplacement):
        transaction = msgspec.structs.replace(transaction, swap=replacement(space, transaction.id, mend.index))
    drafts = {place.name: f"{transaction.id}.{number}" for number, place in enumerate(mend.place)}
    placed = [_staged(space, place, drafts[place.name], copy=copy) for place in mend.place]
    return run_marked(space, msgspec.structs.replace(transaction, placed=placed), base)


def _check_names(mend: Mend) -> None:
    """Raises ConflictError where a name is not one of a file in the cache, or stands there twice."""
    items: list[Discard | Place | ChangeMode] = [*mend.discard, *mend.place, *mend.modes]
    names = Counter(item.name for item in items)
    if mend.index is None and not names:
        raise ConflictError("the mend changes nothing", hint="choose at least one step")
    for name, count in names.items():
        if name in ("", ".", "..", INDEX_NAME, OWN_NAME) or "/" in name or "\0" in name or not _is_text(name):
            raise ConflictError(f"{name!r} cannot be mended as a file of the cache")
        if count > 1:
            raise ConflictError(f"{name} stands in the mend twice")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _base(space: Workspace, edit: IndexEdit, previous: ImageIndex | None) -> IndexFile:
    """The index that is to be edited, as it was seen."""
    refuse_link(space.directory)
    base = read_patiently(space.directory, previous)
    base.require_sound(space.directory)
    if base.index is None:
        raise PlanChangedError("index.json is gone")
    if edit.seen is not None and IndexSeen.of_bytes(base.index.to_bytes()) != edit.seen:
        raise PlanChangedError("index.json has changed since the plan was shown")
    for removal in edit.remove:
        there = base.index.descriptors[removal.position : removal.position + 1] if removal.position >= 0 else []
        if [descriptor.raw for descriptor in there] != [removal.raw]:
            raise PlanChangedError(f"entry {removal.position} of the index has changed since the plan was shown")
    return base


def _with_edit(transaction: Transaction, edit: IndexEdit, index: ImageIndex) -> Transaction:
    doomed = {removal.position for removal in edit.remove}
    left = index.without_at(doomed)
    coming = [
        (_position_in_left(insert.position, doomed, left), Descriptor.parse(insert.raw)) for insert in edit.insert
    ]
    return with_index_change(transaction, index, removals_at(index, doomed), arrivals(left, coming))


def with_index_change(
    transaction: Transaction, index: ImageIndex, removed: list[Removed], added: list[Removed]
) -> Transaction:
    """The transaction with this edit of the index, and with what its reverse needs to know."""
    left = index.without_at({one.position for one in removed})
    twins = Counter(zip(left.digests, left.formats, strict=True))
    return msgspec.structs.replace(
        transaction,
        removed=[msgspec.structs.replace(one, twins=twins[one.descriptor.key]) for one in removed],
        added=added,
        opening=index.layout.opening.decode(),
        closing=index.layout.closing.decode(),
        keeps_gaps=bool(index) and not left.descriptors and bool(added),
    )


def _position_in_left(position: int | None, doomed: set[int], left: ImageIndex) -> int:
    if position is None:
        return len(left)
    return min(max(position, 0) - sum(at < position for at in doomed), len(left))


def _check_seen(space: Workspace, name: str, seen: Seen | None) -> None:
    found = space.root.lstat(name)
    if (Seen.of(found) if found else None) != seen:
        raise PlanChangedError(f"{name} has changed since the plan was shown")


def _mode(space: Workspace, change: ChangeMode) -> Mode:
    if mode_of(space.root, change.name) != change.old:
        raise PlanChangedError(f"the mode of {change.name} has changed since the plan was shown")
    return Mode(change.name, change.old, change.new & 0o7777)


def replacement(space: Workspace, transaction_id: str, wanted: IndexReplacement) -> Swap:
    """A new index staged, to take the place of what was seen."""
    verdict, index = examine_index(wanted.data)
    if index is None:
        raise CorruptIndexError(
            f"the new index would be corrupt: {verdict.place}", verdict=verdict, hint="nothing was changed"
        )
    _await_index(space, wanted.seen)
    old = space.root.lstat(INDEX_NAME)
    like = old if old is not None and stat.S_ISREG(old.st_mode) else None
    if like is not None and judge_index(space.root.read(INDEX_NAME)) is IndexOutcome.LOADED:
        raise ConflictError("index.json reads and is not replaced", hint="edit it instead")
    draft = f"{transaction_id}.index"
    space.disk.write_new(space.staging, draft, wanted.data, like)
    moved: list[Moved] = moved_to_trash(space.root, transaction_id, [INDEX_NAME])
    return Swap(
        moved[0] if moved else None,
        _placed(space, draft, INDEX_NAME),
        wanted.seen.sha256,
        IndexSeen.of_bytes(wanted.data).sha256,
    )


def _await_index(space: Workspace, seen: IndexSeen) -> None:
    """Raises PlanChangedError where index.json is not what was seen, nor becomes it again as a torn write does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while see_index_in(space.root) != seen:
        if time.monotonic() >= deadline:
            raise PlanChangedError("index.json has changed since the plan was shown")
        time.sleep(_PAUSE)


def _staged(space: Workspace, place: Place, draft: str, *, copy: bool) -> Placed:
    """What is to come in, where it can be renamed from."""
    if place.data is not None:
        space.disk.write_new(space.staging, draft, place.data)
        return _placed(space, draft, place.name)
    if place.trash is not None:
        found = space.trash.lstat(place.trash) if _is_plain(place.trash) else None
        _check_source(place, found, f"{place.trash} in the trash")
        assert found is not None
        return placed_from(found, place.name, trash=place.trash)
    assert place.path is not None
    return _staged_path(space, place, place.path, draft, copy=copy)


def _staged_path(space: Workspace, place: Place, path: Path, draft: str, *, copy: bool) -> Placed:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        found = None
    _check_source(place, found, str(path))
    assert found is not None
    if not stat.S_ISREG(found.st_mode):
        raise ConflictError(f"{path} is not a regular file")
    if copy or place.copy or not _is_movable(space, path, found):
        space.disk.copy_in(path, space.staging, draft)
        return _placed(space, draft, place.name)
    space.disk.sync_path(path)
    # What has to change places with it can do so only inside the cache.
    staging = None if space.root.lstat(place.name) is None else draft
    return placed_from(found, place.name, path=os.path.abspath(path), staging=staging)


def _is_movable(space: Workspace, path: Path, found: os.stat_result) -> bool:
    """Whether a file may leave its place: not one of the cache itself, whose leaving would be no part of the mend."""
    root = os.fstat(space.root.fd)
    return found.st_nlink == 1 and found.st_dev == root.st_dev and not os.path.samestat(os.stat(path.parent), root)


def _check_source(place: Place, found: os.stat_result | None, what: str) -> None:
    if found is None:
        raise PlanChangedError(f"{what} is gone")
    if place.source is not None and Seen.of(found) != place.source:
        raise PlanChangedError(f"{what} has changed since the plan was shown")


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\0" not in name


def _placed(space: Workspace, draft: str, name: str) -> Placed:
    found = space.staging.lstat(draft)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), draft)
    return placed_from(found, name, staging=draft)


def reset_index(space: Workspace, seen: IndexFile) -> None:
    """Put an empty index in place; a corrupt one goes to the trash, whole.

    Raises ConflictError where another program wrote index.json meanwhile, or it is a link.
    """
    refuse_link(space.directory)
    transaction = begin(TransactionKind.RESET)
    if seen.exists:
        wanted = IndexReplacement(see_index_in(space.root), EMPTY_INDEX)
        swap = replacement(space, transaction.id, wanted)
        run_marked(space, msgspec.structs.replace(transaction, marked=True, swap=swap))
        return
    draft = f"{transaction.id}.index"
    space.disk.write_new(space.staging, draft, EMPTY_INDEX, space.root.lstat(INDEX_NAME))
    try:
        space.disk.rename(space.staging, draft, space.root, INDEX_NAME)
    except FileExistsError:
        # The daemon was quicker, and its index is as good.
        space.disk.unlink(space.staging, draft)
    space.sync()
