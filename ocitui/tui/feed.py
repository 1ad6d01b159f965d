"""From the watcher's differences to the table's: entries with their files' state. No widget in it; runs in a thread."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ocitui.cache import CacheDirectoryError, Condition, Descriptor, Difference, Entry, EntryKey, FileKind, Health
from ocitui.cache.entries import EntryState
from ocitui.cache.listing import Listing, make_entry, names_of

# Past this many changes the table is loaded anew.
_MANY = 500


@dataclass(frozen=True, slots=True)
class FeedChange:
    """``entries`` are new or changed ones, ``order`` the index order where it changed; ``whole`` means that
    ``entries`` is all there is. ``size`` is that of all packed files, ``problems`` how many entries are not ok,
    ``files`` the names that may have changed, None for any; ``examined`` are entries that were looked into anew."""

    health: Health
    entries: dict[EntryKey, Entry] = field(default_factory=dict)
    removed: Collection[EntryKey] = ()
    order: list[EntryKey] | None = None
    whole: bool = False
    size: int = 0
    problems: int = 0
    total: int = 0
    files: frozenset[str] | None = frozenset()
    examined: Collection[EntryKey] = ()

    def concerns(self, entry: Entry) -> bool:
        """Whether one of the entry's files may have changed, if only in what it holds, or what is known of them."""
        if entry.key in self.examined:
            return True
        return self.files is None or not self.files.isdisjoint(names_of(entry.descriptor).values())


class EntryFeed:
    """Holds one directory's listing and the entries made of it. Any thread may call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._health = Health(Condition.SOUND)
        # What was found in an entry's files, beside the state by the listing that it was found with.
        self._judged: dict[EntryKey, tuple[EntryState, EntryState]] = {}
        self._users: dict[str, str] = {}
        self._listing: Listing | None = None
        self._entries: dict[EntryKey, Entry] = {}
        self._order: list[EntryKey] = []
        self._begun = False
        self._size = self._problems = 0

    def preview(self, difference: Difference) -> FeedChange:
        """All entries with their state unknown yet: what can be shown before the directory is listed."""
        pairs = zip(difference.keys, difference.descriptors, strict=True)
        entries = {key: make_entry(key, descriptor) for key, descriptor in pairs}
        return FeedChange(difference.health, entries, order=difference.keys, whole=True, total=len(entries))

    def absorb(self, difference: Difference) -> FeedChange:
        """What a difference, and the files it names, mean for the rows."""
        with self._lock:
            return self._absorb(difference)

    def judge(self, states: Mapping[EntryKey, EntryState]) -> FeedChange:
        """What a look into the files found, for the rows: it holds until the listing says something else."""
        with self._lock:
            listing, changed = self._listing or Listing({}), {}
            for key, state in states.items():
                if (entry := self._entries.get(key)) is None:
                    self._judged.pop(key, None)
                    continue
                if state == entry.state and key not in self._judged:
                    continue
                listed = listing.state(entry.descriptor)
                if state == listed:
                    self._judged.pop(key, None)
                else:
                    self._judged[key] = listed, state
                if state != entry.state:
                    self._problems += state.bad - entry.state.bad
                    changed[key] = msgspec.structs.replace(entry, state=state)
            self._entries.update(changed)
            change = self._change(self._health, changed, [], None, whole=False)
            return replace(change, examined=states.keys())

    def note_users(self, users: Mapping[str, str]) -> FeedChange:
        """Which loop devices hold which packed file, by the file's name."""
        with self._lock:
            names = {name for name in {*users, *self._users} if users.get(name) != self._users.get(name)}
            self._users = dict(users)
            changed = {}
            for key, entry in self._entries.items() if names else ():
                if names.isdisjoint(names_of(entry.descriptor).values()):
                    continue
                changed[key] = msgspec.structs.replace(entry, used=self._used(entry))
            self._entries.update(changed)
            change = self._change(self._health, changed, [], None, whole=False)
            return replace(change, examined=changed.keys())

    def _absorb(self, difference: Difference) -> FeedChange:
        self._health = difference.health
        gone = difference.health.condition is Condition.GONE
        # A directory that is gone says nothing of its entries: the last good rows stay as they are.
        touched = set[str]() if gone else self._refresh_listing(difference.files)
        # What the first sound reading gives is all there is, whatever the table shows from before.
        first, self._begun = not self._begun and difference.health.sound, self._begun or difference.health.sound
        listing = self._listing or Listing({})
        descriptors = dict(zip(difference.keys, difference.descriptors, strict=True))
        stale = descriptors if touched is None else self._keys_to_look_at(difference, descriptors, touched)
        changed = {}
        for key in stale:
            entry = self._known(listing.entry(key, descriptors[key]))
            if self._entries.get(key) != entry:
                changed[key] = entry
        removed = [key for key in self._entries if key not in descriptors] if difference.removed else []
        for key in removed:
            del self._entries[key]
            self._judged.pop(key, None)
        self._entries.update(changed)
        order = difference.keys if difference.keys != self._order else None
        self._order = difference.keys
        self._count()
        change = self._change(difference.health, changed, removed, order, whole=first)
        return replace(change, files=difference.files)

    def _known(self, entry: Entry) -> Entry:
        """The entry with what is known of it beyond the listing."""
        listed, judged = self._judged.get(entry.key, (None, None))
        state = judged if judged is not None and listed == entry.state else entry.state
        used = self._used(entry) if self._users else ""
        if state is entry.state and not used:
            return entry
        return msgspec.structs.replace(entry, state=state, used=used)

    def _used(self, entry: Entry) -> str:
        return self._users.get(names_of(entry.descriptor).get(FileKind.PACKED, ""), "")

    def _change(
        self,
        health: Health,
        changed: dict[EntryKey, Entry],
        removed: list[EntryKey],
        order: list[EntryKey] | None,
        *,
        whole: bool,
    ) -> FeedChange:
        whole = whole or len(changed) + len(removed) > _MANY
        entries = {key: self._entries[key] for key in self._order} if whole else changed
        return FeedChange(
            health,
            entries,
            removed,
            self._order if whole else order,
            whole,
            self._size,
            self._problems,
            len(self._entries),
        )

    def _count(self) -> None:
        sizes = {(entry.digest, entry.format): entry.packed_size or 0 for entry in self._entries.values()}
        self._size, self._problems = sum(sizes.values()), sum(entry.state.bad for entry in self._entries.values())

    def _refresh_listing(self, names: frozenset[str] | None) -> set[str] | None:
        """Look at these names again; the ones that changed, None when all entries have to be looked at."""
        try:
            if names is None or self._listing is None:
                self._listing = Listing.read(self._directory)
                return None
        except CacheDirectoryError:
            return set()
        return self._listing.refresh(self._directory, names)

    def _keys_to_look_at(
        self, difference: Difference, descriptors: dict[EntryKey, Descriptor], names: set[str]
    ) -> dict[EntryKey, None]:
        """The entries that are new or changed, and those that have one of these files."""
        keys = dict.fromkeys((*difference.added, *difference.changed))
        keys.update((key, None) for key in descriptors if key not in self._entries)
        if names:
            digests = {name.removesuffix(".json").rpartition(".")[0] for name in names}
            keys.update((key, None) for key in descriptors if key[0] in digests)
        return keys
