"""The four sources of what an index held, side by side: what is left of the index, a backup, the journal, the files.

Order is meaning, as the last entry of a name wins it. The daemon puts an entry at the end when it stores it and moves
no other, so these rules give the order that was, as far as it can be known:

- What is left of the index keeps its order.
- What only the backup has comes before all that followed it there, and before all that was stored since: what the
  backup does not know, and what has left the backup's order. The journal rolls the backup forward first: by what was
  imported, moved and taken out since.
- What only the files tell has no name, so that it wins none; it comes last, by the times of the manifests. An entry
  that the operator gives a name wins that name.

Nothing is dropped but what repeats another entry in a broken index: an entry whose files are gone or damaged keeps its
place and its finding, because its name would be lost with it; and where the index and the backup call an entry by two
names, both are proposed. What the operator took out on purpose, and has no packed file of later, is told and not
proposed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

import msgspec

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    CacheError,
    Descriptor,
    EntryKey,
    ImageName,
    InvalidNameError,
    Transaction,
    list_backups,
)
from ocitui.cache.entries import entry_keys
from ocitui.cache.records import Identity, identity_of
from ocitui.cache.redoing import ExpectedEntries, expect_entries

from ..check.index_checks import History
from ..repair.snapshot import Snapshot
from .rebuild import FoundEntry, NameHint, rebuild
from .salvage import Salvage, readable, salvage

FileKey = tuple[str, str]
"""Digest and format."""


class Source(StrEnum):
    """INDEX: today's index, or what was salvaged of it."""

    INDEX = "index"
    BACKUP = "backup"
    JOURNAL = "journal"
    FILES = "files"


def sources_shown(entries: Iterable[JoinedEntry]) -> list[Source]:
    """The sources to put side by side: the journal only where an entry is told of by it."""
    journal = any(Source.JOURNAL in entry.sources for entry in entries)
    return [source for source in Source if journal or source is not Source.JOURNAL]


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of an entry as each source tells it, in the order of the sources; those that tell nothing are left
    out."""

    what: str
    told: tuple[tuple[Source, str], ...]

    @property
    def conflicting(self) -> bool:
        return len({value for _, value in self.told}) > 1


@dataclass(frozen=True, slots=True)
class JoinedEntry:
    """One entry: ``descriptor`` is the proposed one, verbatim from ``taken_from``; None where no source tells enough.

    ``left``, ``backed`` and ``noted`` are what index, backup and journal say, ``found`` what the files do; ``names``
    are those that each source has for the same digest and format. ``problems`` are what is wrong with its files.
    ``name`` is krata's spelling, None where it is lost. ``removed_by`` is the transaction that took it out on purpose,
    so that it is not proposed (empty: none).
    """

    digest: str
    format: str | None
    name: str | None
    descriptor: Descriptor | None
    taken_from: Source | None
    problems: tuple[str, ...]
    left: Descriptor | None = None
    backed: Descriptor | None = None
    noted: Descriptor | None = None
    found: FoundEntry | None = field(default=None, compare=False)
    names: tuple[tuple[Source, str], ...] = ()
    more_hints: tuple[NameHint, ...] = ()
    removed_by: str = ""

    @property
    def sources(self) -> tuple[Source, ...]:
        """Those that know of it."""
        told = (self.left, self.backed, self.noted, self.found)
        return tuple(source for source, known in zip(Source, told, strict=True) if known is not None)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What each source tells; the documents are read for it."""
        of_files = self.found.descriptor if self.found is not None else None
        of_others = {Source.INDEX: self.left, Source.BACKUP: self.backed, Source.JOURNAL: self.noted}
        tellers = {**of_others, Source.FILES: of_files}
        return (*((Fact("name", self.names),) if self.names else ()), *_facts(tellers))

    @property
    def hints(self) -> tuple[NameHint, ...]:
        """What it may have been called, where no name is known."""
        if self.name is not None and Source.FILES is not self.taken_from:
            return ()
        return (*self.more_hints, *self.found.told.hints) if self.found is not None else ()

    @property
    def conflicts(self) -> tuple[Fact, ...]:
        """What the sources tell differently."""
        return tuple(fact for fact in self.facts if fact.conflicting)

    @property
    def lost(self) -> tuple[str, ...]:
        """What no source tells any more."""
        if self.removed_by:
            return ()
        if self.descriptor is None:
            return ("name", "descriptor")
        return ("name",) if self.name is None and Source.INDEX not in self.sources else ()


def join(
    salvaged: Salvage | Sequence[Descriptor],
    backup: Sequence[Descriptor],
    files: Sequence[FoundEntry],
    names: Mapping[FileKey, ImageName] | None = None,
    expected: ExpectedEntries | None = None,
) -> list[JoinedEntry]:
    """Join the sources, in the order of the new index.

    ``salvaged`` is what is left of the index, or the index itself where entries of a backup are gone from it. ``names``
    are what the operator gives to entries that have none, by digest and format. ``expected`` is what the journal makes
    of the backup.
    """
    return _Join(salvaged, backup, files, names or {}, expected or ExpectedEntries(tuple(backup))).run()


class _Join:
    def __init__(
        self,
        salvaged: Salvage | Sequence[Descriptor],
        backup: Sequence[Descriptor],
        files: Sequence[FoundEntry],
        names: Mapping[FileKey, ImageName],
        expected: ExpectedEntries,
    ) -> None:
        self._files = {found.key: found for found in files}
        self._given = names
        self._noted = expected.noted
        self._removed = {one: by for one, by in expected.removed.items() if (one[0], one[1] or "") not in names}
        left = self._without_removed(_once(salvaged.descriptors)) if isinstance(salvaged, Salvage) else salvaged
        self._index = dict(zip(entry_keys(left), left, strict=True))
        self._expected = dict(zip(entry_keys(expected.descriptors), expected.descriptors, strict=True))
        self._backup = dict(zip(entry_keys(backup), backup, strict=True))
        self._hints = _hints_of(salvaged) if isinstance(salvaged, Salvage) else {}
        self._names: dict[FileKey, dict[Source, list[str]]] = defaultdict(lambda: defaultdict(list))

    def _without_removed(self, left: Sequence[Descriptor]) -> list[Descriptor]:
        """What was taken out on purpose, and another program's memory wrote back without its files, is out again."""
        return [one for one in left if identity_of(one) not in self._removed or (one.digest, one.format) in self._files]

    def run(self) -> list[JoinedEntry]:
        journal = {key: one for key, one in self._expected.items() if key not in self._backup}
        for source, entries in ((Source.INDEX, self._index), (Source.BACKUP, self._backup), (Source.JOURNAL, journal)):
            for digest, format_, name, _ in entries:
                self._names[digest, format_][source].append(name)
        joined = [self._named(key) for key in merged(list(self._index), list(self._expected))]
        named = {key[:2] for key in (*self._index, *self._expected)}
        nameless = [found for key, found in self._files.items() if key not in named]
        nameless.sort(key=lambda found: (found.manifest_modified or found.modified, found.digest, found.format))
        joined += [self._nameless(found) for found in nameless]
        return joined + [self._left_out(*one) for one in self._removed.items() if self._is_told(one[0], named)]

    def _is_told(self, identity: Identity, named: Collection[FileKey]) -> bool:
        """Whether to say of an entry that was taken out that it stays out: nothing else of its files is an entry."""
        key = (identity[0], identity[1] or "")
        return key not in named and key not in self._files

    def _named(self, key: EntryKey) -> JoinedEntry:
        """An entry of the index, of the backup, of the journal, or of several."""
        left, backed, found = self._index.get(key), self._backup.get(key), self._files.get(key[:2])
        noted = self._expected.get(key) if backed is None else None
        told = zip(Source, (left, backed, noted), strict=False)
        source, descriptor = next((source, one) for source, one in told if one is not None)
        return JoinedEntry(
            descriptor.digest,
            descriptor.format,
            descriptor.image_name,
            descriptor,
            source,
            found.problems if found else ("there is no packed file",),
            left,
            backed,
            noted,
            found,
            tuple((source, ", ".join(names)) for source, names in self._names[key[:2]].items()),
            tuple(self._hints.get(key[0], ())),
        )

    def _nameless(self, found: FoundEntry) -> JoinedEntry:
        """An entry of which neither index nor backup tells, under a name where the operator gives one, or as the
        journal last knew it."""
        given, noted = self._given.get(found.key), self._noted.get(found.key)
        descriptor = found.named(given) if given is not None else noted or found.descriptor
        source = Source.FILES if noted is None or given is not None else Source.JOURNAL
        return JoinedEntry(
            found.digest,
            found.format.value,
            descriptor.image_name if descriptor is not None else None,
            descriptor,
            None if descriptor is None else source,
            found.problems,
            noted=noted,
            found=found,
            more_hints=tuple(self._hints.get(found.digest, ())),
        )

    def _left_out(self, identity: Identity, by: Transaction) -> JoinedEntry:
        """An entry that was taken out on purpose."""
        digest, format_, name = identity
        noted = self._noted.get((digest, format_))
        return JoinedEntry(digest, format_, name, None, None, (), noted=noted, removed_by=by.id)


def _once(salvaged: Sequence[Descriptor]) -> list[Descriptor]:
    """Each entry once, at its last place: what repeats another is none more, as where an index was written twice."""
    last = {identity_of(descriptor): at for at, descriptor in enumerate(salvaged)}
    return [descriptor for at, descriptor in enumerate(salvaged) if last[identity_of(descriptor)] == at]


def merged(index: Sequence[EntryKey], backup: Sequence[EntryKey]) -> list[EntryKey]:
    """The keys of both in the order of the module's rules."""
    limit = _stored_since(index, backup)
    places = {key: at for at, key in enumerate(index[:limit])}
    before: dict[int, list[EntryKey]] = defaultdict(list)
    there = set(index)
    for key in reversed(backup):
        limit = places.get(key, limit)
        if key not in there:
            before[limit].append(key)
    result: list[EntryKey] = []
    for at in range(len(index) + 1):
        result += reversed(before[at])
        result += index[at : at + 1]
    return result


def _stored_since(index: Sequence[EntryKey], backup: Sequence[EntryKey]) -> int:
    """How many entries of the index stand before all that were stored since the backup, for the first time or again;
    those have left the backup's order."""
    ranks = {key: rank for rank, key in enumerate(backup)}
    last = -1
    for at, key in enumerate(index):
        if ranks.get(key, -1) <= last:
            return at
        last = ranks[key]
    return len(index)


def _facts(tellers: Mapping[Source, Descriptor | None]) -> tuple[Fact, ...]:
    told = [(source, one) for source, one in tellers.items() if one is not None]
    return (
        Fact("size", tuple((source, str(one.size)) for source, one in told)),
        Fact("media type", tuple((source, one.media_type) for source, one in told)),
        Fact("platform", tuple((source, str(one.platform)) for source, one in told if one.platform)),
    )


def _hints_of(salvaged: Salvage) -> dict[str, list[NameHint]]:
    """Names by digest where one of each can be read in the same piece of what was not salvaged."""
    pieces = [(gap.digests, gap.names, f"what is left of a descriptor at byte {gap.offset}") for gap in salvaged.gaps]
    for item in salvaged.refused:
        pieces.append((*readable(item.raw), f"the descriptor at byte {item.offset}, which the daemon refuses"))
    hints: dict[str, list[NameHint]] = defaultdict(list)
    for digests, names, source in pieces:
        if len(digests) == len(names) == 1:
            hints[digests[0]].append(NameHint(names[0], source))
    return hints


@dataclass(frozen=True, slots=True)
class Joined:
    """``entries`` in the order of the new index, those that no descriptor can be made for included."""

    entries: tuple[JoinedEntry, ...]

    @property
    def proposed(self) -> list[tuple[Descriptor, Source]]:
        """The descriptors of the new index, and where each is taken from."""
        return [(one.descriptor, one.taken_from) for one in self.entries if one.descriptor and one.taken_from]

    @property
    def nameless(self) -> list[str]:
        """The digests of entries whose name nothing tells any more."""
        return list(dict.fromkeys(one.digest for one in self.entries if one.descriptor and one.lost))


def join_sources(snapshot: Snapshot, history: History, names: Mapping[str, str]) -> Joined:
    """Join what is left of the index, the newest backup and the files; ``names`` are what the operator gives.

    Raises CacheDirectoryError.
    """
    left = snapshot.descriptors if snapshot.index is not None else salvage(snapshot.data or b"")
    expected = ExpectedEntries(tuple(history.backup))
    with suppress(CacheError):
        expected = expect_entries(snapshot.directory, history.backup, history.since)
    there = {identity_of(one) for one in expected.descriptors}
    whole = left.descriptors if isinstance(left, Salvage) else left
    told = {identity_of(one) for one in (*whole, *history.backup)}
    # Of what was taken out, however long ago, only that matters of which something else tells.
    removed = {
        one: by for one, by in expected.removed.items() if one in told or f"{one[0]}.{one[1]}" in snapshot.listing
    }
    expected = replace(expected, removed=removed)
    backup = [descriptor for descriptor in history.backup if identity_of(descriptor) in there]
    known = {*expected.descriptors, *whole}
    given = {**(_names_of(left) if isinstance(left, Salvage) else {}), **names}
    files = _told_by_files(snapshot, {one.key for one in known}, _kept(snapshot, history), names, expected)
    return Joined(tuple(join(left, backup, files, _by_key(files, given), expected)))


def _told_by_files(
    snapshot: Snapshot,
    named: Collection[tuple[str, str | None]],
    kept: float,
    names: Collection[str],
    expected: ExpectedEntries,
) -> list[FoundEntry]:
    """What the files tell, less what would not be whole, what was an orphan when the backup was made, and what is of an
    entry that was taken out on purpose since."""
    since = {(digest, format_): by.started for (digest, format_, _), by in expected.removed.items()}
    there = {one.key for one in expected.descriptors}

    def is_told(found: FoundEntry) -> bool:
        if found.key in since and found.key not in there:
            # Not by when it came to its place: a file that comes back from the trash was not stored again.
            return found.digest in names or (found.sound and found.modified > since[found.key])
        return found.key in named or (found.sound and (found.digest in names or _changed(snapshot, found) > kept * 1e9))

    return [found for found in rebuild(snapshot.judge) if is_told(found)]


def _changed(snapshot: Snapshot, found: FoundEntry) -> int:
    """When its packed file came to its place, in nanoseconds since the epoch."""
    fact = snapshot.listing.get(f"{found.digest}.{found.format}")
    return fact.changed_ns if fact is not None else 0


def _kept(snapshot: Snapshot, history: History) -> float:
    """When the backup was made, in seconds since the epoch; 0 where there is none."""
    with suppress(CacheError):
        for backup in list_backups(snapshot.directory):
            if history.backup and backup.entries == len(history.backup):
                return backup.kept
    return 0.0


def _names_of(left: Salvage) -> dict[str, str]:
    """The names in whole descriptors that the daemon refuses, by digest: both stand in the same object."""
    names: dict[str, str] = {}
    for item in left.refused:
        try:
            found = msgspec.json.decode(item.raw)
            digest, name = found["digest"], found["annotations"][ANNOTATION_IMAGE_NAME]
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if isinstance(digest, str) and isinstance(name, str):
            names[digest] = name
    return names


def _by_key(files: Iterable[FoundEntry], names: Mapping[str, str]) -> dict[tuple[str, str], ImageName]:
    found: dict[tuple[str, str], ImageName] = {}
    for one in files:
        with suppress(InvalidNameError):
            if one.digest in names:
                found[one.key] = ImageName.parse(names[one.digest])
    return found
