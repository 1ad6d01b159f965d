"""One cache as every screen shows it, kept in step with the disk: judge, entries, what is wrong. Rows, header, banner
and problems are drawn from what was published here, so that they cannot disagree."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ocitui.cache import CacheDirectoryError, CacheError, Condition, Health, IndexOutcome, identity_of
from ocitui.stand_in import fact_of
from ocitui.threads import Stop, giving_way, in_thread

from .live_host import LiveHost

if TYPE_CHECKING:
    from ocitui.cache import CacheFiles, Difference, IndexWatch, Key, Listing, PackerCache
    from ocitui.doctor import (
        Assessment,
        Coverage,
        Entries,
        EntryState,
        Finding,
        IndexReading,
        Judge,
        Moves,
        Progress,
        Report,
    )
    from ocitui.doctor import JudgedEntry as Entry
    from ocitui.host import Zones

Findings = tuple["Finding", ...]
# Looking at the whole cache, and at what is remembered, takes no more than this share of a core however much happens.
_SHARE = 0.1
_STEP_SECONDS, _WATCH_SECONDS, _REMEMBER_SECONDS, _HOST_SECONDS = 0.2, 1.0, 1.0, 2.0
P_SHOWS_IT = ": p shows it"
_ALARMING = ("index-emptied", "index-shrunk", "index-missing")
_ASSESSED = (*_ALARMING, "index-overwritten")


class LiveChange(msgspec.Struct, frozen=True):
    """What is to be drawn anew. ``another``: the entries are those of another index, in which the ones before stand
    where ``moves`` say (None: there were none); ``gone`` are the keys of those that left it, ``came`` is how many are
    new. ``rows`` are positions of entries of which something else is known by now. ``said`` is for the status line.
    ``only_progress``: a check is further than before, and nothing else is new."""

    another: bool = False
    moves: Moves | None = None
    gone: Sequence[Key] = ()
    came: int = 0
    rows: Collection[int] = ()
    said: str = ""
    only_progress: bool = False


class DeepCheck(msgspec.Struct):
    """A check of all bytes that runs or ran: what it ``found`` so far, by which ``error`` it ended early, what is
    ``said`` of it. ``passing`` is what could not be noted, by its file; it holds while that is the same."""

    running: bool = False
    progress: Progress | None = None
    found: list[Finding] = []
    error: str = ""
    said: str = ""
    passing: list[tuple[tuple[int, ...] | None, Finding]] = []

    def passing_in(self, directory: Path) -> list[Finding]:
        """What could not be noted, of files that are what they were; while it runs, what it found so far."""
        found = [one for identity, one in self.passing if identity_of(directory / one.file) == identity]
        return [*found, *self.found] if self.running else found


class _Published(msgspec.Struct):
    """What entries are drawn from: the listing, and each one's state by position."""

    listing: Listing
    states: list[EntryState]

    def state_at(self, position: int) -> EntryState:
        return self.states[position]


class LiveCache:
    """What is known of one cache. Who shows it runs the coroutines that have no end, and sets ``tell``, which is called
    on the event loop with each change. ``open_cache`` loads the core; ``writable`` is what was asked for."""

    def __init__(self, directory: Path, open_cache: Callable[[], PackerCache], *, writable: bool = True) -> None:
        self._directory, self._open_cache, self._writable = directory, open_cache, writable
        self.tell: Callable[[LiveChange], object] = lambda _: None
        self.health = Health(Condition.SOUND)
        self.loaded, self.as_of = False, 0.0
        """Whether the cache was read, however it is; when its index was sound last, in seconds since the epoch."""
        self.read_only = ""
        self.host = LiveHost(directory)
        self.entries: Entries | None = None
        self.size = 0
        """What all packed files hold, in bytes."""
        self.severities = Counter[str]()
        """How many findings there are of each severity, those that are accepted not counted."""
        self.about_cache: Findings = ()
        """What is wrong beside the entries."""
        self.assessment: Assessment | None = None
        """Which copy of the index is good, where there is reason to ask."""
        self.deep = DeepCheck()
        self.judge: Judge | None = None
        """Who says what is wrong; a check or a plan of this program goes on from its facts, and calls `look_over`."""
        self._memory: tuple[object, ...] = ()
        self._published: _Published | None = None
        self._watch: IndexWatch | None = None
        self._looking: Generator[list[str]] | None = None
        # Whether states could not be told, so that all are to be told once they can.
        self._missed = False
        # Names that may have changed and were not looked at; None: any.
        self._names: frozenset[str] | None = None
        # One task at a time takes or looks, and publishes what came of it.
        self._turn = asyncio.Lock()
        self._news, self._looked = asyncio.Event(), asyncio.Event()
        self._to_keep = asyncio.Queue[Condition]()
        self._said_of_copy = ""
        self._cache_stale = self._looked_at_cache = self._reading_again = False
        self._cache_due = self._remember_due = self._count_due = 0.0
        self._told_overwritten: frozenset[str] = frozenset()
        self._zones: Zones | None = None

    # What screens ask for

    @property
    def total(self) -> int:
        return 0 if self.entries is None else len(self.entries)

    @property
    def alarm(self) -> str:
        """What an operator must not miss, though the daemon would load the index: entries were lost; empty: nothing."""
        lost = (one for one in self.about_cache if one.code in _ALARMING and one.is_problem)
        return next((one.seen for one in lost), "")

    @property
    def complete(self) -> bool:
        """Whether all entries were looked into once, and the cache as a whole."""
        return self.judge is not None and self.judge.complete and self._looked_at_cache

    @property
    def looking(self) -> bool:
        """Whether something was not looked at yet."""
        return not self._looked.is_set()

    @property
    def coverage(self) -> Coverage:
        """How deep the states of the entries rest."""
        from ocitui.doctor import Coverage, Reach

        states = self._published.states if self._published is not None else []
        depths = Counter(map(attrgetter("depth"), states))
        reaches = Counter({Reach(depth): number for depth, number in depths.items() if depth is not None})
        return replace(Coverage.of(reaches, 0, self.judge.unchecked if self.judge else ()), entries=len(states))

    def findings(self) -> Findings:
        """All that is known to be wrong, in order. Not on the event loop."""
        judge, deep = self.judge, self.deep
        if judge is None:
            return ()
        with judge.turn:
            found = judge.findings()
        if not (more := deep.passing_in(self._directory)):
            return found
        from ocitui.doctor import in_order

        known = {one.fingerprint for one in found}
        return in_order([*found, *judge.accepted.mark(one for one in more if one.fingerprint not in known)])

    def findings_of(self, entry: Entry) -> Findings | None:
        """What is wrong with an entry; None as long as it was not looked into. Not on the event loop."""
        judge = self.judge
        if judge is None:
            return None
        with judge.turn:
            index = judge.reading.index
            if index is None:
                state, found = judge.state_by_files(entry.digest, entry.format)
            else:
                _, *wanted, nth = entry.key
                same = [at for at, digest in enumerate(index.digests) if digest == entry.digest]
                same = [at for at in same if [index.formats[at] or "", index.names[at] or ""] == wanted]
                if len(same) <= nth:
                    return None
                state, found = judge.state_at(same[nth]), judge.findings_at(same[nth])
        return None if state.depth is None and not found else found

    async def report(self) -> Report:
        """What the judge says by now, for a plan, once everything was looked at."""
        await self.settle()
        return await asyncio.to_thread(self._report)

    def _report(self) -> Report:
        from ocitui.doctor import Depth, Report

        judge = self.judge
        if judge is None:
            raise CacheDirectoryError(f"{self._directory} was not read yet")
        with judge.turn:
            found, verdict = self.findings(), judge.reading.verdict
            passing = frozenset(one.fingerprint for one in self.deep.passing_in(self._directory))
            return Report(self._directory, Depth.HEADER, found, self.coverage, verdict, deep_only=passing, judge=judge)

    async def settle(self) -> None:
        """Return once everything was looked at, the cache as a whole too."""
        self._cache_due = 0.0
        self._news.set()
        await self._looked.wait()

    # Following the disk

    async def follow(self) -> None:
        """Take what changes in the index and the directory. Has no end."""
        async with self._open_cache().watch() as self._watch:
            async for difference in self._watch:
                self._looked.clear()
                await self._show(difference)
                await self._judge_now(difference)
                self._reading_again = self._reading_again and difference.files is not None
                self._cache_stale = True
                self._news.set()

    def read_again(self) -> None:
        """Read the index and list the directory again; nothing that is known is forgotten."""
        if self._watch is not None:
            self._looked.clear()
            self._reading_again = True
            self._watch.read_again()

    async def _show(self, difference: Difference) -> None:
        """Publish the index as it is, with what is known of its entries."""
        async with self._turn:
            laid_out = await asyncio.to_thread(self._lay_out, difference)
            if difference.health.condition is not self.health.condition:
                self._cache_due = 0.0
            self.health, self.loaded = difference.health, True
            if difference.health.sound:
                self.as_of = time.time()
            change = LiveChange()
            if laid_out is not None:
                self.entries, self._published, change = laid_out
            self.tell(change)
        health = difference.health
        loaded = health.verdict is not None and health.verdict.outcome is IndexOutcome.LOADED
        if health.condition in (Condition.CORRUPT, Condition.MISSING) or (health.sound and loaded):
            self._to_keep.put_nowait(health.condition)

    def _lay_out(self, difference: Difference) -> tuple[Entries, _Published, LiveChange] | None:
        """The entries of the index, None where they are what they were; those of one that does not read stay."""
        from ocitui.cache import ImageIndex, Listing
        from ocitui.doctor import NOT_LOOKED, Entries

        self.read_only = self.why_read_only()
        before, published = self.entries, self._published
        index = difference.index
        if not difference.health.sound or (before is not None and before.index is index):
            return None
        if index is None:
            index = ImageIndex.empty()
        listing = self.judge.listing if self.judge is not None else Listing()
        now = _Published(listing, [NOT_LOOKED] * len(index))
        entries = Entries(index, now, self.host.users, self.host.doubt)
        if before is None or published is None:
            # Worked out here, as the first key that is asked for needs it.
            entries.prepare()
            return entries, now, LiveChange(another=True)
        moves = entries.moves_from(before)
        now.states = [*moves.carry(published.states, NOT_LOOKED)]
        entries.prepare()
        middle = range(moves.head, moves.before - moves.tail)
        gone = [(before.digests[at], before.formats[at]) for at in middle if at not in moves.middle]
        came = len(moves.touched) - len(moves.middle)
        return entries, now, LiveChange(another=True, moves=moves, gone=gone, came=came)

    def why_read_only(self) -> str:
        """Why the cache may not be written, empty where it may: asks the file system, so not on the event loop."""
        if (form := fact_of(self._directory, "form")) is not None:
            login = fact_of(self._directory, "login")
            there = f"; there: {login}" if login else ""
            return f"it is {form} of {fact_of(self._directory, 'host')}{there}"
        if not self._writable:
            return "started with --read-only"
        if self._directory.is_dir() and not os.access(self._directory, os.W_OK):
            return "this user may not write to the directory"
        return ""

    async def _judge_now(self, difference: Difference) -> None:
        """Have the judge take what changed, to look into it."""
        both = None if self._names is None or difference.files is None else self._names | difference.files
        self._names = both if self.judge is not None else None
        async with self._turn:
            if await asyncio.to_thread(self._take, difference):
                self._publish_listing()

    def _take(self, difference: Difference) -> bool:
        """Gives whether anything could be taken: a directory that is gone leaves all as it was."""
        from ocitui.cache import CacheFiles
        from ocitui.doctor import Judge

        judge, names = self.judge or Judge(self._directory), self._names
        if self.judge is None:
            self._memory = judge.memory()
        try:
            with giving_way():
                with CacheFiles(self._directory) as files:
                    reading = self._reading(files, judge, difference)
                if reading is None:
                    return False
                if self.judge is None and reading.index:
                    judge.begin(reading)
                else:
                    judge.take(reading, names)
        except CacheDirectoryError:
            self._names = None
            return False
        self._names, self.judge, self._looking = frozenset(), judge, judge.look()
        self.size = judge.listing.packed_bytes
        return True

    def _reading(self, files: CacheFiles, judge: Judge, difference: Difference) -> IndexReading | None:
        """The index as the judge takes it; None where another difference is about to tell of another one."""
        from ocitui.doctor import IndexReading, read_index

        seen = difference.file if difference.health.sound else difference.broken
        if seen is not None:
            return IndexReading.of(files, seen)
        if self.judge is not None and judge.reading.index is None and judge.reading.is_current(files.directory):
            return judge.reading
        reading = read_index(files, None if difference.file is None else difference.file.index)
        return reading if reading.index is None else None

    def _publish_listing(self) -> None:
        """Files that were listed anew may be others than before."""
        judge, published = self.judge, self._published
        if judge is not None and published is not None and published.listing is not judge.listing:
            published.listing, self.size = judge.listing, judge.listing.packed_bytes
            self.tell(LiveChange(rows=range(self.total)))

    # Looking

    async def look(self) -> None:
        """Look into what changed, a little at a time. Has no end."""
        while True:
            wait = max(self._cache_due - time.monotonic(), 0.01) if self._cache_stale else None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
            self._news.clear()
            if not self.health.sound:
                # What to do about the index need not wait for all files.
                await self._look_at_cache()
            while await self._look_on():
                await self._count()
                if self.judge is not None and self.judge.late:
                    # The watch is about to tell of what came before it, and has the directory listed: once will do.
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), _WATCH_SECONDS)
            await self._look_at_cache()
            await self._count(at_last=True)
            if not self._news.is_set() and not self._cache_stale and not self._reading_again:
                self._looked.set()
                self.tell(LiveChange())

    async def _count(self, *, at_last: bool = False) -> None:
        """Count what is wrong, as Problems lists it, where it is time or nothing more is coming."""
        began = time.monotonic()
        if at_last or began >= self._count_due:
            found = await asyncio.to_thread(self.findings)
            self._count_due = time.monotonic() + (time.monotonic() - began) / _SHARE
            self.severities = Counter(one.severity for one in found if one.is_problem)
            self.tell(LiveChange())

    async def _look_on(self) -> bool:
        """Look for a moment, and publish what was seen; gives whether there is more."""
        async with self._turn:
            if self._looking is None:
                return False
            states = await asyncio.to_thread(self._look_for_a_moment, self._looking)
            self._publish_listing()
            self._publish(states)
            return self._looking is not None

    def _look_for_a_moment(self, looking: Generator[list[str]]) -> dict[int, EntryState]:
        looked, until = set[str](), time.monotonic() + _STEP_SECONDS
        with giving_way():
            for some in looking:
                looked.update(some)
                if time.monotonic() > until or (self.judge is not None and self.judge.late):
                    break
            else:
                self._looking = None
            judge, entries = self.judge, self.entries
            if self._missed or judge is None or entries is None:
                return self._states(range(self.total))
            if judge.reading.index is entries.index:
                return self._states(judge.positions_of(looked))
            return self._states([at for at, digest in enumerate(entries.digests) if digest in looked])

    def _states(self, positions: Collection[int]) -> dict[int, EntryState]:
        """The states by now of the entries at these positions; none where the judge has another index than they."""
        judge, entries = self.judge, self.entries
        if judge is None or entries is None:
            self._missed = judge is not None
            return {}
        with judge.turn:
            index = judge.reading.index
            if index is None:
                # The rows are those of the last good index, and the files all that there is to judge by.
                by_files = judge.state_by_files
                return {at: by_files(entries.digests[at], entries.formats[at] or "")[0] for at in positions}
            self._missed = not entries.are_of(index)
            return {} if self._missed else {at: judge.state_at(at) for at in positions}

    def _publish(self, states: dict[int, EntryState]) -> None:
        published = self._published
        if published is None or not states:
            return
        for position, state in states.items():
            published.states[position] = state
        self.tell(LiveChange(rows=states.keys()))

    async def look_over(self) -> None:
        """Publish all that the judge knows by now: somebody else had it look, or it was told what to remember."""
        async with self._turn:
            await self._publish_all()

    async def _publish_all(self) -> None:
        states = await asyncio.to_thread(self._states, range(self.total))
        judge = self.judge
        if judge is not None:
            self.about_cache = judge.accepted.mark(judge.about_cache)
            self._looking = self._looking or judge.look()
        self._publish_listing()
        self._publish(states)
        self.tell(LiveChange())
        self._news.set()

    async def _look_at_cache(self) -> None:
        """Look at the cache as a whole, where it is time."""
        judge = self.judge
        if judge is None or not self._cache_stale or time.monotonic() < self._cache_due:
            self._cache_stale = self._cache_stale and judge is not None
            return
        began, self._cache_stale = time.monotonic(), False
        self.about_cache, self.assessment = await in_thread(lambda stop: self._look_at_cache_now(judge, stop))
        self._cache_due = time.monotonic() + (time.monotonic() - began) / _SHARE
        self._looked_at_cache = True
        self.tell(LiveChange(said=self._overwritten()))

    def _look_at_cache_now(self, judge: Judge, stop: Stop) -> tuple[Findings, Assessment | None]:
        with giving_way():
            found = judge.accepted.mark(judge.look_at_cache(stop))
        asks = not self.health.sound or any(one.code in _ASSESSED and one.is_problem for one in found)
        return found, self._assess() if asks else None

    def _assess(self) -> Assessment | None:
        from ocitui.doctor import assess, gather

        try:
            return assess(gather(self._directory, judge=self.judge, daemon=self.host.daemon))
        except CacheDirectoryError:
            return None

    async def assess(self) -> Assessment | None:
        """Which copy of the index is good, as it is now; None where the directory is gone."""
        assessment = await asyncio.to_thread(self._assess)
        if self.assessment is not None:
            self.assessment = assessment
            self.tell(LiveChange())
        return assessment

    def _overwritten(self) -> str:
        """What there is to say, once, of an edit of ours that another writer undid."""
        edits = [one for one in self.about_cache if one.code == "index-overwritten"]
        new = [one for one in edits if one.fingerprint not in self._told_overwritten]
        self._told_overwritten = frozenset(one.fingerprint for one in edits)
        return f"{new[0].seen}: p offers it again" if new and self.health.sound else ""

    # What is remembered

    async def follow_memory(self) -> None:
        """Read the ledger and the acknowledgements when they change, whoever wrote them. Has no end."""
        from ocitui.cache import to_the_second

        while True:
            # Of a directory that is gone, what was remembered holds.
            judge = None if self.health.condition is Condition.GONE else self.judge
            if judge is not None and await asyncio.to_thread(judge.memory) != self._memory:
                await self.remember()
            await asyncio.sleep(to_the_second(max(_REMEMBER_SECONDS, self._remember_due - time.monotonic())))

    async def remember(self) -> None:
        """What was acknowledged, or found by a deep check, is to be shown."""
        judge, began = self.judge, time.monotonic()
        if judge is None:
            return
        async with self._turn:
            self._memory = await asyncio.to_thread(judge.memory)
            if await asyncio.to_thread(judge.remember):
                self._looked.clear()
                self._looking = judge.look()
            await self._publish_all()
        self._remember_due = time.monotonic() + (time.monotonic() - began) / _SHARE

    # Around the cache

    async def keep_copies(self) -> None:
        """Keep a copy of each index that is seen, of corrupt ones too, unless nothing may be written. Has no end."""
        while True:
            condition = await self._to_keep.get()
            while not self._to_keep.empty():
                condition = self._to_keep.get_nowait()
            if not self.read_only:
                with suppress(CacheError):
                    await self._keep(condition)

    async def _keep(self, condition: Condition) -> None:
        if condition is Condition.SOUND:
            from ocitui.cache import keep_backup

            self._said_of_copy = ""
            index, since = await self._open_cache().index(), self.host.daemon.read_index_by
            await asyncio.to_thread(keep_backup, self._directory, index, since=since)
            return
        if await asyncio.to_thread(self._keep_last_good):
            self._cache_stale, self._cache_due = True, 0.0
            self._news.set()
        if condition is Condition.MISSING:
            return
        from ocitui.doctor import keep_index

        said = await asyncio.to_thread(keep_index, self._directory)
        # What is seen again has its copy: who reads of something else by then is not told twice.
        if said and said != self._said_of_copy:
            # The copy's name is as long as the line.
            self.tell(LiveChange(said=said.partition(", as ")[0]))
        self._said_of_copy = said

    def _keep_last_good(self) -> bool:
        """Keep the index that the rows are of in a directory that was made anew, and knows nothing of it."""
        from ocitui.cache import keep_backup, list_backups

        entries = self.entries
        if entries is None or not len(entries) or list_backups(self._directory):
            return False
        return keep_backup(self._directory, entries.index) is not None

    async def follow_host(self) -> None:
        """Notice when the daemon comes or goes, who holds packed files, and what room there is. Has no end."""
        from ocitui.cache import to_the_second

        while True:
            now = time.monotonic()
            daemon, room = await asyncio.to_thread(self.host.look)
            if daemon:
                self._cache_stale = True
                self._news.set()
            if daemon or room:
                self.tell(LiveChange())
            self._tell_users()
            await self._note_use()
            await asyncio.sleep(to_the_second(max(_HOST_SECONDS, (time.monotonic() - now) / _SHARE)))

    async def _note_use(self) -> None:
        """Keep who was seen to use what: when an image was last of use, and since when that was looked at."""
        judge, found = self.judge, self.host.found
        # No ledger is made only to hold that nobody used anything.
        if judge is not None and found is not None and (found.names or self._memory[0]) and not self.read_only:
            from ocitui.doctor import note_use

            await asyncio.to_thread(note_use, self._directory, found, judge.remembered)

    def _tell_users(self) -> None:
        entries, host = self.entries, self.host
        if entries is not None and (host.users, host.doubt, host.zones) != (entries.users, entries.doubt, self._zones):
            if host.zones != self._zones:
                # What zones need, and whether the daemon starts on its database, is to be told anew.
                self._cache_stale = True
                self._news.set()
            entries.users, entries.doubt, self._zones = host.users, host.doubt, host.zones
            self.tell(LiveChange(rows=range(self.total)))
