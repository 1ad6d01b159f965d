"""`examine`: what is wrong with a cache, to the depth that is asked for. The deepest reads everything of each digest's
packed files: their hashes against the ledger, read through, and against each other."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from ocitui.cache import (
    LASTING_CODES,
    MOST_DOCUMENT_BYTES,
    CacheDirectoryError,
    CacheError,
    CacheFiles,
    Damage,
    DocumentError,
    ImageConfiguration,
    Key,
    Ledger,
    PackedFormat,
    Recorded,
    config_name,
    hash_file,
    hash_past_cache,
    packed_name,
    read_bounded,
    read_config,
    some_of,
)
from ocitui.contents import (
    ContentsError,
    PackedTree,
    TreeChange,
    TreeLines,
    TreeStore,
    has_program,
    read_through,
    unlike,
)
from ocitui.stand_in import fact_of
from ocitui.text import timestamp
from ocitui.threads import Brake, Stop, be_idle, in_parallel, in_thread, on_loop

from ..findings import CATALOGUE, Depth, Finding, in_order
from ..report import Coverage, Meter, Progress, Reach, Report
from .entry_checks import PackedFile, damage_finding, unreadable
from .index_checks import NO_HISTORY, check_index, read_index
from .judge import Judge

# How often a cache is looked at again that changed meanwhile.
_ATTEMPTS = 3
_SECONDS_BETWEEN_WRITES = 5.0


class ExamineOptions(msgspec.Struct, frozen=True):
    """``keys``: the only entries to look at; ``jobs``: packed files read at once; ``max_rate``: bytes a second in all;
    ``older_than``: seconds within which a file found sound is passed over; ``ledger_writes``: the ledger is told."""

    depth: Depth = Depth.HEADER
    keys: frozenset[Key] | None = None
    jobs: int = 2
    max_rate: float | None = None
    older_than: float | None = None
    ledger_writes: bool = True


_HEADERS = ExamineOptions()


async def examine(
    directory: Path,
    options: ExamineOptions = _HEADERS,
    progress: Callable[[Progress], object] | None = None,
    on_findings: Callable[[list[Finding]], object] = lambda findings: None,
    *,
    open_files: Callable[[Path], CacheFiles] = CacheFiles,
    judge: Judge | None = None,
) -> Report:
    """Examine the cache in a directory; nothing of it is changed. ``progress`` is called on the event loop;
    ``on_findings`` with findings as they are made, in one of the threads that look, and what it raises ends the check.
    A ``judge`` that looked already looks only at what changed since, and knows afterwards what was found; other threads
    may have it look meanwhile. Cancelled, it ends once its threads have. Raises CacheDirectoryError where the directory
    is not there or cannot be listed, and for nothing else that the disk holds."""
    tell_progress = on_loop(progress)
    if options.depth.rank >= Depth.DEEP.rank and (form := fact_of(directory, "form")) is not None:
        hint = "give --depth header, or do it on that host; what deep checks found there is known"
        raise CacheDirectoryError(f"{form} has no packed files to read", hint=hint)

    def work(stop: Stop) -> Report:
        headers = options.depth is not Depth.QUICK
        with open_files(directory) as files:
            whose = judge or Judge(directory, open_files=open_files, headers=headers)
            return Examination(files, whose, options, stop, Meter(tell_progress), on_findings).run()

    return await in_thread(work)


class Examination(msgspec.Struct):
    """One examination, in a thread: the judge looks, then all bytes are read where that is asked for; `run` gives the
    report. Raises CacheDirectoryError, and AbandonedError when it is told to stop."""

    files: CacheFiles
    judge: Judge
    options: ExamineOptions
    stop: Stop
    meter: Meter
    on_findings: Callable[[list[Finding]], object]
    unchecked: list[tuple[str, str]] = []
    notes: list[str] = []
    reaches: dict[tuple[str, str], Reach] = {}
    of_bytes: list[Finding] = []
    beside: list[Finding] = []
    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    began: float = msgspec.field(default_factory=time.time)
    written: float = msgspec.field(default_factory=time.monotonic)

    def run(self) -> Report:
        began, judge, keys = time.monotonic(), self.judge, self.options.keys
        self._look()
        self.unchecked += judge.unchecked
        packed, forgotten = list[PackedFile](), frozenset[str]()
        if self.options.depth.rank >= Depth.DEEP.rank:
            packed = [file for file in judge.packed_files(keys) if judge.can_tell_more(file.digest, file.format)]
            forgotten = self._deep(packed)
        # Only now, as the judge may have been told meanwhile of files that were replaced.
        again = {file.name for file in packed}
        findings = [one for one in judge.entry_findings(keys) if one.found is None or one.file not in again]
        findings += [*self.of_bytes, *self.beside]
        return Report(
            judge.directory,
            self.options.depth,
            in_order(judge.accepted.mark(findings)),
            Coverage.of(Counter(self._reached()), self.meter.bytes_read, self.unchecked),
            judge.reading.verdict,
            judge.entries,
            judge.listing.packed_bytes,
            self.began,
            time.monotonic() - began,
            tuple(dict.fromkeys((*self.notes, *judge.notes))),
            forgotten,
            judge if keys is None else None,
        )

    def _look(self) -> None:
        """Have the judge look, again where the index changed while it looked at files."""
        judge, keys = self.judge, self.options.keys
        for _ in range(_ATTEMPTS):
            judge.take(read_index(self.files, judge.reading.index), told=self._listed)
            if keys is None:
                # First, as it explains why files are missing of entries that were deleted and came back.
                judge.look_at_cache(self.stop)
            self.meter.enter("entries", len(judge.pending))
            for digests in judge.look(keys):
                self.stop.check()
                self.meter.add(len(digests))
                self._tell([one for digest in digests for one in judge.findings_of_digest(digest)])
            if judge.reading.is_current(judge.directory):
                break
        self.beside = [*judge.about_cache]
        if keys is not None:
            # Where the daemon would not load the index, every entry is lost, however sound its files are.
            reading, listing = judge.reading, judge.listing
            lost = reading.index is None
            self.beside = check_index(reading, listing.complete, listing.files, NO_HISTORY) if lost else []
        self._tell(self.beside)
        self._tell(judge.index_findings(keys))

    def _listed(self, done: int, total: int) -> None:
        self.stop.check()
        if not done:
            self.meter.enter("files", total)
        self.meter.reach(done)

    def _tell(self, findings: list[Finding]) -> None:
        if findings:
            self.on_findings([*self.judge.accepted.mark(findings)])

    def _deep(self, packed: list[PackedFile]) -> frozenset[str]:
        """Read all bytes of each, the formats of one digest together; gives the fingerprints of what was not noted."""
        options = self.options
        ledger = Ledger.open(self.files.directory)
        if ledger.problem:
            self.notes.append(ledger.problem)
        written, brake = _damage_of(ledger), Brake(options.max_rate, self.stop)
        store = TreeStore(self.files.directory, ledger)
        store.full = not options.ledger_writes
        told = self.unchecked, self.notes
        checks = DeepChecks(self.files, ledger, store, self.stop, self.meter, brake, *told, options.older_than)
        self.meter.enter("deep", len(packed), sum(file.size for file in packed))
        groups: dict[str, list[PackedFile]] = {}
        for file in sorted(packed, key=lambda file: file.position or 0):
            groups.setdefault(file.digest, []).append(file)

        def check(group: list[PackedFile]) -> None:
            be_idle()
            for reading in checks.run(group):
                with self.lock:
                    self.reaches[reading.file.digest, reading.file.format] = reading.reach
                    self.of_bytes += reading.findings
                    self._tell(reading.findings)
            self.meter.add(len(group))
            self._write(ledger)

        try:
            in_parallel(groups.values(), check, options.jobs, self.stop)
        finally:
            self._write(ledger, last=True)
            self.judge.remember_more(ledger)
        kept = written if ledger.unwritten else _damage_of(ledger)
        return frozenset(one.fingerprint for one in self.of_bytes if (one.file, one.code) not in kept)

    def _write(self, ledger: Ledger, *, last: bool = False) -> None:
        """Write the ledger from time to time, so that a check that is ended can go on where it was."""
        with self.lock:
            due = last or time.monotonic() - self.written > _SECONDS_BETWEEN_WRITES
            if not self.options.ledger_writes or not due:
                return
            self.written = time.monotonic()
        try:
            ledger.flush()
        except CacheError as error:
            self.notes.append(f"the hashes were not recorded: {error}")

    def _reached(self) -> Iterable[Reach]:
        """How deep each entry was looked into."""
        usual = {depth: Reach(depth) for depth in Depth}
        for digest, format_, depth in self.judge.depths(self.options.keys):
            yield self.reaches.get((digest, format_ or "")) or usual[depth]


def _damage_of(ledger: Ledger) -> set[tuple[str, str]]:
    """The files that are known to be damaged, each with the code of what was found."""
    return {(name, one.code) for name, some in ledger.damaged.items() for one in some}


# What a file system says of its own blocks; other errors may pass by themselves.
_LASTING_ERRORS = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EILSEQ, errno.ENODATA, errno.EREMOTEIO})


class Reading(msgspec.Struct):
    """One packed file's deep check so far. ``damage`` is what an earlier one found in the same file, ``good`` the
    sha256 that it was seen not to have, ``error`` what the system said of reading it. ``lines`` tell what is in it;
    ``kept``: they were stored already."""

    file: PackedFile
    findings: list[Finding]
    opened: BinaryIO | None = None
    stat: os.stat_result | None = None
    sha256: str = ""
    known: Recorded | None = None
    damage: Damage | None = None
    good: str = ""
    error: int = 0
    tree: PackedTree | None = None
    lines: TreeLines | None = None
    kept: bool = False
    read_through: bool = False
    earlier: bool = False

    def find(self, code: str, seen: str) -> None:
        """Note what is wrong with the file."""
        self.findings.append(CATALOGUE[code].finding(seen, **self.file.at))

    def fail(self, error: OSError) -> None:
        """Note that it cannot be read."""
        self.error = error.errno or errno.EIO
        self.findings.append(unreadable(error, self.file.at))

    @property
    def sound(self) -> bool:
        return self.stat is not None and bool(self.sha256) and not self.findings

    @property
    def reach(self) -> Reach:
        if self.earlier:
            return Reach(Depth.HEADER, earlier=True)
        hashed = bool(self.sha256) and self.known is not None
        depth = Depth.DEEP if hashed or self.read_through else Depth.HEADER
        return Reach(depth, hashed, self.read_through, first_seen=self.sound and self.known is None)


class DeepChecks(msgspec.Struct):
    """Checks digest after digest, in several threads; ``unchecked`` gets the files that could not be, each with why,
    ``notes`` what was not stored. ``store`` has the lines of trees."""

    files: CacheFiles
    ledger: Ledger
    store: TreeStore
    stop: Stop
    meter: Meter
    brake: Brake
    unchecked: list[tuple[str, str]]
    notes: list[str]
    older_than: float | None = None

    def run(self, group: Sequence[PackedFile]) -> list[Reading]:
        """Check the packed files of one digest. Raises AbandonedError when the work is to end."""
        # What was found by comparing is found again only by comparing with all that was there.
        whole, alone = any(one.code in _COMPARED for one in self._damages(group)), len(group) == 1
        with ExitStack() as stack:
            # Trees read on from their files as they are followed.
            readings = [self._read(file, stack, again=whole, alone=alone) for file in group]
            self._compare([one for one in readings if not one.earlier])
        for reading in readings:
            if reading.stat is not None and not reading.earlier:
                self._remember(reading, reading.stat, readings)
        return readings

    def _damages(self, group: Sequence[PackedFile]) -> Iterator[Damage]:
        for file in group:
            with suppress(OSError):
                if damage := self.ledger.damage(file.name, os.stat(file.name, dir_fd=self.files.fd)):
                    yield damage

    def _read(self, file: PackedFile, stack: ExitStack, *, again: bool, alone: bool) -> Reading:
        reading = Reading(file, [])
        try:
            reading.opened = opened = stack.enter_context(self.files.open(file.name))
            reading.stat = os.fstat(opened.fileno())
            reading.known = self.ledger.sound.get(file.name)
            reading.damage = self.ledger.damage(file.name, reading.stat)
            if not again and self._is_fresh(reading):
                reading.earlier = True
                self.meter.add(bytes=file.size, read=False)
            else:
                self._hash(reading, opened)
                self._read_through(reading, opened, alone=alone)
        except OSError as error:
            reading.fail(error)
        return reading

    def _is_fresh(self, reading: Reading) -> bool:
        """Whether it was found sound so shortly before, and not written since, that it is passed over."""
        known, found = reading.known, reading.stat
        if self.older_than is None or known is None or found is None or reading.damage is not None:
            return False
        return known.same_file(found) and 0 <= time.time() - known.checked < self.older_than

    def _hash(self, reading: Reading, opened: BinaryIO) -> None:
        sha256 = hash_file(opened, self._passed)
        if not self._is_as_it_was(reading, opened):
            return
        reading.sha256 = sha256
        known, damage = reading.known, reading.damage
        # What came back by an undo is held against the hash that it was found to differ from.
        good = damage.sha256 if damage is not None and damage.sha256 else known.sha256 if known is not None else ""
        if good and sha256 != good:
            self._differs(reading, good, opened)

    def _is_as_it_was(self, reading: Reading, opened: BinaryIO) -> bool:
        """Whether nobody wrote to it since it was opened; else nothing can be said of it."""
        if reading.stat is not None and _moment(os.fstat(opened.fileno())) == _moment(reading.stat):
            return True
        reading.stat, reading.sha256, reading.read_through = None, "", False
        self.unchecked.append((reading.file.name, "it was written while it was read"))
        return False

    def _differs(self, reading: Reading, good: str, opened: BinaryIO) -> None:
        file, known, damage = reading.file, reading.known, reading.damage
        same = known is not None and known.same_file(os.fstat(opened.fileno()))
        if same or damage is not None:
            reading.sha256 = hash_past_cache(file.name, self.files.fd, self.brake.take)
            if reading.sha256 == good:
                self.unchecked.append(
                    (file.name, "it was read wrongly once, and rightly from the disk: see to the memory")
                )
                return
        reading.good = good
        if damage is not None and (known is None or reading.sha256 in damage.seen):
            reading.findings.append(msgspec.structs.replace(damage_finding(damage, file), found=None))
            return
        code, seen = "packed-changed", "it was written since"
        if same:
            code, seen = "packed-damaged", "its size and time are still the same"
            seen += self._hit(opened, file, good)
        since = timestamp(known.checked) if known is not None else ""
        reading.find(code, f"its sha256 is {reading.sha256}, and was {good} on {since}; {seen}")

    def _passed(self, size: int) -> None:
        self.brake.take(size)
        self.meter.add(bytes=size)

    def _hit(self, opened: BinaryIO, file: PackedFile, good: str) -> str:
        """Which files a damage hits, in words: those that cannot be read, or that are no longer as the lines tell that
        were stored of it while it was ``good``."""
        through, before = read_through(opened, file.format, self.stop), self.store.read(file.name, good)
        if through.problem:
            return f"; reading it through failed: {through.problem}"
        with suppress(ContentsError):
            if through.tree is not None and through.hashed and before is not None:
                changes = unlike(before[1], TreeLines.of(through.tree, self.stop), self.stop)
                return f"; {_told(changes)} was otherwise then" if changes else ""
        return ""

    def _read_through(self, reading: Reading, opened: BinaryIO, *, alone: bool) -> None:
        """Read all that is in it, unless the same bytes were read so before, and it is known what they hold, or nobody
        is to be told: it is ``alone`` of its image, and its lines are not to be stored."""
        known = reading.known
        if reading.findings or not reading.sha256:
            return
        before = self.store.read(reading.file.name)
        reading.kept = before is not None and before[0] == reading.sha256
        if known is not None and known.read_through and known.whole and reading.damage is None:
            reading.lines = before[1] if before is not None and reading.kept else None
            if reading.kept or (alone and self.store.full):
                reading.read_through = True
                return
        reading.read_through = self._take(reading, opened)
        if before is not None and known is None and reading.lines is not None and not reading.findings:
            # The ledger does not know it, but what was in it is known.
            with suppress(ContentsError):
                if changes := unlike(before[1], reading.lines, self.stop):
                    reading.find("packed-changed", f"it holds {_told(changes)} otherwise than when that was stored")

    def _take(self, reading: Reading, opened: BinaryIO) -> bool:
        """Take the tree, its lines, and what reading it told; gives whether all could be read."""
        through = read_through(opened, reading.file.format, self.stop)
        if not self._is_as_it_was(reading, opened):
            return False
        reading.tree = through.tree
        if through.tree is not None and through.hashed:
            with suppress(ContentsError):
                reading.lines = TreeLines.of(through.tree, self.stop)
        if through.unchecked:
            self.unchecked.append((reading.file.name, f"not read through: {through.unchecked}"))
        if through.problem:
            reading.find("packed-damaged", f"reading it through failed: {through.problem}")
        return not through.unchecked

    def _compare(self, readings: Sequence[Reading]) -> None:
        """What one format holds and another lacks, or has otherwise; and the program of the image, where it must be in
        the tree."""
        trees = [(one, one.tree) for one in readings if one.tree is not None and not one.findings]
        compared = [(one, one.lines) for one in readings if one.lines is not None and not one.findings]
        program = self._program(trees[0][0].file.digest) if trees else ""
        contents = Counter(lines.content for _, lines in compared)
        # Unchanged since it was first read, or the same in two formats: less in doubt than what is neither.
        likely = {id(one): one.kept or one.known is not None or contents[lines.content] > 1 for one, lines in compared}
        for reading, lines in compared:
            beside = [(one, other) for one, other in compared if one is not reading]
            rivals = [one for one in beside if likely[id(one[0])] or not likely[id(reading)]]
            try:
                if seen := incomplete(lines, [(one.file.format, other) for one, other in beside], self.stop):
                    reading.find("packed-incomplete", seen)
                elif seen := otherwise(lines, [(one.file.format, other) for one, other in rivals], self.stop):
                    in_doubt = "" if not likely[id(reading)] and any(likely.values()) else _IN_DOUBT
                    reading.find("packed-differs", seen + in_doubt)
            except ContentsError as error:
                self.unchecked.append((reading.file.name, f"not compared: {error}"))
        for reading, tree in trees:
            if not reading.findings and (seen := without_program(tree, program)):
                reading.find("packed-incomplete", seen)

    def _program(self, digest: str) -> str:
        try:
            config = read_config(read_bounded(config_name(digest), MOST_DOCUMENT_BYTES, dir_fd=self.files.fd))
        except (OSError, DocumentError):
            return ""
        return program_of(config)

    def _remember(self, reading: Reading, found: os.stat_result, group: Sequence[Reading]) -> None:
        """Note what was found for those who do not look so deep; what could not be looked at again still holds."""
        for finding in reading.findings:
            if finding.code in LASTING_CODES and (not reading.error or reading.error in _LASTING_ERRORS):
                self.ledger.note_damage(reading.file.name, found, finding.code, finding.seen, reading.good)
        if not reading.sound:
            return
        if reading.damage is not None and not self._is_over(reading, reading.damage, group):
            reading.findings.append(damage_finding(reading.damage, reading.file))
            return
        name, known, through = reading.file.name, reading.known, reading.read_through
        whole = reading.tree is not None or (known is not None and known.whole)
        self.ledger.record(name, found, reading.sha256, read_through=through, whole=whole, first_seen=known is None)
        if reading.lines is not None and not (reading.kept or self.store.full):
            self._keep(name, reading.sha256, reading.lines)

    def _keep(self, name: str, sha256: str, lines: TreeLines) -> None:
        try:
            self.store.keep(name, sha256, lines)
        except CacheError as error:
            self.notes.append(f"what is in packed files was not stored: {error}")
            self.store.full = True

    def _is_over(self, reading: Reading, damage: Damage, group: Sequence[Reading]) -> bool:
        """Whether what once told the damage was looked at again, and is sound."""
        if damage.code == "read-error":
            return True
        if damage.sha256:
            return reading.sha256 == damage.sha256
        if damage.code not in _COMPARED:
            return reading.read_through
        compared = {one.file.format for one in group if one.lines is not None and not one.findings}
        digest = reading.file.digest
        return {one for one in PackedFormat if self.files.fact(packed_name(digest, one)) is not None} <= compared


_IN_DOUBT = "; nothing tells which of them is right"
_COMPARED = frozenset({"packed-incomplete", "packed-differs"})
"""What only comparing finds, and finds again."""
Others = Iterable[tuple[PackedFormat, TreeLines]]
"""What other formats of an image hold."""


def incomplete(lines: TreeLines, others: Others, stop: Stop) -> str:
    """What a packed file lacks, or holds less of, that another format holds; empty for nothing. Raises AbandonedError,
    ContentsError."""
    for format, other in others:
        if missing := [one for one in unlike(lines, other, stop) if _is_less(one)]:
            return f"it lacks {_told(missing)}, which the {format} holds"
    return ""


def otherwise(lines: TreeLines, others: Others, stop: Stop) -> str:
    """What both hold, and another format has otherwise; empty for nothing. Raises as `incomplete`."""
    for format, other in others:
        both = [one for one in unlike(lines, other, stop) if one.before is not None and one.after is not None]
        if changes := [one for one in both if "size" not in one.what or not one.grown]:
            return f"it holds {_told(changes)} otherwise than the {format}"
    return ""


def _is_less(change: TreeChange) -> bool:
    return change.before is None or ("size" in change.what and change.grown > 0)


def _told(changes: Iterable[TreeChange]) -> str:
    return some_of(ascii(one.path.decode("utf-8", "surrogateescape"))[1:-1] for one in changes)


def without_program(tree: PackedTree, program: str) -> str:
    """That a packed file lacks what the image is to run, if it is known; empty where it does not. Raises OSError."""
    lacks = program and has_program(tree, program.encode()) is False
    return f"it lacks {program}, which the image is to run" if lacks else ""


def program_of(config: ImageConfiguration) -> str:
    """The absolute path of what an image runs; empty where it has none, or it is looked for in $PATH."""
    run = config.config
    command = (run.entrypoint or run.cmd or []) if run else []
    return command[0] if command and command[0].startswith("/") else ""


def _moment(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
