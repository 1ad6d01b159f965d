"""Steps of a repair: what each does, what it costs, the change it stands for, and what they are planned from."""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import msgspec

from ocitui.cache import (
    INDEX_NAME,
    ChangeMode,
    Descriptor,
    Discard,
    ImageIndex,
    IndexReplacement,
    IndexSeen,
    Insert,
    Listing,
    PackedFormat,
    Place,
    Seen,
    see_index,
)
from ocitui.importing import SourceOptions
from ocitui.text import short_digest

from ..check.judge import Judge
from ..findings import Finding, StepKind
from ..report import Report


class RepairProgress(msgspec.Struct, frozen=True):
    """How far a plan is made, or carried out: ``doing`` in words, and bytes done and in all (0: not known)."""

    doing: str
    done: int = 0
    total: int = 0


ProgressCall = Callable[[RepairProgress], None]


class Fate(StrEnum):
    """What happens to a file: its value goes behind the file's name."""

    TRASHED = "goes to the trash"
    PLACED = "comes in"
    REPLACED = "goes to the trash, and another comes in"
    MODE = "its mode changes"
    REMOVED = "is removed"


class StepFile(msgspec.Struct, frozen=True):
    """A file that a step touches; ``size`` in bytes is that of what goes, or of what comes where nothing goes."""

    name: str
    fate: Fate
    size: int


class FetchKind(StrEnum):
    """DEVICE: read from a loop device; COPY: a file outside the cache; IMPORT: flattened and packed from layers; HOST:
    a file of another host's cache."""

    DEVICE = "device"
    COPY = "copy"
    IMPORT = "import"
    HOST = "host"


class Fetch(msgspec.Struct, frozen=True):
    """A packed file that is brought into the staging folder before it is placed under ``name``. ``origin`` is a device,
    a path, a cache as `OtherHosts` takes it, or a source as `importing.open_source` reads one; ``size`` in bytes is
    what is expected (0: not known); ``sha256`` is what its bytes must have, empty for an import. What is made
    ``by_layers`` alone is not held against other formats; ``content``, ``tree`` and ``program`` are as in `WantedFile`,
    for what is read only once it is here."""

    name: str
    seen: Seen | None
    kind: FetchKind
    origin: str
    digest: str
    format: PackedFormat
    size: int = 0
    sha256: str = ""
    by_layers: bool = False
    content: str = ""
    tree: str = ""
    program: str = ""


class WholeIndex(msgspec.Struct, frozen=True):
    """The index once entries have come back, and the position that each of it has now (None: it comes in)."""

    index: ImageIndex
    origins: tuple[int | None, ...]


class StepChange(msgspec.Struct, frozen=True):
    """What a step does, so that several share one transaction. ``remove``, ``annotate`` and ``insert`` name places in
    the index that the plan was made for: the ``whole`` one where a step of it brings entries back."""

    remove: tuple[int, ...] = ()
    annotate: Mapping[int, Mapping[str, str]] = {}
    insert: tuple[Insert, ...] = ()
    replacement: IndexReplacement | None = None
    whole: WholeIndex | None = None
    discard: tuple[Discard, ...] = ()
    place: tuple[Place, ...] = ()
    fetch: tuple[Fetch, ...] = ()
    modes: tuple[ChangeMode, ...] = ()

    @property
    def edits_index(self) -> bool:
        return bool(self.remove or self.annotate or self.insert or self.replacement or self.whole)


class Left(msgspec.Struct, frozen=True):
    """A finding that will be there afterwards: why, and what would mend it."""

    finding: Finding
    why: str
    would: str = ""


class RepairStep(msgspec.Struct, frozen=True):
    """``then`` is what the daemon does once the step is made, ``loses`` what could be lost by it (empty: nothing),
    ``source`` where a restored file comes from. ``used_by`` are the loop devices that hold the entry's packed file: who
    drops such an entry is asked twice. A step that is no ``default`` is made only when it is chosen; ``futile`` is why
    its edit of the index would not last now (empty: it would). One that comes ``after`` is of entries that another step
    brings back, and is made with it only. ``leaves`` are findings that come of it, ``number`` its place in the plan."""

    kind: StepKind
    title: str
    findings: tuple[Finding, ...]
    files: tuple[StepFile, ...] = ()
    bytes_placed: int = 0
    then: str = ""
    loses: str = ""
    source: str = ""
    default: bool = True
    futile: str = ""
    after: bool = False
    used_by: tuple[str, ...] = ()
    leaves: tuple[Left, ...] = ()
    change: StepChange = StepChange()
    number: int = 0

    @property
    def trashed(self) -> list[StepFile]:
        """The files that go to the trash, empty ones too."""
        return [file for file in self.files if file.fate in (Fate.TRASHED, Fate.REPLACED)]

    @property
    def bytes_trashed(self) -> int:
        return sum(file.size for file in self.trashed)


class HostFiles(Protocol):
    """The packed files of another host's cache, while there is a connection."""

    async def fetch(self, name: str, size: int, take: Callable[[bytes], Awaitable[object]], /) -> None:
        """Give the bytes of a file of this size to ``take``, in their order and no more of them. Raises CacheError
        where it is another file, and what ``take`` raises."""


class OtherHosts(Protocol):
    """The way to other hosts' caches, as their operator writes them. What leads there stands above the doctor."""

    def leads_to(self, text: str) -> bool:
        """Whether a source is on another host. Raises InvalidNameError for one that is written wrong."""

    def look(self, text: str) -> AbstractAsyncContextManager[Path]:
        """What stands for a cache as it is now: its index, its documents, and what says how its packed files are.
        Raises CacheError."""

    def connect(self, text: str) -> AbstractAsyncContextManager[HostFiles]:
        """Raises CacheError."""


class Peer(msgspec.Struct, frozen=True):
    """Another cache, as the operator names it; ``directory`` is its own, or what stands for that of another host."""

    text: str
    directory: Path
    far: bool = False


class RepairOptions(msgspec.Struct, frozen=True):
    """What the operator allows and knows. ``only`` are codes, digests (a beginning of 12 digits or more will do) or
    fingerprints of findings. ``adopt`` gives names for orphans by their digest; ``adopt_known`` adopts those whose name
    a backup, the trash or other caches tell. ``names`` are for entries that have none, or one that was lost.
    ``sources`` are where to restore from, as ``import`` takes them, or other caches: by directory, or on a host that
    ``hosts`` leads to; ``registry`` asks the registry of the entry's name, by its digest, as ``access`` says.
    ``even_if_futile`` makes edits of the index too that the daemon will overwrite, and ``even_if_gone`` takes away what
    the daemon finds, and what cannot come back."""

    only: frozenset[str] = frozenset()
    drop: bool = False
    adopt: tuple[tuple[str, str], ...] = ()
    adopt_known: bool = False
    names: tuple[tuple[str, str], ...] = ()
    trash_orphans: bool = False
    change_modes: bool = False
    sources: tuple[str, ...] = ()
    registry: bool = False
    even_if_futile: bool = False
    even_if_gone: bool = False
    access: SourceOptions = msgspec.field(default_factory=SourceOptions)
    hosts: OtherHosts | None = None

    @classmethod
    def about(cls, findings: Iterable[Finding], *, asked: bool) -> RepairOptions:
        """For what mends these; ``asked``: what is else only offered too. Files of two faults are found as orphans."""
        steps = {one.fault.step for one in findings if asked}
        adopt, trash, modes = (one in steps for one in (StepKind.ADOPT, StepKind.TRASH_ORPHAN, StepKind.CHANGE_MODE))
        found = [(one, {"index-late-update": "orphan-entry", "zone-needs-missing": one.digest}) for one in findings]
        only = frozenset(known.get(one.code, one.fingerprint) for one, known in found)
        return cls(only=only, adopt_known=adopt, trash_orphans=trash, change_modes=modes)


class Outcome(msgspec.Struct):
    """Steps have no number yet; ``left`` has each finding once, as it was left first."""

    steps: list[RepairStep] = []
    left: dict[Finding, Left] = {}

    def leave(self, findings: Iterable[Finding], why: str, would: str = "") -> None:
        """They stay: why, and what would mend them."""
        for finding in findings:
            if finding not in self.left:
                self.left[finding] = Left(finding, why, would)

    def leave_for_now(self, findings: Iterable[Finding]) -> None:
        """They stay until index.json is replaced."""
        why = "the daemon would not load index.json as it is"
        self.leave(findings, why, "mend index.json first, then make a new plan")

    def __iadd__(self, other: Outcome) -> Outcome:
        self.steps += other.steps
        for finding, left in other.left.items():
            self.left.setdefault(finding, left)
        return self


class Snapshot(msgspec.Struct, frozen=True):
    """``index`` is None where the daemon would not load it; ``data`` are its bytes then, where it is a file at all.
    ``seen`` is None where index.json cannot be read. ``findings`` are those of the report that are still so, and
    ``gone`` the others. ``replaced``: index.json has to be replaced whole, before a descriptor of it can be edited."""

    directory: Path
    judge: Judge
    listing: Listing
    index: ImageIndex | None
    data: bytes | None
    seen: IndexSeen | None
    findings: list[Finding]
    gone: list[Finding]
    replaced: bool

    @property
    def descriptors(self) -> Sequence[Descriptor]:
        """Each is made when it is asked for; none where the index does not read."""
        return () if self.index is None else self.index.descriptors

    def carrying(self, digest: str) -> Iterable[Descriptor]:
        """The descriptors of a digest, in order."""
        return () if self.index is None else self.index.descriptors.at(self.index.positions(digest))

    def holder(self, name: str) -> str | None:
        """The digest that a name stands for."""
        winner = None if self.index is None else self.index.by_name(name)
        return None if winner is None else winner.digest

    def seen_at(self, name: str) -> Seen | None:
        """What a name is, for a mend to be bound to."""
        fact = self.listing.get(name)
        return None if fact is None else Seen(stat.S_IFMT(fact.mode), fact.size, fact.modified_ns, fact.inode)

    def trashing(self, names: Iterable[str]) -> tuple[tuple[StepFile, ...], StepChange]:
        """Those of these names that are there, as what a step moves to the trash."""
        found = ((name, self.seen_at(name)) for name in dict.fromkeys(names))
        discards = tuple(Discard(name, seen) for name, seen in found if seen is not None)
        return tuple(StepFile(one.name, Fate.TRASHED, one.seen.size) for one in discards), StepChange(discard=discards)


def take_snapshot(directory: Path, report: Report) -> Snapshot:
    """What the report's judge saw while index.json is the same; else it looks anew. Raises CacheDirectoryError."""
    judge = report.judge or Judge(directory)
    before = judge.listing
    if not judge.complete or not judge.reading.is_current(directory):
        judge.read()
        list(judge.look())
        judge.look_at_cache()
    with judge.turn:
        # A copy, as a screen's judge goes on taking what changes, which these findings are not about.
        reading, listing, known = judge.reading, judge.listing.copy(), judge.findings()
    placed = _placed(report.findings, known)
    findings, gone = list[Finding](), list[Finding]()
    for at, one in enumerate(report.findings):
        if at in placed:
            findings.append(placed[at])
        elif one.fingerprint in report.deep_only and before.get(one.file) == listing.get(one.file):
            findings.append(one)
        else:
            gone.append(one)
    data = reading.data if reading.index is None else reading.index.data
    found = listing.get(INDEX_NAME)
    try:
        in_place = found is not None and found.regular and data is not None
        seen = IndexSeen.of_bytes(data) if in_place and data is not None else see_index(directory)
    except OSError:
        seen = None
    replaced = reading.index is None or found is None or not found.regular
    return Snapshot(directory, judge, listing, reading.index, data, seen, findings, gone, replaced)


def _placed(findings: Sequence[Finding], known: Iterable[Finding]) -> dict[int, Finding]:
    """Those of the findings that are still so, by their number, each at the place of one of the ``known`` that no other
    takes: of the very same where it stood, or else the first that is left."""
    placed: dict[int, Finding] = {}
    about = ("code", "digest", "format", "name", "file")
    for key in (attrgetter(*about, "position", "seen"), attrgetter(*about)):
        places: dict[tuple[object, ...], deque[Finding]] = {}
        for one in known:
            places.setdefault(key(one), deque()).append(one)
        for at, one in enumerate(findings):
            if at not in placed and (there := places.get(key(one))):
                placed[at] = msgspec.structs.replace(one, position=there.popleft().position)
        known = [one for some in places.values() for one in some]
    return placed


def entry_of(digest: str, format: str, name: str = "") -> str:
    """An entry in words."""
    form = f" as {format}" if format in tuple(PackedFormat) else ""
    return f"{name} ({short_digest(digest)}{form})" if name else f"{short_digest(digest)}{form}"
