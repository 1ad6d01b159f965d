"""The main screen and what is wrong: changes are looked into off the event loop, and copies of the index are kept."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from textual import work

from ocitui.cache import CacheError, Condition, EntryKey, IndexOutcome

from ..throttle import Throttle
from ..widgets.entry_table import EntryTable
from .entry_actions import EntryActions
from .full import FullScreen

if TYPE_CHECKING:
    from pathlib import Path

    from ocitui.cache import Difference
    from ocitui.doctor.findings import Depth, Finding
    from ocitui.doctor.report import Report

    from ..check_run import CheckRun
    from ..checkup import Checkup
    from ..feed import EntryFeed, FeedChange


_STATUS_SECONDS = 1.0


class Checking(EntryActions):
    """First rows, then findings fill in; at rest nothing runs."""

    checkup: Checkup | None = None
    cache_problems = 0
    """How many things are wrong beside the entries."""
    alarm = ""
    """The worst of these, where it means that entries are lost."""
    _feed: EntryFeed | None = None
    _check_throttle: Throttle | None = None
    _told_overwritten: frozenset[str] = frozenset()

    def apply_change(self, change: FeedChange) -> None:
        """Show what changed."""

    @property
    def stands(self) -> bool:
        """Whether there is something to show on."""
        return True

    def begin_checking(self, feed: EntryFeed) -> None:
        """Look into what this feed shows, from the beginning."""
        self._feed, self._users = feed, dict[str, str]()
        self._news, self._to_keep = asyncio.Event(), asyncio.Queue[Condition]()
        self._look_into_entries()
        self._keep_copies()

    async def changed(self, difference: Difference, change: FeedChange) -> None:
        """The cache changed, and its rows show so."""
        if self.checkup is None:
            self.checkup = await asyncio.to_thread(_make_checkup, self.app.options.directory)
        self.checkup.tell(
            difference.descriptors, difference.keys, difference.files, () if change.whole else change.entries
        )
        self._news.set()
        condition, verdict = difference.health.condition, difference.health.verdict
        loaded = verdict is not None and verdict.outcome is IndexOutcome.LOADED
        if condition is Condition.CORRUPT or (condition is Condition.SOUND and loaded):
            self._to_keep.put_nowait(condition)

    # Checks of the whole cache

    @cached_property
    def check_run(self) -> CheckRun:
        """The check that the problems screen shows."""
        from ..check_run import CheckRun

        # Progress comes in a thread's context, and a timer may only be begun in the screen's own.
        return CheckRun(self.app.options.directory, lambda: self.call_later(self._tell_check))

    @property
    def changes(self) -> int:
        """How often the cache was seen to change."""
        return self.checkup.changes if self.checkup is not None else 0

    def action_problems(self) -> None:
        from .problems import ProblemsScreen

        self.app.push_screen(ProblemsScreen(), self._go_to)

    def action_mend(self) -> None:
        if not self.may("mend"):
            return
        from .repair import RepairScreen

        sound = self.health.sound
        entries = self.chosen() if sound else []
        if sound and not entries:
            self.say("Mend: there is no entry under the cursor; p shows what else is wrong")
            return
        digests = frozenset(entry.digest for entry in entries)
        self.app.push_screen(RepairScreen(None, digests), self.said)

    def _go_to(self, finding: Finding | None) -> None:
        """Put the cursor on the entry of a finding, and show what is wrong with it."""
        self.draw_status()
        if finding is None:
            return
        table = self.query_one(EntryTable)
        wanted = (finding.digest, finding.format, finding.name)
        same = table.keys_of(finding.digest)
        key = next((key for key in same if key[:3] == wanted), next((k for k in same if k[1] == finding.format), None))
        key = key or next(iter(same), None)
        if key is None:
            self.say("no entry of the index is what that is about")
            return
        if not table.move_cursor_to(key):
            table.filter_text = ""
            table.move_cursor_to(key)
        self.show_problems()

    def show_problems(self) -> None:
        """Open the tab that tells what is wrong with the entry under the cursor."""

    def start_check(self, depth: Depth) -> None:
        """Check the whole cache; it goes on whatever screen is shown."""
        self._run_check(depth)

    @work(group="check", exclusive=True)
    async def _run_check(self, depth: Depth) -> None:
        run, changes = self.check_run, self.changes
        await run.run(depth, changes, ledger_writes=not self.read_only)
        if run.report is not None and not run.error:
            await self.take_report(run.report, changes)
            self._tell_of(run.report)

    async def take_report(self, report: Report, changes: int | None = None) -> None:
        """Show what a whole check found, also in the rows."""
        self.check_run.take(report, self.changes if changes is None else changes)
        if self.checkup is not None:
            await asyncio.to_thread(self.checkup.take_report, report)
            self._news.set()

    def _tell_of(self, report: Report) -> None:
        """A deeper check takes its time, and ends when nobody looks at it any more."""
        from ocitui.doctor.finding_texts import tally

        if report.depth != "quick":
            self.say(f"{report.depth} check: {report.coverage}; {tally(report.shown()) or 'nothing wrong'}: p shows it")

    def cancel_check(self) -> bool:
        """End the check that runs; gives whether there was one."""
        running = "check_run" in self.__dict__ and self.check_run.running
        if running:
            self.workers.cancel_group(self, "check")
        return running

    def all_findings(self) -> tuple[Finding, ...]:
        """What the last check found, and what deeper ones did where it did not look."""
        run = self.check_run
        if run.running or run.report is None or run.report.depth == "deep" or self.checkup is None:
            return run.findings
        return self.checkup.with_deeper(run.findings)

    def with_deeper(self, report: Report) -> Report:
        """The report with what deeper checks found in files that are still the same; not on the event loop."""
        if report.depth == "deep" or self.checkup is None:
            return report
        return replace(report, findings=self.checkup.with_deeper(report.findings, verify=True))

    def _tell_check(self) -> None:
        if isinstance(self.app.screen, FullScreen):
            self.app.screen.check_changed()
            return
        if self._check_throttle is None:
            self._check_throttle = Throttle(self, _STATUS_SECONDS, self.draw_status)
        self._check_throttle.ask()

    @property
    def check_text(self) -> str:
        """How far the check is that runs; empty where none does."""
        if "check_run" not in self.__dict__ or not self.check_run.running:
            return ""
        from ..check_run import progress_text

        return f"{self.check_run.depth} check: {progress_text(self.check_run.progress)}"

    def look_again(self) -> None:
        """What was acknowledged, or found by a deeper check, is to be shown."""
        if self.checkup is not None:
            self.checkup.look_again()
            self._news.set()

    def findings_of(self, key: EntryKey) -> tuple[Finding, ...] | None:
        """What is wrong with an entry; None as long as it was not looked into."""
        if self.checkup is None:
            return None
        found = self.checkup.findings(key)
        return found if found or self.checkup.complete else None

    @work(group="checkup", exclusive=True)
    async def _look_into_entries(self) -> None:
        while True:
            wait = self.checkup.seconds_to_wait if self.checkup is not None else None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
            self._news.clear()
            if self.checkup is not None and not await self._look_on(self.checkup):
                return

    async def _look_on(self, checkup: Checkup) -> bool:
        """Look until there is nothing left to look into; gives whether there is still something to show it on."""
        while (keys := await asyncio.to_thread(checkup.step)) is not None:
            if not await self._show(keys, checkup):
                return False
        if await asyncio.to_thread(checkup.look_at_cache) and self.stands:
            self.cache_problems, self.alarm = checkup.cache_problems, checkup.alarm
            self._tell_overwritten(checkup.overwritten)
            self.cache_checked()
        return self.stands

    async def _show(self, keys: set[EntryKey], checkup: Checkup) -> bool:
        feed = self._feed
        if keys and feed is not None:
            states = await asyncio.to_thread(checkup.states, keys)
            change = await asyncio.to_thread(feed.judge, states)
            if self.stands and feed is self._feed:
                self.apply_change(change)
        return self.stands

    def cache_checked(self) -> None:
        """Other things are wrong beside the entries than before."""

    def _tell_overwritten(self, edits: tuple[Finding, ...]) -> None:
        """Say of an edit that another writer undid, once, that it can be made again."""
        new = [one for one in edits if one.fingerprint not in self._told_overwritten]
        self._told_overwritten = frozenset(one.fingerprint for one in edits)
        if new and self.health.sound:
            self.say(f"{new[0].seen}: p offers it again")

    async def look_at_users(self) -> None:
        """Which loop devices hold packed files; nothing is drawn where that is as it was."""
        if self._feed is None:
            return
        feed, found = self._feed, await asyncio.to_thread(_look_at_users, self.app.options.directory)
        if found != self._users and feed is self._feed:
            self._users = found
            change = await asyncio.to_thread(feed.note_users, found)
            if self.stands:
                self.apply_change(change)

    @work(group="keep", exclusive=True)
    async def _keep_copies(self) -> None:
        """Copies of each index that is seen, of corrupt ones too; with --read-only nothing is written."""
        while True:
            condition = await self._to_keep.get()
            while not self._to_keep.empty():
                condition = self._to_keep.get_nowait()
            if not self.read_only:
                with suppress(CacheError):
                    await self._keep(condition)

    async def _keep(self, condition: Condition) -> None:
        from ocitui.cache import keep_backup

        directory = self.app.options.directory
        if condition is Condition.SOUND:
            index = await self.app.cache.index()
            await asyncio.to_thread(keep_backup, directory, index)
            return
        from ocitui.doctor.check.history import keep_index

        if (said := await asyncio.to_thread(keep_index, directory)) and self.stands:
            # The copy's name is as long as the line.
            self.say(said.partition(", as ")[0])


def _look_at_users(directory: Path) -> dict[str, str]:
    from ocitui.doctor.loop_devices import users_by_name

    return users_by_name(directory)


def _make_checkup(directory: Path) -> Checkup:
    """In a thread: the doctor is loaded with it."""
    from ..checkup import Checkup

    return Checkup(directory)
