"""index.json as a stream of differences.

Events from watchfiles make it quick; the authority is one stat a second, since events are lost when their queue
overflows, behind links and on network file systems. A file that does not read is taken for one being written until it
has been so for a second, and for a corrupt one only when the same bytes stay.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .files import INDEX_NAME

if TYPE_CHECKING:
    from watchfiles import Change


import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace

from .descriptors import Descriptor
from .entries import EntryKey
from .errors import CacheDirectoryError
from .index import ImageIndex
from .index_file import PATIENCE_SECONDS, IndexFile, look, read_once
from .verdict import Condition, Health

# How long watchfiles sleeps, and how long it gathers, in milliseconds.
_STEP_MS, _DEBOUNCE_MS = 20, 50
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0


class DirectoryEvents:
    """Names that changed in a directory, while its parent is watched for the directory's own coming and going.

    ``trouble`` says why events cannot be relied on; empty while they can.
    """

    def __init__(self, directory: Path) -> None:
        # Names are told by their paths, which come back absolute.
        self._directory = Path(os.path.abspath(directory))
        self._names: set[str] = set()
        self._everything = False
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._inode: tuple[int, int] | None = None
        self._task = asyncio.create_task(self._follow(), name="directory events")
        self.trouble = ""

    async def wait(self, seconds: float) -> frozenset[str] | None:
        """The names that changed, after at most ``seconds``; None when any may have."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()
        if self._identity() != self._inode:
            # Removed, or made again: the old watch stays silent for ever.
            self._stop.set()
        names, everything = frozenset(self._names), self._everything
        self._names.clear()
        self._everything = False
        return None if everything else names - {INDEX_NAME}

    async def close(self) -> None:
        self._stop.set()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._directory)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    async def _follow(self) -> None:
        """Watch, and again after every end; with a growing pause while it fails."""
        pause = _FIRST_PAUSE
        while True:
            self._stop = asyncio.Event()
            self._inode = self._identity()
            if self._inode is None:
                await asyncio.sleep(_FIRST_PAUSE)
                continue
            try:
                await self._watch()
                pause = _FIRST_PAUSE
            except (OSError, RuntimeError, ValueError, ExceptionGroup) as error:
                self.trouble = f"events failed ({_cause(error)}); looking once a second"
                pause = min(pause * 2, _LONGEST_PAUSE)
            self._everything = True
            self._wake.set()
            await asyncio.sleep(pause)

    async def _watch(self) -> None:
        # It brings anyio along: a headless command does without both, and a screen paints before them.
        from watchfiles import awatch

        # What happened before the watch began is looked for once more.
        self._everything = True
        self._wake.set()
        own, inside = str(self._directory), f"{self._directory}{os.sep}"

        def concerns_us(_: Change, path: str) -> bool:
            return path == own or (path.startswith(inside) and os.sep not in path[len(inside) :])

        paths = dict.fromkeys([self._directory, self._directory.parent])
        async for changes in awatch(
            *paths,
            watch_filter=concerns_us,
            recursive=False,
            step=_STEP_MS,
            debounce=_DEBOUNCE_MS,
            stop_event=self._stop,
        ):
            self.trouble = ""
            self._names.update(path[len(inside) :] for _, path in changes if path != own)
            self._wake.set()


def _cause(error: BaseException) -> str:
    """The first error inside a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


POLL_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed since the last one. ``descriptors`` and ``keys`` are those of the ``index`` that was last read.

    ``files`` are names in the directory that may have changed; None means that any may have.
    """

    health: Health
    index: ImageIndex
    descriptors: list[Descriptor]
    keys: list[EntryKey]
    added: dict[EntryKey, Descriptor] = field(default_factory=dict)
    removed: dict[EntryKey, Descriptor] = field(default_factory=dict)
    changed: dict[EntryKey, Descriptor] = field(default_factory=dict)
    files: frozenset[str] | None = frozenset()


class IndexWatch:
    """The stream of differences of one directory, beginning with all of it. `aclose`, or ``async with``, ends it.

    A call of `anext` that is cancelled loses nothing: the next one gives what it would have given.
    """

    def __init__(self, directory: Path, adopt: Callable[[IndexFile], None]) -> None:
        """``adopt`` is called with each sound index before its difference is given."""
        self._stream = _Watch(directory, adopt).stream()
        self._next: asyncio.Future[Difference] | None = None

    def __aiter__(self) -> IndexWatch:
        return self

    async def __anext__(self) -> Difference:
        coming = self._next = self._next or asyncio.ensure_future(anext(self._stream))
        try:
            return await asyncio.shield(coming)
        finally:
            if coming.done():
                self._next = None

    async def aclose(self) -> None:
        """Stop watching."""
        if self._next is not None:
            self._next.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await self._next
        await self._stream.aclose()

    async def __aenter__(self) -> IndexWatch:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Watch:
    """What was last seen of one directory."""

    def __init__(self, directory: Path, adopt: Callable[[IndexFile], None]) -> None:
        self._directory = directory
        self._adopt = adopt
        self._good: IndexFile | None = None
        self._index = ImageIndex.empty()
        self._keys: list[EntryKey] = []
        self._descriptors: list[Descriptor] = []
        self._doubt: _Doubt | None = None
        self._health: Health | None = None
        self._folder: tuple[int, int] | None = None

    async def stream(self) -> AsyncGenerator[Difference, None]:
        events = DirectoryEvents(self._directory)
        try:
            names: frozenset[str] | None = None
            while True:
                difference = await asyncio.to_thread(self._look, names, events.trouble)
                if difference is not None:
                    yield difference
                names = await events.wait(POLL_SECONDS if self._settled else _LOOK_AGAIN_SECONDS)
        finally:
            await events.close()

    @property
    def _settled(self) -> bool:
        """Whether nothing is to be looked at again before the next event or second."""
        unsure = (Condition.SOUND, Condition.STALE)
        return self._doubt is None or (self._health is not None and self._health.condition not in unsure)

    def _look(self, names: frozenset[str] | None, polling: str) -> Difference | None:
        """Look once; None when there is nothing to say."""
        if self._folder_changed() and not names:
            names = None
        signature = look(self._directory)
        good = self._good
        if good is not None and good.settled and signature is not None and signature == good.signature:
            self._doubt = None
            return self._report(Health(Condition.SOUND, verdict=good.verdict, polling=polling), names)
        try:
            if self._doubt is None or signature is None or signature != self._doubt.seen.signature:
                seen = read_once(self._directory, good.index if good else None)
            else:
                seen = self._doubt.seen
        except CacheDirectoryError as error:
            condition = Condition.UNREADABLE if self._directory.is_dir() else Condition.GONE
            return self._report(Health(condition, error.message, polling=polling), names)
        if seen.verdict.sound and (seen.exists or not self._keys):
            self._doubt = None
            return self._take(seen, names, polling)
        return self._wait(seen, names, polling)

    def _folder_changed(self) -> bool:
        """Whether a name came or went in the directory since the last look, whatever the events say."""
        try:
            found = os.stat(self._directory)
        except OSError:
            now = None
        else:
            now = (found.st_ino, found.st_mtime_ns)
        changed, self._folder = now != self._folder, now
        return changed

    def _wait(self, seen: IndexFile, names: frozenset[str] | None, polling: str) -> Difference | None:
        """The index does not read, or is gone: say so once that has lasted, and keep the last good rows."""
        now = time.monotonic()
        doubt = self._doubt or _Doubt(seen, now, now)
        if seen.signature != doubt.seen.signature:
            doubt = _Doubt(seen, doubt.since, now)
        self._doubt = doubt
        if now - doubt.since < PATIENCE_SECONDS:
            return self._report(self._health, names) if self._health else None
        if not seen.exists:
            return self._report(Health(Condition.MISSING, "index.json is gone", polling=polling), names)
        condition = Condition.CORRUPT if now - doubt.same_since >= PATIENCE_SECONDS else Condition.STALE
        return self._report(Health(condition, seen.verdict.place, seen.verdict, polling), names)

    def _take(self, seen: IndexFile, names: frozenset[str] | None, polling: str) -> Difference | None:
        """A sound index: what differs from the last one."""
        self._adopt(seen)
        first, self._good, old, self._index = self._good is None, seen, self._index, seen.contents
        change = self._index.difference(old)
        health = Health(Condition.SOUND, verdict=seen.verdict, polling=polling)
        if not first and change.beginning + change.end == len(old) == len(self._index):
            return self._report(health, names)
        stop = len(self._index) - change.end
        before, fresh = self._descriptors, self._index.descriptors[change.beginning : stop]
        now = self._descriptors = [*before[: change.beginning], *fresh, *before[len(old) - change.end :]]
        gone, keys = self._keys, self._index.keys()
        self._keys = keys
        self._health = health
        return replace(
            self._difference(health, names),
            added={keys[at]: now[at] for at in change.added},
            removed={gone[at]: before[at] for at in change.removed},
            changed={keys[at]: now[at] for at in change.changed},
        )

    def _report(self, health: Health, names: frozenset[str] | None) -> Difference | None:
        """A difference in health or files only; None when neither changed."""
        known, self._health = self._health, health
        return None if known == health and names == frozenset() else self._difference(health, names)

    def _difference(self, health: Health, names: frozenset[str] | None) -> Difference:
        return Difference(health, self._index, self._descriptors, self._keys, files=names)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """An index that does not read: since when, and since when its bytes are the same (monotonic seconds)."""

    seen: IndexFile
    since: float
    same_since: float
