"""The judge: what is wrong with a cache and with each of its entries, by one set of facts, whoever asks.

Its facts are the index, one listing with one stat for each name, both documents and the packed file's header of each
entry, and what deep checks remember. What did not change is not looked at again.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ocitui.cache import (
    ANNOTATION_PACKED_FORMAT,
    FIRST_PACKED,
    INDEX_NAME,
    LEDGER_NAME,
    MANIFEST_PLACE,
    OWN_NAME,
    PLACE_OF_SUFFIX,
    ROW_WIDTH,
    CacheDirectoryError,
    CacheFiles,
    Descriptor,
    ImageIndex,
    Key,
    Ledger,
    Listing,
    PackedFormat,
    file_names,
    identity_of,
    known_format,
    manifest_name,
    part_of,
    valid_digest,
)

from ..acknowledged import ACKNOWLEDGED_NAME, Accepted
from ..findings import NOT_LOOKED, Depth, EntryState, Finding, Where, in_order, state_of
from .entry_checks import (
    DOCUMENTS_LOOKED,
    Carriers,
    Described,
    DigestCheck,
    Expected,
    PackedFile,
    Remembered,
    first_of_formats,
    look_usually,
    missing_file,
    odd,
    oddities,
)
from .index_checks import NO_HISTORY, DescriptorChecks, History, IndexReading, check_index, inferred_formats, read_index

if TYPE_CHECKING:
    from ocitui.threads import Stop  # its event loop is not for a listing

_BATCH = 256
# After these there is nothing that reading all bytes could tell.
_TOLD_ALL = frozenset(
    {"packed-empty", "packed-magic", "packed-truncated", "packed-damaged", "read-error", "file-not-regular"}
)
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_PACKED_PLACES: dict[str | None, int] = {str(format_): PLACE_OF_SUFFIX[format_] for format_ in PackedFormat}
Findings = tuple[Finding, ...]
Told = Callable[[int, int], object]
T = TypeVar("T")


class Judge:
    """`take` notes what changed, `look` looks into it, and the rest may be asked at any time. Any thread may call: one
    at a time takes, or looks at a batch. Who asks for things that have to fit together, while others may call, holds
    ``turn``. ``headers``: packed files are looked into; without, nothing is said to be ok."""

    def __init__(
        self, directory: Path, *, open_files: Callable[[Path], CacheFiles] = CacheFiles, headers: bool = True
    ) -> None:
        self.directory, self._open, self._headers = directory, open_files, headers
        self.turn = threading.RLock()
        self.reading = IndexReading.none()
        self.listing = Listing()
        self.remembered = Remembered(directory)
        self.accepted = Accepted(directory)
        self.about_cache: Findings = ()
        """What is wrong beside the entries, as `look_at_cache` saw it last."""
        self.history: History | None = None
        """What the index, if it is still the same, was compared with then."""
        self.complete = False
        """Whether every entry was looked into once."""
        self.described: dict[str, Described] = {}
        """Where the index does not tell of entries, what the documents of a digest say whose files are as usual."""
        self._checks = DescriptorChecks()
        self._index_checked: tuple[ImageIndex | None, dict[str, str]] = (None, {})
        self.late = False
        """Whether the directory is yet to be listed: by `take`, or by `look` when it goes on after its first batch."""
        # Whether the index that was taken last told of entries.
        self._told = False
        self._of_index: dict[int | None, Findings] = {}
        self._of_files: dict[str, Findings] = {}
        self._unchecked: dict[str, tuple[tuple[str, str], ...]] = {}
        # The formats of entries that were deleted and are back: one finding explains why their files are missing.
        self._came_back: dict[str, frozenset[str]] = {}
        self._looked = bytearray()
        # A dictionary, because files are found quickest in the order they were listed in.
        self._pending: dict[str, None] = {}

    # Taking in what changed

    def read(self) -> None:
        """Read the index and list the directory. Raises CacheDirectoryError."""
        with self._open(self.directory) as files:
            self.take(read_index(files, self.reading.index))

    def begin(self, reading: IndexReading) -> None:
        """Take an index whose entries are to be looked at from the first on: the directory is listed after the first
        hundreds of them, so that these need not wait for it."""
        with self.turn:
            self._begin(reading, reading.index.digests[:_BATCH] if reading.index is not None else ())
            self.late = True

    def look_at(self, reading: IndexReading, digests: Collection[str]) -> None:
        """Take an index, and look at the files of these digests alone."""
        with self.turn:
            self._begin(reading, digests)
            self._pending = dict.fromkeys(digests)
            list(self.look())

    def _begin(self, reading: IndexReading, digests: Iterable[str]) -> None:
        """Take an index, with the files of these digests alone."""
        self.reading, self.listing = reading, Listing()
        with self._open(self.directory) as files:
            valid = filter(valid_digest, dict.fromkeys(digests))
            self.listing.refresh(files, [f"{one}.{suffix}" for one in valid for suffix in PLACE_OF_SUFFIX])
        self._ask_for(self._take_index(reading))
        self.remember()
        self._looked = bytearray(len(self.listing.digests))

    def take(self, reading: IndexReading, names: Collection[str] | None = None, told: Told | None = None) -> None:
        """The index as it was read, and the names that may have changed, any of them where it is None. Raises
        CacheDirectoryError where the directory cannot be listed; all is then as it was."""
        with self.turn, self._open(self.directory) as files:
            before = self.listing
            if names is None or not len(before):
                self.late = False
                digests = reading.index.digests if reading.index is not None else before.digests
                self.listing = Listing.read(files, filter(valid_digest, digests), told)
                self._looked = self._looked_before(before)
                self._ask_for(self.listing.digests_changed(before))
            else:
                parts = map(part_of, self.listing.refresh(files, names))
                self._ask_for(part[0] for part in parts if part is not None)
            self._ask_for(self._take_index(reading))
            self.remember()
            self._looked.extend(bytes(len(self.listing.digests) - len(self._looked)))

    def _ask_for(self, digests: Iterable[str]) -> None:
        """These are to be looked at."""
        self._pending.update(zip(digests, repeat(None)))

    def _looked_before(self, before: Listing) -> bytearray:
        """How far each digest was looked into, by the rows of the new listing."""
        looked, rows, old = bytearray(len(self.listing.digests)), self.listing.rows, self._looked
        for row, digest in enumerate(before.digests[: len(old)]):
            if old[row] and (new := rows.get(digest)) is not None:
                looked[new] = old[row]
        return looked

    def _take_index(self, reading: IndexReading) -> Iterator[str]:
        """The digests of which an entry came, went or changed."""
        # Who watches the directory does not tell of it by name: it was read instead.
        self.listing.put(INDEX_NAME, reading.fact)
        before, had = self.reading, self._told
        self.reading = reading
        if reading.signature != before.signature:
            self.history = None
        self.__dict__.pop("named", None)
        if reading.index is before.index and self.named and had:
            return
        self._told = bool(self._digests)
        if not self.named:
            yield from self.listing.held()
        elif before.index is None or not had:
            yield from (one for one in self._digests if one in self.listing.rows or valid_digest(one))
        else:
            index, old = reading.index or ImageIndex.empty(), before.index
            changed = index.difference(old)
            yield from (index.digests[at] for at in (*changed.added, *changed.changed))
            yield from (old.digests[at] for at in changed.removed)

    @property
    def index(self) -> ImageIndex | None:
        """The index, where it tells what entries there are; else the files do."""
        return self.reading.index if self.named else None

    @property
    def _digests(self) -> Sequence[str]:
        return () if (index := self.index) is None else index.digests

    def _places_of(self, digest: str) -> Sequence[int]:
        """Where the entries of a digest stand, in order; nowhere where the index does not tell of entries."""
        return () if (index := self.index) is None else index.positions(digest, self.listing.rows.get(digest, -1))

    @cached_property
    def named(self) -> bool:
        """Whether the index tells what entries there are; else the files do."""
        index = self.reading.index
        return index is not None and bool(len(index) or not self.listing.files)

    def remember(self) -> set[str]:
        """Read the ledger and what was accepted anew; gives the digests concerned, which are looked at again."""
        with self.turn:
            changed = self.remembered.refresh()
            self._ask_for(changed)
            self.accepted.refresh()
            return changed

    def memory(self) -> tuple[object, ...]:
        """Changes with the files that hold what is remembered: `remember` is to be called then. A look at the disk."""
        return tuple(identity_of(self.directory / OWN_NAME / name) for name in (LEDGER_NAME, ACKNOWLEDGED_NAME))

    @property
    def notes(self) -> list[str]:
        """What could not be read of what is remembered."""
        return [problem for problem in (self.accepted.problem, self.remembered.problem) if problem]

    # Looking

    def look(self, only: frozenset[Key] | None = None) -> Generator[list[str]]:
        """Look at what changed; gives the digests looked at, some hundred at a time. Who stops between two loses
        nothing: the next call goes on. ``only``: the entries to look at. Without the directory all stays as it was."""
        with self.turn:
            if only is not None:
                wanted = {digest for digest, _ in only}
                self._pending = {digest: None for digest in self._pending if digest in wanted}
            self._check_index()
        with suppress(CacheDirectoryError), self._open(self.directory) as files:
            while digests := self._look_at_some(files, only):
                yield digests
                if self.late:
                    self.take(self.reading)
            self.complete = self.complete or only is None

    def _look_at_some(self, files: CacheFiles, only: frozenset[Key] | None) -> list[str]:
        """Look at a batch of what is to be looked at; gives its digests, none once there are no more."""
        with self.turn:
            digests = [*islice(self._pending, _BATCH)]
            for digest in digests:
                self._look_at(files, digest, only)
                self._pending.pop(digest, None)
            if not digests:
                # It has the room of all that were in it.
                self._pending.clear()
            return digests

    @property
    def pending(self) -> list[str]:
        """The digests that are to be looked at."""
        return [*self._pending]

    def _check_index(self) -> None:
        index = self.index
        inferred = {} if index is None else inferred_formats(self.listing, index)
        if self._index_checked == (index, inferred):
            return
        self._index_checked = index, inferred
        self._of_index = {}
        for one in [] if index is None else self._checks.check(index, inferred):
            self._of_index[one.position] = (*self._of_index.get(one.position, ()), one)

    def _look_at(self, files: CacheFiles, digest: str, only: frozenset[Key] | None) -> None:
        row, described = self.listing.rows.get(digest), None if self.named else self.described
        self.described.pop(digest, None)
        if row is not None and only is None and not self.remembered.knows(digest):
            expected, headers = self._expected(digest, row), self._headers
            looked = look_usually(files, self.listing, digest, row, expected, headers=headers, described=described)
            if looked:
                self._looked[row] = looked
                self._of_files.pop(digest, None)
                self._unchecked.pop(digest, None)
                return
        self._look_carefully(files, digest, only)

    def _expected(self, digest: str, row: int) -> list[Expected]:
        """What each entry of a digest says of itself; where the index does not tell, what the files tell of."""
        if (index := self.index) is None:
            at, modes = row * ROW_WIDTH, self.listing.modes
            size = self.listing.sizes[at + MANIFEST_PLACE]
            return [(place, size, None) for place in range(FIRST_PACKED, ROW_WIDTH) if modes[at + place]]
        there = index.positions(digest, row)
        return [(_PACKED_PLACES.get(index.formats[at], 0), index.sizes[at], index.platforms[at]) for at in there]

    def _look_carefully(self, files: CacheFiles, digest: str, only: frozenset[Key] | None) -> None:
        carriers, row = self.carriers(digest), self.listing.rows.get(digest)
        if only is not None:
            carriers = [pair for pair in carriers if pair[1].key in only]
        # Where there are none, its files went, and no index tells that there should be any.
        findings, unchecked, looked = Findings(), tuple[tuple[str, str], ...](), DOCUMENTS_LOOKED
        if carriers:
            if row is None:
                row = self.listing.add_row(digest)
                self._looked.extend(bytes(len(self.listing.digests) - len(self._looked)))
            check = DigestCheck(files, self.listing, digest, carriers, headers=self._headers)
            unchecked, looked = tuple(check.unchecked), check.looked
            findings = (*check.findings, *oddities(self.listing, digest), *self._remembered_of(digest, carriers, row))
        if row is not None:
            self._looked[row] = looked
        _keep(self._of_files, digest, findings)
        _keep(self._unchecked, digest, unchecked)

    def _remembered_of(self, digest: str, carriers: Carriers, row: int) -> Iterator[Finding]:
        for format_, (_, descriptor) in first_of_formats(carriers) if self.remembered.knows(digest) else ():
            fact = self.listing.fact(row * ROW_WIDTH + PLACE_OF_SUFFIX[format_])
            if fact is not None:
                yield from self.remembered.findings(PackedFile(digest, format_, fact.size, descriptor), fact)

    def carriers(self, digest: str) -> Carriers:
        """The entries of a digest that can have files, with positions; without, where the files tell them."""
        if not valid_digest(digest):
            return []
        if (index := self.index) is not None:
            return [(at, index.descriptors[at]) for at in self._places_of(digest)]
        fact = self.listing.get(manifest_name(digest))
        fields = {"mediaType": _MANIFEST_TYPE, "digest": digest, "size": fact.size if fact else 0}
        formats = ({"annotations": {ANNOTATION_PACKED_FORMAT: str(one)}} for one in self.listing.formats(digest))
        return [(None, Descriptor.from_dict({**fields, **format_})) for format_ in formats]

    def look_at_cache(self, stop: Stop | None = None) -> Findings:
        """What is wrong beside the entries, in order: the index, files that nobody names, our own records, the host.
        Raises AbandonedError once ``stop`` is set."""
        from . import cache_checks  # it loads what a listing has no need of

        read = self.reading
        history = cache_checks.known_history(self.directory, read.index)
        if read.index is not None and not read.is_current(self.directory):
            # The journal may tell of a newer index, which is yet to be read.
            history = NO_HISTORY
        with self.turn:
            reading, listing = self.reading, self.listing
            if reading is not read:
                history = NO_HISTORY
            self.history = None if history is NO_HISTORY else history
            complete, files = (0, 0) if reading.index else (listing.complete, listing.files)
            found = check_index(reading, complete, files, history)
            self._came_back = history.came_back
            if self.named and reading.index is not None:
                # Where the index does not tell, no file is an orphan.
                keys = zip(reading.index.digests, reading.index.formats, strict=True)
                found += cache_checks.orphans(listing, chain(keys, history.explained(reading.index)))
            index_file = listing.get(INDEX_NAME)
            found += odd(index_file, path=INDEX_NAME)
            found += [*cache_checks.strangers(listing), *cache_checks.collisions(listing)]
        found += cache_checks.check_own(self.directory)
        found += cache_checks.check_host(self.directory, index_file.size if index_file is not None else 0)
        found += cache_checks.check_zones(self.directory, reading.index, listing, stop)
        self.about_cache = in_order(found)
        return self.about_cache

    def positions_of(self, digests: Iterable[str]) -> list[int]:
        """Where the entries of these digests stand in the index."""
        return sorted(chain.from_iterable(map(self._places_of, digests)))

    # What was found

    def findings_at(self, position: int) -> Findings:
        """What is wrong with an entry of the index; a shared document's faults are those of each of its formats."""
        index = self.reading.index
        if index is None or position >= len(index):
            return ()
        digest, format_ = index.digests[position], index.formats[position]
        of_files = (msgspec.structs.replace(one, position=position) for one in self.findings_of(digest, format_ or ""))
        return self.accepted.mark((*self._of_index.get(position, ()), *of_files))

    def findings_of(self, digest: str, format: str) -> Findings:
        """What is wrong with the files of a digest and format."""
        return tuple(one for one in self._of_files.get(digest, ()) if one.format in ("", format))

    def state_at(self, position: int) -> EntryState:
        """The state of an entry of the index."""
        index = self.reading.index
        if index is None or position >= len(index):
            return NOT_LOOKED
        digest, format_ = index.digests[position], index.formats[position]
        about = position in self._of_index or digest in self._of_files
        return self._state(digest, format_, self.findings_at(position) if about else ())

    def _state(self, digest: str, format: str | None, found: Findings) -> EntryState:
        depth = self.depth_of(digest, format)
        sound = depth is Depth.DEEP and not any(one.is_problem for one in found)
        return state_of(found, depth, *((self.checked(digest, format) if sound else None) or ()))

    def state_by_files(self, digest: str, format: str) -> tuple[EntryState, Findings]:
        """The state of an entry of an index that is there no more, and what is wrong with it, by its files alone."""
        found, known = self.findings_of(digest, format), known_format(format)
        if known is not None and valid_digest(digest):
            about = {one.file for one in found}
            names = ((kind, name) for kind, name in file_names(digest, known).items() if name not in self.listing)
            at = (Where(digest=digest, format=format, kind=kind) for kind, name in names if name not in about)
            found += tuple(map(missing_file, at))
        found = self.accepted.mark(found)
        return self._state(digest, format, found), found

    def depth_of(self, digest: str, format: str | None) -> Depth | None:
        """How deep an entry's state rests; None where it was not looked into."""
        row = self.listing.rows.get(digest)
        looked = self._looked[row] if row is not None and row < len(self._looked) else 0
        if not looked:
            return None
        if not looked >> _PACKED_PLACES.get(format, ROW_WIDTH) & 1:
            return Depth.QUICK
        read = self.checked(digest, format) is not None or self._is_damaged(digest, format)
        return Depth.DEEP if read else Depth.HEADER

    def _is_damaged(self, digest: str, format: str | None) -> bool:
        """Whether a deep check found so what is wrong with its packed file."""
        return any(one.found for one in self._of_files.get(digest, ()) if one.format == format)

    def checked(self, digest: str, format: str | None) -> tuple[int, bool] | None:
        """When all of its packed file was last found sound, as `Remembered.checked` tells it."""
        place = self.listing.place(digest, _PACKED_PLACES.get(format, 0))
        return None if place is None or not place % ROW_WIDTH else self.remembered.checked(self.listing, place)

    @property
    def entries(self) -> int:
        """How many entries the index has, where it tells."""
        return len(self._digests)

    def findings_of_digest(self, digest: str) -> list[Finding]:
        """What is wrong with all files of a digest, each with the position of the first entry that it is about; but for
        those that are missing as their entry was deleted and came back, for which there is one finding."""
        if not (found := self._of_files.get(digest, ())):
            return []
        formats = self._came_back.get(digest, frozenset())
        if formats and formats.issuperset(one.format or "" for _, one in self.carriers(digest)):
            formats |= {""}  # the documents too
        return [self._placed(digest, one) for one in found if one.code != "file-missing" or one.format not in formats]

    def index_findings(self, only: frozenset[Key] | None = None) -> list[Finding]:
        """What is wrong with single descriptors."""
        found = [one for of_index in list(self._of_index.values()) for one in of_index]
        return found if only is None else [one for one in found if (one.digest, one.format or None) in only]

    def entry_findings(self, only: frozenset[Key] | None = None) -> list[Finding]:
        """All that is wrong with entries, each fault of a shared file once."""
        found = self.index_findings(only)
        for digest in list(self._of_files):
            found += self.findings_of_digest(digest)
        return found

    def _placed(self, digest: str, finding: Finding) -> Finding:
        index, there = self.index, self._places_of(digest)
        if index is None or not there:
            return finding
        for wanted in ((finding.format, finding.name), (finding.format,)):
            for position in there if len(there) > 1 else ():
                if (index.formats[position] or "", index.names[position] or "")[: len(wanted)] == wanted:
                    return msgspec.structs.replace(finding, position=position)
        return msgspec.structs.replace(finding, position=there[0])

    def findings(self) -> Findings:
        """All that is known to be wrong, in order: the worst first, then by place in the index."""
        return in_order(self.accepted.mark([*self.about_cache, *self.entry_findings()]))

    @property
    def unchecked(self) -> list[tuple[str, str]]:
        """The packed files whose headers do not tell whether they are whole, each with the reason."""
        return [pair for pairs in list(self._unchecked.values()) for pair in pairs]

    # For deeper checks

    def depths(self, only: frozenset[Key] | None = None) -> Iterator[tuple[str, str | None, Depth]]:
        """How deep each entry that can have files was looked into: its digest and format, and the depth by now."""
        listing = self.listing
        keys: Iterable[Key] = ((one, format_.value) for one in listing.held() for format_ in listing.formats(one))
        if (index := self.index) is not None:
            keys = zip(index.digests, index.formats, strict=True)
        rows, looked, places = listing.rows, self._looked, _PACKED_PLACES
        # What was read through before is told apart from what was read now.
        depths = (Depth.QUICK, Depth.HEADER)
        for digest, format_ in keys:
            row = rows.get(digest)
            if (only is None or (digest, format_) in only) and (row is not None or valid_digest(digest)):
                far = looked[row] if row is not None and row < len(looked) else 0
                yield digest, format_, depths[far >> places.get(format_, ROW_WIDTH) & 1]

    def remember_more(self, ledger: Ledger) -> None:
        """Know what a deep check noted, whether it could be written down or not."""
        with self.turn:
            self._ask_for(self.remembered.take(ledger))
        list(self.look())

    def packed_files(self, only: frozenset[Key] | None = None) -> list[PackedFile]:
        """The packed files that are there and hold something, each once, by the order of the index."""
        files: list[PackedFile] = []
        for digest in dict.fromkeys(self._digests) if self.named else self.listing.held():
            for format_, (position, descriptor) in first_of_formats(self.carriers(digest)):
                fact = self.listing.get(f"{digest}.{format_}")
                wanted = only is None or descriptor.key in only
                if wanted and fact is not None and fact.regular and fact.size:
                    files.append(PackedFile(digest, format_, fact.size, descriptor, position))
        return files

    def can_tell_more(self, digest: str, format: str) -> bool:
        """Whether a packed file is so well that reading all of it can tell more, whatever is remembered of before."""
        found = self._of_files.get(digest)
        if not found:
            return True
        of_file = [one.code for one in found if one.file == f"{digest}.{format}" and one.found is None]
        unread = "wrong-mode" in of_file and self.depth_of(digest, format) is Depth.QUICK
        return not unread and not _TOLD_ALL.intersection(of_file)

    def unread(self) -> int:
        """How many packed files a deep check would read that none has read as they are now."""
        return sum(
            (place := self.listing.place(digest, _PACKED_PLACES.get(format_, 0))) is not None
            and place % ROW_WIDTH != 0
            and stat.S_ISREG(self.listing.modes[place])
            and self.remembered.checked(self.listing, place) is None
            and self.can_tell_more(digest, format_ or "")
            and not self._is_damaged(digest, format_)
            for digest, format_ in {(digest, format_) for digest, format_, _ in self.depths()}
        )


def _keep(found: dict[str, tuple[T, ...]], digest: str, what: tuple[T, ...]) -> None:
    if what:
        found[digest] = what
    else:
        found.pop(digest, None)
