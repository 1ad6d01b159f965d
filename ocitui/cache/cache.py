"""PackerCache: a krata image cache, with the daemon's rules and nothing lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from . import deleting, lookup, storing, undoing
from .deleting import DeletePlan
from .descriptors import Descriptor
from .disk import Disk, storage_errors
from .entries import Entry
from .errors import CacheError, CorruptIndexError, LockedError, ReadOnlyError
from .files import config_name, manifest_name, read_regular, regular_file, usable_digest
from .index import ImageIndex, Key
from .index_file import IndexFile, look, read_once, read_patiently, refuse_link
from .listing import Listing
from .lookup import Explanation, PackedImage, ResolvedImage
from .names import ImageName, PackedFormat
from .records import Transaction, TransactionState
from .transactions import clear_after_failure, recover
from .verdict import IndexOutcome, Verdict
from .watch import IndexWatch
from .workspace import Workspace, open_journal, open_workspace

if TYPE_CHECKING:
    from .changes import Mend
    from .journal import DamagedRecords
    from .redoing import Overwritten
    from .trash import EmptiedTrash, TrashedFile


R = TypeVar("R")
_LOCK_POLL_SECONDS = 0.05


class CacheAccess:
    """The index as it was last read, and the way to change it; `PackerCache` says what there is to do."""

    def __init__(
        self, directory: Path, *, read_only: bool = False, wait: float = 0.0, disk: Disk | None = None
    ) -> None:
        self.directory = Path(directory)
        self.read_only = read_only
        self.wait = wait
        self._disk = disk or Disk()
        self._seen: IndexFile | None = None
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        # One thread of its own: queued writers never keep a lookup waiting.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ocitui-writer")

    async def _look_up(self, action: Callable[[ImageIndex], R]) -> R:
        return await asyncio.to_thread(lambda: action(self._current().contents))

    async def _write(self, doing: str, action: Callable[[Workspace, IndexFile], R]) -> R:
        return await self._patiently(lambda: self._write_now(doing, action))

    async def _patiently(self, call: Callable[[], R]) -> R:
        """Call in the writing thread, and again for ``wait`` seconds while another program holds the lock.

        A cancelled call has no part in the wait, and leaves the thread to finish what it does.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.wait
        while True:
            try:
                return await loop.run_in_executor(self._writer, call)
            except LockedError:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(_LOCK_POLL_SECONDS)

    def _write_now(self, doing: str, action: Callable[[Workspace, IndexFile], R]) -> R:
        if self.read_only:
            raise ReadOnlyError(f"cannot {doing}: the cache was opened read-only")
        with self._writing:
            base = self._current()
            refuse_link(self.directory)
            with storage_errors(doing), open_workspace(self.directory, self._disk, doing) as space:
                recover(space)
                base = self._current()
                try:
                    result = action(space, base)
                except (OSError, CacheError):
                    clear_after_failure(space)
                    raise
                finally:
                    self._adopt(space.published)
                found = look(self.directory)
                space.reserve.refill(found.size if found else 0)
        return result

    def _mend_now(self, doing: str, action: Callable[[Workspace], R]) -> R:
        """Like `_write_now`, where the index may be absent or corrupt."""
        if self.read_only:
            raise ReadOnlyError(f"cannot {doing}: the cache was opened read-only")
        with self._writing, storage_errors(doing), open_workspace(self.directory, self._disk, doing) as space:
            recover(space, index_needed=False)
            try:
                result = action(space)
            except (OSError, CacheError):
                clear_after_failure(space)
                raise
            finally:
                self._adopt(space.published)
            found = look(self.directory)
            if found is None:
                self._forget()
            space.reserve.refill(found.size if found else 0)
        return result

    def _start_as_the_daemon(self) -> None:
        from .changing import reset_index

        seen = read_patiently(self.directory)
        if seen.verdict.outcome is IndexOutcome.ERROR:
            seen.require_sound(self.directory)
        if seen.index is None:
            if self.read_only:
                raise ReadOnlyError("cannot reset the index: the cache was opened read-only")
            with (
                storage_errors("reset the index"),
                self._writing,
                open_workspace(self.directory, self._disk, "reset the index") as space,
            ):
                # Another program may have done it while this one waited for the lock.
                seen = read_patiently(self.directory)
                if seen.index is None and seen.verdict.outcome is not IndexOutcome.ERROR:
                    reset_index(space, seen)
        self._current()

    def _current(self) -> IndexFile:
        """The index as it is on disk. Raises CorruptIndexError, CacheDirectoryError."""
        with self._reading:
            seen, signature = self._seen, look(self.directory)
            if seen is not None and seen.settled and signature is not None and signature == seen.signature:
                return seen
            previous = seen.index if seen else None
            latest = read_once(self.directory, previous)
            if not latest.verdict.sound:
                latest = read_patiently(self.directory, previous)
            if not latest.exists and seen is not None and seen.index:
                raise CorruptIndexError(
                    f"{self.directory / 'index.json'} is gone, though it held {len(seen.index)} entries",
                    hint="nothing was changed; a running daemon writes it again at its next store",
                )
            latest.require_sound(self.directory)
            self._seen = latest
            return latest

    def _forget(self) -> None:
        """Take an index that is absent as it is: it was taken away on purpose."""
        with self._reading:
            self._seen = None

    def _adopt(self, seen: IndexFile | None) -> None:
        """Take over a sound index that was read or written elsewhere in this program."""
        if seen is not None and seen.index is not None:
            with self._reading:
                self._seen = seen


# `PackerCache.list` hides the builtin from annotations inside the class.
Entries = list[Entry]
Transactions = list[Transaction]
Overwrites: TypeAlias = "list[Overwritten]"
Trashed: TypeAlias = "list[TrashedFile]"


class PackerCache(CacheAccess):
    """One cache directory. Reading never writes, takes no lock, and looks each time whether index.json changed.

    Writing is done under the lock, in a thread that is never abandoned: a cancelled call leaves a whole transaction
    behind. ``wait`` is how many seconds a writer waits for the lock.
    """

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
            await cache._patiently(cache._start_as_the_daemon)
        else:
            await asyncio.to_thread(cache._current)
        return cache

    async def close(self) -> None:
        """Wait for a transaction under way to end."""
        await asyncio.to_thread(self.wait_for_transaction)

    def wait_for_transaction(self) -> None:
        """Return once no transaction of this object is under way; for a program that has to leave."""
        with self.between_transactions():
            return

    @contextmanager
    def between_transactions(self) -> Iterator[None]:
        """Within it no transaction of this object is under way, nor begins."""
        with self._writing:
            yield

    async def __aenter__(self) -> PackerCache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def list(self) -> list[Descriptor]:
        """The index's descriptors, in order."""
        return list((await self.index()).descriptors)

    async def index(self) -> ImageIndex:
        """The index as it is now. Raises CorruptIndexError, CacheDirectoryError."""
        return (await asyncio.to_thread(self._current)).contents

    async def entries(self) -> Entries:
        """An entry for each descriptor, in order, with its files' state by one listing of the directory."""

        def read() -> Entries:
            index = self._current().contents
            return Listing.read(self.directory).entries(list(index.descriptors))

        return await asyncio.to_thread(read)

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

    async def store(self, packed: PackedImage) -> PackedImage:
        """Bring an image in; its file at ``packed.path`` is moved to its place, and the entry appended to the index.

        An entry of the same digest and format is replaced. Raises InvalidPackedImageError, CorruptIndexError,
        LockedError, ConflictError, ReadOnlyError, StorageError; the cache is then as it was.
        """
        await asyncio.to_thread(storing.check, packed)
        return await self._write("store an image", lambda space, base: storing.store(space, base, packed))

    async def plan_delete(self, keys: Collection[Key]) -> DeletePlan:
        """What `delete` would do. Raises NoSuchEntryError."""
        return await self._look_up(lambda index: deleting.plan_for_reader(self.directory, index, keys))

    async def delete(self, keys: Collection[Key], plan: DeletePlan | None = None) -> Transaction:
        """Take entries out of the index in one transaction, then their files to the trash.

        With ``plan``, only what it says: PlanChangedError where that would be different by now. Raises
        NoSuchEntryError, CorruptIndexError, LockedError, ConflictError, ReadOnlyError, StorageError.
        """
        wanted = [(digest, format_) for digest, format_ in keys]
        return await self._write("delete entries", lambda space, base: deleting.delete(space, base, wanted, plan))

    async def mend(self, mend: Mend) -> Transaction:
        """Make a mend: files in, modes, the index, files out, in one transaction that `undo` reverses byte for byte.

        It needs no sound index unless it edits one. Raises PlanChangedError where anything it names is not what was
        seen, CorruptIndexError, DocumentError, LockedError, ConflictError, ReadOnlyError, StorageError.
        """
        from .changing import make_mend

        previous = self._seen.index if self._seen else None
        return await self._patiently(
            lambda: self._mend_now("mend the cache", lambda space: make_mend(space, mend, previous))
        )

    async def undo(self, transaction_id: str | None = None) -> Transaction:
        """Reverse a transaction, the newest that can be when no id is given; gives the transaction that did it.

        Raises NoSuchTransactionError, and ConflictError where something stands in the place.
        """
        from .undoing import undo_marked

        doing = "undo a transaction"

        def act(space: Workspace, base: IndexFile) -> Transaction:
            target = undoing.find_target(space.journal, transaction_id)
            return undo_marked(space, target) if target.marked else undoing.undo(space, base, target)

        def undo_now() -> Transaction:
            # Which one it is says whether the index has to read for it; under the lock it is looked up again.
            target = self._peek(transaction_id)
            if target is None or not target.marked:
                return self._write_now(doing, act)
            return self._mend_now(doing, lambda space: undo_marked(space, space.journal.read(target.id)))

        return await self._patiently(undo_now)

    async def redo(self, transaction_id: str) -> Transaction:
        """Do again what another program's rewrite of the index undid of a transaction: see `overwritten`.

        Raises NoSuchTransactionError, and ConflictError where it still stands or an entry's files are gone.
        """
        from .redoing import redo

        return await self._write(
            "do a transaction again", lambda space, base: redo(space, base, space.journal.read(transaction_id))
        )

    async def overwritten(self) -> Overwrites:
        """The newest transactions of which something no longer stands in the index, though none of ours took it back.

        Newest first. Raises CorruptIndexError, StorageError.
        """
        from .redoing import find_overwritten

        return await self._look_up(lambda index: find_overwritten(self.directory, index))

    async def trash(self) -> Trashed:
        """Every file in the trash, newest first. Raises StorageError."""
        from .trash import list_trash

        return await asyncio.to_thread(list_trash, self.directory)

    async def restore(self, names: Collection[str]) -> Transaction:
        """Bring files back from the trash, by their names there, each to its place; `undo` reverses it.

        Raises ConflictError where something stands in the place, LockedError, ReadOnlyError, StorageError.
        """
        from .trash import restore

        return await self._patiently(
            lambda: self._mend_now("restore from the trash", lambda space: restore(space, names))
        )

    async def empty_trash(self, before: float | None = None, ids: Collection[str] | None = None) -> EmptiedTrash:
        """Remove files of the trash for good, and with that the undo of their transactions.

        Those of transactions begun ``before``, in seconds since the epoch, and of these ``ids``; of all that ended
        where neither is given. Files that no readable record names go only by the id in their name. Raises
        NoSuchTransactionError, LockedError, ReadOnlyError, StorageError.
        """
        from .trash import empty

        return await self._patiently(lambda: self._mend_now("empty the trash", lambda space: empty(space, before, ids)))

    async def damaged_records(self) -> DamagedRecords:
        """The journal's records that cannot be read, newest first. Raises StorageError."""

        def read() -> DamagedRecords:
            with storage_errors("read the journal"), open_journal(self.directory) as journal:
                return journal.damaged() if journal else []

        return await asyncio.to_thread(read)

    async def transactions(self) -> Transactions:
        """Every transaction in the journal, newest first. Raises StorageError."""

        def read() -> Transactions:
            with storage_errors("read the journal"), open_journal(self.directory) as journal:
                return journal.list(tuple(TransactionState)) if journal else []

        return await asyncio.to_thread(read)

    async def examine(self) -> Verdict:
        """What the daemon would do with index.json as it is now. Raises CacheDirectoryError."""
        return (await asyncio.to_thread(read_patiently, self.directory)).verdict

    def watch(self) -> IndexWatch:
        """The index as a stream of differences, beginning with all of it; never raises for what the disk does."""
        return IndexWatch(self.directory, self._adopt)

    def _peek(self, transaction_id: str | None) -> Transaction | None:
        """The transaction that is to be undone, read without the lock; None where it takes the lock to tell."""
        with suppress(OSError, CacheError), open_journal(self.directory) as journal:
            return undoing.find_target(journal, transaction_id) if journal else None
        return None
