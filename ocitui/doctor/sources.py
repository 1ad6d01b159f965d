"""The three sources of what an index held, side by side: what is left of the index, a backup, and the files.

Order is meaning, as the last entry of a name wins it. The daemon puts an entry at the end when it stores it and moves
no other, so these rules give the order that was, as far as it can be known:

- What is left of the index keeps its order.
- What only the backup has comes before all that followed it there, and before all that was stored since: what the
  backup does not know, and what has left the backup's order.
- What only the files tell has no name, so that it wins none; it comes last, by the times of the manifests. An entry
  that the operator gives a name wins that name.

Nothing is dropped: an entry whose files are gone or damaged keeps its place and its finding, because its name would be
lost with it; and where the index and the backup call an entry by two names, both are proposed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ocitui.cache import Descriptor, EntryKey, ImageName
from ocitui.cache.entries import entry_keys

from .rebuild import FoundEntry, NameHint
from .salvage import Salvage
from .salvage_gaps import readable

FileKey = tuple[str, str]
"""Digest and format."""


class Source(StrEnum):
    """INDEX: today's index, or what was salvaged of it."""

    INDEX = "index"
    BACKUP = "backup"
    FILES = "files"


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

    ``problems`` are what is wrong with its files, ``hints`` what it may have been called where no name is known.
    ``name`` is krata's spelling, None where it is lost.
    """

    digest: str
    format: str | None
    name: str | None
    sources: tuple[Source, ...]
    descriptor: Descriptor | None
    taken_from: Source | None
    facts: tuple[Fact, ...]
    problems: tuple[str, ...]
    hints: tuple[NameHint, ...] = ()

    @property
    def conflicts(self) -> tuple[Fact, ...]:
        """What the sources tell differently."""
        return tuple(fact for fact in self.facts if fact.conflicting)

    @property
    def lost(self) -> tuple[str, ...]:
        """What no source tells any more."""
        if self.descriptor is None:
            return ("name", "descriptor")
        return ("name",) if self.name is None and Source.INDEX not in self.sources else ()


def proposed(entries: Iterable[JoinedEntry]) -> list[Descriptor]:
    """The descriptors of the new index, in order."""
    return [entry.descriptor for entry in entries if entry.descriptor is not None]


def join(
    salvaged: Salvage | Sequence[Descriptor],
    backup: Sequence[Descriptor],
    files: Sequence[FoundEntry],
    names: Mapping[FileKey, ImageName] | None = None,
) -> list[JoinedEntry]:
    """Join the sources, in the order of the new index.

    ``salvaged`` is what is left of the index, or the index itself where entries of a backup are gone from it. ``names``
    are what the operator gives to entries that have none, by digest and format.
    """
    return _Join(salvaged, backup, files, names or {}).run()


class _Join:
    def __init__(
        self,
        salvaged: Salvage | Sequence[Descriptor],
        backup: Sequence[Descriptor],
        files: Sequence[FoundEntry],
        names: Mapping[FileKey, ImageName],
    ) -> None:
        left = salvaged.descriptors if isinstance(salvaged, Salvage) else salvaged
        self._index = dict(zip(entry_keys(left), left, strict=True))
        self._backup = dict(zip(entry_keys(backup), backup, strict=True))
        self._files = {found.key: found for found in files}
        self._given = names
        self._hints = _hints_of(salvaged) if isinstance(salvaged, Salvage) else {}
        self._names: dict[FileKey, dict[Source, list[str]]] = defaultdict(lambda: defaultdict(list))

    def run(self) -> list[JoinedEntry]:
        for source, entries in ((Source.INDEX, self._index), (Source.BACKUP, self._backup)):
            for digest, format_, name, _ in entries:
                self._names[digest, format_][source].append(name)
        joined = [self._named(key) for key in merged(list(self._index), list(self._backup))]
        nameless = [found for key, found in self._files.items() if key not in self._names]
        nameless.sort(key=lambda found: (found.manifest_modified or found.modified, found.digest, found.format))
        return joined + [self._nameless(found) for found in nameless]

    def _named(self, key: EntryKey) -> JoinedEntry:
        """An entry of the index, of the backup, or of both."""
        left, backed, found = self._index.get(key), self._backup.get(key), self._files.get(key[:2])
        descriptor, source = (left, Source.INDEX) if left is not None else (self._backup[key], Source.BACKUP)
        tellers = {Source.INDEX: left, Source.BACKUP: backed, Source.FILES: found.descriptor if found else None}
        sources = tuple(
            source for source, one in tellers.items() if one is not None or (source is Source.FILES and found)
        )
        return JoinedEntry(
            descriptor.digest,
            descriptor.format,
            descriptor.image_name,
            sources,
            descriptor,
            source,
            (self._name_fact(key[:2]), *_facts(tellers)),
            found.problems if found else ("there is no packed file",),
            self._hints_for(found) if descriptor.image_name is None else (),
        )

    def _name_fact(self, key: FileKey) -> Fact:
        return Fact("name", tuple((source, ", ".join(names)) for source, names in self._names[key].items()))

    def _nameless(self, found: FoundEntry) -> JoinedEntry:
        """An entry that only the files tell of, under a name where the operator gives one."""
        given = self._given.get(found.key)
        descriptor = found.named(given) if given is not None else found.descriptor
        return JoinedEntry(
            found.digest,
            found.format.value,
            descriptor.image_name if descriptor is not None else None,
            (Source.FILES,),
            descriptor,
            None if descriptor is None else Source.FILES,
            _facts({Source.FILES: found.descriptor}),
            found.problems,
            self._hints_for(found),
        )

    def _hints_for(self, found: FoundEntry | None) -> tuple[NameHint, ...]:
        if found is None:
            return ()
        return (*self._hints.get(found.digest, ()), *found.hints)


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
