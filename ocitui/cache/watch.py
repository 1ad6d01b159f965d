"""index.json as a stream of differences.

Events from watchfiles make it quick; the authority is one stat a second, since events are lost when their queue
overflows, behind links and on network file systems. A file that does not read is taken for one being written until it
has been so for a second, and for a corrupt one only when the same bytes stay.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import cached_property
from pathlib import Path

import msgspec

from .descriptors import Descriptor
from .errors import CacheDirectoryError, Condition, Health
from .files import INDEX_NAME, FileIdentity, identity_of
from .index import (
    PATIENCE_SECONDS,
    EntryKey,
    ImageIndex,
    IndexDifference,
    IndexFile,
    Winners,
    index_signature,
    read_once,
)

# How long watchfiles sleeps, and how long it gathers, in milliseconds.
_STEP_MS, _DEBOUNCE_MS = 100, 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# The masks of a process's inotify watches, by the inode; see proc(5), inotify(7).
_IN_OPEN, _MASKS = 0x20, re.compile(r"ino:(\w+) sdev:\w+ mask:(\w+)")


class DirectoryEvents:
    """Names that changed in a directory, while its parent is watched for the directory's own coming and going;
    ``trouble`` says why events cannot be relied on, empty while they can."""

    def __init__(self, directory: Path) -> None:
        # Names are told by their paths, which come back absolute.
        self._directory = Path(os.path.abspath(directory))
        # None: any name may have changed.
        self._names: set[str] | None = set()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._inode: tuple[int, int] | None = None
        self._task = asyncio.create_task(self._follow(), name="directory events")
        self.trouble = ""

    async def wait(self, seconds: float) -> frozenset[str] | None:
        """The names that changed, that of the index among them, after at most ``seconds``; None when any may have."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
        if self._identity() != self._inode:
            # Removed, or made again: the old watch stays silent for ever.
            self._stop.set()
        names, self._names = self._names, set()
        return None if names is None else frozenset(names)

    def wake(self) -> None:
        """End the wait that is under way, as if any name had changed."""
        self._names = None
        self._wake.set()

    async def close(self) -> None:
        self._stop.set()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _identity(self) -> tuple[int, int] | None:
        found = identity_of(self._directory)
        return found and found[:2]

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
            self.wake()
            await asyncio.sleep(pause)

    async def _watch(self) -> None:
        # It brings anyio along: a headless command does without both, and a screen paints before them.
        from watchfiles import Change, awatch

        # What happened before the watch began is looked for once more.
        self.wake()
        paths, own = [*dict.fromkeys([self._directory, self._directory.parent])], str(self._directory)
        # When it waits for the first time, it has begun to watch.
        asyncio.get_running_loop().call_soon(_ignore_opening, paths)
        async for changes in awatch(
            *paths, watch_filter=None, recursive=False, step=_STEP_MS, debounce=_DEBOUNCE_MS, stop_event=self._stop
        ):
            self.trouble = ""
            names = {os.path.basename(path) for _, path in changes if os.path.dirname(path) == own}
            if self._names is not None:
                self._names |= names
            own_changes = [change for change, path in changes if path == own]
            if any(change is not Change.modified for change in own_changes):
                # Removed, or made again: the old watch stays silent for ever, and the new one may have its inode.
                self.wake()
                self._stop.set()
            elif names or own_changes:
                self._wake.set()


def _ignore_opening(paths: Iterable[Path]) -> None:
    """Have the kernel tell nothing where a file in one of these is opened: watchfiles asks for that and drops it, and
    each of the 300,000 documents that are read would cost twice as much, and fill the queue of events."""
    from ctypes import CDLL

    with suppress(OSError, AttributeError):
        for fd in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                masks = dict(_MASKS.findall(Path(f"/proc/self/fdinfo/{fd}").read_text()))
                for path in paths:
                    if mask := int(masks.get(f"{os.stat(path).st_ino:x}", "0"), 16):
                        CDLL(None).inotify_add_watch(int(fd), os.fsencode(path), mask & ~_IN_OPEN)


def _cause(error: BaseException) -> str:
    """The first error inside a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


POLL_SECONDS = 1.0
_LOOK_AGAIN_SECONDS, _EVENT_SECONDS = 0.05, 0.3


def to_the_second(seconds: float) -> float:
    """About so many seconds, to a full one of the clock: all that looks now and then does so in one waking."""
    now = time.monotonic()
    return seconds if seconds < 1 else round(now + seconds) - now


class Difference(msgspec.Struct, eq=False, dict=True):
    """What changed since the last one. ``file`` is the newest reading of index.json that was sound, None before there
    was any; ``broken`` is what ``health`` speaks of where that does not read. ``files`` are names in the directory that
    may have changed, None where any may have. What differs from the index before is worked out when asked for."""

    health: Health
    file: IndexFile | None
    _previous: IndexFile | None
    files: frozenset[str] | None
    broken: IndexFile | None = None

    @property
    def index(self) -> ImageIndex | None:
        """The index as it was last read; None where there is none, and before one was read."""
        return None if self.file is None else self.file.index

    @property
    def descriptors(self) -> list[Descriptor]:
        """All that were last read, in order."""
        return [*_contents(self.file).descriptors]

    @property
    def added(self) -> dict[EntryKey, Descriptor]:
        return _at(self.file, self._between.added)

    @property
    def removed(self) -> dict[EntryKey, Descriptor]:
        return _at(self._previous, self._between.removed)

    @property
    def changed(self) -> dict[EntryKey, Descriptor]:
        """Those that are listed as before, but are other descriptors."""
        return _at(self.file, self._between.changed)

    @property
    def won(self) -> Winners:
        """Names that stand for another entry than before, or for none: now, and before."""
        return _contents(self.file).won(_contents(self._previous), self._between)

    @property
    def replaced(self) -> bool:
        """Whether it is another index, be its entries the same."""
        return self.file is not self._previous

    @cached_property
    def _between(self) -> IndexDifference:
        return _contents(self.file).difference(_contents(self._previous))


def _contents(file: IndexFile | None) -> ImageIndex:
    return ImageIndex.empty() if file is None else file.contents


def _at(file: IndexFile | None, positions: Sequence[int]) -> dict[EntryKey, Descriptor]:
    index = _contents(file)
    keys = index.keys()
    return {keys[at]: index.descriptors[at] for at in positions}


class IndexWatch(AbstractAsyncContextManager["IndexWatch"]):
    """The stream of differences of one directory, beginning with all of it. `aclose`, or ``async with``, ends it.
    A call of `anext` that is cancelled loses nothing: the next one gives what it would have given."""

    def __init__(self, directory: Path, adopt: Callable[[IndexFile], None]) -> None:
        """``adopt`` is called with each sound index before its difference is given."""
        self._directory = directory
        self._adopt = adopt
        self._events: DirectoryEvents | None = None
        self._stream = self._differences()
        self._next: asyncio.Future[Difference] | None = None
        self._good: IndexFile | None = None
        self._doubt: _Doubt | None = None
        self._health: Health | None = None
        self._folder: FileIdentity | None = None
        self._forced = False

    def __aiter__(self) -> IndexWatch:
        return self

    async def __anext__(self) -> Difference:
        coming = self._next = self._next or asyncio.ensure_future(anext(self._stream))
        try:
            return await asyncio.shield(coming)
        finally:
            if coming.done():
                self._next = None

    def read_again(self) -> None:
        """Read the index and take every file for changed, whatever is known; a difference tells of it."""
        self._forced = True
        if self._events is not None:
            self._events.wake()

    async def aclose(self) -> None:
        """Stop watching."""
        if self._next is not None:
            self._next.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await self._next
        await self._stream.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _differences(self) -> AsyncGenerator[Difference, None]:
        events = self._events = DirectoryEvents(self._directory)
        try:
            names: frozenset[str] | None = None
            while True:
                # A look that shows nothing new takes microseconds; what takes longer is for a thread.
                if names is None or names - {INDEX_NAME} or not self._is_as_it_was(events.trouble):
                    difference = await asyncio.to_thread(self._look, names, events.trouble)
                    if difference is not None:
                        yield difference
                names = await events.wait(to_the_second(POLL_SECONDS) if self._settled else _LOOK_AGAIN_SECONDS)
                before, self._folder = self._folder, identity_of(self._directory)
                if before != self._folder and names == frozenset():
                    # A name came or went; most probably an event is on its way that says which.
                    names = await events.wait(_EVENT_SECONDS) or None
        finally:
            await events.close()

    def _is_as_it_was(self, polling: str) -> bool:
        """Whether index.json is the file that was read last, and nothing is to be said of it."""
        if self._forced or self._health is None or self._health.polling != polling or not self._settled:
            return False
        known = self._good if self._doubt is None else self._doubt.seen
        if known is None or known.signature is None or not known.settled:
            return False
        return index_signature(self._directory) == known.signature

    @property
    def _settled(self) -> bool:
        """Whether nothing is to be looked at again before the next event or second."""
        unsure = (Condition.SOUND, Condition.STALE)
        return self._doubt is None or (self._health is not None and self._health.condition not in unsure)

    def _look(self, names: frozenset[str] | None, polling: str) -> Difference | None:
        """Look once; None when there is nothing to say."""
        forced, self._forced = self._forced, False
        names = None if names is None else names - {INDEX_NAME}
        signature = index_signature(self._directory)
        good = None if forced else self._good
        if good is not None and good.settled and signature is not None and signature == good.signature:
            self._doubt = None
            return self._report(Health(Condition.SOUND, verdict=good.verdict, polling=polling), names)
        try:
            if forced or self._doubt is None or signature is None or signature != self._doubt.seen.signature:
                seen = read_once(self._directory, self._good.index if self._good else None)
            else:
                seen = self._doubt.seen
        except CacheDirectoryError as error:
            condition = Condition.UNREADABLE if self._directory.is_dir() else Condition.GONE
            return self._report(Health(condition, error.message, polling=polling), names)
        if not seen.verdict.sound or not (seen.exists or self._good is None or not self._good.index):
            return self._report(self._doubtful(seen, polling), names)
        self._adopt(seen)
        before, self._good, self._doubt = self._good, seen, None
        health = Health(Condition.SOUND, verdict=seen.verdict, polling=polling)
        if before and (before.contents.data == seen.contents.data or not (before.index or seen.index)):
            return self._report(health, names)
        self._health = health
        return Difference(health, seen, before, names)

    def _doubtful(self, seen: IndexFile, polling: str) -> Health | None:
        """What is said of an index that does not read, or is gone, once that has lasted; None before there was any."""
        now = time.monotonic()
        doubt = self._doubt or _Doubt(seen, now, now)
        if seen.signature != doubt.seen.signature:
            doubt = _Doubt(seen, doubt.since, now)
        self._doubt = doubt
        if now - doubt.since < PATIENCE_SECONDS:
            return self._health
        if not seen.exists:
            return Health(Condition.MISSING, "index.json is gone", seen.verdict, polling)
        condition = Condition.CORRUPT if now - doubt.same_since >= PATIENCE_SECONDS else Condition.STALE
        return Health(condition, seen.verdict.place, seen.verdict, polling)

    def _report(self, health: Health | None, names: frozenset[str] | None) -> Difference | None:
        """A difference in health or files only; None when neither changed."""
        known, self._health = self._health, health
        if health is None or (known == health and names == frozenset()):
            return None
        doubt = self._doubt.seen if self._doubt is not None and not health.sound else None
        return Difference(health, self._good, self._good, names, doubt)


class _Doubt(msgspec.Struct, frozen=True):
    """An index that does not read: since when, and since when its bytes are the same (monotonic seconds)."""

    seen: IndexFile
    since: float
    same_since: float
