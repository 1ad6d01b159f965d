"""What is wrong with the cache, kept up to date while it is shown: the quick check of each entry, and what deeper ones
found. No widget in it; its work is for a thread."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ocitui.cache import CacheDirectoryError, CacheError, Descriptor, EntryKey, FileKind
from ocitui.cache.entries import EntryState
from ocitui.doctor.acknowledged import load_acknowledged
from ocitui.doctor.check.live import EntryExaminer, check_cache
from ocitui.doctor.findings import Depth, Finding
from ocitui.doctor.report import Report

from .entry_states import problems_of, state_of

_STEP_SECONDS = 0.4
_SWITCH_SECONDS = 0.0005
# Looking at the whole cache takes no more than this share of a core, however often the cache changes.
_SHARE = 0.1
_ALARMING = ("index-emptied", "index-shrunk")
_DEEPER = ("packed-magic", "packed-truncated", "packed-incomplete", "packed-damaged", "packed-changed", "read-error")
FileIdentity = tuple[int, int, int]
Findings = tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Told:
    """A change that was not looked into yet; ``files`` is None where any may have changed."""

    descriptors: Sequence[Descriptor]
    keys: Sequence[EntryKey]
    files: frozenset[str] | None = frozenset()
    touched: frozenset[EntryKey] = frozenset()

    def after(self, earlier: _Told | None) -> _Told:
        """Both changes as one."""
        if earlier is None:
            return self
        files = None if self.files is None or earlier.files is None else self.files | earlier.files
        return replace(self, files=files, touched=self.touched | earlier.touched)


class Checkup:
    """`tell` takes what changed, `step` looks into it; one thread at a time steps, and any may ask."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._examiner = EntryExaminer(directory)
        self._lock = threading.Lock()
        self._told: _Told | None = None
        self._latest: _Told | None = None
        self._run: Generator[set[EntryKey]] | None = None
        self._touched: set[EntryKey] = set()
        self._accepted: frozenset[str] = frozenset()
        self._deeper: dict[tuple[str, str], tuple[FileIdentity | None, Findings]] = {}
        self._files_changed = False
        self._cache_stale = False
        self._cache_due = 0.0
        self._cache_known = False
        self.about_cache: Findings = ()
        """What is wrong beside the entries."""
        self.complete = False
        """Whether every entry was looked into once."""
        self.changes = 0
        """How often the cache was seen to change."""

    def tell(
        self,
        descriptors: Sequence[Descriptor],
        keys: Sequence[EntryKey],
        files: frozenset[str] | None,
        touched: Iterable[EntryKey],
    ) -> None:
        """The index as it is now, the names that may have changed, and the entries to speak of in any case."""
        if self._latest is not None and self._latest.descriptors is not descriptors:
            self.changes += 1
        self._add(_Told(descriptors, keys, files, frozenset(touched)))

    def look_again(self, touched: Iterable[EntryKey] = ()) -> None:
        """Speak of these entries again, and look at the cache as a whole."""
        if self._latest is not None:
            self._add(replace(self._latest, files=frozenset(), touched=frozenset(touched)))

    def _add(self, told: _Told) -> None:
        with self._lock:
            self._latest = told
            self._told = told.after(self._told)
            self._cache_stale = True

    def step(self) -> set[EntryKey] | None:
        """Look for a moment; gives the entries whose findings may have changed, None once all is looked at."""
        with self._lock:
            told, self._told = self._told, None
        if told is not None:
            self._begin(told)
        if self._run is None:
            return None
        with _giving_way():
            return self._step(self._run)

    def _step(self, run: Generator[set[EntryKey]]) -> set[EntryKey]:
        found: set[EntryKey] = set()
        until = time.monotonic() + _STEP_SECONDS
        for keys in run:
            found |= keys
            self.changes += bool(keys) and self.complete and self._files_changed
            if time.monotonic() > until:
                return found
        self._run, self.complete, self._files_changed = None, True, False
        found |= self._touched
        self._touched = set()
        return found

    def _begin(self, told: _Told) -> None:
        if self._run is not None:
            self._run.close()
        # What a check told the ledger is no change of the cache.
        self._files_changed |= told.files is None or bool(told.files)
        self._touched |= told.touched | self._accept() | self._drop_outdated(told.files)
        self._run = self._examiner.examine(told.descriptors, told.keys, told.files)

    def look_at_cache(self) -> bool:
        """Look at the cache as a whole, where it is time; gives whether other things are wrong with it now."""
        if not self._cache_stale or time.monotonic() < self._cache_due:
            return False
        began, self._cache_stale = time.monotonic(), False
        try:
            with _giving_way():
                found = check_cache(self._directory)
        except CacheDirectoryError:
            return False
        self._cache_due = time.monotonic() + (time.monotonic() - began) / _SHARE
        found = tuple(mark(found, self._accepted))
        changed, self.about_cache = found != self.about_cache, found
        self.changes += changed and self._cache_known
        self._cache_known = True
        return changed

    @property
    def seconds_to_wait(self) -> float | None:
        """Until it is time for `look_at_cache`; None where nothing waits for it."""
        return max(self._cache_due - time.monotonic(), 0.01) if self._cache_stale else None

    def findings(self, key: EntryKey) -> Findings:
        """All that is known to be wrong with an entry."""
        quick = self._examiner.findings(key)
        _, deeper = self._deeper.get((key[0], key[1]), (None, ()))
        known = {one.fingerprint for one in quick} if deeper else set()
        position = quick[0].position if quick else None
        more = (replace(one, position=position) for one in deeper if one.fingerprint not in known)
        return tuple(mark((*quick, *more), self._accepted))

    def with_deeper(self, findings: Findings, *, verify: bool = False) -> Findings:
        """These findings, and what deeper checks found that is not among them; to ``verify`` looks whether the files
        are still the same, so it is for a thread."""
        known, deeper = {one.fingerprint for one in findings}, list[Finding]()
        for identity, more in list(self._deeper.values()):
            if not verify or _identity(self._directory / more[0].file) == identity:
                deeper += [one for one in more if one.fingerprint not in known]
        return in_order([*findings, *mark(deeper, self._accepted)]) if deeper else findings

    def states(self, keys: Iterable[EntryKey]) -> dict[EntryKey, EntryState]:
        """What the rows of these entries show."""
        return {key: state_of(self.findings(key)) for key in keys}

    def take_report(self, report: Report) -> None:
        """What a deeper check found holds until the file is another one, or the next such check; what the ledger
        remembers of deep ones is told by the quick check of each entry."""
        if report.depth is Depth.QUICK:
            # Another program's deep check may have told the ledger something, which is seen only by looking.
            self.look_again()
            return
        found: dict[tuple[str, str], dict[str, Finding]] = defaultdict(dict)
        for one in report.findings:
            if one.code in _DEEPER and one.kind is FileKind.PACKED and one.format and one.found is None:
                found[one.digest, one.format][one.fingerprint] = replace(one, acknowledged=False)
        kept = {} if report.depth is Depth.DEEP else self._deeper
        before, self._deeper = self._deeper.keys() | found.keys(), {**kept}
        for key, findings in found.items():
            _, earlier = kept.get(key, (None, ()))
            all_found = tuple({**{one.fingerprint: one for one in earlier}, **findings}.values())
            self._deeper[key] = _identity(self._directory / all_found[0].file), all_found
        latest = self._latest
        self.look_again(key for key in (latest.keys if latest else ()) if (key[0], key[1]) in before)

    def _drop_outdated(self, files: Collection[str] | None) -> set[EntryKey]:
        """Forget what was found in files that are no longer the same; gives the entries it was found for."""
        gone = [
            (digest, format_)
            for (digest, format_), (identity, findings) in self._deeper.items()
            if (files is None or findings[0].file in files)
            and _identity(self._directory / findings[0].file) != identity
        ]
        for key in gone:
            del self._deeper[key]
        return {key for key in (self._latest.keys if gone and self._latest else ()) if (key[0], key[1]) in gone}

    def _accept(self) -> set[EntryKey]:
        """Read what is acknowledged; gives the entries it may matter to, where it is other than before."""
        accepted = self._accepted
        with suppress(CacheError):
            accepted = frozenset(load_acknowledged(self._directory))
        if accepted == self._accepted:
            return set()
        self._accepted = accepted
        self._cache_stale = True
        return set(self._examiner.with_findings()) | {
            key for key in (self._latest.keys if self._latest else ()) if (key[0], key[1]) in self._deeper
        }

    @property
    def cache_problems(self) -> int:
        """How many things are wrong beside the entries."""
        return len(problems_of(self.about_cache))

    @property
    def alarm(self) -> str:
        """What an operator must not miss, though the daemon would load the index: entries were lost; empty: nothing."""
        worst = next((one for one in self.about_cache if one.code in _ALARMING and not one.acknowledged), None)
        return worst.seen if worst is not None else ""

    @property
    def overwritten(self) -> Findings:
        """Edits of ours that another writer undid."""
        return tuple(one for one in self.about_cache if one.code == "index-overwritten")


@contextmanager
def _giving_way() -> Iterator[None]:
    """Let the thread that draws take over at once: it would wait for 5 ms each time that a key is pressed."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _identity(path: Path) -> FileIdentity | None:
    with suppress(OSError):
        found = os.lstat(path)
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None
