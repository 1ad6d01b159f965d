"""How a cache is reached: reading looks each time, writing is done under the lock by one thread that is never left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from .disk import Disk, storage_errors
from .errors import CacheError, CorruptIndexError, LockedError, ReadOnlyError
from .index import ImageIndex
from .index_file import IndexFile, look, read_once, read_patiently, refuse_link
from .transactions import clear_after_failure, recover
from .verdict import IndexOutcome
from .workspace import Workspace, open_workspace

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
        from .resetting import reset_index

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
