"""Why the daemon answers as it does: one chain from what was typed, by krata's spelling and the index, to each answer;
and what it would find of each entry that the zones of a host need.

The daemon's rules are those of `ocitui.cache.lookup`. The chain goes on where a lookup stops, to tell all that is
wrong, and looks where the daemon does not: at the documents' digests, the packed file's header, its recorded sha256.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ocitui.cache import (
    INDEX_NAME,
    LATEST,
    MOST_DOCUMENT_BYTES,
    MOST_INDEX_BYTES,
    CacheError,
    CacheFiles,
    ContainerConfig,
    Descriptor,
    Explanation,
    FileKind,
    ImageIndex,
    ImageName,
    IndexFile,
    IndexOutcome,
    Ledger,
    NamedEntry,
    PackedFormat,
    Reason,
    StorageError,
    Transaction,
    Verdict,
    explain_recall,
    explain_resolve,
    file_names,
    find_entry,
    open_bounded,
    packed_name,
    part_of,
    read_config,
    read_patiently,
    read_regular,
    read_trashed,
    stem_of,
    usable_digest,
)
from ocitui.contents import FoundProgram, find_program, open_lazily
from ocitui.host import Need, When, Zone, Zones, read_zones
from ocitui.text import first_of, timestamp
from ocitui.threads import Stop

from .check.cache_checks import taken_file_missing
from .check.entry_checks import has_digest
from .check.index_checks import IndexReading, read_index
from .check.judge import Judge
from .findings import DOCUMENT_FAULTS, MISSES, Answer, Finding, Severity, found_text, is_of_entry
from .origins import Origins, ask_origins
from .salvage.salvage import salvage_entries

if TYPE_CHECKING:
    from ocitui.importing import RegistryOptions

REPAIR = "`ocitui repair` shows what can be brought back"
_IMPORT = "import it again, or let the daemon pull it: `ocitui repair` shows what there is to restore it from"
# While the bad file is there the daemon takes it for a hit, and pulls nothing.
_REPLACE = "`ocitui repair` restores it; or moves it aside, where it can come back: then a pull by name brings it again"
_MOVE_ASIDE = "move it aside with `ocitui repair`: the error becomes a miss, which the daemon heals by pulling"


class LinkState(StrEnum):
    """UNKNOWN: it was not looked at, or cannot be told."""

    OK = "ok"
    BAD = "bad"
    UNKNOWN = "unknown"


class Link(msgspec.Struct, frozen=True):
    """One step from a name to an answer; ``advice`` is what to do about it, empty where there is nothing to do."""

    title: str
    standing: LinkState
    text: str
    advice: str = ""


def ok_or_bad(ok: bool) -> LinkState:
    return LinkState.OK if ok else LinkState.BAD


_OF_FILE = frozenset({"file-missing", "file-not-regular", "read-error", "wrong-mode", "packed-empty"})
_OF_HEADER = frozenset({"packed-magic", "packed-truncated", "packed-damaged"})


class _FileLinks:
    """What the judge found of an entry's files and of what is in them, each whatever the one before it was."""

    def __init__(self, judge: Judge, digest: str, format_: PackedFormat, ledger: Ledger) -> None:
        self._directory, self._digest, self._format, self._ledger = judge.directory, digest, format_, ledger
        self.program: FoundProgram | None = None
        self._origins = Origins(judge.directory, ledger)
        self._names = file_names(digest, format_)
        self._facts = {kind: judge.listing.get(name) for kind, name in self._names.items()}
        self._findings = judge.findings_of(digest, format_)
        self._unchecked = dict(judge.unchecked).get(self._names[FileKind.PACKED], "")

    def __iter__(self) -> Iterator[Link]:
        yield from map(self._file, self._facts)
        for kind in (FileKind.MANIFEST, FileKind.CONFIG):
            if self._is_there(kind):
                yield self._document(kind)
        if self._is_there(FileKind.PACKED):
            header = self._header()
            yield header
            yield self._content()
            if header.standing is LinkState.OK:
                yield from self._program()
            yield self._again()

    def _found(self, kind: FileKind, codes: Collection[str]) -> Finding | None:
        """What was found now of a file, the worst first."""
        of_file = [one for one in self._findings if one.kind is kind and one.code in codes and one.found is None]
        return max(of_file, key=lambda one: one.severity.rank, default=None)

    def _is_there(self, kind: FileKind) -> bool:
        """Whether there is a file that the daemon takes for one."""
        return self._facts[kind] is not None and self._found(kind, _OF_FILE - {"read-error", "wrong-mode"}) is None

    def _file(self, kind: FileKind) -> Link:
        fact, name = self._facts[kind], self._names[kind]
        title = "packed file" if kind is FileKind.PACKED else kind.value
        if fact is None:
            return Link(title, LinkState.BAD, f"{name}: missing", _IMPORT)
        if (found := self._found(kind, _OF_FILE)) is not None and found.code != "wrong-mode":
            return Link(title, LinkState.BAD, f"{name}: {found.seen}", "move it aside with `ocitui repair`")
        if fact.link:
            return Link(title, LinkState.OK, f"{name}: a regular file, behind a link")
        return Link(title, LinkState.OK, f"{name}: a regular file of {fact.size} bytes")

    def _document(self, kind: FileKind) -> Link:
        title, found = f"{kind}'s content", self._found(kind, DOCUMENT_FAULTS | {"read-error", "wrong-mode"})
        if found is None:
            if has_digest(b"", self._digest) is None or (
                kind is FileKind.CONFIG and self._found(FileKind.MANIFEST, DOCUMENT_FAULTS | _OF_FILE)
            ):
                text = "the daemon reads it; whether it is what its digest says cannot be told"
                return Link(title, LinkState.UNKNOWN, text)
            which = f", {self._digest}" if kind is FileKind.MANIFEST else ""
            return Link(title, LinkState.OK, f"the daemon reads it, and it is what its digest says{which}")
        advice = _REPLACE if found.answer is Answer.HIT else _MOVE_ASIDE
        return Link(title, LinkState.BAD, f"{found.seen}: {found.daemon}", advice)

    def _header(self) -> Link:
        found = self._found(FileKind.PACKED, _OF_HEADER)
        if found is not None:
            return Link(
                "header", LinkState.BAD, f"{found.seen}: the daemon does not look, and the guest fails later", _REPLACE
            )
        if unread := self._found(FileKind.PACKED, _OF_FILE):
            return Link("header", LinkState.BAD, unread.seen, _REPLACE)
        if self._unchecked:
            return Link("header", LinkState.UNKNOWN, f"{self._format}; not checked: {self._unchecked}")
        return Link("header", LinkState.OK, f"{self._format}, and the file is as long as its header says")

    def _again(self) -> Link:
        """Whether it can come back once it is gone."""
        origin = self._origins.of(self._names[FileKind.PACKED])
        advice = "" if origin.is_sure else "`ocitui why NAME --ask` asks the registry now"
        return Link("comes back", LinkState.OK if origin.is_sure else LinkState.UNKNOWN, origin.text, advice)

    def _program(self) -> Iterator[Link]:
        """Whether what the image runs can be run; nothing where its config cannot be read."""
        try:
            config = read_config(read_regular(self._directory / self._names[FileKind.CONFIG], MOST_DOCUMENT_BYTES))
            run = config.config or ContainerConfig()
            if not (command := [*(run.entrypoint or ()), *(run.cmd or ())]):
                yield Link("program", LinkState.UNKNOWN, "its config names none: a zone is to be given a command")
                return
            path = self._directory / self._names[FileKind.PACKED]
            with open_bounded(path) as file:
                tree = open_lazily(path, file, self._format, Stop())
                found = find_program(tree, command, run.env or (), run.working_dir or "", config.architecture)
        except (CacheError, OSError) as error:
            why = getattr(error, "strerror", None) or error
            yield Link("program", LinkState.UNKNOWN, f"it cannot be told: {why}")
            return
        self.program = found
        if found.problem or found.unsure:
            # A zone may be given another command: this is no verdict.
            said = f"cannot be run as it is: {found.problem}" if found.problem else f"not told: {found.unsure}"
            yield Link("program", LinkState.UNKNOWN, f"{found.asked}: {said}")
        else:
            yield Link("program", LinkState.OK, f"{', run by '.join(found.paths)}: there, and executable")

    def _content(self) -> Link:
        fact = self._facts[FileKind.PACKED]
        damage = next((one for one in self._findings if one.found is not None), None)
        if damage is not None and damage.found is not None:
            text = f"{damage.code}: {damage.seen}; {found_text(damage.found)}, and not read again now"
            return Link("content", LinkState.BAD, text, _REPLACE)
        recorded = self._ledger.sound.get(self._names[FileKind.PACKED])
        if recorded is None:
            text = "no sha256 of it was recorded, so that a flipped bit would not show"
            return Link("content", LinkState.UNKNOWN, text, "`ocitui check --depth deep` reads and records it")
        checked = timestamp(recorded.checked)
        if fact is None or recorded.identity != fact.identity:
            text = f"it was written since its sha256 was recorded at {checked}"
            return Link("content", LinkState.UNKNOWN, text, "`ocitui check --depth deep` compares it")
        text = f"not written since its sha256 was recorded at {checked}; not read again now"
        return Link("content", LinkState.OK, text)


_DIGEST = re.compile(r"sha(?:256|384|512):[0-9a-f]*")
_SOME_NAME = ImageName.parse("image")
_MOST_NAMES = 5


class FormatChain(msgspec.Struct, frozen=True):
    """The links of one format, and what the daemon answers in it; ``text`` says what follows from that, ``program``
    what would be run of it, if that is known."""

    format: PackedFormat
    links: tuple[Link, ...]
    answer: Answer
    text: str
    program: FoundProgram | None = None


class Chain(msgspec.Struct, frozen=True):
    """``typed`` is what was asked for: a name, krata's spelling of which is ``name``, or the ``digest`` it stands for
    (empty: none). ``links`` lead to it, and go on in each format. ``outcome`` is the daemon's with this index."""

    typed: str
    name: str
    digest: str
    outcome: IndexOutcome
    links: tuple[Link, ...]
    formats: tuple[FormatChain, ...]

    @property
    def assumed(self) -> bool:
        """Whether the index is corrupt, and what was salvaged stands for it: the answers are those after a repair."""
        return self.outcome in (IndexOutcome.RESET, IndexOutcome.ERROR)


async def chain_of(
    directory: Path, text: str, format: PackedFormat | None = None, *, fallback: PackedFormat | None = None
) -> Chain:
    """The chain for an entry as `find_entry` takes it, else for a name or a digest that no entry has. It is in
    ``format``; else in that of the word, in the ``fallback``, in all there are. What can be salvaged stands for an
    index that is corrupt. Raises AmbiguousDigestError, InvalidNameError, CacheDirectoryError."""
    return await asyncio.to_thread(lambda: _Asking(directory, format, fallback).why(text))


async def ask_upstream_of(directory: Path, chain: Chain, options: RegistryOptions, *, keep: bool = True) -> Chain:
    """The chain with one link more: whether upstream still gives what it ends in, and whether its name gives that there
    today; as it was where there is nothing to ask for. The answer is noted in the ledger, unless it is not to ``keep``.
    Raises CacheDirectoryError, CorruptIndexError."""
    index = (await asyncio.to_thread(read_patiently, directory)).contents
    names = (index.names[at] for at in index.positions(chain.digest))
    name = chain.name or next(filter(None, names), "")
    if not (name and usable_digest(chain.digest)):
        return chain
    file, ledger = packed_name(chain.digest, chain.formats[0].format), await asyncio.to_thread(Ledger.open, directory)
    answer = (await ask_origins(directory, ledger, {file: name}, options, anew=True)).get(file)
    if keep:
        with suppress(CacheError):
            await asyncio.to_thread(ledger.flush)
    if answer is None:
        return chain
    link = Link("upstream", LinkState.OK if answer.today else LinkState.UNKNOWN, answer.text)
    if answer.today and answer.today != chain.digest:
        advice = f"`kratactl image pull --update {name}` would bring that one" if chain.name else ""
        link = Link("upstream", LinkState.BAD, f"{name} is {answer.today} there today; {answer.text}", advice)
    return msgspec.structs.replace(chain, links=(*chain.links, link))


class _Asking:
    """One question, and the cache as it is while it is answered."""

    def __init__(self, directory: Path, format_: PackedFormat | None, fallback: PackedFormat | None) -> None:
        self._directory, self._format, self._fallback = directory, format_, fallback
        self._ledger = Ledger.open(directory)
        seen = read_patiently(directory)
        self._judged: dict[str, Judge] = {}
        self._verdict = seen.verdict
        self._links = [_index_link(seen.verdict)]
        self._index = seen.contents if seen.verdict.sound else self._salvaged(seen)
        # Digests are told by names alone: the files of one are looked at once it is known which.
        self._files = {part for name in os.listdir(directory) if (part := part_of(name)) is not None}

    def why(self, text: str) -> Chain:
        index = self._index
        named = find_entry(text, index.digests, index.names, (digest for digest, _ in self._files))
        if named is not None:
            self._format = named.asked_format(self._format)
        elif _DIGEST.fullmatch(text):
            named = NamedEntry(text, text)
        self._format = self._format or self._fallback
        if named is None or named.by_name:
            return self._by_name(text, named.text if named else text)
        self._links.append(Link("digest", LinkState.OK, named.digest))
        self._links += self._carried(named.digest)
        return self._chain(text, "", named.digest, self._formats(named.digest, _SOME_NAME))

    def _salvaged(self, seen: IndexFile) -> ImageIndex:
        found = salvage_entries(seen.data or b"")
        refused = f", {len(found.refused)} whole ones are refused by the daemon" if found.refused else ""
        text = f"{len(found.sound)} descriptors can be salvaged{refused}, {len(found.gaps)} pieces are none"
        self._links.append(Link("salvage", ok_or_bad(bool(found.sound)), text, REPAIR))
        raws = b",".join(descriptor.raw for descriptor in found.descriptors)
        return ImageIndex.parse(b'{"schemaVersion":2,"manifests":[' + raws + b"]}")

    def _by_name(self, typed: str, text: str) -> Chain:
        name = ImageName.parse(text)
        spelling = str(name)
        winner = None if name.reference == LATEST else self._index.by_name(spelling)
        # In the index alone, whatever the files are.
        devnull, format_ = Path(os.devnull), self._format or PackedFormat.SQUASHFS
        reasons = explain_resolve(devnull, self._index, name, format_).reasons
        # What it says before it goes on with the winner's digest.
        first, *rest = reasons if winner is None else reasons[: 1 + self._index.names.count(spelling)]
        self._links.append(Link("name", ok_or_bad(first.ok), first.text))
        for reason in rest:
            advice = "" if reason.ok else self._advice(spelling)
            self._links.append(Link("carriers", ok_or_bad(reason.ok), reason.text, advice))
        if winner is None:
            return self._chain(typed, spelling, "", [FormatChain(format_, (), Answer.MISS, MISSES)])
        formats = self._formats(winner.digest, name)
        if not any(one.answer is Answer.HIT for one in formats):
            self._links += self._other_carriers(spelling, winner)
        return self._chain(typed, spelling, winner.digest, formats)

    def _advice(self, spelling: str) -> str:
        """What to do about a name that no entry wins."""
        if spelling.endswith(f":{LATEST}"):
            return f"ask for {spelling.removesuffix(f':{LATEST}')!r} without a tag, or pull another tag"
        stem = stem_of(spelling)
        names = sorted({name for name in self._index.names if name and stem_of(name) == stem})
        return f"there is {first_of(names, _MOST_NAMES)}" if names else ""

    def _other_carriers(self, spelling: str, winner: Descriptor) -> Iterator[Link]:
        """Entries of the name that would be a hit, if one of them were the last."""
        carried = zip(self._index.digests, self._index.names, strict=True)
        for digest in dict.fromkeys(digest for digest, name in carried if name == spelling):
            if digest != winner.digest and any(one.answer is Answer.HIT for one in self._formats(digest, _SOME_NAME)):
                advice = f"`ocitui point {spelling} {digest}` lets it win, and deletes nothing"
                yield Link("carriers", LinkState.OK, f"{digest} carries the name too, and would be a hit", advice)

    def _carried(self, digest: str) -> Iterator[Link]:
        """The names of a digest's entries, and whether each leads to it."""
        places = self._index.positions(digest)
        for at in places:
            yield self._carrier(at, self._index.descriptors[at])
        if not places:
            advice = f"its files are there: {REPAIR}" if any(digest == one for one, _ in self._files) else ""
            yield Link("names", LinkState.BAD, "no entry has this digest", advice)

    def _carrier(self, at: int, descriptor: Descriptor) -> Link:
        name, what = descriptor.image_name, f"entry {at + 1}, {descriptor.format or 'without a format'},"
        if name is None:
            return Link("names", LinkState.BAD, f"{what} has no name: only its digest leads to it")
        winner = self._index.by_name(name)
        if winner is not None and winner.digest != descriptor.digest:
            advice = f"`ocitui point {name} {descriptor.digest}` lets it win, and deletes nothing"
            return Link("names", LinkState.BAD, f"{what} carries {name!r}, which {winner.digest} wins", advice)
        if descriptor.reference == LATEST:
            return Link("names", LinkState.BAD, f"{what} carries {name!r}, whose tag is never resolved from the cache")
        return Link("names", LinkState.OK, f"{what} carries {name!r} and wins it")

    def _formats(self, digest: str, name: ImageName) -> tuple[FormatChain, ...]:
        if self._format is not None:
            return (self._in_format(digest, name, self._format),)
        there: set[str | None] = {kind for one, kind in self._files if one == digest}
        there |= {self._index.formats[at] for at in self._index.positions(digest)}
        known = [format_ for format_ in PackedFormat if format_ in there] or [PackedFormat.SQUASHFS]
        return tuple(self._in_format(digest, name, format_) for format_ in known)

    def _in_format(self, digest: str, name: ImageName, format_: PackedFormat) -> FormatChain:
        try:
            found = explain_recall(self._directory, self._index, name, digest, format_)
        except StorageError as error:
            found = Explanation((Reason(True, f"the index has {digest} {format_}"),), error=error.message)
        reason = found.reasons[0]
        advice = f"its files are there: {REPAIR}" if not reason.ok and (digest, format_) in self._files else ""
        links = [Link("entry", ok_or_bad(reason.ok), reason.text, advice)]
        program = None
        if usable_digest(digest):
            of_files = _FileLinks(self._judge(digest), digest, format_, self._ledger)
            links += of_files
            program = of_files.program
        else:
            links.append(Link("files", LinkState.BAD, f"{digest!r} cannot be a file name"))
        answer, text = Answer.MISS, MISSES
        if found.hit:
            answer, text = Answer.HIT, f"a hit: {found.image.path.name}" if found.image else ""
        elif found.error:
            answer, text = Answer.ERROR, f"an error, at every lookup: no pull heals it: {found.error}"
        return FormatChain(format_, tuple(links), answer, text, program)

    def _judge(self, digest: str) -> Judge:
        """What is found of the files of a digest, by its entries, or where it has none by the files themselves."""
        if digest not in self._judged:
            judge = self._judged[digest] = Judge(self._directory)
            index = self._index if digest in self._index.digests else None
            judge.look_at(IndexReading(None, self._verdict, index), [digest])
        return self._judged[digest]

    def _chain(self, typed: str, name: str, digest: str, formats: Iterable[FormatChain]) -> Chain:
        links = *self._links, *self._zones(name, digest)
        return Chain(typed, name, digest, self._verdict.outcome, links, tuple(formats))

    def _zones(self, name: str, digest: str) -> Iterator[Link]:
        """The zones that have an image of the name, or the digest, be it what the name gives now or another."""
        carried = zip(self._index.digests, self._index.names, strict=True)
        digests = {digest, *(one for one, of in carried if name and of == name)}
        zones = read_zones(self._directory, ask=False)
        having = [(zone, need) for zone, need in zones.needs() if need.digest in digests]
        for zone, need in having[:_MOST_NAMES]:
            text = f"{zone.label}, {zone.state}, has {need.digest} for its {need.role}"
            if need.digest == digest:
                yield Link("zone", LinkState.OK, text)
            else:
                advice = "created anew it has that one again: a zone knows a digest, and no name"
                yield Link("zone", LinkState.BAD, f"{text}, which {name} gives no more", advice)
        if (more := len(having) - _MOST_NAMES) > 0:
            yield Link("zone", LinkState.OK, f"and {more} more")
        if zones.doubt:
            yield Link("zone", LinkState.UNKNOWN, f"others may have it too: {zones.doubt}")


def _index_link(verdict: Verdict) -> Link:
    if verdict.outcome is IndexOutcome.LOADED:
        return Link("index", LinkState.OK, verdict.consequence)
    if verdict.sound:
        return Link("index", LinkState.BAD, f"there is no index.json: {verdict.consequence}", REPAIR)
    return Link("index", LinkState.BAD, f"it is corrupt: {verdict.place}; {verdict.consequence}", REPAIR)


# What zones need, and what an undo takes away


class NeedVerdict(StrEnum):
    """What recalling an entry comes to. DAMAGED: a hit that fails the guest. UNKNOWN: the index does not tell."""

    HIT = "hit"
    MISS = "miss"
    ERROR = "error"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"


class JudgedNeed(msgspec.Struct, frozen=True):
    """A zone's need with its verdict, and a name of the image (empty: none), that of another if ``overruled``."""

    zone: Zone
    need: Need
    verdict: NeedVerdict
    name: str = ""
    overruled: bool = False

    @property
    def fails(self) -> bool:
        """Whether the daemon looks for it, and does not get it as it should be."""
        return self.need.when is not When.NONE and self.verdict not in (NeedVerdict.HIT, NeedVerdict.UNKNOWN)

    @property
    def is_open(self) -> bool:
        """Whether the daemon looks for it, and nobody can tell what it finds."""
        return self.need.when is not When.NONE and self.verdict is NeedVerdict.UNKNOWN


def judged_needs(directory: Path, zones: Zones) -> list[JudgedNeed]:
    """Every need of every zone. Raises CacheDirectoryError."""
    judge = Judge(directory)
    with CacheFiles(directory) as files:
        reading = read_index(files)
    needed = dict.fromkeys(need.digest for zone in zones.zones for need in zone.needs if usable_digest(need.digest))
    judge.look_at(reading, needed)
    return [*_judged(judge, zones)]


def indexes_of_undo(directory: Path, target: Transaction) -> tuple[Sequence[Descriptor], Sequence[Descriptor]]:
    """The entries of index.json as an undo brings it back whole, and as it is: as many as can be read."""
    if target.swap is None:
        return (), ()
    old = target.swap.old
    before = _entries(lambda: read_trashed(directory, old.trash, MOST_INDEX_BYTES)) if old else ()
    return before, _entries(lambda: read_regular(directory / INDEX_NAME, MOST_INDEX_BYTES))


def _entries(read: Callable[[], bytes]) -> Sequence[Descriptor]:
    with suppress(CacheError):
        return salvage_entries(read()).descriptors
    return ()


def files_of_undo(target: Transaction, old: Sequence[Descriptor], now: Sequence[Descriptor]) -> list[str]:
    """The packed files that an undo takes away or replaces, with the entries that `indexes_of_undo` gives."""
    stays = {one.identity for one in (*old, *(one.descriptor for one in target.removed))}
    going = (one for one in (*now, *(one.descriptor for one in target.added)) if one.identity not in stays)
    return [*(one.packed_file for one in going), *(one.name for one in target.placed)]


def _judged(judge: Judge, zones: Zones) -> Iterator[JudgedNeed]:
    verdict_of = cache(partial(_need_verdict, judge))
    lacks = cache(partial(taken_file_missing, judge.directory))
    winners = judge.reading.index.winners if judge.reading.index is not None else {}
    for zone in zones.zones:
        for need in zone.needs:
            verdict, name = verdict_of(need.digest, need.format)
            if verdict is NeedVerdict.HIT and lacks(need.digest, need.role):
                verdict = NeedVerdict.DAMAGED
            overruled = bool(name) and winners.get(name) != need.digest
            yield JudgedNeed(zone, need, NeedVerdict.ERROR if need.error else verdict, name, overruled)


def _need_verdict(judge: Judge, digest: str, format: PackedFormat) -> tuple[NeedVerdict, str]:
    """Of an entry, as the daemon recalls it: the first of that digest and format."""
    if (index := judge.reading.index) is None:
        return NeedVerdict.UNKNOWN, ""
    if (at := index.position(digest, format)) is None:
        return NeedVerdict.MISS, ""
    name, of_files = index.names[at] or "", [one for one in judge.findings_at(at) if is_of_entry(one)]
    answers = {one.answer for one in of_files}
    if answers & {Answer.ERROR, Answer.HANGS}:
        return NeedVerdict.ERROR, name
    if Answer.MISS in answers:
        return NeedVerdict.MISS, name
    if any(one.severity.rank >= Severity.HIGH.rank for one in of_files):
        return NeedVerdict.DAMAGED, name
    return NeedVerdict.UNKNOWN if judge.state_at(at).depth is None else NeedVerdict.HIT, name
