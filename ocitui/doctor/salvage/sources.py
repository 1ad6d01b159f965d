"""The four sources of what an index held, side by side: what is left of the index, a backup, the journal, the files.

Order is meaning, as the last entry of a name wins it. The daemon puts an entry at the end when it stores it and moves
no other. So what is left of the index keeps its order. What only the backup has, which the journal rolls forward, comes
before all that followed it there, and before all that was stored since: what the backup does not know, and what has
left its order. What only the files tell has no name, so that it wins none; it comes last, by the times of the
manifests. An entry that the operator gives a name wins that name.

Nothing is dropped but what repeats another entry in a broken index: the name of one whose files are gone or damaged
would be lost with it, and of two names both are proposed. What the operator took out on purpose, and has no packed file
of later, is told and not proposed.

What other caches call an image is taken only for one that has no other name, where all of them that know the image or
the name say the same: a majority may be wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from itertools import chain

import msgspec

from ocitui.cache import (
    ANNOTATION_IMAGE_NAME,
    INDEX_NAME,
    MOST_INDEX_BYTES,
    CacheError,
    Descriptor,
    EntryKey,
    ExpectedEntries,
    Identity,
    ImageIndex,
    ImageName,
    InvalidNameError,
    Key,
    Listing,
    PackedFormat,
    Transaction,
    entry_keys,
    examine_index,
    expect_entries,
    read_bounded,
)
from ocitui.text import short_digest

from ..check.index_checks import History
from ..repair.steps import Peer, Snapshot
from .salvage import FoundEntry, NameHint, Salvage, Statement, readable, rebuild, salvage_entries

FileKey = tuple[str, str]
"""Digest and format."""


class IndexSource(StrEnum):
    """INDEX: today's index, or what was salvaged of it; PEERS: other caches, of which only the name is taken."""

    INDEX = "index"
    BACKUP = "backup"
    JOURNAL = "journal"
    PEERS = "peers"
    FILES = "files"


class ToldFact(msgspec.Struct, frozen=True):
    """One fact of an entry as each source that tells it does, in the order of the sources."""

    what: str
    told: tuple[tuple[IndexSource, str], ...]


class JoinedEntry(msgspec.Struct, frozen=True):
    """One entry: ``descriptor`` is the proposed one, verbatim from ``taken_from``; None where no source tells enough.
    ``told`` is what index, backup and journal say, ``found`` what the files do, with their ``problems``; ``names`` are
    those that each source has for the same digest and format. ``name`` is krata's spelling, None where it is lost;
    ``removed_by`` the transaction that took the entry out on purpose, so that it is not proposed (empty: none)."""

    digest: str
    format: str | None
    name: str | None
    descriptor: Descriptor | None
    taken_from: IndexSource | None
    problems: tuple[str, ...]
    told: Mapping[IndexSource, Descriptor]
    found: FoundEntry | None = None
    names: tuple[tuple[IndexSource, str], ...] = ()
    more_hints: tuple[NameHint, ...] = ()
    removed_by: str = ""

    @property
    def sources(self) -> tuple[IndexSource, ...]:
        """Those that know of it."""
        return (*self.told, *((IndexSource.FILES,) if self.found is not None else ()))

    @property
    def facts(self) -> tuple[ToldFact, ...]:
        """What each source tells."""
        told = [(source, Statement.by(one)) for source, one in self.told.items()]
        if self.found is not None and (of_files := self.found.said) is not None:
            told.append((IndexSource.FILES, of_files))
        return (
            *((ToldFact("name", self.names),) if self.names else ()),
            ToldFact("size", tuple((source, str(said.size)) for source, said in told)),
            ToldFact("media type", tuple((source, said.media_type) for source, said in told)),
            ToldFact("platform", tuple((source, said.platform) for source, said in told if said.platform)),
        )

    @property
    def hints(self) -> tuple[NameHint, ...]:
        """What it may have been called, where no name is known."""
        if self.name is not None and IndexSource.FILES is not self.taken_from:
            return ()
        return (*self.more_hints, *self.found.told.hints) if self.found is not None else ()

    @property
    def conflicts(self) -> tuple[ToldFact, ...]:
        """What the sources tell differently."""
        return tuple(fact for fact in self.facts if len({value for _, value in fact.told}) > 1)

    @property
    def lost(self) -> tuple[str, ...]:
        """What no source tells any more."""
        if self.removed_by:
            return ()
        if self.descriptor is None:
            return ("name", "descriptor")
        return ("name",) if self.name is None and IndexSource.INDEX not in self.told else ()


class PeerName(msgspec.Struct, frozen=True):
    """What a name stands for in other caches, those named in ``by``. ``here`` are the ends of the names of files that
    this cache has of the image, and ``why_not`` is why it is not given that name (empty: it is)."""

    name: str
    digest: str
    by: tuple[str, ...]
    here: tuple[str, ...]
    why_not: str = ""


class PeerNames:
    """The names in other caches' indexes, which stand beside what the operator calls each of these."""

    def __init__(self, indexes: Mapping[str, ImageIndex] | None = None, listing: Listing | None = None) -> None:
        self._indexes, self._listing = indexes or {}, listing

    @classmethod
    def of(cls, peers: Iterable[Peer], listing: Listing) -> PeerNames:
        """Those of indexes that the daemon would load; others tell nothing."""
        found = {}
        for peer in peers:
            with suppress(OSError):
                raw = read_bounded(peer.directory / INDEX_NAME, MOST_INDEX_BYTES)
                if (index := examine_index(raw)[1]) is not None:
                    found[peer.text] = index
        return cls(found, listing)

    def claims(self, digests: Iterable[str], holder: Callable[[str], str | None]) -> list[PeerName]:
        """What is said of images without a name, and of the names that any of these has; ``holder`` tells the digest
        that a name stands for here."""
        wanted, told, calls = {*digests}, dict[str, dict[str, list[str]]](), dict[str, dict[str, set[str]]]()
        for text, index in self._indexes.items() if wanted else ():
            for digest, name in zip(index.digests, index.names, strict=True):
                if digest in wanted and name and _is_plain(name):
                    told[name] = {}
                    calls.setdefault(digest, {}).setdefault(text, set())
        for text, index in self._indexes.items():
            for name, by_digest in told.items():
                if (winner := index.by_name(name)) is not None:
                    by_digest.setdefault(winner.digest, []).append(text)
                    if winner.digest in wanted:
                        calls[winner.digest][text].add(name)
        differ = {digest for digest, names in calls.items() if len(set(map(frozenset, names.values()))) > 1}

        def why_not(name: str, digest: str, here: str | None) -> str:
            if digest not in wanted:
                return "it has its name here" if self._files(digest) else "it is not here"
            if len(told[name]) > 1:
                return "others have another image under it"
            if here not in (None, digest):
                return f"here it stands for {short_digest(here or '')}"
            return "others call it otherwise" if digest in differ else ""

        return [
            PeerName(name, digest, tuple(by), self._files(digest), why_not(name, digest, holder(name)))
            for name, by_digest in told.items()
            for digest, by in by_digest.items()
        ]

    def _files(self, digest: str) -> tuple[str, ...]:
        ends = ("manifest.json", "config.json", *PackedFormat)
        return tuple(end for end in ends if self._listing is not None and f"{digest}.{end}" in self._listing)


def _is_plain(name: str) -> bool:
    """Whether it is a name as krata prints one, which a terminal can show."""
    with suppress(InvalidNameError):
        return name.isprintable() and str(ImageName.parse(name)) == name
    return False


def given_names(claims: Iterable[PeerName]) -> dict[str, tuple[str, ...]]:
    """The names that images are given, by digest."""
    names = dict[str, tuple[str, ...]]()
    for claim in claims:
        if not claim.why_not:
            names[claim.digest] = (*names.get(claim.digest, ()), claim.name)
    return names


class JoinedEntries:
    """The entries in the order of the new index, those that no descriptor can be made for included. ``salvaged`` is
    what is left of the index, or all of it; ``names`` are given to entries that have none, by digest and format;
    ``expected`` is what the journal makes of the backup; ``peers`` are asked for names that nothing here tells. There
    may be 100,000: one that has a name is made when it is asked for, and what is asked of all is told without."""

    def __init__(
        self,
        salvaged: Salvage | Sequence[Descriptor] = (),
        backup: Sequence[Descriptor] = (),
        files: Iterable[FoundEntry] = (),
        names: Mapping[FileKey, ImageName] | None = None,
        expected: ExpectedEntries | None = None,
        peers: PeerNames | None = None,
    ) -> None:
        expected = expected or ExpectedEntries(tuple(backup))
        self._given, self._files = names or {}, {found.key: found for found in files}
        removed = {one: by for one, by in expected.removed.items() if (one[0], one[1] or "") not in self._given}
        left, self._hints = salvaged, dict[str, list[NameHint]]()
        if isinstance(left, Salvage):
            self._hints = _hints_of(left)
            left = _once(left.descriptors)
            if removed:
                # What was taken out on purpose, and another program's memory wrote back without files, is out again.
                left = [one for one in left if one.identity not in removed or one.key in self._files]
        self._noted = expected.noted
        index, told = (dict(zip(entry_keys(some), some, strict=True)) for some in (left, expected.descriptors))
        same = tuple(backup) == expected.descriptors
        backed = told if same else dict(zip(entry_keys(backup), backup, strict=True))
        journal = {} if same else {key: one for key, one in told.items() if key not in backed}
        # What index, backup and journal alone tell, by the keys of the entries.
        self._tables = {IndexSource.INDEX: index, IndexSource.BACKUP: backed, IndexSource.JOURNAL: journal}
        # Of those that have a name: the keys in order, what is proposed, and where that is taken from.
        self._keys = merged(list(index), list(told))
        self._descriptors = [index.get(key) or told[key] for key in self._keys]
        origins = {key: source for source, keys in reversed(self._tables.items()) for key in keys}
        self._origins = [origins[key] for key in self._keys]
        named = {(digest, format_) for digest, format_, _, _ in self._keys}
        self._single = len(named) == len(self._keys)
        nameless = [found for key, found in self._files.items() if key not in named]
        nameless.sort(key=lambda found: (found.manifest_modified or found.modified, found.digest, found.format))
        known = named.union(self._files) if removed else named
        left_out = (self._left_out(one, by) for one, by in removed.items() if (one[0], one[1] or "") not in known)
        lost = {one.key for one in nameless if one.key not in self._given and one.key not in self._noted}
        noted = [self._noted[one.key] for one in nameless if one.key in self._noted]
        holders = {one.image_name: one.digest for one in (*self._descriptors, *noted)}
        holders |= {str(name): digest for (digest, _), name in self._given.items()}
        self.claims = peers.claims((digest for digest, _ in lost), holders.get) if peers is not None else []
        heard = given_names(self.claims)
        entries = (
            self._nameless(one, name)
            for one in nameless
            for name in (heard.get(one.digest, [""]) if one.key in lost else [""])
        )
        self._others = [*entries, *left_out]

    def __len__(self) -> int:
        return len(self._keys) + len(self._others)

    def __iter__(self) -> Iterator[JoinedEntry]:
        return chain(map(self._named, range(len(self._keys))), self._others)

    def __getitem__(self, at: int) -> JoinedEntry:
        position, named = range(len(self))[at], len(self._keys)
        return self._named(position) if position < named else self._others[position - named]

    # What is asked of all

    @property
    def proposed(self) -> tuple[list[Descriptor], list[IndexSource]]:
        """The descriptors of the new index, and where each is taken from."""
        others = [(one.descriptor, one.taken_from) for one in self._others if one.descriptor and one.taken_from]
        return (
            [*self._descriptors, *(descriptor for descriptor, _ in others)],
            [*self._origins, *(source for _, source in others)],
        )

    @property
    def nameless(self) -> list[str]:
        """The digests of entries whose name nothing tells any more."""
        pairs, in_index = zip(self._keys, self._descriptors, strict=True), self._tables[IndexSource.INDEX]
        lost = [one.digest for key, one in pairs if one.image_name is None and key not in in_index]
        return list(dict.fromkeys([*lost, *(one.digest for one in self._others if one.descriptor and one.lost)]))

    @property
    def with_names(self) -> int:
        """How many have a name."""
        of_sources = sum(one.image_name is not None for one in self._descriptors)
        return of_sources + sum(one.name is not None for one in self._others)

    @cached_property
    def counts(self) -> Counter[IndexSource]:
        """How many entries each source tells of."""
        counts = Counter(source for entry in self._others for source in entry.sources)
        for source, keys in self._tables.items():
            counts[source] += sum(key in keys for key in self._keys)
        counts[IndexSource.FILES] += sum((digest, format_) in self._files for digest, format_, _, _ in self._keys)
        return counts

    @property
    def sources(self) -> list[IndexSource]:
        """The sources to put side by side: journal and other caches only where an entry is told of by them."""
        seldom = IndexSource.JOURNAL, IndexSource.PEERS
        return [source for source in IndexSource if source not in seldom or self.counts[source]]

    def bad(self, *, or_odd: bool = False) -> Iterator[int]:
        """The positions of those whose files are not whole, or that have no name; or of all that are not as usual."""
        for at, key in enumerate(self._keys):
            found = self._files.get(key[:2])
            is_bad = found is None or found.problems or self._descriptors[at].image_name is None
            if is_bad or (or_odd and found is not None and self._differs(at, found)):
                yield at
        for at, one in enumerate(self._others, len(self._keys)):
            if one.problems or one.name is None or (or_odd and (one.removed_by or one.conflicts)):
                yield at

    def _differs(self, at: int, found: FoundEntry) -> bool:
        """Whether the sources tell different things of an entry."""
        key, one = self._keys[at], self._descriptors[at]
        others = (table.get(key, one) for table in self._tables.values())
        if not self._single or any(other is not one and other != one for other in others):
            return bool(self._named(at).conflicts)
        if (said := found.said) is None:
            return False
        size, media_type, platform = said
        told = one.platform is None or platform in ("", str(one.platform))
        return size != one.size or media_type != one.media_type or not told

    def _names_of(self, key: EntryKey) -> tuple[tuple[IndexSource, str], ...]:
        """The names that each source has for an entry's digest and format."""
        if self._single:
            return tuple((source, key[2]) for source, keys in self._tables.items() if key in keys)
        return tuple((source, names[key[:2]]) for source, names in self._names.items() if key[:2] in names)

    @cached_property
    def _names(self) -> dict[IndexSource, dict[FileKey, str]]:
        """The names of each digest and format by source, where some have several."""
        names: dict[IndexSource, dict[FileKey, str]] = {}
        for source, keys in self._tables.items():
            of_source = names[source] = {}
            for digest, format_, name, _ in keys:
                before = of_source.get((digest, format_))
                of_source[digest, format_] = name if before is None else f"{before}, {name}"
        return names

    # One of them

    def _named(self, at: int) -> JoinedEntry:
        """An entry of the index, of the backup, of the journal, or of several."""
        key, descriptor = self._keys[at], self._descriptors[at]
        found = self._files.get(key[:2])
        return JoinedEntry(
            descriptor.digest,
            descriptor.format,
            descriptor.image_name,
            descriptor,
            self._origins[at],
            found.problems if found else ("there is no packed file",),
            {source: table[key] for source, table in self._tables.items() if key in table},
            found,
            self._names_of(key),
            tuple(self._hints.get(key[0], ())),
        )

    def _nameless(self, found: FoundEntry, heard: str) -> JoinedEntry:
        """An entry of which neither index nor backup tells, as the operator names it, or the journal last knew it, or
        as it is ``heard`` from other caches (empty: it is not, or need not be)."""
        given, noted = self._given.get(found.key), self._noted.get(found.key)
        source = IndexSource.FILES if noted is None or given is not None else IndexSource.JOURNAL
        told = {} if noted is None else {IndexSource.JOURNAL: noted}
        descriptor = found.named(given) if given is not None else noted or found.descriptor
        if heard and (named := found.named(ImageName.parse(heard))) is not None:
            source, descriptor, told = IndexSource.PEERS, named, {IndexSource.PEERS: named}
        return JoinedEntry(
            found.digest,
            found.format.value,
            descriptor.image_name if descriptor is not None else None,
            descriptor,
            None if descriptor is None else source,
            found.problems,
            told,
            found,
            more_hints=tuple(self._hints.get(found.digest, ())),
        )

    def _left_out(self, identity: Identity, by: Transaction) -> JoinedEntry:
        digest, format_, name = identity
        noted = self._noted.get((digest, format_))
        told = {} if noted is None else {IndexSource.JOURNAL: noted}
        return JoinedEntry(digest, format_, name, None, None, (), told, removed_by=by.id)


def _once(salvaged: Sequence[Descriptor]) -> list[Descriptor]:
    """Each entry once, at its last place: what repeats another is none more, as where an index was written twice."""
    last = {descriptor.identity: at for at, descriptor in enumerate(salvaged)}
    return [salvaged[at] for at in sorted(last.values())] if len(last) < len(salvaged) else [*salvaged]


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
        if at in before:
            result += reversed(before[at])
        result += index[at : at + 1]
    return result


def _stored_since(index: Sequence[EntryKey], backup: Sequence[EntryKey]) -> int:
    """How many entries of the index stand before all that were stored since the backup, which have left its order."""
    ranks = {key: rank for rank, key in enumerate(backup)}
    last = -1
    for at, key in enumerate(index):
        if ranks.get(key, -1) <= last:
            return at
        last = ranks[key]
    return len(index)


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


def join_sources(
    snapshot: Snapshot, history: History, names: Mapping[str, str], peers: PeerNames | None = None
) -> JoinedEntries:
    """Join what index, newest backup, journal, files and other caches tell; ``names`` are given. Raises
    CacheDirectoryError."""
    sound, data = snapshot.index is not None, snapshot.data or b""
    left = list(snapshot.descriptors) if sound else salvage_entries(data, history.backup)
    expected = ExpectedEntries(tuple(history.backup))
    with suppress(CacheError):
        expected = expect_entries(snapshot.directory, history.backup, history.since)
    backup, whole = history.backup, left.descriptors if isinstance(left, Salvage) else left
    if tuple(backup) != expected.descriptors:
        there = {one.identity for one in expected.descriptors}
        backup = [descriptor for descriptor in backup if descriptor.identity in there]
    if expected.removed:
        told = {one.identity for one in (*whole, *history.backup)}
        # Of what was taken out, however long ago, only that matters of which something else tells.
        removed = {
            one: by for one, by in expected.removed.items() if one in told or f"{one[0]}.{one[1]}" in snapshot.listing
        }
        expected = ExpectedEntries(expected.descriptors, removed, expected.noted)
    given = {**(_names_of(left) if isinstance(left, Salvage) else {}), **names}
    named = {one.key for descriptors in (expected.descriptors, whole) for one in descriptors}
    files = _told_by_files(snapshot, named, history, names, expected)
    return JoinedEntries(left, backup, files, _by_key(files, given) if given else {}, expected, peers)


def _told_by_files(
    snapshot: Snapshot, named: Collection[Key], history: History, names: Collection[str], expected: ExpectedEntries
) -> list[FoundEntry]:
    """What the files tell, less what is not whole, was an orphan when the backup was made, or was taken out since."""
    since = {(digest, format_): by.started for (digest, format_, _), by in expected.removed.items()}
    there = {one.key for one in expected.descriptors} if since else set()
    kept = history.copy.kept * 1e9 if history.copy is not None else 0.0

    def is_told(found: FoundEntry) -> bool:
        if (key := found.key) in since and key not in there:
            # Not by when it came to its place: a file that comes back from the trash was not stored again.
            return found.digest in names or (found.sound and found.modified > since[key])
        return key in named or (found.sound and (found.digest in names or found.changed_ns > kept))

    return [found for found in rebuild(snapshot.judge) if is_told(found)]


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


def _by_key(files: Iterable[FoundEntry], names: Mapping[str, str]) -> dict[FileKey, ImageName]:
    found: dict[FileKey, ImageName] = {}
    for one in files:
        with suppress(InvalidNameError):
            if one.digest in names:
                found[one.key] = ImageName.parse(names[one.digest])
    return found
