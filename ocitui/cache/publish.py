"""index.json, published atomically beside a daemon that takes no lock.

The new index changes places with the one on disk, so that a writer who came in between is seen: what was displaced is
looked at after a moment, and where it is not what was read, the edit is made again on it.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from .backups import keep_in
from .errors import ConflictError
from .files import INDEX_NAME
from .index import ImageIndex, examine_index
from .index_file import PATIENCE_SECONDS, IndexFile, look, read_patiently, refuse_link
from .verdict import IndexOutcome, Verdict
from .workspace import Workspace

SETTLE_SECONDS = 0.02
"""How long a writer that opened the old file before the exchange has to finish with it."""
_ATTEMPTS = 50
_PAUSE = 0.005

COMPARED_ONLY = (
    "this file system cannot exchange two files: an update that another program made in the same moment would be lost"
)

EditCall = Callable[[ImageIndex], ImageIndex]


class Observer(Protocol):
    """Is told just before an index is published and just after: see `marked.Marks`."""

    def ready(self, inode: int) -> None: ...

    def withdrawn(self) -> None: ...

    def published(self) -> None: ...


def publish(
    space: Workspace, base: IndexFile, edit: EditCall, draft: str, observer: Observer | None = None
) -> ImageIndex:
    """Publish ``edit`` of the index on disk, and give the index as it then is.

    ``draft`` is a name in the staging folder, free to use; ``space.published`` notes what was written.

    ``edit`` must take any sound index: it is made again on whatever another writer left. Raises OSError,
    CorruptIndexError, and ConflictError where index.json is a link or is never left alone.
    """
    refuse_link(space.directory)
    # Updates of others that were displaced: the index each was made of, and what they made of it.
    owed: list[tuple[ImageIndex, ImageIndex]] = []
    ours: ImageIndex | None = None
    for _ in range(_ATTEMPTS):
        new = edit(_with_owed(base.contents, owed, ours))
        if _put_in_place(space, base, new, draft, observer):
            _settle(space, base, draft.partition("-")[0])
            displaced = _displaced(space, base, draft)
            if displaced is None or displaced is base.index:
                return new
            owed.append((base.contents, displaced))
            ours = new
        base = read_patiently(space.directory)
        base.require_sound(space.directory)
    raise ConflictError("index.json is rewritten all the time", hint="see what writes it, then try again")


def _with_owed(now: ImageIndex, owed: list[tuple[ImageIndex, ImageIndex]], ours: ImageIndex | None) -> ImageIndex:
    """The index on disk with every displaced update in it again."""
    if len(owed) == 1 and ours is not None and now.matches(ours.to_bytes()):
        # Nobody wrote since: what was displaced is all there is to start from.
        return owed[0][1]
    for common, theirs in owed:
        now = _merged(now, common, theirs)
    return now


def _merged(now: ImageIndex, common: ImageIndex, theirs: ImageIndex) -> ImageIndex:
    """``now`` with what another writer made of ``common``."""
    before, after = ({d.raw for d in index.descriptors} for index in (common, theirs))
    added = [d for d in theirs.descriptors if d.raw not in before]
    outdated = {d.key for d in added} | {d.key for d in common.descriptors if d.raw not in after}
    left = now.without(outdated)
    return left.inserted([(len(left), descriptor, None) for descriptor in added])


def _put_in_place(space: Workspace, base: IndexFile, new: ImageIndex, draft: str, observer: Observer | None) -> bool:
    """Write the index and let it change places with the one on disk; False, and nothing changed, if that is not
    ``base`` any more."""
    like = space.root.lstat(INDEX_NAME)
    space.disk.write_new(space.staging, draft, new.to_bytes(), like)
    written = space.staging.lstat(draft)
    if not _still(space, base):
        space.disk.unlink(space.staging, draft)
        return False
    if observer and written:
        observer.ready(written.st_ino)
    if not base.exists:
        try:
            space.disk.rename(space.staging, draft, space.root, INDEX_NAME)
        except FileExistsError:
            if observer:
                observer.withdrawn()
            space.disk.unlink(space.staging, draft)
            return False
    elif not space.disk.exchange(space.staging, draft, space.root, INDEX_NAME):
        space.disk.replace(space.staging, draft, space.root, INDEX_NAME)
        space.compared_only = True
    space.index_changed = True
    space.disk.sync_folder(space.root)
    if observer:
        observer.published()
    _note_published(space, new, written)
    return True


def _note_published(space: Workspace, new: ImageIndex, written: os.stat_result | None) -> None:
    """Remember the index with its file's signature, unless another writer is in the file already."""
    now = look(space.directory)
    if now is None or written is None:
        space.published = None
        return
    ours = (now.inode, now.size, now.modified_ns) == (written.st_ino, written.st_size, written.st_mtime_ns)
    verdict = Verdict(IndexOutcome.LOADED, len(new))
    space.published = IndexFile(now, verdict, new) if ours else None


def _still(space: Workspace, base: IndexFile) -> bool:
    """Whether the index on disk is ``base``; a daemon that stores may have written the same again."""
    if look(space.directory) == base.signature:
        return True
    latest = read_patiently(space.directory)
    if base.index is None or latest.index is None:
        return base.exists == latest.exists and latest.verdict.sound
    return base.index.matches(latest.index.to_bytes())


def _untouched(found: os.stat_result | None, base: IndexFile) -> bool:
    """Whether a file is the one that was read, by all that a rename leaves as it is; false says nothing."""
    was = base.signature
    return (
        was is not None
        and base.settled
        and found is not None
        and (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) == was[:4]
    )


def _settle(space: Workspace, base: IndexFile, moment: str) -> None:
    """Wait for a writer that opened the old file to finish with it; meanwhile keep a backup of what was in it."""
    deadline = time.monotonic() + SETTLE_SECONDS
    if base.index is not None:
        with suppress(OSError):
            keep_in(space.own, base.index, moment, space.disk.step)
        time.sleep(max(0.0, deadline - time.monotonic()))


def _displaced(space: Workspace, base: IndexFile, draft: str) -> ImageIndex | None:
    """The index that was displaced: the very one of ``base`` if nobody wrote, None where nothing could be displaced."""
    if space.staging.lstat(draft) is None or base.index is None:
        return None
    if _untouched(space.staging.lstat(draft), base):
        space.reserve.take_displaced(space.staging, draft)
        return base.index
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        data = space.staging.read(draft)
        if base.index.matches(data):
            space.reserve.take_displaced(space.staging, draft)
            return base.index
        found = examine_index(data)[1]
        if found is not None or time.monotonic() >= deadline:
            # Kept whatever comes of the merge; and where a writer died in it, what is on disk stands.
            space.disk.rename(space.staging, draft, space.trash, f"{draft}~{secrets.token_hex(4)}~{INDEX_NAME}")
            return base.index if found is None else found
        time.sleep(_PAUSE)
