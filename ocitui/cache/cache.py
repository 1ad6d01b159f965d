"""PackerCache: a krata image cache, with the daemon's rules and nothing lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import msgspec

from . import lookup
from .descriptors import Descriptor
from .disk import Disk, Folder, storage_errors
from .errors import (
    CacheError,
    ConflictError,
    CorruptIndexError,
    IndexOutcome,
    LockedError,
    NoSuchEntryError,
    ReadOnlyError,
    Verdict,
)
from .files import (
    Key,
    PackedFormat,
    config_name,
    known_format,
    manifest_name,
    read_regular,
    regular_file,
    usable_digest,
)
from .index import EMPTY_INDEX, ImageIndex, IndexFile, index_signature, read_patiently, refuse_link
from .lookup import Explanation, PackedImage, ResolvedImage
from .names import ImageName
from .records import Transaction, TransactionKind, TransactionState
from .watch import IndexWatch

if TYPE_CHECKING:
    from .changes import Change, DeletePlan, PointPlan
    from .journal import Journal, RefusedFile
    from .records import Identity
    from .trash import EmptiedTrash, TrashedFile
    from .workspace import Workspace


R = TypeVar("R")
_LOCK_POLL_SECONDS = 0.05
_DOING = {
    TransactionKind.POINT: "point a name",
    TransactionKind.REPAIR: "repair the cache",
    TransactionKind.ADOPT: "adopt files",
    TransactionKind.RESET: "reset the index",
}


class Preparation(msgspec.Struct, frozen=True):
    """What a writer did before anything else: transactions that a program which died had left, in their new state, and
    what lay in `.ocitui`, may not be acted on, and was set aside, or stays as it is another user's or a later ocitui's.
    ``reserve`` is whether the room that is kept for a full disk is whole."""

    recovered: tuple[Transaction, ...] = ()
    set_aside: list[RefusedFile] = []
    left_alone: list[RefusedFile] = []
    reserve: bool = True

    @property
    def notes(self) -> list[str]:
        """What an operator is to be told of it, in sentences."""
        told = []
        for one in self.recovered:
            what = "finished" if one.state is TransactionState.DONE else "rolled back"
            about = f" of {one.about}" if one.about else ""
            told.append(f"the {one.kind}{about}, {one.id}, which was interrupted, is {what}")
        told += [f".ocitui/{one.path} is set aside, into .ocitui/aside: {one.reason}" for one in self.set_aside]
        return told + [one.note for one in self.left_alone]


# `PackerCache.list` hides the builtin from annotations inside the class.
Transactions = list[Transaction]
Trashed: TypeAlias = "list[TrashedFile]"
Refused: TypeAlias = "list[RefusedFile]"


class PackerCache(AbstractAsyncContextManager["PackerCache"]):
    """One cache directory. Reading never writes, takes no lock, and looks each time whether index.json changed.

    Writing is done under the lock, in a thread that is never abandoned: a cancelled call leaves a whole transaction
    behind. ``wait`` is how many seconds a writer waits for the lock. Whatever writes raises LockedError, ConflictError,
    ReadOnlyError and StorageError, too.
    """

    def __init__(
        self, directory: Path, *, read_only: bool = False, wait: float = 0.0, disk: Disk | None = None
    ) -> None:
        self.directory = Path(directory)
        self.read_only = read_only
        self.wait = wait
        self.disk = disk or Disk()
        self._seen: IndexFile | None = None
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        # One thread of its own: queued writers never keep a lookup waiting.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ocitui-writer")
        self._folding: Future[None] | None = None

    @classmethod
    async def open(
        cls,
        directory: Path | str,
        *,
        on_corrupt: Literal["raise", "reset"] = "raise",
        read_only: bool = False,
        wait: float = 0.0,
        disk: Disk | None = None,
    ) -> PackerCache:
        """Open a cache; nothing is written, and no index.json is an empty cache.

        Raises CacheDirectoryError, and CorruptIndexError where the daemon would reset the index or refuse to start.
        With ``on_corrupt="reset"`` an absent or reset index becomes an empty one, as the daemon makes it, but the
        corrupt bytes go to the trash first; where the daemon refuses, that raises too.
        """
        cache = cls(Path(directory), read_only=read_only, wait=wait, disk=disk)
        if on_corrupt == "reset":
            await cache._start_as_the_daemon()
        await asyncio.to_thread(cache._current)
        return cache

    async def _start_as_the_daemon(self) -> None:
        """Put an empty index where there is none, or one that it would reset, which goes to the trash whole."""
        from .changes import Change, IndexReplacement, see_index

        seen = await asyncio.to_thread(read_patiently, self.directory)
        if seen.verdict.outcome is IndexOutcome.ERROR:
            seen.require_sound(self.directory)
        if seen.index is not None:
            return
        await asyncio.to_thread(refuse_link, self.directory)
        change = Change(IndexReplacement(await asyncio.to_thread(see_index, self.directory), EMPTY_INDEX))
        try:
            await self.change(change, TransactionKind.RESET)
        except ConflictError:
            # Another program, or the daemon, was quicker, and its index may be as good.
            latest = await asyncio.to_thread(read_patiently, self.directory)
            latest.require_sound(self.directory)
            if latest.index is None:
                raise

    async def close(self) -> None:
        """Wait until no transaction is under way, nor backups are folded after it; it may be used again."""
        await asyncio.get_running_loop().run_in_executor(self._writer, lambda: None)
        folding, self._folding = self._folding, None
        if folding is not None:
            await asyncio.wrap_future(folding)

    def between_transactions(self) -> AbstractContextManager[object]:
        """Within it no transaction of this object is under way, nor begins."""
        return self._writing

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def list(self) -> list[Descriptor]:
        """The index's descriptors, in order."""
        return list((await self.index()).descriptors)

    async def index(self) -> ImageIndex:
        """The index as it is now. Raises CorruptIndexError, CacheDirectoryError."""
        return (await asyncio.to_thread(self._current)).contents

    async def resolve(self, name: ImageName, format: PackedFormat) -> ResolvedImage | None:
        """The image a name stands for, None for a miss. Raises DocumentError where the daemon fails."""
        return await self._look_up(lambda index: lookup.resolve(self.directory, index, name, format))

    async def recall(self, name: ImageName, digest: str, format: PackedFormat) -> PackedImage | None:
        """The packed image of a digest, None for a miss. Raises DocumentError where the daemon fails."""
        return await self._look_up(lambda index: lookup.recall(self.directory, index, name, digest, format))

    async def explain_resolve(self, name: ImageName, format: PackedFormat) -> Explanation:
        """Resolve, with the reason for every step."""
        return await self._look_up(lambda index: lookup.explain_resolve(self.directory, index, name, format))

    async def explain_recall(self, name: ImageName, digest: str, format: PackedFormat) -> Explanation:
        """Recall, with the reason for every step."""
        return await self._look_up(lambda index: lookup.explain_recall(self.directory, index, name, digest, format))

    async def read_document(self, digest: str, kind: Literal["manifest", "config"]) -> bytes | None:
        """A document's bytes as they are, None where there is no such file. Raises StorageError."""
        if not usable_digest(digest):
            return None
        path = self.directory / (manifest_name(digest) if kind == "manifest" else config_name(digest))
        return await asyncio.to_thread(lambda: read_regular(path) if regular_file(path) else None)

    async def prepare(self) -> Preparation:
        """What the screen and every command that writes begin with, before they look at what is asked of them. Finishes
        or rolls back what a program that died had left, sets aside what may not be acted on, and makes the reserve with
        which deleting, undoing and emptying the trash work on a full disk. Raises CacheDirectoryError."""
        from .workspace import set_aside_refused

        def act(space: Workspace) -> Preparation:
            left_alone = set_aside_refused(space)
            found = index_signature(self.directory)
            whole = space.reserve.refill(found.size if found else 0)
            return Preparation(tuple(space.recovered), space.set_aside, left_alone, whole)

        return await self._write("make ready to write", act)

    async def change(
        self,
        change: Change,
        kind: TransactionKind,
        *,
        names: Collection[str] = (),
        digests: Collection[str] = (),
        given_up: Collection[Identity] = (),
    ) -> Transaction:
        """Make a change: files in, modes, the index, files out, in one transaction that `undo` reverses byte for byte.

        ``names`` and ``digests`` are of the images that it is about, where no descriptor in it tells; ``given_up`` are
        entries that an index brought back could have had, and has not on purpose. It needs no sound index unless it
        edits one. Raises PlanChangedError where what it names is not what was seen, CorruptIndexError, DocumentError.
        """
        from .transactions import make

        def act(space: Workspace) -> Transaction:
            return make(space, change, kind, names=names, digests=digests, absent=given_up)

        return await self._write(_DOING.get(kind, "change the cache"), act)

    async def store(self, packed: PackedImage, *, kind: TransactionKind = TransactionKind.STORE) -> PackedImage:
        """Bring an image in; its file at ``packed.path`` is moved to its place, and the entry appended to the index. An
        entry of the same digest and format is replaced. ``kind`` is STORE or IMPORT, for the journal. Raises
        InvalidPackedImageError, CorruptIndexError; where it raises anything, the cache is as it was."""
        from .changes import as_entry, storing
        from .transactions import make

        def act(space: Workspace) -> PackedImage:
            make(space, storing(space.root, entry, packed.path), kind)
            return entry

        entry = await asyncio.to_thread(as_entry, self.directory, packed)
        return await self._write("store an image", act, needs_index=True)

    async def plan_delete(self, keys: Collection[Key]) -> DeletePlan:
        """What `delete` would do. Raises NoSuchEntryError."""
        from .changes import make_plan

        def act(index: ImageIndex) -> DeletePlan:
            with storage_errors("look at the files"), Folder.open(self.directory) as root:
                return make_plan(root, index, keys)

        return await self._look_up(act)

    async def delete(self, keys: Collection[Key], plan: DeletePlan | None = None) -> Transaction:
        """Take entries out of the index in one transaction, then their files to the trash; with ``plan``, only what it
        says. Raises NoSuchEntryError, CorruptIndexError, PlanChangedError where the plan would be different by now."""
        from .changes import deletion
        from .transactions import make

        wanted = tuple(keys)

        def act(space: Workspace) -> Transaction:
            change = deletion(space.root, space.read_index().contents, wanted, plan)
            return make(space, change, TransactionKind.DELETE)

        return await self._write("delete entries", act, needs_index=True)

    async def plan_point(self, name: ImageName, digest: str, format: PackedFormat | None = None) -> PointPlan:
        """How to make a name stand for a digest; without ``format`` the digest's last entry of that name moves. Raises
        NoSuchEntryError where no entry carries both, CorruptIndexError."""
        from .changes import PointPlan

        index, spelling = await self.index(), str(name)
        named = (at for at in index.positions(digest) if index.names[at] == spelling)
        found = [at for at in named if format is None or index.formats[at] == format]
        winner = index.by_name(spelling)
        if not found or winner is None:
            raise NoSuchEntryError(
                f"no entry of {digest} has the name {spelling}{f' as {format}' if format else ''}",
                hint="ocitui list shows which names it has; ocitui import gives it another one",
            )
        entry = index.descriptors[found[-1]]
        trouble, form = "its format is none that the daemon knows", known_format(entry.format)
        if form is not None:
            answer = await self.explain_recall(name, entry.digest, form)
            trouble = "" if answer.hit else answer.error or answer.reasons[-1].text
        return PointPlan(spelling, entry, found[-1], winner, trouble)

    async def point(self, plan: PointPlan) -> Transaction:
        """Move the entry to the end, where it wins its name. Raises ConflictError where it wins already,
        PlanChangedError where it is no longer where it was, and what `change` raises."""
        from .changes import Change, IndexEdit, Insert, Remove

        if not plan.needed:
            raise ConflictError(f"{plan.then}: there is nothing to do", hint="ocitui why shows how the daemon answers")
        move = IndexEdit((Remove(plan.position, plan.entry.raw),), (Insert(plan.entry.raw),))
        return await self.change(Change(move), TransactionKind.POINT)

    async def undo(self, transaction_id: str | None = None) -> Transaction:
        """Reverse a transaction, the newest that can be when no id is given; gives the transaction that did it. Raises
        NoSuchTransactionError, and ConflictError where something stands in the place."""
        from .undoing import find_target, undo

        return await self._write(
            "undo a transaction", lambda space: undo(space, find_target(space.journal, transaction_id))
        )

    async def undo_target(self, transaction_id: str | None = None) -> Transaction:
        """The transaction that `undo` would reverse. Raises NoSuchTransactionError, ConflictError, StorageError."""
        from .undoing import find_target

        return await self._read_journal(lambda journal: find_target(journal, transaction_id))

    async def trash(self) -> Trashed:
        """Every file in the trash, newest first. Raises StorageError."""
        from .trash import list_trash

        return await asyncio.to_thread(list_trash, self.directory)

    async def restore(self, names: Collection[str]) -> Transaction:
        """Bring files back, by their names in the trash; `undo` reverses it. Raises ConflictError for a taken place."""
        from .trash import restore

        return await self._write("restore from the trash", lambda space: restore(space, names))

    async def empty_trash(
        self, before: float | None = None, ids: Collection[str] | None = None, names: Collection[str] | None = None
    ) -> EmptiedTrash:
        """Remove files of the trash for good, and with that the undo of their transactions. Those of transactions begun
        ``before``, in seconds since the epoch, and of these ``ids``; of all that ended where neither is given; of these
        only the files called ``names`` there, where that is given. Files that no readable record names go only by the
        id in their name. Raises NoSuchTransactionError."""
        from .trash import empty

        return await self._write("empty the trash", lambda space: empty(space, before, ids, names))

    async def refused(self) -> Refused:
        """What lies in `.ocitui` and is not acted on, and why: unreadable, another user's, of a later ocitui."""
        from .workspace import refused_files

        return await asyncio.to_thread(refused_files, self.directory)

    async def transactions(self) -> Transactions:
        """Every transaction in the journal, newest first. Raises StorageError."""
        return await self._read_journal(lambda journal: journal.transactions())

    async def examine(self) -> Verdict:
        """What the daemon would do with index.json as it is now. Raises CacheDirectoryError."""
        return (await asyncio.to_thread(read_patiently, self.directory)).verdict

    def watch(self) -> IndexWatch:
        """The index as a stream of differences, beginning with all of it; never raises for what the disk does."""
        return IndexWatch(self.directory, self._adopt)

    async def _look_up(self, action: Callable[[ImageIndex], R]) -> R:
        return await asyncio.to_thread(lambda: action(self._current().contents))

    async def _read_journal(self, read: Callable[[Journal], R]) -> R:
        from .own_folder import open_journal

        def act() -> R:
            with storage_errors("read the journal"), open_journal(self.directory) as journal:
                return read(journal)

        return await asyncio.to_thread(act)

    async def _write(self, doing: str, action: Callable[[Workspace], R], *, needs_index: bool = False) -> R:
        """Act in the writing thread, and again for ``wait`` seconds while another program holds the lock. A cancelled
        call waits no more, and leaves the thread to finish what it does."""
        if self.read_only:
            raise ReadOnlyError(f"cannot {doing}: the cache was opened read-only")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.wait
        while True:
            try:
                return await loop.run_in_executor(self._writer, lambda: self._write_now(doing, action, needs_index))
            except LockedError:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(_LOCK_POLL_SECONDS)

    def _write_now(self, doing: str, action: Callable[[Workspace], R], needs_index: bool) -> R:
        from .backups import fold_backups
        from .transactions import clear_after_failure, recover
        from .workspace import open_workspace, what_frees

        with self._writing:
            if needs_index:
                # Before anything is made in a directory whose index is not to be written.
                self._current()
                refuse_link(self.directory)
            with (
                storage_errors(doing, lambda: what_frees(self.directory)),
                open_workspace(self.directory, self.disk, doing, self._current) as space,
            ):
                space.recovered = recover(space)
                try:
                    result = action(space)
                except (OSError, CacheError):
                    clear_after_failure(space)
                    raise
                finally:
                    self._adopt(space.published)
                found = index_signature(self.directory)
                if found is None:
                    # It was taken away on purpose, and is absent as it is.
                    with self._reading:
                        self._seen = None
                space.reserve.refill(found.size if found else 0)
                crowded = space.backups.crowded
        if crowded:
            self._folding = self._writer.submit(fold_backups, self.directory, self.disk)
        return result

    def _current(self) -> IndexFile:
        """The index as it is on disk. Raises CorruptIndexError, CacheDirectoryError."""
        with self._reading:
            seen, signature = self._seen, index_signature(self.directory)
            if seen is not None and seen.settled and signature is not None and signature == seen.signature:
                return seen
            latest = read_patiently(self.directory, seen.index if seen else None)
            if not latest.exists and seen is not None and seen.index:
                told = f"{self.directory / 'index.json'} is gone, though it held {len(seen.index)} entries"
                hint = "nothing was changed; a running daemon writes it again at its next store"
                raise CorruptIndexError(told, hint=hint)
            latest.require_sound(self.directory)
            self._seen = latest
            return latest

    def _adopt(self, seen: IndexFile | None) -> None:
        """Take over a sound index that was read or written elsewhere in this program."""
        if seen is not None and seen.index is not None:
            with self._reading:
                self._seen = seen
